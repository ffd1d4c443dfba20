"""Register the checks of the exercises by number, with the helpers that they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Check = Callable[[Any], str | None]

# From the number of an exercise to a function that returns None for a right answer, else a hint.
CHECKS: dict[str, Check] = {}


def exercise(number: str) -> Callable[[Check], None]:
    """Register a function as the check of an exercise."""

    def register(function: Check) -> None:
        CHECKS[number] = function

    return register


def is_number(answer: Any, right: float, hint: str, tolerance: float = 1e-3) -> str | None:
    """Return None for the right number, and the hint for any other.

    A whole number must be exact. Any other may be rounded, to a relative error of `tolerance`.
    """
    if float(right).is_integer():
        tolerance = 0
    return None if math.isclose(float(answer), right, rel_tol=tolerance) else hint


def number_hint(
    answer: Any, right: float, mistakes: Mapping[str, float], hint: str, tolerance: float = 1e-3
) -> str | None:
    """Return None for the right number, the mistake that leads to another one, or the hint.

    Of several mistakes that lead to almost the same number, it is the nearest. The right number and
    the tolerance are those of `is_number`.
    """
    value = float(answer)
    if is_number(value, right, hint, tolerance) is None:
        return None
    nearest = min(mistakes, key=lambda mistake: abs(value - mistakes[mistake]))
    if math.isclose(value, mistakes[nearest], rel_tol=tolerance):
        return nearest
    if is_number(value, right, hint, tolerance=0.02) is None:  # never near a whole number
        return "close: give more digits."
    return hint


def with_suspect(found: str | None, suspects: Iterable[str]) -> str | None:
    """Return a hint with the first of the mistakes that would explain all answers, if there is one.

    Args:
        found: The hint, or None where nothing is wrong.
        suspects: What may have gone wrong.
    """
    if found is None:
        return None
    return found + "".join(f" It seems that {mistake}." for mistake in list(suspects)[:1])


def no_bytes(answer: Any) -> str:
    """Return the hint for an answer that is not the bytes of a file."""
    return f"the bytes of a .tflite file are needed, not {type(answer).__name__}."


def tflite_accuracy(model_bytes: bytes) -> float:
    """Return the accuracy of a .tflite file on MNIST's test set, 0 to 1."""
    from quant_tutorial import mnist, tflite

    data = mnist.load()
    return tflite.evaluate(model_bytes, mnist.to_float(data.x_test), data.y_test).accuracy
