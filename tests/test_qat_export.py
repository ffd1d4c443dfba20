"""Trained models as `.tflite` files: the integers in the file are the trained ones."""

import functools
from collections.abc import Callable
from typing import Any

from quant_tutorial import flatbuffer, integer, metrics, mnist, models, qat, tflite
from quant_tutorial.affine import quantize
from quant_tutorial.scheme import QuantScheme, TensorScheme
from quant_tutorial.simulate import ModelParams, with_params

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.slow


def briefly_trained(
    model: keras.Model, scheme: QuantScheme, data: mnist.Mnist, calibration: np.ndarray
) -> keras.Model:
    """Train long enough that no scale is at its start any more."""
    keras.utils.set_random_seed(0)
    trainable = qat.quantize_aware(model, scheme, calibration)
    from_logits = not isinstance(model.layers[-1], keras.layers.Softmax) and (
        model.layers[-1].activation is not keras.activations.softmax
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits)
    # With 2-bit weights the answers get a margin in training alone. For the others two steps are
    # enough, which take less time op by op than to trace a graph first.
    is_coarse = scheme.weights.bits == 2
    trainable.compile(keras.optimizers.Adam(1e-3), loss, run_eagerly=not is_coarse)
    trainable.optimizer.build(trainable.trainable_variables)  # or its first step is traced twice
    count = 2560 if is_coarse else 128
    images, labels = mnist.to_float(data.x_train[:count]), data.y_train[:count]
    trainable.fit(images, labels, batch_size=64, verbose=0)
    return trainable


def scheme(weights: int, activations: int = 8) -> QuantScheme:
    return QuantScheme(
        TensorScheme(weights, True, "channel-wise", "mse" if weights < 8 else "min_max"),
        TensorScheme(activations),
    )


@pytest.fixture(scope="module")
def trained(
    baseline: Any, further: dict, data: mnist.Mnist, calibration: np.ndarray
) -> dict[str, keras.Model]:
    return {
        "baseline 8": briefly_trained(baseline, scheme(8), data, calibration),
        "baseline 4": briefly_trained(baseline, scheme(4), data, calibration),
        "baseline 2": briefly_trained(baseline, scheme(2), data, calibration),
        "separable 8": briefly_trained(further["separable"], scheme(8), data, calibration),
        "residual 4": briefly_trained(further["residual"], scheme(4), data, calibration),
    }


@pytest.fixture(scope="module")
def int8_file(trained: dict[str, keras.Model]) -> Callable[..., bytes]:
    """Make the file of a trained model with a type of input, once for all tests."""
    return functools.cache(lambda name, **io: qat.int8_file(trained[name], **io))


def integers_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Compute the trained integers, output channels last."""
    params = qat.trained_params(model)
    kernels_ = models.weights(qat.float_model(model))
    return {name: quantize(kernel, params.weights[name]) for name, kernel in kernels_.items()}


def channels_last(q: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Bring a file's weights into Keras' order by their shapes alone."""
    return q[0] if q.shape[1:] == like.shape and q.ndim > like.ndim else np.moveaxis(q, 0, -1)


NAMES = ["baseline 8", "baseline 4", "baseline 2", "separable 8", "residual 4"]


class TestInt8:
    @pytest.mark.parametrize("name", NAMES)
    def test_the_files_integers_and_scales_are_the_trained_ones(
        self, trained: dict[str, keras.Model], int8_file: Callable[..., bytes], name: str
    ) -> None:
        model = trained[name]
        content = int8_file(name)
        found = tflite.inspect(content)
        assert found.integer_only
        params, weights = qat.trained_params(model), qat.file_weights(content)
        for layer, q in integers_of(model).items():
            stored, scales = weights[layer]
            np.testing.assert_array_equal(channels_last(stored, q), q)
            np.testing.assert_allclose(scales.ravel(), params.weights[layer].scale, rtol=1e-6)
        theirs = {
            (int(t.zero_points[0]), float(t.scales[0]))
            for t in found.tensors
            if t.kind in flatbuffer.FLOWING and len(t.scales) == 1
        }
        for chosen in params.activations.values():
            assert any(
                zero == chosen.zero_point and scale == pytest.approx(chosen.scale, rel=1e-5)
                for zero, scale in theirs
            ), chosen
        # They were trained: the converter's own calibration would have found others.
        starts = [x for x in model.layers if isinstance(x, qat.QuantizeActivation)]
        assert any(x.params().scale != x.start.scale for x in starts)

    @pytest.mark.parametrize("name", NAMES)
    def test_litert_answers_as_the_trained_model(
        self,
        trained: dict[str, keras.Model],
        int8_file: Callable[..., bytes],
        name: str,
        x_test: np.ndarray,
    ) -> None:
        content = int8_file(name)
        theirs = tflite.predict(content, x_test[:2000]).argmax(axis=1)
        ours = models.predict(trained[name], x_test[:2000]).argmax(axis=1)
        assert metrics.agreement(ours, theirs) >= 0.998

    def test_with_integers_alone_bit_for_bit(
        self, int8_file: Callable[..., bytes], x_test: np.ndarray
    ) -> None:
        content = int8_file("baseline 8")
        images = quantize(x_test[:500], tflite.input_output(content)[0].params)
        expected = tflite.run_all(content, images, "reference")
        given = integer.run_all(integer.load(content), images)
        assert given.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(given[name], values)

    @pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
    def test_types_of_input_and_output(
        self, int8_file: Callable[..., bytes], io: str, x_test: np.ndarray
    ) -> None:
        content = int8_file("baseline 8", io=io)
        assert [t.type for t in tflite.input_output(content)] == [io, io]
        plain = int8_file("baseline 8")
        np.testing.assert_allclose(
            tflite.predict(content, x_test[:50]), tflite.predict(plain, x_test[:50]), atol=1e-6
        )

    def test_what_litert_has_no_kernels_for(self, baseline: Any, calibration: np.ndarray) -> None:
        def made(chosen: QuantScheme) -> keras.Model:
            return qat.quantize_aware(baseline, chosen, calibration[:50])

        with pytest.raises(ValueError, match=r"activations of relu1 have 4 bits.*take 8"):
            qat.int8_file(made(scheme(8, 4)))
        asymmetric = QuantScheme(TensorScheme(8, symmetric=False), TensorScheme(8))
        with pytest.raises(ValueError, match=r"of conv1 have 8 bits.*zero point 0.*symmetric"):
            qat.int8_file(made(asymmetric))
        spared = QuantScheme(overrides={"logits": None})
        with pytest.raises(ValueError, match="activations of logits are floats"):
            qat.int8_file(made(spared))


class TestLowBits:
    @pytest.mark.parametrize(
        ("name", "recipe"),
        [
            ("baseline 4", "dynamic_wi4_afp32"),
            ("baseline 4", "weight_only_wi4_afp32"),
            ("baseline 2", "weight_only_wi2_afp32"),
            ("residual 4", "weight_only_wi4_afp32"),
            ("separable 8", "weight_only_wi8_afp32"),
            ("baseline 2", "dynamic_wi4_afp32"),
        ],
    )
    def test_the_files_integers_are_the_trained_ones(
        self, trained: dict[str, keras.Model], name: str, recipe: str
    ) -> None:
        content = qat.low_bit_file(trained[name], recipe)
        bits = tflite.RECIPES[recipe].weight_bits
        tensors = [t for t in tflite.inspect(content).tensors if t.kind == "weights"]
        assert {t.type for t in tensors} == {f"int{bits}"}
        params, weights = qat.trained_params(trained[name]), qat.file_weights(content)
        for layer, q in integers_of(trained[name]).items():
            stored, scales = weights[layer]
            np.testing.assert_array_equal(channels_last(stored, q), q)
            np.testing.assert_allclose(scales.ravel(), params.weights[layer].scale, rtol=1e-6)

    def test_litert_computes_with_them(
        self, trained: dict[str, keras.Model], x_test: np.ndarray
    ) -> None:
        content = qat.low_bit_file(trained["baseline 2"], "weight_only_wi2_afp32")
        params = qat.trained_params(trained["baseline 2"])
        nothing = dict.fromkeys(params.activations)
        plain = qat.float_model(trained["baseline 2"])
        expected = with_params(plain, ModelParams(params.weights, nothing))
        np.testing.assert_allclose(
            tflite.predict(content, x_test[:200]), models.predict(expected, x_test[:200]), atol=1e-3
        )

    def test_a_recipe_that_does_not_fit(self, trained: dict[str, keras.Model]) -> None:
        with pytest.raises(ValueError, match=r"weights of conv1 have 4 bits: .* at most 2 bits"):
            qat.low_bit_file(trained["baseline 4"], "weight_only_wi2_afp32")
        with pytest.raises(ValueError, match=r"one of dynamic_wi8_afp32, .*got 'static_wi8_ai8'"):
            qat.low_bit_file(trained["baseline 4"], "static_wi8_ai8")

    def test_a_layer_that_the_recipe_leaves_in_float(
        self, further: dict, calibration: np.ndarray
    ) -> None:
        model = qat.quantize_aware(further["separable"], scheme(4), calibration[:50])
        with pytest.raises(ValueError, match=r"depth2 .*leaves it in float"):
            qat.low_bit_file(model, "dynamic_wi4_afp32")


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("count", [1, 3, 8, 35])
def test_packing(bits: int, count: int) -> None:
    """Against NumPy's own bits, lowest first."""
    q = np.random.default_rng(bits).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), count)
    given = flatbuffer.packed(q.astype(np.int8), bits)
    shown = np.unpackbits(given, bitorder="little")[: count * bits].reshape(count, bits)
    weights = 2 ** np.arange(bits)
    weights[-1] *= -1  # the sign bit
    np.testing.assert_array_equal(shown @ weights, q)
    assert given.size == -(-count * bits // 8)


def test_integers_are_unpacked(trained: dict[str, keras.Model]) -> None:
    content = qat.low_bit_file(trained["baseline 4"], "dynamic_wi4_afp32")
    found = tflite.inspect(content)
    for tensor in (t for t in found.tensors if t.kind == "weights"):
        q = tensor.data
        assert q.shape == tensor.shape
        assert q.min() >= -7
        assert q.max() <= 7
    assert next(t for t in found.tensors if t.kind == "input").data is None
