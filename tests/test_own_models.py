"""Models that readers bring: ops with a memory, other inputs than float images, other batches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from quant_tutorial import deployment, flatbuffer, models, qat, quiet, rounding, simulate, tflite
from quant_tutorial.affine import dequantize, quantize
from quant_tutorial.scheme import named_scheme

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from saved_models import saved_model

pytestmark = pytest.mark.slow
layers = keras.layers


def uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)


def file_of(function: Callable[..., Any], *specs: tf.TensorSpec) -> bytes:
    """A file as other tools make it: with the batch and the types of the specs."""
    concrete = tf.function(function, input_signature=specs).get_concrete_function()
    with quiet.all_output():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
        return converter.convert()


MATRIX = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)


class TestMemory:
    """What an op keeps for its next run must not reach the next image."""

    @pytest.fixture(scope="class", params=["LSTM", "GRU", "SimpleRNN"])
    def recurrent(self, request: pytest.FixtureRequest) -> tuple[Any, bytes]:
        tf_keras.utils.set_random_seed(1)
        kind = getattr(tf_keras.layers, request.param)
        model = tf_keras.Sequential([tf_keras.Input((6, 4)), kind(8), tf_keras.layers.Dense(3)])
        return model, tflite.convert(model, "float32")

    def test_each_image_is_the_first(self, recurrent: tuple[Any, bytes]) -> None:
        model, content = recurrent
        x = np.concatenate([np.repeat(uniform(1, 6, 4), 3, axis=0), uniform(60, 6, 4)])
        expected = model(x).numpy()
        np.testing.assert_allclose(tflite.predict(content, x), expected, atol=1e-5)
        found = tflite.evaluate(content, x, expected.argmax(axis=1))
        assert found.accuracy == 1
        for kernels in tflite.KERNELS:
            np.testing.assert_allclose(tflite.run(content, x[:9], kernels), expected[:9], atol=1e-5)
        *_, last = tflite.run_all(content, x[:9]).values()
        np.testing.assert_allclose(last, expected[:9], atol=1e-5)

    @pytest.fixture(scope="class")
    def lstm(self) -> tuple[bytes, bytes]:
        tf_keras.utils.set_random_seed(2)
        parts = [tf_keras.Input((5, 3)), tf_keras.layers.LSTM(4), tf_keras.layers.Dense(2)]
        model = tf_keras.Sequential(parts)
        int8 = tflite.convert(model, "int8", calibration=uniform(50, 5, 3))
        return tflite.convert(model, "float32"), int8

    def test_an_integer_state(self, lstm: tuple[bytes, bytes]) -> None:
        x = uniform(20, 5, 3)
        outputs = tflite.predict(lstm[1], x)
        np.testing.assert_array_equal(tflite.predict(lstm[1], x[::-1])[::-1], outputs)
        np.testing.assert_allclose(outputs, tflite.predict(lstm[0], x), atol=0.02)

    def test_a_state_is_neither_an_activation_nor_a_constant(
        self, lstm: tuple[bytes, bytes]
    ) -> None:
        graph = flatbuffer.graph(lstm[0])
        states = [tensor for tensor in graph.tensors if tensor.kind == "state"]
        assert (graph.memory, [tensor.shape for tensor in states]) == ("tensors", [(1, 4)] * 2)
        # Both states of 16 bytes stay; the LSTM has its input, 60 → 64, and its outputs, 5×4×4.
        assert deployment.arena_bytes(lstm[0]) == 2 * 16 + 64 + 80

    def test_debug(self, lstm: tuple[bytes, bytes]) -> None:
        one, twice = (tflite.debug(*lstm, np.repeat(uniform(1, 5, 3), n, axis=0)) for n in (1, 2))
        for row, again in zip(one.rows, twice.rows, strict=True):
            assert row.own_rmse == pytest.approx(again.own_rmse, abs=1e-9)
            assert row.accumulated_rmse == pytest.approx(again.accumulated_rmse, abs=1e-9)
            assert row.own < 0.7

    @pytest.fixture(scope="class")
    def counting(self) -> tuple[keras.Model, bytes]:
        class Counter(layers.Layer):
            def build(self, _: Any) -> None:
                self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

            def call(self, x: Any) -> Any:
                self.count.assign_add(1.0)
                return x + self.count

        keras.utils.set_random_seed(1)
        image = keras.Input((6,))
        model = keras.Model(image, layers.Dense(2)(Counter()(layers.Dense(3)(image))))
        return model, tflite.convert(model, "float32")

    def test_variables(self, counting: tuple[keras.Model, bytes]) -> None:
        (model, content), x = counting, np.zeros((4, 6), np.float32)
        graph = tflite.inspect(content)
        assert graph.memory == "variables"
        assert "READ_VARIABLE" in graph.verdict
        outputs = tflite.predict(content, x)
        np.testing.assert_array_equal(outputs, np.repeat(outputs[:1], 4, axis=0))
        # The counter is at 1 for each: what comes of ones.
        np.testing.assert_allclose(outputs[0], model.layers[-1].kernel.numpy().sum(axis=0))
        for values in tflite.run_all(content, x).values():
            assert len(values) == 4
            np.testing.assert_array_equal(values, np.repeat(values[:1], 4, axis=0))

    def test_quantized_with_variables(self, counting: tuple[keras.Model, bytes]) -> None:
        (model, plain), x = counting, uniform(30, 6)
        with pytest.raises(ValueError, match=r"READ_VARIABLE.* Mode 'int8_fallback' allows float"):
            tflite.convert(model, "int8", calibration=x)
        mixed = tflite.convert(model, "int8_fallback", calibration=x)
        np.testing.assert_array_equal(
            tflite.predict(mixed, x[::-1])[::-1], tflite.predict(mixed, x)
        )
        rows = tflite.debug(plain, mixed, x[:10]).rows
        assert {"READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"}.isdisjoint(row.op for row in rows)
        assert [row.op for row in rows][-1] == "FULLY_CONNECTED"

    def test_batch_norm_that_trains(self) -> None:
        keras.utils.set_random_seed(1)
        image = keras.Input((8, 8, 3))
        x = layers.BatchNormalization()(layers.Conv2D(4, 3)(image), training=True)
        model = keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))
        images = uniform(4, 8, 8, 3)
        content = tflite.convert(model, "float32")
        expected = np.concatenate([model(images[n : n + 1]) for n in range(4)])
        np.testing.assert_allclose(tflite.predict(content, images), expected, atol=1e-4)


def test_a_table() -> None:
    numbers = keras.Input((3,), dtype="int64")
    x = layers.IntegerLookup(vocabulary=[4, 5, 6], name="words")(numbers)
    model = keras.Model(numbers, layers.Dense(2)(layers.Flatten()(layers.Embedding(8, 4)(x))))
    with pytest.raises(ValueError, match=r"^Layer words \(IntegerLookup\) looks values up"):
        tflite.convert(model, "float32")


@pytest.mark.parametrize(
    ("use_bias", "strides", "padding"),
    [(False, 2, "same"), (True, 2, "same"), (True, 1, "valid"), (False, 3, "valid")],
)
def test_transposed_convolution(use_bias: bool, strides: int, padding: str) -> None:
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same")(image)
    transposed = layers.Conv2DTranspose(
        4, 3, strides, padding, use_bias=use_bias, bias_initializer="random_normal"
    )
    model = keras.Model(image, transposed(x))
    images = uniform(40, 8, 8, 3)
    plain, int8 = (
        tflite.convert(model, "float32"),
        tflite.convert(model, "int8", calibration=images),
    )
    np.testing.assert_allclose(tflite.predict(plain, images), model(images), atol=1e-5)
    side = 16 if padding == "same" else 7 * strides + 3
    rounded = -(-side * side * 4 // 16) * 16
    # Before it, the first convolution has its input, 192 bytes, and its output.
    assert deployment.arena_bytes(int8) == 8 * 8 * 16 + max(192, rounded)
    assert deployment.arena_bytes(plain) == 4 * 8 * 8 * 16 + max(768, 4 * side * side * 4)
    for content, width in ((plain, 4), (int8, 1)):
        sizes = deployment.sizes(content)
        assert sizes.weights == width * (16 * 27 + 4 * 9 * 16)
        assert sizes.biases == 4 * (16 + (4 if use_bias else 0))
        assert deployment.micro_refusal(content) is None
    found = tflite.debug(plain, int8, images[:5])
    assert [row.op for row in found.rows] == ["INPUT", "CONV_2D", "TRANSPOSE_CONV"]
    assert found.worst.own < 0.6


class TestWholeNumbers:
    """Integers stay integers, or are refused before anything is converted."""

    IDS = np.random.default_rng(0).integers(0, 1000, (200, 10))

    @staticmethod
    def words(dtype: str) -> keras.Model:
        keras.utils.set_random_seed(3)
        ids = keras.Input((10,), dtype=dtype)
        x = layers.GlobalAveragePooling1D()(layers.Embedding(1000, 8)(ids))
        return keras.Model(ids, layers.Dense(4)(x))

    @pytest.mark.parametrize(
        ("dtype", "modes"), [("int32", tuple(tflite.MODES)), ("int64", ("int8", "int16x8"))]
    )
    def test_every_mode(self, dtype: str, modes: tuple[str, ...]) -> None:
        model = self.words(dtype)
        expected = np.asarray(model(self.IDS)).argmax(axis=1)
        for mode in modes:
            calibrated = mode.startswith("int")
            options = {"calibration": self.IDS[:50]} if calibrated else {}
            if mode == "int16x8":
                with pytest.raises(ValueError, match=rf"holds {dtype} .* Use mode 'int8'"):
                    tflite.convert(model, mode, **options)
                continue
            content = tflite.convert(model, mode, **options)
            assert tflite.input_output(content)[0].type == dtype
            assert tflite.evaluate(content, self.IDS, expected).accuracy >= 0.97
            assert tflite.inspect(content).integer_only == (mode == "int8")

    def test_the_rest_of_the_road(self) -> None:
        model = self.words("int32")
        plain = tflite.convert(model, "float32")
        int8 = tflite.convert(model, "int8", calibration=self.IDS[:50])
        found = {row.op: row for row in tflite.debug(plain, int8, self.IDS[:10]).rows}
        assert "INPUT" not in found  # nothing is rounded there
        assert (found["LESS"].accumulated_rmse, found["LESS"].tensor.type) == (0, "bool")
        assert found["GATHER"].own < 0.35
        assert deployment.latency(int8, self.IDS[:1], runs=2).runs == 2
        static = tflite.apply_recipe(
            tflite.export_litert(model), "static_wi8_ai8", calibration=self.IDS[:50]
        )
        assert tflite.input_output(static)[0].type == "int32"
        agreed = tflite.predict(static, self.IDS).argmax(1) == model(self.IDS).numpy().argmax(1)
        assert agreed.mean() > 0.85
        with pytest.raises(ValueError, match=r"must hold int32 values.*astype\('int32'\)"):
            tflite.predict(int8, self.IDS.astype(np.float32))
        with pytest.raises(ValueError, match=r"calibration must hold int32 values.* got float32"):
            tflite.convert(model, "int8", calibration=self.IDS.astype(np.float32))

    def test_words_given_as_floats(self) -> None:
        model, ids = self.words("float32"), self.IDS.astype(np.float32)
        options = {"calibration": ids[:50], "input_range": None}
        for mode, io in (("int8", None), ("int8", "float32"), ("int8_fallback", "int8")):
            with pytest.raises(ValueError, match=r"CAST.* whole numbers.*dtype='int32'"):
                tflite.convert(model, mode, io=io, **options)
        content = tflite.convert(model, "int8_fallback", **options)
        expected = model(ids).numpy().argmax(axis=1)
        assert tflite.evaluate(content, ids, expected).accuracy >= 0.97

    def test_pixels(self) -> None:
        image = keras.Input((8, 8, 1), dtype="uint8")
        x = layers.Conv2D(3, 3)(layers.Rescaling(1 / 255)(image))
        model = keras.Model(image, layers.Dense(4)(layers.Flatten()(x)))
        pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1)).astype(np.uint8)
        with pytest.raises(ValueError, match=r"CAST.* uint8 values. Build .* a float input"):
            tflite.convert(model, "int8", calibration=pixels)
        content = tflite.convert(model, "int8_fallback", calibration=pixels)
        np.testing.assert_allclose(tflite.predict(content, pixels), model(pixels), atol=0.05)
        with pytest.raises(ValueError, match="must take floats, its input holds uint8"):
            simulate.Simulator(model, pixels)

    @pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32", "int64"])
    def test_files_of_others(self, dtype: str) -> None:
        content = file_of(lambda x: tf.reshape(x, (1, 2, 3)), tf.TensorSpec((1, 6), dtype))
        x = (np.arange(24).reshape(4, 6) % 2).astype(dtype)
        for values in (x, x.astype(np.int64)):
            given = tflite.predict(content, values)
            assert given.dtype == dtype
            np.testing.assert_array_equal(given, x.reshape(4, 2, 3))
        with pytest.raises(ValueError, match=f"x must hold {dtype} values.* got float64"):
            tflite.predict(content, x / 2)
        if dtype in ("bool", "uint8"):
            with pytest.raises(ValueError, match=r"x must hold values from 0 to .* got 999 to 999"):
                tflite.predict(content, np.full((2, 6), 999))

    @pytest.mark.parametrize("dtype", ["float16", "float64"])
    def test_other_floats(self, dtype: str) -> None:
        content = file_of(lambda x: tf.reshape(x, (1, 2, 3)), tf.TensorSpec((1, 6), dtype))
        x = uniform(4, 6)
        np.testing.assert_allclose(tflite.predict(content, x), x.reshape(4, 2, 3), atol=1e-3)


class TestListsAndDictionaries:
    @pytest.fixture(scope="class")
    def parts(self) -> tuple[Any, Any]:
        keras.utils.set_random_seed(1)
        image = keras.Input((8, 8, 3), name="image")
        x = layers.Conv2D(4, 3, activation="relu")(image)
        return image, layers.Dense(3, name="answer")(layers.Flatten()(x))

    @pytest.mark.parametrize(
        ("entry", "exit_"), [([0], 0), (0, [0]), ([0], [0]), ({"image": 0}, {"answer": 0})]
    )
    def test_one(self, parts: tuple[Any, Any], entry: Any, exit_: Any) -> None:
        ends = [
            keras.tree.map_structure(lambda _, tensor=tensor: tensor, like)
            for like, tensor in zip((entry, exit_), parts, strict=True)
        ]
        model, x = keras.Model(*ends), uniform(20, 8, 8, 3)
        plain = keras.Model(*parts)
        before, scheme = model.get_config(), named_scheme(8, 8)
        expected = plain(x).numpy()
        for content in (tflite.convert(model, "float32"), tflite.export_litert(model)):
            np.testing.assert_allclose(tflite.predict(content, x), expected, atol=1e-5)
        simulated = simulate.simulate(model, scheme, x)
        reference = simulate.simulate(plain, scheme, x)(x)
        np.testing.assert_array_equal(simulated(x), reference)
        trainable = qat.quantize_aware(model, scheme, x)
        np.testing.assert_allclose(trainable(x), reference, atol=1e-5)
        trainable.compile("adam", "mse", run_eagerly=True)  # a graph for one step takes longer
        trainable.fit(x, expected, epochs=1, verbose=0)
        assert tflite.inspect(qat.int8_file(trainable)).integer_only
        rounding.equalize(model)
        assert model.get_config() == before

    def test_two(self, parts: tuple[Any, Any]) -> None:
        image, answer = parts
        other = keras.Input((8, 8, 3), name="other")
        both = answer + layers.Dense(3)(layers.Flatten()(other))
        for inputs in ([image, other], {"image": image, "other": other}):
            model = keras.Model(inputs, both)
            x = {"image": uniform(4, 8, 8, 3), "other": 1 - uniform(4, 8, 8, 3)}
            for content in (tflite.convert(model, "float32"), tflite.export_litert(model)):
                np.testing.assert_allclose(tflite.predict(content, x), model(x), atol=1e-5)
            rounded = simulate.simulate(model, named_scheme(16, 16), x)(x)
            np.testing.assert_allclose(rounded, model(x), atol=1e-2)
        for outputs in ([image, answer], {"z": answer, "copy": image}):
            content = tflite.convert(keras.Model(image, outputs), "float32")
            copy, found = tflite.predict(content, x["image"])
            np.testing.assert_array_equal(copy, x["image"])
            np.testing.assert_allclose(found, keras.Model(image, answer)(x["image"]), atol=1e-5)
            with pytest.raises(ValueError, match=r"one output here, it has 2: .*inputs_outputs"):
                tflite.input_output(content)

    @pytest.mark.parametrize("pack", [lambda x: [x], lambda x: {"image": x}])
    def test_tf_keras(self, pack: Callable[[Any], Any]) -> None:
        image = tf_keras.Input((6,), name="image")
        model = tf_keras.Model(pack(image), pack(tf_keras.layers.Dense(2)(image)))
        x = uniform(3, 6)
        (expected,) = tf.nest.flatten(model(pack(x)))
        np.testing.assert_allclose(
            tflite.predict(tflite.convert(model, "float32"), x), expected, atol=1e-5
        )


class TestBatches:
    @pytest.mark.parametrize("size", [1, 4, 8])
    def test_a_fixed_batch_is_filled(self, size: int) -> None:
        content = file_of(lambda x: tf.nn.relu(x @ MATRIX), tf.TensorSpec((size, 6)))
        x = uniform(10, 6)
        for count in {1, size - 1 or 1, size, 10}:
            expected = np.maximum(x[:count] @ MATRIX, 0)
            np.testing.assert_allclose(tflite.predict(content, x[:count]), expected, atol=1e-5)
            for kernels in tflite.KERNELS:
                given = tflite.run(content, x[:count], kernels)
                np.testing.assert_allclose(given, expected, atol=1e-5)
            *_, last = tflite.run_all(content, x[:count]).values()
            np.testing.assert_allclose(last, expected, atol=1e-5)
        assert tflite.evaluate(content, x, (x @ MATRIX).argmax(axis=1)).accuracy > 0.8
        if size > 1:
            with pytest.raises(ValueError, match=f"takes {size} images at a time.* for one image"):
                deployment.latency(content, x[:1], runs=1)
            with pytest.raises(
                ValueError, match=r"float_model must take one image of a fixed size"
            ):
                tflite.debug(content, models.load_int8_baseline(), x)

    def test_a_fixed_batch_of_keras(self) -> None:
        image = keras.Input(batch_shape=(8, 6))
        model, x = keras.Model(image, layers.Dense(3)(image)), uniform(8, 6)
        content = tflite.convert(model, "float32")
        np.testing.assert_allclose(tflite.predict(content, x), model(x), atol=1e-5)

    def test_no_row_for_each_image(self) -> None:
        x = uniform(8, 6)
        content = file_of(lambda x: tf.reduce_mean(x, axis=0), tf.TensorSpec((4, 6)))
        with pytest.raises(ValueError, match=r"4 images at a time.*\(6,\), without a row for each"):
            tflite.predict(content, x)
        content = file_of(lambda x: tf.reduce_mean(x, axis=0), tf.TensorSpec((1, 6)))
        np.testing.assert_allclose(tflite.predict(content, x), x, atol=1e-6)
        content = file_of(lambda x: tf.reduce_sum(x), tf.TensorSpec((1, 6)))
        np.testing.assert_allclose(tflite.predict(content, x), x.sum(axis=1), atol=1e-5)

    def test_an_open_height(self) -> None:
        kernel = np.random.default_rng(1).normal(size=(3, 3, 1, 4)).astype(np.float32)
        content = file_of(
            lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"), tf.TensorSpec((None, None, 12, 1))
        )
        for height in (5, 12):
            x = uniform(9, height, 12, 1)
            expected = tf.nn.conv2d(x, kernel, 1, "SAME")
            np.testing.assert_allclose(tflite.predict(content, x), expected, atol=1e-5)
            *_, last = tflite.run_all(content, x).values()
            np.testing.assert_allclose(last, expected, atol=1e-5)
            assert deployment.latency(content, x[:1], runs=1).runs == 1
        with pytest.raises(ValueError, match=r"x must have the shape \('n', 5, 12, 1\)"):
            tflite.predict(content, uniform(9, 5, 11, 1))
        image = keras.Input((None, 12, 1))
        model = keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image)))
        with pytest.raises(ValueError, match=r"fixed size.*\(None, None, 12, 1\): build it with"):
            tflite.convert(model, "float32")


class TestSavedModels:
    def test_what_goes_through(self, tmp_path: Path) -> None:
        ids = np.random.default_rng(0).integers(0, 6, (20, 4))
        for dtype in (tf.int32, tf.int64):
            folder = saved_model(
                tmp_path / dtype.name,
                lambda x: tf.gather(MATRIX, x),
                tf.TensorSpec((None, 4), dtype),
            )
            content = tflite.convert(folder, "float32")
            np.testing.assert_array_equal(tflite.predict(content, ids), MATRIX[ids])
            int8 = tflite.convert(folder, "int8", calibration=ids)
            assert tflite.inspect(int8).integer_only
            np.testing.assert_allclose(tflite.predict(int8, ids), MATRIX[ids], atol=0.02)
        one = saved_model(tmp_path / "one", lambda x: x @ MATRIX, tf.TensorSpec((1, 6)))
        x = uniform(5, 6)
        np.testing.assert_allclose(
            tflite.predict(tflite.convert(one, "float32"), x), x @ MATRIX, atol=1e-5
        )

    @pytest.mark.parametrize(
        ("shape", "dtype", "message"),
        [
            ((8, 6), "float32", r"takes 8 images at a time: export it with the shape \(None, 6\)"),
            (None, "float32", "does not say how many axes its input has.*input_signature"),
            ((None, None), "float32", r"fixed size, its input has the shape \(None, None\)"),
            ((), "float32", "an axis for the images"),
            ((None, 6), "string", "must take numbers, its input holds string"),
        ],
    )
    def test_what_does_not(
        self, tmp_path: Path, shape: tuple[int | None, ...] | None, dtype: str, message: str
    ) -> None:
        folder = saved_model(
            tmp_path / "model", tf.identity, tf.TensorSpec(shape, tf.as_dtype(dtype))
        )
        for mode in ("float32", "int8"):
            options = {"calibration": uniform(3, 6)} if mode == "int8" else {}
            with pytest.raises(ValueError, match=message):
                tflite.convert(folder, mode, **options)

    def test_several_inputs_or_outputs(self, tmp_path: Path) -> None:
        spec = tf.TensorSpec((None, 6))
        two = saved_model(tmp_path / "in", lambda x, y: x + y, spec, spec)
        x = uniform(5, 6)
        content = tflite.convert(two, "float32")
        np.testing.assert_allclose(tflite.predict(content, {"x": x, "y": 1 - x}), 1, atol=1e-6)
        # Not the first of them without a word.
        two = saved_model(tmp_path / "out", lambda x: {"b": x * 2.0, "a": x @ MATRIX}, spec)
        for found, right in zip(
            tflite.predict(tflite.convert(two, "float32"), x), (x @ MATRIX, 2 * x), strict=True
        ):
            np.testing.assert_allclose(found, right, atol=1e-5)


class TestDebugging:
    @pytest.fixture(scope="class")
    def upsampling(self) -> tuple[keras.Model, np.ndarray, bytes]:
        """A model, images, and its int8 file."""
        keras.utils.set_random_seed(1)
        image = keras.Input((4, 4, 2))
        x = layers.UpSampling2D(2)(layers.Conv2D(2, 3, padding="same")(image))
        model, images = keras.Model(image, layers.Conv2D(3, 3)(x)), uniform(30, 4, 4, 2)
        return model, images, tflite.convert(model, "int8", calibration=images)

    def test_an_op_without_a_reference_kernel(
        self, upsampling: tuple[keras.Model, np.ndarray, bytes]
    ) -> None:
        model, x, int8 = upsampling
        found = tflite.debug(model, int8, x[:5])
        tiles = [row for row in found.rows if row.op == "TILE"]
        assert tiles
        assert {row.own_rmse for row in tiles} == {0}
        assert found.worst.own < 0.6

    def test_a_float_side_that_is_none(
        self, upsampling: tuple[keras.Model, np.ndarray, bytes]
    ) -> None:
        model, x, int8 = upsampling
        for mode, kind in (("float16", "float16"), ("int8_fallback", "int8")):
            options = {"calibration": x} if kind == "int8" else {}
            content = tflite.convert(model, mode, **options)
            with pytest.raises(ValueError, match=rf"float_model .* is {kind}: give .*'float32'"):
                tflite.debug(content, int8, x[:5])

        class Rounding(tf_keras.layers.Layer):  # as in TFMOT's models
            def call(self, x: tf.Tensor) -> tf.Tensor:
                return tf.quantization.fake_quant_with_min_max_args(x)

        image = tf_keras.Input((4, 4, 2))
        rounding_itself = tf_keras.Model(image, Rounding()(image))
        with pytest.raises(ValueError, match=r"rounds values itself.* give the float model that"):
            tflite.debug(rounding_itself, int8, x[:5])

    def test_an_op_that_the_reference_kernels_compute_wrongly(self) -> None:
        image = keras.Input((6, 4))
        model, x = keras.Model(image, keras.ops.sum(image, axis=1)), uniform(30, 6, 4)
        int8 = tflite.convert(model, "int8", calibration=x)
        source, target = (tensor.params for tensor in tflite.input_output(int8))
        errors = {
            kernels: np.abs(
                dequantize(tflite.run(int8, quantize(x, source), kernels), target) - x.sum(axis=1)
            ).max()
            for kernels in tflite.KERNELS
        }
        assert errors.pop("reference") > 1
        assert max(errors.values()) < 0.05
        assert tflite.debug(model, int8, x).worst.own < 0.5

    def test_a_mask(self) -> None:
        keras.utils.set_random_seed(1)
        image = keras.Input((3, 4))
        model = keras.Model(image, layers.LSTM(5, unroll=True)(layers.Masking()(image)))
        x = uniform(50, 3, 4)
        x[:, 2:] = 0
        content = tflite.convert(model, "int8_fallback", calibration=x)
        rows = tflite.debug(model, content, x[:5]).rows
        masks = [row for row in rows if row.tensor.type == "bool"]
        assert masks
        assert {(row.own_rmse, row.scale) for row in masks} == {(0, None)}
