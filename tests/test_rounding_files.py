"""Better rounded models as `.tflite` files: the file holds and computes what the method chose."""

from typing import Any

from quant_tutorial import flatbuffer, metrics, mnist, models, rounding, simulate, tflite
from quant_tutorial.rounding import Rounded
from quant_tutorial.scheme import QuantScheme, TensorScheme
from quant_tutorial.simulate import ModelParams, Simulator

import numpy as np
import pytest

pytestmark = pytest.mark.slow

IMAGES = 2000


@pytest.fixture(scope="module")
def rounded(simulator: Simulator, calibration: np.ndarray) -> Rounded:
    scheme = QuantScheme(TensorScheme(2, True, "channel-wise", "mse"), TensorScheme(8))
    return rounding.gptq(simulator, scheme, calibration)


@pytest.fixture(scope="module")
def file(rounded: Rounded) -> bytes:
    return rounding.int8_file(rounded, packed=True)


def check_weights(content: bytes, rounded: Rounded) -> None:
    for name, (q, scales) in tflite.file_weights(content).items():
        if name in rounded.integers:
            np.testing.assert_array_equal(np.moveaxis(q, 0, -1), rounded.integers[name])
            scale = rounded.params.weights[name].scale
            np.testing.assert_allclose(scales.ravel(), scale, rtol=1e-6)
    assert rounded.integers.keys() <= tflite.file_weights(content).keys()


def test_it_is_not_the_nearest_level(rounded: Rounded, simulator: Simulator) -> None:
    for name, floats in simulator.weights.items():
        steps = floats / rounded.params.weights[name].scale
        assert np.any(np.abs(rounded.integers[name] - np.clip(steps, -1, 1)) > 0.5)


def test_a_full_integer_file(
    rounded: Rounded, file: bytes, x_test: np.ndarray, data: mnist.Mnist
) -> None:
    plain = rounding.int8_file(rounded)
    for content, kind in ((plain, "int8"), (file, "int4")):
        assert tflite.inspect(content).integer_only
        assert {t.type for t in tflite.tensors(content) if t.kind == "weights"} == {kind}
        check_weights(content, rounded)
    images, labels = x_test[:IMAGES], data.y_test[:IMAGES]
    simulated = models.predict(simulate.with_params(rounded.model, rounded.params), images)
    step = rounded.params.activations["logits"].scale
    for content in (plain, file):
        found = tflite.evaluate(content, images, labels)
        assert np.abs(found.outputs - simulated).max() <= 2.001 * step
        assert np.sum(found.predictions != simulated.argmax(axis=1)) <= 5
        right = round(IMAGES * metrics.accuracy(simulated, labels))
        assert abs(right - round(IMAGES * found.accuracy)) <= 3


def test_the_corrected_biases(rounded: Rounded, file: bytes, simulator: Simulator) -> None:
    ops = [op for op in flatbuffer.graph(file).ops if op.type in flatbuffer.WEIGHTED]
    for op, (name, bias) in zip(ops, rounded.biases.items(), strict=True):
        source, weights, stored = op.inputs
        step = np.float64(source.scales) * weights.scales
        assert np.all(np.abs(stored.data * step - bias) <= 0.5001 * step)
        assert np.any(np.abs(bias - simulator.model.get_layer(name).bias.numpy()) > step)


@pytest.mark.parametrize("recipe", ["weight_only_wi2_afp32", "weight_only_wi4_afp32"])
def test_a_file_with_float_activations(rounded: Rounded, recipe: str, x_test: np.ndarray) -> None:
    content = rounding.low_bit_file(rounded, recipe)
    check_weights(content, rounded)
    nothing = ModelParams(rounded.params.weights, dict.fromkeys(rounded.params.activations))
    right = models.predict(simulate.with_params(rounded.model, nothing), x_test[:IMAGES])
    np.testing.assert_allclose(tflite.predict(content, x_test[:IMAGES]), right, atol=1e-3)


def test_what_litert_has_no_kernels_for(simulator: Simulator) -> None:
    low: Any = QuantScheme(activations=TensorScheme(4))
    with pytest.raises(ValueError, match=r"activations of relu1 have 4 bits.*low_bit_file\("):
        rounding.int8_file(rounding.nearest(simulator, low))
