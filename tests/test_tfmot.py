"""TFMOT beside the course's training: the same network in Keras 2, trained and converted."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from quant_tutorial import metrics, mnist, models, qat, tflite
from quant_tutorial.qat import tfmot as bridge

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

pytestmark = pytest.mark.slow

layers = keras.layers
quantization = tfmot.quantization.keras


def small(*stack: keras.layers.Layer, shape: tuple[int, ...] = (8, 8, 4)) -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input(shape, name="image"), *stack], name="small")


def annotated(bits: int) -> Callable[[Any], Any]:
    """What lesson 08 gives to `clone_model`."""

    def annotate(layer: Any) -> Any:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            return layer
        weighted = layer.weights and bridge.LowBitWeights(bits)
        return quantization.quantize_annotate_layer(layer, quantize_config=weighted or None)

    return annotate


def low_bit(model: Any, bits: int) -> Any:
    copy = tf_keras.models.clone_model(model, clone_function=annotated(bits))
    return quantization.quantize_apply(copy)


def trained(model: Any, images: np.ndarray, labels: np.ndarray) -> Any:
    """Train for a moment; enough for the ranges, in training mode, to leave their start."""
    tf_keras.utils.set_random_seed(1)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf_keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    model.fit(images, labels, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="module")
def keras2(baseline: keras.Model) -> Any:
    return bridge.to_tf_keras(baseline)


@pytest.fixture(scope="module")
def some(data: mnist.Mnist) -> tuple[np.ndarray, np.ndarray]:
    return mnist.to_float(data.x_train[:2_000]), data.y_train[:2_000]


@pytest.fixture(scope="module")
def aware(keras2: Any, some: tuple[np.ndarray, np.ndarray]) -> Any:
    return trained(quantization.quantize_model(keras2), *some)


@pytest.fixture(scope="module")
def four_bit(keras2: Any, some: tuple[np.ndarray, np.ndarray]) -> Any:
    return trained(low_bit(keras2, 4), *some)


def test_baseline_gives_the_same_logits(
    baseline: keras.Model, keras2: Any, x_test: np.ndarray
) -> None:
    x = x_test[:2_000]
    before, after = models.predict(baseline, x), keras2.predict(x, 500, verbose=0)
    np.testing.assert_allclose(after, before, atol=1e-4)
    np.testing.assert_array_equal(after.argmax(-1), before.argmax(-1))
    assert isinstance(keras2, tf_keras.Model)
    assert keras2.name == "baseline"
    assert [layer.name for layer in keras2.layers] == [layer.name for layer in baseline.layers]


def test_training_it_leaves_the_given_model_alone(
    baseline: keras.Model, calibration: np.ndarray
) -> None:
    before = models.predict(baseline, calibration[:50])
    copy = bridge.to_tf_keras(baseline)
    copy.compile("sgd", "mse")
    copy.fit(calibration[:50], np.zeros((50, 10)), verbose=0)
    assert not np.allclose(copy.predict(calibration[:50], verbose=0), before, atol=0.1)
    np.testing.assert_array_equal(models.predict(baseline, calibration[:50]), before)


@pytest.mark.parametrize("kind", ["separable", "residual"])
def test_other_networks_give_the_same(
    kind: str, further: dict[str, Any], calibration: np.ndarray
) -> None:
    copy = bridge.to_tf_keras(further[kind])
    after = copy.predict(calibration, verbose=0)
    np.testing.assert_allclose(after, models.predict(further[kind], calibration), atol=1e-4)


@pytest.mark.parametrize(
    "stack",
    [
        [layers.Conv2D(6, (3, 2), strides=2, padding="same", groups=2, activation="relu6")],
        [layers.Conv2D(3, 3, dilation_rate=2, activation="relu"), layers.Softmax(axis=1)],
        [layers.DepthwiseConv2D(3, depth_multiplier=3, dilation_rate=2, use_bias=False)],
        [layers.DepthwiseConv2D(3, 2, "same", activation="relu"), layers.Conv2D(2, 1)],
        [layers.BatchNormalization(scale=False, epsilon=0.1), layers.ReLU(2.0, 0.1, 0.5)],
        [layers.BatchNormalization(axis=2, center=False), layers.Activation("softmax")],
        [layers.MaxPooling2D(3, 1, "same"), layers.AveragePooling2D((2, 3), 2, "same")],
        [layers.ZeroPadding2D(((1, 2), (3, 0))), layers.GlobalAveragePooling2D(keepdims=True)],
        [layers.Reshape((16, 16)), layers.Dense(3, use_bias=False), layers.Dropout(0.5)],
        [layers.Conv2D(2, 1, use_bias=False), layers.Dense(3, "softmax"), layers.Flatten()],
    ],
    ids=lambda stack: "-".join(type(layer).__name__ for layer in stack),
)
def test_settings_are_carried_over(stack: list[keras.layers.Layer]) -> None:
    model = small(*stack)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    x = rng.normal(size=(5, *model.input_shape[1:])).astype(np.float32)
    after = bridge.to_tf_keras(model)
    np.testing.assert_allclose(after.predict(x, verbose=0), models.predict(model, x), atol=1e-5)
    assert [layer.name for layer in after.layers[1:]] == [layer.name for layer in stack]


def test_what_does_not_show_in_the_outputs_is_carried_over() -> None:
    """Channels first, which TensorFlow computes on GPUs only, and what matters in training."""
    first = {"data_format": "channels_first"}
    stack = [
        layers.ZeroPadding2D(1, **first),
        layers.Conv2D(4, 3, **first),
        layers.BatchNormalization(axis=1, momentum=0.5),
        layers.DepthwiseConv2D(3, **first),
        layers.MaxPooling2D(2, **first),
        layers.AveragePooling2D(2, 1, **first),
        layers.Dense(3, trainable=False),
        layers.Flatten(**first),
        layers.Dropout(0.25, noise_shape=(None, 1), seed=3),
    ]
    pooled = small(layers.GlobalAveragePooling2D(**first), shape=(4, 9, 9))
    for model in (pooled, small(*stack, shape=(4, 9, 9))):
        copy = bridge.to_tf_keras(model)
        for before, after in zip(model.layers, copy.layers[1:], strict=True):
            for name in ("data_format", "momentum", "rate", "noise_shape", "seed"):
                found = [getattr(layer, name, None) for layer in (before, after)]
                assert found[0] == found[1], name
            assert after.trainable == before.trainable
        assert len(copy.trainable_weights) == len(model.trainable_weights)


def _shared() -> keras.Model:
    image, dense = keras.Input((4,)), layers.Dense(4, name="twice")
    return keras.Model(image, dense(dense(image)))


def _expression() -> keras.Model:
    image = keras.Input((4,))
    return keras.Model(image, layers.Dense(4)(image) + image)


def _two_outputs() -> keras.Model:
    image = keras.Input((4,))
    return keras.Model(image, [layers.Dense(4)(image), image])


def _quantized() -> keras.Model:
    model = small(layers.Dense(4, name="dense"), shape=(16,))
    model.quantize("int8")
    return model


class _Subclassed(keras.Model):
    def call(self, x: Any) -> Any:
        return x


def _called() -> keras.Model:
    model = _Subclassed()
    model(np.zeros((1, 4)))
    return model


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: 3, "must be a Keras 3 model, got int"),
        (lambda: tf_keras.Sequential([tf_keras.layers.Input((4,))]), "must be a Keras 3 model"),
        (lambda: keras.Sequential([layers.Dense(2)]), "say the shape of its input"),
        (_Subclassed, "say the shape of its input"),
        (_called, "say the shape of its input"),
        (_two_outputs, "must have one output, it has 2"),
        (lambda: small(layers.UpSampling2D(name="up")), r"Layer up \(UpSampling2D\)"),
        (lambda: small(layers.Conv2DTranspose(2, 3, name="t")), r"Layer t \(Conv2DTranspose\)"),
        (lambda: small(layers.Dense(2, "gelu", name="d")), r"Layer d \(Dense\) .*'gelu'"),
        (_expression, "Add, an operation without a layer"),
        (_shared, "twice .* is used 2 times"),
        (_quantized, "dense .* computes in int8_from_float32"),
        (lambda: small(layers.Dense(2, dtype="mixed_float16")), "computes in mixed_float16"),
    ],
)
def test_refusals(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bridge.to_tf_keras(make())


@pytest.mark.parametrize("bits", [1, 9, 4.5, "4"])
def test_low_bit_weights_refuse(bits: Any) -> None:
    with pytest.raises(ValueError, match="bits must be a whole number from 2 to 8"):
        bridge.LowBitWeights(bits)


def _rounded(kernel: tf.Tensor, bits: int, per_channel: bool) -> tf.Tensor:
    """TensorFlow's fake-quant ops with the range that TFMOT documents for weights."""
    top = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)) if per_channel else None)
    return _fake_quant(kernel, -top, top, bits, per_channel)


def _fake_quant(kernel: Any, low: Any, high: Any, bits: int, per_channel: bool) -> tf.Tensor:
    op = tf.quantization.fake_quant_with_min_max_vars
    op = tf.quantization.fake_quant_with_min_max_vars_per_channel if per_channel else op
    return op(kernel, low, high, num_bits=bits, narrow_range=True)


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_are_rounded_as_by_tensorflow(
    bits: int, keras2: Any, calibration: np.ndarray
) -> None:
    model = quantization.quantize_model(keras2) if bits == 8 else low_bit(keras2, bits)
    x = calibration[:8]
    model(x, training=True)  # a step in training mode sets the ranges of the weights
    conv, dense = (model.get_layer(f"quant_{layer}") for layer in ("conv1", "logits"))
    kernel = conv.trainable_weights[0].numpy()
    expected = tf.nn.conv2d(x, _rounded(kernel, bits, per_channel=True), 1, "SAME")
    np.testing.assert_allclose(conv(x, training=False), expected, atol=1e-5)
    assert not np.allclose(tf.nn.conv2d(x, kernel, 1, "SAME"), expected, atol=1e-4)

    values = np.random.default_rng(0).normal(size=(8, 800)).astype(np.float32)
    kernel, bias = (w.numpy() for w in dense.trainable_weights)
    low, high = (
        next(w for w in dense.weights if w.name.endswith(f"post_activation_{end}:0"))
        for end in ("min", "max")
    )
    expected = tf.quantization.fake_quant_with_min_max_vars(
        values @ _rounded(kernel, bits, per_channel=False) + bias, low, high
    )
    step = (high - low) / 255
    # A value on the edge between two levels may fall to either.
    np.testing.assert_allclose(dense(values, training=False), expected, atol=1.01 * step)
    assert np.isclose(dense(values, training=False), expected, atol=1e-4).mean() > 0.95


@pytest.fixture(scope="module")
def aware_file(aware: Any) -> bytes:
    return tflite.convert(aware, "int8")


@pytest.fixture(scope="module")
def four_bit_file(four_bit: Any) -> bytes:
    return tflite.convert(four_bit, "int8")


# The file has its biases in units of the input's scale times the weights': those of 4-bit weights
# are 18 times as coarse as those of 8-bit ones, and the Keras model leaves biases in float.
@pytest.mark.parametrize(("name", "steps"), [("aware", 1), ("four_bit", 3)])
def test_litert_gives_what_the_trained_model_gives(
    name: str,
    steps: int,
    request: pytest.FixtureRequest,
    data: mnist.Mnist,
    x_test: np.ndarray,
) -> None:
    content = request.getfixturevalue(f"{name}_file")
    assert tflite.inspect(content).integer_only
    x, y = x_test[:2_000], data.y_test[:2_000]
    in_keras = request.getfixturevalue(name).predict(x, 500, verbose=0)
    in_file = tflite.evaluate(content, x, y)
    step = tflite.input_output(content)[1].params.scale
    apart = np.abs(in_keras - in_file.outputs) / step
    assert np.quantile(apart, 0.99) < steps + 0.01
    assert metrics.agreement(in_keras.argmax(-1), in_file.predictions) > 0.998
    assert in_file.accuracy > 0.97


def _trained_integers(model: Any, name: str, bits: int) -> np.ndarray:
    """The integers of a kernel as TensorFlow rounds it with the model's range, in file order."""
    layer, per_channel = model.get_layer(f"quant_{name}"), name != "logits"
    kernel = layer.trainable_weights[0]
    # The range of the last training step: the kernel has moved once more since.
    top = next(w for w in layer.weights if w.name.endswith("kernel_max:0"))
    q = np.rint(_fake_quant(kernel, -top, top, bits, per_channel) * ((2 ** (bits - 1) - 1) / top))
    if "depth" in name:  # (height, width, inputs, multiplier)
        return q.reshape(1, *q.shape[:2], -1)
    return np.moveaxis(q, -1, 0)


def test_the_package_annotates_as_the_lesson_does(
    baseline: keras.Model, keras2: Any, x_test: np.ndarray
) -> None:
    mine, lesson = bridge.quantize_low_bit(baseline, 3), low_bit(keras2, 3)
    assert [type(layer) for layer in mine.layers] == [type(layer) for layer in lesson.layers]
    for one, other in zip(mine.get_weights(), lesson.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    logits = [np.asarray(model(x_test[:20])) for model in (mine, lesson)]
    np.testing.assert_array_equal(*logits)
    with pytest.raises(ValueError, match="2 to 8"):
        bridge.quantize_low_bit(baseline, 9)


def test_training_leaves_the_float_model_alone(
    aware: Any, four_bit: Any, keras2: Any, baseline: keras.Model, calibration: np.ndarray
) -> None:
    """Annotating takes over the layers themselves; quantize_apply makes copies of them."""
    expected = models.predict(baseline, calibration)
    np.testing.assert_allclose(keras2.predict(calibration, verbose=0), expected, atol=1e-4)
    for model in (aware, four_bit):
        assert not np.allclose(model.predict(calibration, verbose=0), expected, atol=0.1)


@pytest.mark.parametrize(("name", "bits", "kind"), [("aware", 8, "int8"), ("four_bit", 4, "int4")])
def test_the_file_holds_the_trained_integers(
    name: str, bits: int, kind: str, request: pytest.FixtureRequest
) -> None:
    """Batch norm is folded into the scales of the channels and leaves the integers alone."""
    model, content = (request.getfixturevalue(f"{name}{suffix}") for suffix in ("", "_file"))
    assert [t.type for t in tflite.tensors(content) if t.kind == "weights"] == [kind] * 4
    found = qat.file_weights(content)
    for layer in ("conv1", "conv2", "conv3", "logits"):
        stored, scales = found[f"quant_{layer}"]
        np.testing.assert_array_equal(stored, _trained_integers(model, layer, bits))
        assert scales.size == (1 if layer == "logits" else stored.shape[0])


@pytest.mark.parametrize(
    ("bits", "kind", "levels"),
    [
        # The converter knows 4 and 8 bits only: steps of other widths are not multiples of its.
        (5, "int8", np.sign(n := np.arange(-15, 16)) * np.floor(np.abs(n) * 127 / 15 + 0.5)),
        (3, "int4", [-7, -5, -2, 0, 2, 5, 7]),
        (2, "int4", [-7, 0, 7]),
    ],
)
def test_other_widths_have_uneven_levels_in_the_file(
    keras2: Any, calibration: np.ndarray, bits: int, kind: str, levels: Any
) -> None:
    model = low_bit(keras2, bits)
    model(calibration[:32], training=True)
    content = tflite.convert(model, "int8")
    assert {t.type for t in tflite.tensors(content) if t.kind == "weights"} == {kind}
    integers = [q for q, _ in qat.file_weights(content).values()]
    assert {int(n) for q in integers for n in np.unique(q)} == {int(n) for n in levels}


def test_low_bit_depthwise_convolutions(further: dict[str, Any], calibration: np.ndarray) -> None:
    """TFMOT gives a depthwise kernel one range for each multiplier, not for each channel."""
    model = low_bit(bridge.to_tf_keras(further["separable"]), 4)
    model(calibration[:50], training=True)  # sets the ranges of the weights
    found = qat.file_weights(tflite.convert(model, "int8"))
    for layer, channels in (("depth2", 16), ("depth4", 64)):
        stored, scales = found[f"quant_{layer}"]
        np.testing.assert_array_equal(stored, _trained_integers(model, layer, 4))
        assert scales.size == channels  # the folding of batch norm makes them differ


def test_ranges_start_at_six_and_move_slowly(keras2: Any, calibration: np.ndarray) -> None:
    """The lesson says so: what is left of −6 after n steps is 0.999ⁿ of it."""
    model = quantization.quantize_model(keras2)
    relu = model.get_layer("quant_relu1")
    low = next(w for w in relu.weights if w.name.endswith("output_min:0"))
    assert low.numpy() == -6
    for _ in range(20):
        model(calibration[:16], training=True)
    assert low.numpy() == pytest.approx(-6 * 0.999**20, rel=1e-5)


def test_a_folded_network_loses_its_configuration(baseline: keras.Model) -> None:
    """A defect of TFMOT that the docstring warns of: when this fails, the warning can go."""
    model = low_bit(bridge.to_tf_keras(models.fold_batch_norm(baseline)), 4)
    conv, dense = model.get_layer("quant_conv1"), model.get_layer("quant_logits")
    assert type(conv.quantize_config).__name__ == "NoOpQuantizeConfig"
    assert isinstance(dense.quantize_config, bridge.LowBitWeights)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_where_each_stands(baseline: keras.Model) -> None:
    """What the lesson says of TFMOT, Keras 3 and the copied write-up."""
    with pytest.raises(ValueError, match="can only either be a keras Sequential or Functional"):
        quantization.quantize_model(baseline)
    with pytest.raises(AttributeError, match="no attribute 'quantize_model'"):
        _ = tf.quantization.quantize_model
    copy = models.load_baseline()
    with pytest.warns(UserWarning, match="Layer Conv2D does not have a `quantize` method"):
        copy.quantize("int8")
    assert {layer.name: layer.dtype_policy.name for layer in copy.layers if layer.weights} == {
        **{f"{kind}{n}": "float32" for n in (1, 2, 3) for kind in ("conv", "bn")},
        "logits": "int8_from_float32",
    }


# A reader's kernel shows what is written to the descriptors, so that a process of its own is asked.
LESSON = """
import os
from quant_tutorial import models
from quant_tutorial.qat import tfmot as bridge
import tensorflow as tf
print(tf.keras.version()[:2], os.environ.get("TF_USE_LEGACY_KERAS"))
import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras

keras2 = bridge.to_tf_keras(models.build_baseline())
aware = tfmot.quantization.keras.quantize_model(keras2)
aware.compile("adam", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
aware.fit(np.zeros((8, 28, 28, 1)), np.zeros(8), verbose=0)
aware.evaluate(np.zeros((8, 28, 28, 1)), np.zeros(8), verbose=0)

annotate = tfmot.quantization.keras.quantize_annotate_layer
head = tf_keras.Sequential([annotate(tf_keras.layers.Dense(2), bridge.LowBitWeights(4))])
head.build((None, 3))
tfmot.quantization.keras.quantize_apply(head)
"""


def test_nothing_else_is_printed_and_keras_stays_keras_3() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    command = [sys.executable, "-c", LESSON]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "3. None\n", "")
