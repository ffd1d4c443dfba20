"""Compute the ops that change each value of one tensor, of any shape (lesson 07)."""

from __future__ import annotations

from quant_tutorial.integer.arithmetic import (
    Output,
    rescale,
    rounding_shift,
    saturate,
    subtract_zero_point,
    to_output,
)
from quant_tutorial.integer.ops.convolving import Pair

import numpy as np
from numpy.typing import NDArray

_INT16_MIN, _INT16_MAX = -(2**15), 2**15 - 1


def requantize(x: NDArray[np.integer], *, zero_point: int, output: Output) -> NDArray[np.integer]:
    """Compute QUANTIZE to integers of another scale or type, or RELU or RELU6 (lesson 07).

    An activation that is not fused into another op is a rescaling with a narrower range.
    """
    return to_output(subtract_zero_point(x, zero_point), output)


def absolute(x: NDArray[np.int8], *, zero_point: int, output: Output) -> NDArray[np.int8]:
    """Compute ABS (lesson 07)."""
    steps = np.abs(subtract_zero_point(x, zero_point))
    return to_output(steps, output)


def leaky_relu(
    x: NDArray[np.int8], *, zero_point: int, multiplier: int, shift: int, sign: int, output: Output
) -> NDArray[np.int8]:
    """Compute LEAKY_RELU: another ratio below 0 than above (lesson 07).

    `multiplier` and `shift` stand for the size of the ratio below 0, and `sign` is its sign.
    """
    steps = subtract_zero_point(x, zero_point)
    below = sign * rescale(steps, multiplier, shift)
    return saturate(
        np.where(steps < 0, below, rescale(steps, output.multiplier, output.shift)), output
    )


def prelu(
    x: NDArray[np.int8],
    alpha: NDArray[np.int8],
    *,
    zero_points: Pair,
    multiplier: int,
    shift: int,
    output: Output,
) -> NDArray[np.int8]:
    """Compute PRELU: below 0, a multiplication by weights that broadcast with `x` (lesson 07)."""
    steps = subtract_zero_point(x, zero_points[0])
    product = steps * subtract_zero_point(alpha, zero_points[1])
    below = rescale(product, multiplier, shift)
    return saturate(
        np.where(steps < 0, below, rescale(steps, output.multiplier, output.shift)), output
    )


def look_up(
    x: NDArray[np.int8], *, table: NDArray[np.int8], lowest: int = -128, name: str
) -> NDArray[np.int8]:
    """Compute an op from a table of its 256 results, for −128 to 127 (lesson 07).

    `load` makes the table for LOGISTIC, TANH, GELU, EXP and others: a function of one 8-bit integer
    needs no arithmetic when the model runs. `lowest` is the smallest integer that the op takes.

    Raises:
        ValueError: for an integer below `lowest`, such as a negative number under SQRT.
    """
    if x.size and x.min() < lowest:
        raise ValueError(f"{name} takes {lowest} or more, got {x.min()}: a real number below 0.")
    return table[x.astype(np.int16) + 128]


def hard_swish(
    x: NDArray[np.int8], *, zero_point: int, gate_multiplier: int, gate_shift: int, output: Output
) -> NDArray[np.int8]:
    """Compute HARD_SWISH, x · clamp((x + 3) / 6, 0, 1), with 16 bits (lesson 07).

    The multipliers have 15 bits. That of the gate brings 3 to 2^15, where 16 bits saturate. Of the
    last product, the part below 2^−15 is dropped, not rounded: the errors of the two roundings
    before go in the other direction.
    """
    fine = subtract_zero_point(x, zero_point) << 7  # within 16 bits
    value = _high_multiply_16(fine, output.multiplier)
    gate = _saturate_16(fine << max(gate_shift - 1, 0))
    gate = _high_multiply_16(gate, gate_multiplier)
    gate = _saturate_16(gate << 1) if gate_shift > 0 else rounding_shift(gate, -gate_shift)
    gate = (gate + 2**15) >> 1  # from [−1, 1] to [0, 1]
    product = gate * value
    product = np.sign(product) * (np.abs(product) >> 15)
    return saturate(rounding_shift(product, -output.shift), output)


def _saturate_16(x: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.clip(x, _INT16_MIN, _INT16_MAX)


def _high_multiply_16(a: NDArray[np.int32], b: int) -> NDArray[np.int32]:
    """Multiply numbers of 16 bits as fractions of 2^15, with ties up."""
    return (a * b + 2**14) >> 15
