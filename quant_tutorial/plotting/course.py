"""Draw and describe the course's map: which lesson treats which step (lesson 00)."""

from __future__ import annotations

from quant_tutorial.plotting.boxes import clear_axes, draw_arrow, draw_box
from quant_tutorial.plotting.style import BLUE, ORANGE, SKY

from matplotlib.axes import Axes

# Each step of the workflow: its lessons, its name and its place (column, row).
_STEPS = {
    "01": ("measure\nthe float model", (0, 1)),
    "02": ("map floats\nto integers", (1, 0)),
    "03, 04": ("choose ranges\nand scales", (2, 0)),
    "05": ("quantize\nafter training", (1, 1)),
    "08": ("quantize\nduring training", (1, 2)),
    "06": ("convert\nto a file", (2, 1)),
    "07": ("run it with\nintegers alone", (3, 0)),
    "09": ("compare\nand ship", (3, 1)),
    "10": ("explore all of it\nin one dashboard", (3, 2)),
    "11": ("round better\nthan to nearest", (2, 2)),
    "12": ("do it to a model\nof your own", (4, 1)),
}
_ARROWS = [
    *(("01", "05"), ("01", "08"), ("02", "05"), ("02", "03, 04"), ("03, 04", "06")),
    *(("05", "06"), ("08", "06"), ("11", "06"), ("06", "09"), ("06", "07"), ("09", "12")),
]
_WIDE, _HIGH, _BOX = 2.5, 1.5, (2.0, 1.05)


def plot_course(ax: Axes) -> None:
    """Draw the workflow as boxes with the numbers of their lessons (lesson 00).

    Blue boxes are the workflow of Part I, light blue ones what serves it, orange ones Part II.

    Args:
        ax: Where to draw, about 9 by 3.4 inches.
    """
    clear_axes(ax, 4 * _WIDE + _BOX[0], 2 * _HIGH + _BOX[1])
    ax.set(xlim=(-0.05, 4 * _WIDE + _BOX[0] + 0.05), ylim=(-0.05, 2 * _HIGH + _BOX[1] + 0.05))
    for start, end in _ARROWS:
        draw_arrow(ax, *_edges(start, end))
    for lesson, (text, _) in _STEPS.items():
        color, ink = (BLUE, "white")
        if lesson in ("11", "12"):
            color, ink = (ORANGE, "black")
        elif lesson in ("02", "03, 04", "07", "10"):
            color, ink = (SKY, "black")
        words = f"{lesson}\n{text}"
        draw_box(ax, _corner(lesson), _BOX, words, color=color, ink=ink, fontsize=9.5)


def describe_course() -> str:
    """Return a sentence on what `plot_course` draws (lesson 00)."""
    named = {lesson: text.replace("\n", " ") for lesson, (text, _) in _STEPS.items()}
    main, serving, beyond = (
        "; ".join(f"{lesson}: {named[lesson]}" for lesson in lessons)
        for lessons in (
            ("01", "05", "08", "06", "09"),
            ("02", "03, 04", "07", "10"),
            ("11", "12"),
        )
    )
    return f"The workflow, {main}. What explains it, {serving}. Part II, {beyond}."


def _corner(lesson: str) -> tuple[float, float]:
    column, row = _STEPS[lesson][1]
    return column * _WIDE, row * _HIGH


def _edges(start: str, end: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return where an arrow leaves the first box and where it reaches the second."""
    (x, y), (u, v) = _corner(start), _corner(end)
    width, height = _BOX
    if u > x:
        tail, head = (x + width, y + height / 2), (u, v + height / 2)
        if v != y and u - x == _WIDE and _STEPS[start][1][0] != 0:
            head = (u, v + height * (0.25 if v > y else 0.75))
        return tail, head
    low, high = (v + height, y) if y > v else (v, y + height)
    return (x + width / 2, high), (u + width / 2, low)
