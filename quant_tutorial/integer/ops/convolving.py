"""Compute the ops that sum products with weights or with each other (lesson 07).

Unless stated otherwise, `x` holds 8-bit integers and has the shape (images, rows, columns,
channels).
"""

from __future__ import annotations

from quant_tutorial.integer.arithmetic import (
    Output,
    rescale_once,
    saturate,
    subtract_zero_point,
    to_output,
)

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Pair = tuple[int, int]  # of rows and of columns, or before and after
Padding = tuple[Pair, Pair]  # (above, below), (left, right)


def same_padding(size: int, kernel: int, stride: int) -> Pair:
    """Return how many places SAME padding adds (before, after) along one axis (lesson 07).

    The output has ⌈size / stride⌉ places. If the number of added places is odd, the extra one goes
    after.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def windows(
    x: NDArray[np.integer],
    kernel: Pair,
    strides: Pair,
    padding: Padding,
    value: int,
    dilation: Pair = (1, 1),
) -> NDArray[np.integer]:
    """Return a view of the patches that a sliding window covers, after padding (lesson 07).

    `kernel` is the size of the window, and all padding has the given value. With a dilation, the
    window takes only every second, third, … row or column of the place that it covers. The shape of
    the view is (images, rows, columns, window rows, window columns, channels).
    """
    padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)
    reach = tuple((size - 1) * apart + 1 for size, apart in zip(kernel, dilation, strict=True))
    view = sliding_window_view(padded, reach, axis=(1, 2))[:, :: strides[0], :: strides[1]]
    return np.moveaxis(view[..., :: dilation[0], :: dilation[1]], 3, 5)


def convolve(
    x: NDArray[np.int8],
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    zero_point: int,
    strides: Pair,
    padding: Padding,
    output: Output,
    dilation: Pair = (1, 1),
) -> NDArray[np.int8]:
    """Compute CONV_2D (lesson 07).

    The weights have the shape (outputs, window rows, window columns, channels). The bias, of shape
    (outputs,), is in units of scale_x · scale_w, as is the accumulator. Padding is added after the
    zero point has been subtracted, so it is 0, which stands for real 0. If the weights have fewer
    channels than `x`, the channels come in groups, and each group has its share of the outputs.
    """
    steps = subtract_zero_point(x, zero_point)
    patches = windows(steps, weights.shape[1:3], strides, padding, 0, dilation)
    patches = np.ascontiguousarray(patches)  # this copy halves the time of the next line
    channels, wide = weights.shape[3], weights.astype(np.int32)
    groups = x.shape[3] // channels
    per_group = weights.shape[0] // groups
    sums = [
        np.einsum(
            "nyxijc,oijc->nyxo",
            patches[..., group * channels : (group + 1) * channels],
            wide[group * per_group : (group + 1) * per_group],
        )
        for group in range(groups)
    ]
    accumulator = bias + (sums[0] if groups == 1 else np.concatenate(sums, axis=3))
    return to_output(accumulator, output)


def depthwise_convolve(
    x: NDArray[np.int8],
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    zero_point: int,
    strides: Pair,
    padding: Padding,
    output: Output,
    dilation: Pair = (1, 1),
) -> NDArray[np.int8]:
    """Compute DEPTHWISE_CONV_2D, in which each channel has one or more filters (lesson 07).

    The weights have the shape (1, window rows, window columns, outputs). The outputs of channel 0
    come first.
    """
    steps = subtract_zero_point(x, zero_point).repeat(weights.shape[3] // x.shape[3], axis=3)
    patches = windows(steps, weights.shape[1:3], strides, padding, 0, dilation)
    accumulator = bias + np.einsum("nyxijc,ijc->nyxc", patches, weights[0].astype(np.int32))
    return to_output(accumulator, output)


def transpose_convolve(
    x: NDArray[np.int8],
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    zero_point: int,
    strides: Pair,
    size: Pair,
    origin: Pair,
    output: Output,
) -> NDArray[np.int8]:
    """Compute TRANSPOSE_CONV: each input adds its multiple of the window to the output (lesson 07).

    The weights have the shape (outputs, window rows, window columns, channels). The windows of
    neighbouring inputs lie `strides` apart and overlap. `size` counts the output's rows and
    columns, and `origin` says where the output begins in the sum of all windows.
    """
    steps, (rows, columns) = subtract_zero_point(x, zero_point), weights.shape[1:3]
    span = [
        max((length - 1) * stride + width, start + wanted)
        for length, stride, width, start, wanted in zip(
            x.shape[1:3], strides, (rows, columns), origin, size, strict=True
        )
    ]
    sums = np.zeros((len(x), *span, len(weights)), np.int32)
    for row in range(rows):
        for column in range(columns):
            products = np.einsum("nyxc,oc->nyxo", steps, weights[:, row, column].astype(np.int32))
            below, beside = (
                slice(first, first + (length - 1) * stride + 1, stride)
                for first, length, stride in zip((row, column), x.shape[1:3], strides, strict=True)
            )
            sums[:, below, beside] += products
    inside = sums[:, origin[0] : origin[0] + size[0], origin[1] : origin[1] + size[1]]
    return to_output(bias + inside, output)


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

    The weights have the shape (units, inputs). `x` may have any shape whose values form rows of
    `inputs`. `shape` is that of the output, with −1 for the number of images. The result is rounded
    once, as in LiteRT's reference kernel; see `rescale_once`.
    """
    rows = subtract_zero_point(x, zero_point).reshape(-1, weights.shape[1])
    accumulator = bias + np.einsum("ni,oi->no", rows, weights.astype(np.int32))
    rescaled = rescale_once(accumulator, output.multiplier, output.shift)
    return saturate(rescaled, output).reshape(shape)


def multiply_matrices(
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    *,
    zero_points: Pair,
    transposed: tuple[bool, bool],
    output: Output,
) -> NDArray[np.int8]:
    """Compute BATCH_MATMUL: the products of matrices, which are the last two axes (lesson 07).

    `transposed` says of each input whether its last two axes are exchanged first.
    """
    wide = [
        np.swapaxes(steps, -1, -2) if turn else steps
        for steps, turn in zip(
            (subtract_zero_point(a, zero_points[0]), subtract_zero_point(b, zero_points[1])),
            transposed,
            strict=True,
        )
    ]
    accumulator = np.matmul(*wide)
    return to_output(accumulator, output)
