"""Quantization-aware training from scratch on Keras 3 (lesson 08).

    x̂ = clip(round(x / s), qmin − z, qmax − z) · s           what the forward pass computes
    ∂x̂/∂x = 1 inside the range, 0 outside                    the straight-through estimator
    ∂x̂/∂s = round(x/s) − x/s inside, qmin − z or qmax − z    its gradient for the scale
            outside

The forward pass is that of `simulate`. Rounding is a staircase: flat, with a gradient of 0 wherever
it has one, and nothing would learn. The straight-through estimator (Bengio, Léonard and Courville,
2013) takes it for the identity on the way back. With the same rule for the scale, the range itself
is trained: learned step size quantization (Esser et al., ICLR 2020).

Batch norm is folded before the training begins, with the statistics that the float training left.
The quantized training then runs on the very layers that are deployed: nothing has to be folded
afterwards, which would move the weights off their levels, and training and inference compute the
same. (Krishnamoorthi, 2018, section 3.2.2, freezes the statistics late in training; this is that
from the first step. A network that is already trained needs no new ones.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from quant_tutorial import models, quiet
from quant_tutorial.affine import QuantParams
from quant_tutorial.graph import Node, nodes, rebuild
from quant_tutorial.scheme import QuantScheme
from quant_tutorial.simulate import ModelParams, Simulator, rounded, with_params

import numpy as np
from numpy.typing import NDArray

quiet.load_tensorflow()
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

Ranges = Literal["learned", "moving_average", "fixed"]

MOMENTUM = 0.99  # of the moving average of an activation's minimum and maximum, for each batch


def straight_through(
    x: Any, scale: Any, zero_point: Any, qmin: int, qmax: int, *, averages: bool = False
) -> Any:
    """Round to the levels of an affine map; on the way back, pass the gradient straight through.

    Forward it is `simulate.rounded`. The gradient for x is that of clipping, as TensorFlow's
    fake-quant op has it; that for the scale follows from it. The zero point has none. Lesson 08.

    Args:
        x: A tensor.
        scale: A tensor with one scale, or one for each entry of the last axis of x.
        zero_point: The integer of real 0, as floats, of the shape of the scale.
        qmin: The smallest integer.
        qmax: The largest one.
        averages: The values are averages of integers; see `simulate.rounded`.
    """
    # As tensors: a custom gradient would take Keras' variables for its own.
    x, scale, zero_point = (tf.convert_to_tensor(value) for value in (x, scale, zero_point))
    low, high = qmin - zero_point, qmax - zero_point

    @tf.custom_gradient
    def through(x: tf.Tensor, scale: tf.Tensor) -> tuple[tf.Tensor, Any]:
        x_hat = rounded(x, scale, low, high, zero_point if averages else None)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            steps = x / scale
            inside = tf.logical_and(steps >= low, steps <= high)
            to_x = tf.where(inside, upstream, 0.0)
            # Inside round(x/s) − x/s; outside the end of the range, which is x̂/s.
            to_scale = upstream * (x_hat / scale - tf.where(inside, steps, 0.0))
            axes = list(range(x.shape.rank - scale.shape.rank))
            return to_x, tf.reduce_sum(to_scale, axes)

        return x_hat, gradient

    return through(x, scale)


class Quantizer(keras.layers.Layer):
    """Fake quantization whose range may move during training (lesson 08).

    Args:
        params: The map at the start; or its fields as a mapping, as a saved file has them.
        ranges: "learned": the scale is trained, as its value at the start times e^t, so that it
            stays positive and a step of t is a share of it, whatever the unit (Jain et al., MLSys
            2020, train its logarithm too); the zero point stays. "moving_average": the range
            follows the values, see the two subclasses. "fixed": the map stays.
        symmetric: With "moving_average": keep the zero point in the middle.
    """

    def __init__(
        self,
        params: QuantParams | Mapping[str, Any],
        ranges: Ranges = "learned",
        *,
        symmetric: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.start = params if isinstance(params, QuantParams) else QuantParams(**params)
        self.ranges, self.symmetric = ranges, symmetric

    def build(self, *_: Any) -> None:
        """Make the variable of a learned range."""
        if self.ranges == "learned":
            shape = np.shape(self.start.scale)
            self.growth = self.add_weight(shape=shape, initializer="zeros", name="growth")
        self.built = True

    def scale_and_zero_point(self, low: Any = None, high: Any = None) -> tuple[Any, Any]:
        """Give the scale(s) and zero point(s) of now as float32 tensors.

        With the ends of a range, those that fit it, as `affine.params_from_range` chooses them.
        """
        ops, start = keras.ops, self.start
        if low is None:
            scale, zero_point = map(np.float32, (start.scale, start.zero_point))
            growth = ops.exp(self.growth) if self.ranges == "learned" else 1.0
            return ops.convert_to_tensor(scale) * growth, ops.convert_to_tensor(zero_point)
        low, high = ops.minimum(low, 0.0), ops.maximum(high, 0.0)
        if self.symmetric:
            scale = ops.maximum(-low, high) / start.qmax
        else:
            scale = (high - low) / (start.qmax - start.qmin)
        scale = ops.where(scale > 0, scale, 1.0)
        if self.symmetric:
            return scale, ops.zeros_like(scale)
        return scale, ops.clip(ops.round(start.qmin - low / scale), start.qmin, start.qmax)

    def quantized(self, x: Any, scale: Any, zero_point: Any, averages: bool = False) -> Any:
        """Fake-quantize a tensor with the straight-through estimator."""
        ends = self.start.qmin, self.start.qmax
        return straight_through(x, scale, zero_point, *ends, averages=averages)

    def params_of(self, scale: Any, zero_point: Any) -> QuantParams:
        """Give scale(s) and zero point(s) as a map."""
        scale, zero_point = (keras.ops.convert_to_numpy(value) for value in (scale, zero_point))
        return dataclasses.replace(
            self.start, scale=scale.astype(np.float64), zero_point=zero_point.astype(np.int64)
        )

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Give the shape unchanged."""
        return shape

    def get_config(self) -> dict[str, Any]:
        """Give what `keras.saving` needs to make the layer again."""
        own = {"ranges": self.ranges, "symmetric": self.symmetric}
        return {**super().get_config(), "params": _to_config(self.start), **own}


@keras.saving.register_keras_serializable("quant_tutorial")
class QuantizeActivation(Quantizer):
    """Fake-quantizes the values of a node, with one scale (lesson 08).

    With "moving_average" it follows the minimum and the maximum of each training batch.
    """

    def build(self, *_: Any) -> None:
        """Make the variables."""
        super().build()
        if self.ranges == "moving_average":
            for name in ("minimum", "maximum"):
                initial = keras.initializers.Constant(getattr(self.start, name))
                setattr(self, name, self.add_weight((), initial, trainable=False, name=name))

    def call(self, x: Any, training: bool | None = None, averages: bool = False) -> Any:
        """Fake-quantize values of any shape; `averages` says that they are pooled integers."""
        if training and not averages and self.ranges == "moving_average":
            for end, found in ((self.minimum, keras.ops.min(x)), (self.maximum, keras.ops.max(x))):
                end.assign(MOMENTUM * end + (1 - MOMENTUM) * found)
        return self.quantized(x, *self._now(), averages)

    def params(self) -> QuantParams:
        """Give the map of now."""
        return self.params_of(*self._now())

    def _now(self) -> tuple[Any, Any]:
        follows = self.ranges == "moving_average"
        return self.scale_and_zero_point(*([self.minimum, self.maximum] if follows else []))


@keras.saving.register_keras_serializable("quant_tutorial")
class QuantizeWeights(Quantizer):
    """Fake-quantizes a kernel, with one scale or one for each output channel (lesson 08).

    With "moving_average" the range is that of the kernel itself at every step: there is nothing to
    average, all its values are known.
    """

    def call(self, kernel: Any) -> Any:
        """Fake-quantize a kernel in Keras' shape."""
        # A depthwise kernel is (height, width, inputs, multiplier): its channels are two axes.
        channels = (
            keras.ops.reshape(kernel, (*kernel.shape[:2], -1)) if self.is_split(kernel) else kernel
        )
        return keras.ops.reshape(self.quantized(channels, *self._now(channels)), kernel.shape)

    def params(self, kernel: Any) -> QuantParams:
        """Give the map of now for a kernel, its output channels on the last axis."""
        return self.params_of(*self._now(kernel))

    def is_split(self, kernel: Any) -> bool:
        """Tell whether the output channels are two axes of the kernel."""
        return self.start.axis is not None and np.size(self.start.scale) != kernel.shape[-1]

    def _now(self, kernel: Any) -> tuple[Any, Any]:
        if self.ranges != "moving_average":
            return self.scale_and_zero_point()
        axes = None if self.start.axis is None else list(range(len(kernel.shape) - 1))
        kernel = keras.ops.stop_gradient(kernel)
        ends = (keras.ops.min(kernel, axes), keras.ops.max(kernel, axes))
        return self.scale_and_zero_point(*ends)


@keras.saving.register_keras_serializable("quant_tutorial")
class QuantizedLayer(keras.layers.Wrapper):
    """A convolution or dense layer that computes with its kernel fake-quantized (lesson 08).

    `layer` keeps the kernel in float, and the optimizer changes that one: many small steps add up
    in it until a weight reaches the next level.
    """

    def __init__(self, layer: keras.Layer, quantizer: QuantizeWeights, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.quantizer = quantizer

    def build(self, input_shape: Any = None) -> None:
        """Build the layer and its quantizer."""
        super().build(input_shape)
        if not self.quantizer.built:  # one from a saved file is
            self.quantizer.build(self.layer.kernel.shape)

    def call(self, x: Any) -> Any:
        """Compute with the quantized kernel."""
        kernel = self.quantizer(self.layer.kernel)
        with keras.StatelessScope(state_mapping=[(self.layer.kernel, kernel)]):
            return self.layer(x)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Give the layer's own."""
        return self.layer.compute_output_shape(shape)

    def get_config(self) -> dict[str, Any]:
        """Give what `keras.saving` needs to make the layer again."""
        quantizer = keras.saving.serialize_keras_object(self.quantizer)
        return {**super().get_config(), "quantizer": quantizer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizedLayer:
        """Make the layer from what `get_config` gave."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("layer", "quantizer")
        }
        return cls(**{**config, **parts})


def quantize_aware(
    model: keras.Model,
    scheme: QuantScheme,
    calibration: NDArray[np.float32],
    *,
    ranges: Ranges = "learned",
) -> keras.Model:
    """Give a copy of a trained model that computes as the scheme says and can be trained so.

    It is an ordinary Keras model: `compile` and `fit` it, save it as `.keras`, load it, go on. A
    process that loads the file imports this module first. Its answers at the start are those of
    `simulate` with the same scheme. Batch norm is folded. Lesson 08.

    Args:
        model: A built Sequential or functional model, trained in float.
        scheme: Bit widths and the rest, for each kind of tensor and for single layers.
        calibration: Images as the model gets them, shape (n, …): the ranges start from them, with
            the calibrators of the scheme.
        ranges: What becomes of the ranges, see `Quantizer`.

    Raises:
        ValueError: as for `Simulator`, for unknown `ranges`, and for tensor-wise weights whose
            ranges would move: each layer's would go its own way.
    """
    if ranges not in get_args(Ranges):
        raise ValueError(f"ranges must be one of {', '.join(get_args(Ranges))}, got {ranges!r}.")
    simulator = Simulator(model, calibration)
    params = simulator.params(scheme)
    by_layer = {name: scheme.for_layer(name).weights for name in simulator.kernels}
    for name, weights in by_layer.items():
        if weights.bits and weights.granularity == "tensor-wise" and ranges != "fixed":
            raise ValueError(
                f"weights.granularity is tensor-wise for layer {name}, and one scale for several "
                "layers cannot follow each of them: use layer-wise or channel-wise weights, or "
                "ranges='fixed'."
            )
    quantizers: dict[str, QuantizeActivation] = {}

    def after(node: Node, x: Any) -> Any:
        chosen = params.activations[node.name]
        if chosen is None:
            return x
        if node.kind == "same":
            quantizers[node.name] = quantizers[node.sources[0]]
            return quantizers[node.name](x, averages=True)
        tensor = scheme.for_layer(node.layer).activations if node.sources else scheme.input
        quantizers[node.name] = QuantizeActivation(
            chosen,
            "fixed" if node.kind == "fixed" else ranges,
            symmetric=tensor.symmetric,
            name=f"{node.end}_quant",
        )
        return quantizers[node.name](x)

    def replace(layer: keras.Layer) -> keras.Layer | None:
        chosen = params.weights[layer.name]
        if chosen is None:
            return None
        copy = type(layer).from_config(layer.get_config())
        symmetric = by_layer[layer.name].symmetric
        quantizer = QuantizeWeights(chosen, ranges, symmetric=symmetric, name="quantizer")
        return QuantizedLayer(copy, quantizer, name=layer.name)

    trainable = rebuild(simulator.model, after, replace)
    for layer in trainable.layers:
        if isinstance(layer, QuantizedLayer):
            layer.layer.set_weights(simulator.model.get_layer(layer.name).get_weights())
    return trainable


def float_model(model: keras.Model) -> keras.Model:
    """Take the quantization out of a model of `quantize_aware`: its float weights, as trained.

    A `Simulator` or `StagedRun` made with it runs the trained model with the maps of
    `trained_params`. Lesson 08.

    Raises:
        ValueError: for a model that `quantize_aware` has not made.
    """
    _require_quantized(model)

    def clone(layer: keras.Layer) -> keras.Layer:
        plain = layer.layer if isinstance(layer, QuantizedLayer) else layer
        return type(plain).from_config(plain.get_config())

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if isinstance(layer, QuantizeActivation) else layer(*args, **kwargs)

    copy = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        plain = layer.layer if isinstance(layer, QuantizedLayer) else layer
        if not isinstance(layer, QuantizeActivation):
            copy.get_layer(layer.name).set_weights(plain.get_weights())
    return copy


def trained_params(model: keras.Model) -> ModelParams:
    """Give the maps of a model of `quantize_aware` as they are now (lesson 08).

    Raises:
        ValueError: for a model that `quantize_aware` has not made.
    """
    plain = float_model(model)
    kernels, layers = models.kernels(plain), {layer.name: layer for layer in model.layers}
    weights = {
        name: layers[name].quantizer.params(kernels[name])
        if isinstance(layers[name], QuantizedLayer)
        else None
        for name in kernels
    }
    activations: dict[str, QuantParams | None] = {}
    for node in nodes(plain):
        quantizer = layers.get(f"{node.end}_quant")
        if node.kind == "same":
            activations[node.name] = activations[node.sources[0]]
        else:
            activations[node.name] = None if quantizer is None else quantizer.params()
    return ModelParams(weights, activations)


def frozen(model: keras.Model) -> keras.Model:
    """Give a model of `quantize_aware` for inference only: weights rounded, ranges constant.

    Its kernels hold the values that the integers stand for, so that a float file made of it carries
    the quantized weights; see `qat_export`. Lesson 08.

    Raises:
        ValueError: for a model that `quantize_aware` has not made.
    """
    return with_params(float_model(model), trained_params(model))


def _require_quantized(model: keras.Model) -> None:
    if not any(isinstance(layer, (QuantizedLayer, QuantizeActivation)) for layer in model.layers):
        raise ValueError(
            f"model {model.name} has no trainable quantization: make one with quantize_aware()."
        )


def _to_config(params: QuantParams) -> dict[str, Any]:
    values = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    arrays = {name: np.asarray(values[name]).tolist() for name in ("scale", "zero_point")}
    return {**values, **arrays}
