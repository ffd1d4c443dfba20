"""The base of all explorers: moving a control redraws the picture and the text below it."""

from __future__ import annotations

import asyncio
import base64
import html
import traceback
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from quant_tutorial.explorers.controls import Control, HandleNames
from quant_tutorial.explorers.kept_text import KeptTextCanvas
from quant_tutorial.plotting.sharpness import SHARPNESS, page_size, quick_png

import ipywidgets as widgets
import numpy as np
from IPython import get_ipython
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from numpy.typing import NDArray

REST = 0.02  # seconds without a further move before a slow result is computed


class Plot(Protocol):
    """A figure and its moving artists; all other artists are drawn once and kept."""

    figure: Figure
    moving: Sequence[Artist]


class Explorer(widgets.VBox):
    """Controls above a picture and a sentence, which both follow the controls.

    A page without a kernel shows the explorer as it was displayed: the output also contains the
    picture as PNG and the sentence as text.

    A subclass makes its controls and its plot and then calls this constructor. It must define
    `draw`. If its result takes longer, it also defines `estimate`, whose result is shown first;
    `draw` follows when the controls come to rest, so that of several moves only the last one is
    computed. `arrange` can be overridden to place the controls differently.

    Args:
        plot: The figure that `draw` updates, and its moving artists.
        controls: Rows with sliders, in the order of the page.
        options: Further widgets with a `value` (checkboxes, menus), shown in one row below.
    """

    plot: Plot | None = None  # None again once the explorer is closed
    text = ""  # the sentence
    live = ""  # the kind of explorer in web/live that does the same in a page without a kernel
    # For each cell the message that ran it last, and the explorers that it showed.
    _shown: ClassVar[dict[str, tuple[str, list[Explorer]]]] = {}

    def __init__(
        self,
        plot: Plot,
        controls: Sequence[Control] = (),
        options: Sequence[widgets.ValueWidget] = (),
    ) -> None:
        self._waiting: asyncio.TimerHandle | None = None
        self.plot, self.controls, self.options = plot, tuple(controls), tuple(options)
        plot.figure.set_dpi(100 * SHARPNESS)
        self._canvas = KeptTextCanvas(plot.figure)
        for artist in plot.moving:
            artist.set_animated(True)
        self._background: Any = None  # until a picture is needed
        self._moving = sorted(plot.moving, key=lambda artist: artist.get_zorder())
        self._picture, self._sentence = widgets.HTML(), widgets.HTML()
        names = HandleNames(names={control.css_class: control.handles for control in controls})
        super().__init__([*self.arrange(), self._picture, self._sentence, names])
        self.add_class("quant-explorer")
        self.update()
        for source in [*(control.slider for control in controls), *options]:
            source.observe(self.update, names="value")

    def draw(self) -> str:
        """Update the plot from the controls, and return the sentence that describes it."""
        raise NotImplementedError

    def estimate(self) -> str | None:
        """Show a quick first result and return its sentence; None where `draw` itself is quick."""
        return None

    def page_data(self) -> Any:
        """Return what the page without a kernel needs beside the controls (see `exported`)."""
        return None

    def arrange(self) -> list[widgets.Widget]:
        """Return the widgets above the picture: a row for each control, and one for the options."""
        rows = [control.row for control in self.controls]
        if self.options:
            layout = {"margin": "0 0 0 10.8em", "flex_flow": "row wrap"}
            rows.append(widgets.HBox(list(self.options), layout=layout))
        return rows

    def redraw_background(self) -> None:
        """Let all but the moving artists be redrawn; for a `draw` that has changed others."""
        self._background = None

    def update(self, change: dict | None = None) -> None:
        """Show the current state, or the traceback of an error in place of the sentence.

        Args:
            change: The change of a control; if there is an estimate, the final result then waits
                until the controls rest. None shows the final result without waiting.
        """
        self._cancel()
        if type(self).estimate is Explorer.estimate:
            self._show(self.draw)
            return
        self._show(self.estimate)
        loop = running_loop()
        if change is None or loop is None:
            self._show(self.draw)
        else:
            self._waiting = loop.call_later(REST, self.settle)

    def settle(self) -> None:
        """Show the final result now, where an estimate waits for the controls to rest."""
        if self._waiting is not None:
            self._cancel()
            self._show(self.draw)

    def _cancel(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _show(self, draw: Callable[[], str]) -> None:
        if self.plot is None:  # closed before it was its turn
            return
        try:
            self.text = draw()
            self._picture.value = self._image_tag()
            self._sentence.value = f"<div style='max-width: 58em'>{html.escape(self.text)}</div>"
        except Exception as error:
            self.text, self._picture.value = f"Error: {error}", ""
            self._sentence.value = error_block()

    def pixels(self) -> NDArray[np.uint8]:
        """Return the picture of the current state, shape (height, width, 3)."""
        if self.plot is None:
            raise RuntimeError("This explorer is closed: run its cell again.")
        if self._background is None:
            self._canvas.draw()
            self._background = self._canvas.copy_from_bbox(self._canvas.figure.bbox)
        else:
            self._canvas.restore_region(self._background)
        renderer = self._canvas.get_renderer()
        for artist in self._moving:
            artist.draw(renderer)
        drawn = np.asarray(self._canvas.buffer_rgba())
        pixels = np.empty((*drawn.shape[:2], 3), np.uint8)
        for color in range(3):  # a quarter of the time of copying all three at once
            pixels[..., color] = drawn[..., color]
        return pixels

    def png(self) -> bytes:
        """Return the picture of the current state as PNG data."""
        return quick_png(self.pixels())

    def _image_tag(self) -> str:
        width, height = page_size(*self._canvas.get_width_height()).values()
        data = base64.b64encode(self.png()).decode()
        return (
            f'<img alt="{html.escape(self.text)}" width="{width}" height="{height}" '
            f'style="max-width: none" src="data:image/png;base64,{data}">'
        )

    def close(self) -> None:
        """Free widgets, figure and picture; a closed explorer can no longer be used."""
        if self.comm is None:  # ipywidgets closes an object again when it forgets it
            return
        if self._waiting is not None:
            self._waiting.cancel()
        for widget in _parts_of(self, {}):
            if widget is not self:
                widget.close()
        super().close()
        # IPython keeps in `Out` what a cell has shown, and so this object with all that it holds.
        self.plot = self._canvas = self._background = None
        self._moving = []

    def _close_former(self) -> None:
        """Close what an earlier run of the same cell has shown: the page shows this one instead.

        Otherwise ipywidgets keeps it, about 10 MB, for as long as the kernel runs. An explorer that
        the reader has a name for is left alone.
        """
        if (running := _running_cell()) is None:
            return
        cell, message, named = running
        before, explorers = Explorer._shown.get(cell, (message, []))
        if before != message:
            for explorer in explorers:
                if explorer is not self and not any(value is explorer for value in named):
                    explorer.close()
            explorers = []
        if not any(explorer is self for explorer in explorers):
            explorers.append(self)
        Explorer._shown[cell] = message, explorers

    def __repr__(self) -> str:
        """Return the sentence; without it, Jupyter would show every widget in it as text."""
        return self.text if self.plot else f"{type(self).__name__}, closed: run its cell again."

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, str], dict[str, Any]]:
        self._close_former()
        bundle = super()._repr_mimebundle_(**kwargs)
        static, metadata = {"text/plain": self.text}, {}
        if self._picture.value:
            static["image/png"] = base64.b64encode(self.png()).decode()
            metadata["image/png"] = page_size(*self._canvas.get_width_height())
        return {**(bundle or {}), **static}, metadata


def error_block() -> str:
    """Return the current exception as HTML, to be shown in an explorer."""
    trace = html.escape(traceback.format_exc())
    return f"<pre role='alert' style='color: #a00'>{trace}</pre>"


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the kernel's event loop, or None where there is no kernel."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _running_cell() -> tuple[str, str, list[Any]] | None:
    """Return the id of the cell that is being run, that of the message, and what has a name.

    The last are the values of the reader's variables, and what lists and dictionaries among them
    hold; IPython's own, such as `_` and `Out`, are left out. None where no kernel runs, or where
    the page sends no ids.
    """
    shell = get_ipython()
    kernel = getattr(shell, "kernel", None)
    parent = {} if kernel is None else kernel.get_parent()
    cell = parent.get("metadata", {}).get("cellId")
    if cell is None:
        return None
    named = [
        v for n, v in shell.user_ns.items() if not n.startswith("_") and n not in ("In", "Out")
    ]
    for value in tuple(named):
        if isinstance(value, dict):
            named += value.values()
        elif isinstance(value, list | tuple | set):
            named += value
    return cell, parent["header"]["msg_id"], named


def _parts_of(widget: widgets.Widget, found: dict[str, widgets.Widget]) -> list[widgets.Widget]:
    """List a widget and all its parts, including layouts and styles."""
    if widget.comm is not None and widget.model_id not in found:
        found[widget.model_id] = widget
        for name in widget.keys:
            value = getattr(widget, name)
            parts = value if isinstance(value, list | tuple) else [value]
            for part in parts:
                if isinstance(part, widgets.Widget):
                    _parts_of(part, found)
    return list(found.values())
