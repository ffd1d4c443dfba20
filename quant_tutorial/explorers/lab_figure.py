"""Draw and describe the state of the quantization lab (lesson 10)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from quant_tutorial.affine import QuantParams
from quant_tutorial.plotting.answers import AnswerChanges
from quant_tutorial.plotting.bars import Bars
from quant_tutorial.plotting.digits import SHOWN, DigitRow
from quant_tutorial.plotting.quantities import EXACT, describe_db
from quant_tutorial.plotting.style import BLUE, GREEN, GREY, ORANGE, VERMILION

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

_WIDTH, _HEIGHT = 1060, 448  # of the figure on the page, in pixels
_MOST = EXACT  # dB at which a bar has its full length; what is exact has no bar
_LEAST = 0.1  # % of wrong images at which the bar of the errors begins


class LabFigure:
    """The picture of the quantization lab (lesson 10).

    From left to right: errors and size of the weights beside those of the float model, and how the
    weights were rounded; the SQNR of each layer's activation; the change of the confusion matrix;
    the logits and predictions of both models for the drawing. Below: images that the quantized
    model classifies differently.

    Args:
        accuracy: The accuracy of the float model, 0 to 1.
        weight_bytes: The size of its weights in bytes.
        layers: The names of the input and the layers, in order.
    """

    def __init__(self, accuracy: float, weight_bytes: int, layers: Sequence[str]) -> None:
        self._accuracy, self._bytes = accuracy, weight_bytes
        self.figure = Figure(figsize=(_WIDTH / 100, _HEIGHT / 100))
        self._make_bars(self._axes(28, 75, 200, 24), self._axes(14, 248, 215, 24))
        self._make_ratios(self._axes(262, 34, 222, 262), layers)
        self._make_changes(self._axes(540, 34, 245, 245))
        self._make_drawing()
        self.moving = [
            *(self._bar, self._spread, self._figures, self._points),
            *(self._size_bar, self._size_figures, self._origin, *self._float_lines),
            self._ratios,
            *(text for pair in self._labels for text in pair),
            *self.changes.moving,
            *(self._digit, *self._said, self._tie),
            *(artist for bars, texts in self._logits for artist in (bars, *texts)),
        ]

    def _box(
        self, left: float, top: float, width: float, height: float
    ) -> tuple[float, float, float, float]:
        """Convert a box in pixels from the upper left corner to fractions of the figure."""
        bottom = _HEIGHT - top - height
        return left / _WIDTH, bottom / _HEIGHT, width / _WIDTH, height / _HEIGHT

    def _axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Make Axes at a position in pixels from the upper left corner."""
        return self.figure.add_axes(self._box(left, top, width, height))

    def _text(self, left: float, top: float, text: str = "", **style: object) -> object:
        return self.figure.text(left / _WIDTH, 1 - top / _HEIGHT, text, va="top", **style)

    def _make_bars(self, share: Axes, size: Axes) -> None:
        for ax in (share, size):
            ax.set(ylim=(-0.5, 0.5), yticks=[])
            ax.spines[["left", "right", "top"]].set_visible(False)
            ax.tick_params(labelsize=8)
        self._text(14, 8, "Accuracy", fontsize=10)
        self._figures = self._text(14, 28, weight="bold", fontsize=14)
        self._points = self._text(14, 52, fontsize=9)
        # Between 99% and 99.9% an axis of the accuracy shows nothing, and one of the errors does.
        share.set(xscale="log", xlim=(_LEAST, 115))
        share.set_xticks([0.1, 1, 10, 100], ["0.1%", "1%", "10%", "100%"])
        share.set_xlabel("wrong images, log scale; dashed: float", fontsize=8)
        float_line = {"color": "black", "ls": "--", "lw": 1.2, "zorder": 5}  # in front of a bar
        line = share.axvline(self._wrong(self._accuracy), **float_line)
        (self._bar,) = share.barh([0], [0], left=_LEAST, height=0.8, color=BLUE)
        (self._spread,) = share.plot([], [], color=ORANGE, lw=5, solid_capstyle="butt")
        self._text(14, 168, "Weights", fontsize=10)
        self._origin = self._text(14, 187, fontsize=9, linespacing=1.2)
        self._size_figures = self._text(14, 223, weight="bold", fontsize=11)
        size.set(xlim=(0, 1.04 * self._bytes), xticks=[0, 20_000, 40_000])
        size.xaxis.set_major_formatter("{x:,.0f}")
        size.set_xlabel("bytes; dashed: float", fontsize=8)
        self._float_lines = line, size.axvline(self._bytes, **float_line)
        (self._size_bar,) = size.barh([0], [0], height=0.8, color=GREEN)

    def _wrong(self, accuracy: float) -> float:
        """Return the share of wrong images in percent, at least that with which the axis begins."""
        return max(100 * (1 - accuracy), _LEAST)

    def _make_ratios(self, ax: Axes, layers: Sequence[str]) -> None:
        self._text(262, 8, "SQNR of each activation in dB", fontsize=10)
        count = len(layers)
        ax.set(xlim=(0, _MOST), ylim=(count - 0.6, -0.7), yticks=[])
        ax.set_xticks(range(0, _MOST + 1, 20))
        ax.tick_params(labelsize=8)
        ax.set_xlabel("W, A: bits of weights and activation", fontsize=8)
        ax.spines[["left", "right", "top"]].set_visible(False)
        self._ratios = Bars(ax, count, 0.34, VERMILION)
        self._labels = [
            (
                ax.text(0, row - 0.22, "", fontsize=8.5, va="bottom"),
                ax.text(0, row, "", fontsize=9, va="center", weight="bold"),
            )
            for row in range(count)
        ]

    def _make_changes(self, ax: Axes) -> None:
        self._text(540, 8, "Change of the confusion matrix", fontsize=10)
        boxes = [self._box(14 + 87 * place, 379, 68, 68) for place in range(SHOWN)]
        place = (14 / _WIDTH, 1 - 350 / _HEIGHT)
        row = DigitRow(self.figure, boxes, place, fontsize=9)
        self.changes = AnswerChanges(ax, row)
        ax.tick_params(labelsize=8)
        ax.xaxis.label.set_fontsize(8)
        ax.yaxis.label.set_fontsize(8)
        ax.yaxis.labelpad, ax.xaxis.labelpad = 4, 1

    def _make_drawing(self) -> None:
        self._text(815, 8, "Your drawing, as the models get it", fontsize=10)
        ax = self._axes(815, 34, 76, 76)
        ax.set(xticks=[], yticks=[])
        self._digit = ax.imshow(np.zeros((28, 28)), cmap="gray_r", vmin=0, vmax=1)
        self._said = [
            self._text(903, top, fontsize=10.5, weight="bold", color=color)
            for top, color in ((40, "black"), (64, BLUE))
        ]
        self._tie = self._text(903, 90, fontsize=9)
        self._logits = []
        for left, color, name in ((832, GREY, "float"), (945, BLUE, "quantized")):
            self._text(left, 120, f"Logits, {name}", fontsize=8)
            ax = self._axes(left, 138, 105, 172)
            ax.set(xlim=(-1, 1.9), ylim=(9.6, -0.6), xticks=[], yticks=[])
            ax.axvline(0, color="black", lw=0.6)
            ax.set_axis_off()
            for digit in range(10):
                if not self._logits:
                    ax.text(-1.15, digit, digit, va="center", ha="right", fontsize=9)
            bars = Bars(ax, 10, 0.7, color)
            texts = [
                ax.text(1.9, digit, "", va="center", ha="right", fontsize=8) for digit in range(10)
            ]
            self._logits.append((bars, texts))

    def update(
        self,
        accuracy: float,
        weight_bytes: int,
        images: int,
        interval: tuple[float, float] | None = None,
    ) -> None:
        """Show an accuracy on some images (0 to 1) or, with an interval, an estimate from them."""
        ends = [self._wrong(end) for end in interval or ()]
        self._bar.set_width(self._wrong(accuracy) - _LEAST)
        self._bar.set_alpha(0.45 if interval else 1.0)
        self._spread.set_data(ends, [0] * len(ends))
        if interval:
            self._figures.set_text(f"{interval[0]:.1%} to {interval[1]:.1%}")
            self._points.set_text(f"estimated on {images:,} images")
        else:
            wrong, more = (round((1 - a) * images) for a in (accuracy, self._accuracy))
            self._figures.set_text(f"{accuracy:.2%}")
            self._points.set_text(f"{wrong:,} of {images:,} wrong; in float {more:,}")
        self._size_bar.set_width(weight_bytes)
        self._size_figures.set_text(f"{weight_bytes:,} bytes, {weight_bytes / self._bytes:.0%}")

    def show_origin(self, origin: str) -> None:
        """Show how the weights were rounded, or with what they were trained."""
        self._origin.set_text(textwrap.fill(origin, 32))

    def show_layers(self, labels: Sequence[str], sqnr: Sequence[float]) -> None:
        """Show a label and the SQNR of the activation in dB, for the input and each layer."""
        lengths = [0 if value > EXACT else max(value, 0) for value in sqnr]
        self._ratios.show(lengths)
        for (label, figure), text, value, length in zip(
            self._labels, labels, sqnr, lengths, strict=True
        ):
            label.set_text(text)
            figure.set_text("exact: the same floats" if value > EXACT else describe_db(value))
            figure.set_weight("normal" if value > EXACT else "bold")
            inside = length > 0.5 * _MOST
            figure.set_x(length - 1 if inside else length + 1)
            figure.set_ha("right" if inside else "left")

    def show_drawing(
        self,
        image: NDArray[np.floating],
        logits: tuple[NDArray[np.floating], NDArray[np.floating]] | None,
    ) -> None:
        """Show a drawing and the predictions of both models for it.

        Args:
            image: The drawing, shape (28, 28, 1).
            logits: The logits of the float and of the quantized model, shape (10,) each; None when
                the drawing is empty.
        """
        self._digit.set_data(image.reshape(28, 28))
        ties = 1 if logits is None else _ties(logits[1])
        self._tie.set_text(f"the first of {ties} tied" if ties > 1 else "")
        for said, name, values, (bars, texts) in zip(
            self._said, ("float", "quantized"), logits or (None, None), self._logits, strict=True
        ):
            if values is None:
                said.set_text("draw a digit" if name == "float" else "")
                bars.show([0] * 10)
                for text in texts:
                    text.set_text("")
                continue
            answer, largest = int(values.argmax()), max(float(np.abs(values).max()), 1e-9)
            said.set_text(f"{name}: {answer}")
            lengths = (values.astype(float) / largest).tolist()
            bars.show(lengths, [1 if digit == answer else 0.45 for digit in range(10)])
            for digit, text in enumerate(texts):
                text.set_text(f"{values[digit] + 0.0:.1f}".replace("-", "−"))
                text.set_weight("bold" if digit == answer else "normal")


def describe_drawing(logits: tuple[NDArray[np.floating], NDArray[np.floating]] | None) -> str:
    """Return a sentence on both models' predictions for a drawing; None for an empty canvas."""
    if logits is None:
        return "The canvas is empty."
    before, after = (int(values.argmax()) for values in logits)
    ties = _ties(logits[1])
    end = f", the first of {ties} tied." if ties > 1 else "."
    if before == after:
        return f"Both models classify the drawing as {after}{end}"
    return f"The float model classifies the drawing as {before}, the quantized one as {after}{end}"


def _ties(logits: NDArray[np.floating]) -> int:
    """Count the digits with the largest logit, the first of which is the prediction."""
    return int(np.count_nonzero(logits == logits.max()))


def describe_layer(name: str, weights: int | None, activation: QuantParams | None) -> str:
    """Return the label of a layer: bits of weights and activation, and the activation's range."""
    given = "A float"
    if activation is not None:
        low, high = (f"{end:.3g}" for end in (activation.minimum, activation.maximum))
        given = f"A{activation.bits} from {low} to {high}".replace("-", "−")
    return f"{name}: {'W float' if weights is None else f'W{weights}'}, {given}"


def describe_sqnr_by_layer(sqnr: Mapping[str, float]) -> str:
    """Return a sentence with the SQNR of each activation; `sqnr` is in dB, by layer."""
    parts = [f"{name} {describe_db(value)}" for name, value in sqnr.items()]
    return f"SQNR of the activations in dB: {', '.join(parts)}."
