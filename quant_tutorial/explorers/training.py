"""A view that grows while a model trains, and lesson 08's comparison of PTQ and QAT."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from quant_tutorial import models, qat
from quant_tutorial.affine import quantize
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.metrics import accuracy
from quant_tutorial.plotting import describe_flips
from quant_tutorial.plotting_qat import ComparisonFigure, TrainingFigure
from quant_tutorial.qat_training import load_trained, named_scheme
from quant_tutorial.simulate import Simulator
from quant_tutorial.stages import StagedRun

import ipywidgets as widgets
import keras
import numpy as np
from numpy.typing import NDArray

_PICTURES = 12
_REFRESH = 0.7  # seconds between two pictures: drawing must not slow the training


class LiveTraining(Explorer):
    """A progress bar and curves of loss, accuracy and ranges that grow during `fit` (lesson 08).

    Display it, then give its `callback` to `fit`.

    Args:
        model: A model of `quantize_aware`.
        images: Test images as the model gets them, for the accuracy after each epoch.
        labels: Their classes.
        epochs: As given to `fit`.
        steps_per_epoch: How many batches an epoch has.
        reference: Accuracy of the float model, 0 to 1.
    """

    def __init__(
        self,
        model: keras.Model,
        images: NDArray[np.float32],
        labels: NDArray[np.integer],
        *,
        epochs: int,
        steps_per_epoch: int,
        reference: float,
    ) -> None:
        self._model, self._images, self._labels = model, images, labels
        self._layers = [
            layer
            for layer in model.layers
            if isinstance(layer, qat.QuantizeActivation) and layer.ranges != "fixed"
        ][-4:]
        names = ["after " + layer.name.removesuffix("_quant") for layer in self._layers]
        self._steps: list[int] = []
        self._loss: list[float] = []
        self._share: list[float] = []
        self._ranges: list[list[float]] = [[] for _ in names]
        self._test = [(0, self._measured())]
        total = epochs * steps_per_epoch
        self._plot = TrainingFigure(total, reference, self._test[0][1], names)
        self.bar = widgets.IntProgress(0, 0, total, layout=widgets.Layout(width="60em"))
        self.callback = _Watcher(self, steps_per_epoch)
        self._names = names
        super().__init__([], [], self._plot.figure, [], self._draw_all)
        self.children = (self.bar, *self.children)

    def add(self, step: int, logs: Mapping[str, float]) -> None:
        """Take note of a training step, with loss and accuracy of the batches since the last."""
        self._steps.append(step)
        self._loss.append(float(logs["loss"]))
        self._share.append(float(logs["accuracy"]))
        for values, layer in zip(self._ranges, self._layers, strict=True):
            values.append(layer.params().maximum / layer.start.maximum)
        self.bar.value = step
        self.update()

    def add_test(self, step: int) -> None:
        """Measure the accuracy on the test images after an epoch."""
        self._test.append((step, self._measured()))
        self.update()

    def _measured(self) -> float:
        return accuracy(models.predict(self._model, self._images), self._labels)

    def _draw_all(self) -> str:
        self._plot.update(self._steps, self._loss, self._share, self._test, self._ranges)
        self.redraw_background()
        first, last = self._test[0][1], self._test[-1][1]
        if not self._steps:
            return f"The training has not begun; {first:.0%} of the test images are right."
        moved = ", ".join(
            f"{name} {values[-1]:.2f}"
            for name, values in zip(self._names, self._ranges, strict=True)
        )
        read = f"{last:.1%} of the test images are right, {first:.0%} before"
        if len(self._test) == 1:
            read = f"{first:.0%} of the test images were right before; more after the epoch"
        return (
            f"After {self._steps[-1]:,} steps the loss is {self._loss[-1]:.2f}; {read}. The ranges "
            f"are so many times their start: {moved}."
        )


class _Watcher(keras.callbacks.Callback):
    """Tells the view about steps and epochs."""

    def __init__(self, view: LiveTraining, steps_per_epoch: int) -> None:
        super().__init__()
        self._view, self._per_epoch = view, steps_per_epoch
        self._step, self._last = 0, 0.0
        self._seen = {"loss": 0.0, "accuracy": 0.0}  # sums over the batches of this epoch
        self._batches = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._seen, self._batches = {"loss": 0.0, "accuracy": 0.0}, 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._step += 1
        due = time.monotonic() - self._last > _REFRESH or self._step % self._per_epoch == 0
        if not logs or not due:
            return
        # Keras gives means over the epoch so far; what is new in them is that of the last batches.
        sums = {name: (batch + 1) * float(logs[name]) for name in self._seen}
        new = batch + 1 - self._batches
        recent = {name: max(sums[name] - self._seen[name], 0.0) / new for name in sums}
        self._seen, self._batches = sums, batch + 1
        self._view.add(self._step, recent)
        self._last = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._view.add_test(self._step)


class ComparisonExplorer(Explorer):
    """A slider for the bit width: the model rounded after training and the trained one (lesson 08).

    Both have weights and activations of that width. The first look at a width measures both on all
    images, which takes a second or two; what was measured is kept.

    Args:
        model: The float model.
        calibration: Training images, from which the ranges of the rounded models are chosen.
        images: The test images as the model gets them, shape (n, 28, 28, 1).
        labels: Their true digits, shape (n,).
        bits: The bit width at the start.
    """

    def __init__(
        self,
        model: keras.Model,
        calibration: NDArray[np.float32],
        images: NDArray[np.float32],
        labels: NDArray[np.integer],
        bits: int = 2,
    ) -> None:
        self._simulator = simulator = Simulator(model, calibration)
        self._staged = StagedRun(simulator, images)
        self._images, self._labels = images, labels
        self._models: dict[int, keras.Model] = {}
        self._answers: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}
        self._drawn: tuple[int, str] | None = None
        reference = accuracy(models.predict(model, images), labels)
        self._plot = ComparisonFigure(reference)
        row = controls.integer("Bit width", bits, 2, 8)
        self.bits = row.source
        self.layer = controls.choice("Weights of", list(simulator.kernels), "conv2")
        super().__init__([row], [self.layer], self._plot.figure, [], self._sketch, self._measure)

    def _sketch(self) -> str:
        """Show the weights at once; the rest too, where it was measured before."""
        bits, name = self.bits.value, self.layer.value
        self._plot.show_weights(name, *self._weights(bits, name), 2 ** (bits - 1) - 1)
        self._drawn = None
        if bits in self._answers:
            return self._measure()
        self._plot.show_accuracies(None)
        self._plot.show_flips(self._images[:0], [], None)
        self.redraw_background()
        return f"{bits} bits: measuring …"

    def _measure(self) -> str:
        bits, name = self.bits.value, self.layer.value
        if self._drawn == (bits, name):
            return self.text
        if bits not in self._answers:
            params = self._simulator.params(named_scheme(bits, bits))
            rounded = self._staged.outputs(params).argmax(axis=1)
            trained = models.predict(self._trained(bits), self._images).argmax(axis=1)
            self._answers[bits] = rounded, trained
        rounded, trained = self._answers[bits]
        shares = [float(np.mean(found == self._labels)) for found in (rounded, trained)]
        self._plot.show_accuracies(shares)
        differ = np.flatnonzero(rounded != trained)
        shown = differ[np.linspace(0, len(differ) - 1, min(len(differ), _PICTURES)).astype(int)]
        told = [(int(self._labels[i]), int(rounded[i]), int(trained[i])) for i in shown]
        self._plot.show_flips(self._images[shown], told, len(differ))
        self.redraw_background()
        self._drawn = bits, name
        zeros = [float(np.mean(q == 0)) for q in self._weights(bits, name)]
        return (
            f"{bits} bits for weights and activations: {shares[0]:.1%} of {len(self._images):,} "
            f"images right when rounded after training, {shares[1]:.1%} when trained with "
            f"rounding. {describe_flips(rounded, trained)} Of the weights of {name}, "
            f"{zeros[0]:.0%} are 0 when rounded and {zeros[1]:.0%} when trained."
        )

    def _trained(self, bits: int) -> keras.Model:
        if bits not in self._models:
            self._models[bits] = load_trained(f"W{bits}A{bits}")
        return self._models[bits]

    def _weights(self, bits: int, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Give the integer weights of a layer, rounded and trained."""
        before = self._simulator.params(named_scheme(bits, bits)).weights[name]
        layer = self._trained(bits).get_layer(name)
        kernel = layer.layer.kernel.numpy()
        after = quantize(kernel, layer.quantizer.params(kernel))
        return quantize(self._simulator.kernels[name], before), after
