"""Many short texts that are drawn in one go, for pictures that follow a slider (lesson 05)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D
from numpy.typing import ArrayLike, NDArray

_POINTS = 100  # the font size at which the glyphs are taken


class Labels(PathCollection):
    """Texts at fixed places, with the middle of a line of capitals on each place.

    Matplotlib takes half a millisecond for each `Text`, and a fortieth of that for each of these,
    which are drawn together as paths.

    Args:
        parent: The Axes or the figure to draw on.
        places: The centre of each text, shape (n, 2): data coordinates of Axes, fractions of a
            figure.
        fontsize: The font size in points, unless `show` is given one for each text.
        centred: Whether the texts are centred on their places; otherwise they begin there.
    """

    def __init__(
        self, parent: Axes | Figure, places: ArrayLike, fontsize: float, centred: bool = True
    ) -> None:
        in_axes = isinstance(parent, Axes)
        figure = parent.get_figure(root=True)
        super().__init__(
            [],
            offsets=np.asarray(places, float),
            offset_transform=parent.transData if in_axes else figure.transFigure,
            linewidths=0,
        )
        # Paths are in points: 72 to the inch.
        self.set_transform(Affine2D().scale(1 / 72) + figure.dpi_scale_trans)
        self._fontsize, self._centred = fontsize, centred
        self.texts: tuple[str, ...] = ()
        self.set_zorder(3)  # above images and bars
        if in_axes:
            parent.add_collection(self, autolim=False)
        else:
            parent.add_artist(self)

    def show(
        self,
        texts: Sequence[str],
        colors: Sequence[str] | str = "black",
        fontsizes: Sequence[float] | None = None,
    ) -> None:
        """Show one text for each place; an empty one leaves its place empty.

        Raises:
            ValueError: when the numbers of texts and places differ.
        """
        if len(texts) != len(self.get_offsets()):
            raise ValueError(f"texts must be {len(self.get_offsets())}, got {len(texts)}.")
        self.texts = tuple(texts)
        sizes = [self._fontsize] * len(texts) if fontsizes is None else fontsizes
        self.set_paths(
            [_outline(text, size, self._centred) for text, size in zip(texts, sizes, strict=True)]
        )
        self.set_facecolor(colors)


@lru_cache(4096)
def _outline(text: str, fontsize: float, centred: bool) -> Path:
    """Return the outline of a text in points, whose middle or left end is the origin."""
    if not text:
        return Path(np.zeros((0, 2)))
    glyphs = [_glyph(character) for character in text]
    advances = [advance for _, _, advance in glyphs]
    starts = np.repeat(np.cumsum([0.0, *advances[:-1]]), [len(codes) for _, codes, _ in glyphs])
    vertices = np.concatenate([vertices for vertices, _, _ in glyphs])
    vertices[:, 0] += starts - (sum(advances) / 2 if centred else 0)
    vertices[:, 1] -= _right_and_top("0")[1] / 2
    return Path(vertices * fontsize / _POINTS, np.concatenate([codes for _, codes, _ in glyphs]))


@cache
def _glyph(character: str) -> tuple[NDArray[np.float64], NDArray[np.uint8], float]:
    """Return a character's outline at `_POINTS`, and how far the next one stands from it.

    The outline is the vertices, shape (n, 2), and what Matplotlib's `Path` calls their codes.
    """
    advance = _right_and_top(f"0{character}0")[0] - _right_and_top("00")[0]
    if character.isspace():  # of which Matplotlib makes no path
        return np.zeros((0, 2)), np.zeros(0, np.uint8), advance
    path = _text_path(character)
    return path.vertices, path.codes, advance


def _right_and_top(text: str) -> tuple[float, float]:
    return tuple(_text_path(text).vertices.max(axis=0))


def _text_path(text: str) -> Path:
    return TextPath((0, 0), text, size=_POINTS)
