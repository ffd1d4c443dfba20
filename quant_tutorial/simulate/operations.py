"""Layers for what a prepared model computes and Keras has no layer for (lesson 05).

A prepared model holds only layers, each used once. `WithConstant` is an operation of a tensor and a
constant, such as the multiplication and the addition of a batch norm that follows no convolution;
`Function` is an operation of `keras.ops` on one tensor, such as a slice or a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from quant_tutorial.affine import QuantParams, fake_quantize, params_from_range
from quant_tutorial.frameworks import keras

import numpy as np
from numpy.typing import NDArray

ConstantOperation = Literal["add", "multiply", "subtract_from", "maximum", "minimum", "prelu"]
_ops = keras.ops

_WITH_CONSTANT: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, c: x + c,
    "multiply": lambda x, c: x * c,
    "subtract_from": lambda x, c: c - x,
    "maximum": _ops.maximum,
    "minimum": _ops.minimum,
    # As Keras writes it, so that the converter makes the op PRELU of it.
    "prelu": lambda x, c: _ops.relu(x) + -c * _ops.relu(-x),
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": _ops.abs,
    "clip": lambda x, x_min, x_max: _ops.clip(x, x_min, x_max),
    "gelu": keras.activations.gelu,
    "max": _ops.max,
    "mean": _ops.mean,
    "min": _ops.min,
    "slice": lambda x, key: x[tuple(p if isinstance(p, int) else slice(*p) for p in key)],
    "sum": _ops.sum,
}


@keras.saving.register_keras_serializable("quant_tutorial")
class WithConstant(keras.layers.Layer):
    """An operation of a tensor and a constant: "add", "multiply", … (lesson 05).

    "subtract_from" subtracts the tensor from the constant, and "prelu" multiplies negative values
    by it. The constant is a weight, which is not trained.

    Args:
        operation: What it computes.
        shape: The shape of the constant, which fits the last axes of the tensor.
    """

    def __init__(
        self, operation: ConstantOperation, shape: Sequence[int] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.operation, self.shape = operation, tuple(shape)

    def build(self, *_: Any) -> None:
        """Create the constant."""
        self.constant = self.add_weight(self.shape, "zeros", trainable=False, name="constant")
        self.built = True

    def call(self, x: Any) -> Any:
        """Compute the operation on a tensor."""
        return _WITH_CONSTANT[self.operation](x, self.constant)

    def rounded_constant(self, bits: int | None) -> NDArray[np.float32]:
        """Return the constant as a file with integers of so many bits has it; None: in float."""
        values = self.constant.numpy()
        if bits is None or self.operation in ("maximum", "minimum"):
            # A limit is rounded with the values that it limits, at the next node.
            return values
        return fake_quantize(values, self._params(values, bits)).astype(np.float32)

    def _params(self, values: NDArray[np.float32], bits: int) -> QuantParams:
        ends = float(values.min()), float(values.max())
        symmetric = self.operation == "prelu"
        return params_from_range(*ends, bits, symmetric=symmetric, narrow_range=symmetric)

    def get_config(self) -> dict[str, Any]:
        """Return what `keras.saving` needs to restore the layer."""
        return {**super().get_config(), "operation": self.operation, "shape": list(self.shape)}


@keras.saving.register_keras_serializable("quant_tutorial")
class Function(keras.layers.Layer):
    """An operation of `keras.ops` on one tensor, with its other arguments (lesson 05).

    Args:
        operation: Its name: "mean", "slice", …
        arguments: Its keyword arguments; of a slice, `key` has for each axis a number or start,
            stop and step.
    """

    def __init__(
        self, operation: str, arguments: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.operation, self.arguments = operation, dict(arguments or {})

    def call(self, x: Any) -> Any:
        """Compute the operation on a tensor."""
        return _FUNCTIONS[self.operation](x, **self.arguments)

    def get_config(self) -> dict[str, Any]:
        """Return what `keras.saving` needs to restore the layer."""
        return {
            **super().get_config(),
            "operation": self.operation,
            "arguments": dict(self.arguments),
        }
