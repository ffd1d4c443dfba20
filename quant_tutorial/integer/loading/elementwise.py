"""Prepare the ops that work value by value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from quant_tutorial.affine import dequantize, quantize
from quant_tutorial.integer import ops
from quant_tutorial.integer.arithmetic import INT32_MAX
from quant_tutorial.integer.loading.source import (
    Built,
    Source,
    multiplier_of,
    output_of,
    read_only,
    require_same_scale,
    scale_of,
    zero_point_of,
)

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray


def _keeps_images(source: Source) -> bool:
    """Tell whether broadcasting puts the first axis of each activation on that of the output."""
    return all(
        len(tensor.shape) == len(source.output.shape)
        for tensor in source.inputs
        if tensor.data is None
    )


def _paired(source: Source, function: Callable, arguments: dict[str, Any]) -> Built:
    return Built(function, source.inputs, arguments, _keeps_images(source))


def _on_common_scale(source: Source, common: float) -> dict[str, Any]:
    """Return the arguments that bring both inputs to a common scale."""
    pairs = [multiplier_of(source, scale_of(x) / common) for x in source.inputs]
    return {
        "zero_points": tuple(zero_point_of(x) for x in source.inputs),
        "multipliers": tuple(int(multiplier) for multiplier, _ in pairs),
        "shifts": tuple(int(shift) for _, shift in pairs),
    }


def addition(source: Source) -> Built:
    """Prepare ADD or SUB."""
    common = 2 * max(scale_of(x) for x in source.inputs)
    ratio = common / (2**20 * scale_of(source.output))
    output = output_of(source, ratio, source.options.fusedActivationFunction)
    function = ops.add if source.name == "ADD" else ops.subtract
    return _paired(source, function, _on_common_scale(source, common) | {"output": output})


def squared_difference(source: Source) -> Built:
    """Prepare SQUARED_DIFFERENCE."""
    common = 2 * max(scale_of(x) for x in source.inputs)
    output = output_of(source, common**2 / (2**14 * scale_of(source.output)))
    arguments = _on_common_scale(source, common) | {"output": output}
    return _paired(source, ops.squared_difference, arguments)


def comparison(source: Source) -> Built:
    """Prepare GREATER, GREATER_EQUAL, LESS or LESS_EQUAL; the last two with inputs exchanged."""
    if any(scale_of(x) >= 1 for x in source.inputs):
        raise source.refuse("a scale of 1 or more")
    arguments = _on_common_scale(source, 1.0) | {"or_equal": source.name.endswith("EQUAL")}
    built = _paired(source, ops.greater, arguments)
    if source.name.startswith("GREATER"):
        return built
    turned = {
        name: value[::-1] if isinstance(value, tuple) else value
        for name, value in arguments.items()
    }
    return Built(ops.greater, source.inputs[::-1], turned, built.keeps_images)


def multiplication(source: Source) -> Built:
    """Prepare MUL; LiteRT computes the ratio in float32."""
    a, b = source.inputs
    ratio = a.scales[0] * b.scales[0] / source.output.scales[0]
    arguments = {
        "zero_points": (zero_point_of(a), zero_point_of(b)),
        "output": output_of(source, ratio, source.options.fusedActivationFunction),
    }
    return _paired(source, ops.multiply, arguments)


def division(source: Source) -> Built:
    """Prepare DIV; LiteRT computes the ratio in float32."""
    a, b = source.inputs
    ratio = a.scales[0] / (b.scales[0] * source.output.scales[0])
    arguments = {
        "zero_points": (zero_point_of(a), zero_point_of(b)),
        "output": output_of(source, ratio, source.options.fusedActivationFunction),
    }
    return _paired(source, ops.divide, arguments)


def extreme(source: Source) -> Built:
    """Prepare MAXIMUM or MINIMUM."""
    require_same_scale(source, *source.inputs)
    return _paired(source, ops.maximum if source.name == "MAXIMUM" else ops.minimum, {})


def selection(source: Source) -> Built:
    """Prepare SELECT or SELECT_V2."""
    require_same_scale(source, *source.inputs[1:])
    shapes = {tensor.shape for tensor in source.inputs}
    if source.name == "SELECT" and len(shapes) > 1:
        raise source.refuse("tensors of different shapes")
    return _paired(source, ops.select, {})


def _one_input(source: Source, function: Callable, **arguments: Any) -> Built:
    zero_point = {"zero_point": zero_point_of(source.input(0))}
    return Built(function, source.inputs[:1], zero_point | arguments)


def requantization(source: Source) -> Built:
    """Prepare QUANTIZE, from floats or from integers."""
    x = source.input(0)
    if x.dtype == np.float32:
        return Built(quantize, source.inputs, {"params": source.output.params})
    ratio = scale_of(x) / scale_of(source.output)
    return _one_input(source, ops.requantize, output=output_of(source, ratio))


def dequantization(source: Source) -> Built:
    """Prepare DEQUANTIZE."""
    return Built(dequantize, source.inputs, {"params": source.input(0).params})


def relu(source: Source) -> Built:
    """Prepare RELU, RELU6 or RELU_N1_TO_1, when it stands alone."""
    ratio = source.input(0).scales[0] / source.output.scales[0]  # in float32, as LiteRT does
    activation = getattr(schema.ActivationFunctionType, source.name)
    return _one_input(source, ops.requantize, output=output_of(source, ratio, activation))


def absolute(source: Source) -> Built:
    """Prepare ABS; LiteRT computes the ratio in float32."""
    ratio = source.input(0).scales[0] / source.output.scales[0]
    return _one_input(source, ops.absolute, output=output_of(source, ratio))


def leaky_relu(source: Source) -> Built:
    """Prepare LEAKY_RELU; LiteRT computes both ratios in float32."""
    scale, out = source.input(0).scales[0], source.output.scales[0]
    alpha = np.float32(source.options.alpha)
    below = scale * alpha / out
    multiplier, shift = multiplier_of(source, abs(below))
    return _one_input(
        source,
        ops.leaky_relu,
        multiplier=int(multiplier),
        shift=int(shift),
        sign=-1 if below < 0 else 1,
        output=output_of(source, scale / out),
    )


def prelu(source: Source) -> Built:
    """Prepare PRELU; LiteRT computes both ratios in float32."""
    x, alpha = source.inputs
    scale, out = x.scales[0], source.output.scales[0]
    multiplier, shift = multiplier_of(source, scale * alpha.scales[0] / out)
    arguments = {
        "zero_points": (zero_point_of(x), zero_point_of(alpha)),
        "multiplier": int(multiplier),
        "shift": int(shift),
        "output": output_of(source, scale / out),
    }
    return _paired(source, ops.prelu, arguments)


def hard_swish(source: Source) -> Built:
    """Prepare HARD_SWISH; LiteRT computes the ratios in float32 and keeps 15 bits of each."""
    fine = np.float32(1 / 128) * source.input(0).scales[0]
    output = output_of(source, fine / source.output.scales[0])
    if output.shift > 0:
        raise source.refuse("a scale of its input that is 128 times that of its output, or more")
    gate, gate_shift = multiplier_of(source, fine / np.float32(3 / 2**15))
    return _one_input(
        source,
        ops.hard_swish,
        gate_multiplier=int(_in_15_bits(gate)),
        gate_shift=int(gate_shift),
        output=replace(output, multiplier=_in_15_bits(output.multiplier)),
    )


def _in_15_bits(multiplier: NDArray[np.int64]) -> NDArray[np.int64]:
    return read_only(np.minimum((multiplier + 2**15) >> 16, 2**15 - 1))


def normalization(source: Source) -> Built:
    """Prepare L2_NORMALIZATION over the last axis."""
    x = source.input(0)
    if x.shape[-1] > INT32_MAX // 255**2:
        raise source.refuse(f"{x.shape[-1]} values")
    return _one_input(source, ops.normalize, output=output_of(source, 1))


def reciprocal_root(source: Source) -> Built:
    """Prepare RSQRT; LiteRT takes the root of the scale in float32."""
    scale, out = source.input(0).scales[0], source.output.scales[0]
    output = output_of(source, 1.0 / float(np.sqrt(scale) * out))
    return _one_input(source, ops.reciprocal_root, output=output)
