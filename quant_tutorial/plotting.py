"""Draw and describe: `plot_…` draws on given Axes, `describe_…` says the same in a sentence.

Colours are those of Okabe and Ito, which readers with any kind of colour vision tell apart; a
marker or a line style always says the same as the colour.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from quant_tutorial.affine import (
    QuantParams,
    fake_quantize,
    params_from_range,
    quantize,
    split_error,
)
from quant_tutorial.calibration import Distribution

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#6E6E6E"


class Table:
    """A small table to read: HTML in a page, aligned text elsewhere.

    Args:
        header: One heading for each column.
        rows: As many entries a row; numbers are to be formatted by the caller.

    Raises:
        ValueError: when a row has more or fewer entries than the header.
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.lines = [[str(entry) for entry in line] for line in (header, *rows)]
        for line in self.lines:
            if len(line) != len(header):
                raise ValueError(f"rows must have {len(header)} entries each, got {line}.")

    def __repr__(self) -> str:
        """Give the table as aligned text."""
        widths = [max(map(len, column)) for column in zip(*self.lines, strict=True)]
        lines = [
            "  ".join(
                f"{entry:<{width}}" for entry, width in zip(line, widths, strict=True)
            ).rstrip()
            for line in self.lines
        ]
        return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])

    def _repr_html_(self) -> str:
        head, *body = (
            "".join(f"<{tag} style='text-align: left'>{html.escape(e)}</{tag}>" for e in line)
            for tag, line in zip(["th", *["td"] * len(self.lines)], self.lines, strict=False)
        )
        rows = "".join(f"<tr>{line}</tr>" for line in body)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def plot_digits(axes: Sequence[Axes], images: NDArray[np.generic], titles: Sequence[str]) -> None:
    """Draw one digit on each of the Axes, dark on white, with its title (lesson 01).

    `images` has the shape (n, 28, 28) or (n, 28, 28, 1); n Axes and n titles.

    Raises:
        ValueError: when the numbers of Axes, images and titles differ.
    """
    for ax, image, title in zip(axes, images, titles, strict=True):
        ax.imshow(image.reshape(28, 28), cmap="gray_r", interpolation="nearest")
        ax.set_title(title, fontsize=9)
        ax.axis("off")


def describe_digits(titles: Sequence[str]) -> str:
    """Say which digits a row of pictures shows (lesson 01)."""
    return f"{len(titles)} pictures from left to right: " + "; ".join(
        title.replace("\n", " ") for title in titles
    )


def plot_sqnr(ax: Axes, bits: Sequence[int], measured: Sequence[float]) -> None:
    """Draw SQNR in decibels against bit width, with the rule of 6.02 dB a bit (lesson 02)."""
    ax.plot(bits, measured, "o", color=BLUE, label="measured")
    rule = measured[-1] + 6.02 * (np.asarray(bits) - bits[-1])
    ax.plot(bits, rule, "--", color=VERMILION, label="6.02 dB a bit")
    ax.set(xlabel="bit width", ylabel="SQNR in dB", xticks=list(bits))
    ax.legend()


def describe_sqnr(bits: Sequence[int], measured: Sequence[float]) -> str:
    """Say what `plot_sqnr` shows (lesson 02)."""
    middle = len(bits) // 2
    slope = (measured[-1] - measured[middle]) / (bits[-1] - bits[middle])
    return (
        f"SQNR rises from {measured[0]:.1f} dB at {bits[0]} bits to {measured[-1]:.1f} dB at "
        f"{bits[-1]} bits; from {bits[middle]} bits on by {slope:.2f} dB a bit."
    )


def plot_integer_histogram(ax: Axes, q: NDArray[np.integer], title: str) -> None:
    """Draw how often each integer occurs in a quantized tensor of any shape (lesson 06)."""
    values, counts = np.unique(q, return_counts=True)
    ax.bar(values, counts, width=1.0, color=BLUE)
    ends = np.iinfo(q.dtype)
    margin = (ends.max - ends.min) / 100
    limits = ends.min - margin, ends.max + margin
    ax.set(xlabel="integer q", ylabel="how many", xlim=limits, title=title)


def describe_integers(q: NDArray[np.integer], name: str) -> str:
    """Say which integers a quantized tensor holds (lesson 06)."""
    return (
        f"{name}: {q.size:,} values from {q.min()} to {q.max()}, {len(np.unique(q))} different "
        f"ones; half of them lie between {np.percentile(q, 25):.0f} and {np.percentile(q, 75):.0f}."
    )


def describe_affine(x: float, params: QuantParams) -> str:
    """Say in a sentence what the map does with one number (lesson 02)."""
    rounding, clipping = split_error(x, params)
    return (
        f"{params.bits} bits: {params.levels} levels from {params.minimum:.4g} to "
        f"{params.maximum:.4g}, scale {params.scale:.4g}, zero point {params.zero_point}. "
        f"x = {x:.4g} becomes q = {int(quantize(x, params))} and comes back as "
        f"x̂ = {float(fake_quantize(x, params)):.4f}: rounding error {rounding:+.4f}, "
        f"clipping error {clipping:+.4f}."
    )


def describe_range(name: str, params: QuantParams, distribution: Distribution) -> str:
    """Say what a range does to the values of a layer (lesson 03)."""
    rounding, clipping = distribution.error(params)
    return (
        f"{name} at {params.bits} bits, range {params.minimum:.3g} to {params.maximum:.3g}: "
        f"mean squared error {rounding + clipping:.3g}, of which rounding {rounding:.3g} and "
        f"clipping {clipping:.3g}."
    )


# How each calibrator is marked, in every figure.
CALIBRATOR_MARKS = {
    "min_max": ("o", BLUE),
    "moving_average": ("s", SKY),
    "percentile": ("^", GREEN),
    "mse": ("D", VERMILION),
    "entropy": ("X", PURPLE),
}


class RangeFigure:
    """The picture of the range explorer: the values with the range, and the error's two parts.

    Above, how often each value occurs, with the range as a band. Below, the mean squared error
    against the upper end of the range, the lower end staying where it is. Lesson 03.
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
        self._band = _range_mark(self._values)
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
        """Show the values of another layer; the still part of the picture changes with them."""
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
        """Show a range, and the ranges that the calibrators would choose."""
        params = params_from_range(*ends, bits)
        self._band.set_x(params.minimum)
        self._band.set_width(params.maximum - params.minimum)
        self._end.set_xdata([params.maximum] * 2)
        low, top = min(ends[0], 0.0), max(distribution.values[-1], 0.0)
        uppers = np.linspace(top / self._POINTS, top, self._POINTS)
        errors = [distribution.error(params_from_range(low, end, bits)) for end in uppers]
        rounding, clipping = np.array(errors).T
        floor = self._errors.get_ylim()[0] / 10  # a logarithmic axis has no 0
        for line, error in zip(
            self._curves, (rounding + clipping, rounding, clipping), strict=True
        ):
            line.set_data(uppers, np.maximum(error, floor))
        for name, mark in self._marks.items():
            chosen = params_from_range(*marks[name], bits)
            mark.set_data([marks[name][1]], [sum(distribution.error(chosen))])


# How each granularity is marked, in every figure, the coarsest largest: none can hide another.
GRANULARITY_MARKS = {
    "tensor-wise": ("X", VERMILION, 11),
    "layer-wise": ("s", ORANGE, 7),
    "channel-wise": ("o", BLUE, 4.5),
}


def describe_granularity(name: str, bits: int, sqnr: Mapping[str, NDArray[np.floating]]) -> str:
    """Say how well each granularity serves the channels of a layer (lesson 04).

    `sqnr` holds the SQNR of each channel in decibels, shape (channels,), by granularity.
    """
    parts = [
        f"{granularity} {np.min(values):.1f} to {np.max(values):.1f} dB"
        for granularity, values in sqnr.items()
    ]
    return f"{name} at {bits} bits, SQNR of its channels: {', '.join(parts)}."


class GranularityFigure:
    """The picture of the granularity explorer: the ranges of the channels, and their SQNR.

    Left, for each output channel the weights from smallest to largest, and the range that the
    chosen granularity gives it. Right, the SQNR of each channel at all granularities. Lesson 04.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(9.4, 4.4))
        self._weights, self._sqnr = self.figure.subplots(1, 2)
        self.figure.subplots_adjust(left=0.08, right=0.985, top=0.93, bottom=0.11, wspace=0.2)
        self._weights.set_title("Weights (bars) and the range they get", loc="left", fontsize=10)
        self._weights.set(xlabel="output channel", ylabel="weight")
        self._sqnr.set_title("SQNR of each channel", loc="left", fontsize=10)
        self._sqnr.set(xlabel="output channel", ylabel="dB", ylim=(-5, 118))
        self._bars = self._weights.add_collection(LineCollection([], colors=GREY, linewidths=5))
        self._ranges = self._weights.add_collection(LineCollection([], colors=BLUE, linewidths=1.5))
        self._points = {}
        for name, (marker, color, size) in GRANULARITY_MARKS.items():
            (self._points[name],) = self._sqnr.plot(
                [], [], marker, color=color, ls="", mec="black", mew=0.5, ms=size, label=name
            )
        self._sqnr.legend(fontsize=8, loc="upper center", ncols=3, handletextpad=0.1)
        self.moving = [self._ranges, *self._points.values()]

    def show_layer(self, kernel: NDArray[np.floating], reach: float) -> None:
        """Show the weights of a layer (channels on the last axis) between −reach and reach.

        The still part of the picture changes with them.
        """
        channels = kernel.reshape(-1, kernel.shape[-1])
        count = channels.shape[1]
        for ax in (self._weights, self._sqnr):
            ax.set_xlim(-0.7, count - 0.3)
            ax.set_xticks(range(0, count, 1 if count <= 16 else 4))
        self._weights.set_ylim(-1.08 * reach, 1.08 * reach)
        ends = zip(channels.min(axis=0), channels.max(axis=0), strict=True)
        self._bars.set_segments([[(c, low), (c, high)] for c, (low, high) in enumerate(ends)])

    def update(self, params: QuantParams, sqnr: Mapping[str, NDArray[np.floating]]) -> None:
        """Show the ranges of one granularity and the SQNR (channels,) of all."""
        count = len(next(iter(sqnr.values())))
        lows, highs = (np.broadcast_to(end, count) for end in (params.minimum, params.maximum))
        lines = [
            [(c - 0.4, end), (c + 0.4, end)] for ends in (lows, highs) for c, end in enumerate(ends)
        ]
        self._ranges.set_segments(lines)
        for name, points in self._points.items():
            points.set_data(range(count), sqnr[name])


class AffineFigure:
    """The picture of the affine explorer: a number line, a magnifier, the staircase, the error.

    The artists are made once; `update` moves them. Everything real is drawn between `low` and
    `high`, whatever the range, so that the axes stand still while the sliders move. Lesson 02.
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
        """Show the map and what it does with the number x."""
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
        ax.set_title("▼ the number x     ● x̂, what comes back", loc="right", fontsize=10)
        self._range_marks = [_range_mark(ax)]
        self._line_levels = ax.add_collection(LineCollection([], colors=BLUE, linewidths=0.8))
        (self._line_x,) = ax.plot([0], [0.5], "v", color=VERMILION, ms=9, mec="white", zorder=3)
        (self._line_x_hat,) = ax.plot([0], [0.5], "o", color="black", ms=5, mec="white", zorder=4)

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
            above.set_text(f"{q + step}")
            below.set_text(f"{(q + step - params.zero_point) * params.scale:.4g}")
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
        self._range_marks.append(_range_mark(ax))
        ax.plot(ends, ends, color=GREY, lw=0.8, ls=":")
        (self._stairs,) = ax.plot([], [], color=BLUE, lw=1.6)
        (self._stairs_x,) = ax.plot([0], [0], "o", color="black", ms=6, mec="white", zorder=4)

    def _make_error(self, ax: Axes) -> None:
        ends = (self._low, self._high)
        ax.set(xlim=ends, ylim=(-1.6, 1.6), xlabel="x", xticks=self._ticks)
        ax.set_yticks([-0.5, 0, 0.5], ["−½", "0", "+½"])
        ax.set_title("Error x̂ − x, in units of the scale", loc="left", fontsize=10)
        self._range_marks.append(_range_mark(ax))
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
        # Where not every level is drawn, the teeth are as wide as the drawn steps, never higher.
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
    """Give the levels that numbers from low to high come back as; of very many, only some."""
    first, last = (int(quantize(end, params)) for end in (low, high))
    q = np.rint(np.linspace(first, last, min(last - first + 1, most)))
    return (q - params.zero_point) * params.scale


def _range_mark(ax: Axes):  # noqa: ANN202 (matplotlib's Rectangle)
    return ax.axvspan(0, 1, color=SKY, alpha=0.22, lw=0)
