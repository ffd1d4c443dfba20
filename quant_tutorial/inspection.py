"""Read a `.tflite` file: its ops and tensors, and whether it is integer only (lesson 06).

The file is a FlatBuffer. It is read here with the schema that LiteRT ships, and not run: what the
interpreter lists depends on the kernels it has picked, and it shows 4- and 2-bit weights as int8.
"""

from __future__ import annotations

import html
import itertools
import math
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from quant_tutorial.affine import QuantParams
from quant_tutorial.table import Table

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

_TYPES = {v: k.lower() for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
_OPS = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
_SUFFIX = re.compile(r"_\d+$")
FLOWING = ("input", "output", "activation")  # kinds that are computed for each image
_FLOATS = ("float", "bfloat", "complex")
# Where the weights stand among the inputs of the ops that have some; the bias follows them.
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


class Tensor(NamedTuple):
    """One tensor of a `.tflite` file: an activation, a weight, a bias or a constant (lesson 06)."""

    name: str
    shape: tuple[int, ...]  # −1 stands for the batch
    dtype: np.dtype  # the array that LiteRT hands out: int8 for 4- and 2-bit tensors
    scales: NDArray[np.float32]  # none: not quantized; one: per tensor; several: per channel
    zero_points: NDArray[np.int32]
    axis: int  # the axis of the channels
    type: str  # as in the file: "float32", "int8", "int4", …
    kind: str  # input, output, activation, weights, dequantized weights, bias or constant
    bytes: int  # of its values: in the file for a constant, else in memory for one image
    index: int  # its number in the file, which the interpreter's get_tensor takes

    @property
    def bits(self) -> int:
        """The bit width of one value; 0 for types without a fixed one."""
        if self.type == "bool":
            return 8
        digits = re.search(r"\d+", self.type)
        return int(digits[0]) if digits else 0

    @property
    def is_float(self) -> bool:
        """Whether the values are floating-point numbers."""
        return self.type.startswith(_FLOATS)

    @property
    def params(self) -> QuantParams | None:
        """The map of the tensor's 2- to 16-bit integers, None for floats and wider integers."""
        if self.is_float or not 2 <= self.bits <= 16 or len(self.scales) == 0:
            return None
        signed = not self.type.startswith("u")
        if len(self.scales) == 1:
            return QuantParams(self.bits, float(self.scales[0]), int(self.zero_points[0]), signed)
        return QuantParams(self.bits, self.scales, self.zero_points, signed, axis=self.axis)


class Op(NamedTuple):
    """One operation of a `.tflite` file (lesson 06)."""

    index: int
    type: str  # CONV_2D, FULLY_CONNECTED, …
    layers: tuple[str, ...]  # the Keras layers in it, first to last; none when the file lost them
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def __str__(self) -> str:
        """Name the op as a reader would."""
        layers = ", ".join(self.layers)
        return f"op {self.index} ({self.type}{', ' if layers else ''}{layers})"


@dataclass(frozen=True)
class Inspection:
    """What a `.tflite` file holds, in the file's order (lesson 06)."""

    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    size: int  # of the file, in bytes
    integer_only: bool
    reason: str  # why, or why not

    @property
    def constant_bytes(self) -> int:
        """Bytes of all constants: weights, biases and shapes, as packed in the file."""
        return sum(tensor.bytes for tensor in self.tensors if _is_constant(tensor))

    @property
    def op_types(self) -> tuple[str, ...]:
        """The types of the ops, each once, in order of first use."""
        return tuple(dict.fromkeys(op.type for op in self.ops))

    @property
    def verdict(self) -> str:
        """The answer to the first question about an int8 file."""
        return f"Integer only: {'yes' if self.integer_only else 'no'}, because {self.reason}."

    @property
    def op_table(self) -> Table:
        """One row for each op: its layers and the types it reads and writes."""
        return Table(
            ["op", "type", "layers", "reads", "writes"],
            [
                [
                    op.index,
                    op.type,
                    ", ".join(op.layers),
                    ", ".join(tensor.type for tensor in op.inputs),
                    ", ".join(tensor.type for tensor in op.outputs),
                ]
                for op in self.ops
            ],
        )

    @property
    def tensor_table(self) -> Table:
        """One row for each tensor: type, shape, scales, zero points and bytes."""
        return Table(
            ["tensor", "kind", "type", "shape", "scale", "zero point", "bytes"],
            [
                [
                    _short(tensor.name),
                    tensor.kind,
                    tensor.type,
                    "×".join(map(str, tensor.shape)),
                    _several(tensor.scales, "{:.4g}"),
                    _several(tensor.zero_points, "{}"),
                    f"{tensor.bytes:,}",
                ]
                for tensor in self.tensors
            ],
        )

    def __repr__(self) -> str:
        """Give the verdict and both tables as text."""
        return f"{self.verdict}\n\n{self.op_table!r}\n\n{self.tensor_table!r}"

    def _repr_html_(self) -> str:
        tables = self.op_table._repr_html_() + self.tensor_table._repr_html_()
        return f"<p>{html.escape(self.verdict)}</p>{tables}"


def inspect(model_bytes: bytes) -> Inspection:
    """List the ops and tensors of a `.tflite` file; judge whether it is integer only (lesson 06).

    Only the main graph is read; files with branches or loops have others beside it.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    model = read(model_bytes)
    graph = model.subgraphs[0]
    kinds = _kinds(model)
    tensors = tuple(
        _tensor(index, tensor, model.buffers[tensor.buffer].data, kinds[index])
        for index, tensor in enumerate(graph.tensors)
    )
    suffixed = _has_suffixes(scopes(tensor.name) for tensor in tensors)
    ops = []
    for index, operator in enumerate(graph.operators):
        inputs, outputs = (
            tuple(tensors[i] for i in ids if i >= 0) for ids in (operator.inputs, operator.outputs)
        )
        layers = [_layer(path, suffixed) for path in op_scopes(inputs, outputs)]
        kind = _op_type(model.operatorCodes[operator.opcodeIndex])
        ops.append(Op(index, kind, tuple(dict.fromkeys(layers))[::-1], inputs, outputs))
    inputs, outputs = (tuple(tensors[i] for i in ids) for ids in (graph.inputs, graph.outputs))
    integer_only, reason = _judge(ops, inputs, outputs)
    return Inspection(tuple(ops), tensors, inputs, outputs, len(model_bytes), integer_only, reason)


def read(model_bytes: bytes) -> Any:
    """Read a `.tflite` file into the objects of its schema (`ModelT`), which can be changed.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    if not isinstance(model_bytes, (bytes, bytearray, memoryview)):
        raise ValueError(
            f"model_bytes must be the content of a .tflite file, got {type(model_bytes).__name__}: "
            "read it with Path(…).read_bytes()."
        )
    content = bytes(model_bytes)
    try:
        if content[4:8] != b"TFL3":
            raise ValueError("bytes 4 to 7 are not TFL3")
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        if not model.subgraphs:
            raise ValueError("it holds no graph")
    except (ValueError, TypeError, IndexError, struct.error, MemoryError) as error:
        raise ValueError(f"model_bytes is not a .tflite model: {error}.") from None
    return model


def integers(model_bytes: bytes, tensor: Tensor) -> NDArray[np.int8]:
    """Give the integers of a constant tensor of 8, 4 or 2 bits, unpacked, in its shape.

    A byte holds two 4-bit or four 2-bit integers, the first one in its lowest bits. Lesson 08.

    Args:
        model_bytes: The file.
        tensor: One of its `inspect(…).tensors`.

    Raises:
        ValueError: for a tensor that is no constant of such integers.
    """
    model = read(model_bytes)
    data = model.buffers[model.subgraphs[0].tensors[tensor.index].buffer].data
    if tensor.type not in ("int8", "int4", "int2") or data is None:
        raise ValueError(
            f"tensor must be a constant with integers of 8, 4 or 2 bits, got {tensor.name} "
            f"({tensor.kind}, {tensor.type})."
        )
    packed, bits = np.frombuffer(bytes(data), np.uint8), tensor.bits
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (packed[:, np.newaxis] >> shifts).astype(np.uint8) << (8 - bits)
    # The field stands at the upper end of its byte now: shifting back keeps the sign.
    values = fields.astype(np.uint8).view(np.int8) >> (8 - bits)
    return values.ravel()[: math.prod(tensor.shape)].reshape(tensor.shape)


def packed(q: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """Pack integers of 8, 4 or 2 bits as `integers` unpacks them (lesson 08)."""
    each = 8 // bits
    fields = np.zeros(-(-q.size // each) * each, np.uint8)
    fields[: q.size] = q.ravel().view(np.uint8) & (2**bits - 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(fields.reshape(-1, each) << shifts, axis=1).astype(np.uint8)


def constant_view(
    content: bytearray, values: NDArray[np.generic], type_name: str | None = None
) -> NDArray | None:
    """Give a writable view of the constant that holds just these values, flat; None without one.

    What is written into it stands in the file.

    Args:
        content: A `.tflite` file.
        values: As the file has them, the shape does not matter; 4- and 2-bit ones `packed`.
        type_name: The type in the file, by default that of the values.
    """
    graph = schema.Model.GetRootAs(content, 0)
    part = graph.Subgraphs(0)
    for index in range(part.TensorsLength()):
        tensor = part.Tensors(index)
        data = graph.Buffers(tensor.Buffer())
        wanted = type_name or values.dtype.name
        if data.DataLength() != values.nbytes or _TYPES[tensor.Type()] != wanted:
            continue
        view = data.DataAsNumpy().view(values.dtype)  # not a copy
        if np.array_equal(view, values.ravel()):
            return view
    return None


def scopes(tensor_name: str) -> list[tuple[str, ...]]:
    """Give the paths of layers in a tensor's name, without the model's own name at the head.

    A name such as `model/relu1/Relu;model/conv1/convolution` tells which ops were fused; the last
    part of each path is the op. Names without a path give nothing.
    """
    parts = [part.split("/") for part in tensor_name.split(";")]
    return list(dict.fromkeys(tuple(part[1:-1]) for part in parts if len(part) > 2))


def op_scopes(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[tuple[str, ...]]:
    """Give the paths of layers of an op, from its output's name or else from its weights'."""
    paths = [path for tensor in outputs for path in scopes(tensor.name)]
    if not paths:  # the model's output has another name: ask the weights
        paths = [path for t in inputs if t.kind not in FLOWING for path in scopes(t.name)]
    return list(dict.fromkeys(paths))


def without_suffix(name: str) -> str:
    """Drop the number that Keras 3's export adds to each layer's name: conv1_1 → conv1."""
    return _SUFFIX.sub("", name)


def _has_suffixes(paths: Iterable[list[tuple[str, ...]]]) -> bool:
    """Tell whether all layers' names end in a number and stay different without it: Keras 3."""
    layers = {path[0] for several in paths for path in several}
    return all(map(_SUFFIX.search, layers)) and len(set(map(without_suffix, layers))) == len(layers)


def _layer(path: tuple[str, ...], suffixed: bool) -> str:
    """Name a layer without the scopes inside it; of nested layers, Keras 3's numbers tell them."""
    if not suffixed:
        return path[0]
    return "/".join(map(without_suffix, itertools.takewhile(_SUFFIX.search, path)))


def _short(name: str) -> str:
    """Give the first of the fused names, without the model's and without the exporter's number."""
    first = name.split(";")[0].split("/")
    if len(first) < 3:
        return first[-1]
    return "/".join([*map(without_suffix, first[1:-1]), first[-1]])


def _op_type(code: Any) -> str:
    # Old files have room for 127 ops only, in the deprecated field; the larger number counts.
    name = _OPS[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return code.customCode.decode() if name == "CUSTOM" else name


def _kinds(model: Any) -> list[str]:
    """Say what each tensor of the main graph is for."""
    graph = model.subgraphs[0]
    constant = [model.buffers[tensor.buffer].data is not None for tensor in graph.tensors]
    kinds = ["constant" if c else "activation" for c in constant]
    for operator in graph.operators:
        if _op_type(model.operatorCodes[operator.opcodeIndex]) in _WEIGHTED:
            for index, kind in zip(operator.inputs[1:3], ("weights", "bias"), strict=False):
                if index >= 0:
                    kinds[index] = kind
    for operator in graph.operators:
        source, target = operator.inputs[0], operator.outputs[0]
        is_dequantize = _op_type(model.operatorCodes[operator.opcodeIndex]) == "DEQUANTIZE"
        if is_dequantize and constant[source]:
            kinds[source], kinds[target] = kinds[target], f"dequantized {kinds[target]}"
    for ids, kind in ((graph.inputs, "input"), (graph.outputs, "output")):
        for index in ids:
            kinds[index] = kind
    return kinds


def _is_constant(tensor: Tensor) -> bool:
    return tensor.kind in ("weights", "bias", "constant")


def _tensor(index: int, tensor: Any, data: NDArray[np.uint8] | None, kind: str) -> Tensor:
    quantization, kind_of_number = tensor.quantization, _TYPES[tensor.type]
    scales = () if quantization is None or quantization.scale is None else quantization.scale
    points = () if quantization is None else quantization.zeroPoint
    shape = () if tensor.shape is None else tensor.shape
    signature = shape if tensor.shapeSignature is None else tensor.shapeSignature
    found = Tensor(
        name=tensor.name.decode(),
        shape=tuple(int(n) for n in signature),
        dtype=_dtype(kind_of_number),
        scales=np.array(scales, np.float32),
        zero_points=np.zeros(len(scales), np.int32)
        if points is None
        else np.array(points, np.int32),
        axis=0 if quantization is None else quantization.quantizedDimension,
        type=kind_of_number,
        kind=kind,
        bytes=0,
        index=index,
    )
    values = math.prod(int(n) for n in shape)
    return found._replace(bytes=-(-values * found.bits // 8) if data is None else len(data))


def _dtype(type_name: str) -> np.dtype:
    if type_name in ("int4", "int2", "uint4"):
        return np.dtype(type_name.rstrip("0123456789") + "8")
    try:
        return np.dtype(type_name)
    except TypeError:  # strings, resources, bfloat16: NumPy has no type for them
        return np.dtype(object)


def _several(values: NDArray[np.generic], form: str) -> str:
    """Write one value, or how many there are and between which two."""
    different = np.unique(values)
    if len(different) < 2:
        return "".join(map(form.format, different))
    return f"{len(values)}: {form.format(different[0])} … {form.format(different[-1])}"


def _judge(
    ops: Sequence[Op], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> tuple[bool, str]:
    """Say whether no op reads or writes a float, and why, or the first one that does."""
    spoilers = [op for op in ops if any(t.is_float for t in (*op.inputs, *op.outputs))]
    if not spoilers:
        return True, f"every tensor of its {len(ops)} ops holds integers"
    names_in, names_out = ({t.name for t in side} for side in (inputs, outputs))
    # Ops that do nothing but turn a float input into integers, or integers into a float output.
    doors = [
        op
        for op in spoilers
        if (op.type == "QUANTIZE" and op.inputs[0].name in names_in)
        or (op.type == "DEQUANTIZE" and op.outputs[0].name in names_out)
    ]
    inner = [op for op in spoilers if op not in doors]
    if not inner:
        sides = [
            f"the {side} is {tensor.type} and {op} {work}"
            for op in doors
            for side, tensor, work in (
                ("input", op.inputs[0], f"makes it {op.outputs[0].type}")
                if op.type == "QUANTIZE"
                else ("output", op.outputs[0], f"makes it from {op.inputs[0].type}"),
            )
        ]
        return False, "; ".join(sides) + "; all other ops compute in integers"
    for op in inner:
        if op.type == "DEQUANTIZE" and op.inputs[0].kind == "weights":
            return False, f"{op} turns {op.inputs[0].type} weights into {op.outputs[0].type}"
    # The op that computes in floats says more than the QUANTIZE and DEQUANTIZE around it.
    op = next((op for op in inner if op.type not in ("QUANTIZE", "DEQUANTIZE")), inner[0])
    weights = [t for t in op.inputs if t.kind == "weights" and not t.is_float]
    if weights and op.outputs[0].is_float:
        return False, (
            f"only the weights of {op} are {weights[0].type}: "
            f"it reads and writes {op.outputs[0].type}"
        )
    tensor = next(t for t in (*op.inputs, *op.outputs) if t.is_float)
    verb = "reads" if any(t is tensor for t in op.inputs) else "writes"
    return False, f"{op} {verb} {tensor.type} ({tensor.kind} {_short(tensor.name)})"
