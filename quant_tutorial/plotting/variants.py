"""Draw and describe the comparison of all variants of a model (lesson 09)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from quant_tutorial import metrics
from quant_tutorial.plotting.style import GREY, ORANGE, SKY

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox, ScaledTranslation

_LARGEST, _SMALLEST = 1500, 18  # areas of marks in square points
_ASIDE = 5  # points between two lines at the same height
_LABEL = 11  # height and width of a number beside its mark, in points
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
# A number goes to the nearest free place around its mark. These directions are tried in turn.
_DIRECTIONS = [math.radians(degrees) for degrees in (270, 90, 225, 315, 135, 45, 180, 0)]


class Variant(NamedTuple):
    """The measurements of one variant of a model (lesson 09)."""

    right: int  # images classified correctly
    images: int
    file: int  # bytes
    weights: int  # bytes of the weights alone, at their bit width
    seconds: float  # median latency of one image
    trained: bool = False  # whether it was trained further, quantization-aware


def plot_variants(ax: Axes, variants: Mapping[str, Variant], *, reference: str) -> None:
    """Draw accuracy against file size; the area of a mark shows the latency (lesson 09).

    Circles are variants without further training, squares those with it. A line leads from each
    mark to the left, to the size of the weights alone. The band is the 95% confidence interval of
    the reference. The marks are numbered as in the legend, from the smallest file to the largest.
    The figure must already have its final size, on which the places of the numbers depend.

    Args:
        ax: Where to draw, about 9 by 4.5 inches with the legend on the right.
        variants: The variants by name, at least one.
        reference: The name of the variant whose interval is drawn.

    Raises:
        ValueError: when there are no variants, or the reference is not one of them.
    """
    if reference not in variants:
        raise ValueError(f"reference must be one of {', '.join(variants)}, got {reference!r}.")
    ordered = _by_size(variants)
    low, high = _interval(variants[reference])
    ax.axhspan(low, high, color=GREY, alpha=0.15, lw=0)
    ax.plot([], [], lw=8, color=GREY, alpha=0.15, label=f"95 % interval of {reference}")
    slowest = max(variant.seconds for variant in variants.values())
    radii = []
    for number, (name, variant) in enumerate(ordered, start=1):
        file, weights = variant.file / 1000, variant.weights / 1000
        y = _accuracy(variant)
        # Two lines at the same height would look like one, so both are shifted a little.
        aside = (number % 2 - 0.5) * _ASIDE / 72 if _meets_another(variant, variants) else 0
        shifted = ax.transData + ScaledTranslation(0, aside, ax.figure.dpi_scale_trans)
        line = {"color": GREY, "lw": 0.8, "marker": "|", "markevery": [0], "transform": shifted}
        ax.plot([weights, file], [y, y], zorder=1, **line)
        ax.update_datalim([(weights, y)])  # a shifted line does not extend the limits itself
        # The area, not the width, is proportional to the latency; a minimum keeps all visible.
        area = max(_LARGEST * variant.seconds / slowest, _SMALLEST)
        radii.append(math.sqrt(area / math.pi))
        style = {"marker": "s", "color": ORANGE} if variant.trained else {"color": SKY}
        ax.scatter(
            [file],
            [y],
            # For the same s, Matplotlib's squares are as wide as its circles and have more area.
            s=area * (math.pi / 4 if variant.trained else 1),
            alpha=0.7,
            edgecolor="black",
            zorder=3 - variant.seconds / slowest,  # small marks on top of large ones
            **style,
        )
        label = f"{number}  {name}, {1e6 * variant.seconds:,.1f} µs"
        ax.plot([], [], ls="", ms=5, mec="black", label=label, **({"marker": "o"} | style))
    ax.set(xscale="log", xlabel="size in kB: | weights, mark file", ylabel="accuracy in %")
    ax.margins(x=0.08, y=0.16)
    left, right = ax.get_xlim()
    ax.set_xticks([kb for kb in _TICKS if left <= kb <= right])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    ax.grid(axis="y", color=GREY, lw=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(
        title="○ float or PTQ, □ QAT; area: latency",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        frameon=False,
        fontsize=9,
        alignment="left",
    )
    ends = [[(x / 1000, _accuracy(v)) for x in (v.weights, v.file)] for _, v in ordered]
    _number(ax, ends, radii)


def describe_variants(variants: Mapping[str, Variant]) -> str:
    """Return the numbers that `plot_variants` draws, the smallest file first (lesson 09).

    Raises:
        ValueError: when there are no variants.
    """
    if not variants:
        raise ValueError("variants must hold at least one variant, got none.")
    parts = []
    for number, (name, variant) in enumerate(_by_size(variants), start=1):
        low, high = _interval(variant)
        parts.append(
            f"{number} {name}: {_accuracy(variant):.1f} % ({low:.1f} to {high:.1f}), "
            f"{variant.file:,} bytes, {variant.weights:,} of them weights, "
            f"{1e6 * variant.seconds:,.1f} µs"
        )
    return f"Smallest file first. {'; '.join(parts)}."


def _by_size(variants: Mapping[str, Variant]) -> list[tuple[str, Variant]]:
    return sorted(variants.items(), key=lambda pair: pair[1].file)


def _accuracy(variant: Variant) -> float:
    return 100 * variant.right / variant.images


def _interval(variant: Variant) -> tuple[float, float]:
    low, high = metrics.accuracy_interval(variant.right, variant.images)
    return 100 * low, 100 * high


def _meets_another(variant: Variant, variants: Mapping[str, Variant]) -> bool:
    return any(
        other is not variant
        and _accuracy(other) == _accuracy(variant)
        and other.weights <= variant.file
        and variant.weights <= other.file
        for other in variants.values()
    )


def _number(
    ax: Axes, ends: Sequence[Sequence[tuple[float, float]]], radii: Sequence[float]
) -> None:
    """Number the marks 1, 2, …, so that no number covers a mark, a line or another number.

    Args:
        ax: The Axes with all marks.
        ends: The two ends of the line of each mark; the second is the mark itself.
        radii: The radii of the marks, in points.
    """
    ax.figure.draw_without_rendering()  # the layout is known only after drawing
    scale = 72 / ax.figure.dpi
    lines = [scale * ax.transData.transform(pair) for pair in ends]
    taken = [_box((*start, *end), _ASIDE / 2) for start, end in lines]
    taken += [_box((*end, *end), radius) for (_, end), radius in zip(lines, radii, strict=True)]
    for number, ((_, (x, y)), radius) in enumerate(zip(lines, radii, strict=True), start=1):
        for gap, angle in itertools.product(range(2, 60, 4), _DIRECTIONS):
            reach = radius + _LABEL / 2 + gap
            dx, dy = reach * math.cos(angle), reach * math.sin(angle)
            box = _box((x + dx, y + dy, x + dx, y + dy), _LABEL / 2)
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
        leader = {"arrowstyle": "-", "lw": 0.7, "color": "black", "shrinkA": 0, "shrinkB": 0}
        ax.annotate(
            str(number),
            ends[number - 1][1],
            (dx, dy),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            arrowprops=leader if gap > 2 else None,
        )


def _box(line: tuple[float, float, float, float], margin: float) -> Bbox:
    x0, y0, x1, y1 = line
    return Bbox.from_extents(x0 - margin, y0 - margin, x1 + margin, y1 + margin)
