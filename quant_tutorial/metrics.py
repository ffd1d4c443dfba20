"""How far a quantized tensor or model is from the original (lessons 01, 02, 06)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mse(x: ArrayLike, x_hat: ArrayLike) -> float:
    """Mean squared error between two arrays of one shape, in the data's unit squared (lesson 02).

    Raises:
        ValueError: when the shapes differ or there are no values.
    """
    x, x_hat = _pair(x, x_hat)
    return float(np.mean(np.square(x.astype(np.float64) - x_hat)))


def sqnr_db(x: ArrayLike, x_hat: ArrayLike) -> float:
    """Signal-to-quantization-noise ratio in decibels, 10·log10(mean x² / mean (x − x̂)²).

    Infinite when there is no error; each bit of width adds about 6.02 dB as long as nothing is
    clipped (Bennett, "Spectra of Quantized Signals", 1948). Lesson 02.

    Raises:
        ValueError: when the shapes differ, there are no values, or all of `x` is 0.
    """
    signal = mse(x, np.zeros_like(x))
    noise = mse(x, x_hat)
    if signal == 0:
        raise ValueError("x is 0 everywhere: without a signal there is no ratio.")
    return math.inf if noise == 0 else 10 * math.log10(signal / noise)


def channel_sqnr_db(x: ArrayLike, x_hat: ArrayLike) -> NDArray[np.float64]:
    """SQNR in decibels of each channel, which lie on the last axis; shape (channels,) (lesson 04).

    A channel that is 0 everywhere, or has no error, gives infinity.

    Raises:
        ValueError: when the shapes differ or there are no values.
    """
    x, x_hat = _pair(x, x_hat)
    axes = tuple(range(x.ndim - 1))
    signal = np.mean(np.square(x.astype(np.float64)), axis=axes)
    noise = np.mean(np.square(x.astype(np.float64) - x_hat), axis=axes)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(noise == 0, np.inf, 10 * np.log10(signal / noise))


def accuracy(outputs: ArrayLike, labels: ArrayLike) -> float:
    """Share of images answered correctly, from 0 to 1 (lesson 01).

    Args:
        outputs: Logits or probabilities of shape (images, classes), or predicted classes (images,).
        labels: The true classes, shape (images,).

    Raises:
        ValueError: when the numbers of images differ or there are none.
    """
    outputs = np.asarray(outputs)
    return agreement(outputs.argmax(axis=-1) if outputs.ndim == 2 else outputs, labels)


def agreement(predictions: ArrayLike, others: ArrayLike) -> float:
    """Share of images on which two models predict the same class, from 0 to 1 (lesson 06).

    Both of shape (images,).

    Raises:
        ValueError: when the shapes differ or there are no images.
    """
    predictions, others = _pair(predictions, others)
    return float(np.mean(predictions == others))


def accuracy_interval(right: int, images: int) -> tuple[float, float]:
    """Give the 95 % interval of an accuracy of which a random sample of images was tried.

    Wilson's score interval (E. B. Wilson, JASA 1927), which also holds near 100 %. Lesson 05.

    Args:
        right: How many of the sample were answered correctly.
        images: How many images the sample has.

    Raises:
        ValueError: when there are no images, or more right answers than images.
    """
    if images < 1 or not 0 <= right <= images:
        raise ValueError(f"right must be from 0 to images, got {right} of {images}.")
    z = 1.959963984540054  # the 97.5 % quantile of the normal distribution
    share = right / images
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    spread = z / (1 + z**2 / images)
    spread *= math.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
    return max(middle - spread, 0.0), min(middle + spread, 1.0)


def confusion(predictions: ArrayLike, labels: ArrayLike, classes: int = 10) -> NDArray[np.int64]:
    """Count answers: entry [i, j] says how many images of class i were taken for j (lesson 05).

    Args:
        predictions: Predicted classes, shape (images,).
        labels: The true classes, shape (images,).
        classes: How many classes there are.

    Raises:
        ValueError: when the shapes differ, there are no images, or a class is out of range.
    """
    predictions, labels = _pair(predictions, labels)
    for name, array in (("predictions", predictions), ("labels", labels)):
        if array.min() < 0 or array.max() >= classes:
            raise ValueError(f"{name} must be from 0 to {classes - 1}, got {array.max()}.")
    counts = np.bincount(labels.astype(np.int64) * classes + predictions, minlength=classes**2)
    return counts.reshape(classes, classes)


def packed_bytes(values: int, bits: int) -> int:
    """Bytes that so many values take when packed at a bit width, rounded up (lesson 01).

    Raises:
        ValueError: for a negative number of values or a bit width below 1.
    """
    if values < 0:
        raise ValueError(f"values must not be negative, got {values}.")
    if bits < 1:
        raise ValueError(f"bits must be at least 1, got {bits}.")
    return -(-values * bits // 8)


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(
            f"Two arrays of the same shape are needed, got {first.shape} and {second.shape}."
        )
    return first, second


def sign_test(heads: int, tosses: int) -> float:
    """Give the probability that so many coins fall at least as lopsidedly (lesson 09).

    Two models that read the same images differ by more than luck where it is small: `tosses` images
    that only one of them gets right, `heads` of them the first. Two-sided and exact.

    Raises:
        ValueError: when `heads` is not from 0 to `tosses`.
    """
    if not 0 <= heads <= tosses:
        raise ValueError(f"heads must be from 0 to tosses = {tosses}, got {heads}.")
    fewer = int(min(heads, tosses - heads))
    ways = sum(math.comb(int(tosses), count) for count in range(fewer + 1))
    return min(1.0, 2 * ways / 2 ** int(tosses))
