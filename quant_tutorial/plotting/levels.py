"""Draw and describe how integers stand for real numbers, in schematic pictures (lesson 02)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from quant_tutorial.affine import QuantParams, fake_quantize, quantize
from quant_tutorial.plotting.quantities import describe_number
from quant_tutorial.plotting.style import BLUE, GREY, ORANGE, SKY, VERMILION

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

_BOX = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": BLUE}
_ZERO_BOX = _BOX | {"fc": ORANGE, "ec": "black"}


def plot_mapping(ax: Axes, params: QuantParams, numbers: Sequence[float]) -> None:
    """Draw the real line, the integers beneath it, and how a few numbers are quantized (lesson 02).

    Args:
        ax: Where to draw.
        params: The quantization parameters, with a single scale and few levels.
        numbers: The numbers to quantize, inside and outside the range.
    """
    low, high, scale = params.minimum, params.maximum, params.scale
    margin = 1.3 * scale
    ends = min(low, *numbers) - margin, max(high, *numbers) + margin
    ax.set(xlim=ends, ylim=(-0.55, 1.75))
    ax.axis("off")
    ax.annotate("", (ends[1], 1), (ends[0], 1), arrowprops={"arrowstyle": "->", "color": "black"})
    ax.fill_between([low, high], 0.9, 1.1, color=SKY, alpha=0.35, lw=0)
    ax.text(ends[0], 1.32, "real numbers", fontsize=9, va="bottom")
    ax.text(ends[0], -0.42, "integers q", fontsize=9, va="bottom")
    ax.text((low + high) / 2, 1.62, "range", fontsize=9, ha="center", va="center")
    _span(ax, low, high, 1.5)
    for q, level in zip(range(params.qmin, params.qmax + 1), _levels(params), strict=True):
        is_zero = q == params.zero_point
        ax.plot([level, level], [0.9, 1.1], color=BLUE, lw=1.6)
        ax.plot([level, level], [0.16, 0.86], color=GREY, lw=0.7, ls=":")
        text = describe_number(level)
        ax.text(level, 1.16, text, fontsize=9, ha="center", weight="bold" if is_zero else "normal")
        box = _ZERO_BOX if is_zero else _BOX
        ax.text(level, 0, describe_number(q), ha="center", va="center", fontsize=10, bbox=box)
        if is_zero:
            ax.text(level, -0.42, "zero point", fontsize=9, ha="center", va="bottom")
    last = _levels(params)[-2:]
    _span(ax, *last, -0.28)
    ax.text(last.mean(), -0.45, "scale", fontsize=9, ha="center", va="center")
    for x in numbers:
        x_hat = float(fake_quantize(x, params))
        clipped = not low - scale / 2 <= x <= high + scale / 2
        color, style = (VERMILION, "--") if clipped else ("black", "-")
        ax.plot([x], [1], "v", color=color, ms=8, mec="white", zorder=4)
        arrow = {"arrowstyle": "->", "color": color, "lw": 1.5, "ls": style}
        ax.annotate("", (x_hat, 0.18), (x, 0.97), arrowprops=arrow)
        note = f"{describe_number(x)} is {'clipped' if clipped else 'rounded'}"
        side = 1 if x >= x_hat else -1
        ax.text(
            (x + x_hat) / 2 + 0.12 * scale * side,
            0.5,
            note,
            color=color,
            fontsize=9,
            ha="left" if side > 0 else "right",
            va="center",
            bbox={"fc": "white", "ec": "none", "pad": 1},
        )


def describe_mapping(params: QuantParams, numbers: Sequence[float]) -> str:
    """Return a description of what `plot_mapping` draws (lesson 02)."""
    low, high = (describe_number(end) for end in (params.minimum, params.maximum))
    found = []
    for x in numbers:
        x_hat, q = describe_number(float(fake_quantize(x, params))), int(quantize(x, params))
        inside = params.minimum - params.scale / 2 <= x <= params.maximum + params.scale / 2
        how = "rounded" if inside else "clipped"
        found.append(f"{describe_number(x)} is {how} to {x_hat}, which is stored as")
        found[-1] += f" {describe_number(q)}"
    return (
        f"{_integers(params).capitalize()} stand for {params.levels} levels on the real line from "
        f"{low} to {high}, {params.scale:g} apart. The zero point is "
        f"{describe_number(params.zero_point)}. "
        f"{'; '.join(found)}."
    )


def plot_layouts(ax: Axes, layouts: Mapping[str, QuantParams], asked: tuple[float, float]) -> None:
    """Draw which integers stand for which real numbers, in one row for each layout (lesson 02).

    Args:
        ax: Where to draw.
        layouts: The quantization parameters, each with a single scale and few levels, by name.
        asked: The range that all of them were made for.
    """
    rows = range(len(layouts) - 1, -1, -1)
    ax.axvspan(*asked, color=SKY, alpha=0.22, lw=0)
    ax.axvline(0, color=GREY, lw=0.9, ls="--")
    for row, params in zip(rows, layouts.values(), strict=True):
        levels = _levels(params)
        ax.plot(levels[[0, -1]], [row, row], color=GREY, lw=1)
        ax.plot(levels, np.full(len(levels), row), "|", color=BLUE, ms=11, mew=1.8)
        zero = params.zero_point - params.qmin
        ax.plot(levels[zero], row, "o", color=ORANGE, mec="black", ms=8, zorder=3)
        for q, level in zip(range(params.qmin, params.qmax + 1), levels, strict=True):
            weight = "bold" if q == params.zero_point else "normal"
            text = describe_number(q)
            ax.text(
                level,
                row + 0.3,
                text,
                ha="center",
                va="center",
                fontsize=9,
                weight=weight,
                bbox={"fc": "#E8F3FA", "ec": "none", "pad": 0.6} if weight == "bold" else None,
            )
    ax.set(yticks=list(rows), yticklabels=list(layouts), ylim=(-0.5, len(layouts) - 0.3))
    ax.set(xlabel="real number (shaded: the range asked for; circle: 0, above it the zero point)")
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "right", "top"]].set_visible(False)


def describe_layouts(layouts: Mapping[str, QuantParams]) -> str:
    """Return a description of what `plot_layouts` draws (lesson 02)."""
    rows = []
    for name, params in layouts.items():
        low, high = (describe_number(end, ".3g") for end in (params.minimum, params.maximum))
        zero = describe_number(params.zero_point)
        name = name.replace("\n", " ").capitalize()
        rows.append(f"{name}: {_integers(params)} stand for {low} to {high}, zero point {zero}.")
    return " ".join(rows)


def plot_clipping(axes: Sequence[Axes], choices: Sequence[QuantParams]) -> None:
    """Draw the same bell curve under wide and under narrow ranges, one on each Axes (lesson 02).

    The values are normally distributed, with the mean 0 and the deviation 1.
    """
    x = np.linspace(-4, 4, 801)
    height = np.exp(-np.square(x) / 2)
    for ax, params in zip(axes, choices, strict=True):
        low, high = params.minimum, params.maximum
        inside = (x >= low) & (x <= high)
        ax.fill_between(x, height, where=inside, color=SKY, alpha=0.35, lw=0)
        ax.fill_between(
            x,
            height,
            where=~inside,
            fc="white",
            ec=VERMILION,
            hatch="////",
            lw=0.8,
            label="clipped",
        )
        ax.plot(x, height, color="black", lw=1)
        ax.vlines(_levels(params), 0, 1.08, color=BLUE, lw=1, ls="-", label="levels")
        _span(ax, 0, params.scale, 1.2)
        ax.text(params.scale / 2, 1.24, f"scale {params.scale:.2f}", ha="center", fontsize=9)
        ends = f"[{describe_number(low, '.3g')}, {describe_number(high, '.3g')}]"
        ax.set(title=f"Range {ends}", xlabel="value", ylim=(0, 1.45), yticks=[], xlim=(-4, 4))
        ax.title.set_fontsize(10)
        ax.spines[["left", "right", "top"]].set_visible(False)
    axes[-1].legend(fontsize=9, frameon=False, loc="upper right", bbox_to_anchor=(1.02, 1.0))


def describe_clipping(choices: Sequence[QuantParams]) -> str:
    """Return a description of what `plot_clipping` draws (lesson 02)."""
    parts = []
    for params in choices:
        low, high = params.minimum, params.maximum
        inside = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
        parts.append(
            f"range [{describe_number(low, '.3g')}, {describe_number(high, '.3g')}]: scale "
            f"{params.scale:.2f}, so that rounding errors reach {params.scale / 2:.2f}, and "
            f"{1 - inside:.2%} of the values are clipped"
        )
    return f"Values spread in a bell curve around 0, with {choices[0].levels} levels. " + (
        f"{'; '.join(parts).capitalize()}."
    )


def _levels(params: QuantParams) -> NDArray[np.float64]:
    """Return all levels, from the lowest to the highest."""
    return (np.arange(params.qmin, params.qmax + 1) - params.zero_point) * params.scale


def _integers(params: QuantParams) -> str:
    low, high = (describe_number(end) for end in (params.qmin, params.qmax))
    return f"the integers {low} to {high}"


def _span(ax: Axes, start: float, end: float, height: float) -> None:
    """Draw an arrow with two heads, which marks a distance."""
    arrow = {"arrowstyle": "<->", "color": "black", "lw": 0.9, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (end, height), (start, height), arrowprops=arrow)
