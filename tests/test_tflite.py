"""Conversion and LiteRT: accuracy, size, integers throughout, and correct input and output."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quant_tutorial import affine, metrics, mnist, models, quiet, tflite
from quant_tutorial.arguments import checked_calibration
from quant_tutorial.tflite import conversion
from quant_tutorial.tflite.saved_model import export_saved_model

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter

pytestmark = pytest.mark.slow

INT8_FILES = [f"int8, {io} input" for io in ("int8", "uint8", "float32")]


def test_float32_gives_the_logits_of_keras(
    files: dict[str, bytes], baseline: Any, x_test: np.ndarray
) -> None:
    np.testing.assert_allclose(
        tflite.predict(files["float32"], x_test), models.predict(baseline, x_test), atol=1e-3
    )


@pytest.mark.parametrize("name", INT8_FILES)
def test_int8_keeps_accuracy_at_a_third_of_the_size(
    files: dict[str, bytes], data: mnist.Mnist, x_test: np.ndarray, name: str
) -> None:
    in_float = tflite.evaluate(files["float32"], x_test, data.y_test)
    in_int8 = tflite.evaluate(files[name], x_test, data.y_test)
    assert in_int8.accuracy >= in_float.accuracy - 0.001
    assert metrics.agreement(in_int8.predictions, in_float.predictions) >= 0.998
    assert len(files[name]) <= 0.35 * len(files["float32"])


@pytest.mark.parametrize("name", INT8_FILES)
def test_only_the_doors_of_an_int8_file_may_be_floats(files: dict[str, bytes], name: str) -> None:
    floats = [tensor for tensor in tflite.tensors(files[name]) if tensor.dtype.kind == "f"]
    source, target = tflite.input_output(files[name])
    expected = 2 if name == "int8, float32 input" else 0
    assert len(floats) == expected
    assert all(tensor.name in (source.name, target.name) for tensor in floats)


def test_input_and_output_types(files: dict[str, bytes]) -> None:
    for io in ("int8", "uint8", "float32"):
        source, target = tflite.input_output(files[f"int8, {io} input"])
        assert source.dtype == target.dtype == io
        assert source.shape == (1, 28, 28, 1)
        assert target.shape == (1, 10)
        assert (source.params is None) == (io == "float32")
    # A pixel p became p / 255: with this map the integer is p − 128, or p.
    signed, unsigned = (tflite.input_output(files[name])[0].params for name in INT8_FILES[:2])
    assert signed.scale == unsigned.scale == pytest.approx(1 / 255, rel=1e-6)
    assert (signed.zero_point, unsigned.zero_point) == (-128, 0)


@pytest.mark.parametrize("name", INT8_FILES[:2])
def test_predict_is_the_interpreter_fed_by_hand(
    files: dict[str, bytes], data: mnist.Mnist, x_test: np.ndarray, name: str
) -> None:
    interpreter = Interpreter(model_content=files[name])
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = target["quantization"]
    for image, pixels, logits in zip(
        x_test[:50], data.x_test[:50], tflite.predict(files[name], x_test[:50]), strict=True
    ):
        shift = 128 if source["dtype"] is np.int8 else 0
        integers = (pixels.astype(np.int16) - shift).astype(source["dtype"])
        interpreter.set_tensor(source["index"], integers[np.newaxis, ..., np.newaxis])
        interpreter.invoke()
        q = interpreter.get_tensor(target["index"])[0].astype(np.int32)
        np.testing.assert_allclose(logits, (q - zero_point) * np.float32(scale), rtol=1e-6)
        assert image.max() <= 1


def test_weights_are_per_channel_symmetric_and_those_of_the_model(
    files: dict[str, bytes], baseline: Any
) -> None:
    interpreter = Interpreter(model_content=files["int8, int8 input"])
    interpreter.allocate_tensors()
    kernel = np.moveaxis(baseline.get_layer("logits").kernel.numpy(), -1, 0)
    tensor = next(t for t in tflite.tensors(files["int8, int8 input"]) if t.shape == (10, 800))
    largest = np.abs(kernel).max(axis=1)
    np.testing.assert_allclose(tensor.scales, largest / 127, rtol=1e-6)
    assert not tensor.zero_points.any()
    index = next(
        d["index"] for d in interpreter.get_tensor_details() if tuple(d["shape"]) == (10, 800)
    )
    assert (interpreter.get_tensor(index) == affine.quantize(kernel, tensor.params)).all()


# Bytes that the values of one weight take.
WEIGHT_BYTES = {
    "float32": 4,
    "dynamic": 1,
    "float16": 2,
    "int8_fallback": 1,
    "int8": 1,
    "int16x8": 1,
}
WEIGHT_COUNT = 8 * 9 + 16 * 8 * 9 + 32 * 16 * 9 + 800 * 10


def test_from_keras_model_leaves_the_batch_open(files: dict[str, bytes], baseline: Any) -> None:
    """What lesson 06 says about the call that it does not use."""
    with quiet.all_output():
        content = tf.lite.TFLiteConverter.from_keras_model(baseline).convert()
    found, usual = tflite.inspect(content), tflite.inspect(files["float32"])
    assert found.inputs[0].shape == (-1, 28, 28, 1)
    assert set(found.op_types) - set(usual.op_types) == {"SHAPE", "STRIDED_SLICE", "PACK"}


class TestLadder:
    """Every mode of the converter."""

    @pytest.mark.parametrize("mode", WEIGHT_BYTES)
    def test_accuracy_and_size(
        self, ladder: dict[str, bytes], data: mnist.Mnist, x_test: np.ndarray, mode: str
    ) -> None:
        count = 2000 if mode == "int16x8" else 10000  # it is forty times slower
        x, y = x_test[:count], data.y_test[:count]
        in_float = tflite.evaluate(ladder["float32"], x, y)
        assert tflite.evaluate(ladder[mode], x, y).accuracy >= in_float.accuracy - 0.001
        size = sum(t.bytes for t in tflite.tensors(ladder[mode]) if t.kind == "weights")
        # In dynamic range the converter leaves weights of fewer than 1,024 values in float: conv1.
        assert size == WEIGHT_BYTES[mode] * WEIGHT_COUNT + (3 * 72 if mode == "dynamic" else 0)

    def test_dynamic_has_float_activations(self, ladder: dict[str, bytes]) -> None:
        for tensor in tflite.tensors(ladder["dynamic"]):
            assert (tensor.type == "int8") == (tensor.kind == "weights" and tensor.bytes > 288)

    def test_float16_weights_are_those_of_the_model(
        self, ladder: dict[str, bytes], baseline: Any
    ) -> None:
        stored = stored_constant(ladder["float16"], (10, 800))
        kernel = baseline.get_layer("logits").kernel.numpy().T
        assert stored.dtype == np.float16
        assert (stored == kernel.astype(np.float16)).all()

    def test_int16x8_activations_are_symmetric(
        self, ladder: dict[str, bytes], baseline: Any, calibration: np.ndarray
    ) -> None:
        inspection = tflite.inspect(ladder["int16x8"])
        flowing = [t for t in inspection.tensors if t.kind in ("input", "activation", "output")]
        assert len(flowing) == 8
        assert all((t.type, t.zero_points.tolist()) == ("int16", [0]) for t in flowing)
        largest = np.abs(models.predict(baseline, calibration)).max()
        assert inspection.outputs[0].scales[0] == pytest.approx(largest / 32767, rel=1e-4)

    def test_int16_input_and_output(self, ladder: dict[str, bytes], x_test: np.ndarray) -> None:
        interpreter = Interpreter(model_content=ladder["int16x8"])
        interpreter.allocate_tensors()
        source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        assert source["dtype"] == target["dtype"] == np.int16
        for image, logits in zip(
            x_test[:20], tflite.predict(ladder["int16x8"], x_test[:20]), strict=True
        ):
            integers = np.round(image / source["quantization"][0]).astype(np.int16)
            interpreter.set_tensor(source["index"], integers[np.newaxis])
            interpreter.invoke()
            q = interpreter.get_tensor(target["index"])[0]
            np.testing.assert_allclose(logits, q * target["quantization"][0], rtol=1e-6)

    def test_int16x8_of_a_filter_that_is_all_zero(self) -> None:
        """The converter gives it the scale 0."""
        keras.utils.set_random_seed(0)
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(4, 3, activation="relu"),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
        kernel, bias = model.layers[0].get_weights()
        kernel[..., 0] = 0
        model.layers[0].set_weights([kernel, bias])
        images = np.random.default_rng(0).random((20, 8, 8, 1), np.float32)
        content = tflite.convert(model, "int16x8", calibration=images)
        off = np.abs(tflite.predict(content, images) - models.predict(model, images))
        assert off.max() < 0.01
        weights = next(t for t in tflite.tensors(content) if len(t.scales) == 4 and t.bits == 8)
        assert (weights.scales[0], weights.params.scale[0]) == (0, 1)

    def test_float_doors_of_int16x8(self, baseline: Any, calibration: np.ndarray) -> None:
        content = tflite.convert(baseline, "int16x8", calibration=calibration[:20], io="float32")
        assert [t.type for t in tflite.input_output(content)] == ["float32", "float32"]

    @pytest.mark.parametrize("mode", ["dynamic", "int8_fallback", "int8", "int16x8"])
    def test_per_tensor_weights(self, baseline: Any, calibration: np.ndarray, mode: str) -> None:
        images = None if mode == "dynamic" else calibration[:20]
        content = tflite.convert(baseline, mode, calibration=images, per_channel=False)
        weights = [t for t in tflite.tensors(content) if t.kind == "weights"]
        assert [len(t.scales) for t in weights if t.type == "int8"] == [1] * (
            4 - (mode == "dynamic")
        )
        kernel = baseline.get_layer("logits").kernel.numpy()
        (last,) = (t for t in weights if t.shape == (10, 800))
        np.testing.assert_allclose(last.scales, np.abs(kernel).max() / 127, rtol=1e-6)

    def test_fallback_leaves_an_op_in_float_and_full_integer_refuses(self) -> None:
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), Sine()])
        images = np.random.default_rng(0).random((20, 8), np.float32)
        mixed = tflite.inspect(tflite.convert(model, "int8_fallback", calibration=images))
        types = {op.type: op.outputs[0].type for op in mixed.ops}
        assert types["FULLY_CONNECTED"] == "int8"
        assert types["SIN"] == "float32"
        # The converter itself puts the float op into an int8 file without a word.
        with pytest.raises(ValueError, match=r"op 2 \(SIN\) stays in float.*int8_fallback"):
            tflite.convert(model, "int8", calibration=images)
        with pytest.raises(RuntimeError, match="not yet supported for op: 'SIN'") as raised:
            tflite.convert(model, "int16x8", calibration=images)
        assert "'int8_fallback' leaves ops" in raised.value.__notes__[0]


class Sine(keras.layers.Layer):
    """An op that LiteRT has in float only."""

    def call(self, x: Any) -> Any:
        return keras.ops.sin(x)


class FakeQuantized(keras.layers.Layer):
    """Rounds to 8 bits between two ends, as quantization-aware training does."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.ends = low, high

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.quantization.fake_quant_with_min_max_vars(x, *self.ends, num_bits=8)


class TestFakeQuantization:
    def model(self, *, covered: bool) -> keras.Model:
        layers = keras.layers
        image = keras.Input((28, 28, 1))
        x = layers.Conv2D(2, 3, activation="relu")(FakeQuantized(0, 1)(image))
        x = layers.Flatten()(FakeQuantized(0, 3)(x))
        x = layers.Dense(10)(x)
        return keras.Model(image, FakeQuantized(-4, 4)(x) if covered else x)

    def test_brings_its_own_ranges(self) -> None:
        inspection = tflite.inspect(tflite.convert(self.model(covered=True), "int8"))
        assert inspection.integer_only
        scales = {
            float(t.scales[0]) * 255
            for t in inspection.tensors
            if t.kind != "weights" and t.type == "int8"
        }
        np.testing.assert_allclose(sorted(scales), [1, 3, 8], rtol=1e-5)

    def test_an_op_without_a_range_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"FULLY_CONNECTED.* stays in float.*no range"):
            tflite.convert(self.model(covered=False), "int8")

    def test_an_op_without_a_range_beside_others_of_its_type(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is not one that the converter has forgotten, and another attempt would be in vain."""
        image = keras.Input((8, 8, 1))
        x = FakeQuantized(-2, 2)(keras.layers.Conv2D(4, 3)(FakeQuantized(0, 1)(image)))
        x = keras.layers.Conv2D(3, 3)(keras.layers.Conv2D(4, 3, name="bare")(x))
        model = keras.Model(image, FakeQuantized(-3, 3)(x))
        tried, real = [], conversion._converted
        monkeypatch.setattr(conversion, "_converted", lambda *a: tried.append(a) or real(*a))
        with pytest.raises(ValueError, match=r"CONV_2D, bare.* stays in float.*no range"):
            tflite.convert(model, "int8")
        assert len(tried) == 1

    def test_16x8_needs_images_all_the_same(self) -> None:
        with pytest.raises(ValueError, match="mode 'int16x8' needs the ranges"):
            tflite.convert(self.model(covered=True), "int16x8")


class TestRecurrentLayers:
    """The converter kills the process when it calibrates most loops, so these come first."""

    def model(self, framework: Any, layer: Any) -> Any:
        inside, outside = framework.Input((6, 3)), framework.Input((6, 3))
        nested = framework.Model(inside, layer(inside), name="nested")
        return framework.Model(outside, framework.layers.Dense(2)(nested(outside)))

    @pytest.mark.parametrize("kind", ["LSTM", "GRU", "Bidirectional"])
    def test_are_refused(self, kind: str) -> None:
        layers = keras.layers
        layer = (
            layers.Bidirectional(layers.SimpleRNN(2), name="memory")
            if kind == "Bidirectional"
            else getattr(layers, kind)(2, name="memory")
        )
        model = self.model(keras, layer)
        images = np.random.default_rng(0).random((5, 6, 3), np.float32)
        with pytest.raises(ValueError, match=r"\(WHILE, nested/memory.*unroll=True.*'dynamic'"):
            tflite.convert(model, "int8", calibration=images)

    def test_the_ways_out(self, tmp_path: Path) -> None:
        images = np.random.default_rng(0).random((5, 6, 3), np.float32)
        loop = self.model(keras, keras.layers.GRU(2, name="memory"))
        assert "WHILE" in tflite.inspect(tflite.convert(loop, "dynamic")).op_types
        unrolled = self.model(keras, keras.layers.SimpleRNN(2, name="memory", unroll=True))
        content = tflite.convert(unrolled, "int8", calibration=images)
        assert tflite.inspect(content).integer_only
        with quiet.all_output():
            export_saved_model(loop, tmp_path)
        with pytest.raises(ValueError, match="is a loop"):
            tflite.convert(tmp_path, "int8_fallback", calibration=images)

    def test_an_op_that_is_forgotten(
        self, baseline: Any, calibration: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of an unrolled LSTM's SPLITs the converter leaves one in float, every third time."""
        mixed = tflite.convert(
            baseline, "int8_fallback", calibration=calibration[:50], float_layers=["conv2"]
        )
        tried, real = [], conversion._converted

        def converted(converter: Any, mode: str) -> bytes:
            tried.append(mode)
            return mixed if len(tried) < times else real(converter, mode)

        monkeypatch.setattr(conversion, "_converted", converted)
        for times in (1, 3):
            tried.clear()
            content = tflite.convert(baseline, "int8", calibration=calibration[:50])
            assert len(tried) == times
            assert tflite.inspect(content).integer_only
        times = 100
        with pytest.raises(ValueError, match=r"CONV_2D, conv2.* stays in float, .* forgotten it"):
            tflite.convert(baseline, "int8", calibration=calibration[:50])

    def test_a_loop_that_becomes_one_op(self) -> None:
        images = np.random.default_rng(0).random((5, 6, 3), np.float32)
        model = self.model(tf_keras, tf_keras.layers.LSTM(2))
        content = tflite.convert(model, "int8", calibration=images)
        assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in tflite.inspect(content).op_types


class TestEvaluate:
    def test_confusion_and_time(
        self, files: dict[str, bytes], data: mnist.Mnist, x_test: np.ndarray
    ) -> None:
        y = data.y_test[:2000]
        result = tflite.evaluate(files["int8, uint8 input"], x_test[:2000], y)
        assert result.confusion.shape == (10, 10)
        assert (result.confusion.sum(axis=1) == np.bincount(y, minlength=10)).all()
        assert result.confusion.trace() == round(result.accuracy * 2000)
        wrong = np.flatnonzero(result.predictions != y)[0]
        assert result.confusion[y[wrong], result.predictions[wrong]] > 0
        assert 0 < result.seconds_per_image < 0.01

    def test_labels_must_be_classes(self, files: dict[str, bytes], x_test: np.ndarray) -> None:
        with pytest.raises(ValueError, match="y must hold classes from 0 to 9, got 0 to 10"):
            tflite.evaluate(files["float32"], x_test[:2], np.array([0, 10]))


def stored_constant(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Read a constant out of a file with the interpreter."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    details = (d for d in interpreter.get_tensor_details() if tuple(d["shape"]) == shape)
    return interpreter.get_tensor(next(details)["index"])


def test_another_architecture(calibration: np.ndarray) -> None:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.DepthwiseConv2D(5, strides=2, activation="relu6", depth_multiplier=4),
            layers.AveragePooling2D(2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(7, activation="softmax"),
        ]
    )
    expected = models.predict(model, calibration[:20])
    np.testing.assert_allclose(
        tflite.predict(tflite.convert(model, "float32"), calibration[:20]), expected, atol=1e-5
    )
    int8 = tflite.convert(model, "int8", calibration=calibration[:50], io="uint8")
    np.testing.assert_allclose(tflite.predict(int8, calibration[:20]), expected, atol=0.02)


class TestQuiet:
    def test_nothing_reaches_the_reader(
        self, baseline: Any, calibration: np.ndarray, capfd: pytest.CaptureFixture[str]
    ) -> None:
        content = tflite.convert(baseline, "int8", calibration=calibration[:5])
        tflite.evaluate(content, calibration[:5], np.zeros(5, int))
        assert capfd.readouterr() == ("", "")

    def test_a_real_error_is_shown(self, capfd: pytest.CaptureFixture[str]) -> None:
        class Unsupported(keras.layers.Layer):
            def call(self, x: Any) -> Any:
                import tensorflow as tf

                return tf.raw_ops.Betainc(a=x, b=x, x=x)

        model = keras.Sequential([keras.Input((3,)), Unsupported()])
        with pytest.raises(Exception, match="Betainc"):
            tflite.convert(model, "float32")
        assert "Betainc" in capfd.readouterr().err


class TestBadInput:
    def test_mode_and_io(self, baseline: Any) -> None:
        with pytest.raises(ValueError, match=r"mode must be one of float32, float16.*got 'int4'"):
            tflite.convert(baseline, "int4")
        with pytest.raises(
            ValueError, match="io must be int8 or uint8 or float32 with mode 'int8', got 'int16'"
        ):
            tflite.convert(baseline, "int8", io="int16")

    @pytest.mark.parametrize("mode", ["float32", "dynamic", "float16"])
    def test_what_modes_with_float_activations_do_not_take(
        self, baseline: Any, calibration: np.ndarray, mode: str
    ) -> None:
        with pytest.raises(ValueError, match=f"io must be float32 with mode '{mode}', got 'uint8'"):
            tflite.convert(baseline, mode, io="uint8")
        with pytest.raises(ValueError, match=f"Mode '{mode}' takes no calibration"):
            tflite.convert(baseline, mode, calibration=calibration)

    @pytest.mark.parametrize("mode", ["float32", "float16"])
    def test_no_scales_no_granularity(self, baseline: Any, mode: str) -> None:
        with pytest.raises(ValueError, match=f"per_channel=False does not go with mode '{mode}'"):
            tflite.convert(baseline, mode, per_channel=False)

    def test_calibration(self, baseline: Any, calibration: np.ndarray) -> None:
        for missing in (None, calibration[:0]):
            with pytest.raises(ValueError, match="calibration must hold at least one image"):
                tflite.convert(baseline, "int8", calibration=missing)
        with pytest.raises(
            ValueError, match=r"shape \('n', 28, 28, 1\) with n ≥ 1, got \(5, 28, 28\)"
        ):
            tflite.convert(baseline, "int8", calibration=calibration[:5, ..., 0])
        with pytest.raises(ValueError, match="calibration must be finite"):
            tflite.convert(baseline, "int8", calibration=calibration[:5] * np.nan)

    def test_calibration_that_is_no_array(self, baseline: Any, calibration: np.ndarray) -> None:
        import tensorflow as tf

        def images() -> Iterator[list[np.ndarray]]:
            yield [calibration[:1]]

        for given in (images, images(), tf.data.Dataset.from_tensor_slices(calibration[:2])):
            with pytest.raises(ValueError, match=r"'n', 28, 28, 1.*got \w+: collect some hundred"):
                tflite.convert(baseline, "int8", calibration=given)
        for given in (list(calibration[:2]), tf.constant(calibration[:2])):
            checked = checked_calibration(given, (None, 28, 28, 1), (0, 1))
            np.testing.assert_array_equal(checked, calibration[:2])

    @pytest.mark.parametrize("mode", ["int8_fallback", "int8", "int16x8"])
    def test_calibration_out_of_range_is_refused_before_the_converter_starts(
        self, baseline: Any, data: mnist.Mnist, monkeypatch: pytest.MonkeyPatch, mode: str
    ) -> None:
        import tensorflow as tf

        def started(*_: object) -> None:
            raise AssertionError("the converter was started")

        monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", started)
        pixels = data.x_train[:5, ..., np.newaxis]
        with pytest.raises(ValueError, match=r"from 0 to 255, but.*0 to 1.*mnist\.to_float"):
            tflite.convert(baseline, mode, calibration=pixels)
        with pytest.raises(ValueError, match=r"divided by 255 twice\?.*input_range="):
            tflite.convert(baseline, mode, calibration=mnist.to_float(pixels[..., 0]) / 255)
        with pytest.raises(ValueError, match="calibration must hold at least one image"):
            tflite.convert(baseline, mode)

    def test_another_range_can_be_stated(self, calibration: np.ndarray) -> None:
        pixels = 255 * calibration[:5]
        for stated in ((0, 255), None):
            checked = checked_calibration(pixels, (None, 28, 28, 1), stated)
            assert (checked == pixels).all()
        centred = 2 * calibration[:5] - 1
        assert checked_calibration(centred, (1, 28, 28, 1), (-1, 1)).min() == -1
        with pytest.raises(ValueError, match="from -1 to 1, but the model expects 0 to 1"):
            checked_calibration(centred, (1, 28, 28, 1), (0, 1))
        with pytest.raises(ValueError, match=r"input_range must be .*got \(1, 0\)"):
            checked_calibration(pixels, (1, 28, 28, 1), (1, 0))

    def test_predict(self, files: dict[str, bytes], x_test: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"x must have the shape \('n', 28, 28, 1\)"):
            tflite.predict(files["float32"], x_test[0])
        with pytest.raises(ValueError, match="n ≥ 1"):
            tflite.predict(files["float32"], x_test[:0])
        with pytest.raises(ValueError, match=r"model_bytes is not a \.tflite model"):
            tflite.predict(b"no model", x_test[:1])
        with pytest.raises(ValueError, match=r"got uint8.*mnist\.to_float"):
            tflite.predict(files["float32"], np.zeros((1, 28, 28, 1), np.uint8))
        for path in ("model.tflite", Path("model.tflite"), 5):
            kind = type(path).__name__
            with pytest.raises(ValueError, match=rf"got {kind}: read it with Path\(…\)\.read_byt"):
                tflite.predict(path, x_test[:1])

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (np.zeros(4, int), r"shape \(3,\), got \(4,\)\.$"),
            (np.zeros((3, 1), int), r"shape \(3,\), got \(3, 1\)\. Give y\[:, 0\]\."),
            (np.eye(3, 10), r"got \(3, 10\)\. One-hot labels need y\.argmax\(axis=1\)\."),
        ],
    )
    def test_labels(
        self, files: dict[str, bytes], x_test: np.ndarray, labels: np.ndarray, message: str
    ) -> None:
        with pytest.raises(ValueError, match=f"y must hold one class for each image.*{message}"):
            tflite.evaluate(files["float32"], x_test[:3], labels)

    @pytest.mark.parametrize("output", [(1,), (1, 1, 10)])
    def test_outputs_that_are_no_classes(self, output: tuple[int, ...]) -> None:
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((8,)),
                layers.Dense(int(np.prod(output)), activation="sigmoid"),
                layers.Reshape(output),
            ]
        )
        content = tflite.convert(model, "float32")
        x = np.ones((3, 8), np.float32)
        with pytest.raises(ValueError, match=r"two classes or more.*its output has the shape") as e:
            tflite.evaluate(content, x, np.zeros(3, int))
        assert str(("n", *output)) in str(e.value)
        assert tflite.predict(content, x).shape == (3, *output)

    def test_a_file_that_litert_refuses_late(
        self, files: dict[str, bytes], x_test: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: Interpreter) -> None:
            raise RuntimeError("failed to prepare")  # what LiteRT raises for damaged content

        monkeypatch.setattr(Interpreter, "allocate_tensors", refuse)
        with pytest.raises(ValueError, match=r"is not a \.tflite model .*failed to prepare"):
            tflite.predict(files["float32"], x_test[:1])


class TestSave:
    def test_writes_the_bytes(self, tmp_path: Path) -> None:
        path = tflite.save(b"content", tmp_path / "new" / "model.tflite")
        assert path.read_bytes() == b"content"
        usual = tmp_path / "usual"
        usual.write_bytes(b"")
        assert path.stat().st_mode == usual.stat().st_mode
        assert [p.name for p in path.parent.iterdir()] == ["model.tflite"]

    def test_a_full_disk_leaves_the_old_file_and_no_half_one(self, tmp_path: Path) -> None:
        path = tflite.save(b"old", tmp_path / "model.tflite")
        # The limit is one of the process: whatever it writes beyond 4 kB fails, as on a full disk.
        code = (
            "import resource, signal, sys; from pathlib import Path\n"
            "from quant_tutorial import saving\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
            "saving.write_whole(Path(sys.argv[1]), lambda part: part.write_bytes(b'new' * 9999))"
        )
        command = [sys.executable, "-c", code, str(path)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "OSError: [Errno 27] File too large" in result.stderr
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]

    def test_keeps_the_old_file_when_writing_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tflite.save(b"old", tmp_path / "model.tflite")

        def disk_full(_: int) -> None:
            raise OSError("No space left on device")

        monkeypatch.setattr(os, "fsync", disk_full)
        with pytest.raises(OSError, match="No space left"):
            tflite.save(b"new", path)
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]
