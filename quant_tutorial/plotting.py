"""Draw and describe: `plot_…` draws on given Axes, `describe_…` says the same in a sentence.

Colours are those of Okabe and Ito, which readers with any kind of colour vision tell apart; a
marker or a line style always says the same as the colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant_tutorial.affine import (
    QuantParams,
    fake_quantize,
    params_from_range,
    quantize,
    split_error,
)
from quant_tutorial.calibration import Distribution
from quant_tutorial.table import Table as Table  # the lessons read it from here

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#6E6E6E"


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


def describe_flips(before: NDArray[np.integer], after: NDArray[np.integer]) -> str:
    """Say how the answers of two models differ, given the classes they predict (lesson 05).

    Numbers are rounded: on another processor a few images may fall on the other side.
    """
    moved = np.flatnonzero(before != after)
    if not len(moved):
        return "No image is answered differently."
    pairs, counts = np.unique(np.stack([before[moved], after[moved]]), axis=1, return_counts=True)
    old, new = pairs[:, np.argmax(counts)]
    return (
        f"About {_one_digit(len(moved)):,} images are answered differently; most often {old} "
        + (f"becomes {new}.")
    )


def describe_points(share: float, other: float) -> str:
    """Write how many percentage points a share (0 to 1) is above another, to one decimal.

    From a tenth on it is the difference of the two as they are written, to one decimal each.
    """
    if abs(share - other) < 0.001:
        return "less than 0.1"
    points = round(100 * share, 1) - round(100 * other, 1)
    return f"{points:+.1f}".replace("-", "−")


def _one_digit(count: int) -> int:
    return int(float(f"{count:.0e}"))


def plot_accuracy_by_bits(
    ax: Axes,
    bits: Sequence[int],
    curves: Mapping[str, Sequence[float]],
    baseline: float,
) -> None:
    """Draw accuracy (0 to 1) against bit width, a curve for each granularity (lesson 05)."""
    for name, shares in curves.items():
        marker, color, size = GRANULARITY_MARKS[name]
        ax.plot(bits, 100 * np.asarray(shares), marker=marker, ms=size, color=color, label=name)
    ax.axhline(100 * baseline, color="black", ls="--", lw=1, label="float")
    ax.set(xlabel="bit width", ylabel="accuracy in %", xticks=list(bits), ylim=(0, 104))
    ax.legend(loc="lower right")


def describe_accuracy_by_bits(bits: Sequence[int], curves: Mapping[str, Sequence[float]]) -> str:
    """Say what `plot_accuracy_by_bits` shows (lesson 05)."""
    parts = []
    for name, shares in curves.items():
        good = [width for width, share in zip(bits, shares, strict=True) if share >= 0.99]
        least = f"from {min(good)} bits on" if good else "at no width"
        parts.append(f"{name} {least}")
    return f"At least 99 % of the images are right: {', '.join(parts)}."


def plot_sizes(
    ax: Axes,
    tried: Sequence[tuple[int, float]],
    front: Sequence[tuple[int, float]],
    uniform: Sequence[tuple[int, float]],
) -> None:
    """Draw accuracy (0 to 1) against bytes: all mixes tried, the best, and uniform widths.

    Each is a sequence of pairs (bytes, accuracy). Lesson 05.
    """
    for pairs, style, color, label in (
        (tried, ".", GREY, "tried"),
        (front, "o-", BLUE, "Pareto front"),
        (uniform, "s", VERMILION, "one width for all layers"),
    ):
        sizes, shares = np.array(pairs).T
        ax.plot(sizes, 100 * shares, style, color=color, label=label, ms=6 if style != "." else 4)
    ax.set(xlabel="bytes of kernels and biases", ylabel="accuracy in %")
    ax.legend(loc="lower right")


def describe_sizes(
    front: Sequence[tuple[int, float]], uniform: Sequence[tuple[int, float]], share: float
) -> str:
    """Say how small mixed and uniform weights may be for an accuracy of `share` (lesson 05)."""
    mixed, one = (min(size for size, got in pairs if got >= share) for pairs in (front, uniform))
    return (
        f"For {share:.0%} on the images searched with, mixed widths need {mixed:,} bytes, one "
        f"width for all layers {one:,}."
    )


class PostTrainingFigure:
    """The picture of the post-training explorer: what a scheme does to a whole model (lesson 05).

    Above, accuracy and size of the weights beside those of the float model, and how the table of
    answers changes. Below, images that the quantized model answers otherwise.

    Args:
        accuracy: That of the float model, 0 to 1.
        weight_bytes: Its weights in bytes.
    """

    _IMAGES = 12

    def __init__(self, accuracy: float, weight_bytes: int) -> None:
        self._accuracy, self._bytes = accuracy, weight_bytes
        self.figure = Figure(figsize=(9.4, 5.6))
        left, right = self.figure.add_gridspec(
            1, 2, left=0.02, right=0.985, top=0.94, bottom=0.29, wspace=0.12
        )
        share, size = left.subgridspec(2, 1, hspace=1.3).subplots()
        self._make_bars(share, size)
        self._make_changes(self.figure.add_subplot(right))
        self._make_images()
        self.moving = [
            *(self._bar, self._spread, self._figures, self._size_bar, self._size_figures),
            *(self._changes, *self._numbers.ravel(), self._flips),
            *(artist for pair in self._images for artist in pair),
        ]

    def _make_bars(self, share: Axes, size: Axes) -> None:
        for ax, title in ((share, "Accuracy"), (size, "Weights")):
            ax.set_title(title, loc="left", fontsize=10)
            ax.set(ylim=(-0.5, 0.5), yticks=[])
            ax.spines[["left", "right", "top"]].set_visible(False)
        share.set(xlim=(0, 104), xticks=range(0, 101, 20), xlabel="% of the test images")
        share.axvline(100 * self._accuracy, color="black", ls="--", lw=1.2)
        share.text(100 * self._accuracy, 0.53, "float ", ha="right", fontsize=9)
        (self._bar,) = share.barh([0], [0], height=0.7, color=BLUE)
        (self._spread,) = share.plot([], [], color=ORANGE, lw=5, solid_capstyle="butt")
        self._figures = share.text(3, 0, "", va="center", fontsize=13, weight="bold")
        size.set(xlim=(0, 1.04 * self._bytes), xlabel="bytes of kernels and biases")
        size.axvline(self._bytes, color="black", ls="--", lw=1.2)
        (self._size_bar,) = size.barh([0], [0], height=0.7, color=GREEN)
        self._size_figures = size.text(0, 0, "", va="center", fontsize=11, weight="bold")

    def _make_changes(self, ax: Axes) -> None:
        ax.set_title("Change of the confusion matrix", loc="left", fontsize=10)
        ax.set(xlabel="answer", ylabel="true digit", xticks=range(10), yticks=range(10))
        ax.tick_params(length=0)
        self._changes = ax.imshow(np.zeros((10, 10)), cmap="PuOr_r", vmin=-1.3, vmax=1.3)
        self._numbers = np.array(
            [
                [ax.text(j, i, "", ha="center", va="center", fontsize=7) for j in range(10)]
                for i in range(10)
            ]
        )

    def _make_images(self) -> None:
        self._flips = self.figure.text(0.02, 0.185, "", fontsize=10)
        self._images = []
        for index in range(self._IMAGES):
            ax = self.figure.add_axes((0.02 + 0.0805 * index, 0.01, 0.075, 0.125))
            ax.axis("off")
            image = ax.imshow(np.zeros((28, 28)), cmap="gray_r", vmin=0, vmax=1)
            self._images.append((image, ax.set_title("", fontsize=8, pad=2)))

    def update(
        self,
        accuracy: float,
        weight_bytes: int,
        interval: tuple[float, float] | None = None,
        images: int | None = None,
    ) -> None:
        """Show an accuracy (0 to 1); with an interval, as the estimate on so many images."""
        points = 100 * (accuracy - self._accuracy)
        self._bar.set_width(100 * accuracy)
        self._bar.set_alpha(0.45 if interval else 1.0)
        ends = [100 * end for end in interval] if interval else []
        self._spread.set_data(ends, [0] * len(ends))
        text = f"{accuracy:.2%}, {points:+.2f} points".replace("-", "−")
        self._figures.set_fontsize(10 if interval else 13)
        if interval:
            text = f"{ends[0]:.0f} to {ends[1]:.0f} %, estimated on {images:,} images"
        inside = accuracy > 0.6
        self._figures.set_text(text)
        self._figures.set_x(3 if inside else 100 * accuracy + 3)
        self._figures.set_color("white" if inside and not interval else "black")
        self._size_bar.set_width(weight_bytes)
        self._size_figures.set_text(
            f" {weight_bytes:,} of {self._bytes:,}: {weight_bytes / self._bytes:.0%}"
        )
        inside = weight_bytes > 0.6 * self._bytes
        self._size_figures.set_x(0 if inside else weight_bytes)
        self._size_figures.set_color("white" if inside else "black")

    def show_changes(
        self,
        change: NDArray[np.integer],
        images: NDArray[np.floating],
        answers: Sequence[tuple[int, int, int]],
        flipped: int,
    ) -> None:
        """Show how the answers change.

        Args:
            change: Confusion matrix of the quantized model minus that of the float model, (10, 10).
            images: Some images that are answered otherwise, (n, 28, 28, 1).
            answers: For each of them true digit, answer before, answer after.
            flipped: How many there are in all.
        """
        largest = max(np.abs(change).max(), 1)
        self._changes.set_data(np.sign(change) * np.sqrt(np.abs(change) / largest))
        for text, count in zip(self._numbers.ravel(), change.ravel(), strict=True):
            text.set_text(f"{count:+d}".replace("-", "−") if count else "")
            text.set_color("white" if abs(count) > 0.7 * largest else "black")
        self._flips.set_text(
            f"{flipped:,} images are answered differently"
            + (", among them (true digit: before → after)" if flipped else "")
        )
        for index, (picture, title) in enumerate(self._images):
            shown = index < len(images)
            picture.set_visible(shown)
            title.set_text("")
            if shown:
                true, before, after = answers[index]
                picture.set_data(images[index].reshape(28, 28))
                title.set_text(f"{true}: {before} → {after}")


class MultiplierFigure:
    """The picture of the multiplier explorer: how wrong fewer multiplier bits are (lesson 07).

    Left, the error of the scale ratio against the bits of its multiplier. Right, by how much the
    output integers are off, and how many.
    """

    _OFF = 3  # differences shown, to each side; what is further off is counted with the last

    def __init__(self, bits: Sequence[int], errors: Sequence[float]) -> None:
        self.figure = Figure(figsize=(9.4, 3.6))
        ratio, outputs = self.figure.subplots(1, 2)
        self.figure.subplots_adjust(left=0.09, right=0.985, top=0.9, bottom=0.15, wspace=0.22)
        ratio.set_title("Largest relative error of the ratios", loc="left", fontsize=10)
        # A ratio that is a power of two has no error, and a logarithmic axis no 0.
        drawn = np.maximum(errors, 2.0 ** -(max(bits) + 2))
        ratio.plot(bits, drawn, "o-", color=BLUE, ms=4)
        limit = [2.0**-width for width in bits]
        ratio.plot(bits, limit, "--", color=GREY, label="2 to the power of −bits")
        ratio.set(yscale="log", xlabel="bits of the multiplier", xticks=range(1, max(bits) + 1, 5))
        ratio.legend()
        (self._here,) = ratio.plot([], [], "D", color=VERMILION, ms=9, mec="black")
        self._errors = dict(zip(bits, drawn, strict=True))
        outputs.set_title("Output integers that are off", loc="left", fontsize=10)
        places = np.arange(-self._OFF, self._OFF + 1)
        labels = [f"{place:+d}".replace("-", "−") if place else "right" for place in places]
        labels[0], labels[-1] = f"{labels[0]}\nor less", f"{labels[-1]}\nor more"
        outputs.set(ylim=(0, 112), ylabel="% of the output integers")
        outputs.set_xticks(places, labels)
        self._bars = outputs.bar(places, 0, color=[BLUE if p == 0 else VERMILION for p in places])
        self._shares = [
            outputs.text(place, 0, "", ha="center", va="bottom", fontsize=8) for place in places
        ]
        self.moving = [self._here, *self._bars, *self._shares]

    def update(self, bits: int, off: NDArray[np.integer]) -> None:
        """Show a width; `off` is by how much each output integer differs, any shape."""
        self._here.set_data([bits], [self._errors[bits]])
        places = np.clip(off, -self._OFF, self._OFF) + self._OFF
        counts = np.bincount(places.ravel(), minlength=2 * self._OFF + 1)
        for bar, text, count in zip(self._bars, self._shares, counts, strict=True):
            share = 100 * count / off.size
            bar.set_height(share)
            text.set_y(share + 1)
            said = f"{share:.1f} %" if share >= 0.1 else f"{count:,}"
            text.set_text(said if count else "")


class TensorFigure:
    """The picture of the tensor explorer: the values of a tensor as integers and as reals.

    Left, how often each integer occurs; right, the real values that they stand for. Lesson 06.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(9.4, 3.4))
        self._axes = self.figure.subplots(1, 2)
        self.figure.subplots_adjust(left=0.08, right=0.985, top=0.9, bottom=0.15, wspace=0.2)
        for ax, title, label in zip(
            self._axes,
            ("As integers, in the file or in memory", "As the real values they stand for"),
            ("integer q", "real value"),
            strict=True,
        ):
            ax.set_title(title, loc="left", fontsize=10)
            ax.set(xlabel=label, yscale="log", ylabel="how many")
        colors = BLUE, GREEN
        self._bars = [
            ax.add_collection(LineCollection([], colors=color, linewidths=1.2))
            for ax, color in zip(self._axes, colors, strict=True)
        ]
        self.moving = self._bars

    def show(
        self, q: NDArray[np.integer], real: NDArray[np.floating], ends: tuple[int, int]
    ) -> None:
        """Show a tensor, any shape; `ends` are the smallest and largest integer of its type.

        The still part of the picture changes with it.
        """
        whole, counts = np.unique(q, return_counts=True)
        middles, heights = np.unique(real, return_counts=True)
        if len(middles) > 256:  # several scales: too many different values for a bar each
            heights, edges = np.histogram(real, 200)
            middles = (edges[:-1] + edges[1:]) / 2
        reach = np.histogram_bin_edges(real, 1)  # of some width even when all values are one
        for ax, bars, places, heights_, limits in (
            (self._axes[0], self._bars[0], whole, counts, ends),
            (self._axes[1], self._bars[1], middles, heights, reach),
        ):
            margin = 0.03 * (limits[1] - limits[0])
            ax.set(xlim=(limits[0] - margin, limits[1] + margin), ylim=(0.7, 2 * heights_.max()))
            pairs = zip(places.tolist(), heights_.tolist(), strict=True)
            bars.set_segments([[(x, 0.7), (x, count)] for x, count in pairs if count])


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
