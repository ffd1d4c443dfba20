"""Conversion and LiteRT: accuracy, size, integers throughout, and correct input and output."""

import os
from pathlib import Path
from typing import Any

from quant_tutorial import affine, metrics, mnist, models, tflite

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

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
        with pytest.raises(ValueError, match="mode must be one of float32, int8, got 'int4'"):
            tflite.convert(baseline, "int4")
        with pytest.raises(ValueError, match="io must be one of float32, int8, uint8, got 'int16'"):
            tflite.convert(baseline, "int8", io="int16")

    def test_what_float32_does_not_take(self, baseline: Any, calibration: np.ndarray) -> None:
        for options in ({"io": "uint8"}, {"calibration": calibration}):
            with pytest.raises(ValueError, match="float32 model takes neither io nor calibration"):
                tflite.convert(baseline, "float32", **options)

    def test_calibration(self, baseline: Any, calibration: np.ndarray) -> None:
        for missing in (None, calibration[:0]):
            with pytest.raises(ValueError, match="calibration must hold at least one image"):
                tflite.convert(baseline, "int8", calibration=missing)
        with pytest.raises(ValueError, match=r"shape \('n', 28, 28, 1\), got \(5, 28, 28\)"):
            tflite.convert(baseline, "int8", calibration=calibration[:5, ..., 0])
        with pytest.raises(ValueError, match="calibration must be finite"):
            tflite.convert(baseline, "int8", calibration=calibration[:5] * np.nan)

    def test_predict(self, files: dict[str, bytes], x_test: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"x must have the shape \('n', 28, 28, 1\)"):
            tflite.predict(files["float32"], x_test[0])
        with pytest.raises(ValueError, match="n ≥ 1"):
            tflite.predict(files["float32"], x_test[:0])
        with pytest.raises(ValueError, match=r"model_bytes is not a \.tflite model"):
            tflite.predict(b"no model", x_test[:1])
        with pytest.raises(ValueError, match="same shape"):
            tflite.evaluate(files["float32"], x_test[:3], np.zeros(4, int))

    def test_a_file_that_litert_refuses_late(
        self, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: Interpreter) -> None:
            raise RuntimeError("failed to prepare")  # what LiteRT raises for damaged content

        monkeypatch.setattr(Interpreter, "allocate_tensors", refuse)
        with pytest.raises(ValueError, match=r"is not a \.tflite model .*failed to prepare"):
            tflite.tensors(files["float32"])


class TestSave:
    def test_writes_the_bytes(self, tmp_path: Path) -> None:
        path = tflite.save(b"content", tmp_path / "new" / "model.tflite")
        assert path.read_bytes() == b"content"
        usual = tmp_path / "usual"
        usual.write_bytes(b"")
        assert path.stat().st_mode == usual.stat().st_mode
        assert [p.name for p in path.parent.iterdir()] == ["model.tflite"]

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
