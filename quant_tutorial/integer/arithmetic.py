"""Multiply by a real number with integers alone: fixed-point arithmetic (lesson 07).

The functions are those of Google's gemmlowp library (`fixedpoint.h`), on which LiteRT's kernels are
built.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from quant_tutorial.affine import round_half_away

import numpy as np
from numpy.typing import ArrayLike, NDArray

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def fixed_point(ratio: float, bits: int = 31) -> tuple[int, int]:
    """Convert a scale ratio to (multiplier, shift): ratio ≈ multiplier / 2^bits · 2^shift.

    The multiplier has exactly `bits` bits, 2^(bits−1) ≤ multiplier < 2^bits, so its relative error
    is at most 2^−bits. A ratio below 2^−32 becomes (0, 0), as in LiteRT. LiteRT uses 31 bits; 53 or
    more keep every bit of a 64-bit float. Source: Jacob et al., section 2.2, where shift is −n.
    Lesson 07.

    Raises:
        ValueError: for a ratio outside [0, 2^30), or bits outside 1 to 62.
    """
    if not 0 <= ratio < 2**30:
        raise ValueError(f"ratio must lie in [0, 2^30), got {ratio}: are the scales mixed up?")
    if not 1 <= bits <= 62:
        raise ValueError(f"bits must be from 1 to 62, got {bits}.")
    fraction, shift = math.frexp(ratio)  # ratio = fraction · 2^shift, ½ ≤ fraction < 1
    multiplier = int(round_half_away(fraction * 2**bits))
    if multiplier == 2**bits:  # 0.999… was rounded up to 1
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def doubling_high_multiply(a: ArrayLike, b: ArrayLike) -> NDArray[np.int32]:
    """Multiply two fixed-point numbers: a · b / 2^31, rounded, with ties up (lesson 07).

    If a and b are interpreted as fractions of 2^31, the result is their product as a fraction of
    2^31. It is the high half of the doubled 64-bit product. Both may be any integers in the range
    of int32. Only the result of −2^31 · −2^31 is outside this range, and it saturates. gemmlowp
    calls this function SaturatingRoundingDoublingHighMul; on Arm it is one instruction (VQRDMULH).
    """
    product = np.multiply(a, b, dtype=np.int64)
    return np.minimum((product + 2**30) >> 31, INT32_MAX).astype(np.int32)


def rounding_shift(x: ArrayLike, exponent: ArrayLike) -> NDArray[np.signedinteger]:
    """Divide by 2^exponent and round to the nearest integer, ties away from zero (lesson 07).

    A plain shift to the right rounds down: −3 >> 1 is −2. Therefore 1 is added if the bits that are
    shifted out amount to at least half (for negative x, to more than half). The type of `x` is
    kept. The exponents are from 0 to 31 and broadcast with `x`. gemmlowp calls this function
    RoundingDivideByPOT.
    """
    x = np.asarray(x)
    exponent = np.asarray(exponent, x.dtype)
    mask = (np.left_shift(1, exponent, dtype=np.int64) - 1).astype(x.dtype)
    remainder = x & mask
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + (remainder > threshold)


def rescale(
    accumulator: ArrayLike, multiplier: ArrayLike, shift: ArrayLike
) -> NDArray[np.signedinteger]:
    """Multiply int32 values by multiplier / 2^31 · 2^shift with integers alone (lesson 07).

    A positive shift is done before the multiplication and saturates; a negative one is done after
    it. There are two roundings, and occasionally the first one creates a tie for the second: 0.49 →
    0.5 → 1. LiteRT calls this function MultiplyByQuantizedMultiplier. The multipliers have 31 bits,
    such as those from `fixed_point`. There is one for all values, or one for each channel (the last
    axis).
    """
    shift = np.asarray(shift)
    enlarged = np.asarray(accumulator, np.int64) << np.maximum(shift, 0)
    enlarged = np.clip(enlarged, INT32_MIN, INT32_MAX)
    return rounding_shift(doubling_high_multiply(enlarged, multiplier), np.maximum(-shift, 0))


def rescale_once(
    accumulator: ArrayLike, multiplier: ArrayLike, shift: ArrayLike
) -> NDArray[np.int64]:
    """Multiply int32 values by multiplier / 2^62 · 2^shift and round only once (lesson 07).

    Ties are rounded away from zero. This is for FULLY_CONNECTED, whose reference kernel multiplies
    by a 64-bit float. A multiplier of 62 bits has room for all 53 bits of that float. The product
    would need 93 bits. It is therefore composed of two products, with the upper and the lower 31
    bits of the multiplier, as in long multiplication. Its last 31 bits are dropped, because they
    cannot change the rounding. The float product is itself rounded, so it can lead to a different
    8-bit integer, but only within 2^−44 of a tie.
    """
    accumulator, multiplier = np.asarray(accumulator, np.int64), np.asarray(multiplier)
    magnitude = np.abs(accumulator)
    upper, lower = multiplier >> 31, multiplier & INT32_MAX
    product = magnitude * upper + (magnitude * lower >> 31)  # < 2^62 + 2^31
    places = 31 - np.asarray(shift)
    half = np.left_shift(1, places) >> 1  # ≤ 2^61
    return np.sign(accumulator) * ((product + half) >> places)


@dataclass(frozen=True, eq=False)
class Output:
    """The constants that convert an op's int32 values to the integers of its output (lesson 07).

    `multiplier` and `shift` are those of `rescale` (for FULLY_CONNECTED, of `rescale_once`), of
    shape () or (channels,). `lowest` and `highest` are the ends of the integer type, or of the
    activation that is fused with the op: for ReLU, `lowest` is the zero point.
    """

    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    zero_point: int
    lowest: int
    highest: int
    dtype: np.dtype


def saturate(values: NDArray[np.signedinteger], output: Output) -> NDArray[np.integer]:
    """Add the output's zero point and clamp to its range instead of wrapping around (lesson 07).

    Clamping comes first, because an int32 near its limit has no room for the zero point.
    """
    low, high = output.lowest - output.zero_point, output.highest - output.zero_point
    return (np.clip(values, low, high) + output.zero_point).astype(output.dtype)


def to_output(accumulator: ArrayLike, output: Output) -> NDArray[np.integer]:
    """Rescale int32 values to the output's scale, add its zero point and clamp (lesson 07)."""
    return saturate(rescale(accumulator, output.multiplier, output.shift), output)


def subtract_zero_point(x: NDArray[np.integer], zero_point: int) -> NDArray[np.int32]:
    """Subtract the zero point, which leaves the distance from real 0 in steps (lesson 07).

    A step is the scale of the tensor. `x` may have any shape. The result lies in [−255, 255], which
    does not fit into 8 bits.
    """
    return x.astype(np.int32) - zero_point
