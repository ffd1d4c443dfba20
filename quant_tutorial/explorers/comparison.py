"""The explorer of lesson 08, which compares post-training and quantization-aware training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from quant_tutorial import models, qat
from quant_tutorial.affine import quantize
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.metrics import accuracy
from quant_tutorial.plotting import describe_flips
from quant_tutorial.plotting.digits import SHOWN, DigitRow
from quant_tutorial.plotting.style import BLUE, ORANGE
from quant_tutorial.simulate import ModelParams, Simulator

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from numpy.typing import NDArray


class ComparisonExplorer(Explorer):
    """A slider for the bit width at which a PTQ and a QAT model are compared (lesson 08).

    One model is rounded after training, the other one is trained with rounding. Both have weights
    and activations of that width. When a width is chosen for the first time, both are measured on
    all images, which takes a second or two; the results are kept.

    Args:
        simulator: The float model, with its calibration.
        images: The test images, shape (n, …).
        labels: The true digits of the images, shape (n,).
        bits: The initial bit width.
    """

    def __init__(
        self,
        simulator: Simulator,
        images: NDArray[np.float32],
        labels: NDArray[np.integer],
        bits: int = 2,
    ) -> None:
        self._simulator, self._images = simulator, images
        self._labels = np.asarray(labels)
        self._measured = _measured_on(simulator, images)
        self._drawn: tuple[int, str] | None = None
        reference = accuracy(models.predict(simulator.model, images), labels)
        row = controls.integer("Bit width", bits, 2, 8)
        self.bits = row.slider
        self.layer = controls.choice("Weights of", list(self._simulator.weights), "conv2")
        super().__init__(ComparisonFigure(reference), [row], [self.layer])

    def estimate(self) -> str:
        """Show the weights at once, and the results if they are known; return the sentence."""
        bits, name = self.bits.value, self.layer.value
        self._drawn = None
        if bits in self._measured:
            return self.draw()
        self._show_weights(bits, name, _trained_integers(bits))
        self.plot.show_accuracies(None)
        self.plot.show_flips(self._images[:0], [], None)
        self.redraw_background()
        return f"{bits} bits: measuring …"

    def draw(self) -> str:
        """Measure both models on all images, show how they differ, and describe it."""
        bits, name = self.bits.value, self.layer.value
        if self._drawn == (bits, name):
            return self.text
        if bits not in self._measured:
            self._measured[bits] = self._measure(bits)
        rounded, trained = self._measured[bits]
        before, after = self._show_weights(bits, name, _trained_integers(bits))
        shares = [float(np.mean(found == self._labels)) for found in (rounded, trained)]
        self.plot.show_accuracies(shares)
        differ = np.flatnonzero(rounded != trained)
        shown = differ[np.linspace(0, len(differ) - 1, min(len(differ), SHOWN)).astype(int)]
        told = [(int(self._labels[i]), int(rounded[i]), int(trained[i])) for i in shown]
        self.plot.show_flips(self._images[shown], told, len(differ))
        self.redraw_background()
        self._drawn = bits, name
        zeros = [float(np.mean(q == 0)) for q in (before, after)]
        return (
            f"{bits} bits for weights and activations: {shares[0]:.1%} of {len(self._images):,} "
            f"images right when rounded after training, {shares[1]:.1%} when trained with "
            f"rounding. {describe_flips(rounded, trained)} Of the weights of {name}, "
            f"{zeros[0]:.0%} are 0 when rounded and {zeros[1]:.0%} when trained."
        )

    def _measure(self, bits: int) -> _Measured:
        # Their predictions are kept, but not the models themselves. A `StagedRun` would be faster,
        # but would keep 160 MB for seven measurements.
        pair = self._simulator.simulated(self._params(bits)), qat.load_trained(f"W{bits}A{bits}")
        return _Measured(*(models.predict(m, self._images).argmax(axis=1) for m in pair))

    def _params(self, bits: int) -> ModelParams:
        return self._simulator.params(qat.named_scheme(bits, bits))

    def _show_weights(
        self, bits: int, name: str, trained: Mapping[str, NDArray[np.integer]]
    ) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Show the integer weights of a layer, rounded and trained, and return both."""
        before = quantize(self._simulator.weights[name], self._params(bits).weights[name])
        self.plot.show_weights(name, before, trained[name], 2 ** (bits - 1) - 1)
        return before, trained[name]


class _Measured(NamedTuple):
    """The predicted classes at one bit width, each of shape (images,)."""

    rounded: NDArray[np.integer]
    trained: NDArray[np.integer]


# By the simulator: an explorer that is made again for the same images need not measure again.
_MEASURED: WeakKeyDictionary[Simulator, tuple[Any, dict[int, _Measured]]] = WeakKeyDictionary()


def _measured_on(simulator: Simulator, images: NDArray[np.float32]) -> dict[int, _Measured]:
    """Return what was measured on these images, by bit width."""
    measured_on, found = _MEASURED.get(simulator, (None, {}))
    if measured_on is not images:
        found = {}
        _MEASURED[simulator] = images, found
    return found


@cache
def _trained_integers(bits: int) -> dict[str, NDArray[np.integer]]:
    """Return the integer weights of the model trained at a bit width, by layer."""
    model = qat.load_trained(f"W{bits}A{bits}")
    floats, params = models.weights(qat.float_model(model)), qat.trained_params(model)
    return {name: quantize(values, params.weights[name]) for name, values in floats.items()}


class ComparisonFigure:
    """The picture of lesson 08's explorer: a PTQ and a QAT model of the same bit width.

    Above: the accuracies, and the integers of a layer's weights. Below: images that the two models
    classify differently.

    Args:
        reference: The accuracy of the float model, 0 to 1.
    """

    def __init__(self, reference: float) -> None:
        self.figure = Figure(figsize=(9.4, 5.0))
        bars = self.figure.add_axes((0.085, 0.42, 0.32, 0.5))
        bars.set_title("Accuracy on the test images", loc="left", fontsize=10)
        bars.set(xlim=(0, 104), ylim=(-0.5, 1.5), yticks=[0, 1], xlabel="%")
        bars.set_yticklabels(["trained\n(QAT)", "rounded\n(PTQ)"])
        bars.axvline(100 * reference, color="black", ls="--", lw=1.2)
        bars.text(100 * reference, 1.54, "float ", ha="right", fontsize=9)
        bars.spines[["left", "right", "top"]].set_visible(False)
        self._bars = bars.barh([1, 0], [0, 0], height=0.6, color=[ORANGE, BLUE])
        self._figures = [bars.text(0, y, "", va="center", fontsize=12) for y in (1, 0)]
        self._histogram = self.figure.add_axes((0.5, 0.42, 0.485, 0.5))
        self._histogram.spines[["right", "top"]].set_visible(False)
        boxes = [(0.02 + 0.0805 * place, 0.01, 0.075, 0.16) for place in range(SHOWN)]
        self._row = DigitRow(self.figure, boxes, (0.02, 0.26))
        self.moving: list[Artist] = []  # none: everything is redrawn at each change

    def show_weights(
        self, name: str, before: NDArray[np.integer], after: NDArray[np.integer], top: int
    ) -> None:
        """Show how often each integer from −top to top occurs in a layer's weights."""
        ax = self._histogram
        ax.clear()
        levels = np.arange(-top, top + 1)
        many = len(levels) > 33
        for values, color, label, shift in (
            (before, ORANGE, "rounded (PTQ)", -0.2),
            (after, BLUE, "trained (QAT)", 0.2),
        ):
            share = 100 * np.bincount(values.ravel().astype(int) + top, minlength=len(levels))
            share = share / values.size
            if many:
                ax.step(levels, share, color=color, where="mid", label=label, lw=1)
            else:
                ax.bar(levels + shift, share, width=0.4, color=color, label=label)
        ax.set(xlabel="integer", ylabel="% of the weights", xlim=(-top - 0.7, top + 0.7))
        ax.set_title(f"Integer weights of {name}", loc="left", fontsize=10)
        if not many:
            ax.set_xticks(levels if len(levels) <= 15 else levels[::3])
        ax.legend(fontsize=8, frameon=False)

    def show_accuracies(self, accuracies: Sequence[float] | None) -> None:
        """Show the accuracies of PTQ and QAT, 0 to 1, or (for None) "measuring"."""
        for index, (bar, text) in enumerate(zip(self._bars, self._figures, strict=True)):
            share = 100 * accuracies[index] if accuracies else 0
            bar.set_width(share)
            text.set_text(f"{share:.1f} %" if accuracies else "measuring …")
            text.set_x(share - 2 if share > 40 else share + 2)
            text.set(ha="right" if share > 40 else "left")
            text.set_color("white" if share > 40 and index else "black")

    def show_flips(
        self,
        images: NDArray[np.floating],
        answers: Sequence[tuple[int, int, int]],
        differing: int | None,
    ) -> None:
        """Show some images that the models classify differently.

        Args:
            images: The images, shape (n, 28, 28, 1).
            answers: For each image, the true digit and the predictions of the rounded and of the
                trained model.
            differing: The number of such images in all; None while it is being measured.
        """
        said = "" if differing is None else f"{differing:,} images are answered differently"
        said += " (true digit: rounded | trained)" if differing else ""
        self._row.show(said, images, ["{}: {} | {}".format(*three) for three in answers])
