"""The explorer of lesson 04, which compares one scale per model, per tensor and per channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant_tutorial.affine import MAX_BITS, MIN_BITS, QuantParams, fake_quantize
from quant_tutorial.arguments import checked_choice
from quant_tutorial.calibration import weight_params
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.explorers.exported import encoded
from quant_tutorial.metrics import channel_sqnr_db
from quant_tutorial.plotting.quantities import describe_number
from quant_tutorial.plotting.style import GRANULARITY_MARKS, GREY
from quant_tutorial.scheme import GRANULARITIES, GRANULARITY_NAMES, TensorScheme

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray


class GranularityExplorer(Explorer):
    """A slider for the bit width of the weights, which compares granularities (lesson 04).

    Args:
        weights: The weights of each layer by its name, output channels on the last axis.
        accuracy: The accuracy (0 to 1) by bit width and granularity, with symmetric min/max
            ranges. The sentence quotes it where it is known.
        layer: The layer shown first; by default the first one.
        bits: The initial bit width, 2 to 16.
        granularity: The granularity whose ranges are shown first.

    Raises:
        ValueError: when there is no such layer or granularity.
    """

    live = "granularity"

    def __init__(
        self,
        weights: Mapping[str, NDArray[np.floating]],
        accuracy: Mapping[tuple[int, str], float],
        layer: str | None = None,
        bits: int = 4,
        granularity: str = "channel-wise",
    ) -> None:
        checked_choice("granularity", granularity, GRANULARITIES)
        layer = checked_choice("layer", layer or next(iter(weights)), weights)
        self._weights, self._accuracy, self._shown = weights, accuracy, None
        bits_control = controls.integer("Bit width", bits, MIN_BITS, MAX_BITS)
        self.bits = bits_control.slider
        self.layer = controls.choice("Layer", list(weights), layer)
        names = [(GRANULARITY_NAMES[granularity], granularity) for granularity in GRANULARITIES]
        self.granularity = controls.choice("Granularity", names, granularity)
        self.symmetric = controls.checkbox("symmetric", True)
        options = [self.layer, self.granularity, self.symmetric]
        super().__init__(GranularityFigure(), [bits_control], options)

    def page_data(self) -> dict[str, Any]:
        """Return the weights, the names of the granularities, and the accuracies."""
        return {
            "weights": {name: encoded(kernel) for name, kernel in self._weights.items()},
            "names": GRANULARITY_NAMES,
            "accuracy": [[*key, float(share)] for key, share in self._accuracy.items()],
        }

    def draw(self) -> str:
        """Show the ranges of the channels and their SQNR at each granularity, and describe it."""
        name, bits, chosen = self.layer.value, self.bits.value, self.granularity.value
        kernel = self._weights[name]
        # A single set of parameters has to cover the largest weight of the whole model.
        shared = self._weights.values() if chosen == "tensor-wise" else [kernel]
        reach = max(np.abs(values).max() for values in shared)
        highest = _highest(bits)
        if (name, reach, highest) != self._shown:
            self.plot.show_layer(kernel, reach, highest)
            self.redraw_background()
            self._shown = name, reach, highest
        params = {granularity: self._params(granularity) for granularity in GRANULARITIES}
        sqnr = {
            granularity: channel_sqnr_db(kernel, fake_quantize(kernel, params[granularity]))
            for granularity in GRANULARITIES
        }
        self.plot.update(chosen, params[chosen], sqnr)
        sentence = describe_granularity(name, bits, sqnr)
        if (bits, chosen) in self._accuracy and self.symmetric.value:
            share = self._accuracy[bits, chosen]
            words = GRANULARITY_NAMES[chosen]
            sentence += f" With all layers at {bits} bits {words} the accuracy is {share:.1%}."
        return sentence

    def _params(self, granularity: str) -> QuantParams:
        scheme = TensorScheme(self.bits.value, self.symmetric.value, granularity)
        return weight_params(self._weights, scheme)[self.layer.value]


def describe_granularity(name: str, bits: int, sqnr: Mapping[str, NDArray[np.floating]]) -> str:
    """Return a sentence on the channels' SQNR at each granularity (lesson 04).

    `sqnr` holds the SQNR of each channel in decibels, shape (channels,), by granularity.
    """
    parts = []
    for granularity, values in sqnr.items():
        low, high = (describe_number(end + 0.0, ".1f") for end in (values.min(), values.max()))
        parts.append(f"{GRANULARITY_NAMES[granularity]} {low} to {high} dB")
    return f"{name} at {bits} bits, SQNR of its channels: {', '.join(parts)}."


def _highest(bits: int) -> int:
    """Return where the axis of the decibels ends: one of three ends, so that it seldom moves."""
    return next(end for width, end in ((4, 34), (8, 60), (MAX_BITS, 118)) if bits <= width)


class GranularityFigure:
    """The picture of the granularity explorer: the ranges of the channels, and their SQNR.

    Left: for each output channel, the smallest to the largest weight, and the range at the chosen
    granularity. Right: the SQNR of each channel at all granularities. Lesson 04.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(9.4, 4.4))
        self._weights, self._sqnr = self.figure.subplots(1, 2)
        self.figure.subplots_adjust(left=0.08, right=0.985, top=0.93, bottom=0.11, wspace=0.2)
        self._title = self._weights.text(
            0, 1.023, "", transform=self._weights.transAxes, va="baseline", fontsize=10
        )
        self._weights.set(xlabel="output channel", ylabel="weight")
        self._sqnr.set_title("SQNR of each channel", loc="left", fontsize=10)
        self._sqnr.set(xlabel="output channel", ylabel="dB")
        self._bars = self._weights.add_collection(LineCollection([], colors=GREY, linewidths=5))
        self._ranges = self._weights.add_collection(LineCollection([], linewidths=1.8))
        self._points = {}
        for name, (marker, color, size) in GRANULARITY_MARKS.items():
            (self._points[name],) = self._sqnr.plot(
                [], [], marker, color=color, ls="", mec="black", mew=0.5, ms=size
            )
            self._points[name].set_label(GRANULARITY_NAMES[name])
        self._sqnr.legend(fontsize=8, loc="upper center", ncols=3, handletextpad=0.1)
        self.moving = [self._ranges, self._title, *self._points.values()]

    def show_layer(self, kernel: NDArray[np.floating], reach: float, highest: float) -> None:
        """Show the weights of a layer on an axis from −reach to reach, and the axis of the SQNR.

        This changes the static part of the picture.

        Args:
            kernel: The weights, output channels on the last axis.
            reach: The largest absolute value that the axis of the weights has to cover.
            highest: Where the axis of the SQNR ends, in decibels.
        """
        channels = kernel.reshape(-1, kernel.shape[-1])
        count = channels.shape[1]
        for ax in (self._weights, self._sqnr):
            ax.set_xlim(-0.7, count - 0.3)
            ax.set_xticks(range(0, count, 1 if count <= 16 else 4 if count <= 64 else 16))
        self._sqnr.set_ylim(-0.05 * highest, highest)
        self._weights.set_ylim(-1.08 * reach, 1.08 * reach)
        ends = zip(channels.min(axis=0), channels.max(axis=0), strict=True)
        self._bars.set_segments([[(c, low), (c, high)] for c, (low, high) in enumerate(ends)])

    def update(
        self, chosen: str, params: QuantParams, sqnr: Mapping[str, NDArray[np.floating]]
    ) -> None:
        """Show the ranges of the chosen granularity in its colour, and the SQNR of all.

        Args:
            chosen: The granularity that `params` belong to.
            params: The quantization parameters of the layer.
            sqnr: The SQNR of each channel in decibels, shape (channels,), by granularity.
        """
        self._title.set_text(f"Weights (grey bars), and the range {GRANULARITY_NAMES[chosen]}")
        self._ranges.set_color(GRANULARITY_MARKS[chosen][1])
        count = len(next(iter(sqnr.values())))
        lows, highs = (np.broadcast_to(end, count) for end in (params.minimum, params.maximum))
        lines = [
            [(c - 0.4, end), (c + 0.4, end)] for ends in (lows, highs) for c, end in enumerate(ends)
        ]
        self._ranges.set_segments(lines)
        for name, points in self._points.items():
            points.set_data(range(count), sqnr[name])
