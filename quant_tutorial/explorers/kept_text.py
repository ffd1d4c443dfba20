"""A canvas that keeps the texts it has drawn, for pictures that are drawn again and again."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from matplotlib import rcParams
from matplotlib.backend_bases import GraphicsContextBase
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.text import Text
from numpy.typing import NDArray

_MOST = 600  # texts, about 10 MB
_MARGIN = 3  # pixels around a text's box, beyond which no stroke reaches


class _Kept(NamedTuple):
    """A text that was drawn, as 32-bit pixels of a part of the picture."""

    place: tuple[slice, slice]
    before: NDArray[np.uint32]
    after: NDArray[np.uint32]


_KEPT: dict[Hashable, _Kept] = {}  # the latest ones, also those of earlier pictures


class KeptTextCanvas(FigureCanvasAgg):
    """Draws what Matplotlib's canvas draws, in less time where texts are drawn again.

    Matplotlib takes milliseconds for a line of text, since it hints and renders each letter anew. A
    text that was once drawn over the same pixels, at the same place, is copied instead.
    """

    def get_renderer(self) -> RendererAgg:
        """Return what draws, a new one when the figure's size has changed."""
        given = *self.get_width_height(physical=True), self.figure.dpi
        if given != getattr(self, "_given", None):
            self._given, self.renderer = given, _KeptTextRenderer(*given)
        return self.renderer


class _KeptTextRenderer(RendererAgg):
    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: bool | str = False,
        mtext: Text | None = None,
    ) -> None:
        """Draw a line of text; `mtext` is None where it is one of several."""
        if (angle and mtext is None) or gc.get_clip_path() != (None, None):
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)
            return
        clip = gc.get_clip_rectangle()
        look = (gc.get_rgb(), gc.get_alpha(), gc.get_forced_alpha(), gc.get_antialiased())
        font = (findfont(prop), prop.get_math_fontfamily(), rcParams["text.hinting"])
        place = (self.width, self.height, self.dpi, x, y, angle, clip and clip.bounds)
        key = (s, ismath, look, font, prop.get_size_in_points(), place)
        pixels = np.asarray(self.buffer_rgba()).view(np.uint32)[..., 0]
        kept = _KEPT.pop(key, None)
        if kept is not None and np.array_equal(pixels[kept.place], kept.before):
            pixels[kept.place] = kept.after
        else:
            if mtext is None:
                width, height, descent = self.get_text_width_height_descent(s, prop, ismath)
                part = self._around(x, y - height + descent, x + width, y + descent)
            else:
                left, bottom, right, top = mtext.get_window_extent(self).extents
                part = self._around(left, self.height - top, right, self.height - bottom)
            before = pixels[part].copy()
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)
            kept = _Kept(part, before, pixels[part].copy())
        _KEPT[key] = kept  # as the latest one
        if len(_KEPT) > _MOST:
            del _KEPT[next(iter(_KEPT))]

    @staticmethod
    def _around(left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """Return the rows and columns of the picture around a box in pixels."""
        rows, columns = (
            slice(max(round(low) - _MARGIN, 0), max(round(high) + _MARGIN, 0))
            for low, high in ((top, bottom), (left, right))
        )
        return rows, columns
