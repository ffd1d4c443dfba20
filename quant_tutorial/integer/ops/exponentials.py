"""Compute SOFTMAX with an exponential and a reciprocal in fixed point (lesson 07)."""

from __future__ import annotations

from quant_tutorial.integer.arithmetic import (
    INT32_MAX,
    doubling_high_multiply,
    rescale,
    rounding_shift,
)

import numpy as np
from numpy.typing import NDArray


def softmax(x: NDArray[np.int8], *, multiplier: int, shift: int) -> NDArray[np.int8]:
    """Compute SOFTMAX over the last axis with integers alone (lesson 07).

    The result is exp(x − max) / Σ exp(x − max). The rescaling by `multiplier` and `shift` converts
    the differences x − max to real numbers in units of 2^−26. It saturates at −32, whose
    exponential is 0. The output has the scale 1/256 and the zero point −128, so that a probability
    of 1 saturates at 127.
    """
    difference = x.astype(np.int32) - x.max(axis=-1, keepdims=True)
    exponential = exponential_of_negative(rescale(difference, multiplier, shift))

    total = rounding_shift(exponential, 12).sum(axis=-1, keepdims=True, dtype=np.int32)
    zeros = leading_zeros(total)  # total / 2^19 = (1 + fraction / 2^31) · 2^(12 − zeros)
    fraction = (total.astype(np.int64) << zeros) - 2**31
    quotient = doubling_high_multiply(reciprocal_of_one_plus(fraction), exponential)
    return np.clip(rounding_shift(quotient, 35 - zeros) - 128, -128, 127).astype(np.int8)


def exponential_of_negative(x: NDArray[np.int32]) -> NDArray[np.int32]:
    """Compute exp(x / 2^26) · 2^31 for x ≤ 0 with integers (lesson 07).

    x is split into a part in [−¼, 0) and the binary digits −¼, −½, −1 … −16. For the first part,
    four terms of the Taylor series around −⅛ are enough. For each digit that is present, the result
    is multiplied by the exponential of the digit, a constant. gemmlowp calls this function
    exp_on_negative_values.
    """
    quarter = 2**24
    rest = (x & (quarter - 1)) - quarter  # in [−¼, 0)
    a = (rest << 5) + 2**28  # 31 fractional bits, and + ⅛
    a2 = doubling_high_multiply(a, a)
    a3 = doubling_high_multiply(a2, a)
    a4 = doubling_high_multiply(a2, a2)
    third = doubling_high_multiply(rounding_shift(a4, 2) + a3, 715827883)  # (a⁴/4 + a³) / 3
    series = a + rounding_shift(third + a2, 1)  # a + a²/2 + a³/6 + a⁴/24
    result = 1895147668 + doubling_high_multiply(1895147668, series)  # exp(−⅛) · (1 + series)

    quarters = rest - x
    for digit, factor in enumerate(
        (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
    ):
        present = (quarters & (quarter << digit)) != 0
        result = np.where(present, doubling_high_multiply(result, factor), result)
    return np.where(x == 0, INT32_MAX, result).astype(np.int32)


def reciprocal_of_one_plus(x: NDArray[np.integer]) -> NDArray[np.int32]:
    """Compute 2^31 / (1 + x / 2^31) for x in [0, 2^31) with integers (lesson 07).

    Three Newton steps, r ← r + r · (1 − d·r), approach 1/d for d = (1 + x / 2^31) / 2. They start
    from the best linear approximation, 48/17 − 32/17 · d. r has 29 fractional bits, because it
    reaches 2. gemmlowp calls this function one_over_one_plus_x_for_x_in_0_1.
    """
    d = (x.astype(np.int64) + 2**31) >> 1
    r = 1515870810 + doubling_high_multiply(d, -1010580540)
    for _ in range(3):
        rest = 2**29 - doubling_high_multiply(d, r)
        r = r + (doubling_high_multiply(r, rest) << 2)
    return np.minimum(r.astype(np.int64) << 1, INT32_MAX).astype(np.int32)  # r / 2, 31 bits


def leading_zeros(x: NDArray[np.int32]) -> NDArray[np.int32]:
    """Count the zeros before the first 1 in the 32 bits of a positive integer (lesson 07)."""
    for places in (1, 2, 4, 8, 16):
        x = x | (x >> places)  # every bit below the first 1 becomes 1
    return 32 - np.bitwise_count(x).astype(np.int32)
