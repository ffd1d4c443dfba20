"""What every explorer is built on: controls → drawing → a picture with a text beside it."""

from __future__ import annotations

import asyncio
import base64
import html
import io
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from quant_tutorial.explorers.controls import Control, HandleNames

import ipywidgets as widgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

_REST = 0.03  # seconds without a further move before a slow result is computed
_SCALE = 1.5  # picture pixels to a page's pixel: sharp on a projector, still quick to send


class Explorer(widgets.VBox):
    """Controls above a picture and a sentence; the picture follows the controls.

    A page without a kernel shows the picture of the state in which the explorer was displayed: it
    stands in the output as PNG, and the sentence as text.

    Args:
        controls: Rows with sliders, in the order of the page.
        options: Further widgets with a `value` (checkboxes, dropdowns), shown in one row below.
        figure: The figure that `draw` updates.
        moving: The artists that `draw` changes; all others are drawn once and kept as a background.
        draw: Brings the figure's artists up to date with the controls and gives the sentence that
            says the same. It is called once at the start and after every change.
        finish: The same for a result that takes longer: `draw` then shows an estimate at once, and
            `finish` the full result when the controls rest; of several moves only the last.
    """

    def __init__(
        self,
        controls: Sequence[Control],
        options: Sequence[widgets.ValueWidget],
        figure: Figure,
        moving: Sequence[Artist],
        draw: Callable[[], str],
        finish: Callable[[], str] | None = None,
    ) -> None:
        self._draw, self._finish = draw, finish
        self._waiting: asyncio.TimerHandle | None = None
        figure.set_dpi(100 * _SCALE)
        self._canvas = FigureCanvasAgg(figure)
        for artist in moving:
            artist.set_animated(True)
        self.redraw_background()
        self._moving = sorted(moving, key=lambda artist: artist.get_zorder())
        self._picture, self._sentence = widgets.HTML(), widgets.HTML()
        names = HandleNames(names={control.css_class: control.handles for control in controls})
        rows = [control.row for control in controls]
        if options:
            layout = {"margin": "0 0 0 10.8em", "flex_flow": "row wrap"}
            rows.append(widgets.HBox(list(options), layout=layout))
        super().__init__([*rows, self._picture, self._sentence, names])
        self.add_class("quant-explorer")
        self.update()
        for source in [*(control.source for control in controls), *options]:
            source.observe(self.update, names="value")

    def redraw_background(self) -> None:
        """Draw all but the moving artists anew; for a `draw` that has changed them."""
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(self._canvas.figure.bbox)

    def update(self, change: dict | None = None) -> None:
        """Draw the present state; show an error in place of the sentence, never swallow it."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._show(self._draw)
        if self._finish is None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no kernel around
            loop = None
        if change is None or loop is None:
            self._show(self._finish)
        else:
            self._waiting = loop.call_later(_REST, self._show, self._finish)

    def _show(self, draw: Callable[[], str]) -> None:
        try:
            self.text = draw()
            self._picture.value = self._image_tag()
            self._sentence.value = f"<div style='max-width: 58em'>{html.escape(self.text)}</div>"
        except Exception as error:
            self.text, self._picture.value = f"Error: {error}", ""
            trace = html.escape(traceback.format_exc())
            self._sentence.value = f"<pre role='alert' style='color: #a00'>{trace}</pre>"

    def png(self) -> bytes:
        """Give the picture of the present state."""
        self._canvas.restore_region(self._background)
        for artist in self._moving:
            self._canvas.figure.draw_artist(artist)
        buffer = io.BytesIO()
        picture = Image.fromarray(np.asarray(self._canvas.buffer_rgba())[..., :3])
        # Level 1 takes a third of the default's time, for a few kilobytes more.
        picture.save(buffer, "png", compress_level=1)
        return buffer.getvalue()

    def _image_tag(self) -> str:
        width, height = (round(100 * inch) for inch in self._canvas.figure.get_size_inches())
        data = base64.b64encode(self.png()).decode()
        return (
            f'<img alt="{html.escape(self.text)}" width="{width}" height="{height}" '
            f'style="max-width: none" src="data:image/png;base64,{data}">'
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        static = {"text/plain": self.text}
        if self._picture.value:
            static["image/png"] = base64.b64encode(self.png()).decode()
        return {**(bundle or {}), **static}
