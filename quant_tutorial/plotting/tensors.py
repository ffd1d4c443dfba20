"""Draw and describe the integers of a quantized tensor (lesson 06)."""

from __future__ import annotations

from quant_tutorial.plotting.style import BLUE

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray


def plot_integer_histogram(ax: Axes, q: NDArray[np.integer], title: str) -> None:
    """Draw how often each integer occurs in a quantized tensor of any shape (lesson 06)."""
    values, counts = np.unique(q, return_counts=True)
    ax.bar(values, counts, width=1.0, color=BLUE)
    ends = np.iinfo(q.dtype)
    margin = (ends.max - ends.min) / 100
    limits = ends.min - margin, ends.max + margin
    ax.set(xlabel="integer q", ylabel="how many", xlim=limits, title=title)


def describe_integers(q: NDArray[np.integer], name: str) -> str:
    """Return a sentence on the integers in a quantized tensor of any shape (lesson 06)."""
    return (
        f"{name}: {q.size:,} values from {q.min()} to {q.max()}, {len(np.unique(q))} different "
        f"ones; half of them lie between {np.percentile(q, 25):.0f} and {np.percentile(q, 75):.0f}."
    )
