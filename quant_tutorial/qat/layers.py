"""Fake-quantize with Keras layers that can be trained (lesson 08).

    x̂ = clip(round(x / s), qmin − z, qmax − z) · s    the forward pass
    ∂x̂/∂x = 1 inside the range, 0 outside             the straight-through estimator
    ∂x̂/∂s = round(x/s) − x/s inside the range,        the gradient that follows for the scale
            qmin − z or qmax − z outside
    s = s₀ · e^t, so ∂x̂/∂t = s · ∂x̂/∂s      what a learned range trains is t

The forward pass is that of `simulate`. Rounding is a staircase: its gradient is 0 wherever it is
defined, so that nothing would be learned. The straight-through estimator (Bengio, Léonard and
Courville, 2013) treats rounding as the identity in the backward pass. With the same rule for the
scale, the range itself can be trained, which is learned step size quantization (Esser et al., ICLR
2020).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from quant_tutorial.affine import QuantParams
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.simulate import rounded

import numpy as np

Ranges = Literal["learned", "moving_average", "fixed"]

MOMENTUM = 0.99  # of the moving average of an activation's minimum and maximum, per batch


def straight_through(
    x: Any, scale: Any, zero_point: Any, qmin: int, qmax: int, *, averages: bool = False
) -> Any:
    """Fake-quantize a tensor, with the straight-through estimator in the backward pass.

    The forward pass is `simulate.rounded`. The gradient for x is that of clipping, as in
    TensorFlow's fake-quant op, and the gradient for the scale follows from it. The zero point has
    no gradient. Lesson 08.

    Args:
        x: A tensor of any shape.
        scale: A tensor with one scale, or with one for each entry of the last axis of x.
        zero_point: The integer(s) that stand for 0, as floats in the shape of the scale.
        qmin: The smallest integer.
        qmax: The largest integer.
        averages: Whether the values are averages of integers; see `simulate.rounded`.
    """
    # As tensors, because a custom gradient would take Keras' variables for variables of its own.
    x, scale, zero_point = (tf.convert_to_tensor(value) for value in (x, scale, zero_point))
    low, high = qmin - zero_point, qmax - zero_point

    @tf.custom_gradient
    def through(x: tf.Tensor, scale: tf.Tensor) -> tuple[tf.Tensor, Any]:
        x_hat = rounded(x, scale, low, high, zero_point if averages else None)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            steps = x / scale
            inside = tf.logical_and(steps >= low, steps <= high)
            to_x = tf.where(inside, upstream, 0.0)
            # Inside it is round(x/s) − x/s; outside it is the end of the range, which is x̂/s.
            to_scale = upstream * (x_hat / scale - tf.where(inside, steps, 0.0))
            axes = list(range(x.shape.rank - scale.shape.rank))
            return to_x, tf.reduce_sum(to_scale, axes)

        return x_hat, gradient

    return through(x, scale)


class Quantizer(keras.layers.Layer):
    """Fake quantization whose range may change during training (lesson 08).

    Args:
        params: The initial quantization parameters; or their fields as a mapping, which is how a
            saved file holds them.
        ranges: How the range changes. "learned": the scale is its initial value times e^t, and t is
            trained. The scale thus stays positive, and a step of t is a relative change, whatever
            its unit; Jain et al. (MLSys 2020) train its logarithm too. The zero point does not
            change. "moving_average": the range follows the values; see the two subclasses. "fixed":
            the parameters do not change.
        symmetric: Whether to keep the zero point at 0 when the range follows the values.
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
        """Create the variable of a learned range."""
        if self.ranges == "learned":
            shape = np.shape(self.start.scale)
            self.growth = self.add_weight(shape=shape, initializer="zeros", name="growth")
        self.built = True

    def scale_and_zero_point(self, low: Any = None, high: Any = None) -> tuple[Any, Any]:
        """Return the current scale(s) and zero point(s) as float32 tensors.

        With the ends of a range, low and high, return the scale(s) and zero point(s) that fit it,
        chosen as by `affine.params_from_range`.
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
        """Convert scale(s) and zero point(s) to `QuantParams`."""
        scale, zero_point = (keras.ops.convert_to_numpy(value) for value in (scale, zero_point))
        return dataclasses.replace(
            self.start, scale=scale.astype(np.float64), zero_point=zero_point.astype(np.int64)
        )

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape unchanged."""
        return shape

    def get_config(self) -> dict[str, Any]:
        """Return what `keras.saving` needs to restore the layer."""
        own = {"ranges": self.ranges, "symmetric": self.symmetric}
        return {**super().get_config(), "params": _to_config(self.start), **own}


@keras.saving.register_keras_serializable("quant_tutorial")
class QuantizeActivation(Quantizer):
    """Fake-quantizes the values of a node, with one scale (lesson 08).

    With "moving_average" the ends of its range are moving averages of the minimum and the maximum
    of the training batches.
    """

    def build(self, *_: Any) -> None:
        """Create the variables of a learned range or of a moving average."""
        super().build()
        if self.ranges == "moving_average":
            for name in ("minimum", "maximum"):
                initial = keras.initializers.Constant(getattr(self.start, name))
                setattr(self, name, self.add_weight((), initial, trainable=False, name=name))

    def call(self, x: Any, training: bool | None = None, averages: bool = False) -> Any:
        """Fake-quantize values of any shape; with `averages`, they are averages of integers."""
        if training and not averages and self.ranges == "moving_average":
            for end, found in ((self.minimum, keras.ops.min(x)), (self.maximum, keras.ops.max(x))):
                end.assign(MOMENTUM * end + (1 - MOMENTUM) * found)
        return self.quantized(x, *self._now(), averages)

    def params(self) -> QuantParams:
        """Return the current quantization parameters."""
        return self.params_of(*self._now())

    def _now(self) -> tuple[Any, Any]:
        follows = self.ranges == "moving_average"
        return self.scale_and_zero_point(*([self.minimum, self.maximum] if follows else []))


@keras.saving.register_keras_serializable("quant_tutorial")
class QuantizeWeights(Quantizer):
    """Fake-quantizes a layer's weights, with one scale or one per output channel (lesson 08).

    With "moving_average" the range is that of the weights at every step. Nothing needs to be
    averaged, because all weights are known.
    """

    def call(self, kernel: Any) -> Any:
        """Fake-quantize weights in the shape of Keras' `kernel`."""
        # A depthwise kernel ends in (inputs, multiplier): two axes make up its channels.
        channels = (
            keras.ops.reshape(kernel, (*kernel.shape[:-2], -1)) if self.is_split(kernel) else kernel
        )
        return keras.ops.reshape(self.quantized(channels, *self._now(channels)), kernel.shape)

    def params(self, kernel: Any) -> QuantParams:
        """Return the current parameters for weights with the output channels on the last axis."""
        return self.params_of(*self._now(kernel))

    def is_split(self, kernel: Any) -> bool:
        """Return whether two axes of the kernel make up the output channels (depthwise)."""
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
    """A convolution or dense layer that computes with fake-quantized weights (lesson 08).

    `layer` keeps the float weights, and these are what the optimizer changes. Many small steps add
    up in a float weight until it reaches the next level.
    """

    def __init__(self, layer: keras.Layer, quantizer: QuantizeWeights, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.quantizer = quantizer

    def build(self, input_shape: Any = None) -> None:
        """Build the layer and its quantizer."""
        super().build(input_shape)
        if not self.quantizer.built:  # it is when it comes from a saved file
            self.quantizer.build(self.layer.kernel.shape)

    def call(self, x: Any) -> Any:
        """Compute with the fake-quantized weights."""
        kernel = self.layer.kernel
        if isinstance(self.layer, keras.layers.Conv2DTranspose):
            # Its output channels are on the last axis but one.
            kernel = _swapped(self.quantizer(_swapped(kernel)))
        else:
            kernel = self.quantizer(kernel)
        with keras.StatelessScope(state_mapping=[(self.layer.kernel, kernel)]):
            return self.layer(x)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the output shape of the layer."""
        return self.layer.compute_output_shape(shape)

    def get_config(self) -> dict[str, Any]:
        """Return what `keras.saving` needs to restore the layer."""
        quantizer = keras.saving.serialize_keras_object(self.quantizer)
        return {**super().get_config(), "quantizer": quantizer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizedLayer:
        """Make the layer from the result of `get_config`."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("layer", "quantizer")
        }
        return cls(**{**config, **parts})


def _swapped(kernel: Any) -> Any:
    return keras.ops.swapaxes(kernel, -1, -2)


def _to_config(params: QuantParams) -> dict[str, Any]:
    values = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    arrays = {name: np.asarray(values[name]).tolist() for name in ("scale", "zero_point")}
    return {**values, **arrays}
