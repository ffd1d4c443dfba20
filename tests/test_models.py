"""The baseline: within its limits, trained, and trainable again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quant_tutorial import colour_digits, metrics, mnist, models, tflite

import keras
import numpy as np
import pytest


def test_within_its_limits(baseline: Any) -> None:
    assert baseline.count_params() <= 60_000
    assert models.multiply_adds(baseline) <= 1_000_000
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in baseline.layers) == 3
    assert baseline.layers[-1].activation is keras.activations.linear  # logits


@pytest.fixture(scope="module")
def logits(baseline: Any, x_test: np.ndarray) -> np.ndarray:
    """What the baseline predicts for all test images."""
    return models.predict(baseline, x_test)


def test_accuracy_is_the_one_written_down(
    baseline: Any, data: mnist.Mnist, logits: np.ndarray
) -> None:
    figures = json.loads(models.WEIGHTS.with_name("baseline.json").read_text())
    accuracy = metrics.accuracy(logits, data.y_test)
    assert accuracy >= 0.992
    assert accuracy == pytest.approx(figures["test_accuracy"], abs=1e-4)
    assert figures["parameters"] == baseline.count_params()
    assert figures["multiply_adds"] == models.multiply_adds(baseline)
    assert figures["training_minutes"] <= 10


SHIPPED = [
    (models.WEIGHTS, models.load_baseline, "The baseline's"),
    (models.COLOUR_WEIGHTS, models.load_colour_digits, "The colour model's"),
]


def test_spreading_the_channels_keeps_every_bit_of_the_outputs() -> None:
    trained, spread = models.load_colour_digits(spread=False), models.load_colour_digits()
    images = colour_digits.to_float(colour_digits.load().x_test[:200])
    np.testing.assert_array_equal(models.predict(spread, images), models.predict(trained, images))
    before, after = models.weights(trained), models.weights(spread)
    for name in before:
        if name.startswith("pointwise"):  # its input channels are on the last axis but one
            factors = after[name] / before[name]
            assert set(np.unique(factors)) == {0.25, 0.5, 1, 2, 4}
            assert (factors == factors[..., :1]).all()
    # The ranges of the output channels, once batch norm is folded.
    ratios = [
        [np.ptp(np.log2(np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))))]
        for model in (trained, spread)
        for name, kernel in models.weights(models.fold_batch_norm(model)).items()
        if name.startswith("depthwise")
    ]
    assert np.max(ratios[:5]) < 3 < 7 < np.min(ratios[5:])


@pytest.mark.parametrize(("shipped", "load", "whose"), SHIPPED)
def test_missing_and_damaged_weights(
    tmp_path: Path, shipped: Path, load: Callable[[Path], Any], whose: str
) -> None:
    with pytest.raises(
        FileNotFoundError, match=rf"{whose} weights are missing: .*\. Get them back"
    ):
        load(tmp_path / "none.weights.h5")
    cut = tmp_path / "cut.weights.h5"
    cut.write_bytes(shipped.read_bytes()[:5000])
    with pytest.raises(ValueError, match=rf"(?s){whose} weights are damaged .*Get them back"):
        load(cut)
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(other)
    with pytest.raises(ValueError, match=rf"(?s){whose} weights are damaged .*Get them back"):
        load(other)


@pytest.mark.parametrize(("shipped", "load", "whose"), SHIPPED)
@pytest.mark.parametrize("start", [3_000, 20_000, 60_000])
def test_an_overwritten_block_is_found(
    tmp_path: Path, start: int, shipped: Path, load: Callable[[Path], Any], whose: str
) -> None:
    figures = models.figures_path(shipped)
    path = tmp_path / shipped.name
    shutil.copy(shipped, path)
    shutil.copy(figures, tmp_path)
    assert load(path).count_params() == json.loads(figures.read_text())["parameters"]
    content = bytearray(path.read_bytes())
    content[start : start + 64] = bytes(b ^ 0x55 for b in content[start : start + 64])
    path.write_bytes(content)
    message = rf"{whose} .*its digest is not the one in {figures.name}.*Get them"
    with pytest.raises(ValueError, match=message):
        load(path)


class TestInt8Baseline:
    def test_it_is_what_the_converter_makes(self, files: dict[str, bytes]) -> None:
        shipped = tflite.tensors(models.load_int8_baseline())
        made = tflite.tensors(files["int8, int8 input"])  # perhaps on another processor
        assert len(shipped) == len(made)
        for ours, theirs in zip(shipped, made, strict=True):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            np.testing.assert_allclose(ours.scales, theirs.scales, rtol=1e-5)
            np.testing.assert_array_equal(ours.zero_points, theirs.zero_points)

    def test_missing_and_damaged(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="--int8"):
            models.load_int8_baseline(tmp_path / "none.tflite")
        content = bytearray(models.load_int8_baseline())
        content[1000] ^= 1
        (tmp_path / "x.tflite").write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            models.load_int8_baseline(tmp_path / "x.tflite")


def test_multiply_adds_by_hand() -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same"),  # 8·8·4 outputs of 3·3·3 products
            layers.DepthwiseConv2D(3),  # 6·6·4 outputs of 3·3 products
            layers.Flatten(),
            layers.Dense(5),  # 144·5
        ]
    )
    assert models.multiply_adds(model) == 8 * 8 * 4 * 27 + 6 * 6 * 4 * 9 + 144 * 5
    unknown = keras.Sequential([keras.Input((4, 2)), layers.LSTM(3)])
    with pytest.raises(ValueError, match=r"Layer lstm\w* \(LSTM\) cannot be counted"):
        models.multiply_adds(unknown)


def test_multiply_adds_of_other_layers() -> None:
    layers = keras.layers
    row, image = keras.Input((12, 3)), keras.Input((4, 4, 3))
    again = layers.Conv2D(3, 3, padding="same")
    for model, expected in (
        (keras.Model(row, layers.Conv1D(4, 3)(row)), 10 * 4 * 9),
        (keras.Model(row, layers.DepthwiseConv1D(3, depth_multiplier=2)(row)), 10 * 6 * 3),
        (keras.Model(row, layers.SeparableConv1D(4, 3)(row)), 10 * (3 * 3 + 3 * 4)),
        (keras.Model(image, layers.Conv2DTranspose(5, 3, strides=2)(image)), 16 * 3 * 5 * 9),
        (keras.Model(image, layers.PReLU()(again(again(image)))), 2 * 16 * 3 * 27),
    ):
        assert models.multiply_adds(model) == expected


class TestFolding:
    def folded(self, model: keras.Model) -> keras.Model:
        """Give every batch norm arbitrary statistics, then fold; check that outputs stay."""
        random = np.random.default_rng(0)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.set_weights([random.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
        x = random.normal(size=(30, *model.input_shape[1:])).astype(np.float32)
        before = models.predict(model, x)
        folded = models.fold_batch_norm(model)
        assert keras.layers.BatchNormalization not in map(type, folded.layers)
        np.testing.assert_allclose(models.predict(folded, x), before, atol=1e-4)
        np.testing.assert_array_equal(models.predict(model, x), before)
        return folded

    def test_baseline(self, baseline: Any, x_test: np.ndarray, logits: np.ndarray) -> None:
        folded = models.fold_batch_norm(baseline)
        assert np.abs(logits - models.predict(folded, x_test)).max() < 1e-4
        assert list(models.weights(folded)) == ["conv1", "conv2", "conv3", "logits"]

    def test_every_kind_of_layer_in_a_sequential_model(self) -> None:
        layers = keras.layers
        self.folded(
            keras.Sequential(
                [
                    keras.Input((10, 10, 3)),
                    layers.DepthwiseConv2D(3, depth_multiplier=2),
                    layers.BatchNormalization(),
                    layers.ReLU(),
                    layers.Conv2D(5, 1, use_bias=False),
                    layers.BatchNormalization(scale=False),
                    layers.Flatten(),
                    layers.Dense(7),
                    layers.BatchNormalization(center=False),
                ]
            )
        )

    def test_functional_model_with_a_branch(self) -> None:
        layers = keras.layers
        image = keras.Input((8, 8, 4))
        x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(image))
        x = layers.ReLU()(layers.Add()([x, image]))
        self.folded(keras.Model(image, layers.GlobalAveragePooling2D()(x)))

    def test_refused(self) -> None:
        layers = keras.layers
        image = keras.Input((8, 8, 4))
        conv = layers.Conv2D(4, 3, padding="same", name="conv")(image)
        norm = layers.BatchNormalization(name="norm")
        cases = {
            "follows pool": norm(layers.MaxPooling2D(2, name="pool")(image)),
            "layer active has an activation": layers.BatchNormalization(name="norm")(
                layers.Conv2D(4, 3, activation="relu", name="active")(image)
            ),
            "the output of conv is used elsewhere": layers.Add()(
                [conv, layers.BatchNormalization(name="norm")(conv)]
            ),
            "along axis 1": layers.BatchNormalization(axis=1, name="norm")(conv),
        }
        for reason, output in cases.items():
            with pytest.raises(ValueError, match=f"Batch norm norm cannot be folded: .*{reason}"):
                models.fold_batch_norm(keras.Model(image, output))


def test_kernels_go_out_and_in_again() -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise"),
            layers.Conv2D(5, 2, name="conv"),
        ]
    )
    kernels = models.weights(model)
    assert {name: kernel.shape for name, kernel in kernels.items()} == {
        "depthwise": (3, 3, 6),
        "conv": (2, 2, 6, 5),
    }
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 3)).astype(np.float32)
    before = models.predict(model, x)
    doubled = dict(kernels)
    doubled["depthwise"] = kernels["depthwise"] * np.arange(6)
    models.set_weights(model, doubled)
    # Output channel 2·i + j of a depthwise convolution comes from input i: channel 0 is now 0.
    depthwise = keras.Model(model.inputs[0], model.get_layer("depthwise").output)
    assert not models.predict(depthwise, x)[..., 0].any()
    models.set_weights(model, kernels)
    np.testing.assert_array_equal(models.predict(model, x), before)
