"""Write the objects of the schema as a `.tflite` file, and pack its weights (lesson 08)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from quant_tutorial.flatbuffer.packing import packed
from quant_tutorial.flatbuffer.parts import ORDERED
from quant_tutorial.flatbuffer.reading import graph, read

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

_PLACES = ("inputs", "outputs", "intermediates")  # an op's fields that hold numbers of tensors


class Part(NamedTuple):
    """Where a part of a graph begins and ends: tensors by index, with the names they get."""

    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


def write(model: Any) -> bytes:
    """Return the bytes of a file, from the objects that `read` returns (lesson 06)."""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def with_ends(
    model_bytes: bytes, inputs: Mapping[str, str], outputs: Mapping[str, str], *, is_ordered: bool
) -> bytes:
    """Return a file with its inputs and outputs in another order and with other names (lesson 06).

    Args:
        model_bytes: The content of the file, with one signature.
        inputs: The names of all inputs in the signature, in the new order, with their new names.
        outputs: The same for the outputs.
        is_ordered: Whether the file says from then on that its inputs may be given as a list, see
            `Graph.is_ordered`.
    """
    model = read(model_bytes)
    (signature,), part = model.signatureDefs, model.subgraphs[0]
    for side, names in (("inputs", inputs), ("outputs", outputs)):
        place = {name.encode(): number for number, name in enumerate(names)}
        entries = sorted(getattr(signature, side), key=lambda entry, place=place: place[entry.name])
        for entry, name in zip(entries, names.values(), strict=True):
            entry.name = name.encode()
        setattr(signature, side, entries)
        setattr(part, side, np.array([entry.tensorIndex for entry in entries], np.int32))
    if is_ordered:
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.ones(1, np.uint8)
        note = schema.MetadataT()
        note.name, note.buffer = ORDERED, len(model.buffers) - 1
        model.metadata = [*(model.metadata or ()), note]
    return write(model)


def split(model_bytes: bytes, parts: Iterable[Part]) -> list[bytes]:
    """Return a file for each of some parts of a graph, with the ops that it needs (lesson 05).

    An input's tensor is named as the converter names it: "serving_default_x:0" for the input x.

    Args:
        model_bytes: The content of the file, with one signature. Its other graphs, such as those of
            loops, are in each of the new files.
        parts: Where each part begins and ends.
    """
    whole = read(model_bytes)
    (signature,), graph = whole.signatureDefs, whole.subgraphs[0]
    files = []
    for part in parts:
        ops = _needed(graph.operators, part)
        used = {index for op in ops for field in _PLACES for index in _numbers(op, field)}
        kept = sorted({*used, *part.inputs.values(), *part.outputs.values()} - {-1})
        places = {-1: -1} | {index: place for place, index in enumerate(kept)}
        new = copy.copy(graph)
        new.tensors = [copy.copy(graph.tensors[index]) for index in kept]
        for name, index in part.inputs.items():
            new.tensors[places[index]].name = f"serving_default_{name}:0".encode()
        new.operators = [_with_places(op, places) for op in ops]
        new.inputs = [places[index] for index in part.inputs.values()]
        new.outputs = [places[index] for index in part.outputs.values()]
        ends = copy.copy(signature)
        for side, names in (("inputs", part.inputs), ("outputs", part.outputs)):
            setattr(ends, side, [_end(name, places[index]) for name, index in names.items()])
        model = copy.copy(whole)
        model.subgraphs, model.signatureDefs = [new, *map(_copied, whole.subgraphs[1:])], [ends]
        model.metadata = model.metadataBuffer = None
        tensors = [tensor for each in model.subgraphs for tensor in each.tensors or ()]
        buffers = sorted({0, *(tensor.buffer for tensor in tensors)})  # 0 stands for no constant
        model.buffers = [whole.buffers[number] for number in buffers]
        numbers = {number: place for place, number in enumerate(buffers)}
        for tensor in tensors:
            tensor.buffer = numbers[tensor.buffer]
        files.append(write(model))
    return files


def _numbers(op: Any, field: str) -> Sequence[int]:
    """Return the numbers of the tensors in one of an op's `_PLACES`."""
    found = getattr(op, field)
    return () if found is None else [*map(int, found)]


def _copied(graph: Any) -> Any:
    """Return a graph with tensors of its own."""
    copied = copy.copy(graph)
    copied.tensors = [*map(copy.copy, graph.tensors or ())]
    return copied


def _needed(ops: Sequence[Any], part: Part) -> list[Any]:
    """List the ops that compute a part's outputs from its inputs, in the file's order."""
    wanted, found = set(part.outputs.values()) - set(part.inputs.values()), []
    for op in reversed(ops):
        if wanted.intersection(_numbers(op, "outputs")):
            found.append(op)
            wanted.update(set(_numbers(op, "inputs")) - set(part.inputs.values()))
    return found[::-1]


def _with_places(op: Any, places: Mapping[int, int]) -> Any:
    """Return an op whose tensors have other numbers."""
    moved = copy.copy(op)
    for field in _PLACES:
        if getattr(op, field) is not None:
            setattr(moved, field, [places[index] for index in _numbers(op, field)])
    return moved


def _end(name: str, index: int) -> Any:
    """Return the entry of a signature for an input or an output."""
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


def with_packed(model_bytes: bytes, indices: Iterable[int], bits: int) -> bytes:
    """Return a file in which some int8 constants have fewer bits, and the same values (lesson 08).

    Their scales and zero points stay. Whether LiteRT has kernels for the new type is not checked.

    Args:
        model_bytes: The content of the file.
        indices: The constants, by `Tensor.index`.
        bits: 4 or 2.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, and for a tensor that is not an int8
            constant or has a value that does not fit into so many bits.
    """
    model, tensors = read(model_bytes), graph(model_bytes).tensors
    in_file = model.subgraphs[0].tensors
    replaced = set()
    for index in indices:
        found, low = tensors[index], -(2 ** (bits - 1))
        if found.data is None or found.type != "int8":
            kind = found.type if found.data is not None else "no constant"
            raise ValueError(f"indices must name int8 constants: tensor {index} is {kind}.")
        if found.data.size and (found.data.min() < low or found.data.max() >= -low):
            raise ValueError(
                f"bits={bits} hold {low} to {-low - 1}, and tensor {index} has the values "
                f"{found.data.min()} to {found.data.max()}."
            )
        # A new buffer, because tensors of equal bytes may share the old one.
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = packed(np.ascontiguousarray(found.data), bits)
        replaced.add(in_file[index].buffer)
        in_file[index].buffer = len(model.buffers) - 1
        in_file[index].type = getattr(schema.TensorType, f"INT{bits}")
    used = {tensor.buffer for part in model.subgraphs for tensor in part.tensors or ()}
    for index in replaced - used:
        model.buffers[index].data = None
    return write(model)


def with_one_scale(model_bytes: bytes, indices: Iterable[int]) -> bytes:
    """Return a file in which some constants have one scale instead of many equal ones (lesson 09).

    The values stay. A file with a scale for each channel says the same as one with a single scale
    if all of them are equal, but LiteRT for Microcontrollers takes int4 weights of dense layers in
    the second form only.

    Args:
        model_bytes: The content of the file.
        indices: The constants, by `Tensor.index`.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, and for a tensor whose scales or zero
            points differ.
    """
    model = read(model_bytes)
    in_file = model.subgraphs[0].tensors
    for index in indices:
        values = in_file[index].quantization
        if len(set(values.scale)) != 1 or len(set(values.zeroPoint)) != 1:
            raise ValueError(f"indices must name tensors with equal scales: tensor {index} is not.")
        values.scale, values.zeroPoint = values.scale[:1], values.zeroPoint[:1]
        values.quantizedDimension = 0
    return write(model)
