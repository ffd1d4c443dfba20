"""Compute each op of a full-integer model: integers in, integers out (lesson 07).

Unless stated otherwise, `x` holds 8-bit integers and has the shape (images, rows, columns,
channels). Every result equals that of LiteRT's reference kernel.
"""

from __future__ import annotations

from quant_tutorial.integer.arithmetic import Output, rescale, rescale_once, saturate

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Pair = tuple[int, int]  # of rows and of columns, or before and after
Padding = tuple[Pair, Pair]  # (above, below), (left, right)


def subtract_zero_point(x: NDArray[np.integer], zero_point: int) -> NDArray[np.int32]:
    """Subtract the zero point, which leaves the distance from real 0 in steps (lesson 07).

    A step is the scale of the tensor. `x` may have any shape. The result lies in [−255, 255], which
    does not fit into 8 bits.
    """
    return x.astype(np.int32) - zero_point


def same_padding(size: int, kernel: int, stride: int) -> Pair:
    """Return how many places SAME padding adds (before, after) along one axis (lesson 07).

    The output has ⌈size / stride⌉ places. If the number of added places is odd, the extra one goes
    after.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def windows(
    x: NDArray[np.integer], kernel: Pair, strides: Pair, padding: Padding, value: int
) -> NDArray[np.integer]:
    """Return a view of the patches that a sliding window covers, after padding (lesson 07).

    `kernel` is the size of the window, and all padding has the given value. The shape of the view
    is (images, rows, columns, window rows, window columns, channels).
    """
    padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)
    view = sliding_window_view(padded, kernel, axis=(1, 2))[:, :: strides[0], :: strides[1]]
    return np.moveaxis(view, 3, 5)


def convolve(
    x: NDArray[np.int8],
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    zero_point: int,
    strides: Pair,
    padding: Padding,
    output: Output,
) -> NDArray[np.int8]:
    """Compute CONV_2D (lesson 07).

    The weights have the shape (outputs, window rows, window columns, channels). The bias, of shape
    (outputs,), is in units of scale_x · scale_w, as is the accumulator. Padding is added after the
    zero point has been subtracted, so it is 0, which stands for real 0.
    """
    steps = subtract_zero_point(x, zero_point)
    patches = windows(steps, weights.shape[1:3], strides, padding, 0)
    patches = np.ascontiguousarray(patches)  # this copy halves the time of the next line
    accumulator = bias + np.einsum("nyxijc,oijc->nyxo", patches, weights.astype(np.int32))
    return saturate(rescale(accumulator, output.multiplier, output.shift), output)


def depthwise_convolve(
    x: NDArray[np.int8],
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    zero_point: int,
    strides: Pair,
    padding: Padding,
    output: Output,
) -> NDArray[np.int8]:
    """Compute DEPTHWISE_CONV_2D, in which each channel has one or more filters (lesson 07).

    The weights have the shape (1, window rows, window columns, outputs). The outputs of channel 0
    come first.
    """
    steps = subtract_zero_point(x, zero_point).repeat(weights.shape[3] // x.shape[3], axis=3)
    patches = windows(steps, weights.shape[1:3], strides, padding, 0)
    accumulator = bias + np.einsum("nyxijc,ijc->nyxc", patches, weights[0].astype(np.int32))
    return saturate(rescale(accumulator, output.multiplier, output.shift), output)


def fully_connected(
    x: NDArray[np.int8],
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    zero_point: int,
    output: Output,
    shape: tuple[int, ...],
) -> NDArray[np.int8]:
    """Compute FULLY_CONNECTED (lesson 07).

    The weights have the shape (units, inputs). `x` may have any shape (images, …) whose values form
    rows of `inputs`. `shape` is the shape of one image's output. The result is rounded once, as in
    LiteRT's reference kernel; see `rescale_once`.
    """
    rows = subtract_zero_point(x, zero_point).reshape(-1, weights.shape[1])
    accumulator = bias + np.einsum("ni,oi->no", rows, weights.astype(np.int32))
    rescaled = rescale_once(accumulator, output.multiplier, output.shift)
    return saturate(rescaled, output).reshape(len(x), *shape)


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
    x: NDArray[np.int8],
    *,
    axes: tuple[int, ...],
    zero_point: int,
    output: Output,
    shape: tuple[int, ...],
) -> NDArray[np.int8]:
    """Compute MEAN over some axes: a sum, with the division in the multiplier (lesson 07).

    `x` may have any shape (images, …). `shape` is the shape of one image's output.
    """
    total = subtract_zero_point(x, zero_point).sum(axis=axes, dtype=np.int32)
    rescaled = rescale(total, output.multiplier, output.shift)
    return saturate(rescaled, output).reshape(len(x), *shape)


def add(
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    *,
    zero_points: Pair,
    multipliers: Pair,
    shifts: Pair,
    output: Output,
) -> NDArray[np.int8]:
    """Compute ADD: rescale both inputs to one common scale, add, rescale the sum (lesson 07).

    The inputs may have any shapes that broadcast. The common scale is twice the larger of the two,
    divided by 2^20. These 20 additional bits keep its rounding error far below one step of the
    output.
    """
    common = [
        rescale(subtract_zero_point(x, zero_point) << 20, multiplier, shift)
        for x, zero_point, multiplier, shift in zip(
            (a, b), zero_points, multipliers, shifts, strict=True
        )
    ]
    return saturate(rescale(common[0] + common[1], output.multiplier, output.shift), output)


def requantize(x: NDArray[np.integer], *, zero_point: int, output: Output) -> NDArray[np.integer]:
    """Compute QUANTIZE to integers of another scale or type, or RELU or RELU6 (lesson 07).

    `x` may have any shape. An activation that is not fused into another op is a rescaling with a
    narrower range.
    """
    return saturate(
        rescale(subtract_zero_point(x, zero_point), output.multiplier, output.shift), output
    )


def reshape(x: NDArray[np.integer], *, shape: tuple[int, ...]) -> NDArray[np.integer]:
    """Compute RESHAPE; `shape` is the new shape of one image (lesson 07)."""
    return x.reshape(len(x), *shape)


def pad(x: NDArray[np.integer], *, paddings: tuple[Pair, ...], value: int) -> NDArray[np.integer]:
    """Compute PAD with the zero point, which stands for real 0 (lesson 07).

    `paddings` has a pair (before, after) for each axis, and `value` is the zero point.
    """
    return np.pad(x, paddings, constant_values=value)
