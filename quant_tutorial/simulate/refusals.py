"""Refuse what has no place in a prepared model, by name and with a way out (lesson 05)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from quant_tutorial.frameworks import keras
from quant_tutorial.simulate.kinds import (
    ACTIVATIONS,
    MERGES,
    activation_name,
    has_no_effect,
)
from quant_tutorial.simulate.rewriting import LAYERS, OPERATIONS, is_tensor

import numpy as np

_layers = keras.layers
_TREATED = (
    "Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, "
    "SeparableConv2D, Dense, BatchNormalization along the channels, ReLU, LeakyReLU, PReLU, "
    "Softmax, the activations linear, relu, relu6, leaky_relu, sigmoid, tanh, hard_sigmoid, silu "
    "(swish), hard_silu, gelu, exponential and softmax, Add, Subtract, Multiply, Average, Maximum, "
    "Minimum, Concatenate, max and average pooling, Flatten, Reshape, Permute, RepeatVector, zero "
    "padding, cropping, CenterCrop, up-sampling, Resizing, Rescaling, Normalization, Dropout, "
    "layers that only augment in training, models of these layers, operators such as x + y, and "
    "the functions of keras.ops that do the same as these layers"
)


def require_known(operation: Any) -> None:
    """Check that a layer or an operation has a place in a prepared model (lesson 05).

    Raises:
        ValueError: when it has none; the message names it, and says why and what to do.
    """
    kind = type(operation).__name__
    is_layer = isinstance(operation, _layers.Layer)
    reason = _refused_training(operation)
    if reason is None and not has_no_effect(operation):
        if type(operation) not in LAYERS if is_layer else kind not in OPERATIONS:
            reason = (
                f"build the model without it, from what is treated here ({_TREATED}), or measure "
                "the file that tflite.convert makes of the model as it is"
            )
        else:
            reason = _refused_settings(operation)
            if reason is None and not is_layer:
                reason = _refused_arguments(operation, kind)
    if reason:
        called = "Layer" if is_layer else "Operation"
        raise ValueError(f"{called} {operation.name} ({kind}) cannot be simulated: {reason}.")


def _refused_training(operation: Any) -> str | None:
    # Layers that augment are called so by themselves, and yet do nothing in inference.
    acting = isinstance(operation, (_layers.Dropout, _layers.BatchNormalization))
    if acting and any(node.arguments.kwargs.get("training") for node in operation._inbound_nodes):
        return "it is called with training=True, so that it acts in inference too; leave that out"
    return None


def _refused_settings(operation: Any) -> str | None:
    """Return why a setting of a layer has no place here, and the way out, or None."""
    if getattr(operation, "data_format", None) == "channels_first":
        return "its channels come first; build the model with data_format='channels_last'"
    if hasattr(operation, "activation"):
        name = activation_name(operation.activation)
        if name not in ACTIVATIONS:
            function = name or getattr(operation.activation, "__name__", operation.activation)
            return f"its activation is {function}; use one of {', '.join(ACTIVATIONS)}"
    kinds = (kind for kind in _SETTINGS if isinstance(operation, kind))
    return next((reason for kind in kinds if (reason := _SETTINGS[kind](operation))), None)


def _relu(layer: keras.layers.ReLU) -> str | None:
    if layer.threshold or (layer.negative_slope and layer.max_value is not None):
        return (
            "LiteRT has no integer op for a ReLU with a threshold, or with both a slope and a "
            "largest value; use ReLU with one of max_value and negative_slope"
        )
    return None


def _last_axis(layer: keras.Layer) -> str | None:
    rank = len(layer._inbound_nodes[0].outputs[0].shape)
    if layer.axis not in (-1, rank - 1):
        return f"it works along axis {layer.axis}; use axis -1, that of the channels"
    return None


def _normalization(layer: keras.layers.Normalization) -> str | None:
    return "it inverts a normalization; use Rescaling with its numbers" if layer.invert else None


def _interpolation(layer: keras.Layer) -> str | None:
    if layer.interpolation not in ("nearest", "bilinear"):
        return f"LiteRT has no {layer.interpolation} interpolation; use nearest or bilinear"
    return None


def _aspect(layer: keras.layers.Resizing) -> str | None:
    if layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio:
        return "it keeps the aspect ratio; crop or pad with a layer of its own"
    return None


def _center_crop(layer: keras.layers.CenterCrop) -> str | None:
    for node in layer._inbound_nodes:
        height, width = node.input_tensors[0].shape[1:3]
        if height < layer.height or width < layer.width:
            return "it makes the images larger; use Resizing"
    return None


def _inputs(layer: keras.Layer) -> str | None:
    if not all(is_tensor(x) for node in layer._inbound_nodes for x in node.arguments.args[0]):
        return "one of its inputs is no layer's output; use an operator, such as x * 2"
    return None


_SETTINGS: dict[Any, Callable[[Any], str | None]] = {
    _layers.ReLU: _relu,
    _layers.Softmax: _last_axis,
    _layers.BatchNormalization: _last_axis,
    _layers.Normalization: _normalization,
    (_layers.UpSampling2D, _layers.Resizing): _interpolation,
    _layers.Resizing: _aspect,
    _layers.CenterCrop: _center_crop,
    (*MERGES.values(), _layers.Average): _inputs,
}


def _refused_arguments(operation: Any, kind: str) -> str | None:
    """Return why arguments of an operation have no place here, and the way out, or None."""
    for node in operation._inbound_nodes:
        args, output = node.arguments.args, node.outputs[0]
        if kind in (*MERGES, "Divide", "TrueDivide"):
            reason = _refused_operands(kind, *args)
        elif kind == "Softmax":
            reason = _last_axis(operation)
        elif kind == "Pad":
            reason = _refused_padding(operation, args[0], node.arguments.kwargs)
        elif kind == "GetItem":
            plain = _is_plain_key(args[1])
            reason = None if plain else "its key has other parts than numbers and slices"
        else:
            joined = kind in ("Concatenate", "ExpandDims")
            rank = len((output if joined else args[0]).shape)
            reason = _refused_axis(operation, kind, rank)
            if kind in ("Reshape", "ExpandDims", "Squeeze") and _size(args[0]) != _size(output):
                reason = "it changes the axis of the images; leave that axis first"
        if reason:
            return reason
    return None


def _size(x: Any) -> int:
    """Return how many values a tensor has for an image, 0 where that is open."""
    return int(np.prod([length or 0 for length in x.shape[1:]]))


def _refused_padding(operation: Any, x: Any, options: Mapping[str, Any]) -> str | None:
    zeros = operation.mode == "constant" and not options.get("constant_values")
    widths, rank = operation.pad_width, len(x.shape)
    ends = [] if len(widths) != rank else [*widths[0], *widths[-1]]
    if not zeros or rank not in (3, 4) or ends != [0, 0, 0, 0]:
        return "LiteRT pads rows and columns with zeros; use ZeroPadding1D or ZeroPadding2D"
    return None


def _refused_operands(kind: str, x1: Any, x2: Any) -> str | None:
    tensors = [x for x in (x1, x2) if is_tensor(x)]
    if len({len(x.shape) for x in tensors}) > 1:
        return "its two tensors have different numbers of axes; reshape one of them"
    if kind.endswith("Divide") and (not is_tensor(x1) or is_tensor(x2)):
        return "it divides by a tensor; multiply by its inverse where you can"
    return None


_PLACES = ("axis1", "axis2", "source", "destination")


def _refused_axis(operation: Any, kind: str, rank: int) -> str | None:
    """Return a reason where an operation works along the axis of the images."""
    if kind == "Transpose":
        along = operation.axes is None or operation.axes[0] != 0
    elif kind in ("Swapaxes", "Moveaxis"):
        places = keras.tree.flatten([v for n, v in vars(operation).items() if n in _PLACES])
        along = any(axis % rank == 0 for axis in places)
    elif hasattr(operation, "axis"):
        axes = keras.tree.flatten(operation.axis)
        along = any(axis is None or axis % rank == 0 for axis in axes)
    else:
        along = False
    return "it works along the axis of the images; name the other axes" if along else None


def _is_plain_key(key: Any) -> bool:
    key = key if isinstance(key, tuple | list) else (key,)
    return all(isinstance(part, int | slice) or part is Ellipsis for part in key)
