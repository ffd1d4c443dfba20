"""Say which layers of Keras this course treats, and find out what a layer is (lesson 05)."""

from __future__ import annotations

from typing import Any

from quant_tutorial.frameworks import keras

_layers = keras.layers
# These do nothing in inference. Of the layers with other names, Keras augments with these as well.
IDLE = (
    *(kind for name, kind in vars(_layers).items() if name.startswith("Random")),
    *(_layers.Dropout, _layers.GaussianDropout, _layers.GaussianNoise, _layers.AlphaDropout),
    *(_layers.SpatialDropout1D, _layers.SpatialDropout2D),
    *(_layers.ActivityRegularization, _layers.MixUp, _layers.CutMix, _layers.AugMix),
    *(_layers.RandAugment, _layers.Solarization, _layers.Equalization),
)
WEIGHTED = (
    *(_layers.Conv1D, _layers.Conv2D, _layers.DepthwiseConv1D, _layers.DepthwiseConv2D),
    *(_layers.Conv2DTranspose, _layers.Dense),
)
# The layers that merge two tensors, by the name of the operator that does the same.
MERGES = {
    "Add": _layers.Add,
    "Subtract": _layers.Subtract,
    "Multiply": _layers.Multiply,
    "Maximum": _layers.Maximum,
    "Minimum": _layers.Minimum,
}
ACTIVATIONS = (
    *("linear", "relu", "relu6", "softmax", "leaky_relu", "silu", "swish", "hard_sigmoid"),
    *("sigmoid", "tanh", "hard_silu", "hard_swish", "gelu", "exponential"),
)


def is_idle(layer: Any) -> bool:
    """Return whether a layer does nothing in inference, as dropout and augmentation (lesson 05).

    A nested model of such layers alone does nothing either.
    """
    if isinstance(layer, keras.Model):
        inner = [one for one in layer.layers if not isinstance(one, _layers.InputLayer)]
        return bool(inner) and all(map(is_idle, inner))
    if isinstance(layer, _layers.RandomCrop):  # see models.require_same_shapes
        uses = layer._inbound_nodes
        return all(use.outputs[0].shape == use.input_tensors[0].shape for use in uses)
    return isinstance(layer, IDLE)


def has_no_effect(operation: Any) -> bool:
    """Return whether a layer leaves the values in inference as they are (lesson 05)."""
    if isinstance(operation, _layers.Activation):
        return operation.activation is keras.activations.linear
    return is_idle(operation) or isinstance(operation, (_layers.Identity, _layers.InputLayer))


def activation_name(function: Any) -> str | None:
    """Return the name of one of Keras' activations, or None for another function (lesson 05)."""
    return next((n for n, f in vars(keras.activations).items() if f is function), None)
