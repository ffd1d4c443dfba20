"""Round a model's weights for the outputs behind the activation functions (lesson 11)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from quant_tutorial.affine import QuantParams
from quant_tutorial.arguments import checked_choice, checked_whole
from quant_tutorial.rounding.matrices import moments, rows_of, weight_matrices, weights_from
from quant_tutorial.rounding.outputs import (
    Candidate,
    Layer,
    activated,
    adaround_layer,
    descend_layer,
)
from quant_tutorial.rounding.quadratic import gptq_layer, nearest_layer
from quant_tutorial.rounding.rounded import Rounded
from quant_tutorial.rounding.walk import (
    Choice,
    Task,
    check_enough,
    check_same_model,
    round_layers,
    scaled_for,
)
from quant_tutorial.scheme import QuantScheme
from quant_tutorial.simulate import Simulator

import numpy as np
from numpy.typing import NDArray

_NUMBERS = 2**25  # of a layer's input rows at most, so that they take 128 MB


def adaround(
    simulator: Simulator,
    scheme: QuantScheme,
    images: Any,
    *,
    steps: int = 1500,
    seed: int = 0,
    rows: int = 60_000,
    scales: str = "gptq",
    learn_bias: bool = True,
    progress: bool = False,
) -> Rounded:
    """Round the weights by AdaRound, layer after layer; see `adaround_layer` (lesson 11).

    Each layer is rounded for the inputs that it gets from the rounded layers before, with
    activations rounded as the scheme says. The target is the output of the float model, behind the
    activation function.

    Args:
        simulator: The model.
        scheme: Bit widths and the rest, for each kind of tensor and for single layers.
        images: Unlabelled images as the model takes them, shape (n, …); of several inputs a mapping
            or a list, see `Simulator`.
        steps: How many steps Adam makes for each layer.
        seed: The random seed.
        rows: How many rows of a layer's inputs are used at most, drawn at random.
        scales: Where the scales of the weights come from, as in `gptq`. At 2 bits those of "gptq"
            are best; the paper takes those of least squared error of the weights.
        learn_bias: Whether the biases are learned as well, which the paper does not do.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: for images that the model does not take or that are too few for a layer, for
            unknown `scales`, fewer than one step, and when there is no layer to round.
    """
    steps, rows = checked_whole("steps", steps, 1), checked_whole("rows", rows, 1)
    searches = {"scheme": None, "nearest": nearest_layer, "gptq": gptq_layer}
    search = searches[checked_choice("scales", scales, searches)]

    def choose(task: Task) -> Choice:
        check_enough(task)
        found = moments(task.layer, task.inputs)
        params = scaled_for(task, found, scheme, search)
        layer = _layer(task, params, rows, seed)
        start = _candidate(task, params, np.zeros(task.weights.shape, np.int8), task.bias)
        learned = adaround_layer(
            layer,
            start,
            steps=steps,
            seed=seed,
            learn_bias=learn_bias and task.bias is not None,
            advance=task.advance,
        )
        return _choice(task, params, learned)

    params = simulator.params(scheme)
    return round_layers(simulator, params, images, choose, parts=steps, progress=progress)


def refine(
    simulator: Simulator,
    rounded: Rounded,
    images: Any,
    *,
    sweeps: int = 5,
    seed: int = 0,
    rows: int = 30_000,
    learn_scales: bool = True,
    progress: bool = False,
) -> Rounded:
    """Improve a rounded model by single changes, layer after layer; see `descend_layer`.

    Inputs and targets are as in `adaround`. Scales are only learned where each output has its own.
    Lesson 11.

    Args:
        simulator: The model that was rounded.
        rounded: The result of a rounding method.
        images: Unlabelled images as the model takes them, shape (n, …); of several inputs a mapping
            or a list, see `Simulator`.
        sweeps: How many times each weight is tried one step down and one up, at most.
        seed: The random seed.
        rows: How many rows of a layer's inputs are used at most, drawn at random.
        learn_scales: Whether the scales of the weights are learned as well.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: for images that the model does not take or that are too few for a layer, fewer
            than one sweep, or another model's result.
    """
    sweeps, rows = checked_whole("sweeps", sweeps, 1), checked_whole("rows", rows, 1)
    check_same_model(simulator, rounded)

    def choose(task: Task) -> Choice:
        check_enough(task)
        start = _candidate(
            task, task.params, rounded.integers[task.name], rounded.biases.get(task.name)
        )
        better = descend_layer(
            _layer(task, task.params, rows, seed),
            start,
            sweeps=sweeps,
            seed=seed,
            learn_scale=learn_scales and task.params.axis is not None,
            learn_bias=task.bias is not None,
            advance=task.advance,
        )
        return _choice(task, task.params, better)

    return round_layers(simulator, rounded.params, images, choose, parts=sweeps, progress=progress)


def _layer(task: Task, params: QuantParams, rows: int, seed: int) -> Layer:
    """Return the matrices of a layer, with some rows of its inputs and the float outputs."""
    groups, size, _ = task.shape
    most = max(min(rows, _NUMBERS // (groups * size)), 1)
    inputs, floats = rows_of(task.layer, (task.inputs, task.float_inputs), most, seed)
    bias = _by_output(task, 0.0 if task.bias is None else task.bias)
    weights = np.ascontiguousarray(task.matrices)
    return Layer(
        inputs=inputs,
        targets=activated(floats @ weights + bias, task.activation),
        weights=weights,
        bias=bias,
        zero_point=_by_output(task, params.zero_point),
        qmin=params.qmin,
        qmax=params.qmax,
        activation=task.activation,
    )


def _candidate(
    task: Task,
    params: QuantParams,
    integers: NDArray[np.int8],
    bias: NDArray[np.float32] | None,
) -> Candidate:
    return Candidate(
        integers=np.ascontiguousarray(weight_matrices(task.layer, integers), np.float32),
        scale=_by_output(task, params.scale),
        bias=_by_output(task, 0.0 if bias is None else bias),
    )


def _choice(task: Task, params: QuantParams, found: Candidate) -> Choice:
    integers = weights_from(task.layer, found.integers.astype(np.int8))
    if params.axis is not None:
        params = replace(params, scale=found.scale.ravel().astype(np.float64))
    bias = None if task.bias is None else found.bias.ravel().astype(np.float32)
    return Choice(params, integers, bias)


def _by_output(task: Task, values: object) -> NDArray[np.float32]:
    """Return one number for each output, or one for all, in the shape (groups, 1, outputs)."""
    groups, _, outputs = task.shape
    spread = np.broadcast_to(np.asarray(values, np.float32), groups * outputs)
    return spread.reshape(groups, 1, outputs).copy()
