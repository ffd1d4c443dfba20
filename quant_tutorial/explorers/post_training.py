"""The explorer of lesson 05, which measures a quantization scheme on the whole test set."""

from __future__ import annotations

from quant_tutorial.affine import MAX_BITS, MIN_BITS
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.metrics import accuracy, accuracy_interval
from quant_tutorial.plotting import describe_flips, describe_points
from quant_tutorial.plotting.answers import AnswerChanges
from quant_tutorial.plotting.digits import SHOWN, DigitRow
from quant_tutorial.plotting.style import BLUE, GREEN, ORANGE
from quant_tutorial.scheme import CALIBRATORS, GRANULARITIES, IN_FLOAT, QuantScheme, TensorScheme
from quant_tutorial.simulate import StagedRun

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

_SAMPLE = 1000  # images for the first estimate


class PostTrainingExplorer(Explorer):
    """Sliders for the bits of weights, activations and input, with the accuracy (lesson 05).

    Args:
        run: The simulated model on the test images; other explorers may use the same object.
        labels: The true digits of the images, shape (n,).
        bits: The initial bit width of weights and activations.
    """

    def __init__(self, run: StagedRun, labels: NDArray[np.integer], bits: int = 4) -> None:
        self._run, self._simulator = run, run.simulator
        self._labels = np.asarray(labels)
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
        self.granularity = controls.choice("Weights", GRANULARITIES, "channel-wise")
        self.calibrator = controls.choice("Activation ranges", CALIBRATORS, "min_max")
        self.layers = {name: controls.checkbox(name, True) for name in self._simulator.layers}
        plot = PostTrainingFigure(self._accuracy, self._simulator.weight_bytes(in_float))
        super().__init__(plot, rows, [self.granularity, self.calibrator, *self.layers.values()])

    @property
    def scheme(self) -> QuantScheme:
        """The scheme to which the controls are set."""
        weights = TensorScheme(self.weights.value, True, self.granularity.value)
        activations = TensorScheme(self.activations.value, calibrator=self.calibrator.value)
        spared = {name: None for name, box in self.layers.items() if not box.value}
        return QuantScheme(weights, activations, TensorScheme(self.input.value), spared)

    def estimate(self) -> str:
        """Show the accuracy on a sample of the images with its interval, and describe it."""
        params = self._simulator.params(self.scheme)
        count = min(_SAMPLE, self._run.count)
        labels = self._labels[self._run.sample(count)]
        right = accuracy(self._run.outputs(params, count), labels)
        self._run.begin(params)  # while the estimate is drawn and sent
        low, high = accuracy_interval(round(right * count), count)
        self.plot.update(right, self._simulator.weight_bytes(params), (low, high), count)
        self.plot.changes.fade()
        return f"{self._said()} {low:.1%} to {high:.1%} right, estimated on {count:,} images."

    def draw(self) -> str:
        """Show the accuracy and the changed predictions on all images, and describe them."""
        params = self._simulator.params(self.scheme)
        outputs = self._run.outputs(params)
        right, size = accuracy(outputs, self._labels), self._simulator.weight_bytes(params)
        points = describe_points(right, self._accuracy)
        self.plot.update(right, size)
        answers = outputs.argmax(axis=1)
        self.plot.changes.show(self._answers, answers, self._labels, self._run.images)
        return (
            f"{self._said()} {right:.1%} of {self._run.count:,} images right, "
            f"{points} points from float; weights of {size:,} bytes. "
            f"{describe_flips(self._answers, answers)}"
        )

    def _said(self) -> str:
        spared = [name for name, box in self.layers.items() if not box.value]
        without = f", {', '.join(spared)} in float" if spared else ""
        return (
            f"Weights {self.weights.value} bits {self.granularity.value}, activations "
            f"{self.activations.value} bits ({self.calibrator.value}), input {self.input.value} "
            f"bits{without}:"
        )


class PostTrainingFigure:
    """The picture of the post-training explorer: the effect of a scheme on a model (lesson 05).

    Above: accuracy and size of the weights beside those of the float model, and the change of the
    confusion matrix. Below: images that the quantized model classifies differently.

    Args:
        accuracy: The accuracy of the float model, 0 to 1.
        weight_bytes: The size of its weights in bytes.
    """

    def __init__(self, accuracy: float, weight_bytes: int) -> None:
        self._accuracy, self._bytes = accuracy, weight_bytes
        self.figure = Figure(figsize=(9.4, 5.6))
        left, right = self.figure.add_gridspec(
            1, 2, left=0.02, right=0.985, top=0.94, bottom=0.29, wspace=0.12
        )
        share, size = left.subgridspec(2, 1, hspace=1.3).subplots()
        self._make_bars(share, size)
        matrix = self.figure.add_subplot(right)
        matrix.set_title("Change of the confusion matrix", loc="left", fontsize=10)
        boxes = [(0.02 + 0.0805 * place, 0.01, 0.075, 0.125) for place in range(SHOWN)]
        self.changes = AnswerChanges(matrix, DigitRow(self.figure, boxes, (0.02, 0.19)))
        self.moving = [
            *(self._bar, self._spread, self._figures, self._size_bar, self._size_figures),
            *self.changes.moving,
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

    def update(
        self,
        accuracy: float,
        weight_bytes: int,
        interval: tuple[float, float] | None = None,
        images: int | None = None,
    ) -> None:
        """Show an accuracy (0 to 1) or, with an interval, the estimate on that many images."""
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
