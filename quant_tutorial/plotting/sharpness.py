"""How sharp pictures are: the same for explorers and for the figures that cells draw.

A picture has `SHARPNESS` pixels for each pixel of the page along either side. The page learns from
the output's metadata, or from the `width` of an image tag, how large it is to show it.
"""

from __future__ import annotations

import base64
import io

from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib import get_backend
from matplotlib.figure import Figure
from PIL import Image

SHARPNESS = 1.5  # picture pixels per page pixel: sharp on a projector, yet quick to send
_COLOURS = 256  # enough for lines and text; the file has a third of the size


def page_size(width: int, height: int) -> dict[str, int]:
    """Return the size at which a page shows a picture of so many pixels, as output metadata."""
    return {"width": round(width / SHARPNESS), "height": round(height / SHARPNESS)}


def sharp_png(figure: Figure) -> tuple[str, dict[str, int]] | None:
    """Return a figure as PNG in base64 and its `page_size`, or None for one without Axes."""
    png = print_figure(figure, "png", dpi=SHARPNESS * figure.dpi)
    if png is None:
        return None
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    buffer = io.BytesIO()
    few = picture.quantize(_COLOURS, dither=Image.Dither.NONE)
    few.save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode(), page_size(*picture.size)


def sharpen() -> None:
    """In a notebook, show the figures of `matplotlib.pyplot` by `sharp_png` from now on.

    Without a notebook, or with another than Jupyter's usual backend, this does nothing.
    """
    shell = get_ipython()
    if shell is not None and "inline" in (get_backend(auto_select=False) or ""):
        from matplotlib_inline import backend_inline  # noqa: F401 registers its own way of drawing

        shell.display_formatter.formatters["image/png"].for_type(Figure, sharp_png)
