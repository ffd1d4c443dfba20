"""Prepare pooling, means, sums, extremes and SOFTMAX."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from quant_tutorial.integer import ops
from quant_tutorial.integer.loading.convolving import strides_and_padding
from quant_tutorial.integer.loading.source import (
    Built,
    Source,
    activation_range,
    check_count,
    multiplier_of,
    output_of,
    read_only,
    require_same_scale,
    scale_of,
    zero_point_of,
)

import numpy as np


def pool(source: Source) -> Built:
    """Prepare MAX_POOL_2D or AVERAGE_POOL_2D."""
    options = source.options
    kernel = options.filterHeight, options.filterWidth
    lowest, highest = activation_range(source, options.fusedActivationFunction)
    arguments = {"kernel": kernel, "lowest": lowest, "highest": highest}
    function = ops.max_pool
    if source.name == "AVERAGE_POOL_2D":
        check_count(source, math.prod(kernel))
        function = ops.average_pool
    return Built(function, source.inputs, arguments | strides_and_padding(source, kernel))


def _axes(source: Source) -> tuple[int, ...]:
    rank = len(source.input(0).shape)
    return tuple(sorted({int(axis) % rank for axis in np.ravel(source.constant(1))}))


def _reduced(source: Source, function: Any, arguments: dict[str, Any]) -> Built:
    axes = _axes(source)
    arguments = {"axes": axes, "keep": bool(source.options.keepDims)} | arguments
    return Built(function, source.inputs[:1], arguments, keeps_images=0 not in axes)


def mean(source: Source) -> Built:
    """Prepare MEAN."""
    x, count = source.input(0), _count(source)
    output = output_of(source, scale_of(x) / scale_of(source.output))
    # The division by the count, in integers. To keep precision, the multiplier is first shifted to
    # the left as far as there is room.
    shift = int(output.shift)
    places = min(count.bit_length() - 1, 31 + shift)
    unused = 31 - (source.multiplier_bits or 31)
    multiplier = (output.multiplier << places) // count >> unused << unused
    output = replace(output, multiplier=read_only(multiplier), shift=read_only(shift - places))
    return _reduced(source, ops.mean, {"zero_point": zero_point_of(x), "output": output})


def total(source: Source) -> Built:
    """Prepare SUM; LiteRT computes the ratio in float32."""
    x = source.input(0)
    _count(source)
    output = output_of(source, x.scales[0] / source.output.scales[0], width=62)
    return _reduced(source, ops.add_up, {"zero_point": zero_point_of(x), "output": output})


def _count(source: Source) -> int:
    """Return how many values are added up, if an int32 has room for their sum."""
    shape = source.input(0).shape
    count = math.prod(shape[axis] for axis in _axes(source))
    check_count(source, count)
    return count


def extreme(source: Source) -> Built:
    """Prepare REDUCE_MAX or REDUCE_MIN."""
    require_same_scale(source, source.input(0))
    return _reduced(source, ops.largest if source.name == "REDUCE_MAX" else ops.smallest, {})


def position(source: Source) -> Built:
    """Prepare ARG_MAX or ARG_MIN."""
    axis = int(source.constant(1).item()) % len(source.input(0).shape)
    is_largest = source.name == "ARG_MAX"
    function = ops.position_of_largest if is_largest else ops.position_of_smallest
    arguments = {"axis": axis, "dtype": source.output.dtype}
    return Built(function, source.inputs[:1], arguments, keeps_images=axis != 0)


def softmax(source: Source) -> Built:
    """Prepare SOFTMAX over the last axis."""
    x = source.input(0)
    if x.shape[-1] > 511:  # LiteRT ends the process if the exponentials add up to 512
        raise source.refuse(f"{x.shape[-1]} classes")
    # From a scale of 16 on, every exponential except exp(0) is 0, whatever the ratio.
    ratio = min(source.options.beta * scale_of(x) * 2**26, 2.0**30 - 1)
    multiplier, shift = multiplier_of(source, ratio)
    return Built(ops.softmax, source.inputs, {"multiplier": int(multiplier), "shift": int(shift)})
