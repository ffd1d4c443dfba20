"""The explorers without a browser: every stop of every slider gives a picture and no error."""

import asyncio
import base64
import itertools
import re
from typing import Any

from quant_tutorial import flatbuffer, integer, models, plotting, tflite
from quant_tutorial.affine import fake_quantize, params_from_range, quantize
from quant_tutorial.calibration import Statistics, weight_params
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.affine import HIGH, LOW, STEP, AffineExplorer
from quant_tutorial.explorers.calibration import (
    RangeExplorer,
    describe_multiple,
    error_multiples,
    slider_limits,
)
from quant_tutorial.explorers.granularity import GranularityExplorer
from quant_tutorial.explorers.multiplier import MultiplierExplorer
from quant_tutorial.explorers.post_training import PostTrainingExplorer
from quant_tutorial.explorers.rounding import RoundingExplorer, compare
from quant_tutorial.explorers.tensors import TensorExplorer, TensorFigure
from quant_tutorial.rounding import Rounded
from quant_tutorial.scheme import CALIBRATORS, GRANULARITIES, GRANULARITY_NAMES, TensorScheme
from quant_tutorial.simulate import ModelParams, StagedRun
from quant_tutorial.tflite import trial

import keras
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from pictures import in_the_page, picture

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unencoded")]

SAMPLE = 10  # of the stops of a fine slider so many are computed, and one of them is drawn


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
            q = plotting.describe_number(int(quantize(7.8, params)))
            assert f"is stored as q = {q} " in explorer.text
            assert f"x̂ = {float(fake_quantize(7.8, params)):.4f}" in explorer.text
        assert len(seen) == 15

    def test_every_number(self, explorer: AffineExplorer) -> None:
        last = None
        for index, x in enumerate(np.linspace(LOW, HIGH, round((HIGH - LOW) / STEP) + 1)):
            explorer.x.value = x
            text = explorer._sentence.value
            assert "<pre" not in text
            assert text != last
            last = text
            if index % SAMPLE == 0:
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
                assert "<pre" not in explorer._sentence.value
            picture(explorer)

    def test_every_stop_of_both_ends(self, explorer: AffineExplorer) -> None:
        stops = np.linspace(LOW, HIGH, round((HIGH - LOW) / STEP) + 1).round(9).tolist()
        pairs = [(LOW, stop) for stop in stops] + [(stop, HIGH) for stop in stops]
        for index, ends in enumerate(pairs):
            explorer.value_range.value = ends
            if index % SAMPLE == 0:
                picture(explorer)
            assert explorer.value_range.value == ends
            params = params_from_range(*ends, 4)
            low, high = (
                plotting.describe_number(end, ".4g") for end in (params.minimum, params.maximum)
            )
            assert f"from {low} to {high}, scale" in explorer.text

    @pytest.mark.parametrize("bits", [2, 8, 16])
    @pytest.mark.parametrize("ends", [(0, 10), (0, 0), (LOW, HIGH), (-0.05, 0)])
    def test_the_drawn_staircase_is_the_map(
        self, explorer: AffineExplorer, bits: int, ends: tuple[float, float]
    ) -> None:
        explorer.bits.value, explorer.value_range.value = bits, ends
        params = params_from_range(*ends, bits)
        corners, steps = explorer.plot._stairs.get_data()
        middles = (corners[::2] + corners[1::2]) / 2  # of the treads
        drawn = max(params.scale, (HIGH - LOW) / 500)
        assert np.abs(fake_quantize(middles, params) - steps[::2]).max() <= drawn / 2

    @pytest.mark.encoded
    def test_the_picture_keeps_its_size_and_has_alt_text(self, explorer: AffineExplorer) -> None:
        for bits in (2, 16):
            explorer.bits.value = bits
            assert in_the_page(explorer).shape == (765, 1410, 3)
            assert (in_the_page(explorer) == explorer.pixels()).all()
            assert 'width="940" height="510"' in explorer._picture.value
            assert f'alt="{bits} bits: ' in explorer._picture.value

    def test_nothing_is_left_over_from_earlier_states(self, explorer: AffineExplorer) -> None:
        first = picture(explorer)
        for bits, ends, x in ((16, (-9, 9), -10), (2, (0, 1), 10), (4, (0.0, 10.0), 7.8)):
            explorer.bits.value, explorer.value_range.value, explorer.x.value = bits, ends, x
        assert (picture(explorer) == first).all()

    def test_marks_stand_where_the_numbers_are(self, explorer: AffineExplorer) -> None:
        explorer.bits.value = 2
        plot = explorer.plot
        params = params_from_range(0, 10, 2)
        levels = [segment[0][0] for segment in plot._line_levels.get_segments()]
        np.testing.assert_allclose(levels, [0, 10 / 3, 20 / 3, 10])
        assert plot._line_x.get_xdata() == [7.8]
        np.testing.assert_allclose(plot._line_x_hat.get_xdata(), [fake_quantize(7.8, params)])
        x, y = plot._stairs.get_data()
        inside = (x > 0.1) & (x < 9.9)
        np.testing.assert_allclose(np.abs(x - y)[inside], 10 / 6)  # corners: half a step off

    def test_the_legend_has_the_colours_of_the_marks(self, explorer: AffineExplorer) -> None:
        plot = explorer.plot
        marks = {mark.get_label(): mark for mark in (plot._line_x, plot._line_x_hat)}
        legend = plot._line_x.axes.get_legend()
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            mark = marks.pop(text.get_text())
            assert handle.get_color() == mark.get_color()
            assert handle.get_marker() == mark.get_marker()
        assert not marks

    def test_the_magnifier_writes_minus_as_the_axes_do(self, explorer: AffineExplorer) -> None:
        explorer.value_range.value, explorer.x.value = (-6, 4), -3.7
        shown = [
            text.get_text()
            for *_, above, below in explorer.plot._near
            for text in (above, below)
            if text.get_visible()
        ]
        assert "−5" in shown
        assert not any("-" in text for text in shown)

    def test_a_page_without_kernel_shows_picture_and_sentence(
        self, explorer: AffineExplorer
    ) -> None:
        explorer.bits.value = 8
        bundle, metadata = explorer._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in bundle
        assert bundle["text/plain"].startswith("8 bits: 256 levels from 0 to 10")
        assert base64.b64decode(bundle["image/png"]) == explorer.png()
        assert metadata == {"image/png": {"width": 940, "height": 510}}

    def test_an_error_is_shown(
        self, explorer: AffineExplorer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken() -> str:
            raise RuntimeError("no <picture> today")

        monkeypatch.setattr(explorer, "draw", broken)
        explorer.bits.value = 9
        assert "RuntimeError: no &lt;picture&gt; today" in explorer._sentence.value
        bundle, metadata = explorer._repr_mimebundle_()
        assert bundle["text/plain"] == "Error: no <picture> today"
        assert "image/png" not in bundle
        assert metadata == {}
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
                if bits in (2, 5, 16):
                    picture(explorer)
                assert "<pre" not in explorer._sentence.value
                assert explorer.text.startswith(f"{name} at {bits} bits")
            explorer.bits.value = 4
            slider = explorer.range
            stops = np.arange(slider.min, slider.max + slider.step / 2, slider.step).round(9)
            assert len(stops) <= 203
            for index, stop in enumerate(stops[:: 2 if name == "relu" else 10].tolist()):
                for ends in ((slider.min, stop), (stop, slider.max)):
                    explorer.range.value = ends
                    assert explorer.range.value == ends
                    assert explorer.text.startswith(f"{name} at 4 bits")
                    if index % 20 == 0:
                        picture(explorer)

    def test_the_slider_covers_the_values_in_their_own_unit(
        self, statistics: dict[str, Statistics]
    ) -> None:
        explorer = RangeExplorer(statistics, "relu")
        for name in [*statistics, "relu"]:
            explorer.layer.value = name
            slider, fields = explorer.range, explorer.controls[1].fields
            low, high = statistics[name].range("min_max", 8)
            assert slider.value == (slider.min, slider.max)
            assert min(low, 0) - slider.step < slider.min <= min(low, 0)
            assert max(high, 0) <= slider.max <= max(high, 0) + slider.step
            assert tuple(field.value for field in fields) == slider.value
            assert {(field.min, field.max, field.step) for field in fields} == {
                (slider.min, slider.max, slider.step)
            }
            fields[1].value = slider.max - slider.step
            assert slider.value == pytest.approx((slider.min, fields[1].value))

    @pytest.mark.parametrize(
        ("ends", "limits"),
        [
            ((0, 9.24), (0, 9.25, 0.05)),
            ((-30.86, 27.88), (-31, 28, 0.5)),
            ((0, 1), (0, 1, 0.005)),
            ((0, 0), (0, 0.005, 0.005)),
            ((2, 3), (0, 3, 0.02)),
            ((0, 1586.2), (0, 1590, 10)),
        ],
    )
    def test_limits_are_round_numbers(
        self, ends: tuple[float, float], limits: tuple[float, float, float]
    ) -> None:
        assert slider_limits(*ends) == limits

    def test_the_sentence_is_the_error_of_the_range(
        self, statistics: dict[str, Statistics]
    ) -> None:
        explorer = RangeExplorer(statistics, "relu", bits=3)
        high = explorer.range.max / 2
        explorer.range.value = (0, high)
        distribution = statistics["relu"].distribution
        rounding, clipping = distribution.error(params_from_range(0, high, 3))
        smallest = sum(
            distribution.error(params_from_range(*statistics["relu"].range("mse", 3), 3))
        )
        assert f"(rounding {rounding:.3g}, clipping {clipping:.3g})" in explorer.text
        assert f"{(rounding + clipping) / smallest:.2f}× the smallest possible" in explorer.text
        assert re.search(r"mse 0 to [\d.]+ \(1\.00×\)", explorer.text)

    def test_the_curve_has_the_calibrators_errors(self, statistics: dict[str, Statistics]) -> None:
        explorer = RangeExplorer(statistics, "relu", bits=4)
        places, errors = explorer.plot._curves[0].get_data()
        chosen = statistics["relu"].ranges(4)
        multiples, _ = error_multiples(statistics["relu"].distribution, 4, chosen)
        for name, (_, high) in chosen.items():
            assert tuple(explorer.plot._ends[name].get_xdata()) == chosen[name]
            drawn = np.interp(high, places[1:], errors[1:])
            assert drawn == pytest.approx(multiples[name], rel=0.1)
        assert min(errors[1:]) == pytest.approx(1, abs=0.02)

    def test_both_ends_move_where_there_are_negative_values(
        self, statistics: dict[str, Statistics]
    ) -> None:
        name = next(n for n in statistics if statistics[n].range("min_max", 4)[0] < 0)
        explorer = RangeExplorer(statistics, name, bits=4)
        low, high = explorer.range.value
        places, errors = explorer.plot._curves[0].get_data()
        assert places[0] < 0 < places[-1]
        distribution = statistics[name].distribution
        unit = sum(distribution.error(params_from_range(*statistics[name].range("mse", 4), 4)))
        for index, ends in ((3, (places[3], high)), (-3, (low, places[-3]))):
            error = sum(distribution.error(params_from_range(*ends, 4)))
            assert errors[index] == pytest.approx(error / unit)

    def test_multiples(self) -> None:
        assert [describe_multiple(x) for x in (1, 9.876, 10.4, 1000.1)] == [
            *("1.00×", "9.88×", "10×", ">1000×")
        ]

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
                if bits in (2, 5, 16):
                    picture(explorer)
                assert "<pre" not in explorer._sentence.value
                assert explorer.text.startswith(f"{name} at {bits} bits")

    def test_ranges_and_ratios_are_those_of_the_parameters(self) -> None:
        explorer = GranularityExplorer(KERNELS, {(4, "channel-wise"): 0.5}, bits=4)
        largest = np.abs(KERNELS["a"]).max(axis=(0, 1, 2))
        ends = [segment[0][1] for segment in explorer.plot._ranges.get_segments()]
        np.testing.assert_allclose(ends, [*-largest, *largest])
        shown = {n: p.get_ydata() for n, p in explorer.plot._points.items()}
        assert (shown["channel-wise"] >= shown["layer-wise"] - 1e-9).all()
        assert shown["channel-wise"][4] > shown["layer-wise"][4] + 10
        assert explorer.text.endswith(
            "With all layers at 4 bits per channel the accuracy is 50.0%."
        )
        explorer.bits.value = 5
        assert "accuracy" not in explorer.text

    def test_an_unknown_layer(self) -> None:
        with pytest.raises(ValueError, match="layer must be one of a, b, got 'c'"):
            GranularityExplorer(KERNELS, {}, "c")

    def test_the_lines_have_the_colour_of_the_chosen_granularity(self) -> None:
        explorer = GranularityExplorer(KERNELS, {}, granularity="layer-wise")
        for granularity in GRANULARITIES:
            explorer.granularity.value = granularity
            line, points = explorer.plot._ranges, explorer.plot._points[granularity]
            assert to_rgba(points.get_color()) == tuple(line.get_color()[0])
            assert explorer.plot._title.get_text().endswith(points.get_label())

    def test_no_point_is_above_the_axis(self) -> None:
        explorer = GranularityExplorer(KERNELS, {})
        for bits in range(2, 17):
            explorer.bits.value = bits
            highest = max(p.get_ydata().max() for p in explorer.plot._points.values())
            assert highest < 0.95 * explorer.plot._sqnr.get_ylim()[1]


class TestRoundingExplorer:
    WIDTHS = (2, 3, 4)

    @pytest.fixture(scope="class")
    @classmethod
    def rounded(cls) -> dict[tuple[str, int], Any]:
        """Two kernels at their nearest levels, and with every third weight one level up."""
        found = {}
        for bits in cls.WIDTHS:
            params = weight_params(KERNELS, TensorScheme(bits, True, "channel-wise"))
            nearest = {name: quantize(kernel, params[name]) for name, kernel in KERNELS.items()}
            moved = {}
            for name, q in nearest.items():
                step = (np.arange(q.size) % 3 == 0).reshape(q.shape)
                moved[name] = np.minimum(q + step, params[name].qmax).astype(np.int8)
            for method, integers in (("nearest", nearest), ("GPTQ", moved)):
                found[method, bits] = Rounded(ModelParams(params, {}), integers, {}, None)
        return found

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls, rounded: dict[tuple[str, int], Any]) -> RoundingExplorer:
        keys = {key: index for index, key in enumerate(rounded)}
        noise = {key: {"a": 10.0 + index, "b": 5.0} for key, index in keys.items()}
        accuracy = {key: 0.5 + 0.05 * index for key, index in keys.items()}
        return RoundingExplorer(KERNELS, rounded, noise, accuracy, 0.99)

    def test_every_stop(self, made: RoundingExplorer) -> None:
        shown = set()
        for name, method in itertools.product(KERNELS, ("nearest", "GPTQ")):
            made.layer.value, made.method.value = name, method
            for bits in self.WIDTHS:
                made.bits.value = bits
                shown.add(picture(made).tobytes())
                assert made.text.startswith(f"{name} at {bits} bits by {method}: ")
        assert len(shown) == 12

    def test_the_sentence_counts_the_moves(
        self, made: RoundingExplorer, rounded: dict[tuple[str, int], Any]
    ) -> None:
        made.layer.value, made.method.value, made.bits.value = "a", "nearest", 2
        assert "every weight is at its nearest level" in made.text
        assert "(nearest:" not in made.text
        made.method.value = "GPTQ"
        up = int(np.sum(rounded["GPTQ", 2].integers["a"] > rounded["nearest", 2].integers["a"]))
        assert f"{up} of 90 weights" in made.text
        assert f": {up} went up and 0 down, 0 by more than one level" in made.text
        assert "SQNR of the outputs of a: 11.0 dB (nearest: 10.0 dB)" in made.text
        assert made.text.endswith("All layers by GPTQ: 55.0% (nearest: 50.0%) of the images right.")

    def test_places_between_two_levels(self) -> None:
        params = params_from_range(-3, 3, 3, symmetric=True, narrow_range=True)
        weights = np.array([0.02, 0.98, 1.49, -0.51, 9.0])
        nearest = compare(weights, quantize(weights, params), params)
        assert not nearest.steps.any()
        assert nearest.share_up[0] == nearest.share_up[4] == 0  # 0.02; 1.49 and −0.51
        assert nearest.share_up[9] == 1  # 0.98; 9 is clipped and has no place
        assert np.isnan(nearest.share_up[5])
        moved = compare(weights, np.array([1, 1, 2, 0, 3], np.int8), params)
        assert list(moved.steps) == [1, 0, 1, 1, 0]
        assert moved.share_up[0] == moved.share_up[4] == 1

    def test_a_method_without_a_width(
        self, made: RoundingExplorer, rounded: dict[tuple[str, int], Any]
    ) -> None:
        some = {key: found for key, found in rounded.items() if key != ("GPTQ", 3)}
        with pytest.raises(ValueError, match=r"rounded must have every method .* no \('GPTQ', 3\)"):
            RoundingExplorer(KERNELS, some, made._sqnr, made._accuracy, 0.99)

    def test_an_unknown_layer(self, made: RoundingExplorer) -> None:
        given = (KERNELS, made._rounded, made._sqnr, made._accuracy, 0.99)
        with pytest.raises(ValueError, match="layer must be one of a, b, got 'c'"):
            RoundingExplorer(*given, layer="c")
        with pytest.raises(ValueError, match="method must be one of nearest, GPTQ, got 'best'"):
            RoundingExplorer(*given, method="best")


class TestPostTrainingExplorer:
    @pytest.fixture(scope="class")
    @classmethod
    def made(cls, simulator: Any, x_test: np.ndarray, data: Any) -> PostTrainingExplorer:
        return PostTrainingExplorer(StagedRun(simulator, x_test[:1500]), data.y_test[:1500])

    @pytest.fixture
    def explorer(self, made: PostTrainingExplorer) -> PostTrainingExplorer:
        made.weights.value, made.activations.value, made.input.value = 4, 4, 8
        made.granularity.value, made.calibrator.value = "channel-wise", "min_max"
        made.weight_calibrator.value, made.wide.value = "min_max", True
        for box in made.layers.values():
            box.value = True
        return made

    def test_the_figures_are_those_of_the_model(
        self, explorer: PostTrainingExplorer, simulator: Any, x_test: np.ndarray, data: Any
    ) -> None:
        params = simulator.params(explorer.scheme)
        answers = models.predict(simulator.simulated(params), x_test[:1500]).argmax(axis=1)
        share = np.mean(answers == data.y_test[:1500])
        said = float(re.search(r"([\d.]+)% of 1,500 images right", explorer.text)[1])
        assert said == pytest.approx(100 * share, abs=0.2)
        assert f"weights of {simulator.weight_bytes(params):,} bytes" in explorer.text

    @pytest.mark.parametrize(
        ("granularity", "calibrator"),
        [*((one, "mse") for one in GRANULARITIES), *(("layer-wise", one) for one in CALIBRATORS)],
    )
    def test_extremes(
        self, explorer: PostTrainingExplorer, granularity: str, calibrator: str
    ) -> None:
        explorer.granularity.value, explorer.calibrator.value = granularity, calibrator
        for widths in ((2, 2, 2), (8, 16, 8), (2, 16, 2)):
            explorer.weights.value, explorer.activations.value, explorer.input.value = widths
            picture(explorer)
            assert f"Weights {widths[0]} bits {GRANULARITY_NAMES[granularity]}" in explorer.text
            last = " but 8 for the last output" if widths[1] < 8 else ""
            assert (
                f"activations {widths[1]} bits ({calibrator}){last}, input {widths[2]} bits:"
                in (explorer.text)
            )

    def test_the_last_output(self, explorer: PostTrainingExplorer) -> None:
        def widths() -> list[int | None]:
            params = explorer._simulator.params(explorer.scheme).activations
            return [p and p.bits for p in params.values()]

        assert widths() == [8, 4, 4, 4, 8]
        assert explorer.plot._bits.texts == ("–", *"444484448")
        explorer.activations.value = 16
        assert widths()[-1] == 16
        explorer.activations.value, explorer.wide.value = 4, False
        assert widths() == [8, 4, 4, 4, 4]
        explorer.layers["logits"].value, explorer.wide.value = False, True
        assert widths() == [8, 4, 4, 4, None]
        assert "activations 4 bits (min_max), input" in explorer.text

    def test_weight_ranges(self, explorer: PostTrainingExplorer) -> None:
        explorer.weight_calibrator.value = "mse"
        assert "Weights 4 bits per channel (mse)" in explorer.text
        assert explorer.scheme.weights.calibrator == "mse"
        assert explorer.scheme.activations.calibrator == "min_max"

    def test_every_combination_of_layers(self, explorer: PostTrainingExplorer) -> None:
        shown = set()
        for ticks in itertools.product((True, False), repeat=4):
            for box, tick in zip(explorer.layers.values(), ticks, strict=True):
                box.value = tick
            shown.add(picture(explorer).tobytes())
            spared = [name for name, box in explorer.layers.items() if not box.value]
            assert (f"{', '.join(spared)} in float:" in explorer.text) == bool(spared)
        assert len(shown) > 8

    def test_all_float_is_the_baseline(self, explorer: PostTrainingExplorer) -> None:
        explorer.input.value = 8  # whose 256 levels are those of the pixels
        for box in explorer.layers.values():
            box.value = False
        assert "less than 0.1 points from float" in explorer.text
        assert "No image is answered differently" in explorer.text

    def test_first_an_estimate_that_holds_the_result(self, explorer: PostTrainingExplorer) -> None:
        for bits in (2, 3, 4, 8):
            explorer.activations.value = bits
            said = float(re.search(r"([\d.]+)% of 1,500 images", explorer.text)[1])
            text = explorer.estimate()
            low, high = map(float, re.search(r": ([\d.]+)% to ([\d.]+)% right", text).groups())
            assert low <= said <= high
            assert "estimated on 1,000 images" in text

    def test_several_moves_are_finished_once(self, explorer: PostTrainingExplorer) -> None:
        finished = []
        measure = explorer.draw

        def finish() -> str:
            finished.append(explorer.weights.value)
            return measure()

        async def drag() -> str:
            for bits in (8, 6, 3):
                explorer.weights.value = bits
                assert "estimated" in explorer.text
            await asyncio.sleep(0.5)
            return explorer.text

        explorer.draw = finish
        try:
            text = asyncio.run(drag())
        finally:
            explorer.draw = measure
        assert finished == [3]
        assert "of 1,500 images right" in text


class TestMultiplierExplorer:
    @pytest.fixture(scope="class")
    @classmethod
    def layer(cls) -> tuple[np.ndarray, np.ndarray, integer.Output]:
        rng = np.random.default_rng(0)
        ratios = np.array([0.0123, 0.0047, 0.00071])
        multiplier, shift = np.array([integer.fixed_point(ratio) for ratio in ratios]).T
        output = integer.Output(multiplier, shift, -10, -128, 127, np.dtype(np.int8))
        sums = rng.normal(0, 60 / ratios, (40, 5, 3)).astype(np.int32)
        return sums, ratios, output

    def test_every_width(self, layer: tuple[np.ndarray, np.ndarray, integer.Output]) -> None:
        explorer = MultiplierExplorer(*layer)
        sums, ratios, output = layer
        right = integer.saturate(integer.rescale(sums, output.multiplier, output.shift), output)
        last = 1.0
        for bits in range(1, 32):
            explorer.bits.value = bits
            picture(explorer)
            multiplier, shift = integer.fixed_point(ratios[0], bits)
            assert f"becomes {multiplier} / 2^{bits} · 2^{shift} " in explorer.text
            # With floats instead of shifts, so that only ties may differ.
            pairs = np.array([integer.fixed_point(ratio, bits) for ratio in ratios])
            used = pairs[:, 0] * 2.0 ** (pairs[:, 1] - bits)
            values = np.clip(np.round(sums * used) - 10, -128, 127)
            share = np.mean(values != right)
            if "%" in explorer.text:
                found = re.search(r"(\d+) of the 600 output integers \(([\d.]+)%\)", explorer.text)
                assert float(found[2]) == pytest.approx(int(found[1]) / 6, abs=0.05)
                assert int(found[1]) / 600 == pytest.approx(share, abs=0.02)
            if bits % 6 == 0:
                assert share <= last
                last = share
        assert "No output integer is off" in explorer.text


class TestTensorExplorer:
    def test_every_tensor(self, x_test: np.ndarray) -> None:
        file = models.load_int8_baseline()
        source, _ = tflite.input_output(file)
        explorer = TensorExplorer(file, quantize(x_test[:20], source.params))
        names = list(explorer.tensor.options)
        assert names[:4] == ["input", "conv1: weights", "relu1: activation", "pool1: activation"]
        assert names[-2:] == ["logits: weights", "output"]
        seen = set()
        for name in names:
            explorer.tensor.value = name
            seen.add(picture(explorer).tobytes())
            assert explorer.text.startswith(f"{name}: ")
        assert len(seen) == len(names)
        explorer.tensor.value = "conv2: weights"
        kernel = models.weights(models.fold_batch_norm(models.load_baseline()))["conv2"]
        text = explorer.text.replace("−", "-")
        low, high = re.search(r"stand for ([-\d.]+) to ([-\d.]+)\.", text).groups()
        assert float(low) == pytest.approx(kernel.min(), abs=0.005)
        assert float(high) == pytest.approx(kernel.max(), abs=0.005)

    def test_labels_are_those_of_the_layers(self, files: dict[str, bytes]) -> None:
        expected = ["input", "conv1: weights", "relu1: activation", "pool1: activation"]
        expected += ["conv2: weights", "relu2: activation", "pool2: activation"]
        expected += ["conv3: weights", "relu3: activation", "flatten: activation"]
        images = np.zeros((2, 28, 28, 1), np.int8)
        file = files["int8, int8 input"]
        options = list(TensorExplorer(file, images).tensor.options)
        assert options == [*expected, "logits: weights", "output"]
        # With uint8 doors the converter calls two tensors StatefulPartitionedCall.
        explorer = TensorExplorer(files["int8, uint8 input"], images.view(np.uint8))
        expected = ["input", "QUANTIZE: activation", *expected[1:], "logits: weights"]
        assert list(explorer.tensor.options) == [*expected, "logits: activation", "output"]

    @pytest.mark.parametrize(
        "kind", ["ReLU before batch norm", "a dead layer", "separable", "used twice"]
    )
    def test_no_tensor_is_missing(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        keras.utils.set_random_seed(0)
        # XNNPACK refuses the file with the dead layer, and so does `convert`; others may have one.
        monkeypatch.setattr(
            trial,
            "started",
            lambda content, _: trial.File(content, flatbuffer.graph(content), None),
        )
        monkeypatch.setattr(trial, "require_sound", lambda *_: None)
        layers = keras.layers
        image = x = keras.Input((12, 12, 2))
        shared = layers.Conv2D(2, 3, padding="same", name="shared")
        for number in range(3):
            if kind in ("ReLU before batch norm", "a dead layer"):
                bias = -100.0 if kind == "a dead layer" and number == 2 else 0.0
                start = keras.initializers.Constant(bias)
                conv = layers.Conv2D(
                    4, 3, activation="relu", bias_initializer=start, name=f"conv_{number}"
                )
                x = conv(x)
                x = layers.BatchNormalization(name=f"norm_{number}")(x)
            elif kind == "separable":
                x = layers.SeparableConv2D(4, 3, activation="relu", name=f"part_{number}")(x)
            else:
                x = shared(x)
        model = keras.Model(image, layers.Dense(3, name="end")(layers.Flatten(name="flat")(x)))
        images = np.random.default_rng(0).random((4, 12, 12, 2), np.float32)
        file = tflite.convert(model, "int8", calibration=images)
        source, _ = tflite.input_output(file)
        explorer = TensorExplorer(file, quantize(images, source.params))
        shown = [tensor.index for tensor, _ in explorer._tensors.values()]
        quantized = [
            t.index
            for t in tflite.tensors(file)
            if t.params is not None and t.kind != "constant"  # factors of a batch norm
        ]
        assert len(quantized) > 7
        assert sorted(shown) == sorted(quantized)
        for name in explorer.tensor.options:
            explorer.tensor.value = name
            assert explorer.text.startswith(f"{name}: ")
            if kind == "a dead layer":  # it has tensors of a single value
                picture(explorer)

    def test_a_bar_for_each_value(self, x_test: np.ndarray) -> None:
        file = models.load_int8_baseline()
        source, _ = tflite.input_output(file)
        explorer = TensorExplorer(file, quantize(x_test[:20], source.params))

        def bars(name: str) -> tuple[list[float], list[float]]:
            explorer.tensor.value = name
            sides = explorer.plot._bars
            return tuple([s[1][1] for s in side.get_segments()] for side in sides)

        # With one scale each integer is one real number: no empty bins between, no doubled ones.
        for name in ("input", "relu2: activation", "output"):
            integers, reals = bars(name)
            assert integers == reals
        integers, reals = bars("conv3: weights")  # 32 scales
        assert len(reals) <= 200 < len(integers)
        assert sum(reals) == sum(integers)

    def test_a_tensor_of_one_value(self, recwarn: pytest.WarningsRecorder) -> None:
        figure = TensorFigure()
        zeros = np.zeros((2, 3))
        figure.show(zeros.astype(np.int8), zeros, (-128, 127), "zeros", 0)
        assert figure._axes[1].get_xlim()[0] < 0 < figure._axes[1].get_xlim()[1]
        assert not recwarn.list

    def test_it_opens_on_a_tensor_by_name(self, x_test: np.ndarray) -> None:
        file = models.load_int8_baseline()
        images = quantize(x_test[:5], tflite.input_output(file)[0].params)
        explorer = TensorExplorer(file, images, tensor="relu1: activation")
        assert explorer.tensor.value == "relu1: activation"
        assert explorer.text.startswith("relu1: activation: ")
        assert explorer.plot._axes[0].get_title("left") == "relu1: activation, as integers"
        assert explorer.plot._zeros[0].get_xdata() == [-128, -128]
        ends = explorer.plot._ends[0].get_segments()
        bars = explorer.plot._bars[0].get_segments()
        assert [end.tolist() for end in ends] == [bars[0].tolist(), bars[-1].tolist()]
        with pytest.raises(ValueError, match=r"tensor must be one of input, .*, got 'relu9'"):
            TensorExplorer(file, images, tensor="relu9")

    def test_a_file_without_integers(self, files: dict[str, bytes], x_test: np.ndarray) -> None:
        with pytest.raises(ValueError, match="no quantized tensor"):
            TensorExplorer(files["float32"], x_test[:1])


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
