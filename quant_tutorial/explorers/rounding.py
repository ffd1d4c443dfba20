"""The explorer of lesson 11, which shows how each method has rounded the weights of a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from quant_tutorial.affine import QuantParams, quantize
from quant_tutorial.arguments import checked_choice
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.explorers.exported import encoded
from quant_tutorial.plotting.choices import METHOD_MARKS
from quant_tutorial.plotting.style import BLUE, GREY, ORANGE, SKY
from quant_tutorial.rounding import Rounded

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

_BINS = 10  # along the step between two levels
_NEAREST = "nearest"


class Moves(NamedTuple):
    """How the weights of a layer are rounded, compared with their nearest levels (lesson 11)."""

    steps: NDArray[np.int64]  # by which each weight is away from its nearest level, up or down
    share_up: NDArray[np.float64]  # rounded up, by place within the step, shape (bins,)


class RoundingExplorer(Explorer):
    """A slider for the bit width of rounded weights, and menus for layer and method (lesson 11).

    Nothing is rounded or run here: the explorer only compares what it is given.

    Args:
        weights: The float weights of each layer by its name, output channels on the last axis.
        rounded: The rounded models by method and bit width, every method at every width. One of the
            methods is "nearest".
        sqnr: The SQNR of each layer's outputs in decibels, by method and bit width.
        accuracy: The accuracy (0 to 1) by method and bit width.
        reference: The accuracy of the float model, 0 to 1.
        layer: The layer shown first; by default the first one.
        method: The method shown first; by default the first one.
        bits: The initial bit width; by default the smallest.

    Raises:
        ValueError: when there is no such layer or method, or when a method lacks a bit width.
    """

    live = "rounding"

    def __init__(
        self,
        weights: Mapping[str, NDArray[np.floating]],
        rounded: Mapping[tuple[str, int], Rounded],
        sqnr: Mapping[tuple[str, int], Mapping[str, float]],
        accuracy: Mapping[tuple[str, int], float],
        reference: float,
        layer: str | None = None,
        method: str | None = None,
        bits: int | None = None,
    ) -> None:
        methods = list(dict.fromkeys(name for name, _ in rounded))
        widths = sorted({width for _, width in rounded})
        for key in ((name, width) for name in (*methods, _NEAREST) for width in widths):
            for given, found in (("rounded", rounded), ("sqnr", sqnr), ("accuracy", accuracy)):
                if key not in found:
                    raise ValueError(f"{given} must have every method at every width: no {key}.")
        layer = checked_choice("layer", layer or next(iter(weights)), weights)
        method = checked_choice("method", method or methods[0], methods)
        self._weights, self._rounded = weights, rounded
        self._sqnr, self._accuracy = sqnr, accuracy
        self._methods, self._reference = methods, reference
        self._shown: str | None = None
        row = controls.integer("Bit width", bits or widths[0], widths[0], widths[-1])
        self.bits = row.slider
        self.layer = controls.choice("Layer", list(weights), layer)
        self.method = controls.choice("Method", methods, method)
        figure = RoundingFigure(list(weights), methods, reference)
        super().__init__(figure, [row], [self.layer, self.method])

    def page_data(self) -> dict[str, Any]:
        """Return all that the explorer was given; under "GPTQ 4" what GPTQ chose at 4 bits."""
        return {
            "weights": {name: encoded(np.float32(w)) for name, w in self._weights.items()},
            "rounded": {
                f"{method} {bits}": {
                    name: {
                        "integers": encoded(integers.astype(np.int8)),
                        "scale": np.asarray(rounded.params.weights[name].scale).tolist(),
                    }
                    for name, integers in rounded.integers.items()
                }
                for (method, bits), rounded in self._rounded.items()
            },
            "sqnr": {
                f"{method} {bits}": {name: float(value) for name, value in found.items()}
                for (method, bits), found in self._sqnr.items()
            },
            "accuracy": {
                f"{method} {bits}": float(share) for (method, bits), share in self._accuracy.items()
            },
            "methods": self._methods,
            "reference": self._reference,
        }

    def draw(self) -> str:
        """Show where the weights went and what became of the outputs, and describe it."""
        bits, name, method = self.bits.value, self.layer.value, self.method.value
        if name != self._shown:
            self.plot.show_layer(self._weights[name])
            self._shown = name
        chosen = self._rounded[method, bits]
        moves = compare(self._weights[name], chosen.integers[name], chosen.params.weights[name])
        sqnr = {key[0]: found for key, found in self._sqnr.items() if key[1] == bits}
        accuracy = {key[0]: share for key, share in self._accuracy.items() if key[1] == bits}
        self.plot.update(name, method, moves, sqnr, accuracy)
        return describe_rounding(name, bits, method, moves, sqnr, accuracy)


def compare(
    weights: NDArray[np.floating], integers: NDArray[np.integer], params: QuantParams
) -> Moves:
    """Compare integer weights with the nearest levels of the float weights (lesson 11).

    Args:
        weights: The float weights, output channels on the last axis.
        integers: The integers that a method has chosen, of the same shape.
        params: The parameters of these integers.
    """
    steps = integers.astype(np.int64) - quantize(weights, params)
    exact = weights / np.asarray(params.scale) + np.asarray(params.zero_point)
    inside = (exact > params.qmin) & (exact < params.qmax)  # the others have no level beyond
    below = np.floor(exact[inside])
    place = np.minimum((_BINS * (exact[inside] - below)).astype(int), _BINS - 1)
    up = np.bincount(place, integers[inside] > below, _BINS)
    with np.errstate(invalid="ignore"):
        return Moves(steps, up / np.bincount(place, minlength=_BINS))


def describe_rounding(
    name: str,
    bits: int,
    method: str,
    moves: Moves,
    sqnr: Mapping[str, Mapping[str, float]],
    accuracy: Mapping[str, float],
) -> str:
    """Return a description of how a layer is rounded, and of the errors (lesson 11).

    `sqnr` holds the SQNR in decibels by method and layer, `accuracy` the accuracy (0 to 1) by
    method, both at this bit width.
    """
    up, down = int(np.sum(moves.steps > 0)), int(np.sum(moves.steps < 0))
    far = int(np.sum(np.abs(moves.steps) > 1))
    moved = "every weight is at its nearest level"
    if up + down:
        share = (up + down) / moves.steps.size
        moved = (
            f"{up + down:,} of {moves.steps.size:,} weights ({share:.0%}) are not at their nearest "
            f"level: {up:,} went up and {down:,} down, {far:,} by more than one level"
        )
    here, there = (f"{sqnr[kind][name]:.1f} dB" for kind in (method, _NEAREST))
    outputs, right = here, f"{accuracy[method]:.1%}"
    if method != _NEAREST:
        outputs += f" (nearest: {there})"
        right += f" (nearest: {accuracy[_NEAREST]:.1%})"
    return (
        f"{name} at {bits} bits by {method}: {moved}. SQNR of the outputs of {name}: {outputs}. "
        f"All layers by {method}: {right} of the images right."
    )


class RoundingFigure:
    """The picture of the rounding explorer.

    Above, every weight of a layer: at its nearest level, above it or below it. Below, how many
    weights are rounded up by their place between two levels, the SQNR of each layer's outputs, and
    the wrong answers of all methods.

    Args:
        layers: The names of the layers.
        methods: The names of the methods.
        reference: The accuracy of the float model, 0 to 1.
    """

    def __init__(self, layers: Sequence[str], methods: Sequence[str], reference: float) -> None:
        self.figure = Figure(figsize=(9.4, 5.3))
        self._layers, self._methods = list(layers), list(methods)
        self._matrix = self.figure.add_axes((0.075, 0.63, 0.905, 0.25))
        colors = ListedColormap([ORANGE, "#ECECEC", BLUE])
        self._image = self._matrix.imshow(
            np.zeros((1, 1)), cmap=colors, vmin=-1, vmax=1, aspect="auto", interpolation="nearest"
        )
        self._matrix.set(xlabel="input of the layer", ylabel="output channel")
        self._counts = [
            self.figure.text(x, 0.905, "", fontsize=10, color=color)
            for x, color in ((0.45, "#5A5A5A"), (0.69, BLUE), (0.84, "#9C6B00"))
        ]
        self._matrix.set_title("Weights, against their nearest level", loc="left", fontsize=10)
        self._places = self.figure.add_axes((0.075, 0.11, 0.25, 0.36))
        self._places.set_title("How many are rounded up", loc="left", fontsize=10)
        self._places.set(
            xlim=(0, 1), ylim=(-5, 105), xticks=[0, 0.5, 1], ylabel="% of the weights there"
        )
        self._places.set_xticklabels(["lower level", "middle", "upper level"], fontsize=9)
        self._places.step([0, 0.5, 0.5, 1], [0, 0, 100, 100], color=GREY, ls="--", lw=1)
        (self._curve,) = self._places.plot([], [], "o-", color="black", ms=4)
        self._noise = self.figure.add_axes((0.4, 0.11, 0.255, 0.36))
        self._noise.set_title("SQNR of each layer's outputs, dB", loc="left", fontsize=10)
        self._noise.set(xlim=(-0.5, len(layers) - 0.5), ylim=(-3, 36), xticks=range(len(layers)))
        self._noise.set_xticklabels(layers, fontsize=9)
        self._band = self._noise.axvspan(-0.4, 0.4, color=SKY, alpha=0.25, lw=0)
        self._wrong = self.figure.add_axes((0.785, 0.11, 0.195, 0.36))
        self._wrong.set_title("% of the images wrong", loc="left", fontsize=10)
        self._wrong.set(xscale="log", xlim=(0.3, 130), ylim=(len(methods) - 0.5, -0.5))
        self._wrong.xaxis.set_major_formatter("{x:g}")
        self._wrong.set_yticks(range(len(methods)), methods, fontsize=9)
        self._wrong.axvline(100 * (1 - reference), color="black", ls="--", lw=1)
        self._lines, self._marks, self._labels = {}, {}, {}
        for place, method in enumerate(methods):
            marker, color = METHOD_MARKS.get(method, ("x", GREY))
            (self._lines[method],) = self._noise.plot([], [], marker=marker, color=color)
            (self._marks[method],) = self._wrong.plot([], [], marker, color=color, ls="")
            self._labels[method] = self._wrong.text(1, place, "", fontsize=9, va="center")
        for ax in (self._places, self._noise, self._wrong):
            ax.spines[["top", "right"]].set_visible(False)
        self.moving = [
            # The matrix's axes move as well: that takes half the time of a new background.
            *(self._matrix.xaxis, self._matrix.yaxis),
            *(self._image, *self._counts, self._curve, self._band),
            *(*self._lines.values(), *self._marks.values(), *self._labels.values()),
        ]

    def show_layer(self, weights: NDArray[np.floating]) -> None:
        """Set the axes for a layer's weights."""
        channels = weights.shape[-1]
        inputs = weights.size // channels
        self._image.set_extent((0.5, inputs + 0.5, channels + 0.5, 0.5))
        self._matrix.set(xlim=(0.5, inputs + 0.5), ylim=(channels + 0.5, 0.5))
        self._matrix.set_xticks(_ticks(inputs))
        self._matrix.set_yticks(_ticks(channels, 4))

    def update(
        self,
        name: str,
        method: str,
        moves: Moves,
        sqnr: Mapping[str, Mapping[str, float]],
        accuracy: Mapping[str, float],
    ) -> None:
        """Show the rounding of one layer by one method, and the errors of all methods."""
        self._image.set_data(np.sign(moves.steps).reshape(-1, moves.steps.shape[-1]).T)
        for text, sign, words in zip(
            self._counts, (0, 1, -1), ("at the nearest level", "went up", "went down"), strict=True
        ):
            text.set_text(f"■ {np.mean(np.sign(moves.steps) == sign):.0%} {words}")
        known = np.isfinite(moves.share_up)
        middles = (np.arange(_BINS) + 0.5) / _BINS
        self._curve.set_data(middles[known], 100 * moves.share_up[known])
        place = self._layers.index(name)
        self._band.set_x(place - 0.4)
        for kind, line in self._lines.items():
            chosen = kind == method
            line.set_data(range(len(self._layers)), [sqnr[kind][layer] for layer in self._layers])
            line.set(alpha=1 if chosen else 0.45, lw=2.5 if chosen else 1, ms=7 if chosen else 4)
            percent = 100 * (1 - accuracy[kind])
            row = self._methods.index(kind)
            self._marks[kind].set_data([percent], [row])
            self._marks[kind].set_markersize(10 if chosen else 6)
            left = percent > 12
            self._labels[kind].set_text(f"{percent:.1f}")
            self._labels[kind].set_position((percent * (0.66 if left else 1.55), row))
            self._labels[kind].set(ha="right" if left else "left")
            self._labels[kind].set_fontweight("bold" if chosen else "normal")


def _ticks(count: int, most: int = 9) -> list[int]:
    """Return at most so many round numbers from 1 to a count."""
    step = next(s for s in (1, 2, 4, 8, 16, 20, 50, 100, 200, 500, 10**6) if count / s <= most)
    return list(range(step, count + 1, step))
