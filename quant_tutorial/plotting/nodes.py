"""Draw and describe the steps of PTQ, and where its quantize nodes stand (lesson 05)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from quant_tutorial.plotting.boxes import clear_axes, draw_arrow, draw_box
from quant_tutorial.plotting.style import BLUE, GREY, ORANGE, SKY

from matplotlib.axes import Axes
from matplotlib.patches import Circle

_STEPS = (
    ("Load", "float model"),
    ("Baseline", "its accuracy"),
    ("Constraints", "a scheme"),
    ("Statistics", "ranges"),
    ("Nodes", "simulation"),
    ("Evaluate", "accuracy, size"),
    ("Save", "a file"),
)
_FROM, _BACK = 5, 2  # the loop leads from "Evaluate" back to "Constraints"
_WIDTH, _GAP = 2.7, 0.62  # of a box and between boxes, in the steps' picture
_BOX, _SPACE = 2.0, 1.9  # the same in the nodes' picture
_LOOP = {"color": BLUE, "lw": 1.6}


def plot_ptq_steps(ax: Axes) -> None:
    """Draw the seven steps of PTQ, with the loop that adjusts the scheme (lesson 05)."""
    step = _WIDTH + _GAP
    clear_axes(ax, 7 * step - _GAP, 3.5)
    ax.set_xlim(-0.1, 7 * step - _GAP + 0.1)
    for place, (name, what) in enumerate(_STEPS):
        left = place * step
        looped = _BACK <= place <= _FROM
        draw_box(ax, (left, 1.5), (_WIDTH, 1.9), "", color=SKY if looped else "white")
        middle = left + _WIDTH / 2
        title = f"{place + 1} {name}"
        ax.text(middle, 2.85, title, ha="center", va="center", fontsize=9.5, weight="bold")
        ax.text(middle, 2.05, what, ha="center", va="center", fontsize=9)
        if place:
            draw_arrow(ax, (left - _GAP, 2.45), (left, 2.45))
    start, end = (place * step + _WIDTH / 2 for place in (_FROM, _BACK))
    ax.plot([start, start, end], [1.5, 0.75, 0.75], **_LOOP)
    ax.annotate("", (end, 1.5), (end, 0.75), arrowprops={"arrowstyle": "-|>", **_LOOP})
    text = "too much is lost: change ranges, granularity, bit widths, single layers"
    ax.text((start + end) / 2, 0.25, text, ha="center", va="center", fontsize=9, color=BLUE)


def describe_ptq_steps() -> str:
    """Return a sentence on what `plot_ptq_steps` draws (lesson 05)."""
    steps = "; ".join(f"{n} {name} ({what})" for n, (name, what) in enumerate(_STEPS, start=1))
    return f"{steps}. A loop leads from step {_FROM + 1} back to step {_BACK + 1}."


def plot_nodes(
    ax: Axes, layers: Sequence[str], nodes: Collection[str], weights: Collection[str]
) -> None:
    """Draw a chain of layers with the quantize nodes of its activations and weights (lesson 05).

    A layer with weights but without a node of its own is drawn in one box with the next layer, as
    the device computes both in one op.

    Args:
        ax: Where to draw, about 9 by 2.3 inches for eight boxes.
        layers: The names of the layers in order.
        nodes: The layers after which a node stands.
        weights: The layers whose weights are rounded.
    """
    ops = _ops(layers, nodes, weights)
    step = _BOX + _SPACE
    clear_axes(ax, len(ops) * step, 7.4)
    ax.set(xlim=(-0.1, len(ops) * step + 0.2), ylim=(-0.3, 7.1))
    ax.set_aspect("equal")
    for place, op in enumerate(ops):
        left = place * step
        middle = left + _BOX / 2
        holds = [name for name in op if name in weights]
        color = SKY if holds else "white"
        draw_box(ax, (left, 1.5), (_BOX, 1.8), "\n".join(op), color=color, fontsize=9)
        if holds:
            ax.text(middle, 6.6, "weights", ha="center", va="center", fontsize=9)
            draw_arrow(ax, (middle, 6.2), (middle, 3.3))
            _node(ax, middle, 4.75)
        if place < len(ops) - 1 or op[-1] in nodes:
            draw_arrow(ax, (left + _BOX, 2.4), (left + step, 2.4))
        if op[-1] in nodes:
            _node(ax, left + _BOX + 0.75, 2.4)
    _node(ax, 0.5, 0.4)
    text = "quantize node                blue: has weights                white: only moves values"
    ax.text(1.15, 0.4, text, va="center", fontsize=9, color=GREY)


def describe_nodes(layers: Sequence[str], nodes: Collection[str], weights: Collection[str]) -> str:
    """Return a sentence on what `plot_nodes` draws (lesson 05)."""
    ops = [" with ".join(op) for op in _ops(layers, nodes, weights)]
    places = [name for name in layers if name in nodes]
    return (
        f"A chain: {', '.join(ops)}. Quantize nodes stand after {', '.join(places)}, and between "
        f"{', '.join(name for name in layers if name in weights)} and their weights."
    )


def _ops(
    layers: Sequence[str], nodes: Collection[str], weights: Collection[str]
) -> list[list[str]]:
    """Group the layers: one with weights that no node follows goes with the next."""
    ops: list[list[str]] = []
    for name in layers:
        open_op = ops and ops[-1][-1] in weights and ops[-1][-1] not in nodes
        if open_op:
            ops[-1].append(name)
        else:
            ops.append([name])
    return ops


def _node(ax: Axes, x: float, y: float) -> None:
    ax.add_patch(Circle((x, y), 0.48, facecolor=ORANGE, edgecolor="black", lw=0.8, zorder=3))
    ax.text(x, y, "Q", ha="center", va="center", fontsize=9, weight="bold", zorder=4)
