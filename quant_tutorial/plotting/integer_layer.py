"""Draw and describe how a layer is computed with integers, and where zero points go (lesson 07)."""

from __future__ import annotations

from quant_tutorial.plotting.boxes import clear_axes, draw_arrow, draw_box
from quant_tutorial.plotting.style import BLUE, ORANGE, SKY

from matplotlib.axes import Axes

_INK = {"int8": (BLUE, "white"), "int32": (SKY, "black"), "int64": (ORANGE, "black")}

# Each step with its width in the drawing, its type, and the constants that it needs.
_STEPS = [
    ("inputs\n$q_x$", 2.0, "int8", ""),
    ("subtract $z_x$,\nmultiply, add up", 3.9, "int32", "$z_x$, int8 weights,\nint32 bias"),
    ("multiply", 2.3, "int64", "multiplier\nof 31 bits"),
    ("shift right,\nround", 2.9, "int32", "shift"),
    ("add $z_y$,\nclamp", 2.5, "int8", "$z_y$, ends of\nthe range"),
    ("outputs\n$q_y$", 2.0, "int8", ""),
]
_GAP = 0.88

# Who computes what: before there is an input, for each product, and for each sum.
_COLUMNS = ("once, when the file is loaded", "for each product", "for each patch of inputs")
_ROWS = [
    ("reference kernels", "$q_b$", "$(q_x - z_x) \\cdot q_w$", "–"),
    ("fast kernels", "$q_b - z_x \\sum q_w$", "$q_x \\cdot q_w$", "–"),
    (
        "weights with a\nzero point $z_w$",
        "$q_b - z_x \\sum q_w + n\\,z_x z_w$",
        "$q_x \\cdot q_w$",
        "$- z_w \\sum q_x$",
    ),
]


def plot_integer_layer(ax: Axes) -> None:
    """Draw the way of a layer's numbers: int8, int32, a 64-bit product, int8 (lesson 07).

    `ax` should have about 9 by 2.4 inches.
    """
    total = sum(width for _, width, _, _ in _STEPS) + _GAP * (len(_STEPS) - 1)
    clear_axes(ax, total, 5.2)
    ax.set_xlim(-0.05, total + 0.05)  # the frames of the outer boxes are inside
    left = 0.0
    for number, (text, width, kind, needs) in enumerate(_STEPS):
        color, ink = _INK[kind]
        middle = left + width / 2
        draw_box(ax, (left, 2.2), (width, 1.7), text, color=color, ink=ink)
        ax.text(middle, 4.5, kind, ha="center", va="center", fontsize=10, weight="bold")
        if needs:
            ax.text(middle, 0.62, needs, ha="center", va="center", fontsize=9, linespacing=1.15)
            draw_arrow(ax, (middle, 1.35), (middle, 2.2))
        if number:
            draw_arrow(ax, (left - _GAP, 3.05), (left, 3.05))
        left += width + _GAP


def describe_integer_layer() -> str:
    """Return a sentence on what `plot_integer_layer` draws (lesson 07)."""
    return (
        "The int8 inputs become int32 sums: the zero point is subtracted, each difference is "
        "multiplied by an int8 weight, and the products are added to an int32 bias. The sum times "
        "the multiplier is a 64-bit product. A shift to the right with rounding makes an int32 of "
        "it. The output's zero point is added, and clamping leaves an int8."
    )


def plot_zero_points(ax: Axes) -> None:
    """Draw which part of the four terms is computed when (lesson 07).

    `ax` should have about 9 by 2.4 inches.
    """
    lefts, widths = (4.0, 11.4, 16.1), (7.1, 4.4, 3.9)
    clear_axes(ax, 20, len(_ROWS) + 0.75)
    ax.set_xlim(-0.05, 20.05)
    for left, width, head in zip(lefts, widths, _COLUMNS, strict=True):
        middle = left + width / 2
        ax.text(middle, len(_ROWS) + 0.4, head, ha="center", va="center", fontsize=9.5)
    for row, (name, *terms) in enumerate(_ROWS):
        bottom = len(_ROWS) - 1 - row
        ax.text(0, bottom + 0.45, name, va="center", fontsize=10, weight="bold", linespacing=1.15)
        for left, width, term, color in zip(
            lefts, widths, terms, ("#EDEDED", SKY, ORANGE), strict=True
        ):
            shade = "white" if term == "–" else color
            draw_box(ax, (left, bottom + 0.06), (width, 0.78), term, color=shade, fontsize=11)


def describe_zero_points() -> str:
    """Return sentences on what `plot_zero_points` draws (lesson 07)."""
    return (
        "Reference kernels start from q_b and add (q_x − z_x) · q_w for each product. Fast kernels "
        "compute q_b − z_x Σ q_w once, when the file is loaded, and add only q_x · q_w for each "
        "product. With a zero point of the weights, n z_x z_w would join the constant, and "
        "−z_w Σ q_x would have to be computed for each patch of inputs."
    )
