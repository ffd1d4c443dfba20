"""Colour digits: MNIST's digits in any colour on textured grounds (lesson 11).

The course's second data set, for its second model: colour images of 32 by 32 pixels, whose float
form lies in [−1, 1], as for most networks that are trained on photographs. Nothing is stored: the
images are painted from MNIST and a seed. Only additions, multiplications and comparisons are used,
which have the same result on every processor, so the images are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from quant_tutorial import mnist

import numpy as np
from numpy.typing import NDArray

SIDE = 32  # pixels, 4 more than MNIST's
RANGE = (-1.0, 1.0)  # of the colour model's input
TEXTURES = ("gradient", "stripes", "patches")

_TRAIN_SEED, _TEST_SEED, _TRAINING_IMAGES = 1, 2, 10_000
_CONTRAST = 0.35  # at least, between digit and ground, in each colour channel from 0 to 1
_TEXTURE, _GRAIN = 0.4, 0.15  # how much the ground's colour varies at most, and each pixel's
_PATCHES = 8  # in each direction
_BLOCK = 100  # images painted at a time
# The random numbers of one image: the settings, the brightness of each patch, and each pixel's.
_SETTINGS = {
    "place": 2,
    "ground": 3,
    "contrast": 3,
    "texture": 3,
    "kind": 1,
    "direction": 2,
    "flipped": 2,
    "stripes": 2,
    "grain": 1,
}
_NUMBERS = sum(_SETTINGS.values()) + _PATCHES**2 + SIDE**2


class ColourDigits(NamedTuple):
    """Four read-only arrays in the form of `mnist.Mnist`: uint8 pixels, labels 0 to 9 (lesson 11).

    The images have the shape (n, 32, 32, 3), and their channels are red, green and blue.
    """

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.uint8]


@cache
def load() -> ColourDigits:
    """Paint the colour digits and return them with their labels (lesson 11).

    The 10,000 test images are MNIST's test images, painted. The 10,000 training images, for
    calibration, are the first of MNIST's training images, painted. (`training` paints all 60,000
    anew in each epoch.) The first call takes about two seconds, a second one no time.

    Raises:
        FileNotFoundError: when MNIST's file is missing.
        ValueError: when it is truncated or altered.
    """
    data = mnist.load()
    train, test = (
        paint(digits, seed)
        for digits, seed in (
            (data.x_train[:_TRAINING_IMAGES], _TRAIN_SEED),
            (data.x_test, _TEST_SEED),
        )
    )
    train.flags.writeable = test.flags.writeable = False
    return ColourDigits(train, data.y_train[:_TRAINING_IMAGES], test, data.y_test)


def paint(digits: NDArray[np.uint8], seed: int | Sequence[int]) -> NDArray[np.uint8]:
    """Paint digits in random colours on random textures (lesson 11).

    Each digit is shifted by up to two pixels. Its ground goes from one colour to a similar one, as
    a gradient, in stripes or in patches, and every pixel's brightness varies a little (grain). The
    digit's colour differs from the ground's by at least 0.35 of the range in each channel before
    texture and grain, upwards or downwards. No channel alone, and no brightness, separates digits
    from grounds in all images.

    Args:
        digits: Images as in MNIST, uint8, shape (n, 28, 28).
        seed: The random seed, one or several whole numbers. Images with the same place and seed
            are painted alike, whatever n is.

    Returns:
        The painted images, uint8, shape (n, 32, 32, 3).

    Raises:
        ValueError: when the digits are not uint8 or do not have that shape.
    """
    if digits.dtype != np.uint8 or digits.shape[1:] != (28, 28):
        raise ValueError(
            f"digits must be uint8 of shape (n, 28, 28), got {digits.dtype} of {digits.shape}."
        )
    random = np.random.Generator(np.random.PCG64(seed))
    images = np.empty((len(digits), SIDE, SIDE, 3), np.uint8)
    for start in range(0, len(digits), _BLOCK):
        block = digits[start : start + _BLOCK]
        numbers = random.random((len(block), _NUMBERS), np.float32)
        images[start : start + _BLOCK] = _painted(block, numbers)
    return images


def to_float(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert pixels to the input of the colour model, float32 in [−1, 1] (lesson 11).

    The shape (n, 32, 32, 3) stays.

    Raises:
        ValueError: when the images are not uint8 or do not have that shape.
    """
    if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE, 3):
        raise ValueError(
            f"images must be uint8 of shape (n, {SIDE}, {SIDE}, 3), got {images.dtype} of "
            f"{images.shape}."
        )
    return images / np.float32(127.5) - np.float32(1)


def _painted(digits: NDArray[np.uint8], numbers: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Paint one block; `numbers` are uniform in [0, 1), a row for each image."""
    ends = np.cumsum([*_SETTINGS.values(), _PATCHES**2])
    *parts, patches, pixels = np.split(numbers, ends, axis=1)
    # The pixels lie along the last axes, which NumPy is quickest with, and the channels before.
    chosen = {name: part[..., None, None] for name, part in zip(_SETTINGS, parts, strict=True)}
    ground = chosen["ground"]
    ink = (ground + np.float32(_CONTRAST) + chosen["contrast"] * np.float32(1 - 2 * _CONTRAST)) % 1
    change = (chosen["texture"] - np.float32(0.5)) * np.float32(_TEXTURE)
    image = _texture(chosen, patches.reshape(-1, 1, _PATCHES, _PATCHES)) * change
    image += ground
    image += _placed(digits, parts[0]) * (ink - image)
    grain = pixels.reshape(-1, 1, SIDE, SIDE) - np.float32(0.5)
    image += grain * (chosen["grain"] * np.float32(_GRAIN))
    image *= np.float32(255)
    image += np.float32(0.5)
    # Converting to integers cuts the fraction off.
    return np.clip(image, 0, 255, out=image).astype(np.uint8).transpose(0, 2, 3, 1)


def _texture(
    chosen: dict[str, NDArray[np.float32]], patches: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return how far each pixel's ground is from one colour to the other, 0 to 1.

    The shape is (n, 1, 32, 32).
    """
    line = np.arange(SIDE, dtype=np.float32) / np.float32(SIDE - 1)
    kind = np.floor(chosen["kind"] * len(TEXTURES))
    # Both parts of a direction are positive, and each axis may be flipped.
    parts = np.float32(0.05) + chosen["direction"]
    parts /= parts[:, :1] + parts[:, 1:]
    down, right = (
        np.where(chosen["flipped"][:, axis : axis + 1] < 0.5, values, 1 - values)
        * parts[:, axis : axis + 1]
        for axis, values in enumerate((line[:, None], line))
    )
    way = down + right
    count, phase = chosen["stripes"][:, :1], chosen["stripes"][:, 1:]
    lines = way * (2 + 6 * count) + phase
    stripes = lines - np.floor(lines) < np.float32(0.5)
    size = SIDE // _PATCHES
    blocks = patches.repeat(size, axis=2).repeat(size, axis=3)
    return np.where(kind == 0, way, np.where(kind == 1, stripes, blocks))


def _placed(digits: NDArray[np.uint8], place: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put each digit somewhere in a larger image: 0 to 1, shape (n, 1, 32, 32)."""
    free = SIDE - digits.shape[1]
    canvas = np.zeros((len(digits), SIDE, SIDE), np.float32)
    corners = np.floor(place * (free + 1)).astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(
        canvas, digits.shape[1:], axis=(1, 2), writeable=True
    )
    windows[np.arange(len(digits)), corners[:, 0], corners[:, 1]] = digits / np.float32(255)
    return canvas[:, None]
