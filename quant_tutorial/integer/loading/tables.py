"""Make tables for the ops that are functions of one 8-bit integer.

LiteRT fills them with float32, as here. The functions themselves are computed in float64 and then
rounded: the last bit of a float32 function depends on the C library, and hardly ever matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from quant_tutorial.affine import round_half_away
from quant_tutorial.integer import ops
from quant_tutorial.integer.loading.source import (
    Built,
    Source,
    read_only,
    zero_point_of,
)

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def _each(function: Callable[[float], float], x: Floats) -> Floats:
    """Return a function of each value, rounded to float32."""
    return np.array([function(float(value)) for value in x]).astype(np.float32)


def _exponential(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.exp(x.astype(np.float64)).astype(np.float32)


def _logistic(x: Floats) -> Floats:
    return np.float32(1) / (np.float32(1) + _exponential(-x))


def _gelu(x: Floats) -> Floats:
    return np.float32(0.5) * x * _each(math.erfc, x * np.float32(-math.sqrt(0.5)))


def _gelu_by_tanh(x: Floats) -> Floats:
    cubic = x + np.float32(0.044715) * x * x * x
    return np.float32(0.5) * x * (1 + _each(math.tanh, np.float32(math.sqrt(2 / math.pi)) * cubic))


_FUNCTIONS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        "EXP": _exponential,
        "LOGISTIC": _logistic,
        "TANH": lambda x: _each(math.tanh, x),
    }
)


def table(source: Source) -> Built:
    """Prepare an op by computing its 256 results."""
    x, out = source.input(0), source.output
    real = x.scales[0] * (np.arange(-128, 128) - zero_point_of(x)).astype(np.float32)
    lowest = -128
    if source.name == "GELU":
        values = (_gelu_by_tanh if source.options.approximate else _gelu)(real)
    elif source.name == "LOG":  # 0 and below become the lowest output
        least = np.float32(-128 - zero_point_of(out)) * out.scales[0]
        values = np.where(real > 0, _each(math.log, np.where(real > 0, real, 1)), least)
    elif source.name == "SQRT":
        values, lowest = np.sqrt(np.maximum(real, 0)), zero_point_of(x)
    else:
        values = _FUNCTIONS[source.name](real)
    if source.name == "SQRT":
        steps = np.trunc(values / out.scales[0])
    else:
        steps = round_half_away(values * (np.float32(1) / out.scales[0]))
    steps = np.clip(steps.astype(np.float64) + zero_point_of(out), -128, 127)
    arguments = {"table": read_only(steps.astype(np.int8)), "name": source.name}
    if lowest > -128:
        arguments["lowest"] = lowest
    return Built(ops.look_up, source.inputs[:1], arguments)
