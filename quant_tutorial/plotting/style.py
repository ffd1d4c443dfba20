"""Colours and markers of all figures; within a figure each has one meaning.

The colours are those of Okabe and Ito, which readers with any kind of colour vision can
distinguish. A marker or a line style always carries the same meaning as the colour.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#6E6E6E"

# Marker and colour of each calibrator, the same in every figure.
CALIBRATOR_MARKS = {
    "min_max": ("o", BLUE),
    "moving_average": ("s", SKY),
    "percentile": ("^", GREEN),
    "mse": ("D", VERMILION),
    "entropy": ("X", PURPLE),
}
# Marker, colour and size of each granularity, the same in every figure. The coarsest is the
# largest, so that none can hide another.
GRANULARITY_MARKS = {
    "tensor-wise": ("X", VERMILION, 11),
    "layer-wise": ("s", ORANGE, 7),
    "channel-wise": ("o", BLUE, 4.5),
}


def mark_range(ax: Axes) -> Rectangle:
    """Mark a range on the x axis, and return the mark so that it can be moved."""
    return ax.axvspan(0, 1, color=SKY, alpha=0.22, lw=0)
