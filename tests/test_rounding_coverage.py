"""The rounding methods on every kind of layer with weights, and on graphs of every shape."""

from typing import Any

from quant_tutorial import flatbuffer, models, rounding, tflite
from quant_tutorial.rounding import matrices
from quant_tutorial.scheme import named_scheme
from quant_tutorial.simulate import Simulator, with_params

import coverage_models
import keras
import numpy as np
import pytest

layers = keras.layers
KINDS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "dense": (layers.Dense(3), (5, 4)),
    "conv2d, groups": (layers.Conv2D(6, 3, strides=2, padding="same", groups=2), (7, 6, 4)),
    "depthwise2d": (layers.DepthwiseConv2D((3, 2), depth_multiplier=2), (7, 6, 3)),
    "conv1d, same": (layers.Conv1D(4, 4, strides=3, padding="same"), (11, 3)),
    "conv1d, causal": (layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (11, 3)),
    "conv1d, valid": (layers.Conv1D(4, 2, dilation_rate=3), (11, 3)),
    "depthwise1d": (layers.DepthwiseConv1D(3, depth_multiplier=2, padding="same"), (11, 3)),
    **{
        f"transposed, {size}, {strides}, {padding}": (
            layers.Conv2DTranspose(4, size, strides, padding),
            (5, 4, 3),
        )
        for size, strides in ((3, 1), (3, 2), ((4, 2), 2), (2, 3), ((5, 4), (1, 3)))
        for padding in ("same", "valid")
    },
    "transposed, output padding": (
        layers.Conv2DTranspose(4, 3, 2, "same", output_padding=1),
        (5, 4, 3),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_a_product_of_matrices(kind: str) -> None:
    """Against Keras itself."""
    layer, shape = KINDS[kind]
    layer = type(layer).from_config(layer.get_config())
    keras.utils.set_random_seed(0)
    image = keras.Input(shape)
    model = keras.Model(image, layer(image))
    values = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    weights = models.weights(model)[layer.name]
    rows, product = matrices.patches(layer, values), matrices.weight_matrices(layer, weights)
    assert rows.shape[1] == matrices.row_count(layer, 4)
    outputs = np.concatenate(list(rows @ product), axis=-1)
    expected = models.predict(model, values)
    np.testing.assert_allclose(outputs.reshape(expected.shape), expected, atol=1e-5)
    np.testing.assert_array_equal(matrices.weights_from(layer, product), weights)
    models.set_weights(model, {layer.name: weights})
    np.testing.assert_array_equal(models.predict(model, values), expected)
    apart = matrices.rows_of(layer, [values], 10**6, 0)[0]
    np.testing.assert_array_equal(apart, rows)


MODELS = ("convolutions", "one axis", "constants", "operators", "shared, nested, gated")


@pytest.fixture(scope="module", params=MODELS)
def made(request: pytest.FixtureRequest) -> tuple[keras.Model, np.ndarray, Simulator]:
    model = coverage_models.settled(coverage_models.TOGETHER[request.param])
    images = coverage_models.images_for(model)
    return model, images, Simulator(model, images)


@pytest.mark.slow
class TestModels:
    def test_nearest_and_better(self, made: tuple[keras.Model, np.ndarray, Simulator]) -> None:
        model, images, simulator = made
        scheme = named_scheme(3, 8)
        nearest = rounding.nearest(simulator, scheme)
        simulated = with_params(simulator.model, nearest.params)
        again = with_params(nearest.model, nearest.params)
        expected = models.predict(simulated, images)
        np.testing.assert_allclose(models.predict(again, images), expected, atol=1e-5)
        floats = models.predict(model, images)

        def error(rounded: rounding.Rounded) -> float:
            outputs = models.predict(with_params(rounded.model, rounded.params), images)
            return float(np.mean((outputs - floats) ** 2))

        better = rounding.gptq(simulator, scheme, images)
        assert set(better.integers) == set(simulator.weights)
        assert error(better) < error(nearest)
        # Its own check compares the file with the simulation.
        content = rounding.int8_file(better)
        assert tflite.inspect(content).integer_only
        stored = {
            tensor.data.size
            for op in flatbuffer.graph(content).ops
            for tensor in op.inputs
            if tensor.kind == "weights"
        }
        assert {q.size for q in better.integers.values()} <= stored

    def test_corrected_biases(self, made: tuple[keras.Model, np.ndarray, Simulator]) -> None:
        _, images, simulator = made
        scheme = named_scheme(3, 8)
        nearest = rounding.nearest(simulator, scheme)
        corrected = rounding.correct_bias(simulator, nearest, images)
        assert any(
            not np.array_equal(bias, nearest.biases[name])
            for name, bias in corrected.biases.items()
        )

        def shift(rounded: rounding.Rounded) -> float:
            outputs = models.predict(with_params(rounded.model, rounded.params), images)
            wanted = models.predict(simulator.model, images)
            axes = tuple(range(outputs.ndim - 1))
            return float(np.abs((outputs - wanted).mean(axis=axes)).max())

        assert shift(corrected) < shift(nearest)

    def test_equalized(self, made: tuple[keras.Model, np.ndarray, Simulator]) -> None:
        model, images, _ = made
        equal = rounding.equalize(model)
        expected = models.predict(model, images)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(models.predict(equal, images), expected, atol=1e-4 * scale)


@pytest.mark.slow
def test_learned_rounding_of_transposed_and_one_dimensional_convolutions() -> None:
    for part, shape in (
        (layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu"), (4, 4, 3)),
        (layers.Conv1D(4, 3, padding="causal", activation="relu"), (12, 3)),
    ):
        model = coverage_models.settled(coverage_models.alone(part, shape=shape))
        images = coverage_models.images_for(model)
        simulator, scheme = Simulator(model, images), named_scheme(2, 8)
        learned = rounding.adaround(simulator, scheme, images, steps=200)
        refined = rounding.refine(simulator, learned, images)
        floats = models.predict(model, images)
        errors = [
            float(np.mean((models.predict(with_params(r.model, r.params), images) - floats) ** 2))
            for r in (rounding.nearest(simulator, scheme), learned, refined)
        ]
        assert max(errors[1:]) < errors[0]
