"""Write the objects of the schema as a `.tflite` file, and pack its weights (lesson 08)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quant_tutorial.flatbuffer.packing import packed
from quant_tutorial.flatbuffer.parts import ORDERED
from quant_tutorial.flatbuffer.reading import graph, read

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils


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
