"""Draw and describe how the predictions of two models differ (lesson 05)."""

from __future__ import annotations

from quant_tutorial.metrics import confusion
from quant_tutorial.plotting.digits import DigitRow
from quant_tutorial.plotting.labels import Labels

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray

_COLORS, _SCALE = colormaps["PuOr_r"], Normalize(-1.3, 1.3)
_DARK = 0.179  # the luminance below which white has more contrast than black (WCAG)
_FADED = 0.2  # opacity of results that are not yet those of the controls


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
        ax.set(xlim=(-0.5, 9.5), ylim=(9.5, -0.5), aspect="equal")
        # A mesh is drawn in a fifth of the time of an image.
        ends = np.arange(11) - 0.5
        self._cells = ax.pcolormesh(ends, ends, np.zeros((10, 10)), cmap=_COLORS, norm=_SCALE)
        places = [(answer, digit) for digit in range(10) for answer in range(10)]
        self.counts = Labels(ax, places, 7)
        self.row = row
        self.moving = [self._cells, self.counts, *row.moving]

    def fade(self) -> None:
        """Mark what is shown as that of an earlier setting, until it is shown anew."""
        for artist in self.moving:
            artist.set_alpha(_FADED)

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
        for artist in self.moving:
            artist.set_alpha(None)
        self._show_matrix(confusion(after, labels) - confusion(before, labels))
        flips = np.flatnonzero(after != before)
        # Spread over the whole data set, because its first images are the easier ones.
        room = min(len(flips), self.row.count)
        shown = flips[np.linspace(0, len(flips) - 1, room).astype(int)]
        text = f"{len(flips):,} of {len(labels):,} images are answered differently"
        text += ", among them (true digit: before → after)" if len(flips) else ""
        titles = [f"{labels[i]}: {before[i]} → {after[i]}" for i in shown]
        self.row.show(text, images[shown], titles)
        return shown

    def _show_matrix(self, change: NDArray[np.integer]) -> None:
        largest = max(np.abs(change).max(), 1)
        shades = np.sign(change) * np.sqrt(np.abs(change) / largest)
        self._cells.set_array(shades)
        texts = [f"{n:+d}".replace("-", "−") if n else "" for n in change.ravel()]
        dark = _luminance(_COLORS(_SCALE(shades.ravel()))) < _DARK
        sizes = [7 if len(text) < 4 else 5.8 for text in texts]
        self.counts.show(texts, np.where(dark, "white", "black").tolist(), sizes)


def _luminance(colors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the relative luminance of sRGB colours, shape (n, 4), as WCAG 2 defines it."""
    rgb = colors[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]
