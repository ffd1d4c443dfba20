"""Draw and describe the comparison of all variants of a model (lesson 09)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from quant_tutorial import metrics
from quant_tutorial.plotting.style import BLUE, GREY, ORANGE, SKY

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

_RADIUS = 3.5  # of a mark, in points
_LABEL = 11  # height and width of a number beside its mark, in points
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # ticks in kB
_WRONG = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)  # ticks in percent
_MACHINES = ((BLUE, ""), (ORANGE, "////"), (SKY, "...."))  # colours and hatches
# A number goes to the nearest free place around its mark. These directions are tried in turn.
_DIRECTIONS = [math.radians(degrees) for degrees in (90, 270, 60, 120, 300, 240, 30, 150, 0, 180)]


class Variant(NamedTuple):
    """The measurements of one variant of a model (lesson 09)."""

    right: int  # images classified correctly
    images: int
    file: int  # bytes
    microseconds: Mapping[str, float]  # median for one image, by machine, where it was measured
    trained: bool = False  # whether it was trained further, quantization-aware


def plot_variants(axes: Sequence[Axes], variants: Mapping[str, Variant], *, reference: str) -> None:
    """Draw the errors of variants against their size, and their latencies as bars (lesson 09).

    On the left, both axes are logarithmic. A vertical line through a mark is the 95% confidence
    interval, and the band is that of the reference. Circles are variants without further training,
    squares those with it. The marks have the numbers of the bars on the right, from the smallest
    file to the largest.

    Args:
        axes: Two Axes beside each other, about 10 by 5 inches together. The figure must already
            have its final size, on which the places of the numbers depend.
        variants: The variants by name, at least one.
        reference: The name of the variant whose interval is drawn.

    Raises:
        ValueError: when there are no variants, or the reference is not one of them.
    """
    if reference not in variants:
        raise ValueError(f"reference must be one of {', '.join(variants)}, got {reference!r}.")
    ordered = _by_size(variants)
    _plot_bars(axes[1], ordered)  # first: its labels decide how much room the other has
    _plot_errors(axes[0], ordered, variants[reference], reference)


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
        times = [f"{machine} {each:,.1f} µs" for machine, each in variant.microseconds.items()]
        parts.append(
            f"{number} {name}: {variant.file:,} bytes, {_wrong(variant):.1f}% wrong "
            f"({low:.1f} to {high:.1f}), {', '.join(times) or 'not timed'}"
        )
    return f"Smallest file first. {'; '.join(parts)}."


def _by_size(variants: Mapping[str, Variant]) -> list[tuple[str, Variant]]:
    return sorted(variants.items(), key=lambda pair: pair[1].file)


def _wrong(variant: Variant) -> float:
    """Return the share of images classified wrongly, in percent."""
    return 100 * (variant.images - variant.right) / variant.images


def _interval(variant: Variant) -> tuple[float, float]:
    low, high = metrics.accuracy_interval(variant.right, variant.images)
    return 100 * (1 - high), 100 * (1 - low)


def _plot_errors(
    ax: Axes, ordered: Sequence[tuple[str, Variant]], reference: Variant, name: str
) -> None:
    ax.axhspan(*_interval(reference), color=GREY, alpha=0.15, lw=0)
    ax.plot([], [], lw=8, color=GREY, alpha=0.15, label=f"95% interval of {name}")
    for trained, label in ((False, "not trained further"), (True, "trained further")):
        if any(variant.trained == trained for _, variant in ordered):
            ax.plot([], [], ls="", mec="black", label=label, **_mark(trained))
    marks = []
    for _, variant in ordered:
        x = variant.file / 1000
        ax.plot([x, x], _interval(variant), color=GREY, lw=1, zorder=1)
        marks.append((x, max(_wrong(variant), _interval(variant)[1] / 10)))
        ax.plot(*marks[-1], ls="", mec="black", zorder=2, **_mark(variant.trained))
    ax.set(xscale="log", yscale="log", xlabel="file in kB", ylabel="images wrong, in %")
    ax.margins(x=0.1, y=0.12)
    for axis, ticks in ((ax.xaxis, _SIZES), (ax.yaxis, _WRONG)):
        low, high = axis.get_view_interval()
        axis.set_ticks([tick for tick in ticks if low <= tick <= high])
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    ax.grid(axis="y", color=GREY, lw=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper right", frameon=False, fontsize=9)
    _number(ax, marks, [_interval(variant) for _, variant in ordered])


def _mark(trained: bool) -> dict[str, object]:
    if trained:
        return {"marker": "s", "color": ORANGE, "ms": 2 * _RADIUS - 1}
    return {"marker": "o", "color": SKY, "ms": 2 * _RADIUS}


def _plot_bars(ax: Axes, ordered: Sequence[tuple[str, Variant]]) -> None:
    machines = list(dict.fromkeys(m for _, variant in ordered for m in variant.microseconds))
    height = 0.8 / max(len(machines), 1)
    for place, machine in enumerate(machines):
        color, hatch = _MACHINES[place % len(_MACHINES)]
        rows = [row for row, (_, v) in enumerate(ordered) if machine in v.microseconds]
        bars = ax.barh(
            [row + (place + 0.5) * height - 0.4 for row in rows],
            [ordered[row][1].microseconds[machine] for row in rows],
            0.9 * height,
            color=color,
            hatch=hatch,
            edgecolor="white",
            lw=0,
            label=f"machine {machine}",
        )
        ax.bar_label(bars, fmt="{:.1f}", padding=2, fontsize=8)
    for row, (_, variant) in enumerate(ordered):
        if not variant.microseconds:
            ax.text(0, row, " not measured", va="center", fontsize=8, color=GREY)
    ax.set_yticks(
        range(len(ordered)), [f"{number}  {name}" for number, (name, _) in enumerate(ordered, 1)]
    )
    ax.set(xlabel="one image, in µs", ylim=(len(ordered) - 0.4, -0.6))
    ax.margins(x=0.15)
    ax.spines[["top", "right"]].set_visible(False)
    if machines:
        ax.legend(loc="upper right", frameon=False, fontsize=9)


def _number(
    ax: Axes,
    marks: Sequence[tuple[float, float]],
    intervals: Sequence[tuple[float, float]],
) -> None:
    """Number the marks 1, 2, …, so that no number covers a mark, a line or another number."""
    ax.figure.draw_without_rendering()  # the layout is known only after drawing
    scale = 72 / ax.figure.dpi
    places = scale * ax.transData.transform(marks)
    taken = [_box((x, y, x, y), _RADIUS) for x, y in places]
    for (mark, _), interval in zip(marks, intervals, strict=True):
        (x, low), (_, high) = scale * ax.transData.transform([(mark, end) for end in interval])
        taken.append(_box((x, low, x, high), 1))
    for number, (x, y) in enumerate(places, start=1):
        for gap, angle in itertools.product(range(2, 120, 4), _DIRECTIONS):
            reach = _RADIUS + _LABEL / 2 + gap
            dx, dy = reach * math.cos(angle), reach * math.sin(angle)
            box = _box((x + dx, y + dy, x + dx, y + dy), _LABEL / 2)
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
        leader = {"arrowstyle": "-", "lw": 0.6, "color": GREY, "shrinkA": 0, "shrinkB": _RADIUS}
        ax.annotate(
            str(number),
            marks[number - 1],
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
