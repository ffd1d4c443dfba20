"""The explorer of lesson 03, which sets a range for a layer's activations and shows its error."""

from __future__ import annotations

from collections.abc import Mapping

from quant_tutorial.affine import MAX_BITS, MIN_BITS, QuantParams, params_from_range
from quant_tutorial.arguments import checked_choice
from quant_tutorial.calibration import Statistics
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.histogram import Distribution, Range
from quant_tutorial.plotting.style import BLUE, CALIBRATOR_MARKS, GREY, SKY, VERMILION, mark_range

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure


class RangeExplorer(Explorer):
    """Sliders for bit width and range, which trade rounding for clipping error (lesson 03).

    Args:
        statistics: The statistics of each layer's activation, by the layer's name.
        layer: The layer shown first.
        bits: The initial bit width, 2 to 16.

    Raises:
        ValueError: when there are no statistics for that layer.
    """

    def __init__(self, statistics: Mapping[str, Statistics], layer: str, bits: int = 4) -> None:
        checked_choice("layer", layer, statistics)
        self._statistics, self._shown = statistics, ""
        bits_control = controls.integer("Bit width", bits, MIN_BITS, MAX_BITS)
        range_control = controls.real_range("Range (% of data)", (0, 100), 0, 100, 1)
        self.bits, self.percent = bits_control.slider, range_control.slider
        self.layer = controls.choice("Layer", list(statistics), layer)
        super().__init__(RangeFigure(), [bits_control, range_control], [self.layer])

    def draw(self) -> str:
        """Show the range, its error and the ranges of the calibrators, and describe them."""
        name, bits = self.layer.value, self.bits.value
        distribution = self._statistics[name].distribution
        if name != self._shown:
            self.plot.show_values(distribution)
            self.redraw_background()
            self._shown = name
        marks = self._statistics[name].ranges(bits)
        ends = self._ends(*marks["min_max"])
        self.plot.update(distribution, ends, bits, marks)
        best = min(marks, key=lambda m: sum(distribution.error(params_from_range(*marks[m], bits))))
        low, high = marks[best]
        sentence = describe_range(name, params_from_range(*ends, bits), distribution)
        return f"{sentence} Of the calibrators {best} does best, with {low:.3g} to {high:.3g}."

    def _ends(self, low: float, high: float) -> Range:
        first, second = (low + percent / 100 * (high - low) for percent in self.percent.value)
        return first, second


def describe_range(name: str, params: QuantParams, distribution: Distribution) -> str:
    """Return a sentence on the error that a range causes in the values of a layer (lesson 03)."""
    rounding, clipping = distribution.error(params)
    return (
        f"{name} at {params.bits} bits, range {params.minimum:.3g} to {params.maximum:.3g}: "
        f"mean squared error {rounding + clipping:.3g}, of which rounding {rounding:.3g} and "
        f"clipping {clipping:.3g}."
    )


class RangeFigure:
    """The picture of the range explorer: the values with the range, and the error's two parts.

    Above: how often each value occurs, with the range as a band. Below: the mean squared error
    against the upper end of the range, with the lower end fixed. Lesson 03.
    """

    _POINTS = 80

    def __init__(self) -> None:
        self.figure = Figure(figsize=(9.4, 5.2))
        self._values, self._errors = self.figure.subplots(
            2, 1, sharex=True, height_ratios=[1, 1.25]
        )
        self.figure.subplots_adjust(left=0.09, right=0.985, top=0.95, bottom=0.09, hspace=0.22)
        self._values.set_title("The values of the layer, and the range", loc="left", fontsize=10)
        self._values.set(yscale="log", ylabel="how often")
        self._errors.set(yscale="log", ylabel="mean squared error", xlabel="upper end of the range")
        self._bars = self._values.add_collection(LineCollection([], colors=GREY, linewidths=1.4))
        self._band = mark_range(self._values)
        (total,) = self._errors.plot([], [], color="black", lw=1.6, label="sum")
        (rounding,) = self._errors.plot([], [], "--", color=BLUE, lw=1.6, label="rounding")
        (clipping,) = self._errors.plot([], [], ":", color=VERMILION, lw=2.2, label="clipping")
        self._curves = total, rounding, clipping
        self._end = self._errors.axvline(0, color=SKY, lw=2)
        self._marks = {}
        for name, (marker, color) in CALIBRATOR_MARKS.items():
            (self._marks[name],) = self._errors.plot(
                [], [], marker, color=color, ms=9, mec="black", ls="", label=name, zorder=5
            )
        self._errors.legend(
            ncols=8,
            fontsize=9,
            loc="lower center",
            bbox_to_anchor=(0.5, 0.98),
            frameon=False,
            columnspacing=1.2,
            handletextpad=0.4,
        )
        self.moving = [self._band, self._end, *self._curves, *self._marks.values()]

    def show_values(self, distribution: Distribution) -> None:
        """Show the values of another layer; this changes the static part of the picture."""
        low, high = distribution.values[[0, -1]]
        span = (high - low) or 1.0  # all values may be equal
        counts, edges = np.histogram(
            distribution.values, 600, (low, low + span), weights=np.diff(distribution.sums[0])
        )
        margin = 0.03 * span
        self._values.set(xlim=(low - margin, high + margin), ylim=(0.5, 2 * counts.max()))
        bars = zip((edges[:-1] + edges[1:]) / 2, counts, strict=True)
        self._bars.set_segments([[(x, 0.5), (x, count)] for x, count in bars if count])
        widest = sum(distribution.error(QuantParams(2, span / 3)))
        finest = span**2 / 12 / 4**17
        self._errors.set_ylim(finest, 10 * max(widest, 1e3 * finest))

    def update(
        self,
        distribution: Distribution,
        ends: tuple[float, float],
        bits: int,
        marks: Mapping[str, tuple[float, float]],
    ) -> None:
        """Show a range and its error, and the ranges that the calibrators would choose.

        Args:
            distribution: The values of the layer.
            ends: The range to show.
            bits: The bit width.
            marks: The range of each calibrator, by its name.
        """
        params = params_from_range(*ends, bits)
        self._band.set_x(params.minimum)
        self._band.set_width(params.maximum - params.minimum)
        self._end.set_xdata([params.maximum] * 2)
        low, top = min(ends[0], 0.0), max(distribution.values[-1], 0.0)
        uppers = np.linspace(top / self._POINTS, top, self._POINTS)
        errors = [distribution.error(params_from_range(low, end, bits)) for end in uppers]
        rounding, clipping = np.array(errors).T
        floor = self._errors.get_ylim()[0] / 10  # a logarithmic axis cannot show 0
        for line, error in zip(
            self._curves, (rounding + clipping, rounding, clipping), strict=True
        ):
            line.set_data(uppers, np.maximum(error, floor))
        for name, mark in self._marks.items():
            chosen = params_from_range(*marks[name], bits)
            mark.set_data([marks[name][1]], [sum(distribution.error(chosen))])
