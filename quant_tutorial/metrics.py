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
