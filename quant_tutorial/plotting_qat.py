"""Draw and describe quantization-aware training: as `plotting`, for lesson 08."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant_tutorial.affine import QuantParams, fake_quantize
from quant_tutorial.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

_STYLES = ("-", "--", "-.", ":")


def plot_straight_through(axes: Sequence[Axes], params: QuantParams) -> None:
    """Draw what a map computes and the two gradients that training takes for it.

    Args:
        axes: Three Axes, one below the other or side by side.
        params: The map, with one scale.
    """
    forward, to_x, to_scale = axes
    low, high, scale = params.minimum, params.maximum, params.scale
    x = np.linspace(low - 2 * scale, high + 2 * scale, 4001)
    steps = x / scale
    forward.plot(x, fake_quantize(x, params), color=BLUE, label="forward: x̂, the staircase")
    forward.plot(x, np.clip(x, low, high), color=ORANGE, ls="--", label="backward: as if it were")
    forward.set(title="What is computed", xlabel="x", ylabel="x̂")
    inside = (x >= low) & (x <= high)
    to_x.plot(x, np.zeros_like(x), color=BLUE, label="of the staircase: 0")
    to_x.plot(x, inside, color=ORANGE, ls="--", label="straight through")
    to_x.set(title="Gradient for x", xlabel="x", ylabel="∂x̂/∂x", ylim=(-0.15, 1.5))
    rest = np.where(inside, fake_quantize(x, params) / scale - steps, 0.0)
    ends = np.where(inside, 0.0, np.clip(steps, low / scale, high / scale))
    to_scale.plot(x, rest + ends, color=GREEN)
    to_scale.axhline(0, color=GREY, lw=0.6)
    to_scale.set(title="Gradient for the scale", xlabel="x", ylabel="∂x̂/∂s")
    for ax in (forward, to_x):
        ax.legend(fontsize=8, loc="upper left", frameon=False)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.axvspan(low, high, color=SKY, alpha=0.12, lw=0)


def describe_straight_through(params: QuantParams) -> str:
    """Say what `plot_straight_through` shows."""
    steps = (end / params.scale for end in (params.minimum, params.maximum))
    low, high = (f"{step:.0f}".replace("-", "−") for step in steps)
    return (
        f"A staircase of {params.levels} levels from {params.minimum:g} to {params.maximum:g}"
        f" and, dashed, the clipped line that stands for it on the way back. Its gradient for x is "
        "1 inside the range (shaded) and 0 outside. That for the scale is the rounding error in "
        f"steps, −½ to ½, inside; outside it is {low} below and {high} above."
    ).replace(" -", " −")


class TrainingFigure:
    """Loss, accuracy and learned ranges, growing while a model trains.

    Args:
        steps: How many training steps there will be.
        reference: Accuracy of the float model, 0 to 1.
        start: Accuracy before the training, 0 to 1.
        names: The ranges to show, at most four.
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
            [0], [100 * start], color=VERMILION, marker="o", ls=":", label="test images"
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
    ) -> None:
        """Show all that has been measured so far.

        Args:
            steps: The training steps at which something was measured.
            loss: The loss at each.
            accuracy: The accuracy on the batches around each, 0 to 1.
            test: Steps after an epoch, with the accuracy on test images, 0 to 1.
            ranges: For each named range its multiples of the start.
        """
        self._loss_line.set_data(steps, loss)
        self._batch_line.set_data(steps, 100 * np.asarray(accuracy))
        at, right = zip(*test, strict=True)
        self._test_line.set_data(at, 100 * np.asarray(right))
        for line, values in zip(self._range_lines, ranges, strict=True):
            line.set_data(steps, values)
        if steps:
            ends = [*np.ravel(ranges), 0.5, 2.0]
            self._ranges.set_ylim(0.95 * min(ends), 1.05 * max(ends))


class ComparisonFigure:
    """The picture of lesson 08's explorer: one width, without training and with it.

    Above, the accuracies and the integers of a layer's weights. Below, images that the two models
    answer differently.

    Args:
        reference: Accuracy of the float model, 0 to 1.
    """

    _IMAGES = 12

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
        self._flips = self.figure.text(0.02, 0.255, "", fontsize=10)
        self._images = []
        for index in range(self._IMAGES):
            ax = self.figure.add_axes((0.02 + 0.0805 * index, 0.01, 0.075, 0.16))
            ax.axis("off")
            image = ax.imshow(np.zeros((28, 28)), cmap="gray_r", vmin=0, vmax=1)
            self._images.append((image, ax.set_title("", fontsize=8, pad=2)))

    def show_weights(
        self, name: str, before: NDArray[np.integer], after: NDArray[np.integer], top: int
    ) -> None:
        """Show how often each integer occurs, from −top to top, in a layer's weights."""
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
        """Show (PTQ, QAT) accuracies, 0 to 1, or that they are being measured."""
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
        """Show some images that the models answer differently.

        Args:
            images: The images, (n, 28, 28, 1).
            answers: For each the true digit, the rounded and the trained model's answer.
            differing: How many there are in all; None while they are being looked for.
        """
        said = "" if differing is None else f"{differing:,} images are answered differently"
        self._flips.set_text(said + (" (true digit: rounded | trained)" if differing else ""))
        for index, (picture, title) in enumerate(self._images):
            shown = index < len(images)
            picture.set_visible(shown)
            title.set_text("")
            if shown:
                picture.set_data(images[index].reshape(28, 28))
                title.set_text("{}: {} | {}".format(*answers[index]))


def plot_rescue(ax: Axes, ptq: Mapping[str, float], qat: Mapping[str, Sequence[float]]) -> None:
    """Draw errors without and with training for several schemes, on a logarithmic scale.

    Args:
        ax: Where.
        ptq: By the scheme's name, the best accuracy without training, 0 to 1.
        qat: The accuracies with training, one for each seed.
    """
    for index, name in enumerate(ptq):
        ax.plot(index - 0.1, 100 * (1 - ptq[name]), "s", color=ORANGE, ms=8)
        errors = [100 * (1 - share) for share in qat[name]]
        ax.plot([index + 0.1] * len(errors), errors, "o", color=BLUE, ms=5, alpha=0.8)
    ax.plot([], [], "s", color=ORANGE, label="rounded after training (PTQ)")
    ax.plot([], [], "o", color=BLUE, label="trained with rounding (QAT), one mark for each seed")
    ax.set(yscale="log", xticks=range(len(ptq)), ylabel="% of the test images wrong")
    ax.set_xticklabels(list(ptq))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9, ncol=2, loc="lower center", bbox_to_anchor=(0.45, 1))


def describe_rescue(ptq: Mapping[str, float], qat: Mapping[str, Sequence[float]]) -> str:
    """Say what `plot_rescue` shows."""
    parts = [
        f"{name}: {100 * (1 - ptq[name]):.1f} % without training, "
        f"{100 * (1 - float(np.mean(qat[name]))):.1f} % with it"
        for name in ptq
    ]
    return f"Wrong answers on the test images. {'; '.join(parts)}."
