"""Round one layer's weights for its outputs behind the activation function (lesson 11).

What the next layer gets is not X·W but the activation function of it. A ReLU cuts every negative
sum to 0, so that errors of such sums do not matter. The squared error is then no quadratic form.
`adaround_layer` makes it small by gradient descent, `descend_layer` by single changes.

All functions here are NumPy only, and a layer's matrices have a first axis for its groups: inputs
X (groups, rows, inputs), weights (groups, inputs, outputs), targets (groups, rows, outputs). The
parameters and the bias are given in the same form, as arrays of shape (groups, 1, outputs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from quant_tutorial.affine import round_half_away

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_STRETCH_LOW, _STRETCH_HIGH = -0.1, 1.1  # γ and ζ of the paper
_WARM = 0.2  # the share of the steps without regularization
_BETA = 20.0, 2.0  # the exponent of the regularization at its start and at its end


@dataclass(frozen=True)
class Layer:
    """A layer's matrices, for which its weights are rounded (lesson 11).

    Attributes:
        inputs: The inputs X that the rounded layer gets, shape (groups, rows, inputs).
        targets: The float model's outputs behind the activation function, for the same rows, shape
            (groups, rows, outputs).
        weights: The float weights, shape (groups, inputs, outputs).
        bias: The float bias, shape (groups, 1, outputs).
        zero_point: The zero points of the weights, shape (groups, 1, outputs).
        qmin: The smallest integer.
        qmax: The largest integer.
        activation: "linear", "relu" or "relu6".
    """

    inputs: Array
    targets: Array
    weights: Array
    bias: Array
    zero_point: Array
    qmin: int
    qmax: int
    activation: str

    def error(self, sums: Array) -> NDArray[np.float64]:
        """Return each output's squared error, summed over the rows, shape (groups, 1, outputs)."""
        difference = activated(sums, self.activation) - self.targets
        return np.einsum("gro,gro->go", difference, difference, dtype=np.float64)[:, np.newaxis]

    def sums(self, weights: Candidate) -> Array:
        """Return the sums X·Ŵ + b, before the activation function."""
        return self.inputs @ self.real(weights) + weights.bias

    def real(self, weights: Candidate) -> Array:
        """Return the real values of integer weights."""
        return (weights.integers - self.zero_point) * weights.scale


class Candidate(NamedTuple):
    """How a layer may be rounded (lesson 11)."""

    integers: Array  # as floats, shape (groups, inputs, outputs)
    scale: Array  # shape (groups, 1, outputs)
    bias: Array  # shape (groups, 1, outputs)


def activated(sums: Array, activation: str) -> Array:
    """Return the activation function of the sums: "linear", "relu" or "relu6" (lesson 11)."""
    if activation == "linear":
        return sums
    return np.clip(sums, 0, 6 if activation == "relu6" else None)


def adaround_layer(
    layer: Layer,
    start: Candidate,
    *,
    steps: int,
    seed: int = 0,
    rows: int = 2048,
    rate: float = 0.01,
    regularization: float = 30.0,
    learn_bias: bool = True,
    advance: Callable[[int], None] = lambda step: None,
) -> Candidate:
    """Learn for each weight whether to round it down or up (lesson 11).

    This is AdaRound (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization",
    ICML 2020). A weight becomes floor(w / s) + h with h = clip(1.2·σ(v) − 0.1, 0, 1), and Adam
    learns the v. The regularization 1 − |2h − 1|^β pushes each h to 0 or 1: not at all in the first
    fifth of the steps, then first only where h is close to an end, with β from 20 down to 2.

    It departs from the paper in three ways. The bias is learned too. The steps are fewer and
    larger. And the error of each output is divided by that of nearest rounding, times the number
    of weights, so that one strength of regularization suits all layers.

    Args:
        layer: The matrices.
        start: Scales and bias; its integers do not matter.
        steps: How many steps Adam makes.
        seed: The random seed, which fixes the rows of each step.
        rows: How many rows of the inputs a step sees.
        rate: Adam's learning rate.
        regularization: The strength λ of the regularization.
        learn_bias: Whether the bias is learned as well.
        advance: Called with the number of the step, to show progress.
    """
    random = np.random.default_rng(seed)
    scale, size = start.scale, layer.weights.shape[1]
    exact = layer.weights / scale + layer.zero_point
    integers = np.clip(round_half_away(exact), layer.qmin, layer.qmax)
    nearest = start._replace(integers=integers)
    low = np.floor(exact)
    share = np.clip(exact - low, 0.01, 0.99) - _STRETCH_LOW
    share /= _STRETCH_HIGH - _STRETCH_LOW
    values = [np.log(share / (1 - share)), start.bias.copy()]
    error = layer.error(layer.sums(nearest)) / layer.inputs.shape[1]
    unit = (size / np.maximum(error, 1e-12)).astype(np.float32)
    # The bias moves in the unit of the outputs' error, the v in their own.
    rates = [np.float32(rate), (0.1 * rate * np.sqrt(error)).astype(np.float32)]
    adam = _Adam(values, rates)
    for step in range(steps):
        some = slice(None)
        if layer.inputs.shape[1] > rows:
            some = random.integers(0, layer.inputs.shape[1], rows)
        inputs, targets = layer.inputs[:, some], layer.targets[:, some]
        up, slope = _rectified(values[0])
        integers = low + up
        inside = (integers >= layer.qmin) & (integers <= layer.qmax)
        clipped = np.clip(integers, layer.qmin, layer.qmax)
        sums = inputs @ ((clipped - layer.zero_point) * scale) + values[1]
        difference = activated(sums, layer.activation) - targets
        difference *= 2 / inputs.shape[1] * unit
        if layer.activation != "linear":
            difference *= (sums > 0) & (sums < (6 if layer.activation == "relu6" else np.inf))
        gradient = inputs.transpose(0, 2, 1) @ difference * scale * inside
        part = (step / steps - _WARM) / (1 - _WARM)
        if part > 0:
            beta = _BETA[1] + (_BETA[0] - _BETA[1]) * (1 - part)
            side = 2 * up - 1
            push = 2 * beta * np.abs(side) ** (beta - 1) * np.sign(side)
            gradient -= regularization * push
        gradients = [gradient * slope]
        if learn_bias:
            gradients.append(difference.sum(axis=1, keepdims=True))
        adam.move(gradients)
        advance(step + 1)
    up, _ = _rectified(values[0])
    integers = np.clip(low + (up >= 0.5), layer.qmin, layer.qmax)
    return better_of(layer, start._replace(integers=integers, bias=values[1]), nearest)


def descend_layer(
    layer: Layer,
    start: Candidate,
    *,
    sweeps: int,
    seed: int = 0,
    learn_scale: bool = True,
    learn_bias: bool = True,
    advance: Callable[[int], None] = lambda sweep: None,
) -> Candidate:
    """Change single integers by one step wherever this makes the error smaller (lesson 11).

    A sweep visits all inputs in random order, and tries the weight of each output one step down and
    one up. After each sweep, scale and bias are fitted to the new integers by least squares
    (Gauss-Newton). It ends early when a sweep changes nothing.

    Args:
        layer: The matrices.
        start: Where to start; the result is never worse.
        sweeps: How many sweeps to make at most.
        seed: The random seed, which fixes the order of the inputs.
        learn_scale: Whether the scale of each output is fitted to the integers.
        learn_bias: Whether the bias of each output is.
        advance: Called with the number of the sweep, to show progress.
    """
    random = np.random.default_rng(seed)
    found = start
    for sweep in range(sweeps):
        found = _fitted(layer, found, learn_scale, learn_bias)
        integers = _swept(layer, found, random.permutation(layer.inputs.shape[2]))
        same = np.array_equal(integers, found.integers)
        found = found._replace(integers=integers)
        advance(sweep + 1)
        if same:
            break
    return better_of(layer, _fitted(layer, found, learn_scale, learn_bias), start)


def better_of(layer: Layer, found: Candidate, other: Candidate) -> Candidate:
    """Return for each output the candidate of the smaller error (lesson 11)."""
    worse = layer.error(layer.sums(found)) > layer.error(layer.sums(other))
    return Candidate(*(np.where(worse, b, a) for a, b in zip(found, other, strict=True)))


def _rectified(values: Array) -> tuple[Array, Array]:
    """Return the rectified sigmoid h(v) and its slope."""
    sigmoid = 1 / (1 + np.exp(-values))
    stretch = _STRETCH_HIGH - _STRETCH_LOW
    up = sigmoid * stretch + _STRETCH_LOW
    slope = stretch * sigmoid * (1 - sigmoid) * ((up > 0) & (up < 1))
    return np.clip(up, 0, 1), slope


class _Adam:
    """Adam (Kingma and Ba, ICLR 2015) for arrays that it changes in place."""

    def __init__(self, values: list[Array], rates: list[Array]) -> None:
        self._values, self._rates, self._step = values, rates, 0
        self._means = [(np.zeros_like(v), np.zeros_like(v)) for v in values]

    def move(self, gradients: list[Array]) -> None:
        self._step += 1
        for value, rate, (mean, square), gradient in zip(
            self._values, self._rates, self._means, gradients, strict=False
        ):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            long_mean = mean / (1 - 0.9**self._step)
            long_square = square / (1 - 0.999**self._step)
            value -= rate * long_mean / (np.sqrt(long_square) + 1e-8)


def _swept(layer: Layer, found: Candidate, order: NDArray[np.intp]) -> Array:
    """Return the integers after each input's weights have been tried one step down and up."""
    integers = found.integers.copy()
    sums = layer.sums(found)
    error = layer.error(sums)
    for i in order:
        column = layer.inputs[:, :, i, np.newaxis]
        if not column.any():
            continue
        best, chosen = error * (1 - 1e-6), np.zeros_like(found.scale)
        for step in (-1, 1):
            moved = integers[:, i, np.newaxis] + step
            valid = (moved >= layer.qmin) & (moved <= layer.qmax)
            if not valid.any():
                continue
            tried = layer.error(sums + column * (step * found.scale))
            better = valid & (tried < best)
            best, chosen = np.where(better, tried, best), np.where(better, step, chosen)
        if chosen.any():
            integers[:, i] += chosen[:, 0]
            sums += column * (chosen * found.scale)
            error = np.where(chosen != 0, best, error)
    return integers


def _fitted(layer: Layer, start: Candidate, learn_scale: bool, learn_bias: bool) -> Candidate:
    """Return the scale and the bias with the least error for the integers, by Gauss-Newton."""
    steps = layer.inputs @ (start.integers - layer.zero_point)
    scale, bias = start.scale, start.bias

    def measured(scale: Array, bias: Array) -> tuple[Array, NDArray[np.float64]]:
        sums = steps * scale + bias
        return sums, layer.error(sums)

    sums, error = measured(scale, bias)
    for _ in range(6):
        free = np.ones_like(sums, bool)
        if layer.activation != "linear":
            free = (sums > 0) & (sums < (6 if layer.activation == "relu6" else np.inf))
        missing = np.where(free, layer.targets - sums, 0)
        moving = np.where(free, steps, 0)

        def total(values: Array) -> NDArray[np.float64]:
            return values.sum(axis=1, keepdims=True, dtype=np.float64)

        count, first, second = total(free), total(moving), total(moving * steps)
        rest, product = total(missing), total(missing * steps)
        if not learn_bias:
            first, rest = np.zeros_like(first), np.zeros_like(rest)
        if not learn_scale:
            first, product = np.zeros_like(first), np.zeros_like(product)
        determinant = np.maximum(count * second - first**2, 1e-9 * (count * second + 1))
        scale_move = (count * product - first * rest) / determinant
        bias_move = (second * rest - first * product) / determinant
        tried = (
            np.maximum(scale + scale_move, scale / 2).astype(np.float32),
            (bias + bias_move).astype(np.float32),
        )
        new_sums, new_error = measured(*tried)
        better = new_error < error
        if not better.any():
            break
        scale, bias = np.where(better, tried[0], scale), np.where(better, tried[1], bias)
        sums, error = np.where(better, new_sums, sums), np.where(better, new_error, error)
    return start._replace(scale=scale, bias=bias)
