"""Readers' own models: values that spoil a file are found before; no raw text of others."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from quant_tutorial import flatbuffer, metrics, models, qat, quiet, simulate, tflite
from quant_tutorial.qat import tfmot
from quant_tutorial.scheme import named_scheme
from quant_tutorial.tflite import biases, soundness

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

layers = keras.layers
SHAPE = (8, 8, 1)


def images(count: int = 40, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (count, *shape)).astype(np.float32)


def network(outputs: int = 5, *, kind: str = "conv", dtype: str = "float32") -> keras.Model:
    """A convolution (or depthwise one) with batch norm and ReLU, another one, and a dense layer."""
    keras.utils.set_random_seed(0)
    options = {"padding": "same", "use_bias": False, "name": "first"}
    with_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        image = keras.Input(SHAPE if kind != "depthwise" else (8, 8, 6))
        first = {
            "conv": lambda: layers.Conv2D(8, 3, **options),
            "depthwise": lambda: layers.DepthwiseConv2D(3, **options),
        }[kind]()
        x = layers.ReLU(name="relu1")(layers.BatchNormalization(name="norm")(first(image)))
        x = layers.ReLU(name="relu2")(layers.Conv2D(8, 3, name="second")(x))
        return keras.Model(image, layers.Dense(outputs, name="logits")(layers.Flatten()(x)))
    finally:
        keras.config.set_dtype_policy(with_policy)


def with_channel(model: keras.Model, gamma: float, beta: float, channel: int = 2) -> keras.Model:
    norm = model.get_layer("norm")
    for variable, value in ((norm.gamma, gamma), (norm.beta, beta)):
        values = variable.numpy()
        values[channel] = value
        variable.assign(values)
    return model


class TestWeights:
    """NaN and infinite weights are found before anything else, by layer."""

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize(
        ("layer", "number", "name"),
        [("second", 0, "second/kernel"), ("logits", 1, "logits/bias"), ("norm", 3, "variance")],
    )
    def test_by_name(self, layer: str, number: int, name: str, value: float) -> None:
        model = network()
        weights = model.get_layer(layer).get_weights()
        weights[number].flat[1] = value
        model.get_layer(layer).set_weights(weights)
        ways: list[Callable[[], Any]] = [
            lambda: tflite.convert(model, "float32"),
            lambda: tflite.convert(model, "int8", calibration=images()),
            lambda: tflite.export_litert(model),
            lambda: simulate.Simulator(model, images()),
            lambda: qat.quantize_aware(model, named_scheme(8, 8), images()),
        ]
        for way in ways:
            with pytest.raises(ValueError, match=f"{name} hold 1 NaN or infinite values of"):
                way()

    def test_of_a_float_file(self) -> None:
        model = network()
        content = bytearray(tflite.export_litert(model))
        second = model.get_layer("second")
        kernel = models.litert_layout(second, models.weights(model)["second"])
        flatbuffer.constant_view(content, kernel)[3] = np.nan
        for name in ("dynamic_wi8_afp32", "weight_only_wi4_afp32", "static_wi8_ai8"):
            given = images() if name.startswith("static") else None
            with pytest.raises(ValueError, match=r"the weights of op 1 .*second.* hold NaN"):
                tflite.apply_recipe(bytes(content), name, calibration=given)


class _Hidden(layers.Layer):
    """Computes log(x) inside, with finite outputs, in a function of TensorFlow."""

    @tf.function
    def inner(self, x: Any) -> Any:
        return tf.exp(tf.math.log(x))

    def call(self, x: Any) -> Any:
        return self.inner(x)


class _Visible(layers.Layer):
    def call(self, x: Any) -> Any:
        return keras.ops.exp(keras.ops.log(x))


def of_a_layer(layer: Any) -> keras.Model:
    image = keras.Input((4,), name="image")
    x = layers.Dense(3, name="before", kernel_initializer="ones")(image)
    return keras.Model(image, layers.Dense(2, name="after")(layer(x)))


def zeros_at(row: int) -> np.ndarray:
    found = images(150, (4,))
    found[row] = 0
    return found


class TestValues:
    """A layer that computes NaN or infinite values is named; the converter ends the process."""

    CASES = (
        (lambda: of_a_layer(keras.ops.log), "The operation Log after before"),
        (lambda: of_a_layer(lambda x: 1 / x), "after before"),
        (lambda: of_a_layer(layers.Lambda(tf.math.log, name="own")), "Layer own"),
        (lambda: of_a_layer(_Visible(name="visible")), "Layer visible"),
        (lambda: of_a_layer(_Hidden(name="hidden")), r"Op 1 \(LOG.*\)"),
        (lambda: of_a_layer(layers.Activation(tf.math.rsqrt, name="root")), "Layer root"),
    )

    @pytest.mark.parametrize(("make", "name"), CASES)
    @pytest.mark.parametrize("row", [3, 117])
    @pytest.mark.slow
    def test_by_name(self, make: Callable[[], Any], name: str, row: int) -> None:
        model, given = make(), zeros_at(row)
        message = f"{name} computes NaN or infinite values from calibration image {row}, "
        is_first = row == 3  # of an image of another batch the same is told in every mode
        for mode in ("int8", "int8_fallback", "int16x8") if is_first else ("int8",):
            with pytest.raises(ValueError, match=message):
                tflite.convert(model, mode, calibration=given)
        # There the recipe leaves them in float.
        if is_first and "visible" not in name and "LOG" not in name:
            exported = tflite.export_litert(model)
            with pytest.raises(ValueError, match="computes NaN or infinite values"):
                tflite.apply_recipe(exported, "static_wi8_ai8", calibration=given)
        soundness.finite_outputs(model, np.delete(given, row, axis=0))

    @pytest.mark.slow
    def test_of_other_kinds_of_models(self, tmp_path: Any) -> None:
        given = zeros_at(5)
        folder = tmp_path / "saved"
        with quiet.all_output():
            of_a_layer(keras.ops.log).export(folder, verbose=False)
        with pytest.raises(ValueError, match=r"Op 1 \(LOG.*from calibration image 5"):
            tflite.convert(folder, "int8", calibration=given)
        old = tf_keras.Sequential(
            [tf_keras.Input((4,)), tf_keras.layers.Lambda(tf.math.log, name="log2")]
        )
        with pytest.raises(ValueError, match=r"Layer log2 computes .* calibration image 5"):
            tflite.convert(old, "int8", calibration=given)

    def test_nested_and_of_a_fixed_batch(self) -> None:
        inner = keras.Sequential(
            [keras.Input((4,)), layers.Lambda(tf.math.log, name="own")], name="inner"
        )
        image = keras.Input(batch_shape=(7, 4))
        model = keras.Model(image, layers.Dense(2)(inner(image)))
        with pytest.raises(ValueError, match=r"Layer own computes .* image 40"):
            soundness.finite_outputs(model, zeros_at(40))

    def test_the_simulator_names_the_layer(self) -> None:
        model = keras.Sequential(
            [keras.Input((4,)), layers.Dense(3, name="small"), layers.Dense(2, name="large")]
        )
        model.get_layer("large").kernel.assign(np.full((3, 2), 3e38))
        model.get_layer("small").kernel.assign(np.ones((4, 3)))
        with pytest.raises(ValueError, match=r"Layer large computes .* image 0, so"):
            simulate.Simulator(model, images(9, (4,)))

    @pytest.mark.slow
    def test_the_process_goes_on(self) -> None:
        """What ended it with signal 11, in a process of its own."""
        code = (
            "import keras, numpy as np\nfrom quant_tutorial import tflite\n"
            "i = keras.Input((4,))\nm = keras.Model(i, keras.layers.Dense(2)(keras.ops.log(i)))\n"
            "x = np.ones((9, 4), 'float32'); x[3, 1] = 0\n"
            "try: tflite.convert(m, 'int8', calibration=x)\n"
            "except ValueError as error: print(error)\n"
        )
        code = code.replace(
            "import keras, numpy as np\nfrom quant_tutorial import tflite\n",
            "from quant_tutorial import tflite\nimport keras, numpy as np\n",
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "The operation Log on the input computes NaN" in done.stdout

    @pytest.mark.slow
    def test_sound_models_pass(self, baseline: Any, calibration: np.ndarray) -> None:
        soundness.finite_outputs(baseline, calibration)


def largest_bias_error(content: bytes, expected: np.ndarray) -> float:
    """Return by how many steps the first layer's biases in a file are off at most."""
    op = next(op for op in flatbuffer.graph(content).ops if op.type in flatbuffer.WEIGHTED)
    bias = op.inputs[2]
    return float(np.abs(bias.data.ravel() - expected / bias.scales).max())


@pytest.mark.slow
class TestSwitchedOffChannels:
    """A channel with weights of next to nothing keeps its bias in every kind of file."""

    @pytest.mark.parametrize("kind", ["conv", "depthwise"])
    def test_static_recipes_and_trained_files(self, kind: str) -> None:
        model = network(kind=kind)
        for channel, settings in enumerate([(0, 1), (1e-6, 1), (1e-6, 7), (-1e-9, 0.3)], 1):
            with_channel(model, *settings, channel)
        given = images(200, model.input_shape[1:])
        folded = models.fold_batch_norm(model)
        bias = folded.get_layer("first").bias.numpy()
        floats = models.predict(model, given)
        exported = tflite.export_litert(model)
        trained = qat.quantize_aware(model, named_scheme(8, 8), given)
        found = {
            "int8": tflite.convert(model, "int8", calibration=given),
            "static": tflite.apply_recipe(exported, "static_wi8_ai8", calibration=given),
            "16x8": tflite.apply_recipe(exported, "static_wi8_ai16", calibration=given),
            "trained": qat.int8_file(trained),
        }
        for name, content in found.items():
            # Half a step, and 2^29 steps have 24 bits in float32.
            assert largest_bias_error(content, bias) <= 32, name
            outputs = tflite.predict(content, given)
            assert metrics.agreement(outputs.argmax(1), floats.argmax(1)) >= 0.93, name

    def test_the_other_integers_stay(self) -> None:
        model, given = with_channel(network(), 0, 1), images(100)
        exported = tflite.export_litert(model)
        content = tflite.apply_recipe(exported, "static_wi8_ai8", calibration=given)
        weights = next(op for op in flatbuffer.graph(content).ops if op.type == "CONV_2D").inputs[1]
        kernel = models.weights(models.fold_batch_norm(model))["first"]
        expected = np.moveaxis(kernel, -1, 0) / weights.scales.reshape(-1, 1, 1, 1)
        assert not weights.data[2].any()
        np.testing.assert_allclose(weights.data, expected, atol=0.501)
        assert (np.delete(np.abs(weights.data), 2, 0).max(axis=(1, 2, 3)) == 127).all()
        assert biases.lost(exported, content) == []

    def test_sound_files_stay_as_they_are(self, exported: bytes, calibration: np.ndarray) -> None:
        content = tflite.apply_recipe(exported, "static_wi8_ai8", calibration=calibration[:100])
        assert biases.lost(exported, content) == []


def all_zero(where: str) -> tuple[keras.Model, np.ndarray]:
    """A model with a ReLU that is always 0, in different places, and images."""
    keras.utils.set_random_seed(0)
    dead = {
        "activation": "relu",
        "kernel_initializer": "zeros",
        "bias_initializer": keras.initializers.Constant(-1),
        "name": "dead",
    }
    image, given = keras.Input(SHAPE), images()
    if where == "dense":
        x = layers.Dense(4, **dead)(layers.Flatten()(image))
    elif where == "alone":
        x, given = layers.ReLU(name="dead")(layers.MaxPooling2D(name="pool")(image)), -given
    elif where == "pooling":
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, **dead)(image))
    else:
        x = layers.Conv2D(1, 3, padding="same", **dead)(image)
        x = layers.Add(name="add")([x, image])
    return keras.Model(image, layers.Dense(2, name="logits")(layers.Flatten()(x))), given


@pytest.mark.slow
@pytest.mark.parametrize("where", ["dense", "alone", "pooling", "add"])
@pytest.mark.parametrize("way", ["int8", "int16x8", "static_wi8_ai8", "static_wi8_ai16", "qat"])
def test_a_relu_that_is_always_0(where: str, way: str) -> None:
    """The file is right, or it is refused with the layer named."""
    model, given = all_zero(where)

    def made() -> bytes:
        if way == "qat":
            return qat.int8_file(qat.quantize_aware(model, named_scheme(8, 8), given))
        if way in tflite.RECIPES:
            exported = tflite.export_litert(model)
            return tflite.apply_recipe(exported, way, calibration=given, input_range=None)
        return tflite.convert(model, way, calibration=given, input_range=None)

    refused = {
        ("dense", "int16x8"),
        ("pooling", "int16x8"),
        *(("alone", refusing) for refusing in ("int8", "int16x8", "static_wi8_ai8")),
    }
    if (where, way) in refused:
        message = r"LiteRT cannot run the file that results .*dead\)? returns 0 for all calibration"
        with pytest.raises(ValueError, match=message):
            made()
        return
    expected, outputs = models.predict(model, given), tflite.predict(made(), given)
    # Where the quantizer averages the ranges over the images, it clips those with the largest.
    limit = 5 if way.startswith("static") else 15
    assert not expected.any() or metrics.sqnr_db(expected, outputs) > limit
    assert expected.any() or not outputs.any()


class TestTypes:
    @pytest.mark.parametrize(
        "policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"]
    )
    def test_other_floats_are_refused_with_the_way_out(self, policy: str) -> None:
        model = network(dtype=policy)
        message = rf"Layer first \(Conv2D\) computes in {policy}.*set_weights"
        ways: list[Callable[[], Any]] = [
            lambda: tflite.convert(model, "float32"),
            lambda: tflite.convert(model, "int8", calibration=images()),
            lambda: tflite.export_litert(model),
            lambda: simulate.simulate(model, named_scheme(8, 8), images()),
            lambda: qat.quantize_aware(model, named_scheme(8, 8), images()),
        ]
        for way in ways:
            with pytest.raises(ValueError, match=message):
                way()
        new = network()
        new.set_weights(model.get_weights())
        expected = np.asarray(models.predict(model, images()), np.float32)
        np.testing.assert_allclose(models.predict(new, images()), expected, atol=0.05)
        tflite.convert(new, "float32")

    def test_one_layer_in_a_nested_model(self) -> None:
        inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="float64", name="wide")])
        model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(2)])
        with pytest.raises(ValueError, match=r"Layer wide \(Dense\) computes in float64"):
            tflite.convert(model, "float32")

    @pytest.mark.parametrize("mode", ["int8", "int4"])
    def test_a_model_that_keras_has_quantized(self, mode: str) -> None:
        model = keras.Sequential(
            [keras.Input((8,)), layers.Dense(4, name="hidden"), layers.Dense(2)]
        )
        model.quantize(mode)
        for way in (
            lambda: qat.quantize_aware(model, named_scheme(8, 8), images(9, (8,))),
            lambda: simulate.Simulator(model, images(9, (8,))),
            lambda: tflite.convert(model, "float32"),
            lambda: tflite.export_litert(model),
        ):
            with pytest.raises(ValueError, match=rf"Layer hidden .*{mode} weights of Keras' own"):
                way()


AUGMENTATION: dict[str, Callable[[], Any]] = {
    "RandomFlip": lambda: layers.RandomFlip(),
    "RandomRotation": lambda: layers.RandomRotation(0.2),
    "RandomZoom": lambda: layers.RandomZoom(0.2),
    "RandomContrast": lambda: layers.RandomContrast(0.2),
    "RandomCrop": lambda: layers.RandomCrop(8, 8),
    "RandomErasing": lambda: layers.RandomErasing(),
    "GaussianNoise": lambda: layers.GaussianNoise(0.3),
    "GaussianDropout": lambda: layers.GaussianDropout(0.3),
    "SpatialDropout2D": lambda: layers.SpatialDropout2D(0.3),
    "ActivityRegularization": lambda: layers.ActivityRegularization(0.1),
    "nested": lambda: keras.Sequential([layers.RandomFlip(), layers.RandomTranslation(0.1, 0.1)]),
}


class TestAugmentation:
    """Layers that only augment in training are passed over, as Keras does in inference."""

    def model(self, name: str) -> keras.Model:
        keras.utils.set_random_seed(0)
        tail = [layers.Conv2D(4, 3, name="conv"), layers.ReLU(), layers.Flatten()]
        return keras.Sequential(
            [keras.Input(SHAPE), AUGMENTATION[name](), *tail, layers.Dense(3, name="logits")]
        )

    @pytest.mark.parametrize("name", AUGMENTATION)
    @pytest.mark.slow
    def test_files(self, name: str) -> None:
        model, given = self.model(name), images()
        expected = models.predict(model, given)
        np.testing.assert_array_equal(models.predict(model, given), expected)  # nothing random
        content = tflite.convert(model, "float32")
        assert tflite.inspect(content).op_types == ("CONV_2D", "RESHAPE", "FULLY_CONNECTED")
        np.testing.assert_allclose(tflite.predict(content, given), expected, atol=1e-5)
        int8 = tflite.convert(model, "int8", calibration=given)
        assert tflite.inspect(int8).integer_only
        assert tflite.inspect(int8).ops[0].layers[0] == "conv"
        assert metrics.sqnr_db(expected, tflite.predict(int8, given)) > 30

    @pytest.mark.parametrize("name", AUGMENTATION)
    def test_simulated_and_trained(self, name: str) -> None:
        model, given = self.model(name), images()
        simulator = simulate.Simulator(model, given)
        assert simulator.layers == ("conv", "logits")
        np.testing.assert_allclose(
            models.predict(simulator.model, given), models.predict(model, given), atol=1e-5
        )
        trained = qat.quantize_aware(model, named_scheme(8, 8), given)
        assert "conv" in [layer.name for layer in trained.layers]
        if name != "nested":
            old = tfmot.to_tf_keras(model)
            np.testing.assert_allclose(old(given), models.predict(model, given), atol=1e-5)

    def test_a_crop_that_does_something_stays_refused(self) -> None:
        """In inference Keras crops nothing, and says that it does."""
        model = keras.Sequential([keras.Input(SHAPE), layers.RandomCrop(6, 6, name="crop")])
        assert models.predict(model, images()).shape[1:] == SHAPE != model.output_shape[1:]
        for use in (
            simulate.prepare,
            lambda model: tflite.convert(model, "float32"),
            tflite.export_litert,
        ):
            with pytest.raises(ValueError, match=r"Layer crop .*\(6, 6, 1\).*layers.CenterCrop"):
                use(model)

    @pytest.mark.parametrize("size", [(6, 6), (5, 8), (7, 2)])
    def test_a_crop_of_the_middle(self, size: tuple[int, int]) -> None:
        model = keras.Sequential(
            [keras.Input(SHAPE), layers.CenterCrop(*size), layers.Conv2D(2, 1)]
        )
        prepared = simulate.prepare(model)
        expected = models.predict(model, images())
        np.testing.assert_allclose(models.predict(prepared, images()), expected, atol=1e-6)
        larger = keras.Sequential([keras.Input(SHAPE), layers.CenterCrop(9, 6, name="crop")])
        with pytest.raises(ValueError, match=r"Layer crop .*makes the images larger; use Resizing"):
            simulate.prepare(larger)

    @pytest.mark.slow
    def test_a_layer_of_the_readers_own_that_trains_by_default(self) -> None:
        class Noisy(layers.Layer):
            def call(self, x: Any, training: bool = True) -> Any:
                return x + 1 if training else x

        model = keras.Sequential([keras.Input((4,)), Noisy(), layers.Dense(2)])
        given = images(9, (4,))
        content = tflite.convert(model, "float32")
        np.testing.assert_allclose(
            tflite.predict(content, given), models.predict(model, given), atol=1e-6
        )


class _Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.conv, self.norm = layers.Conv2D(4, 3), layers.BatchNormalization()

    def call(self, x: Any) -> Any:
        return self.norm(self.conv(x))


class _Block(layers.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 3)
        self.norm = layers.BatchNormalization(name="inside")

    def call(self, x: Any) -> Any:
        return self.norm(self.conv(x))


class TestFolding:
    def settled(self, model: keras.Model) -> keras.Model:
        random = np.random.default_rng(1)
        for layer in model._flatten_layers():
            if isinstance(layer, layers.BatchNormalization):
                layer.set_weights([random.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
        return model

    def base(self, depth: int) -> keras.Model:
        image = keras.Input(SHAPE)
        x = layers.Conv2D(4, 3, use_bias=False, name=f"conv{depth}")(image)
        x = layers.ReLU()(layers.BatchNormalization(name=f"norm{depth}")(x))
        if depth:
            inner = keras.Sequential(
                [
                    keras.Input(x.shape[1:]),
                    layers.DepthwiseConv2D(3, name="deep"),
                    layers.BatchNormalization(name="deepest"),
                ],
                name="inner",
            )
            x = inner(x)
        return keras.Model(image, x, name="base")

    @pytest.mark.parametrize("depth", [0, 1])
    def test_nested_models(self, depth: int) -> None:
        image = keras.Input(SHAPE)
        x = layers.Conv2D(1, 1, name="outer")(image)
        x = self.base(depth)(layers.BatchNormalization(name="norm")(x))
        model = self.settled(keras.Model(image, layers.Dense(2)(layers.Flatten()(x))))
        expected = models.predict(model, images())
        folded = models.fold_batch_norm(model)
        kinds = [type(layer) for layer in folded._flatten_layers()]
        assert layers.BatchNormalization not in kinds
        np.testing.assert_allclose(models.predict(folded, images()), expected, atol=1e-5)
        np.testing.assert_array_equal(models.predict(model, images()), expected)
        assert [layer.name for layer in folded.layers if isinstance(layer, keras.Model)] == ["base"]
        counted = 8 * 8 + 6 * 6 * 4 * 9 + (4 * 4 * 4 * 9 + 64 * 2 if depth else 144 * 2)
        assert models.multiply_adds(model) == counted
        with pytest.raises(ValueError, match=r"call weights\(model.get_layer\('base'\)\)"):
            models.weights(model)
        assert f"conv{depth}" in str(
            models.weights(model.get_layer("base")) if not depth else "conv1"
        )

    def test_lambda_layers_stay(self) -> None:
        factor = 3.0
        image = keras.Input(SHAPE)
        x = layers.BatchNormalization()(layers.Conv2D(4, 3)(image))
        x = layers.Lambda(lambda t: factor * layers.ReLU()(t), name="own")(x)
        model = self.settled(keras.Model(image, layers.Flatten()(x)))
        folded = models.fold_batch_norm(model)
        assert layers.BatchNormalization not in map(type, folded.layers)
        expected = models.predict(model, images())
        np.testing.assert_allclose(models.predict(folded, images()), expected, atol=1e-5)
        assert models.multiply_adds(model) == 36 * 4 * 9
        copy = models.copied(model)
        np.testing.assert_array_equal(models.predict(copy, images()), expected)

    def test_what_shows_no_layers(self) -> None:
        model = _Subclassed()
        model(images())
        for function in (models.fold_batch_norm, models.multiply_adds, simulate.prepare):
            with pytest.raises(ValueError, match=r"must be a built .*Subclassed.*keras\.Model\("):
                function(model)
            with pytest.raises(ValueError, match="must be a built"):
                function(keras.Sequential([layers.Dense(2)]))
        image = keras.Input(SHAPE)
        model = keras.Model(image, _Block(name="block")(image))
        with pytest.raises(ValueError, match=r"norm inside .*inside layer block \(_Block\)"):
            models.fold_batch_norm(model)

    def test_shared_layers(self) -> None:
        first, second = keras.Input((4,)), keras.Input((4,))
        dense, norm = layers.Dense(3, name="dense"), layers.BatchNormalization(name="norm")
        shared = keras.Model([first, second], [norm(dense(first)), norm(dense(second))])
        with pytest.raises(ValueError, match="norm norm cannot be folded: it is used 2 times"):
            models.fold_batch_norm(shared)

    def test_a_layer_that_does_not_tell_its_settings(self) -> None:
        class Scaled(layers.Layer):
            def __init__(self, factor: float) -> None:
                super().__init__(name="scaled")
                self.factor = factor

            def call(self, x: Any) -> Any:
                return x

        model = keras.Sequential([keras.Input((4,)), layers.Dense(2), Scaled(object())])
        with pytest.raises(ValueError, match=r"Layer scaled \(Scaled\) cannot be copied.*get_conf"):
            models.copied(model)


class TestOneOutput:
    def model(self) -> keras.Model:
        keras.utils.set_random_seed(0)
        return keras.Sequential(
            [keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(1, name="last")]
        )

    def test_accuracy(self) -> None:
        outputs, labels = np.array([[0.2], [0.9], [0.7]]), np.array([0, 1, 0])
        with pytest.raises(ValueError, match=r"two classes or more, got the shape \(3, 1\).*> 0.5"):
            metrics.accuracy(outputs, labels)
        # The way out that the message names.
        assert metrics.accuracy((outputs[:, 0] > 0.5).astype(int), labels) == pytest.approx(2 / 3)

    def test_sensitivity_and_search(self) -> None:
        model, given, scheme = self.model(), images(60, (6,)), named_scheme(8, 8)
        labels = (models.predict(model, given)[:, 0] > 0).astype(int)
        simulator = simulate.Simulator(model, given)
        run = simulate.StagedRun(simulator, given)
        message = r"model .* must return one number .*shape \(None, 1\).*Dense\(2\)"
        with pytest.raises(ValueError, match=message):
            simulate.layer_sensitivity(simulator, run, labels, scheme)
        with pytest.raises(ValueError, match=message):
            simulate.search_bits(simulator, run, labels, scheme, accuracy=0.9)
        # The way out that the message names: two logits with the same answers.
        last = model.get_layer("last")
        two = layers.Dense(2, name="two")
        model = keras.Model(model.inputs[0], two(last.input))
        two.set_weights(
            [
                np.concatenate([np.zeros_like(last.kernel), last.kernel], axis=1),
                np.concatenate([[0], last.bias]),
            ]
        )
        simulator = simulate.Simulator(model, given)
        rows = simulate.layer_sensitivity(
            simulator, simulate.StagedRun(simulator, given), labels, scheme
        )
        assert [row.layer for row in rows] == list(simulator.layers)
        assert min(row.alone for row in rows) >= 0.95

    @pytest.mark.slow
    def test_evaluate(self) -> None:
        content, given = tflite.convert(self.model(), "float32"), images(9, (6,))
        with pytest.raises(ValueError, match=r"give one number.*predict.*> 0 where it is a logit"):
            tflite.evaluate(content, given, np.zeros(9, int))


class TestLabels:
    OUTPUTS = np.eye(3)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (list("abc"), "labels must hold the number of a class.*<U1 such as 'a'. Number"),
            (["cat", "dog", "cow"], "such as 'cat'"),
            ([0, 1, np.nan], "got NaN or infinite values, the first at 2. Leave"),
            ([0, 1.5, 2], "got 1.5"),
            (np.array([0, 1, None]), "got object such as 0"),
        ],
    )
    def test_refused(self, labels: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            metrics.accuracy(self.OUTPUTS, labels)
        with pytest.raises(ValueError, match=message):
            metrics.confusion([0, 1, 2], labels)

    @pytest.mark.parametrize("kind", [int, np.uint8, float, np.float32])
    def test_taken(self, kind: Any) -> None:
        labels = np.array([0, 1, 1], kind)
        assert metrics.accuracy(self.OUTPUTS, labels) == pytest.approx(2 / 3)
        assert metrics.confusion([0, 1, 2], labels, 3).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
        assert metrics.accuracy(np.eye(2), np.array([False, True])) == 1

    @pytest.mark.slow
    def test_evaluate(self) -> None:
        content, given = tflite.convert(network(3), "float32"), images(6)
        for labels in (list("010101"), [0, 1, np.nan, 0, 1, 2]):
            with pytest.raises(ValueError, match="y must hold the number of a class"):
                tflite.evaluate(content, given, labels)
        whole = tflite.evaluate(content, given, np.arange(6) % 3)
        assert (
            tflite.evaluate(content, given, (np.arange(6) % 3).astype(float)).accuracy
            == whole.accuracy
        )


class TestMessages:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                tf.data.Dataset.from_tensor_slices(images()).batch(8),
                r"got _BatchDataset: .*\[images for images in data\.take\(5\)\]",
            ),
            (
                tf.data.Dataset.from_tensor_slices((images(), np.arange(40))).batch(8),
                r"\[images for images, \*_ in data\.take\(5\)\]",
            ),
            ({"image": images()}, r"got dict: give the array .* \(the keys are 'image'\)"),
            ((images(), np.arange(40)), "got a pair, as of images and labels: give the images"),
            ((images(), list(range(40))), "got a pair"),
            ([images(), None], "got a pair"),
        ],
        ids=["tf.data", "tf.data with labels", "dict", "pair", "pair with list", "pair with None"],
    )
    def test_calibration(self, given: Any, message: str) -> None:
        model = network()
        for way in (
            lambda: simulate.Simulator(model, given),
            lambda: tflite.convert(model, "int8", calibration=given),
        ):
            with pytest.raises(ValueError, match=message):
                way()

    def test_the_way_out_of_a_set(self) -> None:
        data = tf.data.Dataset.from_tensor_slices((images(), np.arange(40))).batch(8)
        given = np.concatenate([images for images, *_ in data.take(5)])
        np.testing.assert_array_equal(given, images())
        data = tf.data.Dataset.from_tensor_slices(images()).batch(8)
        given = np.concatenate([images for images in data.take(5)])
        simulate.Simulator(network(), given)

    def test_two_images_are_no_pair(self) -> None:
        simulate.Simulator(network(), list(images(2)))
        simulate.Simulator(network(), tuple(images(2)))

    @pytest.mark.parametrize(
        "given",
        [
            0,
            5,
            True,
            "01",
            (0,),
            (0, 1, 2),
            ("0", "1"),
            (None, 1),
            (0, np.nan),
            (1, 0),
            (0, np.inf),
        ],
    )
    def test_input_range(self, given: Any) -> None:
        with pytest.raises(ValueError, match=r"input_range must be \(low, high\), two numbers"):
            tflite.convert(network(), "int8", calibration=images(), input_range=given)

    @pytest.mark.slow
    @pytest.mark.parametrize("given", [[0, 1], np.array([0.0, 1.0]), (np.float32(0), np.int8(1))])
    def test_input_range_in_other_forms(self, given: Any) -> None:
        tflite.convert(network(), "int8", calibration=images(), input_range=given)

    @pytest.mark.slow
    def test_pixels_for_a_model_that_scales_them(self) -> None:
        model = keras.Sequential(
            [keras.Input(SHAPE), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(2)]
        )
        pixels = (255 * images()).astype(np.uint8)
        with pytest.raises(ValueError, match=r"a Rescaling layer .* that is \(0, 255\)"):
            tflite.convert(model, "int8", calibration=pixels)
        content = tflite.convert(model, "int8", calibration=pixels, input_range=(0, 255))
        floats = pixels.astype(np.float32)
        expected = models.predict(model, floats)
        assert metrics.sqnr_db(expected, tflite.predict(content, floats)) > 30

    def test_an_open_size(self) -> None:
        image = keras.Input((None, 8, 1))
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
        model = keras.Model(image, layers.Dense(2)(x))
        with pytest.raises(ValueError, match=r"fixed size, .*\(None, None, 8, 1\): build it again"):
            simulate.Simulator(model, images())

    @pytest.mark.parametrize("mode", ["int8", "int8_fallback", "int16x8"])
    @pytest.mark.parametrize("given", [None, images()], ids=["no images", "images"])
    def test_a_quantize_aware_model(self, mode: str, given: Any) -> None:
        model = qat.quantize_aware(network(), named_scheme(8, 8), images())
        with pytest.raises(ValueError, match=r"quantize_aware\(\).*qat\.int8_file\(model\)"):
            tflite.convert(model, mode, calibration=given)
