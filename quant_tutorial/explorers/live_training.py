"""A view of the training that is updated while a model trains (lesson 08)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence

from quant_tutorial import models, qat
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.frameworks import keras
from quant_tutorial.metrics import accuracy
from quant_tutorial.plotting.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

import ipywidgets as widgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from numpy.typing import NDArray

_REFRESH = 1.0  # seconds between two pictures: drawing must not slow the training
_WINDOW = 50  # batches over which loss and accuracy are averaged
_STYLES = ("-", "--", "-.", ":")


class LiveTraining(Explorer):
    """A progress bar and curves of loss, accuracy and ranges during `fit` (lesson 08).

    Display it, then pass its `callback` to `fit`.

    Args:
        model: A model made by `quantize_aware`.
        images: Images that the training does not use, in the form of the model's input, for the
            accuracy after each epoch.
        labels: The classes of the images, shape (n,).
        epochs: The number of epochs that is passed to `fit`.
        steps_per_epoch: The number of batches in an epoch.
        reference: The accuracy of the float model, 0 to 1.
        watched: A layer whose weights to record at each step, in `positions`; None for no layer.

    Attributes:
        positions: For each step, the float weights of the watched layer, divided by their scales.
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
        watched: str | None = None,
    ) -> None:
        self.positions: list[NDArray[np.float32]] = []
        self._watched = None if watched is None else model.get_layer(watched)
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
        self.bar = widgets.IntProgress(0, 0, total, layout=widgets.Layout(width="60em"))
        self.callback = _Watcher(self, steps_per_epoch)
        self._names = names
        super().__init__(TrainingFigure(total, reference, self._test[0][1], names))

    def arrange(self) -> list[widgets.Widget]:
        """Return the progress bar."""
        return [self.bar]

    def add(self, step: int, logs: Mapping[str, float]) -> None:
        """Record a step: loss and accuracy of the batches before it, and the ranges."""
        self._steps.append(step)
        self._loss.append(float(logs["loss"]))
        self._share.append(float(logs["accuracy"]))
        for values, layer in zip(self._ranges, self._layers, strict=True):
            values.append(layer.params().maximum / layer.start.maximum)
        self.bar.value = step
        self.update()

    def watch(self) -> None:
        """Record where the weights of the watched layer are."""
        if self._watched is not None:
            scale, _ = self._watched.quantizer.scale_and_zero_point()
            kernel = self._watched.layer.kernel / scale
            self.positions.append(keras.ops.convert_to_numpy(kernel).ravel())

    def add_test(self, step: int) -> None:
        """Measure and record the accuracy on the held-out images after an epoch."""
        self._test.append((step, self._measured()))
        self.update()

    @property
    def accuracy(self) -> float:
        """The last measured accuracy on the held-out images, 0 to 1."""
        return self._test[-1][1]

    def _measured(self) -> float:
        return accuracy(models.predict(self._model, self._images), self._labels)

    def draw(self) -> str:
        """Show all measurements so far, and describe them."""
        if self.plot.update(self._steps, self._loss, self._share, self._test, self._ranges):
            self.redraw_background()
        first, last = self._test[0][1], self._test[-1][1]
        if not self._steps:
            return f"The training has not begun; {first:.0%} of the held-out images are right."
        moved = ", ".join(
            f"{name} {values[-1]:.2f}"
            for name, values in zip(self._names, self._ranges, strict=True)
        )
        right = f"{last:.1%} of the held-out images are right, {first:.0%} before"
        if len(self._test) == 1:
            right = f"{first:.0%} of the held-out images were right before; more after the epoch"
        return (
            f"After {self._steps[-1]:,} steps the loss is {self._loss[-1]:.2f}; {right}. Each "
            f"range divided by its start: {moved}."
        )


class _Watcher(keras.callbacks.Callback):
    """Reports training steps and the ends of epochs to the view."""

    def __init__(self, view: LiveTraining, steps_per_epoch: int) -> None:
        super().__init__()
        self._view, self._per_epoch = view, steps_per_epoch
        self._step, self._last = 0, 0.0
        self._means = {"loss": 0.0, "accuracy": 0.0}  # over the batches of this epoch so far
        self._recent: deque[dict[str, float]] = deque(maxlen=_WINDOW)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._means = {"loss": 0.0, "accuracy": 0.0}

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._step += 1
        self._view.watch()
        if not logs:
            return
        # Keras reports means over the epoch so far. From two of them follows the last batch alone.
        means = {name: float(logs[name]) for name in self._means}
        self._recent.append(
            {
                name: max((batch + 1) * mean - batch * self._means[name], 0.0)
                for name, mean in means.items()
            }
        )
        self._means = means
        if time.monotonic() - self._last > _REFRESH or self._step % self._per_epoch == 0:
            averages = {name: float(np.mean([one[name] for one in self._recent])) for name in means}
            self._view.add(self._step, averages)
            self._last = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._view.add_test(self._step)


class TrainingFigure:
    """The picture of the view: loss, accuracy and learned ranges of a training (lesson 08).

    Args:
        steps: The total number of training steps.
        reference: The accuracy of the float model, 0 to 1.
        start: The accuracy before the training, 0 to 1.
        names: The names of the ranges to show, at most four.
    """

    def __init__(self, steps: int, reference: float, start: float, names: Sequence[str]) -> None:
        self.figure = Figure(figsize=(9.4, 3.1))
        self._loss, self._accuracy, self._ranges = self.figure.subplots(1, 3)
        self.figure.subplots_adjust(left=0.07, right=0.985, top=0.88, bottom=0.16, wspace=0.32)
        (self._loss_line,) = self._loss.plot([], [], color=BLUE)
        self._loss.set(title="Loss on the training batches", yscale="log", ylim=(0.02, 3))
        self._accuracy.axhline(100 * reference, color="black", ls="--", lw=1.2, label="float")
        (self._batch_line,) = self._accuracy.plot([], [], color=SKY, label="training batches")
        (self._test_line,) = self._accuracy.plot(
            [0], [100 * start], color=VERMILION, marker="o", ls=":", label="held-out images"
        )
        self._accuracy.set(title="Accuracy in %", ylim=(0, 103))
        self._accuracy.legend(fontsize=8, loc="lower right")
        self._ranges.axhline(1, color=GREY, lw=0.6)
        colors = (BLUE, ORANGE, GREEN, PURPLE)
        self._range_lines = [
            self._ranges.plot([], [], color=color, ls=style, label=name)[0]
            for name, color, style in zip(names, colors, _STYLES, strict=False)
        ]
        self._ranges.set(title="Learned range / its start", ylim=(0.5, 2))
        self._ranges.legend(fontsize=8, loc="upper left")
        # The legends lie over the curves. Axes and titles seldom change, and take the most time.
        legends = (self._accuracy.get_legend(), self._ranges.get_legend())
        lines = (self._loss_line, self._batch_line, self._test_line, *self._range_lines)
        self.moving: list[Artist] = [*lines, *legends]
        for ax in (self._loss, self._accuracy, self._ranges):
            ax.set(xlim=(0, steps), xlabel="training step")
            ax.title.set_fontsize(10)
            ax.spines[["top", "right"]].set_visible(False)

    def update(
        self,
        steps: Sequence[int],
        loss: Sequence[float],
        accuracy: Sequence[float],
        test: Sequence[tuple[int, float]],
        ranges: Sequence[Sequence[float]],
    ) -> bool:
        """Show all measurements so far, and return whether an axis has changed.

        Args:
            steps: The training steps with a record.
            loss: For each of these steps, the mean loss of the last batches up to it.
            accuracy: The accuracy on the same batches, 0 to 1.
            test: Pairs of a step and the accuracy on the held-out images there, 0 to 1.
            ranges: For each name, the range at each step divided by its start.
        """
        self._loss_line.set_data(steps, loss)
        self._batch_line.set_data(steps, 100 * np.asarray(accuracy))
        at, right = zip(*test, strict=True)
        self._test_line.set_data(at, 100 * np.asarray(right))
        for line, values in zip(self._range_lines, ranges, strict=True):
            line.set_data(steps, values)
        if steps:
            before, ends = self._ranges.get_ylim(), [*np.ravel(ranges), 0.5, 2.0]
            return before != self._ranges.set_ylim(0.95 * min(ends), 1.05 * max(ends))
        return False
