"""Check the answers to the exercises of lesson 02."""

from __future__ import annotations

from typing import Any

from quant_tutorial.affine import params_from_range, quantize
from quant_tutorial.checks.registry import exercise, is_number

import numpy as np


@exercise("02.1")
def _scale(answer: Any) -> str | None:
    right = params_from_range(-1, 1, 4).scale
    return is_number(answer, right, "how many intervals do 16 levels have between them?")


@exercise("02.2")
def _zero_point(answer: Any) -> str | None:
    right = params_from_range(-2, 6, 8).zero_point
    return is_number(
        answer, right, "round(qmin − min / scale), with qmin = −128 and 255 intervals."
    )


@exercise("02.3")
def _own_quantize(answer: Any) -> str | None:
    for low, high in ((0, 10), (-1, 3), (-127.5, 127.5)):
        params = params_from_range(low, high, 8)
        x = np.concatenate([np.linspace(low - 5, high + 5, 997), [0.5, 1.5, 2.5, -0.5, -2.5]])
        wrong = np.flatnonzero(
            np.asarray(answer(x, params.scale, params.zero_point)) != quantize(x, params)
        )
        if wrong.size:
            first = x[wrong[0]]
            return (
                f"x = {first:g} with scale {params.scale:.4g} and zero point {params.zero_point} "
                f"must give {quantize(first, params)}; look at rounding, offset and clipping."
            )
    return None


@exercise("02.4")
def _bits_for_error(answer: Any) -> str | None:
    right = next(n for n in range(2, 17) if params_from_range(-1, 1, n).scale / 2 < 0.001)
    return is_number(answer, right, "the largest rounding error is half a scale.")
