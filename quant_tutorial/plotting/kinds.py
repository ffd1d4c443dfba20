"""Draw and describe the kinds of quantization (lesson 01)."""

from __future__ import annotations

from quant_tutorial.plotting.boxes import clear_axes, draw_box
from quant_tutorial.plotting.style import BLUE, ORANGE, SKY

from matplotlib.axes import Axes

# For each kind: the weights in the file, the arithmetic, the activations between layers, and what
# the conversion needs besides the model.
_KINDS = {
    "no quantization": ("float32", "float32", "float32", "nothing"),
    "float16": ("float16", "float32,\non a GPU float16", "float32,\non a GPU float16", "nothing"),
    "weight-only": ("8, 4 or 2-bit\nintegers", "float32", "float32", "nothing"),
    "dynamic range": ("8 or 4-bit\nintegers", "8-bit integers", "float32", "nothing"),
    "full integer": (
        "8-bit integers",
        "8-bit integers",
        "8-bit integers",
        "some images,\nwithout labels",
    ),
}
_HEADS = (
    "weights\nin the file",
    "arithmetic",
    "activations\nbetween layers",
    "needs, besides\nthe model",
)
# For each way to get there: when the weights are rounded and when the activations' ranges are
# fixed, as indices of `_MOMENTS`, or None for "never".
_MOMENTS = (
    "the float model\nis trained",
    "training\ncontinues",
    "the model\nis converted",
    "the file\nis run",
)
_WAYS = {
    "PTQ: float16, weight-only": (2, None),
    "PTQ: dynamic range": (2, 3),
    "PTQ: full integer": (2, 2),
    "QAT: full integer": (1, 1),
}


def plot_kinds(ax: Axes) -> None:
    """Draw for each kind of quantization which numbers become integers (lesson 01).

    Args:
        ax: Where to draw, about 9 by 3.6 inches.
    """
    rows = len(_KINDS)
    clear_axes(ax, 12, rows + 1)
    for column, head in enumerate(_HEADS):
        x = 2.4 + 2.4 * column
        ax.text(x + 1.15, rows + 0.45, head, ha="center", va="center", fontsize=10, weight="bold")
        for row, entries in enumerate(_KINDS.values()):
            color, ink = ("white", "black") if column == 3 else _look(entries[column])
            corner = (x, rows - 1 - row + 0.08)
            draw_box(ax, corner, (2.3, 0.84), entries[column], color=color, ink=ink, fontsize=9.5)
    for row, kind in enumerate(_KINDS):
        ax.text(2.25, rows - 0.5 - row, kind, ha="right", va="center", fontsize=10.5, weight="bold")


def describe_kinds() -> str:
    """Return a sentence for each row that `plot_kinds` draws (lesson 01)."""
    parts = []
    for kind, entries in _KINDS.items():
        weights, arithmetic, activations, needs = (entry.replace("\n", " ") for entry in entries)
        parts.append(
            f"{kind[0].upper()}{kind[1:]}: weights {weights}; arithmetic {arithmetic}; activations "
            f"{activations}; needs {needs}."
        )
    return "\n".join(parts)


def plot_moments(ax: Axes) -> None:
    """Draw at which moment each way of quantizing rounds weights and fixes ranges (lesson 01).

    A circle is the moment in which the rounding of the weights is decided, a square that in which
    the ranges of the activations are fixed.

    Args:
        ax: Where to draw, about 9 by 2.8 inches.
    """
    rows = len(_WAYS)
    clear_axes(ax, 12, rows + 1.5)
    for column, moment in enumerate(_MOMENTS):
        box = (3.4 + 2.15 * column, rows + 0.55)
        draw_box(ax, box, (1.95, 0.95), moment, fontsize=9.5)
    for row, (way, (weights, ranges)) in enumerate(_WAYS.items()):
        y = rows - 0.5 - row
        ax.text(3.2, y, way, ha="right", va="center", fontsize=10, weight="bold")
        ax.plot([3.4, 11.8], [y, y], color="0.8", lw=1, zorder=1)
        apart = 0.35 if weights == ranges else 0
        ax.plot([_time(weights) - apart], [y], "o", color=BLUE, ms=13, zorder=2)
        if ranges is not None:
            ax.plot([_time(ranges) + apart], [y], "s", color=ORANGE, ms=12, zorder=2)
    ax.plot([3.6], [-0.35], "o", color=BLUE, ms=10)
    ax.text(3.8, -0.35, "the rounding of the weights is decided", va="center", fontsize=9.5)
    ax.plot([8.0], [-0.35], "s", color=ORANGE, ms=9)
    ax.text(8.2, -0.35, "ranges of the activations are fixed", va="center", fontsize=9.5)
    ax.set_ylim(-0.6, rows + 1.55)


def describe_moments() -> str:
    """Return a sentence on what `plot_moments` draws (lesson 01)."""
    moments = [moment.replace("\n", " ") for moment in _MOMENTS]
    parts = []
    for way, (weights, ranges) in _WAYS.items():
        fixed = "never fixed" if ranges is None else f"fixed when {moments[ranges]}"
        parts.append(
            f"{way}: the rounding of the weights is decided when {moments[weights]}, the ranges of "
            f"the activations are {fixed}."
        )
    return "\n".join(parts)


def _look(entry: str) -> tuple[str, str]:
    """Return the colours of a box and of its text, by the type of number that it names."""
    if "integers" in entry:
        return BLUE, "white"
    return (SKY, "black") if "float16" in entry else ("white", "black")


def _time(moment: int) -> float:
    return 3.4 + 2.15 * moment + 0.975
