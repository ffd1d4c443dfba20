"""Check the answers to the exercises of lesson 03."""

from __future__ import annotations

from typing import Any

from quant_tutorial.affine import fake_quantize, params_from_range
from quant_tutorial.calibration import MovingAverage
from quant_tutorial.checks.registry import exercise, is_number
from quant_tutorial.metrics import mse

import numpy as np


@exercise("03.1")
def _moving_average(answer: Any) -> str | None:
    seen = MovingAverage(momentum=0.9)
    seen.observe([4.0])
    seen.observe([6.0])
    return is_number(
        answer, seen.range()[1], "the first batch sets the average, the second moves it."
    )


@exercise("03.2")
def _best_end(answer: Any) -> str | None:
    values = np.random.default_rng(3).exponential(1, 10_000)

    def error(end: int) -> float:
        return mse(values, fake_quantize(values, params_from_range(0, end, 3)))

    return is_number(answer, min(range(1, 9), key=error), "compute the error of each of the eight.")


@exercise("03.3")
def _own_observer(answer: Any) -> str | None:
    seen = answer()
    batches = np.random.default_rng(0).normal(size=(5, 20))
    for batch in batches:
        seen.observe(batch)
    if tuple(map(float, seen.range())) != (batches.min(), batches.max()):
        return f"after five batches range() gives {seen.range()}, not the extremes of all of them."
    try:
        answer().range()
    except ValueError:
        return None
    return "range() must raise a ValueError when nothing was observed."
