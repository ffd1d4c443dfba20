"""The explorer of lesson 02, which quantizes one number with a range and a bit width."""

from __future__ import annotations

from quant_tutorial.affine import (
    MAX_BITS,
    MIN_BITS,
    QuantParams,
    fake_quantize,
    params_from_range,
    quantize,
    split_error,
)
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.plotting.quantities import describe_number
from quant_tutorial.plotting.style import BLUE, GREY, VERMILION, mark_range

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

LOW, HIGH, STEP = -10.0, 10.0, 0.05


class AffineExplorer(Explorer):
    """Sliders for bit width, range and a number x that is quantized with them (lesson 02).

    Args:
        bits: The initial bit width, 2 to 16.
        value_range: The initial range, within −10 to 10.
        x: The initial number, within −10 to 10.
    """

    live = "affine"

    def __init__(
        self, bits: int = 4, value_range: tuple[float, float] = (0.0, 10.0), x: float = 7.8
    ) -> None:
        bits_control = controls.integer("Bit width", bits, MIN_BITS, MAX_BITS)
        range_control = controls.real_range("Range", value_range, LOW, HIGH, STEP)
        x_control = controls.real("Number x", x, LOW, HIGH, STEP)
        self.bits, self.value_range, self.x = (
            control.slider for control in (bits_control, range_control, x_control)
        )
        self.symmetric = controls.checkbox("symmetric")
        self.narrow_range = controls.checkbox("narrow range")
        self.unsigned = controls.checkbox("unsigned integers")
        super().__init__(
            AffineFigure(LOW, HIGH),
            [bits_control, range_control, x_control],
            [self.symmetric, self.narrow_range, self.unsigned],
        )

    def page_data(self) -> dict[str, float]:
        """Return the ends of the axis of real numbers."""
        return {"low": LOW, "high": HIGH}

    def draw(self) -> str:
        """Show how the parameters quantize the number, and describe it."""
        params = params_from_range(
            *self.value_range.value,
            self.bits.value,
            symmetric=self.symmetric.value,
            narrow_range=self.narrow_range.value,
            signed=not self.unsigned.value,
        )
        self.plot.update(self.x.value, params)
        return describe_affine(self.x.value, params)


def describe_affine(x: float, params: QuantParams) -> str:
    """Return a sentence on the parameters and the quantization of one number (lesson 02)."""
    low, high, number = (
        describe_number(value, ".4g") for value in (params.minimum, params.maximum, x)
    )
    q, zero = (describe_number(value) for value in (int(quantize(x, params)), params.zero_point))
    x_hat = describe_number(float(fake_quantize(x, params)), ".4f")
    rounding, clipping = (describe_number(error, "+.4f") for error in split_error(x, params))
    return (
        f"{params.bits} bits: {params.levels} levels from {low} to {high}, scale "
        f"{params.scale:.4g}, zero point {zero}. x = {number} is stored as q = {q} and comes back "
        f"as x̂ = {x_hat}: rounding error {rounding}, clipping error {clipping}."
    )


class AffineFigure:
    """The picture of the affine explorer: a number line, a magnifier, the staircase, the error.

    The artists are made once; `update` moves them. The axes of real values always run from `low` to
    `high`, whatever the range, so that they stay fixed while the sliders move. Lesson 02.
    """

    _AROUND = 4  # levels that the magnifier shows on each side

    def __init__(self, low: float, high: float) -> None:
        self.figure = Figure(figsize=(9.4, 5.1))
        margin = 0.03 * (high - low)
        self._low, self._high = low - margin, high + margin
        self._ticks = np.linspace(low, high, 5)
        axes = self.figure.subplot_mosaic(
            "LL;MM;SE", height_ratios=[0.8, 1.1, 3.4], gridspec_kw={"hspace": 0.62, "wspace": 0.22}
        )
        self.figure.subplots_adjust(left=0.075, right=0.985, top=0.955, bottom=0.095)
        self._make_line(axes["L"])
        self._make_magnifier(axes["M"])
        self._make_staircase(axes["S"])
        self._make_error(axes["E"])
        self.moving = [
            *self._range_marks,
            *(self._line_title, self._line_levels, self._line_x, self._line_x_hat),
            *(artist for _, *artists in self._near for artist in artists),
            *(self._near_error, self._near_x, self._near_x_hat),
            *(self._stairs, self._stairs_x, self._error, self._error_x, *self._error_notes),
        ]

    def update(self, x: float, params: QuantParams) -> None:
        """Show the parameters and how they quantize the number x."""
        x_hat = float(fake_quantize(x, params))
        levels = _levels(params, self._low, self._high)
        for artist in self._range_marks:
            artist.set_x(params.minimum)
            artist.set_width(params.maximum - params.minimum)
        self._line_levels.set_segments([[(level, 0), (level, 1)] for level in levels])
        self._line_x.set_xdata([x])
        self._line_x_hat.set_xdata([x_hat])
        self._line_title.set_text(
            f"The whole range: {params.levels} levels, {params.levels - 1} intervals"
        )
        self._update_magnifier(x, x_hat, params)
        self._update_curves(x, x_hat, levels, params)

    def _make_line(self, ax: Axes) -> None:
        ax.set(xlim=(self._low, self._high), ylim=(0, 1), xticks=self._ticks, yticks=[])
        ax.spines[["left", "right", "top"]].set_visible(False)
        self._line_title = ax.set_title("", loc="left", fontsize=10)
        self._range_marks = [mark_range(ax)]
        self._line_levels = ax.add_collection(LineCollection([], colors=BLUE, linewidths=0.8))
        (self._line_x,) = ax.plot(
            [0], [0.5], "v", color=VERMILION, ms=9, mec="white", zorder=3, label="the number x"
        )
        (self._line_x_hat,) = ax.plot(
            [0], [0.5], "o", color="black", ms=5, mec="white", zorder=4, label="x̂, what comes back"
        )
        ax.legend(
            handles=[self._line_x, self._line_x_hat],
            loc="lower right",
            bbox_to_anchor=(1, 0.9),
            ncols=2,
            frameon=False,
            borderpad=0.2,
            handletextpad=0.1,
            fontsize=10,
        )

    def _make_magnifier(self, ax: Axes) -> None:
        reach = self._AROUND + 0.7
        ax.set(xlim=(-reach, reach), ylim=(0, 1), xticks=[], yticks=[])
        ax.spines[["left", "right", "top"]].set_visible(False)
        ax.set_title(
            "Magnified: the levels around x, integer q above, real x̂ below", loc="left", fontsize=10
        )
        self._near = []
        for step in range(-self._AROUND, self._AROUND + 1):
            (tick,) = ax.plot([step, step], [0.02, 0.62], color=BLUE, lw=1.6)
            options = {"ha": "center", "fontsize": 9, "weight": "bold" if step == 0 else "normal"}
            above = ax.text(step, 0.7, "", va="bottom", **options)
            below = ax.text(step, -0.08, "", va="top", **options)
            self._near.append((step, tick, above, below))
        (self._near_error,) = ax.plot([0, 0], [0.32, 0.32], color=VERMILION, lw=2, ls="--")
        (self._near_x,) = ax.plot([0], [0.32], "v", color=VERMILION, ms=10, mec="white", zorder=3)
        (self._near_x_hat,) = ax.plot([0], [0.32], "o", color="black", ms=6, mec="white", zorder=4)

    def _update_magnifier(self, x: float, x_hat: float, params: QuantParams) -> None:
        q = int(quantize(x, params))
        for step, tick, above, below in self._near:
            exists = params.qmin <= q + step <= params.qmax
            for artist in (tick, above, below):
                artist.set_visible(exists)
            above.set_text(describe_number(q + step, "d"))
            below.set_text(describe_number((q + step - params.zero_point) * params.scale, ".4g"))
        distance = (x - x_hat) / params.scale
        edge = self._AROUND + 0.6
        shown = float(np.clip(distance, -edge, edge))
        beyond = {1: ">", -1: "<"}[int(np.sign(distance))] if shown != distance else "v"
        self._near_x.set_marker(beyond)
        self._near_x.set_xdata([shown])
        self._near_error.set_xdata([0, shown])

    def _make_staircase(self, ax: Axes) -> None:
        ends = (self._low, self._high)
        ax.set(xlim=ends, ylim=ends, xlabel="x", xticks=self._ticks, yticks=self._ticks)
        ax.set_title("Staircase: x̂ against x", loc="left", fontsize=10)
        self._range_marks.append(mark_range(ax))
        ax.plot(ends, ends, color=GREY, lw=0.8, ls=":")
        (self._stairs,) = ax.plot([], [], color=BLUE, lw=1.6)
        (self._stairs_x,) = ax.plot([0], [0], "o", color="black", ms=6, mec="white", zorder=4)

    def _make_error(self, ax: Axes) -> None:
        ends = (self._low, self._high)
        ax.set(xlim=ends, ylim=(-1.6, 1.6), xlabel="x", xticks=self._ticks)
        ax.set_yticks([-0.5, 0, 0.5], ["−½", "0", "+½"])
        ax.set_title("Error x̂ − x, in units of the scale", loc="left", fontsize=10)
        self._range_marks.append(mark_range(ax))
        for half in (-0.5, 0.5):
            ax.axhline(half, color=GREY, lw=0.8, ls=":")
        (self._error,) = ax.plot([], [], color=VERMILION, lw=1.4)
        (self._error_x,) = ax.plot([0], [0], "o", color="black", ms=6, mec="white", zorder=4)
        self._error_notes = [
            ax.text(0, y, text, color=VERMILION, ha="center", va="center", fontsize=9)
            for y, text in ((-1.25, "clipped"), (1.25, "clipped"))
        ]

    def _update_curves(
        self, x: float, x_hat: float, levels: NDArray[np.floating], params: QuantParams
    ) -> None:
        edges = (levels[:-1] + levels[1:]) / 2
        corners = np.concatenate([[self._low], np.repeat(edges, 2), [self._high]])
        steps = np.repeat(levels, 2)
        self._stairs.set_data(corners, steps)
        self._stairs_x.set_data([x], [x_hat])
        # If only some levels are drawn, the teeth are as wide as the drawn steps, but no higher.
        error = (steps - corners) / (levels[1] - levels[0])
        error[0] = (params.minimum - self._low) / params.scale
        error[-1] = (params.maximum - self._high) / params.scale
        self._error.set_data(corners, error)
        shown = float(np.clip((x_hat - x) / params.scale, -1.5, 1.5))
        self._error_x.set_data([x], [shown])
        sides = ((self._low, params.minimum), (params.maximum, self._high))
        for note, (start, end) in zip(self._error_notes, sides, strict=True):
            note.set_x((start + end) / 2)
            note.set_visible(end - start > 0.12 * (self._high - self._low))


def _levels(params: QuantParams, low: float, high: float, most: int = 1025) -> NDArray[np.floating]:
    """Return the levels for numbers from low to high; of very many, only `most` of them."""
    first, last = (int(quantize(end, params)) for end in (low, high))
    q = np.rint(np.linspace(first, last, min(last - first + 1, most)))
    return (q - params.zero_point) * params.scale
