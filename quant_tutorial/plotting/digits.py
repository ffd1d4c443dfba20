"""Draw rows of digits (lesson 01)."""

from __future__ import annotations

from collections.abc import Sequence

from quant_tutorial.plotting.labels import Labels

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

SHOWN = 12  # digits in the row of an explorer
_SIDE = 28  # pixels


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
        boxes: The box of each digit, all of one size at equal distances: left, bottom, width and
            height as fractions of the figure.
        place: The position of the text: its left end, and the middle of the line.
        fontsize: The font size of the titles.
    """

    def __init__(
        self,
        figure: Figure,
        boxes: Sequence[tuple[float, float, float, float]],
        place: tuple[float, float],
        fontsize: float = 8,
    ) -> None:
        self.text = Labels(figure, [place], 10, centred=False)
        left, bottom, width, height = boxes[0]
        inches_wide, inches_high = figure.get_size_inches()
        side = min(width * inches_wide, height * inches_high)
        # All digits are one image, with pixels of the same size between them: twelve images take
        # twelve times as long.
        gap = round(_SIDE * ((boxes[1][0] - left) * inches_wide - side) / side)
        self._step = _SIDE + gap
        self._pixels = np.zeros((_SIDE, self._step * len(boxes) - gap), np.float32)
        pixel = side / _SIDE
        size = (self._pixels.shape[1] * pixel / inches_wide, side / inches_high)
        ax = figure.add_axes((left, bottom, *size))
        ax.axis("off")
        self._image = ax.imshow(
            self._pixels, cmap="gray_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest"
        )
        above = bottom + size[1] + (2 + fontsize / 2) / 72 / inches_high
        middles = (self._step * np.arange(len(boxes)) + _SIDE / 2) * pixel / inches_wide + left
        self.titles = Labels(figure, [(middle, above) for middle in middles], fontsize)
        self.count = len(boxes)
        self.moving = [self.text, self._image, self.titles]

    def show(self, text: str, images: NDArray[np.floating], titles: Sequence[str]) -> None:
        """Show a text and one digit for each image; `images` has the shape (n, 28, 28, 1)."""
        self.text.show([text])
        self._pixels[:] = 0
        for index, image in enumerate(images):
            left = index * self._step
            self._pixels[:, left : left + _SIDE] = image.reshape(_SIDE, _SIDE)
        self._image.set_data(self._pixels)
        self.titles.show([*titles, *[""] * (self.count - len(titles))])
