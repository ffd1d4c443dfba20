"""The explorers without a browser: every stop of every slider gives a picture and no error."""

import base64
import io
import itertools
import re

from quant_tutorial.affine import fake_quantize, params_from_range, quantize
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.affine import HIGH, LOW, STEP, AffineExplorer
from quant_tutorial.explorers.base import Explorer

import numpy as np
import pytest
from PIL import Image


def picture(explorer: Explorer) -> np.ndarray:
    """The picture that the reader sees, decoded from the page; fails where it shows an error."""
    assert "<pre" not in explorer._sentence.value, explorer._sentence.value
    data = re.search(r'src="data:image/png;base64,([^"]+)"', explorer._picture.value)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.fixture
def explorer() -> AffineExplorer:
    return AffineExplorer()


class TestAffineExplorer:
    def test_every_bit_width(self, explorer: AffineExplorer) -> None:
        seen = set()
        for bits in range(2, 17):
            explorer.bits.value = bits
            seen.add(picture(explorer).tobytes())
            params = params_from_range(0, 10, bits)
            assert f"{bits} bits: {2**bits} levels" in explorer.text
            assert f"q = {int(quantize(7.8, params))} " in explorer.text
            assert f"x̂ = {float(fake_quantize(7.8, params)):.4f}" in explorer.text
        assert len(seen) == 15

    def test_every_number(self, explorer: AffineExplorer) -> None:
        last = None
        for x in np.linspace(LOW, HIGH, round((HIGH - LOW) / STEP) + 1):
            explorer.x.value = x
            text = explorer._sentence.value
            assert text != last
            last = text
            picture(explorer)

    @pytest.mark.parametrize("bits", [2, 16])
    @pytest.mark.parametrize("options", [*itertools.product((False, True), repeat=3)])
    def test_extremes_of_the_range(
        self, explorer: AffineExplorer, bits: int, options: tuple[bool, bool, bool]
    ) -> None:
        explorer.bits.value = bits
        explorer.symmetric.value, explorer.narrow_range.value, explorer.unsigned.value = options
        for ends in ((LOW, HIGH), (LOW, LOW), (HIGH, HIGH), (0, 0), (0, STEP), (-STEP, 0), (3, 5)):
            explorer.value_range.value = ends
            for x in (LOW, 0, HIGH):
                explorer.x.value = x
                picture(explorer)
        assert fake_quantize(0.0, params_from_range(3, 5, bits)) == 0

    def test_the_picture_keeps_its_size_and_has_alt_text(self, explorer: AffineExplorer) -> None:
        for bits in (2, 16):
            explorer.bits.value = bits
            assert picture(explorer).shape == (765, 1410, 3)
            assert 'width="940" height="510"' in explorer._picture.value
            assert f'alt="{bits} bits: ' in explorer._picture.value

    def test_nothing_is_left_over_from_earlier_states(self, explorer: AffineExplorer) -> None:
        first = picture(explorer)
        for bits, ends, x in ((16, (-9, 9), -10), (2, (0, 1), 10), (4, (0.0, 10.0), 7.8)):
            explorer.bits.value, explorer.value_range.value, explorer.x.value = bits, ends, x
        assert (picture(explorer) == first).all()

    def test_marks_stand_where_the_numbers_are(self, explorer: AffineExplorer) -> None:
        explorer.bits.value = 2
        plot = explorer._plot
        params = params_from_range(0, 10, 2)
        levels = [segment[0][0] for segment in plot._line_levels.get_segments()]
        np.testing.assert_allclose(levels, [0, 10 / 3, 20 / 3, 10])
        assert plot._line_x.get_xdata() == [7.8]
        np.testing.assert_allclose(plot._line_x_hat.get_xdata(), [fake_quantize(7.8, params)])
        x, y = plot._stairs.get_data()
        inside = (x > 0.1) & (x < 9.9)
        np.testing.assert_allclose(np.abs(x - y)[inside], 10 / 6)  # corners: half a step off

    def test_a_page_without_kernel_shows_picture_and_sentence(
        self, explorer: AffineExplorer
    ) -> None:
        explorer.bits.value = 8
        bundle = explorer._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in bundle
        assert bundle["text/plain"].startswith("8 bits: 256 levels from 0 to 10")
        assert base64.b64decode(bundle["image/png"]) == explorer.png()

    def test_an_error_is_shown(
        self, explorer: AffineExplorer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken() -> str:
            raise RuntimeError("no <picture> today")

        monkeypatch.setattr(explorer, "_draw", broken)
        explorer.bits.value = 9
        assert "RuntimeError: no &lt;picture&gt; today" in explorer._sentence.value


class TestControls:
    def test_slider_and_field_agree(self) -> None:
        control = controls.integer("Bit width", 4, 2, 16)
        _, slider, field = control.row.children
        slider.value = 9
        assert field.value == 9
        field.value = 99
        assert slider.value == field.value == 16

    def test_a_range_never_turns_round(self) -> None:
        control = controls.real_range("Range", (0, 5), -10, 10, 0.05)
        _, slider, lower, upper = control.row.children
        lower.value = 7
        assert slider.value == (5, 7)
        assert (lower.value, upper.value) == (5, 7)
        upper.value = 99
        assert slider.value == (5, 10)
        slider.value = (-2, 3)
        assert (lower.value, upper.value) == (-2, 3)

    def test_a_field_shows_the_number_that_is_meant(self) -> None:
        control = controls.real("Number x", 0, -10, 10, 0.05)
        _, slider, field = control.row.children
        slider.value = 7.800000000000001
        assert field.value == 7.8

    def test_every_handle_gets_a_name(self, explorer: AffineExplorer) -> None:
        names = explorer.children[-1].names
        assert list(names.values()) == [
            ("Bit width",),
            ("Range: lower end", "Range: upper end"),
            ("Number x",),
        ]
        assert len(names) == 3
