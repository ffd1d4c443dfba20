"""Compute the ops that combine two tensors value by value (lesson 07).

The inputs may have any shapes that broadcast.
"""

from __future__ import annotations

from quant_tutorial.integer.arithmetic import (
    Output,
    doubling_high_multiply,
    rescale,
    rounding_shift,
    saturate,
    subtract_zero_point,
    to_output,
)
from quant_tutorial.integer.ops.convolving import Pair
from quant_tutorial.integer.ops.exponentials import leading_zeros, reciprocal_of_one_plus

import numpy as np
from numpy.typing import NDArray


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

    The common scale is twice the larger of the two, divided by 2^20. These 20 additional bits keep
    its rounding error far below one step of the output.
    """
    a, b = _on_common_scale((a, b), 20, zero_points, multipliers, shifts)
    return to_output(a + b, output)


def subtract(
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    *,
    zero_points: Pair,
    multipliers: Pair,
    shifts: Pair,
    output: Output,
) -> NDArray[np.int8]:
    """Compute SUB in the same way as ADD (lesson 07)."""
    a, b = _on_common_scale((a, b), 20, zero_points, multipliers, shifts)
    return to_output(a - b, output)


def squared_difference(
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    *,
    zero_points: Pair,
    multipliers: Pair,
    shifts: Pair,
    output: Output,
) -> NDArray[np.int8]:
    """Compute SQUARED_DIFFERENCE on a common scale with 7 additional bits (lesson 07).

    More bits would leave no room in an int32 for the square.
    """
    a, b = _on_common_scale((a, b), 7, zero_points, multipliers, shifts)
    difference = a - b
    return to_output(difference * difference, output)


def greater(
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    *,
    zero_points: Pair,
    multipliers: Pair,
    shifts: Pair,
    or_equal: bool,
) -> NDArray[np.bool_]:
    """Compute GREATER or GREATER_EQUAL, on a common scale with 8 additional bits (lesson 07)."""
    a, b = _on_common_scale((a, b), 8, zero_points, multipliers, shifts)
    return a >= b if or_equal else a > b


def _on_common_scale(
    inputs: tuple[NDArray[np.int8], NDArray[np.int8]],
    bits: int,
    zero_points: Pair,
    multipliers: Pair,
    shifts: Pair,
) -> list[NDArray[np.int32]]:
    """Return both inputs on one scale, which has so many additional bits."""
    return [
        rescale(subtract_zero_point(x, zero_point) << bits, multiplier, shift)
        for x, zero_point, multiplier, shift in zip(
            inputs, zero_points, multipliers, shifts, strict=True
        )
    ]


def multiply(
    a: NDArray[np.int8], b: NDArray[np.int8], *, zero_points: Pair, output: Output
) -> NDArray[np.int8]:
    """Compute MUL; the ratio of scales is scale_a · scale_b / scale_y (lesson 07)."""
    product = subtract_zero_point(a, zero_points[0]) * subtract_zero_point(b, zero_points[1])
    return to_output(product, output)


def divide(
    a: NDArray[np.int8], b: NDArray[np.int8], *, zero_points: Pair, output: Output
) -> NDArray[np.int8]:
    """Compute DIV as a multiplication by a reciprocal in fixed point (lesson 07).

    Raises:
        ZeroDivisionError: when `b` holds its zero point, which stands for real 0.
    """
    a, b = subtract_zero_point(a, zero_points[0]), subtract_zero_point(b, zero_points[1])
    if not b.all():
        raise ZeroDivisionError("DIV divides by 0: the divisor holds its zero point.")
    a, b = np.where(b < 0, -a, a), np.abs(b)
    zeros = leading_zeros(b)  # b = (1 + fraction / 2^31) · 2^(31 − zeros)
    fraction = (b.astype(np.int64) << zeros) - 2**31
    # Shifted to the left as far as there is room for, a keeps the most bits.
    size = np.maximum(np.abs(a), 1)
    room = np.where(a < 0, leading_zeros(2 * size - 1), leading_zeros(size) - 1)
    quotient = doubling_high_multiply(a << room, reciprocal_of_one_plus(fraction))
    scaled = doubling_high_multiply(quotient, output.multiplier).astype(np.int64)
    return saturate(rounding_shift(scaled, 31 - zeros + room - output.shift), output)


def maximum(a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.integer]:
    """Compute MAXIMUM; all three tensors have one scale and zero point (lesson 07)."""
    return np.maximum(a, b)


def minimum(a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.integer]:
    """Compute MINIMUM; all three tensors have one scale and zero point (lesson 07)."""
    return np.minimum(a, b)


def select(
    condition: NDArray[np.bool_], a: NDArray[np.integer], b: NDArray[np.integer]
) -> NDArray[np.integer]:
    """Compute SELECT_V2: a where the condition holds, else b; scales as for MAXIMUM (lesson 07)."""
    return np.where(condition, a, b)
