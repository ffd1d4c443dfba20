"""Compute the ops that change the number of rows and columns of an image (lesson 07)."""

from __future__ import annotations

from quant_tutorial.integer.arithmetic import rounding_shift
from quant_tutorial.integer.ops.convolving import Pair

import numpy as np
from numpy.typing import NDArray

_BITS = 10  # fractional bits of a place between two rows or columns


def nearest(
    x: NDArray[np.integer], *, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.integer]:
    """Compute RESIZE_NEAREST_NEIGHBOR (lesson 07).

    `rows` and `columns` say for each row and column of the output which one of `x` it takes.
    """
    return x[:, rows][:, :, columns]


def bilinear(x: NDArray[np.int8], *, size: Pair, corners: bool, centers: bool) -> NDArray[np.int8]:
    """Compute RESIZE_BILINEAR, with weights of 10 bits for rows and for columns (lesson 07).

    Input and output have one scale and zero point, so the integers are interpolated as they are.

    Args:
        x: 8-bit integers, shape (images, rows, columns, channels).
        size: The rows and columns of the output.
        corners: Whether the corner pixels of input and output lie on each other.
        centers: Whether the centres of pixels, not their corners, are what is compared.
    """
    (top, bottom, down), (left, right, across) = (
        _neighbours(length, wanted, corners, centers)
        for length, wanted in zip(x.shape[1:3], size, strict=True)
    )
    wide, one, down = x.astype(np.int64), 2**_BITS, down[:, np.newaxis, np.newaxis]
    lines = wide[:, top] * (one - down) + wide[:, bottom] * down
    across = across[:, np.newaxis]
    pixels = lines[:, :, left] * (one - across) + lines[:, :, right] * across
    return rounding_shift(pixels, 2 * _BITS).astype(x.dtype)


def _neighbours(
    length: int, wanted: int, corners: bool, centers: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return for each place of an axis the two places of the input and the weight of the second."""
    one = 2**_BITS
    step = (one * length + wanted // 2) // wanted
    if corners and wanted > 1:
        step = (one * (length - 1) + (wanted - 1) // 2) // (wanted - 1)
    place = np.arange(wanted) * step
    if centers:
        place = place + step // 2 - one // 2
    first = np.maximum(place >> _BITS, 0)
    second = np.minimum(np.maximum(place + one - 1, 0) >> _BITS, length - 1)
    return first, second, place - (first << _BITS)
