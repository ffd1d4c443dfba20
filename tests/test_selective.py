"""Layers and ops left in float, against TensorFlow's own quantization debugger."""

import tempfile
from typing import Any

from quant_tutorial import quiet, tflite
from quant_tutorial.tflite.saved_model import export_saved_model

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

pytestmark = pytest.mark.slow


def float_ops(content: bytes) -> list[str]:
    """The ops that compute in floats, with their layers."""
    casts = ("QUANTIZE", "DEQUANTIZE")
    ops = [op for op in tflite.inspect(content).ops if op.type not in casts]
    assert len(ops) > 2
    return [str(op).split("(")[1].rstrip(")") for op in ops if op.outputs[0].is_float]


def by_tensorflow(model: Any, calibration: np.ndarray, **options: Any) -> bytes:
    """The same by the public interface, which wants the names of the tensors."""
    with tempfile.TemporaryDirectory() as folder, quiet.all_output():
        export_saved_model(model, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=converter.representative_dataset,
            debug_options=tf.lite.experimental.QuantizationDebugOptions(**options),
        )
        return debugger.get_nondebug_quantized_model()


def test_a_layer(baseline: Any, calibration: np.ndarray, ladder: dict[str, bytes]) -> None:
    images = calibration[:20]
    mine = tflite.convert(baseline, "int8_fallback", calibration=images, float_layers=["conv2"])
    assert float_ops(mine) == ["CONV_2D, conv2, bn2, relu2"]
    (node,) = (
        op.outputs[0].name for op in tflite.inspect(ladder["float32"]).ops if "conv2" in op.layers
    )
    assert mine == by_tensorflow(baseline, images, denylisted_nodes=[node])
    # What went by the name "relu2" was fused into the same op.
    fused = tflite.convert(baseline, "int8_fallback", calibration=images, float_layers=["relu2"])
    assert fused == mine


def test_the_last_layer_and_integer_doors(
    baseline: Any, calibration: np.ndarray, x_test: np.ndarray, ladder: dict[str, bytes]
) -> None:
    options = {"calibration": calibration, "float_layers": ["logits"], "io": "uint8"}
    content = tflite.convert(baseline, "int8_fallback", **options)
    assert float_ops(content) == ["FULLY_CONNECTED, logits"]
    assert [t.type for t in tflite.input_output(content)] == ["uint8", "uint8"]
    expected = tflite.predict(ladder["float32"], x_test[:200])
    np.testing.assert_allclose(tflite.predict(content, x_test[:200]), expected, atol=1.5)


def test_types_of_ops(baseline: Any, calibration: np.ndarray) -> None:
    options = {"calibration": calibration[:20], "float_ops": ["CONV_2D"]}
    content = tflite.convert(baseline, "int8_fallback", **options)
    assert content == by_tensorflow(baseline, calibration[:20], denylisted_ops=["CONV_2D"])
    assert [name.split(",")[0] for name in float_ops(content)] == ["CONV_2D"] * 3
    per_tensor = tflite.convert(baseline, "int8_fallback", per_channel=False, **options)
    for file, count in ((content, 10), (per_tensor, 1)):
        (dense,) = (t for t in tflite.tensors(file) if t.kind == "weights" and t.type == "int8")
        assert len(dense.scales) == count


def test_names_that_differ_by_a_number_only(calibration: np.ndarray) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(2, 3, name="conv2d"),
            layers.Conv2D(2, 3, activation="relu", name="conv2d_1"),
            layers.Conv2D(2, 3, name="conv2d_2"),
            layers.Flatten(name="flatten"),
            layers.Dense(3, name="dense"),
            layers.Softmax(name="softmax"),
        ]
    )
    for name, op in (("conv2d_1", 1), ("softmax", -1)):
        content = tflite.convert(
            model, "int8_fallback", calibration=calibration[:5], float_layers=[name]
        )
        casts = ("QUANTIZE", "DEQUANTIZE")
        ops = [found for found in tflite.inspect(content).ops if found.type not in casts]
        assert [o.outputs[0].is_float for o in ops] == [o is ops[op] for o in ops]


def test_nested_models_and_branches(calibration: np.ndarray) -> None:
    layers = keras.layers
    image = keras.Input((28, 28, 1))
    first = layers.Conv2D(2, 3, padding="same", name="conv")(image)
    second = layers.Conv2D(2, 3, padding="same", name="conv_1")(first)
    inner = keras.Model(image, layers.Add(name="add")([first, second]), name="inner")
    x = layers.Flatten(name="flatten")(inner(image))
    model = keras.Model(image, layers.Dense(4, name="last")(x), name="outer")
    for name, expected in (
        ("add", ["ADD, inner/add"]),
        ("inner", ["CONV_2D, inner/conv", "CONV_2D, inner/conv_1", "ADD, inner/add"]),
    ):
        options = {"calibration": calibration[:5], "float_layers": [name]}
        assert float_ops(tflite.convert(model, "int8_fallback", **options)) == expected


def test_tf_keras_names(calibration: np.ndarray) -> None:
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(2, 3, name="conv"),
            layers.Conv2D(2, 3, name="conv_1"),
            layers.Flatten(),
            layers.Dense(3, name="dense_1"),
        ]
    )
    images = calibration[:5]
    for name, op in (("conv", "CONV_2D, conv"), ("conv_1", "CONV_2D, conv_1")):
        content = tflite.convert(model, "int8_fallback", calibration=images, float_layers=[name])
        assert float_ops(content) == [op]
    last = tflite.convert(model, "int8_fallback", calibration=images, float_layers=["dense_1"])
    assert [name.split(",")[0] for name in float_ops(last)] == ["FULLY_CONNECTED"]


class TestBadInput:
    def test_unknown_names(
        self, baseline: Any, calibration: np.ndarray, capfd: pytest.CaptureFixture[str]
    ) -> None:
        options = {"calibration": calibration[:5]}
        with pytest.raises(ValueError, match=r"no layer 'conv9'; it has image, conv1, bn1"):
            tflite.convert(baseline, "int8_fallback", float_layers=["conv1", "conv9"], **options)
        with pytest.raises(ValueError, match=r"'image' has no op of its own.*conv1.*logits"):
            tflite.convert(baseline, "int8_fallback", float_layers=["image"], **options)
        with pytest.raises(ValueError, match=r"no op 'ADD'; it has CONV_2D, MAX_POOL_2D"):
            tflite.convert(baseline, "int8_fallback", float_ops=["ADD"], **options)
        assert capfd.readouterr() == ("", "")

    def test_pooling_after_an_integer_op(self, baseline: Any, calibration: np.ndarray) -> None:
        images = calibration[:5]
        # TensorFlow's own tool makes integers of it without a word.
        theirs = by_tensorflow(baseline, images, denylisted_ops=["MAX_POOL_2D"])
        assert float_ops(theirs) == []
        options = {"calibration": images}
        message = r"\(MAX_POOL_2D, pool1\) stays in integers: .* only where the op before it"
        for wanted in ({"float_layers": ["pool1", "conv2"]}, {"float_ops": ["MAX_POOL_2D"]}):
            with pytest.raises(ValueError, match=message):
                tflite.convert(baseline, "int8_fallback", **options, **wanted)
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(2, 3, name="conv"),
                layers.AveragePooling2D(2, name="average"),
                layers.Flatten(name="flatten"),
                layers.Dense(3, name="dense"),
            ]
        )
        with pytest.raises(ValueError, match=r"\(AVERAGE_POOL_2D, average\) stays in integers"):
            tflite.convert(model, "int8_fallback", float_layers=["average"], **options)
        for spared, expected in (
            (["conv", "average"], ["CONV_2D, conv", "AVERAGE_POOL_2D, average"]),
            (["flatten"], ["RESHAPE, flatten"]),  # only moves, and may stay in float
        ):
            content = tflite.convert(model, "int8_fallback", float_layers=spared, **options)
            assert float_ops(content) == expected

    @pytest.mark.parametrize("option", ["float_layers", "float_ops"])
    def test_other_modes(self, baseline: Any, calibration: np.ndarray, option: str) -> None:
        for mode in ("dynamic", "int8", "int16x8"):
            images = None if mode == "dynamic" else calibration[:5]
            with pytest.raises(ValueError, match=f"{option} goes with mode 'int8_fallback' only"):
                tflite.convert(baseline, mode, calibration=images, **{option: ["conv1"]})
        with pytest.raises(ValueError, match=r"list of names, got 'conv1': write \['conv1'\]"):
            tflite.convert(baseline, "int8_fallback", calibration=images, **{option: "conv1"})
        with pytest.raises(ValueError, match=f"{option} needs calibration images"):
            tflite.convert(baseline, "int8_fallback", **{option: ["conv1"]})
