"""Draw and describe what narrower numbers save (lesson 01)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant_tutorial.plotting.boxes import clear_axes, draw_box
from quant_tutorial.plotting.style import BLUE, GREY, SKY, VERMILION

import numpy as np
from matplotlib.axes import Axes

_BITS = 128  # the width of the register that is drawn


def plot_register(ax: Axes, widths: Mapping[str, int]) -> None:
    """Draw how many numbers of each width fit into 128 bits (lesson 01).

    Args:
        ax: Where to draw, about 9 by 2.2 inches.
        widths: The bit width of each type of number, a divisor of 128, by its name.

    Raises:
        ValueError: when a width does not divide 128.
    """
    counts = {name: _fit(bits) for name, bits in widths.items()}
    clear_axes(ax, _BITS + 34, len(counts) + 0.6)
    for row, (name, count) in enumerate(counts.items()):
        bottom = len(counts) - 1 - row
        ax.text(14, bottom + 0.4, name, ha="right", va="center", fontsize=10.5, weight="bold")
        bits = _BITS / count
        for cell in range(count):
            color, ink = (SKY, "black") if name.startswith("float") else (BLUE, "white")
            text = f"{bits:.0f} bits" if bits >= 16 else f"{bits:.0f}"
            draw_box(ax, (16 + cell * bits, bottom), (bits, 0.8), text, color=color, ink=ink)
        ax.text(_BITS + 18, bottom + 0.4, f"{count} numbers", va="center", fontsize=10.5)
    ax.text(16, len(counts) + 0.25, "128 bits", va="center", fontsize=10)


def describe_register(widths: Mapping[str, int]) -> str:
    """Return a sentence on what `plot_register` draws (lesson 01)."""
    counts = ", ".join(f"{_fit(bits)} of {name}" for name, bits in widths.items())
    return f"Numbers that fit into 128 bits: {counts}."


def plot_energy(
    ax: Axes, parts: Mapping[str, Sequence[float]], kinds: Sequence[str] = ("float32", "int8")
) -> None:
    """Draw the energy of each part of the work as a pair of bars, on a log scale (lesson 01).

    Args:
        ax: Where to draw, about 9 by 2.8 inches.
        parts: For each part, its energy in microjoules for both kinds of numbers.
        kinds: The names of the two kinds.
    """
    places = np.arange(len(parts))[::-1]
    for shift, color, hatch, index in ((0.2, VERMILION, "", 0), (-0.2, BLUE, "///", 1)):
        energies = [pair[index] for pair in parts.values()]
        label = kinds[index]
        style = {"color": color, "hatch": hatch, "edgecolor": "white", "label": label}
        ax.barh(places + shift, energies, 0.38, **style)
        for place, energy in zip(places + shift, energies, strict=True):
            ax.text(energy * 1.06, place, f"{energy:.2f}", va="center", fontsize=9)
    ax.set(xscale="log", xlabel="µJ for one image (log scale)", yticks=places)
    ax.set_yticklabels(list(parts), fontsize=10)
    ax.set_xlim(right=2.2 * max(max(pair) for pair in parts.values()))
    ax.grid(axis="x", color=GREY, alpha=0.25)
    ax.set_axisbelow(True)
    ax.spines[["right", "top"]].set_visible(False)
    ax.legend(loc="lower right", fontsize=9)


def describe_energy(
    parts: Mapping[str, Sequence[float]], kinds: Sequence[str] = ("float32", "int8")
) -> str:
    """Return a line for each pair of bars that `plot_energy` draws (lesson 01)."""
    lines = []
    for name, (one, other) in parts.items():
        less = f"{one / other:.0f}× less" if one > 1.05 * other else "no less"
        lines.append(
            f"{name}: {one:.2f} µJ with {kinds[0]}, {other:.2f} µJ with {kinds[1]}, {less}"
        )
    return "\n".join(lines)


def _fit(bits: int) -> int:
    if bits < 1 or _BITS % bits:
        raise ValueError(f"widths must divide {_BITS}, got {bits}. Take 4, 8, 16 or 32.")
    return _BITS // bits
