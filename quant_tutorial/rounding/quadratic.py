"""Round one layer's weights so that its outputs change least: GPTQ on matrices (lesson 11).

A layer computes Y = X·W, with one row of X for each input and one column of W for each output. When
the weights of an output change by d, its squared error is a quadratic form of the change:

    ‖X·d‖² = ½·dᵀ·H·d          with the Hessian H = 2·Xᵀ·X

All functions here are NumPy only. Weights have the shape (inputs, outputs), and each output is a
problem of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from quant_tutorial.affine import QuantParams, dequantize, quantize, scale_and_zero_point

import numpy as np
from numpy.typing import NDArray

Rounder = Callable[[NDArray, NDArray, QuantParams], NDArray[np.int8]]

_SHARES = np.linspace(0.25, 1.0, 31)  # of the range of the weights, to search scales
_TURNS = 20  # single changes are tried at most so many times for each weight


def hessian(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return H = 2·Xᵀ·X of a layer's inputs X, shape (rows, inputs), in float64 (lesson 11).

    Raises:
        ValueError: for something else than a matrix with at least one row, or for values that are
            not finite.
    """
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"rows must have the shape (rows, inputs), rows ≥ 1, got {rows.shape}.")
    if not np.isfinite(rows).all():
        raise ValueError("rows must be finite, got NaN or infinite values.")
    return 2 * rows.T @ rows


def squared_error(
    change: NDArray[np.floating], hessian: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ½·dᵀ·H·d, each output's squared error summed over the rows, shape (outputs,).

    Lesson 11.

    Args:
        change: The change d of the weights, shape (inputs, outputs).
        hessian: The matrix H, shape (inputs, inputs).
    """
    change = np.asarray(change, np.float64)
    return np.maximum(0.5 * np.sum(change * (hessian @ change), axis=0), 0.0)


def rounding_error(
    weights: NDArray[np.floating],
    integers: NDArray[np.integer],
    hessian: NDArray[np.float64],
    params: QuantParams,
) -> NDArray[np.float64]:
    """Return the `squared_error` of rounded weights for each output, shape (outputs,).

    Lesson 11.
    """
    return squared_error(dequantize(integers, params, np.float64) - weights, hessian)


def nearest_layer(
    weights: NDArray[np.floating], hessian: NDArray[np.float64], params: QuantParams
) -> NDArray[np.int8]:
    """Round each weight to its nearest level, whatever the Hessian is (lesson 11)."""
    return quantize(weights, params)


def gptq_layer(
    weights: NDArray[np.floating],
    hessian: NDArray[np.float64],
    params: QuantParams,
    *,
    damp: float = 0.01,
    by_activity: bool = False,
) -> NDArray[np.int8]:
    """Round one input's weights after another, and let the others make up for it (lesson 11).

    This is GPTQ (Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative
    Pre-trained Transformers", ICLR 2023). After the weights of an input are rounded, the weights of
    the inputs still to come move to where the squared error is least. How far is in the Cholesky
    factor of the inverse Hessian, row by row. An output of which nearest rounding has the smaller
    error keeps nearest rounding, so that no error is ever larger.

    Args:
        weights: Float weights, shape (inputs, outputs).
        hessian: 2·Xᵀ·X of the layer's inputs, shape (inputs, inputs).
        params: The quantization parameters, with one scale or one for each output (axis −1).
        damp: The share of the mean diagonal that is added to the diagonal. It keeps weights from
            moving far where the inputs hardly vary.
        by_activity: Whether to begin with the inputs of the largest diagonal, those that matter
            most, while all others can still make up for them. By default in the given order.

    Returns:
        The integers, shape (inputs, outputs).

    Raises:
        ValueError: for shapes that do not match, values that are not finite, a negative `damp`, and
            without damping for a Hessian that cannot be inverted.
    """
    weights, hessian = _checked(weights, hessian)
    if not damp >= 0:
        raise ValueError(f"damp must be at least 0, got {damp!r}.")
    activity = np.diag(hessian)
    order = np.argsort(-activity, kind="stable") if by_activity else np.arange(len(activity))
    factor = _inverse_factor(hessian[np.ix_(order, order)], damp)
    moved, integers = weights[order], np.empty(weights.shape, np.int8)
    for row, unit in enumerate(factor):
        integers[order[row]] = quantize(moved[row], _of_row(params))
        error = moved[row] - dequantize(integers[order[row]], _of_row(params), np.float64)
        moved[row + 1 :] -= np.outer(unit[row + 1 :], error / unit[row])
    return better_of(weights, integers, quantize(weights, params), hessian, params)


def flip_layer(
    weights: NDArray[np.floating],
    integers: NDArray[np.integer],
    hessian: NDArray[np.float64],
    params: QuantParams,
    *,
    pairs: bool = False,
) -> NDArray[np.int8]:
    """Change single integers as long as a change makes the squared error smaller (lesson 11).

    Each time, the best change of one integer of each output is carried out. What a change by some
    steps does to the quadratic form follows at once from its slope and its diagonal. The result is
    a local minimum, in which no integer can be improved alone. It depends on the start, and it is
    never worse.

    Args:
        weights: Float weights, shape (inputs, outputs).
        integers: Where to start, of the same shape.
        hessian: 2·Xᵀ·X of the layer's inputs, shape (inputs, inputs).
        params: The quantization parameters, with one scale or one for each output (axis −1).
        pairs: Whether to go on with changes of two integers by one step each. The minimum is then
            lower, but each change takes a time that grows with the square of the inputs.

    Raises:
        ValueError: for shapes that do not match, or values that are not finite.
    """
    weights, hessian = _checked(weights, hessian)
    scale = np.broadcast_to(np.asarray(params.scale, np.float64), weights.shape[1:])
    change = dequantize(integers, params, np.float64) - weights
    steps = np.asarray(integers, np.float64)
    for output, own in enumerate(scale):
        # In steps of the scale, the error is ½·s·C·s + g·s.
        curves, slopes = hessian * own**2, hessian @ change[:, output] * own
        _flip(steps[:, output], slopes, curves, (params.qmin, params.qmax), pairs)
    return steps.astype(np.int8)


def search_scales(
    weights: NDArray[np.floating],
    hessian: NDArray[np.float64],
    params: QuantParams,
    round_with: Rounder = nearest_layer,
) -> QuantParams:
    """Choose the scales whose rounded weights have the least squared error (lesson 11).

    The range of the weights is tried at 31 sizes from a quarter to all of it, each as symmetric or
    asymmetric as `params`, and with one scale or one for each output as there.

    Args:
        weights: Float weights, shape (inputs, outputs), or (groups, inputs, outputs).
        hessian: 2·Xᵀ·X of the layer's inputs, shape (inputs, inputs), or one for each group.
        params: The quantization parameters to improve on.
        round_with: The function that rounds, called with weights, Hessian and parameters; by
            default the nearest level.
    """
    size = np.shape(weights)[-2:]
    stacks = np.reshape(weights, (-1, *size)), np.reshape(hessian, (-1, size[0], size[0]))
    tries = [_shrunk(stacks[0], params, share) for share in _SHARES]
    errors = np.concatenate(
        [
            _errors(*_checked(*matrices), [of_group(p, group, size[1]) for p in tries], round_with)
            for group, matrices in enumerate(zip(*stacks, strict=True))
        ],
        axis=1,
    )
    if params.axis is None:
        return tries[int(errors.sum(axis=1).argmin())]
    best = errors.argmin(axis=0), np.arange(errors.shape[1])
    return replace(
        params,
        scale=np.array([p.scale for p in tries])[best],
        zero_point=np.array([p.zero_point for p in tries])[best],
    )


def of_group(params: QuantParams, group: int, outputs: int) -> QuantParams:
    """Return the parameters of one group's weights; each group has so many outputs (lesson 11)."""
    if params.axis is None:
        return params
    own = slice(group * outputs, (group + 1) * outputs)
    return replace(params, scale=params.scale[own], zero_point=params.zero_point[own])


def better_of(
    weights: NDArray[np.floating],
    integers: NDArray[np.int8],
    others: NDArray[np.int8],
    hessian: NDArray[np.float64],
    params: QuantParams,
) -> NDArray[np.int8]:
    """Return for each output the integers of the smaller squared error (lesson 11)."""
    worse = rounding_error(weights, integers, hessian, params) > rounding_error(
        weights, others, hessian, params
    )
    return np.where(worse, others, integers)


def _flip(
    steps: NDArray[np.float64],
    slopes: NDArray[np.float64],
    curves: NDArray[np.float64],
    limits: tuple[int, int],
    pairs: bool,
) -> None:
    """Change one output's integers and slopes in place, until no change lowers the error."""
    diagonal = np.diag(curves)
    smallest = 1e-9 * diagonal.max(initial=0.0)  # a gain below is a matter of float64
    with np.errstate(divide="ignore"):
        inverse = np.where(diagonal > 0, 1 / diagonal, 0.0)
    for _ in range(_TURNS * len(steps)):
        changes = np.clip(np.rint(-slopes * inverse), limits[0] - steps, limits[1] - steps)
        gains = -(0.5 * diagonal * changes + slopes) * changes
        chosen = {gains.argmax(): changes[gains.argmax()]} if gains.max() > smallest else {}
        if not chosen and pairs:
            chosen = _best_pair(steps, slopes, curves, limits, smallest)
        if not chosen:
            return
        for index, change in chosen.items():
            steps[index] += change
            slopes += curves[:, index] * change


def _best_pair(
    steps: NDArray[np.float64],
    slopes: NDArray[np.float64],
    curves: NDArray[np.float64],
    limits: tuple[int, int],
    smallest: float,
) -> dict[int, int]:
    """Return the best change of two integers by one step each, or nothing if none is good."""
    best, chosen = smallest, {}
    alone = {
        sign: np.where(
            (steps + sign >= limits[0]) & (steps + sign <= limits[1]),
            -(0.5 * np.diag(curves) + sign * slopes),
            -np.inf,
        )
        for sign in (-1, 1)
    }
    for one, other in ((1, 1), (1, -1), (-1, -1)):
        gains = alone[one][:, np.newaxis] + alone[other] - one * other * curves
        np.fill_diagonal(gains, -np.inf)
        first, second = np.unravel_index(gains.argmax(), gains.shape)
        if gains[first, second] > best:
            best, chosen = gains[first, second], {int(first): one, int(second): other}
    return chosen


def _errors(
    weights: NDArray[np.float64],
    hessian: NDArray[np.float64],
    tries: Sequence[QuantParams],
    round_with: Rounder,
) -> NDArray[np.float64]:
    """Return the error of each output with each of several parameters, shape (tries, outputs)."""
    # All at once, as if they were further outputs.
    outputs = weights.shape[1]
    together = replace(
        tries[0],
        scale=np.concatenate([np.broadcast_to(p.scale, outputs) for p in tries]),
        zero_point=np.concatenate([np.broadcast_to(p.zero_point, outputs) for p in tries]),
        axis=-1,
    )
    tiled = np.tile(weights, len(tries))
    rounded = round_with(tiled, hessian, together)
    return rounding_error(tiled, rounded, hessian, together).reshape(-1, outputs)


def _shrunk(weights: NDArray[np.floating], params: QuantParams, share: float) -> QuantParams:
    """Return parameters for a share of the range of weights (groups, inputs, outputs)."""
    axes = None if params.axis is None else 1
    low, high = (
        np.asarray(end(weights, axis=axes), np.float64).ravel() for end in (np.min, np.max)
    )
    low, high = np.minimum(low, 0) * share, np.maximum(high, 0) * share
    scale, zero_point = scale_and_zero_point(low, high, params, symmetric=params.narrow_range)
    if params.axis is None:
        return replace(params, scale=float(scale[0]), zero_point=int(zero_point[0]))
    return replace(params, scale=scale, zero_point=zero_point.astype(np.int64))


def _of_row(params: QuantParams) -> QuantParams:
    """Return the parameters for one input's weights, shape (outputs,)."""
    return params if params.axis is None else replace(params, axis=0)


def _inverse_factor(hessian: NDArray[np.float64], damp: float) -> NDArray[np.float64]:
    """Return the upper triangular U with UᵀU = H⁻¹ of the damped Hessian.

    Row i of U, divided by its diagonal, is what row i of the inverse Hessian of the inputs from i
    on is, so that the inputs before have been taken out of it.
    """
    size = len(hessian)
    damped = hessian + np.eye(size) * damp * np.mean(np.diag(hessian))
    idle = np.diag(damped) <= 0  # inputs that are always 0: their weights change nothing
    damped[idle, idle] = 1.0
    try:
        return np.linalg.cholesky(np.linalg.inv(damped)).T
    except np.linalg.LinAlgError:
        raise ValueError(
            f"hessian of {size} inputs has no inverse: the rows do not differ in enough ways. Give "
            "more rows, or damp it, as with damp=0.01."
        ) from None


def _checked(
    weights: NDArray[np.floating], hessian: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weights, hessian = np.asarray(weights, np.float64), np.asarray(hessian, np.float64)
    if weights.ndim != 2 or hessian.shape != (len(weights), len(weights)):
        raise ValueError(
            "weights must have the shape (inputs, outputs) and hessian (inputs, inputs), got "
            f"{weights.shape} and {hessian.shape}."
        )
    for name, values in (("weights", weights), ("hessian", hessian)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite, got NaN or infinite values.")
    return weights, hessian
