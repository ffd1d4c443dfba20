"""Draw and describe how the predictions of two models differ (lesson 05)."""

from __future__ import annotations

from quant_tutorial.metrics import confusion
from quant_tutorial.plotting.digits import DigitRow

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray


def describe_flips(before: NDArray[np.integer], after: NDArray[np.integer]) -> str:
    """Return a sentence on how the predictions of two models differ (lesson 05).

    Numbers are rounded, because on another processor the predictions may differ for a few images.

    Args:
        before: The classes that the first model predicts, shape (n,).
        after: The classes that the second model predicts, shape (n,).
    """
    moved = np.flatnonzero(before != after)
    if not len(moved):
        return "No image is answered differently."
    pairs, counts = np.unique(np.stack([before[moved], after[moved]]), axis=1, return_counts=True)
    old, new = pairs[:, np.argmax(counts)]
    return (
        f"About {_one_digit(len(moved)):,} images are answered differently; most often {old} "
        + (f"becomes {new}.")
    )


def describe_changes(before: NDArray[np.integer], after: NDArray[np.integer]) -> str:
    """Return the sentence of `describe_flips`, without details for fewer than 10 images.

    Which images these are depends on the last digits of float arithmetic, and so on the processor.
    Lesson 10.
    """
    count = np.count_nonzero(before != after)
    if 0 < count < 10:
        return "Fewer than 10 images are answered differently."
    return describe_flips(before, after)


def describe_points(share: float, other: float) -> str:
    """Return by how many percentage points a share (0 to 1) exceeds another, to one decimal.

    From 0.1 points on, the result is the difference of the two percentages as they are printed,
    rounded to one decimal each. Lesson 05.
    """
    if abs(share - other) < 0.001:
        return "less than 0.1"
    points = round(100 * share, 1) - round(100 * other, 1)
    return f"{points:+.1f}".replace("-", "−")


def _one_digit(count: int) -> int:
    return int(float(f"{count:.0e}"))


class AnswerChanges:
    """The change of the confusion matrix between two models, with some of the images involved.

    Args:
        ax: The Axes on which to draw the change of the confusion matrix.
        row: The row that shows the images.
    """

    def __init__(self, ax: Axes, row: DigitRow) -> None:
        ax.set(xlabel="answer", ylabel="true digit", xticks=range(10), yticks=range(10))
        ax.tick_params(length=0)
        self._picture = ax.imshow(np.zeros((10, 10)), cmap="PuOr_r", vmin=-1.3, vmax=1.3)
        self._counts = np.array(
            [
                [ax.text(j, i, "", ha="center", va="center", fontsize=7) for j in range(10)]
                for i in range(10)
            ]
        )
        self._row = row
        self.moving = [self._picture, *self._counts.ravel(), *row.moving]

    def show(
        self,
        before: NDArray[np.integer],
        after: NDArray[np.integer],
        labels: NDArray[np.integer],
        images: NDArray[np.float32],
    ) -> NDArray[np.intp]:
        """Show the difference and return the indices of the images shown.

        Args:
            before: The classes that the first model predicts, shape (n,).
            after: The classes that the second model predicts, shape (n,).
            labels: The true digits, shape (n,).
            images: The images, shape (n, 28, 28, 1).
        """
        self._show_matrix(confusion(after, labels) - confusion(before, labels))
        flips = np.flatnonzero(after != before)
        # Spread over the whole data set, because its first images are the easier ones.
        room = min(len(flips), len(self._row))
        shown = flips[np.linspace(0, len(flips) - 1, room).astype(int)]
        text = f"{len(flips):,} images are answered differently"
        text += ", among them (true digit: before → after)" if len(flips) else ""
        titles = [f"{labels[i]}: {before[i]} → {after[i]}" for i in shown]
        self._row.show(text, images[shown], titles)
        return shown

    def _show_matrix(self, change: NDArray[np.integer]) -> None:
        largest = max(np.abs(change).max(), 1)
        self._picture.set_data(np.sign(change) * np.sqrt(np.abs(change) / largest))
        for text, count in zip(self._counts.ravel(), change.ravel(), strict=True):
            text.set_text(f"{count:+d}".replace("-", "−") if count else "")
            text.set_color("white" if abs(count) > 0.7 * largest else "black")
            text.set_fontsize(7 if len(text.get_text()) < 4 else 5.8)
