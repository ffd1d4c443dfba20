"""Convert a drawing to an image like those of MNIST (lesson 10).

The preprocessing is MNIST's own, as LeCun, Bottou, Bengio and Haffner describe it ("Gradient-based
learning applied to document recognition", Proceedings of the IEEE 86(11), 1998, section III A). The
digit is scaled to fit a box of 20 by 20 pixels with its aspect ratio preserved. Anti-aliasing
produces the grey levels. The box is then placed in an image of 28 by 28 pixels so that the digit's
centre of mass is in the middle.

A network is reliable only on images that look like its training data. Without these steps a digit
that is drawn small, or in a corner, is often misclassified, and the reader would blame quantization
for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A drawing is a raster of 112 by 112 pixels, four times MNIST's 28 in each direction. The pen is 8
# pixels wide. On a digit that fills 70% of the height, this becomes 2 pixels, the median width of
# MNIST's strokes.
SIDE, PEN = 112, 8

_BOX, _IMAGE = 20, 28


def to_mnist(raster: ArrayLike) -> NDArray[np.float32]:
    """Convert a drawing to an image like those of MNIST (lesson 10).

    A real MNIST image is returned unchanged. An empty drawing becomes an image of zeros; `is_empty`
    detects it.

    Args:
        raster: The drawing, white on black, shape (height, width) or (height, width, 1), of any
            size: uint8 from 0 to 255 or floats in [0, 1].

    Returns:
        The models' input, float32 in [0, 1], shape (28, 28, 1).

    Raises:
        ValueError: for any other shape or type, or floats outside [0, 1].
    """
    grey = to_pixels(raster) / 255
    image = np.zeros((_IMAGE, _IMAGE, 1), np.float32)
    if not grey.any():
        return image
    grey = grey[_extent(grey.any(axis=1)), _extent(grey.any(axis=0))]
    scale = _BOX / max(grey.shape)
    digit = _averages(grey.shape[0], scale) @ grey @ _averages(grey.shape[1], scale).T
    top, left = _corner(digit.sum(axis=1)), _corner(digit.sum(axis=0))
    image[top : top + digit.shape[0], left : left + digit.shape[1], 0] = np.clip(digit, 0, 1)
    return image


def is_empty(raster: ArrayLike) -> bool:
    """Return whether nothing is drawn; accepts what `to_mnist` accepts (lesson 10)."""
    return not to_pixels(raster).any()


def to_pixels(raster: ArrayLike) -> NDArray[np.uint8]:
    """Return a drawing or image as grey levels from 0 to 255, shape (height, width) (lesson 10).

    Accepts what `to_mnist` accepts; floats are rounded to the nearest level.

    Raises:
        ValueError: for any other shape or type, or floats outside [0, 1].
    """
    try:
        raster = np.asarray(raster)
    except ValueError:  # lists of different lengths
        raise ValueError("raster must be an array, got lists of different lengths.") from None
    if raster.ndim == 3 and raster.shape[2] == 1:
        raster = raster[..., 0]
    if raster.ndim != 2 or raster.size == 0:
        raise ValueError(
            f"raster must have the shape (height, width) or (height, width, 1), got {raster.shape}."
        )
    if raster.dtype == np.uint8:
        return raster
    if not np.issubdtype(raster.dtype, np.floating):
        raise ValueError(f"raster must be uint8 or floats in [0, 1], got {raster.dtype}.")
    if not ((raster >= 0) & (raster <= 1)).all():
        raise ValueError(
            f"raster must be in [0, 1], got {raster.min():g} to {raster.max():g}: divide grey "
            "levels by 255, or give them as uint8."
        )
    return np.rint(raster * 255).astype(np.uint8)


def draw_strokes(
    strokes: Sequence[ArrayLike], side: int = SIDE, pen: float = PEN
) -> NDArray[np.uint8]:
    """Draw strokes with a round pen, as the canvas of lesson 10 does.

    Args:
        strokes: One array of points (x, y) for each stroke, shape (points, 2). The coordinates run
            from (0, 0) at the upper left to (side, side), and straight lines join the points. A
            single point becomes a dot.
        side: Height and width of the raster in pixels.
        pen: Width of the line in pixels.

    Returns:
        The grey levels from 0 to 255, shape (side, side).

    Raises:
        ValueError: when a stroke does not have that shape or is not finite, or when `side` or `pen`
            is not positive.
    """
    for name, length in (("side", side), ("pen", pen)):
        if not length > 0:
            raise ValueError(f"{name} must be positive, got {length}.")
    centres = np.arange(side) + 0.5
    distance = np.full((side, side), np.inf)
    for stroke in strokes:
        points = np.asarray(stroke, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or not points.size:
            raise ValueError(f"Each stroke must have the shape (points, 2), got {points.shape}.")
        if not np.isfinite(points).all():
            raise ValueError("The points of a stroke must be finite numbers.")
        # The first point is joined to itself, so that a stroke of a single point is drawn, too.
        for start, end in zip(points[[0, *range(len(points) - 1)]], points, strict=True):
            x, y = centres - start[0], (centres - start[1])[:, np.newaxis]
            dx, dy = end - start
            along = np.clip((x * dx + y * dy) / max(dx**2 + dy**2, 1e-12), 0, 1)
            np.minimum(distance, np.hypot(x - along * dx, y - along * dy), out=distance)
    return np.rint(255 * np.clip(pen / 2 + 0.5 - distance, 0, 1)).astype(np.uint8)


def _extent(inked: NDArray[np.bool_]) -> slice:
    """Return the slice from the first to the last place with ink along one axis."""
    places = np.flatnonzero(inked)
    return slice(places[0], places[-1] + 1)


def _averages(length: int, scale: float) -> NDArray[np.float64]:
    """Return the matrix that averages `length` pixels over the area of each scaled pixel.

    A scaled pixel is 1 / scale wide. If the length is not a whole number of scaled pixels, they
    reach beyond both ends by the same amount. Stretching them to fit would change the aspect ratio
    of a slim digit.
    """
    cells = math.ceil(length * scale - 1e-9)
    edges = (length - cells / scale) / 2 + np.arange(cells + 1) / scale
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, np.newaxis], pixels + 1)
    overlap -= np.maximum(edges[:-1, np.newaxis], pixels)
    return np.clip(overlap, 0, None) * scale


def _corner(ink: NDArray[np.float64]) -> int:
    """Return where a digit must begin along one axis for its centre of mass to be in the middle.

    `ink` is the sum of the digit's ink at each place of that axis. In MNIST the centre of mass is
    at pixel 14 (counted from 0) to within half a pixel, because digits are moved by whole pixels.
    The limits keep the whole digit inside the image.
    """
    centre = ink @ np.arange(len(ink)) / ink.sum()
    return int(np.clip(_IMAGE // 2 - np.rint(centre), 0, _IMAGE - len(ink)))
