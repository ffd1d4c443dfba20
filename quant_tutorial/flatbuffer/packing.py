"""Integers of fewer than 8 bits, and constants that can be overwritten (lesson 08)."""

from __future__ import annotations

from quant_tutorial.flatbuffer.parts import TYPES

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray


def unpacked(data: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.int8]:
    """Return integers of 8, 4 or 2 bits from the bytes that hold them, shape (count,) (lesson 08).

    A byte holds two 4-bit or four 2-bit integers, the first one in its lowest bits.
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (data[:, np.newaxis] >> shifts) << np.uint8(8 - bits)
    # The field stands at the upper end of its byte now: shifting back keeps the sign.
    values = fields.view(np.int8) >> np.int8(8 - bits)
    return values.ravel()[:count]


def packed(q: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """Return integers of 8, 4 or 2 bits, of any shape, as `unpacked` takes them (lesson 08)."""
    each = 8 // bits
    fields = np.zeros(-(-q.size // each) * each, np.uint8)
    fields[: q.size] = q.ravel().view(np.uint8) & (2**bits - 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(fields.reshape(-1, each) << shifts, axis=1).astype(np.uint8)


def constant_view(
    content: bytearray,
    values: NDArray[np.generic],
    type_name: str | None = None,
    prefix: str = "",
) -> NDArray | None:
    """Return a writable view of the constant that holds just these values, flat (lesson 08).

    What is written into it stands in the file. None when there is no such constant.

    Args:
        content: A `.tflite` file that `read` accepts.
        values: As the file has them, the shape does not matter; 4- and 2-bit ones `packed`.
        type_name: The type in the file, by default that of the values.
        prefix: What the constant's name begins with.
    """
    model = schema.Model.GetRootAs(content, 0)
    part = model.Subgraphs(0)
    wanted = type_name or values.dtype.name
    for index in range(part.TensorsLength()):
        tensor = part.Tensors(index)
        data = model.Buffers(tensor.Buffer())
        if data.DataLength() != values.nbytes or TYPES[tensor.Type()] != wanted:
            continue
        if not (tensor.Name() or b"").startswith(prefix.encode()):
            continue
        view = data.DataAsNumpy().view(values.dtype)  # not a copy
        if np.array_equal(view, values.ravel()):
            return view
    return None
