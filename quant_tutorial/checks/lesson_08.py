"""Check the answers to the exercises of lesson 08."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from quant_tutorial.checks.registry import exercise, no_bytes

import numpy as np
from numpy.typing import NDArray

_HELD_OUT = 10_000  # of the last training images, for 08.3
_QUICK = 2_000  # the same for 08.6
_ENOUGH, _QUICK_ENOUGH = 0.97, 0.985
_MOST_STEPS = 300
_FLASH = 13_000

Gradient = Callable[[Any, float, int, int], Any]


@exercise("08.1")
def _straight_through(answer: Any) -> str | None:
    scale, low, high, upstream = 0.25, -8, 7, 3.0
    steps = np.array([-2.1, -0.4, 1.7, 1.8]) / scale
    inside = ((low <= steps) & (steps <= high)).astype(float)
    right = upstream * inside
    given = np.asarray(answer, float)
    if given.shape != right.shape:
        return f"four numbers are needed, got {given.shape}."
    mistakes = {
        "this is the gradient of the staircase itself. What does the estimator pretend?": 0 * right,
        "clipped values do not change when x changes a little.": upstream + 0 * right,
        "where it passes, the gradient from the loss passes. Here it is 3.": inside,
        "the factors ÷ s and · s cancel: look at the drawing.": right * scale,
        "the factors · s and ÷ s cancel: look at the drawing.": right / scale,
        "this is where gradients do not pass.": upstream - right,
    }
    for hint, wrong in mistakes.items():
        if np.allclose(given, wrong):
            return hint
    if np.allclose(given, upstream * np.array([0, 1, 1, 1])):
        return "number 4: 1.8 is rounded to the highest level. But is it inside before rounding?"
    wrong = np.flatnonzero(~np.isclose(given, right))
    return f"look at number {wrong[0] + 1}: is it inside −2 to 1.75?" if wrong.size else None


def _scale_gradient(
    x: NDArray[np.floating], scale: float, low: int, high: int, rounding: Callable = np.round
) -> NDArray[np.floating]:
    steps = x / scale
    inside = (low <= steps) & (steps <= high)
    return np.where(inside, rounding(steps) - steps, np.clip(steps, low, high))


def _levels(x: NDArray[np.floating], scale: float, low: int, high: int) -> NDArray[np.floating]:
    return np.clip(np.round(x / scale), low, high)


# What a wrong answer to 08.2 may compute, and what the mistake is.
_SUSPECTS: dict[str, Gradient] = {
    "rounds down, where the lesson rounds to the nearest level": lambda *a: _scale_gradient(
        *a, rounding=np.floor
    ),
    "rounds up, where the lesson rounds to the nearest level": lambda *a: _scale_gradient(
        *a, rounding=np.ceil
    ),
    "cuts off decimals, where the lesson rounds to the nearest level": lambda *a: _scale_gradient(
        *a, rounding=np.trunc
    ),
    "is right except for its sign": lambda *a: -_scale_gradient(*a),
    "is the gradient for the logarithm of the scale, which has one factor more": (
        lambda x, s, low, high: s * _scale_gradient(x, s, low, high)
    ),
    "leaves out the term −x/s inside the range": _levels,
    "leaves out the clipping": lambda x, s, low, high: np.round(x / s) - x / s,
    "is 0 outside the range, as the gradient for x is": lambda x, s, low, high: np.where(
        (low <= x / s) & (x / s <= high), np.round(x / s) - x / s, 0.0
    ),
    "subtracts x/s outside the range, too": lambda x, s, low, high: (
        _levels(x, s, low, high) - x / s
    ),
    "is the error in real units. In steps, it is divided by the scale": (
        lambda x, s, low, high: s * _levels(x, s, low, high) - x
    ),
    "is the gradient for x": lambda x, s, low, high: ((low <= x / s) & (x / s <= high)).astype(
        float
    ),
}


def _trials() -> list[tuple[NDArray[np.floating], float, int, int]]:
    rng, trials = np.random.default_rng(8), []
    for scale, zero_point, bits in ((0.3, 0, 3), (0.1, -4, 4), (0.02, 10, 8)):
        x = rng.normal(0, 1, 400)
        apart = np.abs(np.abs(x / scale % 1) - 0.5) > 0.02  # no ties, and nothing near them
        low, high = -(2 ** (bits - 1)) - zero_point, 2 ** (bits - 1) - 1 - zero_point
        ends = np.minimum(np.abs(x / scale - low), np.abs(x / scale - high)) > 0.02
        trials.append((x[apart & ends], scale, low, high))
    return trials


def _differs(found: list[NDArray[np.floating]], other: Gradient) -> bool:
    pairs = zip(found, _trials(), strict=True)
    return any(not np.allclose(one, other(*trial), atol=1e-3) for one, trial in pairs)


@exercise("08.2")
def _own_scale_gradient(answer: Any) -> str | None:
    if not callable(answer):
        return "a function is needed: def my_scale_gradient(x, scale, low, high)."
    found = []
    for x, scale, low, high in _trials():
        given = np.asarray(answer(x.copy(), scale, low, high), float)
        if given.shape != x.shape:
            return f"the result must have the shape {x.shape}, got {given.shape}."
        found.append(given)
    if not _differs(found, _scale_gradient):
        return None
    for mistake, suspect in _SUSPECTS.items():
        if not _differs(found, suspect):
            return f"it seems that your function {mistake}."
    for given, trial in zip(found, _trials(), strict=True):
        x, scale, low, high = trial
        right = _scale_gradient(*trial)
        if not np.allclose(given, right, atol=1e-3):
            i = int(np.argmax(np.abs(given - right)))
            return (
                f"at x = {x[i]:.3f}, scale {scale}, low {low}, high {high} it is {right[i]:.3f}, "
                f"not {given[i]:.3f}."
            )
    return None


@cache
def _shipped_kernels() -> list[NDArray[np.floating]]:
    from quant_tutorial import models, qat

    names = [name for name, config in qat.SHIPPED.items() if config.ranges == "learned"]
    trained = (qat.float_model(qat.load_trained(name)) for name in names)
    return [models.weights(model)["conv2"] for model in trained]


def _is_not_ones_own(model: Any, activation_bits: int) -> str | None:
    """Return a hint unless a model is one of `quantize_aware` with 2-bit weights, and new."""
    from quant_tutorial import models, qat
    from quant_tutorial.frameworks import keras

    if not isinstance(model, keras.Model):
        return f"a Keras model is needed, not {type(model).__name__}."
    params = qat.trained_params(model)
    for name, chosen in params.weights.items():
        if chosen is None or chosen.bits != 2:
            return f"the weights of {name} have {chosen.bits if chosen else 32} bits, not 2."
    for name, chosen in params.activations.items():
        most = 8 if name == "image" else activation_bits
        if chosen is None or chosen.bits > most:
            bits = chosen.bits if chosen else 32
            return f"the activations of {name} have {bits} bits, at most {most} are asked for."
    kernel = models.weights(qat.float_model(model))["conv2"]
    if any(np.array_equal(kernel, other) for other in _shipped_kernels()):
        return "this is a model that ships with the course. Train one of your own."
    return None


def _share(model: Any, count: int) -> float:
    """Return the accuracy of a model on the last training images."""
    from quant_tutorial import metrics, mnist, models

    data = mnist.load()
    outputs = models.predict(model, mnist.to_float(data.x_train[-count:]))
    return metrics.accuracy(outputs, data.y_train[-count:])


@exercise("08.3")
def _own_two_bit_model(answer: Any) -> str | None:
    if hint := _is_not_ones_own(answer, 8):
        return hint
    share = _share(answer, _HELD_OUT)
    if share >= _ENOUGH:
        return None
    return f"it gets {share:.1%} right, {_ENOUGH:.0%} are needed: more steps, or a larger rate?"


@exercise("08.4")
def _packed_file(answer: Any) -> str | None:
    if not isinstance(answer, bytes | bytearray):
        return no_bytes(answer)
    from quant_tutorial import models, qat, tflite
    from quant_tutorial.affine import quantize

    content = bytes(answer)
    inspection = tflite.inspect(content)
    if not inspection.integer_only:
        return f"the device has integer kernels only, and {inspection.reason}."
    floats, trained = qat.floats_and_params(qat.load_trained("W4A8"))
    stored = qat.file_weights(content)
    for name, kernel in models.weights(floats).items():
        integers = quantize(kernel, trained.weights[name])
        wanted = models.litert_layout(floats.get_layer(name), integers)
        found = stored.get(name)
        if found is None or not np.array_equal(found[0], wanted):
            return f"the weights of {name} are not those of the W4A8 model. Where are they from?"
    if len(content) > _FLASH:
        return (
            f"{len(content):,} bytes do not fit into {_FLASH:,}. Each weight takes a byte, and "
            "needs half of it."
        )
    return None


@exercise("08.5")
def _decisions(answer: Any) -> str | None:
    given = [letter for letter in "".join(answer).upper() if letter not in " ,"]
    if len(given) != 4 or not set(given) <= set("ABCD"):
        return 'four letters from A to D are needed, such as "AAAA".'
    right = "ABCD"
    hints = (
        {
            "B": "team 1 is inside its limit already. What more does it want?",
            "C": "training gains next to nothing at 8 bits, and the team is inside its limit.",
            "D": "nothing is said of speed. The loss is inside the limit.",
        },
        {
            "A": "team 2 loses 2 points, and its limit is 0.5.",
            "C": "team 2 has no labels, so it cannot train. And something cheaper is untried.",
            "D": "first the accuracy: 2 points are lost.",
        },
        {
            "A": "team 3 loses 3 points, and its limit is 0.5.",
            "B": "what does B offer that team 3 has not done? And what does the team have?",
            "D": "first the accuracy: 3 points are lost.",
        },
        {
            "A": "team 4 is inside its limit, but what did it want 4 bits for?",
            "B": "team 4 is inside its limit. Accuracy is not what it lacks.",
            "C": "team 4 is inside its limit. Training would make it no faster.",
        },
    )
    for letter, wanted, of in zip(given, right, hints, strict=True):
        if letter != wanted:
            return of[letter]
    return None


@exercise("08.6")
def _quick_model(answer: Any) -> str | None:
    if hint := _is_not_ones_own(answer, 2):
        return hint
    optimizer = getattr(answer, "optimizer", None)
    if optimizer is None:
        return "it was never compiled, so it has not been trained."
    steps = int(optimizer.iterations)
    if steps > _MOST_STEPS:
        return f"it was trained for {steps:,} steps; {_MOST_STEPS} are allowed."
    share = _share(answer, _QUICK)
    if share >= _QUICK_ENOUGH:
        return None
    return (
        f"it gets {share:.1%} of the last {_QUICK:,} training images right after {steps} steps; "
        f"{_QUICK_ENOUGH:.1%} are needed."
    )
