"""Prepare the ops that only move values."""

from __future__ import annotations

import itertools
import math
from typing import Any

from quant_tutorial.integer import ops
from quant_tutorial.integer.loading.source import (
    Built,
    Source,
    read_only,
    require_same_scale,
    shape_with_images,
    zero_point_of,
)
from quant_tutorial.integer.ops import Pair

import numpy as np
from ai_edge_litert import schema_py_generated as schema

Index = slice | int | None


def _moved(source: Source, function: Any, keeps: bool = True, **arguments: Any) -> Built:
    """Return a step for the first input, of whose integers none may change its meaning."""
    require_same_scale(source, source.input(0))
    return Built(function, source.inputs[:1], arguments, keeps)


def _reshaped(source: Source, shape: tuple[int, ...]) -> Built:
    return _moved(source, ops.reshape, shape=shape_with_images(source.input(0).shape, shape))


def reshape(source: Source) -> Built:
    """Prepare RESHAPE to a shape in an input, in the options, or of the output."""
    shape, options = source.output.shape, source.options
    if len(source.inputs) > 1:
        shape = tuple(int(length) for length in source.constant(1).ravel())
    elif options is not None and options.newShape is not None and len(options.newShape):
        shape = tuple(int(length) for length in options.newShape)
    count = math.prod(source.input(0).shape)
    if -1 in shape:
        known = math.prod(length for length in shape if length != -1)
        shape = tuple(count // known if length == -1 else length for length in shape)
    return _reshaped(source, shape)


def squeeze(source: Source) -> Built:
    """Prepare SQUEEZE, which drops axes of the length 1."""
    shape = source.input(0).shape
    given = source.options.squeezeDims
    axes = {int(axis) % len(shape) for axis in (() if given is None else given)}
    dropped = axes or {axis for axis, length in enumerate(shape) if length == 1}
    return _reshaped(source, tuple(n for axis, n in enumerate(shape) if axis not in dropped))


def expand(source: Source) -> Built:
    """Prepare EXPAND_DIMS, which makes a new axis of the length 1."""
    shape = list(source.input(0).shape)
    axis = int(source.constant(1).item()) % (len(shape) + 1)
    return _reshaped(source, (*shape[:axis], 1, *shape[axis:]))


def transpose(source: Source) -> Built:
    """Prepare TRANSPOSE."""
    axes = tuple(int(axis) % len(source.input(0).shape) for axis in source.constant(1))
    return _moved(source, ops.transpose, axes[:1] == (0,), axes=axes)


def flip(source: Source) -> Built:
    """Prepare REVERSE_V2."""
    rank = len(source.input(0).shape)
    axes = tuple(int(axis) % rank for axis in source.constant(1).ravel())
    return _moved(source, ops.flip, 0 not in axes, axes=axes)


def tile(source: Source) -> Built:
    """Prepare TILE."""
    times = tuple(int(count) for count in source.constant(1).ravel())
    return _moved(source, ops.tile, times[:1] == (1,), times=times)


def stretch(source: Source) -> Built:
    """Prepare BROADCAST_TO."""
    shape = tuple(int(length) for length in source.constant(1).ravel())
    return _moved(source, ops.stretch, keeps=False, shape=shape)


def _paddings(source: Source) -> tuple[Pair, ...]:
    return tuple((int(before), int(after)) for before, after in source.constant(1))


def pad(source: Source) -> Built:
    """Prepare PAD or PADV2."""
    paddings, value = _paddings(source), 0
    if source.output.scales.size:
        value = zero_point_of(source.output)
    if len(source.inputs) > 2:
        require_same_scale(source, source.input(2))
        value = int(source.constant(2).item())
    return _moved(source, ops.pad, paddings[0] == (0, 0), paddings=paddings, value=value)


def mirror_pad(source: Source) -> Built:
    """Prepare MIRROR_PAD."""
    paddings = _paddings(source)
    edge = source.options.mode == schema.MirrorPadMode.SYMMETRIC
    return _moved(source, ops.mirror_pad, paddings[0] == (0, 0), paddings=paddings, edge=edge)


def concatenate(source: Source) -> Built:
    """Prepare CONCATENATION; constants among its inputs belong to each image."""
    require_same_scale(source, *source.inputs)
    if source.options.fusedActivationFunction != schema.ActivationFunctionType.NONE:
        raise source.refuse("a fused activation")
    axis = source.options.axis % len(source.output.shape or source.input(0).shape)
    keeps = axis != 0 and all(tensor.data is None for tensor in source.inputs)
    return Built(ops.concatenate, source.inputs, {"axis": axis}, keeps)


def stack(source: Source) -> Built:
    """Prepare PACK; constants among its inputs belong to each image."""
    require_same_scale(source, *source.inputs)
    axis = source.options.axis % (len(source.input(0).shape) + 1)
    keeps = axis != 0 and all(tensor.data is None for tensor in source.inputs)
    return Built(ops.stack, source.inputs, {"axis": axis}, keeps)


def gather(source: Source) -> Built:
    """Prepare GATHER of places that are known beforehand."""
    if source.options is not None and source.options.batchDims:
        raise source.refuse("indices for each image")
    indices, rank = source.constant(1), len(source.input(0).shape)
    axis = (0 if source.options is None else source.options.axis) % rank
    return _moved(source, ops.gather, axis != 0, indices=read_only(indices), axis=axis)


def _sliced(source: Source, index: tuple[Index, ...], place: int = 0) -> Built:
    """Return a step that takes a part of an input.

    If all of the first axis is taken, it may hold several images.
    """
    x = source.input(place)
    first = index[0] if index else None
    keeps = isinstance(first, slice) and range(*first.indices(x.shape[0])) == range(x.shape[0])
    if keeps:
        index = (slice(None), *index[1:])
    return Built(ops.take_slice, (x,), {"index": index}, keeps)


def take_slice(source: Source) -> Built:
    """Prepare SLICE."""
    require_same_scale(source, source.input(0))
    begin, size = (source.constant(place).ravel().tolist() for place in (1, 2))
    return _sliced(
        source,
        tuple(
            slice(start, None if count == -1 else start + count)
            for start, count in zip(begin, size, strict=True)
        ),
    )


def strided_slice(source: Source) -> Built:
    """Prepare STRIDED_SLICE, whose options say in bits what each of its entries means."""
    require_same_scale(source, source.input(0))
    options = source.options
    begin, end, strides = (source.constant(place).ravel().tolist() for place in (1, 2, 3))
    if options.offset:
        raise source.refuse("ends that count from the beginning")
    index: list[Index] = []
    for entry, (start, stop, stride) in enumerate(zip(begin, end, strides, strict=True)):
        bit = 1 << entry
        if options.ellipsisMask & bit:
            later = range(entry + 1, len(begin))
            new = sum(bool(options.newAxisMask >> other & 1) for other in later)
            used = sum(one is not None for one in index)
            left = len(source.input(0).shape) - used - (len(later) - new)
            index += [slice(None)] * left
        elif options.newAxisMask & bit:
            index.append(None)
        elif options.shrinkAxisMask & bit:
            index.append(start)
        else:
            index.append(
                slice(
                    None if options.beginMask & bit else start,
                    None if options.endMask & bit else stop,
                    stride,
                )
            )
    return _sliced(source, tuple(index))


def split(source: Source) -> list[Built]:
    """Prepare SPLIT or SPLIT_V: one step for each output."""
    place = 1 if source.name == "SPLIT" else 0
    x = source.input(place)
    require_same_scale(source, x)
    axis = int(source.constant(0 if source.name == "SPLIT" else 2).item()) % len(x.shape)
    if source.name == "SPLIT":
        sizes = [x.shape[axis] // len(source.outputs)] * len(source.outputs)
    else:
        sizes = source.constant(1).ravel().tolist()
        rest = x.shape[axis] - sum(size for size in sizes if size != -1)
        sizes = [rest if size == -1 else size for size in sizes]
    ends = list(itertools.accumulate(sizes))
    before = (slice(None),) * axis
    return [
        _sliced(source, (*before, slice(end - size, end)), place)
        for end, size in zip(ends, sizes, strict=True)
    ]


def unstack(source: Source) -> list[Built]:
    """Prepare UNPACK: one step for each output."""
    x = source.input(0)
    require_same_scale(source, x)
    axis = source.options.axis % len(x.shape)
    before = (slice(None),) * axis
    return [_sliced(source, (*before, place)) for place in range(x.shape[axis])]


def space_to_batch(source: Source) -> Built:
    """Prepare SPACE_TO_BATCH_ND."""
    block = tuple(int(size) for size in source.constant(1))
    paddings = tuple((int(before), int(after)) for before, after in source.constant(2))
    value = zero_point_of(source.output)
    return _moved(
        source, ops.space_to_batch, keeps=False, block=block, paddings=paddings, value=value
    )


def batch_to_space(source: Source) -> Built:
    """Prepare BATCH_TO_SPACE_ND."""
    block = tuple(int(size) for size in source.constant(1))
    crops = tuple((int(before), int(after)) for before, after in source.constant(2))
    return _moved(source, ops.batch_to_space, keeps=False, block=block, crops=crops)


def depth_to_space(source: Source) -> Built:
    """Prepare DEPTH_TO_SPACE or SPACE_TO_DEPTH."""
    function = ops.depth_to_space if source.name == "DEPTH_TO_SPACE" else ops.space_to_depth
    return _moved(source, function, block=int(source.options.blockSize))


def nearest(source: Source) -> Built:
    """Prepare RESIZE_NEAREST_NEIGHBOR; LiteRT finds the places with float32."""
    options = source.options
    rows, columns = (
        _nearest_places(length, int(wanted), options.alignCorners, options.halfPixelCenters)
        for length, wanted in zip(
            source.input(0).shape[1:3], source.constant(1).ravel(), strict=True
        )
    )
    return _moved(source, ops.nearest, rows=rows, columns=columns)


def _nearest_places(length: int, wanted: int, corners: bool, centers: bool) -> Any:
    """Return for each place of an axis of the output the place in the input that it takes."""
    step = np.float32(length) / np.float32(wanted)
    if corners and wanted > 1:
        step = np.float32(length - 1) / np.float32(wanted - 1)
    places = (np.arange(wanted, dtype=np.float32) + np.float32(0.5 if centers else 0)) * step
    places = np.floor(places + np.float32(0.5)) if corners else np.floor(places)
    return read_only(np.clip(places.astype(np.int64), 0, length - 1))


def bilinear(source: Source) -> Built:
    """Prepare RESIZE_BILINEAR."""
    options = source.options
    size = tuple(int(length) for length in source.constant(1).ravel())
    return _moved(
        source,
        ops.bilinear,
        size=size,
        corners=bool(options.alignCorners),
        centers=bool(options.halfPixelCenters),
    )
