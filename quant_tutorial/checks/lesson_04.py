"""Check the answers to the exercises of lesson 04."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from quant_tutorial.affine import QuantParams, fake_quantize
from quant_tutorial.calibration import weight_params
from quant_tutorial.checks.registry import exercise, number_hint, with_suspect
from quant_tutorial.metrics import accuracy
from quant_tutorial.scheme import TensorScheme

import numpy as np
from numpy.typing import NDArray

_TOLERANCE = 1e-3  # relative, of a number that may be rounded


@exercise("04.1")
def _counts(answer: Any) -> str | None:
    given = [float(number) for number in answer]
    if len(given) != 3:
        return "three numbers are needed: model-wide, PyTorch's per_tensor, LiteRT's per axis."
    right, names = (1, 4, 16 + 16 + 32 + 10), ("model-wide", "per_tensor", "per axis")
    if given == list(right):
        return None
    mistakes = {
        (1, 1): "in PyTorch, what does the tensor of per_tensor hold? Not the whole model.",
        (0, 4): "model-wide, the weights of all layers share their parameters.",
        (1, 3): "per_tensor: the depthwise layer and the dense layer have weight tensors, too.",
        (
            2,
            3 + 16 + 16 + 32,
        ): "per axis: these are the input channels. To what does a scale belong, "
        "if it has to be taken out of a sum?",
        (2, 16 + 1 + 32 + 10): "per axis: the depthwise layer has more than one output channel.",
        (2, 16 + 32 + 10): "per axis: one layer is missing. Depthwise layers have output channels, "
        "too.",
        (
            2,
            3 * 16 + 16 + 16 * 32 + 320,
        ): "per axis: a scale serves a whole output channel, with all of its inputs.",
    }
    for place, count in enumerate(given):
        if count != right[place]:
            hint = "count again: which weights share their parameters?"
            return mistakes.get((place, int(count)), f"{names[place]}: {hint}")
    return None


@exercise("04.2")
def _wasted_levels(answer: Any) -> str | None:
    if len(answer) != 2:
        return "two numbers are needed: (levels, decibels)."
    levels, lost = (float(number) for number in answer)
    hints = {
        127 / 8 * 2: "a level is an integer: to which one is the largest weight rounded?",
        31: "the largest weight is 15.9 steps from 0. Is it rounded down?",
        32: "there is a level at 0, too.",
        16: "weights of both signs are needed, and 0.",
        17: "the channel has negative weights as well.",
        255 / 8: "count the integers: to which one is the largest weight rounded?",
        255: "these are all levels that there are. How many steps is 0.4 from 0?",
    }
    if levels != 33:
        return next(
            (hint for wrong, hint in hints.items() if math.isclose(levels, wrong, rel_tol=1e-3)),
            "how large is the shared scale, and how many steps is 0.4 from 0?",
        )
    mistakes = {
        "the levels are right. This is 10 · log₁₀ of the ratio of the scales; the SQNR compares "
        "squares.": 10 * math.log10(8),
        "the levels are right. This is the ratio of the scales. How many bits is that?": 8.0,
        "the levels are right. These are bits. How many decibels is a bit?": 3.0,
        "the levels are right. The loss is positive.": -20 * math.log10(8),
        "the levels are right. Compare the scales, not the counts of levels.": (
            20 * math.log10(255 / 33)
        ),
    }
    hint = "the levels are right. How many times coarser are the steps, and what is that in bits?"
    return number_hint(lost, 20 * math.log10(8), mistakes, hint, tolerance=5e-3)


@exercise("04.3")
def _symmetric_loss(answer: Any) -> str | None:
    asymmetric, symmetric = 6.375 / 255, 6 / 127
    right = 20 * math.log10(symmetric / asymmetric)
    mistakes = {
        "a whole bit is lost when nothing is negative. How wide are the steps here?": (
            20 * math.log10(2)
        ),
        "this is 10 · log₁₀ of the ratio of the scales; the SQNR compares squares.": right / 2,
        "the symmetric range is the coarser one, so this is positive.": -right,
        "this is the ratio of the scales. How many decibels is it?": symmetric / asymmetric,
        "the asymmetric range begins at −0.375, not at 0.": 20 * math.log10(symmetric * 255 / 6),
        "the symmetric range has to reach the larger of the two magnitudes.": (
            20 * math.log10((0.375 / 127) / asymmetric)
        ),
        "the symmetric range goes from −6 to 6; this divides only half of it by 255.": (
            20 * math.log10((6 / 255) / asymmetric)
        ),
        "the symmetric scale is m/q_max. This divides the whole range by 255 intervals.": (
            20 * math.log10((12 / 255) / asymmetric)
        ),
    }
    hint = "divide the symmetric scale by the asymmetric one."
    return number_hint(answer, right, mistakes, hint, tolerance=2e-3)  # two decimals


@exercise("04.4")
def _terms(answer: Any) -> str | None:
    given = {str(letter).strip().upper() for letter in answer if str(letter).strip(" ,")}
    if not given or not given <= set("ABCD"):
        return 'letters from A to D are needed, such as "AC".'
    if "A" in given:
        return "A is the sum itself. Which integers in it are known before there is an input?"
    if "C" in given:
        return "one term that you name contains the activations, which differ with each input."
    if given != set("BD"):
        return "what you name is right, and there is one more: weights and zero points are fixed."
    return None


@exercise("04.5")
def _folded(answer: Any) -> str | None:
    given = np.asarray(answer, float)
    if given.shape != (2,):
        return "a pair is needed: (weight, bias)."
    w, b, gamma, beta, mean, variance, epsilon = 3.0, 1.0, 1.5, 0.1, 0.4, 8.0, 1.0
    gain = gamma / math.sqrt(variance + epsilon)
    weight, bias = w * gain, (b - mean) * gain + beta
    wrong_weights = {
        "the weight is not folded: batch norm multiplies it.": w,
        "the weight is divided by the variance. Which power of it does batch norm divide by?": (
            w * gamma / (variance + epsilon)
        ),
        "ε is missing in the factor of the weight.": w * gamma / math.sqrt(variance),
        "ε belongs under the root.": w * gamma / (math.sqrt(variance) + epsilon),
        "γ is missing in the factor of the weight.": w / math.sqrt(variance + epsilon),
        "this multiplies by the root. Batch norm divides by it.": (
            w * gamma * math.sqrt(variance + epsilon)
        ),
        "this subtracts the mean from the weight. It belongs to the bias.": (w - mean) * gain,
    }
    if not math.isclose(given[0], weight, rel_tol=_TOLERANCE):
        for hint, wrong in wrong_weights.items():
            if math.isclose(given[0], wrong, rel_tol=_TOLERANCE):
                return hint
        return "the weight is multiplied by γ/√(variance + ε)."
    wrong_biases = {
        "the convolution's own bias is missing.": (0 - mean) * gain + beta,
        "β is added after the multiplication.": (b - mean + beta) * gain,
        "the mean is multiplied by the factor, too.": b * gain - mean + beta,
        "the mean is subtracted before the multiplication.": b * gain + beta,
        "the convolution's own bias is multiplied by the factor, too.": b - mean * gain + beta,
        "the mean is subtracted.": (b + mean) * gain + beta,
        "β is missing.": (b - mean) * gain,
        "this is β alone. What becomes of the convolution's bias and of the mean?": beta,
        "this is the convolution's own bias. What does batch norm do to it?": b,
    }
    if not math.isclose(given[1], bias, rel_tol=_TOLERANCE):
        for hint, wrong in wrong_biases.items():
            if math.isclose(given[1], wrong, rel_tol=_TOLERANCE):
                return f"the weight is right, the bias is not: {hint}"
        return "the weight is right, the bias is not: put w · x + b into batch norm's formula."
    return None


_Scales = Callable[[NDArray[np.float64], int], NDArray[np.float64]]


def _inner(kernel: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(range(kernel.ndim - 1))


# What a reader's function may do instead. Each is tried on the same kernels.
_SUSPECTS: dict[str, _Scales] = {
    "it divides by the number of intervals of the full range, 2ⁿ − 1": (
        lambda k, bits: 2 * np.abs(k).max(axis=_inner(k)) / (2**bits - 1)
    ),
    "it divides by 2ⁿ⁻¹, which the narrow range does not have": (
        lambda k, bits: np.abs(k).max(axis=_inner(k)) / 2 ** (bits - 1)
    ),
    "it divides the magnitude, which is half of the range, by all the intervals": (
        lambda k, bits: np.abs(k).max(axis=_inner(k)) / (2**bits - 2)
    ),
    "it takes the largest weight and not the largest magnitude": (
        lambda k, bits: k.max(axis=_inner(k)) / (2 ** (bits - 1) - 1)
    ),
    "its range is that from minimum to maximum, which is not symmetric": (
        lambda k, bits: (k.max(axis=_inner(k)) - k.min(axis=_inner(k))) / (2**bits - 2)
    ),
    "it takes the scale of the whole layer for each channel": (
        lambda k, bits: np.full(k.shape[-1], np.abs(k).max() / (2 ** (bits - 1) - 1))
    ),
}


@exercise("04.6")
def _channel_scales(answer: Any) -> str | None:
    random = np.random.default_rng(1)
    kernels = [random.normal(size=shape) for shape in ((3, 3, 4, 6), (3, 3, 6), (20, 6))]
    suspects, found = dict(_SUSPECTS), None
    for kernel in kernels:
        for bits in (8, 4, 2):
            right = np.abs(kernel).max(axis=_inner(kernel)) / (2 ** (bits - 1) - 1)
            try:
                got = np.asarray(answer(kernel, bits), float)
            except np.exceptions.AxisError:
                return (
                    f"it fails for weights of shape {kernel.shape}: not all have four axes. Only "
                    "the last axis is always the output channels."
                )
            if got.shape != right.shape:
                return _wrong_shape(got, kernel)
            suspects = {h: f for h, f in suspects.items() if np.allclose(got, f(kernel, bits))}
            if not np.allclose(got, right) and found is None:
                found = (
                    f"for weights of shape {kernel.shape} at {bits} bits the first scale must be "
                    f"{right[0]:.5f}, and your function gives {got[0]:.5f}."
                )
    return with_suspect(found, suspects)


def _wrong_shape(got: NDArray[np.float64], kernel: NDArray[np.float64]) -> str:
    """Return the hint for scales of the wrong shape."""
    needed = f"for weights of shape {kernel.shape} it must return an array of shape (6,)"
    if got.size == 6:
        return (
            f"{needed}, and your function returns {got.shape}: the right number of scales, with "
            "axes of length 1 that keepdims leaves, or a similar option."
        )
    if got.size == 1 and kernel.ndim < 4:
        return (
            f"{needed}, and your function returns one scale. Does it count on four axes? Only the "
            "last axis is always the output channels."
        )
    if got.size == 1:
        return f"{needed}, one scale for each output channel, and your function returns one scale."
    if got.shape == kernel.shape[:-1] or got.shape == kernel.shape[-2:-1]:
        return (
            f"{needed}, and your function returns {got.shape}. Over which axes does it take the "
            "maximum?"
        )
    return f"{needed}, and your function returns {got.shape}."


LIMIT, GOAL = 3, 0.92  # layers with a scale per channel, and the accuracy to reach
IMAGES = 2000  # training images on which the accuracy is measured


class _Colour(NamedTuple):
    model: Any
    weights: Mapping[str, NDArray[np.float32]]
    images: NDArray[np.float32]
    labels: NDArray[np.uint8]
    coarse: Mapping[str, QuantParams]
    fine: Mapping[str, QuantParams]


@cache
def _colour() -> _Colour:
    from quant_tutorial import colour_digits, models

    data = colour_digits.load()
    model = models.fold_batch_norm(models.load_colour_digits())
    weights = models.weights(model)
    return _Colour(
        model,
        weights,
        colour_digits.to_float(data.x_train[:IMAGES]),
        data.y_train[:IMAGES],
        weight_params(weights, TensorScheme(8, symmetric=True)),
        weight_params(weights, TensorScheme(8, symmetric=True, granularity="channel-wise")),
    )


def accuracy_with_fine(names: frozenset[str]) -> float:
    """Return the colour model's accuracy with a scale per channel in some layers only.

    All weights have 8 bits, and all other layers a scale per tensor. The accuracy is that on the
    first training images.
    """
    from quant_tutorial import models

    colour = _colour()
    params = {n: (colour.fine if n in names else colour.coarse)[n] for n in colour.weights}
    models.set_weights(
        colour.model, {n: fake_quantize(w, params[n]) for n, w in colour.weights.items()}
    )
    return accuracy(models.predict(colour.model, colour.images), colour.labels)


@exercise("04.7")
def _few_layers(answer: Any) -> str | None:
    names = [answer] if isinstance(answer, str) else [str(name) for name in answer]
    layers = list(_colour().weights)
    unknown = [name for name in names if name not in layers]
    if unknown or not names:
        return f"a list of layers' names is needed, from {', '.join(layers)}."
    chosen = frozenset(names)
    if len(chosen) > LIMIT:
        return f"these are {len(chosen)} layers; at most {LIMIT} may have a scale per channel."
    found = accuracy_with_fine(chosen)
    if found >= GOAL:
        return None
    hint = f"with these layers {found:.1%} of the images are right; {GOAL:.0%} are needed."
    if all(name.startswith("depthwise") for name in chosen):
        return f"{hint} Uneven channels are not all that counts: try layers of other kinds, too."
    return f"{hint} After the first layer is mended, does the same layer still help most?"
