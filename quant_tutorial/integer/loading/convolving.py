"""Prepare the ops with weights, and products of matrices."""

from __future__ import annotations

import math
from typing import Any

from quant_tutorial.integer import ops
from quant_tutorial.integer.arithmetic import INT32_MAX
from quant_tutorial.integer.loading.source import (
    WAY_OUT,
    Built,
    NotCoveredError,
    Source,
    check_count,
    output_of,
    scale_of,
    shape_with_images,
    zero_point_of,
)
from quant_tutorial.integer.ops import Pair

import numpy as np
from ai_edge_litert import schema_py_generated as schema


def _weighted(
    source: Source, outputs_axis: int, *, place: int = 0, width: int = 31
) -> dict[str, Any]:
    """Return the arguments that all ops with weights share; `place` is that of the activation.

    The weights and biases are checked first, so that no accumulator can overflow.
    """
    x, weights = source.input(place), source.input(1)
    known = weights.type in ("int8", "int4")  # int4 ones are unpacked in `data`
    if weights.data is None or not known or weights.zero_points.any():
        raise source.refuse("weights that are not constant, int8 or int4, and symmetric")
    outputs = weights.shape[outputs_axis]
    bias, after = np.zeros(outputs, np.int32), max(place, 1) + 1
    if len(source.inputs) > after:
        bias = source.input(after).data
    if bias is None or bias.dtype != np.int32:
        raise source.refuse("a bias that is not a constant int32")
    # |q_x − zero_point| ≤ 255, so no input can lead to a larger sum than this.
    others = tuple(axis for axis in range(weights.data.ndim) if axis != outputs_axis)
    largest = 255 * np.abs(weights.data.astype(np.int64)).sum(axis=others) + abs(
        bias.astype(np.int64)
    )
    if largest.max() > INT32_MAX:
        raise NotCoveredError(
            f"{source.op} sums products up to {largest.max()}, more than an int32 holds "
            f"({INT32_MAX}): the layer has too many inputs. {WAY_OUT}."
        )
    scales = np.resize(weights.scales, outputs).astype(np.float64)  # one, or one for each channel
    ratios = scale_of(x) * scales / scale_of(source.output)
    activation = source.options.fusedActivationFunction
    return {
        "weights": weights.data,
        "bias": bias,
        "zero_point": zero_point_of(x),
        "output": output_of(source, ratios, activation, width=width),
    }


def strides_and_padding(source: Source, kernel: Pair, dilation: Pair = (1, 1)) -> dict[str, Any]:
    """Return the arguments with which a window slides over the input."""
    options, size = source.options, source.input(0).shape[1:3]
    strides = options.strideH, options.strideW
    reach = tuple((width - 1) * apart + 1 for width, apart in zip(kernel, dilation, strict=True))
    same = options.padding == schema.Padding.SAME
    padding = tuple(
        ops.same_padding(*axis) if same else (0, 0)
        for axis in zip(size, reach, strides, strict=True)
    )
    return {"strides": strides, "padding": padding}


def convolution(source: Source) -> Built:
    """Prepare CONV_2D or DEPTHWISE_CONV_2D."""
    kernel = source.input(1).shape[1:3]
    dilation = source.options.dilationHFactor, source.options.dilationWFactor
    depthwise = source.name == "DEPTHWISE_CONV_2D"
    arguments = _weighted(source, 3 if depthwise else 0)
    arguments |= strides_and_padding(source, kernel, dilation)
    if dilation != (1, 1):
        arguments["dilation"] = dilation
    function = ops.depthwise_convolve if depthwise else ops.convolve
    return Built(function, source.inputs[:1], arguments)


def transpose_convolution(source: Source) -> Built:
    """Prepare TRANSPOSE_CONV, a convolution from its output to its input."""
    options = source.options
    size = tuple(int(length) for length in source.constant(0)[1:3])
    strides = options.strideH, options.strideW
    same = options.padding == schema.Padding.SAME
    origin = tuple(
        ops.same_padding(*axis)[0] if same else 0
        for axis in zip(size, source.input(1).shape[1:3], strides, strict=True)
    )
    arguments = _weighted(source, 0, place=2)
    arguments |= {"strides": strides, "size": size, "origin": origin}
    return Built(ops.transpose_convolve, source.inputs[2:3], arguments)


def fully_connected(source: Source) -> Built:
    """Prepare FULLY_CONNECTED."""
    x, (units, width) = source.input(0), source.input(1).shape
    shape = (*x.shape[:-1], units)
    if not source.options.keepNumDims:
        shape = (math.prod(x.shape) // width, units)
    arguments = _weighted(source, 0, width=62)
    return Built(
        ops.fully_connected,
        source.inputs[:1],
        arguments | {"shape": shape_with_images(x.shape, shape)},
    )


def matrices(source: Source) -> Built:
    """Prepare BATCH_MATMUL of two activations, or of one and a constant."""
    a, b = source.inputs
    transposed = bool(source.options.adjX), bool(source.options.adjY)
    check_count(source, a.shape[-2 if transposed[0] else -1], 255**2)
    # In float32, as LiteRT does for the product.
    ratio = float(a.scales[0] * b.scales[0]) / scale_of(source.output)
    keeps = all(
        len(tensor.shape) == len(source.output.shape) > 2
        for tensor in source.inputs
        if tensor.data is None
    )
    arguments = {
        "zero_points": (zero_point_of(a), zero_point_of(b)),
        "transposed": transposed,
        "output": output_of(source, ratio),
    }
    return Built(ops.multiply_matrices, source.inputs, arguments, keeps)
