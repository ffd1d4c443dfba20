"""Check the answers to the exercises of lesson 07."""

from __future__ import annotations

from typing import Any

from quant_tutorial.checks.registry import exercise, is_number

import numpy as np


@exercise("07.1")
def _products_that_fit(answer: Any) -> str | None:
    right = (2**31 - 1) // (255 * 127)
    return is_number(answer, right, "the largest |x − z| is 255, the largest |w| 127.")


@exercise("07.2")
def _multiplier_and_shift(answer: Any) -> str | None:
    from quant_tutorial.integer import fixed_point

    multiplier, shift = answer
    if not 2**14 <= multiplier < 2**15:
        return "the multiplier must have 15 bits: from 2^14 to 2^15 − 1."
    right = fixed_point(0.0037, bits=15)
    return (
        None if (multiplier, shift) == right else "0.0037 = fraction · 2^shift, ½ ≤ fraction < 1."
    )


@exercise("07.3")
def _own_shift(answer: Any) -> str | None:
    from quant_tutorial.integer import rounding_shift

    big = 2**60 + np.arange(-3, 4)  # a float64 cannot hold all their bits
    x = np.concatenate([np.arange(-40, 41), big, -big]).astype(np.int64)
    for places in (0, 1, 2, 5):
        got = np.asarray(answer(x.copy(), places))
        if got.dtype.kind != "i":
            return f"the result must hold integers, got {got.dtype}."
        wrong = np.flatnonzero(got != rounding_shift(x, places))
        if wrong.size:
            first = x[wrong[0]]
            right = int(rounding_shift(first, places))
            return f"{first} divided by 2^{places} must give {right}, not {got[wrong[0]]}."
    return None
