"""The explorers without a browser: every stop of every slider gives a picture and no error."""

import base64
import io
import itertools
import re

from quant_tutorial.affine import fake_quantize, params_from_range, quantize
from quant_tutorial.calibration import Statistics
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.affine import HIGH, LOW, STEP, AffineExplorer
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.explorers.calibration import RangeExplorer
from quant_tutorial.explorers.granularity import GranularityExplorer
from quant_tutorial.scheme import GRANULARITIES

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
            assert explorer.value_range.value == ends
            for x in (LOW, 0, HIGH):
                explorer.x.value = x
                picture(explorer)

    def test_every_stop_of_both_ends(self, explorer: AffineExplorer) -> None:
        stops = np.linspace(LOW, HIGH, round((HIGH - LOW) / STEP) + 1).round(9).tolist()
        for ends in [(LOW, stop) for stop in stops] + [(stop, HIGH) for stop in stops]:
            explorer.value_range.value = ends
            picture(explorer)
            assert explorer.value_range.value == ends
            params = params_from_range(*ends, 4)
            assert f"from {params.minimum:.4g} to {params.maximum:.4g}, scale" in explorer.text

    @pytest.mark.parametrize("bits", [2, 8, 16])
    @pytest.mark.parametrize("ends", [(0, 10), (0, 0), (LOW, HIGH), (-0.05, 0)])
    def test_the_drawn_staircase_is_the_map(
        self, explorer: AffineExplorer, bits: int, ends: tuple[float, float]
    ) -> None:
        explorer.bits.value, explorer.value_range.value = bits, ends
        params = params_from_range(*ends, bits)
        corners, steps = explorer._plot._stairs.get_data()
        middles = (corners[::2] + corners[1::2]) / 2  # of the treads
        drawn = max(params.scale, (HIGH - LOW) / 500)
        assert np.abs(fake_quantize(middles, params) - steps[::2]).max() <= drawn / 2

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
        bundle = explorer._repr_mimebundle_()
        assert bundle["text/plain"] == "Error: no <picture> today"
        assert "image/png" not in bundle
        monkeypatch.undo()
        explorer.bits.value = 8
        picture(explorer)


@pytest.fixture(scope="module")
def statistics() -> dict[str, Statistics]:
    random = np.random.default_rng(0)
    seen = {"relu": Statistics(), "logits": Statistics(), "constant": Statistics()}
    seen["negative"] = Statistics()
    for _ in range(5):
        seen["relu"].observe(np.maximum(random.normal(size=2000), 0))
        seen["logits"].observe(5 * random.normal(size=500))
        seen["negative"].observe(-1 - random.exponential(size=500))
        seen["constant"].observe(np.full(10, 2.0))
    return seen


class TestRangeExplorer:
    def test_every_stop(self, statistics: dict[str, Statistics]) -> None:
        explorer = RangeExplorer(statistics, "relu")
        for name in statistics:
            explorer.layer.value = name
            for bits in range(2, 17):
                explorer.bits.value = bits
                picture(explorer)
                assert explorer.text.startswith(f"{name} at {bits} bits")
            explorer.bits.value = 4
            for percent in range(101):
                for ends in ((0, percent), (percent, 100)):
                    explorer.percent.value = ends
                    assert explorer.percent.value == ends
                    picture(explorer)

    def test_the_sentence_is_the_error_of_the_range(
        self, statistics: dict[str, Statistics]
    ) -> None:
        explorer = RangeExplorer(statistics, "relu", bits=3)
        explorer.percent.value = (0, 50)
        high = statistics["relu"].ranges(3)["min_max"][1] / 2
        rounding, clipping = statistics["relu"].distribution.error(params_from_range(0, high, 3))
        assert f"rounding {rounding:.3g} and clipping {clipping:.3g}" in explorer.text
        assert "Of the calibrators mse does best" in explorer.text

    def test_marks_lie_on_the_sum(self, statistics: dict[str, Statistics]) -> None:
        explorer = RangeExplorer(statistics, "relu", bits=4)
        total = explorer._plot._curves[0]
        for name, (low, high) in statistics["relu"].ranges(4).items():
            (x,), (y,) = explorer._plot._marks[name].get_data()
            assert (low, x) == (0, high)
            assert y == pytest.approx(np.interp(x, *total.get_data()), rel=0.1)

    def test_an_unknown_layer(self, statistics: dict[str, Statistics]) -> None:
        with pytest.raises(ValueError, match=r"layer must be one of relu, .*, got 'conv'"):
            RangeExplorer(statistics, "conv")


KERNELS = {
    "a": np.random.default_rng(1).normal(size=(3, 3, 2, 5)) * [1, 2, 3, 4, 0.1],
    "b": np.random.default_rng(2).normal(size=(7, 20)) * 0.05,
}


class TestGranularityExplorer:
    def test_every_stop(self) -> None:
        explorer = GranularityExplorer(KERNELS, {})
        for name, granularity, symmetric in itertools.product(
            KERNELS, GRANULARITIES, (True, False)
        ):
            explorer.layer.value, explorer.granularity.value = name, granularity
            explorer.symmetric.value = symmetric
            for bits in range(2, 17):
                explorer.bits.value = bits
                picture(explorer)
                assert explorer.text.startswith(f"{name} at {bits} bits")

    def test_ranges_and_ratios_are_those_of_the_parameters(self) -> None:
        explorer = GranularityExplorer(KERNELS, {(4, "channel-wise"): 0.5}, bits=4)
        largest = np.abs(KERNELS["a"]).max(axis=(0, 1, 2))
        ends = [segment[0][1] for segment in explorer._plot._ranges.get_segments()]
        np.testing.assert_allclose(ends, [*-largest, *largest])
        shown = {n: p.get_ydata() for n, p in explorer._plot._points.items()}
        assert (shown["channel-wise"] >= shown["layer-wise"] - 1e-9).all()
        assert shown["channel-wise"][4] > shown["layer-wise"][4] + 10
        assert explorer.text.endswith("All layers channel-wise at 4 bits: accuracy 50.0%.")
        explorer.bits.value = 5
        assert "accuracy" not in explorer.text

    def test_an_unknown_layer(self) -> None:
        with pytest.raises(ValueError, match="layer must be one of a, b, got 'c'"):
            GranularityExplorer(KERNELS, {}, "c")


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
        for ends in ((-2, 3), (4, 7), (-10, -10), (10, 10), (-0.05, 0), (3, 5)):
            changes: list[tuple[float, float]] = []
            slider.observe(lambda change, seen=changes: seen.append(change["new"]), names="value")
            slider.value = ends
            assert slider.value == (lower.value, upper.value) == ends
            assert changes == [ends]  # one change, one picture

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
