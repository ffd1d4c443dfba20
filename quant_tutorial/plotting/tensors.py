"""Draw and describe the integers of a quantized tensor (lesson 06)."""

from __future__ import annotations

from quant_tutorial.plotting.quantities import describe_number
from quant_tutorial.plotting.style import BLUE, ORANGE

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray


def plot_integer_histogram(ax: Axes, q: NDArray[np.integer], title: str) -> None:
    """Draw how often each integer occurs in a quantized tensor of any shape (lesson 06).

    The bars of the smallest and the largest integer are orange, with an arrow and their counts.
    """
    values, counts = np.unique(q, return_counts=True)
    bars = ax.bar(values, counts, width=1.0, color=BLUE)
    for place, side in ((0, "left"), (-1, "right")):
        bars[place].set(color=ORANGE, width=1.6, hatch="//")
        text = f"{describe_number(values[place], 'd')}: {counts[place]:,}"
        end = (values[place], counts[place])
        arrow = {"arrowstyle": "-|>", "color": "black", "lw": 0.9}
        height = counts.max() / 3 + counts[place] / 2
        where = {"xytext": (values[place], height), "arrowprops": arrow}
        ax.annotate(text, end, ha=side, **where)
    ends = np.iinfo(q.dtype)
    margin = (ends.max - ends.min) / 100
    limits = ends.min - margin, ends.max + margin
    ax.set(xlabel="integer q", ylabel="how many", xlim=limits)
    ax.set_title(title, loc="left")


def describe_integers(q: NDArray[np.integer], name: str) -> str:
    """Return a sentence on the integers in a quantized tensor of any shape (lesson 06)."""
    low, high = q.min(), q.max()
    ends = [f"{np.sum(q == end):,} are {describe_number(end, 'd')}" for end in (low, high)]
    middle = [describe_number(np.percentile(q, part), ".0f") for part in (25, 75)]
    return (
        f"{name}: {q.size:,} values, {len(np.unique(q))} different ones. "
        f"The smallest and the largest: {' and '.join(ends[: 1 if low == high else 2])}. "
        f"Half of the values lie from {' to '.join(middle)}."
    )
