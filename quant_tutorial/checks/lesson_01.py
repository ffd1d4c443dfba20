"""Check the answers to the exercises of lesson 01."""

from __future__ import annotations

from typing import Any

from quant_tutorial.checks.registry import exercise, is_number
from quant_tutorial.metrics import packed_bytes

_BASELINE_WEIGHTS = 14_066


@exercise("01.1")
def _bytes_at_4_bits(answer: Any) -> str | None:
    return is_number(
        answer, packed_bytes(_BASELINE_WEIGHTS, 4), "count the bits first; a byte has 8 of them."
    )


@exercise("01.2")
def _bits_that_fit(answer: Any) -> str | None:
    right = max(bits for bits in range(1, 33) if packed_bytes(_BASELINE_WEIGHTS, bits) <= 6144)
    return is_number(answer, right, "try a bit width, count the bytes, compare with 6,144.")
