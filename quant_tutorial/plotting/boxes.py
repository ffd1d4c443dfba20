"""Draw boxes and arrows for the lessons' schematic drawings (all lessons)."""

from __future__ import annotations

from quant_tutorial.plotting.style import GREY

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle


def draw_box(
    ax: Axes,
    corner: tuple[float, float],
    size: tuple[float, float],
    text: str,
    *,
    color: str = "white",
    ink: str = "black",
    fontsize: float = 10,
    weight: str = "normal",
) -> Rectangle:
    """Draw a box with a text in its middle and return it.

    Args:
        ax: Where to draw.
        corner: The left and the lower end, in data coordinates.
        size: Width and height, in data coordinates.
        text: The text, which may have several lines.
        color: The colour of the box.
        ink: The colour of the text.
        fontsize: The size of the text in points.
        weight: The weight of the text, such as "bold".
    """
    (left, bottom), (width, height) = corner, size
    box = ax.add_patch(Rectangle(corner, width, height, facecolor=color, edgecolor=GREY, lw=0.8))
    ax.text(
        left + width / 2,
        bottom + height / 2,
        text,
        ha="center",
        va="center",
        color=ink,
        fontsize=fontsize,
        weight=weight,
        linespacing=1.15,
    )
    return box


def draw_arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow between two points in data coordinates."""
    style = {"arrowstyle": "-|>", "color": GREY, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style)


def clear_axes(ax: Axes, width: float, height: float) -> None:
    """Give the Axes these data limits, from 0, and hide everything but what is drawn on it."""
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
