"""Draw and describe which weights share a scale (lesson 04)."""

from __future__ import annotations

from collections.abc import Sequence

from quant_tutorial.plotting.boxes import clear_axes
from quant_tutorial.plotting.style import GRANULARITY_MARKS, GREY
from quant_tutorial.scheme import GRANULARITIES, GRANULARITY_NAMES

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

_GAP = 1.4  # between two layers, in cells
_PANEL = 2.4  # between two panels
_LINES = {"tensor-wise": ":", "layer-wise": "--", "channel-wise": "-"}


def plot_granularities(ax: Axes, channels: Sequence[int], inputs: int = 4) -> None:
    """Draw the weights of a few layers, framed by what shares one scale, three times (lesson 04).

    Each column of cells holds the weights of one output channel.

    Args:
        ax: Where to draw, about 9 by 2.8 inches for two layers of a few channels.
        channels: How many output channels each layer has.
        inputs: How many weights are drawn for each channel.
    """
    width = sum(channels) + _GAP * (len(channels) - 1)
    clear_axes(ax, 3 * width + 2 * _PANEL, inputs + 3.4)
    ax.set(xlim=(-0.8, 3 * width + 2 * _PANEL + 0.8), ylim=(-2.1, inputs + 1.7), aspect="equal")
    for panel, granularity in enumerate(GRANULARITIES):
        left = panel * (width + _PANEL)
        middle = left + width / 2
        title = GRANULARITY_NAMES[granularity]
        ax.text(middle, inputs + 1.15, title, ha="center", va="center", fontsize=11, weight="bold")
        color, line = GRANULARITY_MARKS[granularity][1], _LINES[granularity]
        start, count = left, 0
        for layer, columns in enumerate(channels, start=1):
            for column in range(columns):
                for row in range(inputs):
                    cell = Rectangle((start + column, row), 1, 1, fc="#EDEDED", ec="white", lw=1.2)
                    ax.add_patch(cell)
            if granularity == "layer-wise":
                _frame(ax, start, columns, inputs, color, line)
                _scale(ax, start + columns / 2, f"$s_{layer}$")
            if granularity == "channel-wise":
                for column in range(columns):
                    count += 1
                    _frame(ax, start + column, 1, inputs, color, line)
                    _scale(ax, start + column + 0.5, f"$s_{count}$")
            ax.text(start + columns / 2, -1.7, f"layer {layer}", ha="center", fontsize=9)
            start += columns + _GAP
        if granularity == "tensor-wise":
            _frame(ax, left, width, inputs, color, line)
            _scale(ax, middle, "$s$")


def describe_granularities(channels: Sequence[int]) -> str:
    """Return a sentence on what `plot_granularities` draws (lesson 04)."""
    layers = " and ".join(str(count) for count in channels)
    return (
        f"{len(channels)} layers with {layers} output channels. Model-wide, one scale s serves all "
        f"weights. Per tensor there are {len(channels)} scales, one for each layer. Per channel "
        f"there are {sum(channels)}, one for each column, which holds the weights of one output "
        "channel."
    )


def _frame(ax: Axes, left: float, width: float, height: float, color: str, line: str) -> None:
    """Draw a frame around cells, a little inside them so that neighbours stay apart."""
    inset = 0.12
    ax.add_patch(
        FancyBboxPatch(
            (left + inset, inset),
            width - 2 * inset,
            height - 2 * inset,
            boxstyle="round,pad=0,rounding_size=0.25",
            fc="none",
            ec=color,
            lw=2,
            ls=line,
        )
    )


def _scale(ax: Axes, x: float, text: str) -> None:
    ax.text(x, -0.55, text, ha="center", va="center", fontsize=10, color="black")
    ax.plot([x, x], [-0.2, 0.1], color=GREY, lw=0.8)
