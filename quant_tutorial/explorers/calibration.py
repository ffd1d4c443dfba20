"""The explorer of lesson 03: a range over the activations of a layer, and its error."""

from __future__ import annotations

from collections.abc import Mapping

from quant_tutorial.affine import MAX_BITS, MIN_BITS, params_from_range
from quant_tutorial.calibration import Range, Statistics
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.plotting import RangeFigure, describe_range


class RangeExplorer(Explorer):
    """Sliders for bit width and range; rounding and clipping error trade places (lesson 03).

    Args:
        statistics: What was observed of each layer, by its name.
        layer: The layer shown at the start.
        bits: The bit width at the start, 2 to 16.

    Raises:
        ValueError: when there is no statistics of that layer.
    """

    def __init__(self, statistics: Mapping[str, Statistics], layer: str, bits: int = 4) -> None:
        if layer not in statistics:
            raise ValueError(f"layer must be one of {', '.join(statistics)}, got {layer!r}.")
        self._statistics, self._shown = statistics, ""
        bits_control = controls.integer("Bit width", bits, MIN_BITS, MAX_BITS)
        range_control = controls.real_range("Range (% of data)", (0, 100), 0, 100, 1)
        self.bits, self.percent = bits_control.source, range_control.source
        self.layer = controls.choice("Layer", list(statistics), layer)
        self._plot = RangeFigure()
        super().__init__(
            [bits_control, range_control],
            [self.layer],
            self._plot.figure,
            self._plot.moving,
            self._refresh,
        )

    def _refresh(self) -> str:
        name, bits = self.layer.value, self.bits.value
        distribution = self._statistics[name].distribution
        if name != self._shown:
            self._plot.show_values(distribution)
            self.redraw_background()
            self._shown = name
        marks = self._statistics[name].ranges(bits)
        ends = self._ends(*marks["min_max"])
        self._plot.update(distribution, ends, bits, marks)
        best = min(marks, key=lambda m: sum(distribution.error(params_from_range(*marks[m], bits))))
        low, high = marks[best]
        sentence = describe_range(name, params_from_range(*ends, bits), distribution)
        return f"{sentence} Of the calibrators {best} does best, with {low:.3g} to {high:.3g}."

    def _ends(self, low: float, high: float) -> Range:
        first, second = (low + percent / 100 * (high - low) for percent in self.percent.value)
        return first, second
