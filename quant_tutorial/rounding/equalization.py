"""Equalize the ranges of consecutive layers' channels (lesson 11)."""

from __future__ import annotations

from quant_tutorial import models
from quant_tutorial.arguments import checked_choice
from quant_tutorial.frameworks import keras
from quant_tutorial.rounding.matrices import shape_of, weight_matrices, weights_from
from quant_tutorial.simulate import activation, prepare
from quant_tutorial.simulate.kinds import WEIGHTED

import numpy as np
from numpy.typing import NDArray

_layers = keras.layers
# Layers that treat each channel by itself, and a multiple of their inputs as the same multiple.
_PASSING = (
    *(_layers.MaxPooling1D, _layers.AveragePooling1D, _layers.GlobalAveragePooling1D),
    *(_layers.MaxPooling2D, _layers.AveragePooling2D, _layers.GlobalAveragePooling2D),
    *(_layers.GlobalMaxPooling1D, _layers.GlobalMaxPooling2D, _layers.Flatten),
    *(_layers.ZeroPadding1D, _layers.ZeroPadding2D, _layers.Cropping1D, _layers.Cropping2D),
    *(_layers.UpSampling1D, _layers.UpSampling2D, _layers.Resizing),
)
_ROUNDS, _CLOSE = 100, 1e-4


def equalize(model: keras.Model, *, relu6: str = "keep") -> keras.Model:
    """Move scale between consecutive layers until their channels have equal ranges (lesson 11).

    Where a layer's outputs reach only one other layer, through a ReLU, each of its channels can be
    divided by any s > 0 if the next layer's weights for this channel are multiplied by s, because
    ReLU(x / s) = ReLU(x) / s. With r₁ and r₂ for the largest magnitudes of the channel's weights
    before and after it, s = √(r₁ / r₂) makes both √(r₁·r₂). All pairs of layers are treated in turn
    until nothing changes, because most layers belong to two pairs. Pooling, padding and flatten may
    stand between the two. This is the cross-layer equalization of Nagel et al., "Data-Free
    Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.1.

    The outputs stay the same up to float rounding. The given model is not changed.

    A ReLU6 is not such a function: it clips at 6, and would clip elsewhere after the division.

    Args:
        model: A built Sequential or functional model.
        relu6: "keep" leaves pairs of layers with a ReLU6 between them as they are. "relu" replaces
            each ReLU6 with a ReLU first, as AIMET does: the outputs then change for images on which
            an activation exceeds 6.

    Returns:
        A functional float model without batch norm, as `simulate.prepare` returns it.

    Raises:
        ValueError: as for `simulate.prepare`, and for another `relu6`.
    """
    checked_choice("relu6", relu6, ("keep", "relu"))
    prepared = prepare(model)
    if relu6 == "relu":
        prepared = _without_limits(prepared)
    pairs = [
        (layer, following)
        for layer in prepared.layers
        if isinstance(layer, WEIGHTED) and (following := _next_weighted(prepared, layer))
    ]
    weights = {name: values.astype(np.float64) for name, values in models.weights(prepared).items()}
    biases = {
        layer.name: layer.bias.numpy().astype(np.float64) for layer, _ in pairs if layer.use_bias
    }
    for _ in range(_ROUNDS):
        largest = 0.0
        for first, second in pairs:
            channels = weights[first.name].shape[-1]
            after = _by_input_channel(second, weights[second.name], channels)
            reach_first = np.abs(weights[first.name]).reshape(-1, channels).max(axis=0)
            reach_second = np.abs(after).max(axis=(1, 3)).ravel()
            useful = (reach_first > 0) & (reach_second > 0)
            factor = np.ones(channels)
            factor[useful] = np.sqrt(reach_first[useful] / reach_second[useful])
            weights[first.name] = weights[first.name] / factor
            if first.use_bias:
                biases[first.name] /= factor
            after = after * factor.reshape(after.shape[0], 1, after.shape[2], 1)
            shape = shape_of(second)
            weights[second.name] = weights_from(second, after.reshape(shape))
            largest = max(largest, float(np.abs(np.log(factor)).max()))
        if largest < _CLOSE:
            break
    models.set_weights(prepared, weights)
    for name, bias in biases.items():
        prepared.get_layer(name).bias.assign(bias)
    return prepared


def _by_input_channel(
    layer: keras.Layer, weights: NDArray[np.float64], channels: int
) -> NDArray[np.float64]:
    """Return weights of shape (groups, positions, channels of a group, outputs of a group)."""
    matrices = weight_matrices(layer, weights)
    groups, inputs, outputs = matrices.shape
    own = channels // groups
    return matrices.reshape(groups, inputs // own, own, outputs)


def _next_weighted(model: keras.Model, layer: keras.Layer) -> keras.Layer | None:
    """Return the only layer with weights that a layer's outputs reach, through ReLU if at all."""
    if not _scales_through(layer):
        return None
    while True:
        users = [
            other
            for other in model.layers
            if not isinstance(other, _layers.InputLayer)
            and any(tensor is layer.output for tensor in keras.tree.flatten(other.input))
        ]
        if len(users) != 1 or any(layer.output is tensor for tensor in model.outputs):
            return None
        (layer,) = users
        if isinstance(layer, WEIGHTED):
            flat = not isinstance(layer, _layers.Dense) or layer.input.ndim == 2
            return layer if flat else None
        passing = isinstance(layer, (*_PASSING, _layers.ReLU, _layers.Activation))
        if not passing or not _scales_through(layer):
            return None


def _scales_through(layer: keras.Layer) -> bool:
    """Return whether a layer's activation function, if any, is linear or ReLU."""
    return activation(layer) in ("linear", "relu")


def _without_limits(model: keras.Model) -> keras.Model:
    """Return a copy with ReLU in place of each ReLU6."""

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if activation(layer) == "relu6" and isinstance(layer, _layers.ReLU):
            config["max_value"] = None
        elif activation(layer) == "relu6":
            config["activation"] = "relu"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy
