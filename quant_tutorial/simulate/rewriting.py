"""Say for each kind of layer and operation what stands for it in a prepared model (lesson 05).

Each function takes the `Builder` of the new model, a layer or operation of the reader's, and the
tensors of the new model that it is called on. It calls new layers on them and returns the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from quant_tutorial.frameworks import keras
from quant_tutorial.simulate.building import Builder
from quant_tutorial.simulate.kinds import MERGES, WEIGHTED, activation_name
from quant_tutorial.simulate.operations import Function, WithConstant

import numpy as np

_layers = keras.layers
# Copied as they are.
_PLAIN = (
    *(_layers.MaxPooling1D, _layers.MaxPooling2D, _layers.AveragePooling1D),
    *(_layers.AveragePooling2D, _layers.GlobalMaxPooling1D, _layers.GlobalMaxPooling2D),
    *(_layers.GlobalAveragePooling1D, _layers.GlobalAveragePooling2D, _layers.Flatten),
    *(_layers.Reshape, _layers.Permute, _layers.RepeatVector, _layers.ZeroPadding1D),
    *(_layers.ZeroPadding2D, _layers.Cropping1D, _layers.Cropping2D, _layers.UpSampling1D),
    *(_layers.UpSampling2D, _layers.Resizing),
    *(_layers.BatchNormalization, _layers.LeakyReLU, _layers.Softmax, WithConstant, Function),
)
REDUCTIONS = ("Mean", "Sum", "Max", "Amax", "Min", "Amin")
_CONSTANT = {"Add": "add", "Multiply": "multiply", "Maximum": "maximum", "Minimum": "minimum"}


def _weighted(build: Builder, layer: keras.Layer, x: Any) -> Any:
    name = activation_name(layer.activation)
    fuses = not isinstance(layer, _layers.Conv2DTranspose) and name in ("linear", "relu", "relu6")
    if fuses:
        return build.copy(layer, x)
    return build.activated(name, build.copy(layer, x, activation="linear"), part=name)


def _separable(build: Builder, layer: keras.Layer, x: Any) -> Any:
    flat = isinstance(layer, _layers.SeparableConv1D)
    kinds = (
        (_layers.DepthwiseConv1D, _layers.Conv1D)
        if flat
        else (_layers.DepthwiseConv2D, _layers.Conv2D)
    )
    name = activation_name(layer.activation)
    names = ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier")
    settings = {n: getattr(layer, n) for n in names}
    depthwise, x = build.layer(kinds[0], x, part="depthwise", use_bias=False, **settings)
    depthwise.set_weights([layer.depthwise_kernel])
    fused = name if name in ("relu", "relu6") else "linear"
    pointwise, x = build.layer(
        kinds[1],
        x,
        filters=layer.filters,
        kernel_size=1,
        use_bias=layer.use_bias,
        activation=fused,
    )
    pointwise.set_weights([layer.pointwise_kernel, *([layer.bias] if layer.use_bias else [])])
    return x if fused == name else build.activated(name, x, part=name)


def _relu(build: Builder, layer: keras.Layer, x: Any) -> Any:
    if layer.negative_slope:
        return build.activated("leaky_relu", x, negative_slope=float(layer.negative_slope))
    if layer.max_value in (None, 6):
        return build.copy(layer, x)
    return build.constant("minimum", build.activated("relu", x, part="relu"), layer.max_value)


def _prelu(build: Builder, layer: keras.Layer, x: Any) -> Any:
    return build.constant("prelu", x, layer.alpha.numpy())


def _activation(build: Builder, layer: keras.Layer, x: Any) -> Any:
    name = activation_name(layer.activation)
    if name in ("relu", "relu6"):
        return build.copy(layer, x)
    return build.activated(name, x)


def _merge(build: Builder, layer: keras.Layer, inputs: Sequence[Any]) -> Any:
    return build.merged(type(layer), *inputs)


def _average(build: Builder, layer: keras.Layer, inputs: Sequence[Any]) -> Any:
    total = build.merged(_layers.Add, *inputs, part="sum")
    return build.constant("multiply", total, 1 / len(inputs))


def _concatenate(build: Builder, layer: keras.Layer, inputs: Sequence[Any]) -> Any:
    return build.copy(layer, *inputs)


def _rescaling(build: Builder, layer: keras.Layer, x: Any) -> Any:
    scale, offset = (np.asarray(v, np.float32) for v in (layer.scale, layer.offset))
    if np.any(scale != 1):
        x = build.constant("multiply", x, scale, part="scale" if np.any(offset) else "")
    return build.constant("add", x, offset) if np.any(offset) else x


def _normalization(build: Builder, layer: keras.Layer, x: Any) -> Any:
    mean, variance = (keras.ops.convert_to_numpy(v) for v in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    x = build.constant("add", x, -mean, part="mean")
    return build.constant("multiply", x, 1 / deviation)


def _center_crop(build: Builder, layer: keras.Layer, x: Any) -> Any:
    ends = []
    for before, after in zip(x.shape[1:3], (layer.height, layer.width), strict=True):
        start = (before - after) // 2
        ends.append([start, before - after - start])
    return build.layer(_layers.Cropping2D, x, cropping=ends)[1]


LAYERS: dict[type, Callable[..., Any]] = {
    **dict.fromkeys(WEIGHTED, _weighted),
    **dict.fromkeys((_layers.SeparableConv1D, _layers.SeparableConv2D), _separable),
    **dict.fromkeys(_PLAIN, Builder.copy),
    **dict.fromkeys(MERGES.values(), _merge),
    _layers.ReLU: _relu,
    _layers.PReLU: _prelu,
    _layers.Activation: _activation,
    _layers.Average: _average,
    _layers.Concatenate: _concatenate,
    _layers.Rescaling: _rescaling,
    _layers.CenterCrop: _center_crop,
    _layers.Normalization: _normalization,
}


def is_tensor(x: Any) -> bool:
    """Return whether an argument is a tensor of the model, and no constant (lesson 05)."""
    return keras.backend.is_keras_tensor(x)


def _binary(build: Builder, operation: Any, x1: Any, x2: Any) -> Any:
    kind = type(operation).__name__
    if is_tensor(x1) and is_tensor(x2):
        return build.merged(MERGES[kind], x1, x2)
    if kind == "Subtract":
        if is_tensor(x1):
            return build.constant("add", x1, -np.asarray(x2, np.float32))
        return build.constant("subtract_from", x2, x1)
    x, constant = (x1, x2) if is_tensor(x1) else (x2, x1)
    return build.constant(_CONSTANT[kind], x, constant)


def _quotient(build: Builder, operation: Any, x1: Any, x2: Any) -> Any:
    return build.constant("multiply", x1, 1 / np.asarray(x2, np.float32))


def _activation_op(name: str) -> Callable[..., Any]:
    def emit(build: Builder, operation: Any, x: Any, **_: Any) -> Any:
        names = ("negative_slope", "approximate")
        options = {n: getattr(operation, n) for n in names if hasattr(operation, n)}
        return build.activated(name, x, **options)

    return emit


def _reduction(name: str) -> Callable[..., Any]:
    def emit(build: Builder, operation: Any, x: Any) -> Any:
        axis = keras.tree.flatten(operation.axis)
        return build.function(name, x, axis=axis, keepdims=bool(operation.keepdims))

    return emit


def _reshape(build: Builder, operation: Any, x: Any) -> Any:
    shape = operation.symbolic_call(x).shape[1:]
    return build.layer(_layers.Reshape, x, target_shape=shape)[1]


def _transpose(build: Builder, operation: Any, x: Any) -> Any:
    return build.layer(_layers.Permute, x, dims=tuple(operation.axes)[1:])[1]


def _axes_moved(build: Builder, operation: Any, x: Any) -> Any:
    """Permute the axes as `ops.swapaxes` or `ops.moveaxis` does."""
    rank = len(x.shape)
    numbers = np.empty(range(1, rank + 1))  # an axis of length n + 1 in place n
    dims = [length - 1 for length in operation.call(numbers).shape[1:]]
    return build.layer(_layers.Permute, x, dims=dims)[1]


def _pad(build: Builder, operation: Any, x: Any, constant_values: Any = None) -> Any:
    kind = _layers.ZeroPadding1D if len(x.shape) == 3 else _layers.ZeroPadding2D
    padding = operation.pad_width[1:-1]
    return build.layer(kind, x, padding=padding[0] if len(x.shape) == 3 else padding)[1]


def _split(build: Builder, operation: Any, x: Any) -> Any:
    axis, sections = operation.axis % len(x.shape), operation.indices_or_sections
    length = x.shape[axis]
    if isinstance(sections, int):
        sections = [length // sections * number for number in range(1, sections)]
    ends = [0, *sections, length]
    return [
        build.function("slice", x, key=[*[[None]] * axis, list(part)])
        for part in itertools.pairwise(ends)
    ]


def _get_item(build: Builder, operation: Any, x: Any, key: Any) -> Any:
    key = key if isinstance(key, tuple | list) else (key,)
    if Ellipsis in key:
        at = key.index(Ellipsis)
        key = (*key[:at], *[slice(None)] * (len(x.shape) - len(key) + 1), *key[at + 1 :])
    parts = [p if isinstance(p, int) else [p.start, p.stop, p.step] for p in key]
    return build.function("slice", x, key=parts)


def _clip(build: Builder, operation: Any, x: Any) -> Any:
    return build.function("clip", x, x_min=float(operation.x_min), x_max=float(operation.x_max))


OPERATIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(MERGES, _binary),
    **dict.fromkeys(("Divide", "TrueDivide"), _quotient),
    **dict.fromkeys(("Reshape", "ExpandDims", "Squeeze"), _reshape),
    **dict.fromkeys(("Moveaxis", "Swapaxes"), _axes_moved),
    **{name: _reduction(name.lower().removeprefix("a")) for name in REDUCTIONS},
    "Absolute": lambda build, _, x: build.function("abs", x),
    "Clip": _clip,
    "Concatenate": lambda build, operation, xs: build.layer(
        _layers.Concatenate, *xs, axis=operation.axis
    )[1],
    "Exp": _activation_op("exponential"),
    "Gelu": _activation_op("gelu"),
    "GetItem": _get_item,
    "HardSigmoid": _activation_op("hard_sigmoid"),
    "HardSilu": _activation_op("hard_silu"),
    "LeakyRelu": _activation_op("leaky_relu"),
    "Pad": _pad,
    "Relu": _activation_op("relu"),
    "Relu6": _activation_op("relu6"),
    "Sigmoid": _activation_op("sigmoid"),
    "Silu": _activation_op("silu"),
    "Softmax": _activation_op("softmax"),
    "Split": _split,
    "Tanh": _activation_op("tanh"),
    "Transpose": _transpose,
}
