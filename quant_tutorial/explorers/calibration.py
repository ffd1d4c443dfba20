"""The explorer of lesson 03, which sets a range for a layer's activations and shows its error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from quant_tutorial.affine import MAX_BITS, MIN_BITS, params_from_range
from quant_tutorial.arguments import checked_choice
from quant_tutorial.calibration import Statistics
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.explorers.exported import encoded
from quant_tutorial.histogram import Distribution, Range
from quant_tutorial.plotting.labels import Labels
from quant_tutorial.plotting.style import BLUE, CALIBRATOR_MARKS, GREY, VERMILION, mark_range

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

_STOPS = 200  # the most stops that a slider's handle has
_POINTS = 80  # of a curve
_BARS = 600  # of the histogram


class RangeExplorer(Explorer):
    """Sliders for bit width and range, which trade rounding for clipping error (lesson 03).

    Args:
        statistics: The statistics of each layer's activation, by the layer's name.
        layer: The layer shown first.
        bits: The initial bit width, 2 to 16.

    Raises:
        ValueError: when there are no statistics for that layer.
    """

    live = "range"

    def __init__(self, statistics: Mapping[str, Statistics], layer: str, bits: int = 4) -> None:
        checked_choice("layer", layer, statistics)
        self._statistics, self._shown = statistics, ""
        bits_control = controls.integer("Bit width", bits, MIN_BITS, MAX_BITS)
        low, high, step = slider_limits(*statistics[layer].range("min_max", bits))
        self._range_control = controls.real_range("Range", (low, high), low, high, step)
        self.bits, self.range = bits_control.slider, self._range_control.slider
        self.layer = controls.choice("Layer", list(statistics), layer)
        self.layer.observe(self._fit_range, names="value")  # before the explorer redraws
        super().__init__(RangeFigure(), [bits_control, self._range_control], [self.layer])

    def draw(self) -> str:
        """Show the range, its error and the ranges of the calibrators, and describe them."""
        name, bits = self.layer.value, self.bits.value
        distribution = self._statistics[name].distribution
        if name != self._shown:
            self.plot.show_values(distribution)
            self.redraw_background()
            self._shown = name
        chosen = self._statistics[name].ranges(bits)
        self.plot.update(distribution, self.range.value, bits, chosen)
        return describe_ranges(name, distribution, self.range.value, bits, chosen)

    def page_data(self) -> dict[str, Any]:
        """Return each layer's values, and what each calibrator chooses at each bit width."""
        return {name: _layer_data(found) for name, found in self._statistics.items()}

    def _fit_range(self, change: dict) -> None:
        statistics = self._statistics[change["new"]]
        self._range_control.limit(*slider_limits(*statistics.range("min_max", self.bits.value)))


def _layer_data(statistics: Statistics) -> dict[str, Any]:
    distribution = statistics.distribution
    low, high, step = slider_limits(*statistics.range("min_max", MIN_BITS))
    counts, edges = counted(distribution)
    return {
        "values": encoded(distribution.values),
        "counts": encoded(np.diff(distribution.sums[0]).astype(np.uint32)),
        "width": distribution.width,
        "limits": {"low": low, "high": high, "step": step, "value": (low, high)},
        "ranges": {bits: statistics.ranges(bits) for bits in range(MIN_BITS, MAX_BITS + 1)},
        "bars": {"edges": (edges[0], edges[-1]), "counts": counts.tolist()},
    }


def counted(distribution: Distribution) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the counts in the bars that the explorer draws, and the bars' edges."""
    low, high = distribution.values[[0, -1]]
    span = (high - low) or 1.0  # all values may be equal
    return np.histogram(
        distribution.values, _BARS, (low, low + span), weights=np.diff(distribution.sums[0])
    )


def slider_limits(low: float, high: float) -> tuple[float, float, float]:
    """Return the limits and the step of a slider that covers a range and 0 in round numbers."""
    low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / _STOPS))
    step = next(n * power for n in (1, 2, 5, 10) if span / (n * power) <= _STOPS)
    ends = step * math.floor(low / step), step * math.ceil(high / step) or step
    return round(ends[0], 9), round(ends[1], 9), round(step, 9)


def error_multiples(
    distribution: Distribution, bits: int, chosen: Mapping[str, Range]
) -> tuple[dict[str, float], float]:
    """Return the error of each calibrator's range, and the smallest error, their unit.

    The errors are multiples of that of the MSE calibrator's range, the smallest possible. Lesson
    03.
    """
    errors = {
        name: sum(distribution.error(params_from_range(*ends, bits)))
        for name, ends in chosen.items()
    }
    unit = errors["mse"] or 1.0  # without any error, such as for a tensor of zeros
    return {name: error / unit for name, error in errors.items()}, unit


def describe_ranges(
    name: str, distribution: Distribution, ends: Range, bits: int, chosen: Mapping[str, Range]
) -> str:
    """Return sentences on the error of a range, and on the calibrators' ranges (lesson 03)."""
    params = params_from_range(*ends, bits)
    rounding, clipping = distribution.error(params)
    multiples, unit = error_multiples(distribution, bits, chosen)
    others = ", ".join(
        f"{calibrator} {low:.3g} to {high:.3g} ({describe_multiple(multiples[calibrator])})"
        for calibrator, (low, high) in chosen.items()
    )
    return (
        f"{name} at {bits} bits, range {params.minimum:.3g} to {params.maximum:.3g}: mean squared "
        f"error {rounding + clipping:.3g} (rounding {rounding:.3g}, clipping {clipping:.3g}), "
        f"{describe_multiple((rounding + clipping) / unit)} the smallest possible. The calibrators "
        f"choose {others}."
    )


class RangeFigure:
    """The picture of the range explorer: values, the calibrators' ranges, and the error.

    Top: how often each value occurs. Middle: the range that each calibrator chooses, and its error.
    Bottom: the error while one end of the range moves, in multiples of the smallest error possible;
    on the right of 0 the upper end moves, on the left the lower end. A band marks the range of the
    slider. Lesson 03.
    """

    _HIGHEST = 5  # multiples of the smallest error

    def __init__(self) -> None:
        self.figure = Figure(figsize=(9.4, 6.4))
        self._values, self._lanes, self._errors = self.figure.subplots(
            3, 1, sharex=True, height_ratios=[1, 0.75, 1.2]
        )
        self.figure.subplots_adjust(left=0.135, right=0.925, top=0.955, bottom=0.08, hspace=0.3)
        self._values.set_title("The values of the layer", loc="left", fontsize=10)
        self._values.set(yscale="log", ylabel="how many")
        self._bars = self._values.add_collection(LineCollection([], colors=GREY, linewidths=1.4))
        self._make_lanes(self._lanes)
        self._make_errors(self._errors)
        self._bands = [mark_range(ax) for ax in (self._values, self._lanes, self._errors)]
        self.moving = [
            *(*self._bands, *self._curves, self._lines, *self._ends.values(), self._multiples)
        ]

    def _make_lanes(self, ax: Axes) -> None:
        ax.set_title("The range that each calibrator chooses", loc="left", fontsize=10)
        places = range(len(CALIBRATOR_MARKS))
        ax.set(ylim=(len(CALIBRATOR_MARKS) - 0.4, -0.6))
        ax.set_yticks(places, list(CALIBRATOR_MARKS))
        ax.tick_params(axis="y", length=0)
        self._lines = ax.add_collection(LineCollection([], colors="black", linewidths=1.4))
        self._ends = {}
        for place, (name, (marker, _)) in zip(places, CALIBRATOR_MARKS.items(), strict=True):
            (self._ends[name],) = ax.plot(
                [], [], marker, color="black", ms=6, mec="white", ls="", zorder=5
            )
            self._ends[name].set_ydata([place, place])
        box = ax.get_position()
        bottom, top = ax.get_ylim()
        heights = [box.y1 - (place - top) / (bottom - top) * box.height for place in places]
        rows = np.column_stack([np.full(len(places), 0.962), heights])
        self.figure.text(0.962, box.y1 + 0.012, "error", ha="center", fontsize=10)
        self._multiples = Labels(self.figure, rows, 10)

    def _make_errors(self, ax: Axes) -> None:
        ax.set(
            ylim=(0, self._HIGHEST),
            ylabel="multiples of\nthe smallest error",
            xlabel="real value",
        )
        ax.set_yticks(range(self._HIGHEST + 1), [f"{n}×" for n in range(self._HIGHEST + 1)])
        ax.axhline(1, color=GREY, lw=0.8)
        title = "The mean squared error if one end of the range moves"
        ax.set_title(title, loc="left", fontsize=10)
        (total,) = ax.plot([], [], color="black", lw=1.8, label="sum")
        (rounding,) = ax.plot([], [], "--", color=BLUE, lw=1.6, label="rounding")
        (clipping,) = ax.plot([], [], ":", color=VERMILION, lw=2.2, label="clipping")
        self._curves = total, rounding, clipping
        ax.legend(
            ncols=3,
            fontsize=10,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.01),
            frameon=False,
            borderaxespad=0,
        )

    def show_values(self, distribution: Distribution) -> None:
        """Show the values of another layer; this changes the static part of the picture."""
        counts, edges = counted(distribution)
        low, high = edges[[0, -1]]
        margin = 0.03 * (high - low)
        self._values.set(xlim=(low - margin, high + margin), ylim=(0.5, 2 * counts.max()))
        bars = zip((edges[:-1] + edges[1:]) / 2, counts, strict=True)
        self._bars.set_segments([[(x, 0.5), (x, count)] for x, count in bars if count])

    def update(
        self, distribution: Distribution, ends: Range, bits: int, chosen: Mapping[str, Range]
    ) -> None:
        """Show a range and its error, and the ranges that the calibrators choose.

        Args:
            distribution: The values of the layer.
            ends: The range to show.
            bits: The bit width.
            chosen: The range of each calibrator, by its name.
        """
        params = params_from_range(*ends, bits)
        for band in self._bands:
            band.set_x(params.minimum)
            band.set_width(params.maximum - params.minimum)
        multiples, unit = error_multiples(distribution, bits, chosen)
        places, errors = _moving_ends(distribution, ends, bits)
        rounding, clipping = errors / unit
        for curve, error in zip(
            self._curves, (rounding + clipping, rounding, clipping), strict=True
        ):
            curve.set_data(places, error)
        self._lines.set_segments(
            [[(x, place) for x in chosen[name]] for place, name in enumerate(self._ends)]
        )
        for name, marks in self._ends.items():
            marks.set_xdata(chosen[name])
        self._multiples.show([describe_multiple(multiples[name]) for name in self._ends])


def describe_multiple(multiple: float) -> str:
    """Format an error as a multiple of the smallest one: "1.02×", "24×", ">1000×"."""
    if multiple > 1000:
        return ">1000×"
    return f"{multiple:.2f}×" if multiple < 10 else f"{multiple:.0f}×"


def _moving_ends(
    distribution: Distribution, ends: Range, bits: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the errors while one end of the range moves over the data and the other stays.

    Returns:
        The places of the moving end, shape (n,): below 0 the lower end moves, above 0 the upper.
        And the rounding and the clipping errors, shape (2, n). A NaN separates the sides.
    """
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    bottom, top = min(distribution.values[0], 0.0), max(distribution.values[-1], 0.0)
    points = _POINTS // 2 if bottom < 0 < top else _POINTS
    shares = np.arange(1, points + 1) / points
    places = np.concatenate([bottom * shares[::-1] if bottom else [], [np.nan], top * shares])
    moving = places[~np.isnan(places)]
    lows, highs = np.where(moving < 0, moving, low), np.where(moving < 0, high, moving)
    errors = np.full((2, len(places)), np.nan)
    errors[:, ~np.isnan(places)] = distribution.errors(params_from_range(lows, highs, bits, axis=0))
    return places, errors
