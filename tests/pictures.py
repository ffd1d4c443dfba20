"""The pictures of explorers, for tests: drawn where a test looks, or decoded from the page."""

import base64
import io
import re

from quant_tutorial.explorers.base import Explorer

import numpy as np
from PIL import Image


def picture(explorer: Explorer) -> np.ndarray:
    """The picture of the last update; fails where the page shows an error instead.

    For tests with the fixture `unencoded`.
    """
    assert "<pre" not in explorer._sentence.value, explorer._sentence.value
    # Without an update the page would show the former picture.
    if getattr(explorer, "drawn", None) is None:
        explorer.drawn = explorer.pixels()
    return explorer.drawn


def in_the_page(explorer: Explorer) -> np.ndarray:
    """The picture that the reader sees, decoded from the page."""
    assert "<pre" not in explorer._sentence.value, explorer._sentence.value
    data = re.search(r'src="data:image/png;base64,([^"]+)"', explorer._picture.value)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
