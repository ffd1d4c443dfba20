"""What `inspect` reads out of a file, against LiteRT's interpreter, and the verdict."""

from typing import Any

from quant_tutorial import flatbuffer, tflite

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

MODES = ["float32", "dynamic", "float16", "int8_fallback", "int8", "int16x8"]


def interpreter_of(content: bytes) -> Interpreter:
    # XNNPACK would show its own op in place of those of the file.
    without = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=without)
    interpreter.allocate_tensors()
    return interpreter


@pytest.mark.parametrize("mode", MODES)
def test_tensors_are_those_of_the_interpreter(ladder: dict[str, bytes], mode: str) -> None:
    interpreter = interpreter_of(ladder[mode])
    details = {d["index"]: d for d in interpreter.get_tensor_details()}
    found = tflite.inspect(ladder[mode])
    # Beyond those of the file the interpreter lists what its kernels calculate with.
    scratch = {d["name"] for index, d in details.items() if index >= len(found.tensors)}
    assert scratch <= {"", "Conv_hwcn_weights", "Conv_row_sums"}
    for index, tensor in enumerate(found.tensors):
        theirs = details[index]
        quantization = theirs["quantization_parameters"]
        assert (tensor.index, tensor.name, tensor.dtype) == (index, theirs["name"], theirs["dtype"])
        assert tensor.type == np.dtype(theirs["dtype"]).name
        assert tensor.shape == tuple(theirs["shape"])
        np.testing.assert_array_equal(tensor.scales, quantization["scales"])
        np.testing.assert_array_equal(tensor.zero_points, quantization["zero_points"])
        assert tensor.axis == quantization["quantized_dimension"]
        if tensor.kind in ("weights", "bias", "constant"):
            assert tensor.bytes == interpreter.get_tensor(index).nbytes
        else:
            assert tensor.bytes == np.prod(theirs["shape"]) * np.dtype(theirs["dtype"]).itemsize
    assert found.size == len(ladder[mode])
    assert found.constant_bytes < found.size
    assert [t.index for t in found.inputs] == [interpreter.get_input_details()[0]["index"]]
    assert [t.index for t in found.outputs] == [interpreter.get_output_details()[0]["index"]]


@pytest.mark.parametrize("mode", MODES)
def test_ops_are_those_of_the_interpreter(ladder: dict[str, bytes], mode: str) -> None:
    found = tflite.inspect(ladder[mode])
    theirs = interpreter_of(ladder[mode])._get_ops_details()
    assert [op.type for op in found.ops] == [op["op_name"] for op in theirs]
    for op, other in zip(found.ops, theirs, strict=True):
        assert [t.index for t in op.inputs] == [i for i in other["inputs"] if i >= 0]
        assert [t.index for t in op.outputs] == list(other["outputs"])


def test_layers_and_kinds(ladder: dict[str, bytes]) -> None:
    found = tflite.inspect(ladder["int8"])
    assert [op.layers for op in found.ops] == [
        ("conv1", "bn1", "relu1"),
        ("pool1",),
        ("conv2", "bn2", "relu2"),
        ("pool2",),
        ("conv3", "bn3", "relu3"),
        ("flatten",),
        ("logits",),
    ]
    assert [t.kind for t in found.ops[0].inputs] == ["input", "weights", "bias"]
    assert [t.kind for t in found.ops[-1].inputs] == ["activation", "weights", "bias"]
    assert found.ops[-1].outputs[0].kind == "output"
    assert found.op_types == ("CONV_2D", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED")
    half = tflite.inspect(ladder["float16"])
    assert {t.kind for op in half.ops[:8] for t in op.inputs} == {"weights", "bias"}
    assert half.ops[-1].inputs[1].kind == "dequantized weights"


def test_default_and_nested_names() -> None:
    layers = keras.layers
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(2, 3, name="conv"),
            layers.Conv2D(2, 3, name="conv_1"),
        ],
        name="inner",
    )
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 3, name="conv")(inner(image))
    model = keras.Model(image, layers.Dense(3, name="out")(layers.Flatten(name="flat")(x)))
    found = tflite.inspect(tflite.convert(model, "float32"))
    assert [op.layers for op in found.ops[:3]] == [("inner/conv",), ("inner/conv_1",), ("conv",)]


class TestVerdict:
    @pytest.mark.parametrize(
        ("mode", "reason"),
        [
            ("float32", r"op 0 \(CONV_2D, conv1, bn1, relu1\) reads float32 \(input "),
            ("dynamic", r"op 0 \(CONV_2D, conv1, bn1, relu1\) reads float32"),
            ("float16", r"op 3 \(DEQUANTIZE, conv3\) turns float16 weights into float32"),
            (
                "int8_fallback",
                r"the input is float32 and op 0 \(QUANTIZE\) makes it int8; the output is float32 "
                r"and op 8 \(DEQUANTIZE\) makes it from int8; all other ops compute in integers",
            ),
        ],
    )
    def test_no(self, ladder: dict[str, bytes], mode: str, reason: str) -> None:
        found = tflite.inspect(ladder[mode])
        assert not found.integer_only
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(found.reason)
        assert found.verdict == f"Integer only: no, because {found.reason}."

    def test_yes(self, ladder: dict[str, bytes], files: dict[str, bytes]) -> None:
        for content in (ladder["int8"], ladder["int16x8"], files["int8, uint8 input"]):
            found = tflite.inspect(content)
            assert found.integer_only
            assert f"every tensor of its {len(found.ops)} ops holds integers" in found.verdict
            kinds = {details["dtype"] for details in interpreter_of(content).get_tensor_details()}
            assert all(np.issubdtype(kind, np.integer) for kind in kinds)

    def test_only_the_weights_are_integers(self) -> None:
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="wide")])
        found = tflite.inspect(tflite.convert(model, "dynamic"))
        assert "only the weights of op 0 (FULLY_CONNECTED, wide) are int8" in found.reason


def test_text_and_page(ladder: dict[str, bytes]) -> None:
    found = tflite.inspect(ladder["int8"])
    lines = repr(found).splitlines()
    assert lines[0] == found.verdict
    (weights,) = (line for line in lines if line.startswith("conv1/convolution"))
    for entry in ("weights", "int8", "8×3×3×1", "8: 0.007647 … 0.02682", "72"):
        assert entry in weights
    page = found._repr_html_()
    assert page.startswith("<p>Integer only: yes")
    assert page.count("<table>") == 2


@pytest.mark.parametrize("content", [b"", b"no model", b"    TFL3", b"\xff" * 4 + b"TFL3" * 9])
def test_other_bytes(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"model_bytes is not a \.tflite model"):
        tflite.inspect(content)


@pytest.mark.parametrize("content", ["model.tflite", keras.Model(), 8, None])
def test_no_bytes(content: Any) -> None:
    message = rf"must be the content of a \.tflite file, got {type(content).__name__}: read it with"
    with pytest.raises(ValueError, match=message):
        tflite.inspect(content)


def test_half_a_file(files: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=r"model_bytes is not a \.tflite model"):
        tflite.inspect(files["float32"][: len(files["float32"]) // 2])


def test_params_know_their_bits() -> None:
    def tensor(kind: str, scales: Any, points: Any) -> flatbuffer.Tensor:
        arrays = np.array(scales, np.float32), np.array(points, np.int32)
        dtype = np.dtype(np.int8)
        return flatbuffer.Tensor("t", (2,), dtype, *arrays, 0, kind, "weights", 1, 0)

    assert tensor("int4", [0.5, 1], [0, 0]).params.bits == 4
    assert tensor("int2", [0.5], [0]).params.qmin == -2
    assert not tensor("uint8", [0.5], [7]).params.signed
    assert tensor("int32", [0.5], [0]).params is None
    assert tensor("float16", [], []).params is None
    assert tensor("int8", [], []).params is None
