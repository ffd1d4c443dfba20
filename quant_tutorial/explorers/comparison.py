"""The explorer of lesson 08, which compares post-training and quantization-aware training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from quant_tutorial import models, qat
from quant_tutorial.affine import quantize
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.explorers.exported_model import (
    activations_as_data,
    integer_layers,
    tables,
)
from quant_tutorial.plotting import describe_flips
from quant_tutorial.plotting.digits import SHOWN, DigitRow
from quant_tutorial.plotting.style import BLUE, ORANGE
from quant_tutorial.scheme import LayerScheme, TensorScheme
from quant_tutorial.simulate import ModelParams, Simulator

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray


class ComparisonExplorer(Explorer):
    """A slider for the bit width at which a PTQ and a QAT model are compared (lesson 08).

    One model is rounded after training, the other one is trained with rounding. Both have weights
    and activations of that width; a checkbox gives the output of the rounded one 8 bits. When a
    state is chosen for the first time, it is measured on all images, which takes a second or two;
    the results are kept.

    Args:
        simulator: The float model, with its calibration.
        images: The test images, shape (n, …).
        labels: The true digits of the images, shape (n,).
        bits: The initial bit width.
    """

    live = "comparison"

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
        self._drawn: tuple[int, bool, str] | None = None
        found = models.predict(simulator.model, images).argmax(axis=1)
        row = controls.integer("Bit width", bits, 2, 8)
        self.bits = row.slider
        self.output = controls.checkbox("PTQ: output at 8 bits")
        self.layer = controls.choice("Weights of", list(self._simulator.weights), "conv2")
        self._reference = int(np.sum(found != self._labels))
        figure = ComparisonFigure(self._reference, len(images))
        super().__init__(figure, [row], [self.output, self.layer])

    def page_data(self) -> dict[str, Any]:
        """Return the parameters for rounding, and the trained models, by bit width."""
        trained = {}
        for bits in range(self.bits.min, self.bits.max + 1):
            model = qat.load_trained(f"W{bits}A{bits}")
            floats, params = qat.floats_and_params(model)
            trained[bits] = {
                "layers": integer_layers(floats, params.weights),
                "activations": activations_as_data(params.activations),
            }
        return {
            "tables": tables(self._simulator),
            "layers": list(self._simulator.layers),
            "reference": self._reference,
            "trained": trained,
        }

    def estimate(self) -> str:
        """Show the weights at once, and the results if they are known; return the sentence."""
        bits, name = self.bits.value, self.layer.value
        self._drawn = None
        if self._is_measured():
            return self.draw()
        self._show_weights(bits, name, _trained_integers(bits))
        self.plot.show_wrong(None)
        self.plot.show_flips(self._images[:0], [], None)
        return f"{bits} bits: measuring …"

    def draw(self) -> str:
        """Measure both models on all images, show how they differ, and describe it."""
        bits, wide, name = self.bits.value, self.output.value, self.layer.value
        if self._drawn == (bits, wide, name):
            return self.text
        rounded = self._predicted("rounded at 8 bits" if wide else "rounded")
        trained = self._predicted("trained")
        before, after = self._show_weights(bits, name, _trained_integers(bits))
        wrong = [int(np.sum(found != self._labels)) for found in (rounded, trained)]
        self.plot.show_wrong(wrong)
        differ = np.flatnonzero(rounded != trained)
        shown = differ[np.linspace(0, len(differ) - 1, min(len(differ), SHOWN)).astype(int)]
        told = [(int(self._labels[i]), int(rounded[i]), int(trained[i])) for i in shown]
        self.plot.show_flips(self._images[shown], told, len(differ))
        self._drawn = bits, wide, name
        zeros = [float(np.mean(q == 0)) for q in (before, after)]
        shares = [1 - count / len(self._images) for count in wrong]
        output = ", with an output of 8 bits" if wide else ""
        return (
            f"{bits} bits for weights and activations: {shares[0]:.1%} of {len(self._images):,} "
            f"images right when rounded after training{output}, {shares[1]:.1%} when trained with "
            f"rounding. "
            f"{describe_flips(rounded, trained)} Of the weights of {name}, "
            f"{zeros[0]:.0%} are 0 when rounded and {zeros[1]:.0%} when trained."
        )

    def _is_measured(self) -> bool:
        kind = "rounded at 8 bits" if self.output.value else "rounded"
        return {(self.bits.value, kind), (self.bits.value, "trained")} <= self._measured.keys()

    def _predicted(self, kind: str) -> NDArray[np.integer]:
        """Return the classes that a model of the present bit width predicts."""
        bits = self.bits.value
        if (bits, kind) not in self._measured:
            # The predictions are kept, and of the models only the last trained one. A `StagedRun`
            # would be faster, but would keep 160 MB for seven measurements.
            if kind == "trained":
                model = _trained(bits)
            else:
                scheme = qat.named_scheme(bits, bits)
                if kind != "rounded":
                    last = list(self._simulator.weights)[-1]
                    scheme = scheme.with_layer(last, LayerScheme(scheme.weights, TensorScheme(8)))
                model = self._simulator.simulated(self._simulator.params(scheme))
            self._measured[bits, kind] = models.predict(model, self._images).argmax(axis=1)
        return self._measured[bits, kind]

    def _params(self, bits: int) -> ModelParams:
        return self._simulator.params(qat.named_scheme(bits, bits))

    def _show_weights(
        self, bits: int, name: str, trained: Mapping[str, NDArray[np.integer]]
    ) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Show the integer weights of a layer, rounded and trained, and return both."""
        before = quantize(self._simulator.weights[name], self._params(bits).weights[name])
        self.plot.show_weights(name, before, trained[name], 2 ** (bits - 1) - 1)
        return before, trained[name]


# The predicted classes, each of shape (images,), by bit width and kind of model.
_Measured = dict[tuple[int, str], NDArray[np.integer]]
# By the simulator: an explorer that is made again for the same images need not measure again.
_MEASURED: WeakKeyDictionary[Simulator, tuple[Any, _Measured]] = WeakKeyDictionary()


def _measured_on(simulator: Simulator, images: NDArray[np.float32]) -> _Measured:
    """Return what was measured on these images."""
    measured_on, found = _MEASURED.get(simulator, (None, {}))
    if measured_on is not images:
        found = {}
        _MEASURED[simulator] = images, found
    return found


@lru_cache(maxsize=1)  # a new state takes its integers and then its predictions
def _trained(bits: int) -> Any:
    """Return the model trained at a bit width."""
    return qat.load_trained(f"W{bits}A{bits}")


@cache
def _trained_integers(bits: int) -> dict[str, NDArray[np.integer]]:
    """Return the integer weights of the model trained at a bit width, by layer."""
    model = _trained(bits)
    plain, params = qat.floats_and_params(model)
    floats = models.weights(plain)
    return {name: quantize(values, params.weights[name]) for name, values in floats.items()}


class ComparisonFigure:
    """The picture of lesson 08's explorer: a PTQ and a QAT model of the same bit width.

    Above: how many images each gets wrong, on a logarithmic axis, and the integers of a layer's
    weights. Below: images that the two models classify differently.

    Args:
        reference: How many images the float model gets wrong.
        images: How many images there are.
    """

    def __init__(self, reference: int, images: int) -> None:
        self.figure = Figure(figsize=(9.4, 5.0))
        ax = self.figure.add_axes((0.085, 0.42, 0.32, 0.5))
        ax.set_title(f"Wrong, of {images:,} test images", loc="left", fontsize=10)
        self._start = max(reference, 1)
        ax.set(xscale="log", xlim=(0.75 * self._start, 1.3 * images), ylim=(-0.5, 1.6))
        ax.set(yticks=[0, 1], xlabel="images (logarithmic)")
        ax.set_yticklabels(["trained\n(QAT)", "rounded\n(PTQ)"])
        ticks = [tick for tick in (100, 1000, 10_000) if self._start < tick <= images]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.axvline(self._start, color="black", ls="--", lw=1.2)
        ax.text(1.06 * self._start, 1.45, f"float: {reference}", va="center", fontsize=9)
        ax.spines[["left", "right", "top"]].set_visible(False)
        kinds = ((1, "s", ORANGE), (0, "o", BLUE))
        self._stems = [ax.plot([], [], color=color, lw=3)[0] for _, _, color in kinds]
        self._marks = [ax.plot([], [], marker, color=color, ms=11)[0] for _, marker, color in kinds]
        self._counts = [ax.text(self._start, y + 0.28, "", fontsize=11) for y, _, _ in kinds]
        self._histogram = self.figure.add_axes((0.5, 0.42, 0.485, 0.5))
        self._histogram.spines[["right", "top"]].set_visible(False)
        boxes = [(0.02 + 0.0805 * place, 0.01, 0.075, 0.16) for place in range(SHOWN)]
        self._row = DigitRow(self.figure, boxes, (0.02, 0.26))
        self.moving: list[Artist] = [
            # The histogram is drawn as a whole, since its axes, bars and legend all change.
            *(self._histogram, *self._stems, *self._marks, *self._counts, *self._row.moving)
        ]

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
        # Without `y`, Matplotlib would look for it, which takes a while.
        ax.set_title(f"Integer weights of {name}", loc="left", fontsize=10, y=1)
        if not many:
            ax.set_xticks(levels if len(levels) <= 15 else levels[::3])
        ax.legend(fontsize=8, frameon=False)

    def show_wrong(self, counts: Sequence[int] | None) -> None:
        """Show how many images PTQ and QAT get wrong, or (for None) "measuring"."""
        for index, (stem, mark, text) in enumerate(
            zip(self._stems, self._marks, self._counts, strict=True)
        ):
            count, y = (counts[index] if counts else self._start), 1 - index
            stem.set_data([self._start, count], [y, y])
            mark.set_data([count] if counts else [], [y] if counts else [])
            text.set_text(f"{count:,} wrong" if counts else "measuring …")
            far = count > 20 * self._start
            text.set(x=1.2 * count if far else 1.06 * self._start, ha="right" if far else "left")

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
        said = "" if differing is None else f"{differing:,} images are classified differently"
        said += " (true digit: rounded | trained)" if differing else ""
        self._row.show(said, images, ["{}: {} | {}".format(*three) for three in answers])
