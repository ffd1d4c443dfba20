"""Format numbers, bit widths, percentages and decibels for the lessons' figures and sentences."""

from __future__ import annotations

from collections.abc import Sequence

EXACT = 80  # dB above which the only error is that of float arithmetic


def describe_number(value: float, form: str = "g") -> str:
    """Format a number with the minus sign that Matplotlib writes on its axes (lesson 02).

    `form` is a format specification, such as ".3g" or "+.2f".
    """
    return f"{value:{form}}".replace("-", "−")


def describe_db(value: float) -> str:
    """Format an SQNR in whole decibels, or as "exact" above `EXACT` dB (lesson 10)."""
    return "exact" if value > EXACT else describe_number(round(value), "d")


def describe_bits(bits: Sequence[int | None]) -> str:
    """Format bit widths: "8 bits" if all are the same, otherwise "8, 4, float bits" (lesson 10)."""
    words = ["float" if value is None else str(value) for value in bits]
    words = words[:1] if len(set(words)) == 1 else words
    return "float" if words == ["float"] else f"{', '.join(words)} bits"


def describe_percent(percent: Sequence[float]) -> str:
    """Format percentages: one if all are the same, otherwise each of them (lesson 10)."""
    words = [f"{value:g}" for value in percent]
    return f"{', '.join(words[:1] if len(set(words)) == 1 else words)}%"
