"""Compute the ops that divide by a square root, with Newton's method in fixed point (lesson 07)."""

from __future__ import annotations

from quant_tutorial.integer.arithmetic import (
    INT32_MAX,
    INT32_MIN,
    Output,
    doubling_high_multiply,
    rescale,
    rounding_shift,
    saturate,
    subtract_zero_point,
)
from quant_tutorial.integer.ops.exponentials import leading_zeros

import numpy as np
from numpy.typing import NDArray

_ONE = 2**28  # 28 fractional bits
_BITS = 20  # additional bits of the root that RSQRT rescales


def inverse_root(x: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return 1 / √x as (multiplier, shift), for x ≥ 0: multiplier / 2^31 · 2^shift (lesson 07).

    x is first brought to [2^27, 2^29) by a power of four, whose root is a power of two. Five Newton
    steps, r ← 1.5 r − ½ x r³, begin at 1. LiteRT takes 0 for 1, and calls this function
    GetInvSqrtQuantizedMultiplierExp.
    """
    scaled, right = np.maximum(x, 2), np.full(np.shape(x), 11, np.int32)
    for _ in range(2):
        large = scaled >= 2**29
        scaled, right = np.where(large, scaled >> 2, scaled), right + large
    pairs = (leading_zeros(scaled) - 1 >> 1) - 1
    scaled, right = scaled << (2 * pairs), right - pairs
    half = rounding_shift(scaled >> 1, 1)
    root = np.full(np.shape(x), _ONE, np.int32)
    for _ in range(5):
        cube = doubling_high_multiply(doubling_high_multiply(root, root), root)
        step = doubling_high_multiply(_ONE + _ONE // 2, root)
        step = step - doubling_high_multiply(half, _times_power(cube, 6))
        root = _times_power(step, 3)
    root = doubling_high_multiply(root, 1518500250)  # √½
    root, right = root << np.maximum(-right, 0), np.maximum(right, 0)
    return np.where(x <= 1, INT32_MAX, root), np.where(x <= 1, 0, -right)


def _times_power(x: NDArray[np.int32], exponent: int) -> NDArray[np.int32]:
    """Multiply by 2^exponent, and saturate."""
    wide = x.astype(np.int64) << exponent
    return np.clip(wide, INT32_MIN, INT32_MAX).astype(np.int32)


def reciprocal_root(x: NDArray[np.int8], *, zero_point: int, output: Output) -> NDArray[np.int8]:
    """Compute RSQRT, 1 / √x; real 0 becomes the largest output (lesson 07).

    Raises:
        ValueError: when `x` holds a real number below 0.
    """
    steps = subtract_zero_point(x, zero_point)
    if (steps < 0).any():
        raise ValueError("RSQRT takes no real number below 0, and its input holds one.")
    multiplier, shift = inverse_root(steps)
    root = rescale(np.ones_like(steps), multiplier, shift + _BITS)
    result = saturate(rescale(root, output.multiplier, output.shift - _BITS), output)
    return np.where(steps == 0, output.highest, result).astype(output.dtype)


def normalize(x: NDArray[np.int8], *, zero_point: int, output: Output) -> NDArray[np.int8]:
    """Compute L2_NORMALIZATION: divide the last axis by its length (lesson 07).

    The scale of the output is 1/128.
    """
    steps = subtract_zero_point(x, zero_point)
    multiplier, shift = inverse_root((steps * steps).sum(axis=-1, keepdims=True, dtype=np.int32))
    return saturate(rescale(steps, multiplier, shift + 7), output)
