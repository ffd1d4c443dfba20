"""Compute the ops that only move values, and change none (lesson 07).

Tensors may have any shape and integer type.
"""

from __future__ import annotations

from quant_tutorial.integer.ops.convolving import Pair

import numpy as np
from numpy.typing import NDArray


def reshape(x: NDArray[np.integer], *, shape: tuple[int, ...]) -> NDArray[np.integer]:
    """Compute RESHAPE, SQUEEZE or EXPAND_DIMS; −1 stands for the number of images (lesson 07)."""
    return x.reshape(shape)


def transpose(x: NDArray[np.integer], *, axes: tuple[int, ...]) -> NDArray[np.integer]:
    """Compute TRANSPOSE: axis number i of the output is axis `axes[i]` of `x` (lesson 07)."""
    return np.transpose(x, axes)


def flip(x: NDArray[np.integer], *, axes: tuple[int, ...]) -> NDArray[np.integer]:
    """Compute REVERSE_V2: some axes backwards (lesson 07)."""
    return np.flip(x, axes)


def tile(x: NDArray[np.integer], *, times: tuple[int, ...]) -> NDArray[np.integer]:
    """Compute TILE: the tensor several times along each axis (lesson 07)."""
    return np.tile(x, times)


def stretch(x: NDArray[np.integer], *, shape: tuple[int, ...]) -> NDArray[np.integer]:
    """Compute BROADCAST_TO: axes of the length 1 repeated to those of `shape` (lesson 07)."""
    return np.broadcast_to(x, shape)


def pad(x: NDArray[np.integer], *, paddings: tuple[Pair, ...], value: int) -> NDArray[np.integer]:
    """Compute PAD with the zero point, which stands for real 0, or PADV2 (lesson 07).

    `paddings` has a pair (before, after) for each axis, and `value` is the integer to pad with.
    """
    return np.pad(x, paddings, constant_values=value)


def mirror_pad(
    x: NDArray[np.integer], *, paddings: tuple[Pair, ...], edge: bool
) -> NDArray[np.integer]:
    """Compute MIRROR_PAD; `edge` says whether the outermost values are repeated (lesson 07)."""
    return np.pad(x, paddings, mode="symmetric" if edge else "reflect")


def concatenate(*parts: NDArray[np.integer], axis: int) -> NDArray[np.integer]:
    """Compute CONCATENATION of tensors with one scale and zero point (lesson 07)."""
    return np.concatenate(parts, axis=axis)


def stack(*parts: NDArray[np.integer], axis: int) -> NDArray[np.integer]:
    """Compute PACK, which puts tensors of equal shape along a new axis (lesson 07)."""
    return np.stack(parts, axis=axis)


def take_slice(
    x: NDArray[np.integer], *, index: tuple[slice | int | None, ...]
) -> NDArray[np.integer]:
    """Compute SLICE, STRIDED_SLICE, or one output of SPLIT, SPLIT_V or UNPACK (lesson 07).

    `index` has for each axis a slice, or a number if the axis is dropped; None makes a new axis.
    """
    return x[index]


def gather(
    x: NDArray[np.integer], *, indices: NDArray[np.integer], axis: int
) -> NDArray[np.integer]:
    """Compute GATHER: the places of an axis that `indices` name (lesson 07)."""
    return np.take(x, indices, axis=axis)


def space_to_batch(
    x: NDArray[np.integer], *, block: tuple[int, ...], paddings: tuple[Pair, ...], value: int
) -> NDArray[np.integer]:
    """Compute SPACE_TO_BATCH_ND: every n-th row becomes an image of its own (lesson 07).

    `block` has an n for each axis after the first, as far as it goes. With it, a convolution with
    dilation becomes one without.
    """
    padded = np.pad(
        x, ((0, 0), *paddings, *[(0, 0)] * (x.ndim - 1 - len(block))), constant_values=value
    )
    split = [padded.shape[0]]
    for length, size in zip(padded.shape[1:], block, strict=False):
        split += [length // size, size]
    rest = padded.shape[1 + len(block) :]
    offsets = range(2, 2 * len(block) + 1, 2)
    order = [*offsets, 0, *(axis - 1 for axis in offsets)]
    order += range(len(order), len(order) + len(rest))
    lengths = [split[axis] for axis in range(1, len(split), 2)]
    return np.transpose(padded.reshape(*split, *rest), order).reshape(-1, *lengths, *rest)


def batch_to_space(
    x: NDArray[np.integer], *, block: tuple[int, ...], crops: tuple[Pair, ...]
) -> NDArray[np.integer]:
    """Compute BATCH_TO_SPACE_ND, which undoes SPACE_TO_BATCH_ND, and crops (lesson 07)."""
    count = len(block)
    split = x.reshape(*block, -1, *x.shape[1:])
    order = [count]
    for axis in range(count):
        order += [count + 1 + axis, axis]
    order += range(2 * count + 1, split.ndim)
    lengths = [length * size for length, size in zip(x.shape[1:], block, strict=False)]
    whole = np.transpose(split, order).reshape(-1, *lengths, *x.shape[1 + count :])
    inside = (
        slice(before, length - after)
        for (before, after), length in zip(crops, lengths, strict=True)
    )
    return whole[(slice(None), *inside)]


def depth_to_space(x: NDArray[np.integer], *, block: int) -> NDArray[np.integer]:
    """Compute DEPTH_TO_SPACE: each pixel's channels become a square of pixels (lesson 07)."""
    images, rows, columns, channels = x.shape
    split = x.reshape(images, rows, columns, block, block, channels // block**2)
    moved = np.transpose(split, (0, 1, 3, 2, 4, 5))
    return moved.reshape(images, rows * block, columns * block, -1)


def space_to_depth(x: NDArray[np.integer], *, block: int) -> NDArray[np.integer]:
    """Compute SPACE_TO_DEPTH, which undoes DEPTH_TO_SPACE (lesson 07)."""
    images, rows, columns, channels = x.shape
    split = x.reshape(images, rows // block, block, columns // block, block, channels)
    moved = np.transpose(split, (0, 1, 3, 2, 4, 5))
    return moved.reshape(images, rows // block, columns // block, -1)
