"""Check the answers to the exercises of lesson 01."""

from __future__ import annotations

from functools import cache
from typing import Any

from quant_tutorial.checks.registry import exercise
from quant_tutorial.metrics import packed_bytes

import numpy as np
from numpy.typing import NDArray

# The layers conv1, conv2, conv3 and logits: how many weights each has, and how many multiply-adds.
_WEIGHTS = np.array([72, 1152, 4608, 8000])
_MULTIPLY_ADDS = np.array([56_448, 225_792, 115_200, 8000])
_DRAM, _INSTRUCTION = 640, 70  # pJ: to fetch 32 bits, and to execute an instruction


@exercise("01.1")
def _shares_of_the_fetches(answer: Any) -> str | None:
    given = np.asarray(answer, float)
    if given.shape != (4,):
        return f"four numbers are needed, one for each layer, got the shape {given.shape}."

    def share(fetch: float, work: float) -> NDArray[np.float64]:
        return _WEIGHTS * fetch / (_WEIGHTS * fetch + _MULTIPLY_ADDS * work)

    right = share(_DRAM / 4, _INSTRUCTION / 16)
    if np.allclose(given, right, atol=2e-3):
        return None
    mistakes = {
        "these are the shares of the instructions. What is asked is the other part.": 1 - right,
        "this is the fetching divided by the instructions. A share is divided by both "
        "together.": right / (1 - right),
        "the layers are in the opposite order.": right[::-1],
        "640 pJ fetch 32 bits. How many of these weights is that?": share(_DRAM, _INSTRUCTION / 16),
        "this executes an instruction for each multiply-add. How many 8-bit numbers fit into "
        "128 bits?": share(_DRAM / 4, _INSTRUCTION),
        "this executes an instruction for four multiply-adds, as with floats. How many 8-bit "
        "numbers fit into 128 bits?": share(_DRAM / 4, _INSTRUCTION / 4),
        "this takes the energy of the arithmetic alone, without that of the instruction.": share(
            _DRAM / 4, 0.3
        ),
        "this multiplies the fetches by the multiply-adds, as if every weight was fetched each "
        "time that it is used.": _MULTIPLY_ADDS
        * _DRAM
        / 4
        / (_MULTIPLY_ADDS * (_DRAM / 4 + _INSTRUCTION / 16)),
        "these are the shares of the layers in all fetches. Compare two energies within one "
        "layer.": _WEIGHTS / _WEIGHTS.sum(),
    }
    for hint, wrong in mistakes.items():
        if np.allclose(given, wrong, rtol=5e-3, atol=2e-3):
            return hint
    if np.allclose(given, right, atol=6e-3):
        return "close: give three digits of each."
    if np.allclose(given / 100, right, atol=6e-3):
        return "these are percentages. A share goes from 0 to 1."
    names = np.array(["conv1", "conv2", "conv3", "logits"])
    off = ", ".join(names[~np.isclose(given, right, atol=2e-3)])
    return f"look again at {off}: the bytes of its weights, and how many instructions it takes."


# The kinds as the lesson names them, and other names for them.
_KINDS = {
    "float16": "float16",
    "weightonly": "weight-only",
    "dynamicrange": "dynamic range",
    "dynamic": "dynamic range",
    "fullinteger": "full integer",
    "fullintegerptq": "full integer",
    "qat": "QAT",
    "quantizationawaretraining": "QAT",
}
_RIGHT_KINDS = ("full integer", "dynamic range", "weight-only", "float16", "QAT")
# For each case, what speaks against each of the other kinds.
_OBJECTIONS = (
    {
        "float16": "this chip has no float arithmetic at all.",
        "weight-only": "its arithmetic and its activations are floats, which this chip has not.",
        "dynamic range": "between its layers the activations are floats, which this chip has not.",
        "QAT": "nobody has labels for these images, and no time for training is mentioned. Is "
        "there a kind that needs less?",
    },
    {
        "float16": "its arithmetic does not use the processor's 8-bit instructions.",
        "weight-only": "its arithmetic does not use the processor's 8-bit instructions.",
        "full integer": "it fixes the ranges of the activations before. From which images?",
        "QAT": "it needs the training data, and here there are no images at all.",
    },
    {
        "float16": "how many bits does it leave each weight? The file may have 4.",
        "dynamic range": "it would compute with integers, and here the activations are to stay "
        "exactly as they are.",
        "full integer": "it rounds the activations, which are to stay exactly as they are.",
        "QAT": "it needs the training data, and here there is none.",
    },
    {
        "weight-only": "that saves enough memory. Is there a milder kind that does, too?",
        "dynamic range": "its integer arithmetic is of no use to this GPU.",
        "full integer": "its integer arithmetic is of no use to this GPU.",
        "QAT": "it trains for integers, and this GPU has no use for them.",
    },
    {
        "float16": "how many bits does it leave each weight? The task allows 2.",
        "weight-only": "it rounds after training, and that has already failed here.",
        "dynamic range": "it rounds after training, and that has already failed here.",
        "full integer": "it rounds after training, and that has already failed here.",
    },
)


@exercise("01.2")
def _kinds(answer: Any) -> str | None:
    names = "abcde"
    if isinstance(answer, str) or len(answer) != len(names):
        return f"a list of five names is needed, one for each case, got {answer!r}."
    for case, name, right, objections in zip(names, answer, _RIGHT_KINDS, _OBJECTIONS, strict=True):
        letters = "".join(c for c in str(name).lower() if c.isalnum())
        kind = _KINDS.get(letters) or _KINDS.get(letters.removesuffix("quantization"))
        if kind is None:
            return f"{name!r} is none of the five names: {', '.join(sorted(set(_RIGHT_KINDS)))}."
        if kind != right:
            return f"({case}) {objections[kind]}"
    return None


@exercise("01.3")
def _hardest_digit(answer: Any) -> str | None:
    if np.shape(answer) != (2,):
        return f"a pair is needed, the digit and its accuracy, got {answer!r}."
    digit, share = float(answer[0]), float(answer[1])
    predicted, labels = _baseline_answers()
    wrong = predicted != labels
    missed = np.bincount(labels[wrong], minlength=10)
    taken = np.bincount(predicted[wrong], minlength=10)
    right = int(missed.argmax())
    if digit == taken.argmax() and digit != right:
        return "this is the digit that is most often predicted wrongly. Count by the label instead."
    if digit != right:
        return "of another digit the model gets more images wrong. Count the errors of each label."
    images = np.count_nonzero(labels == right)
    accuracy = 1 - missed[right] / images
    mistakes = {
        "the digit is right. This is its error rate.": missed[right] / images,
        "the digit is right. An accuracy goes from 0 to 1.": 100 * accuracy,
        "the digit is right. Divide by the images of this digit, not by all 10,000.": 1
        - missed[right] / len(labels),
        "the digit is right. Divide by the images of this digit, not by those that the model "
        "takes for it.": 1 - taken[right] / np.count_nonzero(predicted == right),
        "the digit is right. This is the accuracy on all digits.": 1 - wrong.mean(),
        "the digit is right. This is how many it gets wrong.": missed[right],
    }
    if abs(share - accuracy) < 1e-4:
        return None
    for hint, value in mistakes.items():
        if abs(share - value) < 1e-4 * max(1, value):
            return hint
    return "the digit is right. Of its images, which share does the model get right, to 4 digits?"


@exercise("01.4")
def _own_size(answer: Any) -> str | None:
    for model, bits in _models_to_size():
        weights, biases, other = _counts(model)
        right = packed_bytes(weights, bits) + 4 * biases
        got = float(answer(model, bits))
        if got == right:
            continue
        parameters = weights + biases + other
        unfolded = model.count_params()
        mistakes = {
            "it counts bits. A byte has 8.": {weights * bits + 32 * biases, parameters * bits},
            "it counts the parameters of batch norm too, which are folded away.": {
                packed_bytes(unfolded, bits),
                unfolded * bits / 8,
                unfolded * bits // 8,
                packed_bytes(unfolded - _own_biases(model), bits) + 4 * _own_biases(model),
            },
            "it gives the biases as few bits as the weights; they have 32.": {
                packed_bytes(weights + biases, bits),
                (weights + biases) * bits / 8,
                (weights + biases) * bits // 8,
            },
            "it leaves out the biases.": {packed_bytes(weights, bits), weights * bits / 8},
            "it leaves out the biases that folding batch norm creates.": {
                packed_bytes(weights, bits) + 4 * _own_biases(model)
            },
            "it counts a bias as one byte; 32 bits are more.": {
                packed_bytes(weights, bits) + biases
            },
            "a file has whole bytes only, so a part of a byte counts as one.": {
                weights * bits / 8 + 4 * biases,
                weights * bits // 8 + 4 * biases,
            },
            "the result is needed in bytes, not in kilobytes.": {right / 1000, right / 1024},
            "the result must depend on the bit width.": {4 * (weights + biases), 4 * unfolded},
        }
        for hint, values in mistakes.items():
            if got in values:
                return hint
        return (
            f"for the model {model.name} at {bits} bits it returns {got:,.10g}, which is too "
            f"{'few' if got < right else 'many'}. Which numbers are left once batch norm is "
            "folded, and how many bits has each?"
        )
    return None


@exercise("01.5")
def _own_two_shades(answer: Any) -> str | None:
    from quant_tutorial import metrics, mnist, models

    data = mnist.load()
    images = mnist.to_float(data.x_test)
    given = np.asarray(answer(images.copy()), np.float32)
    if given.shape != images.shape:
        return f"the result must have the shape of the images, {images.shape}, got {given.shape}."
    shades = np.unique(given)
    if len(shades) > 2:
        return f"one bit for each pixel allows two shades, and here are {len(shades):,}."
    if shades.max() > 2:
        return f"the model expects numbers from 0 to 1, and one shade is {shades.max():g}."
    share = metrics.accuracy(models.predict(models.load_baseline(), given), data.y_test)
    if share >= 0.985:
        return None
    hint = (
        "that is what rounding to 0 or 1 reaches."
        if abs(share - 0.982) < 2e-4
        else "try other values on training images."
    )
    return (
        f"{share:.2%} of the test images are right; {hint} Where do you cut, and at which shades?"
    )


@cache
def _baseline_answers() -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return the digits that the baseline predicts for the test images, and their labels."""
    from quant_tutorial import mnist, models

    data = mnist.load()
    logits = models.predict(models.load_baseline(), mnist.to_float(data.x_test))
    return logits.argmax(axis=1), data.y_test.astype(int)


@cache
def _models_to_size() -> tuple[tuple[Any, int], ...]:
    """Return models, each with a bit width, whose sizes differ for each typical mistake."""
    from quant_tutorial import models
    from quant_tutorial.frameworks import keras

    layers = keras.layers
    image = keras.Input((9, 9, 2))
    x = layers.Conv2D(8, 3, use_bias=False)(image)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(3, 3)(layers.ReLU()(x))
    small = keras.Model(image, layers.Dense(7)(layers.Flatten()(x)), name="small")
    return (models.load_baseline(), 3), (small, 5)


@cache
def _counts(model: Any) -> tuple[int, int, int]:
    """Return how many weights, biases and other parameters a model has with batch norm folded."""
    from quant_tutorial import models

    folded = models.fold_batch_norm(model)
    weights = sum(kernel.size for kernel in models.weights(folded).values())
    biases = _own_biases(folded)
    return weights, biases, folded.count_params() - weights - biases


def _own_biases(model: Any) -> int:
    return sum(
        int(np.prod(layer.bias.shape))
        for layer in model.layers
        if getattr(layer, "bias", None) is not None
    )
