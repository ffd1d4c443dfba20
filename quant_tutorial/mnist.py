"""Load MNIST, which ships with the package: 60,000 training and 10,000 test images (lesson 01).

For its origin and licence see `data/README.md` beside this file. Nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
import struct
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PATH = Path(__file__).parent / "data" / "mnist.npz"

# Shape and SHA-256 of each of the four files as LeCun and Cortes published them (IDX format,
# uncompressed), so that the arrays can be compared with the originals.
_ORIGINALS = {
    "x_train": (
        (60000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "y_train": ((60000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "x_test": (
        (10000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "y_test": ((10000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
# The errors that NumPy raises for a file that is truncated, overwritten or not an archive at all.
_WAY_OUT = (
    "Get the original file back with `git checkout -- quant_tutorial/data/mnist.npz` "
    "or install the course again."
)


class Mnist(NamedTuple):
    """The four read-only arrays of MNIST: uint8 pixels 0 to 255, and labels 0 to 9 (lesson 01)."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.uint8]


@cache
def load(path: Path = PATH) -> Mnist:
    """Load MNIST from the package and check that it is the canonical data set (lesson 01).

    The arrays are x_train (60000, 28, 28), y_train (60000,), x_test (10000, 28, 28) and y_test
    (10000,), all uint8 and read-only. A second call returns the same arrays at once.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it is truncated or altered; the message explains what is wrong and what to
            do.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ORIGINALS}
    except FileNotFoundError:
        raise FileNotFoundError(f"The MNIST file is missing: {path}. {_WAY_OUT}") from None
    except Exception as error:  # NumPy, zip and zlib have errors of their own for each damage
        raise ValueError(f"The MNIST file is damaged ({error}): {path}. {_WAY_OUT}") from error
    for name, array in arrays.items():
        shape, digest = _ORIGINALS[name]
        if array.dtype != np.uint8 or array.shape != shape or _idx_digest(array) != digest:
            raise ValueError(
                f"The MNIST file is altered: its array {name} ({array.dtype}, shape {array.shape}) "
                f"is not the original of shape {shape}: {path}. {_WAY_OUT}"
            )
        array.flags.writeable = False
    return Mnist(**arrays)


def to_float(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert pixels of shape (n, 28, 28) to the models' input (lesson 01).

    The result is float32 in [0, 1], shape (n, 28, 28, 1).

    Raises:
        ValueError: when the images are not uint8 or do not have that shape.
    """
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise ValueError(
            f"images must be uint8 of shape (n, 28, 28), got {images.dtype} of {images.shape}."
        )
    return (images / np.float32(255))[..., np.newaxis]


def _idx_digest(array: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of an array as an IDX file.

    The file consists of a magic number (in which 8 stands for uint8), the shape and the bytes.
    """
    header = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
    digest = hashlib.sha256(header)
    digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
