"""Quantization debugging, against TensorFlow's debugger and against errors made on purpose."""

import tempfile
from typing import Any

from quant_tutorial import flatbuffer, metrics, quiet, tflite
from quant_tutorial.tflite.saved_model import export_saved_model

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.tools import flatbuffer_utils

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def healthy(
    files: dict[str, bytes], ladder: dict[str, bytes], x_test: np.ndarray
) -> tflite.Debugging:
    return tflite.debug(files["float32"], ladder["int8_fallback"], x_test[:100])


def test_own_errors_are_those_of_tensorflows_debugger(
    baseline: Any, calibration: np.ndarray, x_test: np.ndarray, healthy: tflite.Debugging
) -> None:
    with tempfile.TemporaryDirectory() as folder, quiet.all_output():
        export_saved_model(baseline, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=lambda: ([image[None]] for image in x_test[:100])
        )
        debugger.run()
    theirs = [row["mean_squared_error"] ** 0.5 for row in debugger.layer_statistics.values()]
    own = [row.own_rmse for row in healthy.rows if row.op != "INPUT"]
    assert len(own) == 7
    np.testing.assert_allclose(own, theirs, rtol=0.02, atol=1e-6)


def test_accumulated_error_of_the_output_is_the_difference_of_the_predictions(
    ladder: dict[str, bytes], x_test: np.ndarray, healthy: tflite.Debugging
) -> None:
    first, second = (
        tflite.predict(ladder[mode], x_test[:100]) for mode in ("float32", "int8_fallback")
    )
    rmse = np.sqrt(np.mean((first - second) ** 2))
    assert healthy.rows[-1].accumulated_rmse == pytest.approx(rmse, rel=0.02)
    sqnr = 10 * np.log10(np.mean(first**2) / rmse**2)
    assert healthy.rows[-1].sqnr_db == pytest.approx(sqnr, abs=0.2)


def test_a_healthy_model(healthy: tflite.Debugging) -> None:
    by_op = {(row.op, *row.layers[-1:]): row for row in healthy.rows}
    # A pixel is a multiple of 1/255: nothing is rounded.
    assert by_op[("INPUT",)].own < 1e-5
    for number in (1, 2, 3):
        assert 0.2 < by_op["CONV_2D", f"relu{number}"].own < 0.32
    for op in (("MAX_POOL_2D", "pool1"), ("MAX_POOL_2D", "pool2"), ("RESHAPE", "flatten")):
        assert by_op[op].own == 0
        assert by_op[op].accumulated > 0.3
    assert by_op["CONV_2D", "relu1"].own == pytest.approx(metrics.HEALTHY, abs=0.02)


def spoiled(content: bytes, layer: str) -> bytes:
    """Halve the scales of a layer's weights and bias; twice as large, they would clip later too."""
    model = flatbuffer.read(content)
    (op,) = (op for op in tflite.inspect(content).ops if layer in op.layers)
    for tensor in op.inputs[1:]:
        quantization = model.subgraphs[0].tensors[tensor.index].quantization
        quantization.scale = quantization.scale / 2
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@pytest.mark.parametrize("layer", ["conv1", "conv2", "logits"])
def test_a_spoiled_layer_is_found(
    files: dict[str, bytes],
    ladder: dict[str, bytes],
    x_test: np.ndarray,
    healthy: tflite.Debugging,
    layer: str,
) -> None:
    content = spoiled(ladder["int8_fallback"], layer)
    found = tflite.debug(files["float32"], content, x_test[:30])
    assert layer in found.worst.layers
    assert found.worst.own > 3
    for row, before in zip(found.rows, healthy.rows, strict=True):
        if row is not found.worst:  # the others do their own work as well as before
            assert row.own < before.own + 0.15
    assert found.rows[-1].accumulated > 3 * healthy.rows[-1].accumulated


def test_a_clipped_input_is_found(
    baseline: Any, files: dict[str, bytes], calibration: np.ndarray, x_test: np.ndarray
) -> None:
    content = tflite.convert(baseline, "int8", calibration=0.3 * calibration[:50])
    found = tflite.debug(files["float32"], content, x_test[:20])
    assert found.worst.op == "INPUT"
    assert found.worst.own > 10


def test_other_files(
    baseline: Any,
    exported: bytes,
    ladder: dict[str, bytes],
    calibration: np.ndarray,
    x_test: np.ndarray,
) -> None:
    mixed = tflite.convert(
        baseline, "int8_fallback", calibration=calibration[:50], float_layers=["logits"]
    )
    *_, last = tflite.debug(baseline, mixed, x_test[:3]).rows
    assert (last.op, last.own_rmse) == ("FULLY_CONNECTED", 0)
    assert (last.scale, last.own, last.accumulated) == (None, None, None)
    assert 20 < last.sqnr_db < 60
    sixteen = tflite.debug(ladder["float32"], ladder["int16x8"], x_test[:10])
    eight = tflite.debug(ladder["float32"], ladder["int8"], x_test[:10])
    assert [row.op for row in sixteen.rows] == [row.op for row in eight.rows]
    assert sixteen.rows[-1].accumulated_rmse < eight.rows[-1].accumulated_rmse
    by_recipe = tflite.apply_recipe(exported, "static_wi8_ai8", calibration=calibration[:50])
    assert len(tflite.debug(ladder["float32"], by_recipe, x_test[:3]).rows) == 8


def test_text_and_page(healthy: tflite.Debugging) -> None:
    lines = repr(healthy).splitlines()
    assert lines[0].split()[:3] == ["op", "layers", "type"]
    assert len(lines) == 2 + 8
    assert "conv1, bn1, relu1" in lines[3]
    assert f"{healthy.rows[1].own:.3f}" in lines[3]
    assert healthy._repr_html_().count("<tr>") == 9


def test_nothing_reaches_the_reader(
    files: dict[str, bytes],
    ladder: dict[str, bytes],
    x_test: np.ndarray,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    tflite.debug(files["float32"], ladder["int8"], x_test[:2])
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_bad_input(files: dict[str, bytes], ladder: dict[str, bytes], x_test: np.ndarray) -> None:
    other = flatbuffer.read(ladder["float32"])
    del other.subgraphs[0].operators[-1]
    other.subgraphs[0].outputs = other.subgraphs[0].operators[-1].outputs
    other.signatureDefs = None
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(other))
    with pytest.raises(ValueError, match=r"the same ops in the same order.*from one model"):
        tflite.debug(content, ladder["int8"], x_test[:1])
    for images in (x_test[0], x_test[:0]):
        with pytest.raises(ValueError, match=r"images must have the shape \('n', 28, 28, 1\)"):
            tflite.debug(files["float32"], ladder["int8"], images)
    pixels = (255 * x_test[:1]).astype(np.uint8)
    for images, message in (
        (pixels, r"images must hold floats.*got uint8 from 0 to 25\d: scale.*mnist\.to_float"),
        (x_test[:1] * np.nan, "images must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            tflite.debug(files["float32"], ladder["int8"], images)
    with pytest.raises(ValueError, match=r"integer_bytes is not a \.tflite model"):
        tflite.debug(files["float32"], b"no model", x_test[:1])
    with pytest.raises(ValueError, match=r"float_model is not a \.tflite model"):
        tflite.debug(b"no model", ladder["int8"], x_test[:1])
    # The two in the wrong order, and files in which no activation is an integer.
    for first, second in (("int8", "float32"), ("float32", "dynamic"), ("float32", "float16")):
        with pytest.raises(ValueError, match=r"integer_bytes must .*convert with mode 'int8'"):
            tflite.debug(ladder[first], ladder[second], x_test[:1])
