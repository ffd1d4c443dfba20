"""Draw rows of digits (lesson 01)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

SHOWN = 12  # digits in the row of an explorer


def plot_digits(axes: Sequence[Axes], images: NDArray[np.generic], titles: Sequence[str]) -> None:
    """Draw one digit on each of the Axes, dark on white, with its title (lesson 01).

    Args:
        axes: One Axes for each digit, n in all.
        images: The digits, shape (n, 28, 28) or (n, 28, 28, 1).
        titles: One title for each digit, n in all.

    Raises:
        ValueError: when the numbers of Axes, images and titles differ.
    """
    for ax, image, title in zip(axes, images, titles, strict=True):
        ax.imshow(image.reshape(28, 28), cmap="gray_r", interpolation="nearest")
        ax.set_title(title, fontsize=9)
        ax.axis("off")


def describe_digits(titles: Sequence[str]) -> str:
    """Return the titles of a row of digits as one sentence (lesson 01)."""
    return f"{len(titles)} pictures from left to right: " + "; ".join(
        title.replace("\n", " ") for title in titles
    )


class DigitRow:
    """A row of digits, each with a title, below a line of text; the content can be changed.

    Args:
        figure: The figure to draw on.
        boxes: The box of each digit: left, bottom, width and height as fractions of the figure.
        place: The position of the text: left and bottom or, with va="top", left and top.
        fontsize: The font size of the titles.
        style: Further properties of the text.
    """

    def __init__(
        self,
        figure: Figure,
        boxes: Sequence[tuple[float, float, float, float]],
        place: tuple[float, float],
        fontsize: float = 8,
        **style: object,
    ) -> None:
        self._text = figure.text(*place, "", fontsize=10, **style)
        self._digits = []
        for box in boxes:
            ax = figure.add_axes(box)
            ax.axis("off")
            image = ax.imshow(np.zeros((28, 28)), cmap="gray_r", vmin=0, vmax=1)
            self._digits.append((image, ax.set_title("", fontsize=fontsize, pad=2)))
        self.moving = [self._text, *(artist for pair in self._digits for artist in pair)]

    def __len__(self) -> int:
        """Return the number of digits that fit."""
        return len(self._digits)

    def show(self, text: str, images: NDArray[np.floating], titles: Sequence[str]) -> None:
        """Show a text and one digit for each image; `images` has the shape (n, 28, 28, 1)."""
        self._text.set_text(text)
        for index, (picture, title) in enumerate(self._digits):
            shown = index < len(images)
            picture.set_visible(shown)
            title.set_text(titles[index] if shown else "")
            if shown:
                picture.set_data(images[index].reshape(28, 28))
