"""Keep the biases of channels whose weights are next to nothing (lesson 06).

A bias is an int32 with the scale of its input times that of its channel's weights. If a channel is
switched off, as by batch norm with γ = 0, that scale is so small that the bias does not fit. The
TFLite converter makes the scale larger then; litert-quantizer clips the bias, and the channel's
output is lost. Here such a channel gets a *mark* before it is quantized, a weight that makes the
quantizer choose a large enough scale. Afterwards the integers of its own weights are put in.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any, NamedTuple

from quant_tutorial import flatbuffer
from quant_tutorial.flatbuffer import CASTS, WEIGHTED, Op

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST = 2.0**29  # steps of a bias; half of what the converter allows itself


class Channel(NamedTuple):
    """Channels of a layer whose biases do not fit."""

    op: int  # its place among the ops that are no casts
    numbers: NDArray[np.intp]
    scales: NDArray[np.float64]  # of the weights, large enough for their biases


def scales_for(bias: ArrayLike, input_scale: float) -> NDArray[np.float64]:
    """Return the smallest scales of the weights with which biases fit, shape (channels,)."""
    return np.abs(np.asarray(bias, np.float64)) / (input_scale * LARGEST)


def lost(float_bytes: bytes, content: bytes, spared: Container[int] = ()) -> list[Channel]:
    """List the channels whose biases a quantized file has clipped.

    Args:
        float_bytes: The float file.
        content: The file that was made from it.
        spared: The numbers of ops in the float file that are left out.
    """
    found = []
    for place, (before, after) in enumerate(_pairs(float_bytes, content)):
        if before.type not in WEIGHTED or before.index in spared:
            continue
        if len(after.inputs) < 3 or len(before.inputs) < 3:
            continue
        bias, weights, source = before.inputs[2], after.inputs[1], after.inputs[0]
        if source.params is None or bias.data is None:
            continue
        needed = scales_for(bias.data.ravel(), source.params.scale)
        # The largest int32 is four times as many steps as `scales_for` allows. The quantizer clips
        # the int64 biases beside int16 activations there as well.
        numbers = np.flatnonzero(needed >= 4 * np.broadcast_to(weights.scales, needed.shape))
        if len(numbers):
            found.append(Channel(place, numbers, needed[numbers]))
    return found


def with_marks(float_bytes: bytes, channels: list[Channel]) -> bytes:
    """Return the float file with a mark in each of these channels."""
    model, ops = flatbuffer.read(float_bytes), _ops(float_bytes)
    for channel in channels:
        op = ops[channel.op]
        rows = _rows(op)
        rows[channel.numbers, 0] = 127 * channel.scales
        _put(model, op, rows)
    return flatbuffer.write(model)


def without_marks(content: bytes, float_bytes: bytes, channels: list[Channel]) -> bytes:
    """Return a file that was made from marked floats with the integers of the float file."""
    model, ops, originals = flatbuffer.read(content), _ops(content), _ops(float_bytes)
    for channel in channels:
        op, integers = ops[channel.op], _rows(ops[channel.op])
        scales = op.inputs[1].scales[channel.numbers, np.newaxis]
        floats = _rows(originals[channel.op])[channel.numbers]
        integers[channel.numbers] = np.rint(floats / scales)
        _put(model, op, integers)
    return flatbuffer.write(model)


def _rows(op: Op) -> NDArray[np.generic]:
    """Return a copy of an op's weights with a row for each channel."""
    values = np.moveaxis(op.inputs[1].data, _axis(op), 0)
    return np.array(values.reshape(len(values), -1))


def _put(model: Any, op: Op, rows: NDArray[np.generic]) -> None:
    """Write weights with a row for each channel into a file's objects."""
    axis, shape = _axis(op), op.inputs[1].shape
    rest = shape[:axis] + shape[axis + 1 :]
    values = np.moveaxis(rows.reshape(shape[axis], *rest), 0, axis)
    buffer = model.buffers[model.subgraphs[0].tensors[op.inputs[1].index].buffer]
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)


def _axis(op: Op) -> int:
    return 3 if op.type == "DEPTHWISE_CONV_2D" else 0


def _ops(content: bytes) -> list[Op]:
    return [op for op in flatbuffer.graph(content).ops if op.type not in CASTS]


def _pairs(float_bytes: bytes, content: bytes) -> Iterator[tuple[Op, Op]]:
    before, after = _ops(float_bytes), _ops(content)
    return zip(before, after, strict=True) if len(before) == len(after) else iter(())
