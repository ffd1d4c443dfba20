"""Fake-quantize values with Keras operations, for everything that is simulated (lesson 05).

`rounded` is the function, `FakeQuantize` the Keras layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant_tutorial.affine import QuantParams
from quant_tutorial.frameworks import keras

import numpy as np
from numpy.typing import NDArray


@keras.saving.register_keras_serializable("quant_tutorial")
class FakeQuantize(keras.layers.Layer):
    """Rounds values to the real values that the quantized integers stand for (lesson 05).

    It computes clip(round(x / scale), qmin − z, qmax − z) · scale, where z is the zero point. Ties
    go to the even neighbour, as in XNNPACK's kernels. Computed values are hardly ever ties, but
    averages of integers often are.

    Args:
        params: The quantization parameters, with one scale; or their fields as a mapping, which is
            how a saved file holds them.
        averages: Whether to round averages of integers as LiteRT's average pooling does; see
            `rounded`.

    Raises:
        ValueError: for parameters with several scales.
    """

    def __init__(
        self, params: QuantParams | Mapping[str, Any], *, averages: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.params = params if isinstance(params, QuantParams) else QuantParams(**params)
        self.averages = averages
        if self.params.axis is not None:
            raise ValueError(f"params must have one scale, got {np.size(self.params.scale)}.")

    def call(self, x: Any) -> Any:
        """Round values of any shape."""
        return rounded(x, *run_time_values(self.params, self.averages))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape unchanged."""
        return shape

    def get_config(self) -> dict[str, Any]:
        """Return what `keras.saving` needs to restore the layer."""
        names = ("bits", "scale", "zero_point", "signed", "narrow_range")
        params = {name: getattr(self.params, name) for name in names}
        return {**super().get_config(), "params": params, "averages": self.averages}


def rounded(x: Any, scale: Any, low: Any, high: Any, zero_point: Any = None) -> Any:
    """Round float values to multiples of the scale from low · scale to high · scale (lesson 05).

    It uses Keras operations on tensors of any shape, and every argument may be a run-time value.

    With a zero point, the values are averages of integers. LiteRT rounds their ties away from the
    integer 0, not away from the real 0. A value within a thousandth of a tie counts as a tie,
    because float32 may have moved it off.
    """
    ops = keras.ops
    steps = x / scale
    if zero_point is None:
        steps = ops.round(steps)
    else:
        q = steps + zero_point
        steps = ops.sign(q) * ops.floor(ops.abs(q) + 0.501) - zero_point
    return ops.minimum(ops.maximum(steps, low), high) * scale


def run_time_values(params: QuantParams | None, averages: bool = False) -> NDArray[np.float32]:
    """Return the arguments (scale, low, high) of `rounded`, and the zero point for averages.

    Without parameters, the values returned round nothing: dividing by a tiny power of two is exact,
    and a quotient that large has no fraction to round. Lesson 05.

    Args:
        params: The quantization parameters, with one scale; None stays in float.
        averages: Whether `rounded` is to round averages of integers, which takes the zero point.
    """
    if params is None:
        values = [2.0**-64, -3e38, 3e38, 0.0]
    else:
        zero_point = params.zero_point
        values = [params.scale, params.qmin - zero_point, params.qmax - zero_point, zero_point]
    return np.array(values if averages else values[:3], np.float32)
