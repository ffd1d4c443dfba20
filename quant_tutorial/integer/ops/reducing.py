"""Compute the ops that make one value of many: pooling, means, sums, extremes (lesson 07)."""

from __future__ import annotations

from quant_tutorial.integer.arithmetic import (
    Output,
    rescale_once,
    saturate,
    subtract_zero_point,
    to_output,
)
from quant_tutorial.integer.ops.convolving import Padding, Pair, windows

import numpy as np
from numpy.typing import NDArray


def max_pool(
    x: NDArray[np.int8], *, kernel: Pair, strides: Pair, padding: Padding, lowest: int, highest: int
) -> NDArray[np.int8]:
    """Compute MAX_POOL_2D; the largest integer stands for the largest real value (lesson 07)."""
    patches = windows(x, kernel, strides, padding, np.iinfo(x.dtype).min)
    return np.clip(patches.max(axis=(3, 4)), lowest, highest)


def average_pool(
    x: NDArray[np.int8], *, kernel: Pair, strides: Pair, padding: Padding, lowest: int, highest: int
) -> NDArray[np.int8]:
    """Compute AVERAGE_POOL_2D, the mean without the padding, ties away from zero (lesson 07).

    Input and output have the same scale and zero point, so the mean of the integers is enough.
    """
    inside = np.ones((1, *x.shape[1:3], 1), np.int32)
    total, count = (
        windows(values, kernel, strides, padding, 0).sum(axis=(3, 4), dtype=np.int32)
        for values in (x.astype(np.int32), inside)
    )
    average = np.sign(total) * ((np.abs(total) + count // 2) // count)
    return np.clip(average, lowest, highest).astype(x.dtype)


def mean(
    x: NDArray[np.int8], *, axes: tuple[int, ...], keep: bool, zero_point: int, output: Output
) -> NDArray[np.int8]:
    """Compute MEAN over some axes: a sum, with the division in the multiplier (lesson 07).

    `x` may have any shape. `keep` says whether the axes stay, with the length 1.
    """
    total = subtract_zero_point(x, zero_point).sum(axis=axes, keepdims=keep, dtype=np.int32)
    return to_output(total, output)


def add_up(
    x: NDArray[np.int8], *, axes: tuple[int, ...], keep: bool, zero_point: int, output: Output
) -> NDArray[np.int8]:
    """Compute SUM over some axes, of a tensor of any shape; it rounds once (lesson 07).

    LiteRT's optimized kernel multiplies by a 32-bit float. (The reference kernel is wrong: it
    leaves the zero point out.)
    """
    total = subtract_zero_point(x, zero_point).sum(axis=axes, keepdims=keep, dtype=np.int32)
    return saturate(rescale_once(total, output.multiplier, output.shift), output)


def largest(x: NDArray[np.integer], *, axes: tuple[int, ...], keep: bool) -> NDArray[np.integer]:
    """Compute REDUCE_MAX over some axes, of a tensor of any shape (lesson 07)."""
    return np.max(x, axis=axes, keepdims=keep)


def smallest(x: NDArray[np.integer], *, axes: tuple[int, ...], keep: bool) -> NDArray[np.integer]:
    """Compute REDUCE_MIN over some axes, of a tensor of any shape (lesson 07)."""
    return np.min(x, axis=axes, keepdims=keep)


def position_of_largest(x: NDArray[np.integer], *, axis: int, dtype: type) -> NDArray[np.integer]:
    """Compute ARG_MAX, where the largest value stands along an axis; the first of several."""
    return np.argmax(x, axis=axis).astype(dtype)


def position_of_smallest(x: NDArray[np.integer], *, axis: int, dtype: type) -> NDArray[np.integer]:
    """Compute ARG_MIN, where the smallest value stands along an axis; the first of several."""
    return np.argmin(x, axis=axis).astype(dtype)
