"""The explorer of lesson 05, which measures a quantization scheme on the whole test set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quant_tutorial.affine import MAX_BITS, MIN_BITS
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.explorers.exported import encoded
from quant_tutorial.explorers.exported_model import tables
from quant_tutorial.metrics import accuracy, accuracy_interval
from quant_tutorial.plotting import describe_flips, describe_points
from quant_tutorial.plotting.answers import AnswerChanges
from quant_tutorial.plotting.digits import SHOWN, DigitRow
from quant_tutorial.plotting.labels import Labels
from quant_tutorial.plotting.style import BLUE, GREEN, GREY, ORANGE
from quant_tutorial.scheme import (
    CALIBRATORS,
    GRANULARITY_NAMES,
    IN_FLOAT,
    LayerScheme,
    QuantScheme,
    TensorScheme,
)
from quant_tutorial.simulate import ModelParams, StagedRun

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

_SAMPLE = 1000  # images for the first estimate
_LOGITS = 8  # bits that the last output has at least, while its box is ticked
_TICKS = (0.2, 0.5, 1, 2, 5, 10, 20, 50)  # of the axis of errors, per cent
_LEAST, _MOST = 0.15, 100.0  # its ends


class PostTrainingExplorer(Explorer):
    """Sliders for the bits of weights, activations and input, with the accuracy (lesson 05).

    Args:
        run: The simulated model on the test images; other explorers may use the same object.
        labels: The true digits of the images, shape (n,).
        bits: The initial bit width of weights and activations.
    """

    live = "post_training"

    def __init__(self, run: StagedRun, labels: NDArray[np.integer], bits: int = 4) -> None:
        self._run, self._simulator = run, run.simulator
        self._labels = np.asarray(labels)
        self._last = self._simulator.nodes[-1].layer
        in_float = self._simulator.params(IN_FLOAT)
        reference = run.outputs(in_float)
        self._answers, self._accuracy = reference.argmax(axis=1), accuracy(reference, labels)
        rows = [
            controls.integer("Weight bits", bits, MIN_BITS, 8),
            # LiteRT has 16-bit activations with 8-bit weights, but no wider weights.
            controls.integer("Activation bits", bits, MIN_BITS, MAX_BITS),
            controls.integer("Input bits", 8, MIN_BITS, 8),
        ]
        self.weights, self.activations, self.input = (row.slider for row in rows)
        names = [(name, one) for one, name in GRANULARITY_NAMES.items()]
        self.granularity = controls.choice("Weights", names, "channel-wise")
        self.weight_calibrator = controls.choice("Weight ranges", ("min_max", "mse"), "min_max")
        self.calibrator = controls.choice("Activation ranges", CALIBRATORS, "min_max")
        self.wide = controls.checkbox(f"output of {self._last}: 8 bits or more", True)
        self.layers = {name: controls.checkbox(name, True) for name in self._simulator.layers}
        columns = [(node.layer, bool(node.weights)) for node in self._simulator.nodes]
        size = self._simulator.weight_bytes(in_float)
        plot = PostTrainingFigure(self._accuracy, size, columns)
        menus = [self.granularity, self.weight_calibrator, self.calibrator]
        super().__init__(plot, rows, [*menus, *self.layers.values(), self.wide])

    def page_data(self) -> dict[str, Any]:
        """Return the parameters for all schemes, and what is known of the float model."""
        return {
            "tables": tables(self._simulator),
            "names": GRANULARITY_NAMES,
            "layers": list(self._simulator.layers),
            "last": self._last,
            "wide": _LOGITS,
            "accuracy": self._accuracy,
            "answers": encoded(self._answers.astype(np.uint8)),
            "bytes": self._simulator.weight_bytes(self._simulator.params(IN_FLOAT)),
        }

    @property
    def scheme(self) -> QuantScheme:
        """The scheme to which the controls are set."""
        weights = TensorScheme(
            self.weights.value, True, self.granularity.value, self.weight_calibrator.value
        )
        activations = TensorScheme(self.activations.value, calibrator=self.calibrator.value)
        special: dict[str, LayerScheme | None] = {}
        if self.wide.value:
            wide = TensorScheme(max(_LOGITS, self.activations.value))
            special[self._last] = LayerScheme(weights, wide)
        special |= dict.fromkeys(self._spared())
        return QuantScheme(weights, activations, TensorScheme(self.input.value), special)

    def estimate(self) -> str:
        """Show the accuracy on a sample of the images with its interval, and describe it."""
        params = self._simulator.params(self.scheme)
        count = min(_SAMPLE, self._run.count)
        labels = self._labels[self._run.sample(count)]
        right = accuracy(self._run.outputs(params, count), labels)
        self._run.begin(params)  # while the estimate is drawn and sent
        low, high = accuracy_interval(round(right * count), count)
        self._show_sizes(params)
        self.plot.update(right, (low, high), count)
        self.plot.changes.fade()
        return f"{self._said()} {low:.1%} to {high:.1%} right, estimated on {count:,} images."

    def draw(self) -> str:
        """Show the accuracy and the changed predictions on all images, and describe them."""
        params = self._simulator.params(self.scheme)
        outputs = self._run.outputs(params)
        right, size = accuracy(outputs, self._labels), self._show_sizes(params)
        points = describe_points(right, self._accuracy)
        self.plot.update(right)
        answers = outputs.argmax(axis=1)
        self.plot.changes.show(self._answers, answers, self._labels, self._run.images)
        return (
            f"{self._said()} {right:.1%} of {self._run.count:,} images right, "
            f"{points} points from float; weights of {size:,} bytes. "
            f"{describe_flips(self._answers, answers)}"
        )

    def _show_sizes(self, params: ModelParams) -> int:
        """Show the bits of all tensors and the bytes of the weights, and return the latter."""
        size = self._simulator.weight_bytes(params)
        nodes = self._simulator.nodes
        found = [
            [params.weights[node.weights] if node.weights else None for node in nodes],
            [params.activations[node.name] for node in nodes],
        ]
        self.plot.show_sizes(size, [[p.bits if p else None for p in row] for row in found])
        return size

    def _spared(self) -> list[str]:
        """List the layers that stay in float."""
        return [name for name, box in self.layers.items() if not box.value]

    def _said(self) -> str:
        spared = self._spared()
        without = f", {', '.join(spared)} in float" if spared else ""
        activations = self.activations.value
        last = ""
        if self.wide.value and activations < _LOGITS and self._last not in spared:
            last = f" but {_LOGITS} for the last output"
        return (
            f"Weights {self.weights.value} bits {GRANULARITY_NAMES[self.granularity.value]} "
            f"({self.weight_calibrator.value}), activations {activations} bits "
            f"({self.calibrator.value}){last}, input {self.input.value} bits{without}:"
        )


class PostTrainingFigure:
    """The picture of the post-training explorer: the effect of a scheme on a model (lesson 05).

    On the left: the share of wrong images on a logarithmic axis, the size of the weights and the
    bits of each tensor. On the right: the change of the confusion matrix. Below: images that the
    quantized model classifies differently.

    Args:
        accuracy: The accuracy of the float model, 0 to 1.
        weight_bytes: The size of its weights in bytes.
        columns: The layers in order, each with whether it has weights.
    """

    def __init__(
        self, accuracy: float, weight_bytes: int, columns: Sequence[tuple[str, bool]] = ()
    ) -> None:
        self._accuracy, self._bytes = accuracy, weight_bytes
        self._weighted = [weighted for _, weighted in columns]
        self.figure = Figure(figsize=(9.4, 5.6))
        left, right = self.figure.add_gridspec(
            1, 2, left=0.025, right=0.985, top=0.94, bottom=0.29, wspace=0.12
        )
        share, size, bits = left.subgridspec(
            3, 1, hspace=1.25, height_ratios=(1, 0.7, 1.1)
        ).subplots()
        self._make_share(share)
        self._make_size(size)
        self._make_bits(bits, [name for name, _ in columns])
        matrix = self.figure.add_subplot(right)
        matrix.set_title("Change of the confusion matrix", loc="left", fontsize=10)
        boxes = [(0.02 + 0.0805 * place, 0.01, 0.075, 0.125) for place in range(SHOWN)]
        self.changes = AnswerChanges(matrix, DigitRow(self.figure, boxes, (0.02, 0.19)))
        self.moving = [
            *(self._distance, self._mark, self._spread, self._figures),
            *(self._size_bar, self._size_figures, self._bits),
            *self.changes.moving,
        ]

    def _make_share(self, ax: Axes) -> None:
        _bare(ax)
        ax.set_xscale("log")
        ax.set(xlim=(_LEAST, _MOST), xlabel="wrong images in %, logarithmic")
        ax.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        ax.xaxis.set_minor_locator(NullLocator())
        self._float = _wrong(self._accuracy)
        ax.axvline(self._float, color="black", ls="--", lw=1.2)
        ax.text(self._float, 0.3, f"float {self._float:.2f} ", ha="right", fontsize=9)
        (self._distance,) = ax.plot([], [], color=BLUE, lw=7, solid_capstyle="butt", alpha=0.5)
        (self._mark,) = ax.plot([], [], "o", color=BLUE, ms=13)
        (self._spread,) = ax.plot([], [], color=ORANGE, lw=5, solid_capstyle="butt")
        self._figures = ax.text(0, 1.1, "", transform=ax.transAxes, fontsize=12, weight="bold")

    def _make_size(self, ax: Axes) -> None:
        _bare(ax)
        ax.set_title("Weights", loc="left", fontsize=10)
        ax.set(xlim=(0, 1.04 * self._bytes), xlabel="bytes of kernels and biases")
        ax.axvline(self._bytes, color="black", ls="--", lw=1.2)
        ax.text(self._bytes, 0.58, f"float {self._bytes:,}", ha="right", fontsize=9)
        (self._size_bar,) = ax.barh([0], [0], height=0.7, color=GREEN)
        self._size_figures = ax.text(0, 0, "", va="center", fontsize=11, weight="bold")

    def _make_bits(self, ax: Axes, names: Sequence[str]) -> None:
        ax.set_title("Bits of each tensor", loc="left", fontsize=10)
        ax.set(xlim=(-1.3, max(len(names), 1) - 0.4), ylim=(-0.5, 2.4))
        ax.axis("off")
        for row, text in ((1, "weights"), (0, "output")):
            ax.text(-1.3, row, text, va="center", fontsize=9)
        for place, name in enumerate(names):
            ax.text(place, 2, name, ha="center", va="center", fontsize=9, color=GREY)
        places = [(place, row) for row in (1, 0) for place in range(len(names))]
        self._bits = Labels(ax, np.reshape(places, (-1, 2)), 10)

    def show_sizes(self, weight_bytes: int, bits: Sequence[Sequence[int | None]]) -> None:
        """Show the size of the weights, and the bits of weights and outputs; None means float."""
        self._size_bar.set_width(weight_bytes)
        self._size_figures.set_text(
            f" {weight_bytes:,} of {self._bytes:,}: {weight_bytes / self._bytes:.0%}"
        )
        inside = weight_bytes > 0.6 * self._bytes
        self._size_figures.set_x(0 if inside else weight_bytes)
        self._size_figures.set_color("white" if inside else "black")
        words = [["float" if width is None else str(width) for width in row] for row in bits]
        words[0] = [
            word if weighted else "–"
            for word, weighted in zip(words[0], self._weighted, strict=True)
        ]
        self._bits.show([*words[0], *words[1]])

    def update(
        self,
        accuracy: float,
        interval: tuple[float, float] | None = None,
        images: int | None = None,
    ) -> None:
        """Show an accuracy (0 to 1) or, with an interval, the estimate on that many images."""
        wrong = _wrong(accuracy)
        self._distance.set_data([self._float, wrong], [0, 0])
        self._mark.set_data([wrong], [0])
        self._distance.set_alpha(0.2 if interval else 0.5)
        self._mark.set_alpha(0.3 if interval else 1.0)
        ends = [_wrong(end) for end in reversed(interval)] if interval else []
        self._spread.set_data(ends, [0] * len(ends))
        ratio = wrong / self._float
        times = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
        text = f"{accuracy:.2%} right, {times}× float's errors"
        if interval:
            low, high = interval
            text = f"{low:.1%} to {high:.1%} right, estimated on {images:,} images"
        self._figures.set_text(text)


def _wrong(accuracy: float) -> float:
    """Return the share of wrong images in per cent, at least that of the end of the axis."""
    return max(100 * (1 - accuracy), _LEAST)


def _bare(ax: Axes) -> None:
    """Leave only the lower axis."""
    ax.set(ylim=(-0.5, 0.5), yticks=[])
    ax.spines[["left", "right", "top"]].set_visible(False)
