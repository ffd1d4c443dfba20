"""Fold what LiteRT folds into the weights: batch norm and constant factors (lesson 05).

The converter folds into a convolution or dense layer the multiplications and additions of a
constant that follow it, and a factor before it; an addition before it too, where no padding stands
in the way, because the padded zeros would get it as well. It keeps all others as ops of their own,
also the factors of single channels before a convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quant_tutorial import models
from quant_tutorial.frameworks import keras
from quant_tutorial.simulate.canonical import rewritten
from quant_tutorial.simulate.kinds import WEIGHTED, activation_name
from quant_tutorial.simulate.operations import WithConstant
from quant_tutorial.simulate.walking import layer_of, walk

import numpy as np
from numpy.typing import NDArray

_layers = keras.layers


def fold(model: keras.Model) -> keras.Model:
    """Return a copy of a canonical model with folded constants, and without batch norm.

    A batch norm that cannot be folded becomes a multiplication and an addition. Lesson 05.

    Args:
        model: A model as `canonical` returns it.
    """
    view = _View(model)
    after = {layer.name: list(view.following(layer)) for layer in view.weighted}
    absorbed = {one.name for found in after.values() for one in found}
    before = {layer.name: list(view.preceding(layer, absorbed)) for layer in view.weighted}
    values: dict[str, Any] = {}  # what the new layers take in

    def call(layer: keras.Layer, args: tuple, kwargs: dict) -> Any:
        values[layer.name] = args[0]
        if layer.name in absorbed:
            return args[0]
        if isinstance(layer, _layers.BatchNormalization):
            return _affine(layer, args[0])
        if layer.name not in after:
            return _copied(layer, layer.get_weights(), args, kwargs)
        if before[layer.name]:  # others may read the constant's result
            args = (values[before[layer.name][-1].name],)
        weights = _folded(layer, before[layer.name], after[layer.name])
        # LiteRT fuses a ReLU into a transposed convolution only if that has a bias other than 0.
        if isinstance(layer, _layers.Conv2DTranspose) and not any(map(np.any, weights[1:])):
            weights = weights[:1]
        return _copied(layer, weights, args, kwargs, use_bias=len(weights) > 1)

    return rewritten(model, lambda graph, inputs: walk(graph, inputs, call))


def _copied(
    layer: keras.Layer,
    weights: list[NDArray[np.float32]],
    args: tuple,
    kwargs: dict,
    **settings: Any,
) -> Any:
    """Call a copy of a layer with these weights."""
    copy = models.copied_layer(layer, **settings)
    output = copy(*args, **kwargs)
    copy.set_weights(weights)
    return output


class _View:
    """Which layer reads which, in a canonical model."""

    def __init__(self, model: keras.Model) -> None:
        self.weighted = [layer for layer in model.layers if isinstance(layer, WEIGHTED)]
        self._users: dict[str, list[keras.Layer]] = {layer.name: [] for layer in model.layers}
        self._outputs = {layer_of(tensor).name for tensor in model.outputs}
        for layer in model.layers:
            if not isinstance(layer, _layers.InputLayer):
                for tensor in keras.tree.flatten(layer.input):
                    self._users[layer_of(tensor).name].append(layer)

    def only_user(self, layer: keras.Layer) -> keras.Layer | None:
        users = self._users[layer.name]
        return users[0] if len(users) == 1 and layer.name not in self._outputs else None

    def following(self, layer: keras.Layer) -> Iterator[keras.Layer]:
        """List the multiplications and additions after a layer that go into its weights."""
        if activation_name(layer.activation) != "linear":
            return
        channels = layer.output.shape[-1]
        user = self.only_user(layer)
        while user is not None and _is_affine(user, channels):
            yield user
            user = self.only_user(user)

    def preceding(self, layer: keras.Layer, taken: set[str]) -> Iterator[keras.Layer]:
        """List the factors and additions before a layer that go into its weights."""
        if not isinstance(layer, (_layers.Conv2D, _layers.DepthwiseConv2D, _layers.Dense)):
            return
        padded = getattr(layer, "padding", "valid") != "valid"
        source = layer_of(layer.input)
        while isinstance(source, WithConstant) and source.name not in taken:
            wanted = ("multiply",) if padded else ("multiply", "add")
            if source.operation not in wanted or source.shape:
                return
            yield source
            source = layer_of(source.input)


def _is_affine(layer: keras.Layer, channels: int) -> bool:
    if isinstance(layer, _layers.BatchNormalization):
        return True
    return (
        isinstance(layer, WithConstant)
        and layer.operation in ("add", "multiply")
        and int(np.prod(layer.shape)) in (1, channels)
        and (not layer.shape or layer.shape[-1] == np.prod(layer.shape))
    )


def _adds(layer: keras.Layer) -> bool:
    return isinstance(layer, _layers.BatchNormalization) or layer.operation == "add"


def _affine(norm: keras.layers.BatchNormalization, x: Any) -> Any:
    """Apply a batch norm as a multiplication and an addition."""
    gain, offset = models.norm_constants(norm)
    shift = offset - norm.moving_mean.numpy() * gain
    parts = [
        (operation, values)
        for operation, values, neutral in (("multiply", gain, 1), ("add", shift, 0))
        if np.any(values != neutral)
    ]
    for operation, values in parts:
        last = operation == parts[-1][0]
        name = norm.name if last else f"{norm.name}_scale"
        layer = WithConstant(operation, values.shape, name=name)
        x = layer(x)
        layer.set_weights([values])
    return x


def _folded(
    layer: keras.Layer, before: list[keras.Layer], after: list[keras.Layer]
) -> list[NDArray[np.float32]]:
    """Return the weights and the bias that compute what a layer and its constants compute."""
    weights = layer.get_weights()
    for constant in before:
        weights = _with_input(layer, weights, constant.operation, constant.constant.numpy())
    for following in after:
        if isinstance(following, _layers.BatchNormalization):
            weights = models.with_norm(layer, weights, following)
            continue
        values = following.constant.numpy().ravel()
        kernel, *bias = weights
        if following.operation == "multiply":
            weights = [models.scaled_kernel(layer, kernel, values), *(b * values for b in bias)]
        else:
            weights = [kernel, (bias[0] if bias else 0) + np.broadcast_to(values, _outputs(layer))]
    if len(weights) == 1 and any(map(_adds, (*before, *after))):
        weights = [*weights, np.zeros(_outputs(layer), np.float32)]
    return weights


def _outputs(layer: keras.Layer) -> tuple[int]:
    return (layer.output.shape[-1],)


def _with_input(
    layer: keras.Layer, weights: list[NDArray[np.float32]], operation: str, value: Any
) -> list[NDArray[np.float32]]:
    """Return weights and bias for an input that is multiplied by a number, or has it added."""
    kernel, *bias = weights
    if operation == "multiply":
        return [kernel * value, *bias]
    depthwise = isinstance(layer, _layers.DepthwiseConv2D)
    sums = kernel.sum(axis=(0, 1)).ravel() if depthwise else kernel.sum((*range(kernel.ndim - 1),))
    return [kernel, (bias[0] if bias else 0) + value * sums]
