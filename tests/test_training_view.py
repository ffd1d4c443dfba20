"""Lesson 08's pictures and views: what they show is what was measured."""

import re
from typing import Any

from quant_tutorial import metrics, mnist, models, plotting, qat
from quant_tutorial.affine import fake_quantize, params_from_range, quantize
from quant_tutorial.explorers.comparison import ComparisonExplorer
from quant_tutorial.explorers.live_training import LiveTraining
from quant_tutorial.simulate import Simulator

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

pytestmark = pytest.mark.slow


def test_straight_through() -> None:
    params = params_from_range(-2.0, 1.5, 3)
    axes = Figure().subplots(1, 3)
    plotting.plot_straight_through(axes, params)
    stairs, line = (x.get_xydata() for x in axes[0].lines)
    flat = ~np.isnan(stairs[:, 1])
    assert (~flat).sum() == params.levels - 1  # a gap at each jump
    np.testing.assert_allclose(stairs[flat, 1], fake_quantize(stairs[flat, 0], params))
    np.testing.assert_allclose(line[:, 1], np.clip(line[:, 0], -2, 1.5))
    (x, inside), (_, outside) = (x.get_data() for x in axes[2].lines[:2])
    assert set(outside[x < -2.01]) == {-4}
    assert set(outside[x > 1.51]) == {3}
    assert np.isnan(outside[(x > -2) & (x < 1.5)]).all()
    assert np.nanmax(np.abs(inside)) <= 0.5
    assert [len(ax.get_legend().texts) for ax in axes] == [2, 2, 2]
    sentence = plotting.describe_straight_through(params)
    assert "8 levels from −2 to 1.5" in sentence
    assert "−4 below and 3 above" in sentence


def test_rescue() -> None:
    ways = {
        "one": {"a": [0.9], "b": [0.2]},
        "two": {"a": [0.99, 0.98], "b": []},
        "three": {"a": [0.95], "b": [0.97]},
    }
    ax = Figure().subplots()
    plotting.plot_rescue(ax, ways, 0.995)
    lines = [[round(float(y), 6) for y in line.get_ydata()] for line in ax.lines]
    assert lines[:2] == [[1000, 150, 500], [8000, 300]]  # joined: the means of each scheme
    assert lines[2:5] == [[1000, 8000], [100, 200], [500, 300]]
    sentence = plotting.describe_rescue(ways, 0.995)
    assert (
        "the float model has 50. a: 1,000 (one), 150 (two), 500 (three); b: 8,000 (one), "
        in sentence
    )


def test_oscillation() -> None:
    positions = np.array([[0.4, -0.6], [0.6, -0.6], [0.4, -0.6], [0.6, -0.4]])
    ax = Figure().subplots()
    plotting.plot_oscillation(ax, positions, first=10)
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 4]
    np.testing.assert_allclose(drawn, [[-0.1, 0.1, -0.1, 0.1], [-0.1, -0.1, -0.1, 0.1]])
    assert plotting.describe_oscillation(positions, first=10) == (
        "2 weights from step 10 to 13: they stay within 0.10 steps of the edge between two levels, "
        "and cross it 3, 1 times."
    )


class TestLiveTraining:
    @pytest.fixture(scope="class")
    @classmethod
    def live(
        cls, baseline: Any, calibration: np.ndarray, data: mnist.Mnist, x_test: np.ndarray
    ) -> LiveTraining:
        model = qat.quantize_aware(baseline, qat.named_scheme(2, 2), calibration)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
        live = LiveTraining(
            model,
            x_test[:500],
            data.y_test[:500],
            epochs=2,
            steps_per_epoch=40,
            reference=0.9946,
            watched="conv2",
        )
        assert "has not begun" in live.text
        images, labels = mnist.to_float(data.x_train[:2560]), data.y_train[:2560]
        model.fit(images, labels, batch_size=64, epochs=2, callbacks=[live.callback], verbose=0)
        return live

    def test_it_has_grown(self, live: LiveTraining, x_test: np.ndarray, data: mnist.Mnist) -> None:
        assert live.bar.value == live.bar.max == 80
        share = metrics.accuracy(models.predict(live._model, x_test[:500]), data.y_test[:500])
        assert f"After 80 steps the loss is {live._loss[-1]:.2f}; {share:.1%}" in live.text
        assert [step for step, _ in live._test] == [0, 40, 80]
        assert live._test[-1][1] > live._test[0][1] + 0.3
        assert live.accuracy == live._test[-1][1]
        assert np.shape(live.positions) == (80, 1152)
        layer = live._model.get_layer("conv2")
        scale, _ = layer.quantizer.scale_and_zero_point()
        np.testing.assert_allclose(live.positions[-1], np.ravel(layer.layer.kernel / scale))
        assert "<pre" not in live._sentence.value
        drawn = live.plot._loss_line.get_ydata()
        assert list(drawn) == live._loss
        assert len(drawn) >= 2

    def test_ranges_are_the_models(self, live: LiveTraining) -> None:
        for values, layer in zip(live._ranges, live._layers, strict=True):
            assert values[-1] == pytest.approx(layer.params().maximum / layer.start.maximum)
            assert values[-1] != 1

    def test_a_page_without_a_kernel_shows_the_present_state(self, live: LiveTraining) -> None:
        bundle, _ = live._repr_mimebundle_()
        assert bundle["text/plain"] == live.text
        assert len(bundle["image/png"]) > 10_000


class TestComparison:
    @pytest.fixture(scope="class")
    @classmethod
    def explorer(
        cls, simulator: Simulator, x_test: np.ndarray, data: mnist.Mnist
    ) -> ComparisonExplorer:
        return ComparisonExplorer(simulator, x_test, data.y_test)

    @pytest.mark.parametrize("bits", [2, 3, 8])
    def test_figures_are_those_of_the_data_file(
        self, explorer: ComparisonExplorer, bits: int
    ) -> None:
        explorer.bits.value = bits
        assert "<pre" not in explorer._sentence.value, explorer._sentence.value
        result = qat.load_results()[f"W{bits}A{bits}"]
        calibrator = "mse" if bits < 8 else "min_max"
        given = [
            float(share) for share in re.findall(r"([\d.]+)% (?:of 10|when trained)", explorer.text)
        ]
        assert given[0] == pytest.approx(100 * result.ptq[calibrator], abs=0.2)
        assert given[1] == pytest.approx(100 * result.qat[0], abs=0.1)
        drawn = [10_000 - mark.get_xdata()[0] for mark in explorer.plot._marks]
        assert drawn == pytest.approx([100 * share for share in given[:2]], abs=6)

    def test_the_output_can_have_8_bits(self, explorer: ComparisonExplorer) -> None:
        explorer.bits.value = 2
        without = explorer.plot._marks[0].get_xdata()[0]
        trained = explorer.plot._marks[1].get_xdata()[0]
        explorer.output.value = True
        assert "when rounded after training, with an output of 8 bits, " in explorer.text
        assert explorer.plot._marks[0].get_xdata()[0] < without - 2000
        assert explorer.plot._marks[1].get_xdata()[0] == trained
        explorer.output.value = False
        assert explorer.plot._marks[0].get_xdata()[0] == without

    def test_weights_are_the_models(self, explorer: ComparisonExplorer) -> None:
        explorer.bits.value, explorer.layer.value = 2, "conv3"
        model = qat.load_trained("W2A2")
        kernel = models.weights(qat.float_model(model))["conv3"]
        q = quantize(kernel, qat.trained_params(model).weights["conv3"])
        heights = [bar.get_height() for bar in explorer.plot._histogram.patches]
        expected = [100 * np.mean(q == level) for level in (-1, 0, 1)]
        assert heights[3:] == pytest.approx(expected)
        assert sum(heights[:3]) == pytest.approx(100)

    def test_images_shown_are_classified_differently(
        self, explorer: ComparisonExplorer, data: mnist.Mnist, x_test: np.ndarray
    ) -> None:
        explorer.bits.value = 3
        rounded, trained = (explorer._measured[3, kind] for kind in ("rounded", "trained"))
        count = int(np.sum(rounded != trained))
        assert f"{count:,} images are classified differently" in explorer.plot._row.text.texts[0]
        titles = explorer.plot._row.titles.texts
        assert all(titles)
        for title in titles:
            _, one, other = re.fullmatch(r"(\d): (\d) \| (\d)", title).groups()
            assert one != other
