"""Compute beforehand what does not depend on the images: shapes, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from quant_tutorial.integer.loading.source import Built, Source

import numpy as np
from numpy.typing import NDArray

# Ops on whole numbers, such as lengths, which stand for themselves and have no scale.
_FUNCTIONS: Mapping[str, Callable[..., NDArray[Any]]] = MappingProxyType(
    {
        "ADD": np.add,
        "CAST": np.array,
        "FILL": lambda shape, value: np.full(shape, value),
        "FLOOR_DIV": np.floor_divide,
        "MAXIMUM": np.maximum,
        "MINIMUM": np.minimum,
        "MUL": np.multiply,
        "RANGE": np.arange,
        "REDUCE_PROD": lambda x, axes: np.prod(x, axis=tuple(np.ravel(axes))),
        "SUB": np.subtract,
    }
)


def whole_numbers(source: Source) -> Built | None:
    """Prepare an op on whole numbers that do not depend on the images; None for another op."""
    if source.name not in _FUNCTIONS or any(len(tensor.scales) for tensor in source.inputs):
        return None
    if any(tensor.data is None for tensor in source.inputs):
        return None
    function, dtype = _FUNCTIONS[source.name], source.output.dtype
    return Built(lambda *values: np.asarray(function(*values), dtype), source.inputs)


def shape_of(source: Source) -> Built:
    """Prepare SHAPE, of one image."""
    lengths = np.array(source.input(0).shape, source.output.dtype)
    return Built(lambda: lengths, ())
