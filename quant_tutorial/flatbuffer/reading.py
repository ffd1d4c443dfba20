"""Read a `.tflite` file and check every number that LiteRT relies on (lesson 06)."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from quant_tutorial import op_names
from quant_tutorial.flatbuffer.offsets import check_head, check_offsets, checked_content
from quant_tutorial.flatbuffer.op_checks import check_op
from quant_tutorial.flatbuffer.order import check_calls, check_order, signatures_of
from quant_tutorial.flatbuffer.packing import unpacked
from quant_tutorial.flatbuffer.parts import (
    NOT_A_MODEL,
    OPTIONAL,
    ORDERED,
    TYPES,
    WEIGHTED,
    Graph,
    Node,
    Op,
    Tensor,
    bits_of,
    checked_indices,
    checked_text,
    code_names,
    damaged_error,
    lengths_text,
    owner_of,
)

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

_OPS = code_names(schema.BuiltinOperator)
_LARGEST = 2**30  # bytes of one tensor: a damaged length asks for far more, a sound model for less
_LARGEST_RANK = 8  # LiteRT's kernels have room for so many axes, most of them for fewer
_MEMORIES = ("none", "tensors", "variables")  # the later needs more to be forgotten
_RECURRENT = re.compile("LSTM|RNN|SVDF")
_BUILTIN = frozenset(_OPS.values())


def read(model_bytes: bytes) -> Any:
    """Return a `.tflite` file as the objects of its schema (`ModelT`), which can be changed.

    Every offset has been followed, but no number checked: that is `graph`'s part. Lesson 06.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, or a damaged one.
    """
    content = checked_content(model_bytes)
    check_head(content)
    check_offsets(content)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    if not model.subgraphs:
        raise ValueError(f"{NOT_A_MODEL}: it holds no graph.")
    return model


def graph(model_bytes: bytes, name: str = "model_bytes") -> Graph:
    """Return the main graph of a `.tflite` file, checked as far as LiteRT relies on it (lesson 06).

    The other graphs of a file with branches or loops are checked as well; see `Graph.others`.

    Args:
        model_bytes: The content of the file.
        name: What messages call it: the argument by which the caller got it.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, or a damaged one; the message names
            the tensor or the op that is wrong.
    """
    try:
        return _checked_graph(model_bytes)
    except ValueError as error:
        raise ValueError(str(error).replace("model_bytes", name, 1)) from None


def _checked_graph(model_bytes: bytes) -> Graph:
    model = read(model_bytes)
    file = _File(checked_content(model_bytes), model, _op_types(model))
    parts = [_part(file, index) for index in range(len(model.subgraphs))]
    check_calls(model)
    suffixed = op_names.has_suffixes(tensor.name for tensor in parts[0].tensors)
    main, *others = (
        replace(part, ops=tuple(replace(op, layers=_layers(op, suffixed)) for op in part.ops))
        for part in parts
    )
    memory = max((part.memory for part in parts), key=_MEMORIES.index)
    signatures = signatures_of(model, parts)
    return replace(
        main,
        signatures=signatures,
        memory=memory,
        others=tuple(others),
        is_ordered=any(entry.name == ORDERED for entry in model.metadata or ()),
    )


def _layers(op: Op, suffixed: bool) -> tuple[str, ...]:
    names = (op_names.layer_name(path, suffixed) for path in op.paths)
    return tuple(dict.fromkeys(names))[::-1]


def _op_types(model: Any) -> list[str]:
    return [_op_type(index, code) for index, code in enumerate(model.operatorCodes or ())]


def _op_type(index: int, code: Any) -> str:
    # Old files have room for 127 ops only, in the deprecated field; the larger number counts.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number not in _OPS:
        raise damaged_error(f"its operator code {index} is {number}, which stands for no op")
    if _OPS[number] != "CUSTOM":
        return _OPS[number]
    if not code.customCode:
        raise damaged_error(f"its operator code {index} is a custom op without a name")
    return checked_text(code.customCode, f"operator code {index}")


def _part(file: _File, number: int) -> Graph:
    """Return one graph of the file, checked."""
    part = file.model.subgraphs[number]
    count = len(part.tensors or ())
    ends = [
        checked_indices(ids, count, f"an {side} of graph {number}")
        for ids, side in ((part.inputs, "input"), (part.outputs, "output"))
    ]
    calls = [_call(file, index, op, count) for index, op in enumerate(part.operators or ())]
    values = [_values(file, index, tensor) for index, tensor in enumerate(part.tensors or ())]
    states = {index for index, raw in enumerate(part.tensors or ()) if raw.isVariable}
    kinds = _kinds(calls, [v is not None for v in values], states, *ends)
    tensors = tuple(
        _tensor(file, index, tensor, values[index], kinds[index])
        for index, tensor in enumerate(part.tensors or ())
    )
    ops = []
    for index, (op_type, inputs, outputs, options) in enumerate(calls):
        entries = tuple(tensors[i] if i >= 0 else None for i in inputs)
        exits = tuple(tensors[i] for i in outputs if i >= 0)
        check_op(Node(index, op_type, entries, exits, options))
        there = tuple(tensor for tensor in entries if tensor is not None)
        ops.append(Op(index, op_type, there, exits, options))
    inputs, outputs = (tuple(tensors[i] for i in ids) for ids in ends)
    stored = {index for index, found in enumerate(values) if found is not None}
    check_order(ops, inputs, outputs, stored | states)
    memory = "tensors" if states else "none"
    if any(op.type == "VAR_HANDLE" for op in ops):
        memory = "variables"
    size = len(file.content)
    return Graph(tuple(ops), tensors, inputs, outputs, MappingProxyType({}), size, memory)


class _Call(NamedTuple):
    """An op with the numbers of its tensors; −1 for an input that is left out."""

    type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any


def _call(file: _File, index: int, op: Any, count: int) -> _Call:
    """Return an op of the file, when it is one that exists and its tensors do."""
    if op.opcodeIndex >= len(file.op_types):
        raise damaged_error(
            f"op {index} has operator code {op.opcodeIndex}, and there are {len(file.op_types)}"
        )
    op_type = file.op_types[op.opcodeIndex]
    is_builtin = op_type in _BUILTIN
    free = None if not is_builtin or _RECURRENT.search(op_type) else OPTIONAL.get(op_type, -1)
    name = f"op {index} ({op_type})"
    inputs = checked_indices(
        op.inputs, count, f"an input of {name}", may_lack=lambda i: free in (None, i)
    )
    outputs = checked_indices(
        op.outputs, count, f"an output of {name}", may_lack=lambda _: not is_builtin
    )
    checked_indices(op.intermediates, count, f"a tensor inside {name}", may_lack=lambda _: True)
    return _Call(op_type, inputs, outputs, op.builtinOptions)


def _kinds(
    calls: Sequence[_Call],
    constant: Sequence[bool],
    states: Iterable[int],
    inputs: Iterable[int],
    outputs: Iterable[int],
) -> list[str]:
    """Say what each tensor of a graph is for."""
    kinds = ["constant" if c else "activation" for c in constant]
    for call in calls:
        if call.type in WEIGHTED:
            for place, kind in ((1, "weights"), (OPTIONAL[call.type], "bias")):
                if place < len(call.inputs) and call.inputs[place] >= 0:
                    kinds[call.inputs[place]] = kind
    for call in calls:
        if call.type == "DEQUANTIZE" and call.inputs and call.outputs:
            source, target = call.inputs[0], call.outputs[0]
            if constant[source]:
                kinds[source], kinds[target] = kinds[target], f"dequantized {kinds[target]}"
    for ids, kind in ((states, "state"), (inputs, "input"), (outputs, "output")):
        for index in ids:
            kinds[index] = kind
    return kinds


class _Values(NamedTuple):
    """The bytes of a constant."""

    size: int
    data: NDArray[np.uint8] | None  # None when they are in another file


def _values(file: _File, index: int, raw: Any) -> _Values | None:
    """Return the bytes of a tensor that is a constant, None for one that is computed."""
    if raw.externalBuffer:
        sizes = {buffer.id: buffer.length for buffer in file.model.externalBuffers or ()}
        if raw.externalBuffer not in sizes:
            raise damaged_error(f"tensor {index} has values in another file that it does not name")
        return _Values(sizes[raw.externalBuffer], None)
    buffers = file.model.buffers or ()
    if raw.buffer >= len(buffers):
        raise damaged_error(
            f"tensor {index} has its values in buffer {raw.buffer}, and there are {len(buffers)}"
        )
    buffer = buffers[raw.buffer]
    data = buffer.data
    if buffer.offset > 1:  # a file of more than 2 GB: the values follow the FlatBuffer
        end = buffer.offset + buffer.size
        if end > len(file.content):
            raise damaged_error(
                f"tensor {index} has its values in bytes {buffer.offset:,} to {end:,}, and the "
                f"file has {len(file.content):,}: was it cut short?"
            )
        data = np.frombuffer(file.content, np.uint8, buffer.size, buffer.offset)
    if data is not None and len(data):
        return _Values(len(data), data)
    # An empty list, such as the shape of a single number, needs no values to be a constant.
    is_empty_list = raw.shape is not None and raw.shape.tolist() == [0]
    return _Values(0, np.zeros(0, np.uint8)) if is_empty_list else None


@functools.cache
def _dtype(type_name: str) -> np.dtype:
    if type_name in ("int4", "int2", "uint4"):
        return np.dtype(type_name.rstrip("0123456789") + "8")
    try:
        return np.dtype(type_name)
    except TypeError:  # strings, resources, bfloat16: NumPy has no type for them
        return np.dtype(object)


def _tensor(file: _File, index: int, raw: Any, values: _Values | None, kind: str) -> Tensor:
    """Return a tensor of the file, checked."""
    name = checked_text(raw.name, f"tensor {index}")
    owner = owner_of(name, index)
    if raw.type not in TYPES:
        raise damaged_error(f"{owner} has type {raw.type}, which stands for none")
    type_name = TYPES[raw.type]
    static, shape = _shapes(raw, owner)
    size = -(-math.prod(static) * bits_of(type_name) // 8)
    if values is None and size > _LARGEST:
        raise damaged_error(
            f"{owner} holds {lengths_text(static)} values, more than {_LARGEST:,} bytes"
        )
    # The others have as many bytes as it takes.
    is_plain = raw.sparsity is None and bits_of(type_name) > 0
    if values is not None and is_plain and values.size != size:
        raise damaged_error(
            f"{owner} holds {lengths_text(static)} values of {type_name}, which take {size:,} "
            f"bytes, and the file has {values.size:,} of it"
        )
    has_data = values is not None and values.data is not None and is_plain
    data = _array(values.data, type_name, static) if has_data else None
    scales, zero_points = _quantization(raw.quantization, type_name, static, owner, data)
    return Tensor(
        name=name,
        shape=shape,
        dtype=_dtype(type_name),
        scales=_read_only(scales),
        zero_points=_read_only(zero_points),
        axis=0 if raw.quantization is None else raw.quantization.quantizedDimension,
        type=type_name,
        kind=kind,
        bytes=size if values is None else values.size,
        index=index,
        is_blockwise=_is_blockwise(raw.quantization),
        data=data,
    )


def _shapes(raw: Any, owner: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of a tensor, and the one in which −1 stands for an open length."""
    static = shape = () if raw.shape is None else tuple(raw.shape.tolist())
    if raw.shapeSignature is not None and len(raw.shapeSignature):
        shape = tuple(raw.shapeSignature.tolist())
    if len(static) > _LARGEST_RANK:
        raise damaged_error(f"{owner} has {len(static)} axes, more than {_LARGEST_RANK}")
    if min(static, default=0) < 0:
        raise damaged_error(f"{owner} has the shape {static}")
    if len(shape) != len(static) or any(
        b not in (a, -1) for a, b in zip(static, shape, strict=False)
    ):
        raise damaged_error(f"{owner} has both the shape {static} and the shape {shape}")
    return static, shape


def _is_blockwise(quantization: Any) -> bool:
    details = None if quantization is None else quantization.details
    return isinstance(details, schema.BlockwiseQuantizationT)


def _quantization(
    raw: Any,
    type_name: str,
    shape: tuple[int, ...],
    owner: str,
    data: NDArray[np.generic] | None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the scales and the zero points of a tensor, checked."""
    if raw is None or raw.scale is None or len(raw.scale) == 0:
        return np.zeros(0, np.float32), np.zeros(0, np.int64)
    scales, points = np.array(raw.scale, np.float32), np.zeros(len(raw.scale), np.int64)
    if raw.zeroPoint is not None and len(raw.zeroPoint):
        points = np.array(raw.zeroPoint, np.int64)
    # XNNPACK gives up on the tiny numbers that float32 holds with fewer digits, and LiteRT does not
    # notice. A bias, which is wider, may have such a scale.
    least = np.finfo(np.float32).tiny if bits_of(type_name) <= 16 else 0
    if len(points) != len(scales):
        raise damaged_error(f"{owner} has {len(scales)} scales and {len(points)} zero points")
    axis = raw.quantizedDimension
    if len(scales) > 1 and shape[axis : axis + 1] != (len(scales),):
        raise damaged_error(
            f"{owner} has {len(scales)} scales along axis {axis}, and {lengths_text(shape)} values"
        )
    # The 16x8 converter gives the scale 0 to a channel of weights that are all 0, and to its bias.
    good = (scales > 0) & (scales >= least) | (scales == 0) & _silent(data, axis, len(scales))
    if not (np.isfinite(scales) & good).all():
        raise damaged_error(f"{owner} has a scale that is not positive and finite")
    low, high = _ends(type_name)
    if points.min() < low or points.max() > high:
        raise damaged_error(f"{owner} has a zero point outside {low} to {high}")
    return scales, points


def _silent(data: NDArray[np.generic] | None, axis: int, channels: int) -> NDArray[np.bool_]:
    """Return which channels of a constant are all 0; a bias may have any value."""
    if data is None:
        return np.zeros(channels, bool)
    if data.dtype.itemsize > 2:
        return np.ones(channels, bool)
    rows = np.moveaxis(data, axis, 0).reshape(channels, -1) if channels > 1 else data.reshape(1, -1)
    return ~rows.any(axis=1)


def _ends(type_name: str) -> tuple[int, int]:
    """Return the lowest and the highest zero point of a type; LiteRT keeps it in an int32."""
    bits = min(bits_of(type_name), 32)
    if type_name.startswith("u") and bits < 32:
        return 0, 2**bits - 1
    if not type_name.startswith("int"):
        bits = 32
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _array(
    data: NDArray[np.uint8], type_name: str, shape: tuple[int, ...]
) -> NDArray[np.generic] | None:
    """Return the values of a constant, None for a type that NumPy does not have."""
    dtype, bits = _dtype(type_name), bits_of(type_name)
    if dtype.hasobject:
        return None
    if bits >= 8:
        return _read_only(np.frombuffer(data, dtype).reshape(shape))
    values = unpacked(data, bits, math.prod(shape))
    if dtype.kind == "u":
        values = values.view(np.uint8) & np.uint8(2**bits - 1)
    return _read_only(values.reshape(shape))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


class _File(NamedTuple):
    """What the graphs of a file share."""

    content: bytes
    model: Any
    op_types: list[str]
