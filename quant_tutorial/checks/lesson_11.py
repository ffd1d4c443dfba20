"""Check the answers to the exercises of lesson 11."""

from __future__ import annotations

import itertools
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from quant_tutorial import affine
from quant_tutorial.checks.registry import exercise, is_number

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from quant_tutorial.simulate import ModelParams, Simulator

_WEIGHTS = np.array([0.3, 0.4, 0.8])
_HESSIAN = np.array([[1, 0.7, -0.6], [0.7, 1, -0.7], [-0.6, -0.7, 1]])
_CHANGES, _MEANS = np.array([0.1, -0.3, 0.2]), np.array([2.0, 1.0, 4.0])
_BITS = 2


@exercise("11.1")
def _three_weights(answer: Any) -> str | None:
    given = np.asarray(answer, float)
    if given.shape != _WEIGHTS.shape or not np.all(np.isin(given, (0, 1))):
        return "three integers are needed, each 0 or 1."
    roundings = [np.array(choice) for choice in itertools.product((0, 1), repeat=3)]
    ordered = sorted(roundings, key=lambda rounding: _error(rounding, _HESSIAN))
    opposite = 2 * np.diag(np.diag(_HESSIAN)) - _HESSIAN
    if np.array_equal(given, ordered[0]):
        return None
    found = f"its error is {_error(given, _HESSIAN):.3f}"
    if np.array_equal(given, np.round(_WEIGHTS)):
        return f"{found}: these are the nearest levels. Which errors add up, which cancel?"
    if np.array_equal(given, min(roundings, key=lambda rounding: _error(rounding, opposite))):
        return f"{found}: look at the signs outside the diagonal of H."
    if np.array_equal(given, ordered[1]):
        return f"{found}, which is good, and one of the eight roundings has less."
    return f"{found}: there are eight roundings; compute the error of each."


def _error(rounding: NDArray[np.floating], hessian: NDArray[np.floating]) -> float:
    change = rounding - _WEIGHTS
    return float(change @ hessian @ change)


@exercise("11.2")
def _corrected_bias(answer: Any) -> str | None:
    shift = float(_CHANGES @ _MEANS)
    hints = {
        shift: "that is how far the output has moved; the bias has to bring it back.",
        -float(_CHANGES.sum()): "each change counts as often as its input is large.",
        -shift / len(_MEANS): "an output is the sum over its inputs, not their mean.",
    }
    given = float(answer)
    for wrong, hint in hints.items():
        if np.isclose(given, wrong, atol=1e-3):
            return hint
    return is_number(given, -shift, "by how much does each change move the mean of the output?")


@exercise("11.3")
def _own_update(answer: Any) -> str | None:
    random = np.random.default_rng(11)
    for count in (2, 3, 6):
        inputs = random.normal(size=(50, count)) @ random.normal(size=(count, count))
        hessian = inputs.T @ inputs / 50
        for place in range(count):
            error = float(random.normal())
            inverse = np.linalg.inv(hessian)[place]
            right = error * inverse / inverse[place]
            given = np.asarray(answer(hessian.copy(), place, error), float)
            hint = _about_update(given, right, hessian, place, error)
            if hint is not None:
                return hint
    return None


def _about_update(
    given: NDArray[np.floating],
    right: NDArray[np.floating],
    hessian: NDArray[np.floating],
    place: int,
    error: float,
) -> str | None:
    """Return what is wrong with the changes that answer an error, or None."""
    if given.shape != right.shape:
        return f"one change for each of the {len(right)} weights is needed, got {given.shape}."
    if np.allclose(given, right, rtol=1e-4, atol=1e-7):
        return None
    if not np.isclose(given[place], error):
        return (
            f"weight i itself has to change by the error, {error:.3f}, not by {given[place]:.3f}."
        )
    others = np.arange(len(right)) != place
    if not given[others].any():
        return "the other weights stay as they are: which changes of theirs undo the error best?"
    if np.allclose(given[others], -right[others]):
        return "the other weights move in the wrong direction: the error grows."
    if np.allclose(given[others], error * hessian[place, others] / hessian[place, place]):
        return "that is a row of H; where does the derivative for the other weights become 0?"
    found, least = (float(change @ hessian @ change) for change in (given, right))
    where = f"with {len(right)} weights and i = {place}"
    return f"{where} the error is {found:.4f}; {least:.4f} can be had."


@exercise("11.4")
def _own_equalize(answer: Any) -> str | None:
    random = np.random.default_rng(4)
    first = random.normal(size=(5, 4)) * [0.01, 1, 5, 30]
    bias, second = random.normal(size=4) * [0.01, 1, 5, 30], random.normal(size=(4, 3))
    given = answer(first.copy(), bias.copy(), second.copy())
    one, shift, two = (np.asarray(part, float) for part in given)
    for name, part, like in (("w1", one, first), ("b1", shift, bias), ("w2", two, second)):
        if part.shape != like.shape:
            return f"{name} must keep its shape {like.shape}, got {part.shape}."
    x = random.normal(size=(100, 5))
    before = np.maximum(x @ first + bias, 0) @ second
    if not np.allclose(np.maximum(x @ one + shift, 0) @ two, before):
        if np.allclose(shift, bias) and not np.allclose(one, first):
            return "the outputs have changed: the bias belongs to the channel as well."
        return "the outputs have changed: what one layer is divided by, the other is multiplied by."
    into, out = np.abs(one).max(axis=0), np.abs(two).max(axis=1)
    if np.allclose(into, out):
        return None
    if np.allclose(one, first):
        return "the outputs are the same, but so are the ranges."
    swapped = np.abs(second).max(axis=1), np.abs(first).max(axis=0)
    if np.allclose(into, swapped[0]) and np.allclose(out, swapped[1]):
        return (
            "the two layers have swapped their ranges: half of that ratio is enough, in decibels."
        )
    return (
        f"channel 0 has the range {into[0]:.3f} in w1 and {out[0]:.3f} in w2; they must be equal."
    )


class Claim(NamedTuple):
    """A rounding of conv2's weights, and what is said of it (lesson 11)."""

    integers: NDArray[np.int8]
    error: float  # of the outputs, as claimed: mean over the rows, summed over the channels


@cache
def three_claims() -> dict[str, Claim]:
    """Return three roundings of conv2's weights to 2 bits; one has a false claim (lesson 11)."""
    from quant_tutorial import mnist, rounding

    simulator, params = _two_bits()
    chosen, weights = params.weights["conv2"], simulator.weights["conv2"]
    matrix = weights.reshape(-1, weights.shape[-1])
    images = mnist.to_float(mnist.load().x_train[:1000])
    many, few = (_conv2_hessian(simulator, some) for some in (images, images[70:71]))
    found = {
        "A": (affine.quantize(matrix, chosen), many),
        "B": (rounding.gptq_layer(matrix, few, chosen), few),
        "C": (rounding.gptq_layer(matrix, many, chosen), many),
    }
    claims = {}
    for name, (integers, hessian) in found.items():
        change = affine.dequantize(integers, chosen) - matrix
        error = float(np.sum(change * (hessian @ change)))
        claims[name] = Claim(integers.reshape(weights.shape), round(error, 1))
    return claims


@exercise("11.5")
def _false_claim(answer: Any) -> str | None:
    if answer not in ("A", "B", "C"):
        return "one of the names A, B, C is needed."
    hints = {
        "A": "A has the largest error, and says so. Which of the three is worse than it says?",
        "C": "C keeps its word: measure all three on images that none of them was made from.",
    }
    return hints.get(answer)


@exercise("11.6")
def _repaired_layer(answer: Any) -> str | None:
    from quant_tutorial import metrics, mnist, models, simulate

    name, integers, bias = answer
    simulator, params = _two_bits()
    if name not in simulator.weights:
        return f"the name of a layer comes first: one of {', '.join(simulator.weights)}."
    chosen, weights = params.weights[name], simulator.weights[name]
    integers, bias = np.asarray(integers), np.asarray(bias, np.float32)
    for what, given, shape in (
        ("integers", integers, weights.shape),
        ("biases", bias, weights.shape[-1:]),
    ):
        if given.shape != shape:
            return f"the {what} of {name} have the shape {shape}, not {given.shape}."
    if not np.all(np.isin(integers, (-1, 0, 1))):
        return "2-bit weights are −1, 0 or 1: give the integers, not the real values."
    quantized = {
        n: affine.fake_quantize(w, params.weights[n]) for n, w in simulator.weights.items()
    }
    quantized[name] = affine.dequantize(integers.astype(np.int8), chosen)
    model = models.copied(simulator.model)
    models.set_weights(model, quantized)
    model.get_layer(name).bias.assign(bias)
    data = mnist.load()
    outputs = models.predict(simulate.with_params(model, params), mnist.to_float(data.x_test))
    share = metrics.accuracy(outputs, data.y_test)
    if share >= 0.9:
        return None
    hint = f"it gets {share:.1%} of the test images right, and 90% are needed"
    if np.allclose(bias, simulator.model.get_layer(name).bias):
        return f"{hint}: the bias is still that of the float model. What does the layer really get?"
    return f"{hint}: which layer comes after most of the errors?"


@cache
def _two_bits() -> tuple[Simulator, ModelParams]:
    """Return the baseline's simulator, and the parameters of the lesson at 2 bits."""
    from quant_tutorial import mnist, models
    from quant_tutorial.scheme import QuantScheme, TensorScheme
    from quant_tutorial.simulate import Simulator

    simulator = Simulator(models.load_baseline(), mnist.to_float(mnist.load().x_train[:1000]))
    weights = TensorScheme(_BITS, symmetric=True, granularity="channel-wise", calibrator="mse")
    return simulator, simulator.params(QuantScheme(weights, TensorScheme(8, calibrator="mse")))


def _conv2_hessian(simulator: Simulator, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean products of conv2's inputs, shape (inputs, inputs)."""
    from quant_tutorial import models, rounding
    from quant_tutorial.frameworks import keras

    model = simulator.model
    layer = model.get_layer("conv2")
    values = models.predict(keras.Model(model.input, layer.input), images)
    rows = rounding.patches(layer, values)[0].astype(np.float64)
    return rows.T @ rows / len(rows)
