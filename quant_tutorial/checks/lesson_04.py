"""Check the answers to the exercises of lesson 04."""

from __future__ import annotations

import math
from typing import Any

from quant_tutorial.checks.registry import exercise, is_number

import numpy as np


@exercise("04.1")
def _count_of_scales(answer: Any) -> str | None:
    return is_number(answer, 8 + 16 + 32 + 10, "one for each output channel of each layer.")


@exercise("04.2")
def _folded(answer: Any) -> str | None:
    gain = 2 / math.sqrt(3 + 1)
    right = 3.0 * gain, (0.0 - 0.5) * gain + 0.1
    if np.allclose(np.asarray(answer, float), right):
        return None
    return "the factor is γ/√(variance + ε); the mean is multiplied by it too, β is not."


@exercise("04.3")
def _channel_scales(answer: Any) -> str | None:
    kernel = np.random.default_rng(1).normal(size=(3, 3, 4, 6))
    for bits in (8, 4, 2):
        right = np.abs(kernel).max(axis=(0, 1, 2)) / (2 ** (bits - 1) - 1)
        got = np.asarray(answer(kernel, bits))
        if got.shape != right.shape:
            return f"for a kernel of shape {kernel.shape} six scales are needed, got {got.shape}."
        if not np.allclose(got, right):
            return f"at {bits} bits the first scale must be {right[0]:.5f}, got {got[0]:.5f}."
    return None
