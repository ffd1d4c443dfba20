"""The explorer of lesson 05: a scheme, and what the whole test set makes of it."""

from __future__ import annotations

from quant_tutorial.affine import MAX_BITS, MIN_BITS
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.metrics import accuracy, accuracy_interval, confusion
from quant_tutorial.plotting import PostTrainingFigure, describe_flips, describe_points
from quant_tutorial.scheme import CALIBRATORS, FLOAT, GRANULARITIES, QuantScheme, TensorScheme
from quant_tutorial.simulate import Simulator
from quant_tutorial.stages import StagedRun

import numpy as np
from numpy.typing import NDArray

_SAMPLE = 1000  # images of the first estimate
PICTURES = 12  # of images that are answered otherwise


def show_changes(
    plot: PostTrainingFigure,
    before: NDArray[np.integer],
    after: NDArray[np.integer],
    labels: NDArray[np.integer],
    images: NDArray[np.float32],
) -> NDArray[np.intp]:
    """Show how the answers of two models differ; give the places of those that do (lesson 05).

    Args:
        plot: What shows it.
        before: Answers of the float model, shape (n,).
        after: Those of the quantized one, shape (n,).
        labels: The true digits, shape (n,).
        images: The images, shape (n, 28, 28, 1).
    """
    flips = np.flatnonzero(after != before)
    shown = flips[:PICTURES]
    told = [(labels[i], before[i], after[i]) for i in shown]
    change = confusion(after, labels) - confusion(before, labels)
    plot.show_changes(change, images[shown], told, len(flips))
    return flips


class PostTrainingExplorer(Explorer):
    """Sliders for the bits of weights, activations and input; the accuracy follows (lesson 05).

    The images are taken in a random order, the same each time, so that the first thousand are a
    fair sample of them all: MNIST's own order begins with easier ones.

    Args:
        simulator: The model with its ranges.
        images: Test images as the model gets them, shape (n, 28, 28, 1).
        labels: Their true digits, shape (n,).
        bits: The bit width of weights and activations at the start.
    """

    def __init__(
        self,
        simulator: Simulator,
        images: NDArray[np.float32],
        labels: NDArray[np.integer],
        bits: int = 4,
    ) -> None:
        order = np.random.default_rng(0).permutation(len(images))
        self._images, self._labels = images[order], labels[order]
        self._simulator, self._run = simulator, StagedRun(simulator, self._images)
        nothing = simulator.params(QuantScheme(FLOAT, FLOAT, FLOAT))
        reference = self._run.outputs(nothing)
        self._answers, self._accuracy = reference.argmax(axis=1), accuracy(reference, self._labels)
        self._plot = PostTrainingFigure(self._accuracy, simulator.weight_bytes(nothing))
        rows = [
            controls.integer("Weight bits", bits, MIN_BITS, 8),
            # LiteRT has 16-bit activations beside 8-bit weights, but no wider weights.
            controls.integer("Activation bits", bits, MIN_BITS, MAX_BITS),
            controls.integer("Input bits", 8, MIN_BITS, 8),
        ]
        self.weights, self.activations, self.input = (row.source for row in rows)
        self.granularity = controls.choice("Weights", GRANULARITIES, "channel-wise")
        self.calibrator = controls.choice("Activation ranges", CALIBRATORS, "min_max")
        self.layers = {name: controls.checkbox(name, True) for name in simulator.layers}
        super().__init__(
            rows,
            [self.granularity, self.calibrator, *self.layers.values()],
            self._plot.figure,
            self._plot.moving,
            self._estimate,
            self._measure,
        )

    @property
    def scheme(self) -> QuantScheme:
        """The scheme that the controls stand at."""
        weights = TensorScheme(self.weights.value, True, self.granularity.value)
        activations = TensorScheme(self.activations.value, calibrator=self.calibrator.value)
        spared = {name: None for name, box in self.layers.items() if not box.value}
        return QuantScheme(weights, activations, TensorScheme(self.input.value), spared)

    def _estimate(self) -> str:
        params = self._simulator.params(self.scheme)
        count = min(_SAMPLE, len(self._images))
        right = accuracy(self._run.outputs(params, count), self._labels[:count])
        interval = accuracy_interval(round(right * count), count)
        self._plot.update(right, self._simulator.weight_bytes(params), interval, count)
        low, high = interval
        return f"{self._said()} {low:.1%} to {high:.1%} right, estimated on {count:,} images."

    def _measure(self) -> str:
        params = self._simulator.params(self.scheme)
        outputs = self._run.outputs(params)
        right, size = accuracy(outputs, self._labels), self._simulator.weight_bytes(params)
        points = describe_points(right, self._accuracy)
        self._plot.update(right, size)
        answers = outputs.argmax(axis=1)
        show_changes(self._plot, self._answers, answers, self._labels, self._images)
        return (
            f"{self._said()} {right:.1%} of {len(self._images):,} images right, "
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
