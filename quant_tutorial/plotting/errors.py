"""Draw and describe quantization errors (lesson 02)."""

from __future__ import annotations

from collections.abc import Sequence

from quant_tutorial.plotting.style import BLUE, VERMILION

import numpy as np
from matplotlib.axes import Axes


def plot_sqnr(ax: Axes, bits: Sequence[int], measured: Sequence[float]) -> None:
    """Draw SQNR in decibels against bit width, with the rule of 6.02 dB per bit (lesson 02)."""
    ax.plot(bits, measured, "o", color=BLUE, label="measured")
    rule = measured[-1] + 6.02 * (np.asarray(bits) - bits[-1])
    ax.plot(bits, rule, "--", color=VERMILION, label="6.02 dB a bit")
    ax.set(xlabel="bit width", ylabel="SQNR in dB", xticks=list(bits))
    ax.legend()


def describe_sqnr(bits: Sequence[int], measured: Sequence[float]) -> str:
    """Return a sentence on what `plot_sqnr` draws (lesson 02)."""
    middle = len(bits) // 2
    slope = (measured[-1] - measured[middle]) / (bits[-1] - bits[middle])
    return (
        f"SQNR rises from {measured[0]:.1f} dB at {bits[0]} bits to {measured[-1]:.1f} dB at "
        f"{bits[-1]} bits; from {bits[middle]} bits on by {slope:.2f} dB a bit."
    )
