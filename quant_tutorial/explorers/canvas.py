"""The canvas of lesson 10, on which readers draw a digit with mouse, pen, finger or keys."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from quant_tutorial import drawing
from quant_tutorial.drawing import PEN, SIDE

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray
from PIL import Image

_HERE = Path(__file__).parent
_EMPTY = bytes(SIDE * SIDE)


def _checked_value(value: Any) -> bytes:
    """Return a drawing as bytes, or raise a ValueError for something of another type or size."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise ValueError(f"value must be {len(_EMPTY):,} bytes, got {type(value).__name__}.")
    value = bytes(value)
    if len(value) != len(_EMPTY):
        raise ValueError(
            f"value must be {SIDE} × {SIDE} = {len(_EMPTY):,} bytes, got {len(value):,}: "
            "call show(image) to load an image."
        )
    return value


class DigitCanvas(anywidget.AnyWidget):
    """A canvas to draw a digit on, white on black as in MNIST (lesson 10).

    `value` holds the drawing as grey levels, row by row, `SIDE` × `SIDE` bytes. It is updated about
    ten times a second during a stroke, and always at its end. Functions that `observe` the name
    "value" are called after every change, including changes made in Python. All displays of a
    canvas show the same drawing.

    Args:
        image: The initial drawing, in any form that `show` accepts; by default the canvas is empty.

    Raises:
        ValueError: if the image, or a `value` that is set, has the wrong size.
    """

    _esm = _HERE / "canvas.js"
    _css = _HERE / "canvas.css"
    # What a page sends is checked before it is set: traitlets would keep a wrong value.
    value = traitlets.Bytes(_EMPTY).tag(sync=True, from_json=lambda data, _: _checked_value(data))
    _side = traitlets.Int(SIDE, read_only=True).tag(sync=True)
    _pen = traitlets.Int(PEN, read_only=True).tag(sync=True)

    def __init__(self, image: ArrayLike | None = None) -> None:
        super().__init__()
        if image is not None:
            self.show(image)

    @traitlets.validate("value")
    def _check(self, proposal: dict[str, Any]) -> bytes:
        return _checked_value(proposal["value"])

    @property
    def raster(self) -> NDArray[np.uint8]:
        """The drawing as grey levels from 0 to 255, shape (SIDE, SIDE), read-only."""
        return np.frombuffer(self.value, np.uint8).reshape(SIDE, SIDE)

    @property
    def image(self) -> NDArray[np.float32]:
        """The drawing as the models' input: `drawing.to_mnist(raster)`, shape (28, 28, 1)."""
        return drawing.to_mnist(self.raster)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is drawn."""
        return drawing.is_empty(self.raster)

    def show(self, image: ArrayLike) -> None:
        """Replace the drawing with an image, on which the reader can continue to draw.

        Args:
            image: An MNIST image, shape (28, 28) or (28, 28, 1), or a raster of `SIDE` × `SIDE`;
                uint8 from 0 to 255 or floats in [0, 1].

        Raises:
            ValueError: for another shape or type, or for floats outside [0, 1].
        """
        pixels = drawing.to_pixels(image)
        height, width = pixels.shape
        if height != width or height not in (28, SIDE):
            raise ValueError(
                f"image must have the shape (28, 28), (28, 28, 1) or ({SIDE}, {SIDE}), "
                f"got {np.shape(image)}."
            )
        # Each pixel becomes a square, which `to_mnist` averages to that pixel again.
        self.value = pixels.repeat(SIDE // height, axis=0).repeat(SIDE // width, axis=1).tobytes()

    def clear(self) -> None:
        """Clear the canvas."""
        self.value = _EMPTY

    def __repr__(self) -> str:
        """Return a text without anywidget's memory address, which changes from run to run."""
        return f"DigitCanvas({'empty' if self.is_empty else 'drawn on'})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        # The text that a page without a kernel shows.
        data["text/plain"] = "Canvas to draw a digit on; it needs a running kernel."
        if not self.is_empty:
            buffer = io.BytesIO()
            Image.fromarray(self.raster).save(buffer, "png")
            data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
        return data, metadata
