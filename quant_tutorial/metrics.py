"""Measure how far a quantized tensor or model is from the original (from lesson 01 on)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from quant_tutorial.arguments import checked_classes

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The RMS, in steps, of an error that is spread evenly over one step of the scale. Rounding to the
# nearest level leaves such an error when nothing is wrong.
HEALTHY = 1 / math.sqrt(12)
# What to do with a model that returns one number.
ONE_OUTPUT = (
    "For two classes, give the predicted ones: accuracy((outputs[:, 0] > 0.5).astype(int), labels) "
    "where the number is a probability, > 0 where it is a logit. For a regression, compare two "
    "models' outputs with sqnr_db."
)


def mse(x: ArrayLike, x_hat: ArrayLike) -> float:
    """Return the mean squared error between two arrays, in the data's unit squared (lesson 02).

    Both arrays have the same shape.

    Raises:
        ValueError: when the shapes differ or there are no values.
    """
    x, x_hat = _pair(x, x_hat)
    return float(np.mean(np.square(x.astype(np.float64) - x_hat)))


def sqnr_db(x: ArrayLike, x_hat: ArrayLike) -> float:
    """Return the signal-to-quantization-noise ratio in dB, 10·log10(mean x² / mean (x − x̂)²).

    The ratio is infinite when there is no error. Each bit of width adds about 6.02 dB as long as
    nothing is clipped and the steps are fine (Bennett, "Spectra of Quantized Signals", 1948).
    Lesson 02.

    Raises:
        ValueError: when the shapes differ, there are no values, or all of `x` is 0.
    """
    signal = mse(x, np.zeros_like(x))
    noise = mse(x, x_hat)
    if signal == 0:
        raise ValueError("x is 0 everywhere: without a signal there is no ratio.")
    return math.inf if noise == 0 else 10 * math.log10(signal / noise)


def channel_sqnr_db(x: ArrayLike, x_hat: ArrayLike) -> NDArray[np.float64]:
    """Return the SQNR in decibels of each channel, shape (channels,) (lesson 04).

    The channels lie along the last axis. The ratio is infinite for a channel without error, such as
    one that is 0 everywhere in both arrays.

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
    """Return the share of images classified correctly, from 0 to 1 (lesson 01).

    Args:
        outputs: Logits or probabilities of shape (images, classes), or predicted classes (images,).
        labels: The true classes, shape (images,).

    Raises:
        ValueError: when the numbers of images differ or there are none, for a single output for
            each image, and for labels that are not the numbers of classes.
    """
    outputs = np.asarray(outputs)
    if outputs.ndim != 2:
        return agreement(outputs, labels)
    if outputs.shape[1] < 2:
        raise ValueError(
            "outputs must hold one number for each of two classes or more, got the shape "
            f"{outputs.shape}: of a single number none is the largest. {ONE_OUTPUT}"
        )
    return agreement(outputs.argmax(axis=-1), checked_classes("labels", labels))


def agreement(predictions: ArrayLike, others: ArrayLike) -> float:
    """Return the share of images for which two models predict the same class (lesson 06).

    The share is from 0 to 1. Both arguments have the shape (images,).

    Raises:
        ValueError: when the shapes differ or there are no images.
    """
    predictions, others = _pair(predictions, others)
    return float(np.mean(predictions == others))


def accuracy_interval(right: int, images: int) -> tuple[float, float]:
    """Return the 95% confidence interval of an accuracy that was measured on a random sample.

    This is Wilson's score interval (E. B. Wilson, JASA 1927), which also holds near 100%. Lesson
    05.

    Args:
        right: How many images of the sample were classified correctly.
        images: How many images the sample has.

    Raises:
        ValueError: when there are no images, or `right` is not from 0 to `images`.
    """
    if images < 1 or not 0 <= right <= images:
        raise ValueError(f"right must be from 0 to images, got {right} of {images}.")
    from scipy.stats import binomtest  # imported here because the import takes a second

    interval = binomtest(int(right), int(images)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def confusion(predictions: ArrayLike, labels: ArrayLike, classes: int = 10) -> NDArray[np.int64]:
    """Count predictions: entry [i, j] is how many images of class i were taken for j (lesson 05).

    Args:
        predictions: Predicted classes, shape (images,).
        labels: The true classes, shape (images,).
        classes: How many classes there are.

    Raises:
        ValueError: when the shapes differ, there are no images, or a class is out of range.
    """
    predictions, labels = _pair(
        checked_classes("predictions", predictions), checked_classes("labels", labels)
    )
    for name, array in (("predictions", predictions), ("labels", labels)):
        if array.min() < 0 or array.max() >= classes:
            raise ValueError(f"{name} must be from 0 to {classes - 1}, got {array.max()}.")
    counts = np.bincount(labels.astype(np.int64) * classes + predictions, minlength=classes**2)
    return counts.reshape(classes, classes)


def packed_bytes(values: int, bits: int) -> int:
    """Return how many bytes a number of values takes when packed at a bit width (lesson 01).

    The result is rounded up.

    Raises:
        ValueError: for a negative number of values or a bit width below 1.
    """
    if values < 0:
        raise ValueError(f"values must not be negative, got {values}.")
    if bits < 1:
        raise ValueError(f"bits must be at least 1, got {bits}.")
    return -(-values * bits // 8)


def sign_test(heads: int, tosses: int) -> float:
    """Return the p-value of `heads` heads in `tosses` tosses of a fair coin (lesson 04).

    This is the probability that chance alone leads to a result at least as lopsided; it is exact
    and two-sided. To compare two models on the same images, let `tosses` be the number of images
    that only one of them gets right, and `heads` the number of those that the first gets right. If
    the p-value is small, the models differ by more than luck. Used so, it is McNemar's exact test.

    Raises:
        ValueError: when `heads` is not from 0 to `tosses`.
    """
    if not 0 <= heads <= tosses:
        raise ValueError(f"heads must be from 0 to tosses = {tosses}, got {heads}.")
    from scipy.stats import binomtest

    return float(binomtest(int(heads), int(tosses)).pvalue) if tosses else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for being several, by Holm's method (lesson 09).

    The smallest p-value is multiplied by the number of tests, the next one by one less, and so on;
    no result is smaller than one before it, or larger than 1. Comparing the results with 0.05 keeps
    the probability of at least one false alarm among all tests below 5% (S. Holm, "A Simple
    Sequentially Rejective Multiple Test Procedure", 1979). They are in the order of the arguments.

    Raises:
        ValueError: when a p-value is not from 0 to 1.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        p = float(p_values[index])
        if not 0 <= p <= 1:
            raise ValueError(f"p_values must be from 0 to 1, got {p}.")
        largest = max(largest, min(1.0, p * (len(p_values) - place)))
        corrected[index] = largest
    return corrected


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(
            f"Two arrays of the same shape are needed, got {first.shape} and {second.shape}."
        )
    return first, second
