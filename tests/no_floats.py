"""Run integer-only inference on guard: a float anywhere between its ends is an error."""

import dataclasses
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from quant_tutorial import affine, integer
from quant_tutorial.integer import arithmetic, ops
from quant_tutorial.integer.ops import convolving

import numpy as np
import pytest


def refuse_floats(*values: Any) -> None:
    for value in values:
        if isinstance(value, list | tuple):
            refuse_floats(*value)
        elif isinstance(value, np.ndarray | np.generic):
            refuse_floats(value.dtype)
        elif isinstance(value, type) and issubclass(value, np.generic | float):
            refuse_floats(np.dtype(value))
        elif isinstance(value, float) or (isinstance(value, np.dtype) and value.kind not in "iub"):
            raise AssertionError(f"{value} in the integer path")


class Integers(np.ndarray):
    """An array that fails when it meets, is or becomes anything but integers (or booleans)."""

    def __array_finalize__(self, source: Any) -> None:
        refuse_floats(self)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        refuse_floats(*inputs, *named.values())
        return guarded(getattr(ufunc, method)(*plain(inputs), **plain(named)))

    def __array_function__(self, function: Any, _: Any, inputs: Any, named: Any) -> Any:
        refuse_floats(*inputs, *named.values())
        return guarded(function(*plain(inputs), **plain(named)))


def plain(value: Any) -> Any:
    if isinstance(value, Integers):
        return value.view(np.ndarray)
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


def guarded(value: Any) -> Any:
    """Turn arrays, NumPy's numbers and what consists of them into arrays that are on guard."""
    refuse_floats(value)
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(plain(value)).view(Integers)
    if isinstance(value, integer.Output):
        names = ("multiplier", "shift")
        return dataclasses.replace(value, **{name: guarded(getattr(value, name)) for name in names})
    return type(value)(map(guarded, value)) if isinstance(value, list | tuple) else value


class GuardedNumPy:
    """NumPy as the module sees it, whose functions take and give guarded arrays only."""

    def __getattr__(self, name: str) -> Any:
        return guarded_function(getattr(np, name))


def guarded_function(function: Any) -> Any:
    if isinstance(function, type) or not callable(function):
        return function

    def checked(*inputs: Any, **named: Any) -> Any:
        refuse_floats(*inputs, *named.values())
        return guarded(function(*plain(inputs), **plain(named)))

    return checked


def patch_each(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    """Put something in the place of a name in each module that computes."""
    rooms = [import_module(f"{ops.__name__}.{part.name}") for part in iter_modules(ops.__path__)]
    for module in (arithmetic, *rooms):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, value)


def run_on_guard(
    monkeypatch: pytest.MonkeyPatch, model: integer.IntegerModel, x: np.ndarray | list[np.ndarray]
) -> Any:
    """Run the ops between the floats of a file, with a float anywhere an error."""
    patch_each(monkeypatch, "np", GuardedNumPy())
    patch_each(monkeypatch, "sliding_window_view", guarded_function(convolving.sliding_window_view))
    values = {index: guarded(value) for index, value in model.constants.items()}
    values |= dict(zip(model.inputs, x if isinstance(x, list) else [x], strict=True))
    for op in model.steps:
        if op.function in (affine.quantize, affine.dequantize):
            values[op.output] = op.function(*plain([values[i] for i in op.inputs]), **op.arguments)
            continue
        arguments = {name: guarded(value) for name, value in op.arguments.items()}
        inputs = [guarded(values[index]) for index in op.inputs]
        values[op.output] = op.function(*inputs, **arguments)
        assert type(values[op.output]) is Integers
    monkeypatch.undo()
    outputs = [plain(values[index]) for index in model.outputs]
    return outputs if len(outputs) > 1 else outputs[0]


def parts_of(value: Any) -> Iterator[Any]:
    """Everything that an op's arguments consist of."""
    if isinstance(value, integer.Output):
        yield from (part for field in vars(value).values() for part in parts_of(field))
    elif isinstance(value, tuple):
        yield from (part for one in value for part in parts_of(one))
    else:
        yield value
