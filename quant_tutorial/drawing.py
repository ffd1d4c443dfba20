"""From a drawing to an image like MNIST's (lesson 10).

The preprocessing is MNIST's own, as LeCun, Bottou, Bengio and Haffner describe it ("Gradient-based
learning applied to document recognition", Proceedings of the IEEE 86(11), 1998, section III A): the
digit is scaled to fit a box of 20 by 20 pixels, its aspect ratio preserved, anti-aliasing gives the
grey levels, and the box is placed in 28 by 28 pixels with the centre of mass in the middle.

A network reads what looks like its training data. Without these steps a digit that is drawn small,
or in a corner, is often misread, and the reader would blame quantization for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A drawing is a raster of 112 by 112 pixels, four for each of MNIST's. The pen is 8 of them wide:
# on a digit that fills 70 % of the height that becomes 2 pixels, the median of MNIST's strokes.
SIDE, PEN = 112, 8

_BOX, _IMAGE = 20, 28


def to_mnist(raster: ArrayLike) -> NDArray[np.float32]:
    """Turn a drawing into an image as MNIST would hold it (lesson 10).

    A real MNIST image comes back as it is. An empty drawing gives zeros: ask `is_empty`.

    Args:
        raster: White on black, shape (height, width) or (height, width, 1), of any size: uint8
            from 0 to 255 or floats in [0, 1].

    Returns:
        The models' input, float32 in [0, 1], shape (28, 28, 1).

    Raises:
        ValueError: for another shape, another type, or floats outside [0, 1].
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
    """Say whether nothing is drawn; takes what `to_mnist` takes (lesson 10)."""
    return not to_pixels(raster).any()


def to_pixels(raster: ArrayLike) -> NDArray[np.uint8]:
    """Give a drawing or an image as grey levels from 0 to 255, shape (height, width) (lesson 10).

    Takes what `to_mnist` takes; floats are rounded to the nearest level.

    Raises:
        ValueError: for another shape, another type, or floats outside [0, 1].
    """
    raster = np.asarray(raster)
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
    """Draw strokes with a round pen, as the canvas of lesson 10 does: grey levels, (side, side).

    Args:
        strokes: One array of points (x, y) for each stroke, shape (points, 2), from (0, 0) at the
            upper left to (side, side); straight lines join them. A single point gives a dot.
        side: Height and width of the raster in pixels.
        pen: Width of the line in pixels.

    Raises:
        ValueError: when a stroke is not of that shape or not finite, or a length is not positive.
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
        # The first point is joined to itself, so that a stroke of one point has a line as well.
        for start, end in zip(points[[0, *range(len(points) - 1)]], points, strict=True):
            x, y = centres - start[0], (centres - start[1])[:, np.newaxis]
            dx, dy = end - start
            along = np.clip((x * dx + y * dy) / max(dx**2 + dy**2, 1e-12), 0, 1)
            np.minimum(distance, np.hypot(x - along * dx, y - along * dy), out=distance)
    return np.rint(255 * np.clip(pen / 2 + 0.5 - distance, 0, 1)).astype(np.uint8)


def _extent(inked: NDArray[np.bool_]) -> slice:
    """Say where the ink begins and ends along one axis."""
    places = np.flatnonzero(inked)
    return slice(places[0], places[-1] + 1)


def _averages(length: int, scale: float) -> NDArray[np.float64]:
    """Make the matrix that averages `length` pixels over the area of each scaled pixel.

    A scaled pixel is 1 / scale wide. Where the length is no whole number of them, they reach beyond
    both ends alike: to stretch them would change the aspect ratio of a slim digit.
    """
    cells = math.ceil(length * scale - 1e-9)
    edges = (length - cells / scale) / 2 + np.arange(cells + 1) / scale
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, np.newaxis], pixels + 1)
    overlap -= np.maximum(edges[:-1, np.newaxis], pixels)
    return np.clip(overlap, 0, None) * scale


def _corner(ink: NDArray[np.float64]) -> int:
    """Say where a digit begins, whose ink along one axis is given, to be centred by its mass.

    In MNIST the centre of mass is at pixel 14 (counted from 0), up to half a pixel: digits are
    moved by whole pixels. The limits keep all of the digit inside the image.
    """
    centre = ink @ np.arange(len(ink)) / ink.sum()
    return int(np.clip(_IMAGE // 2 - np.rint(centre), 0, _IMAGE - len(ink)))
