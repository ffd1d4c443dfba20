"""Walk through the graph of a functional model, and of the models nested in it (lesson 05)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from quant_tutorial import models
from quant_tutorial.frameworks import keras
from quant_tutorial.simulate.kinds import is_idle


def layer_of(tensor: Any) -> Any:
    """Return the layer or operation that has computed a tensor (lesson 05)."""
    return tensor._keras_history.operation


def walk(
    model: keras.Model, inputs: Sequence[Any], call: Callable[[Any, tuple, dict], Any]
) -> list[Any]:
    """Compute a functional model anew, with a function for each use of a layer (lesson 05).

    Args:
        model: A functional model.
        inputs: What stands for its inputs.
        call: Takes a layer or operation and its arguments, and returns its outputs.

    Returns:
        What stands for its outputs.
    """
    values = {id(tensor): value for tensor, value in zip(model.inputs, inputs, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            args, kwargs = node.arguments.fill_in(values)
            found = keras.tree.flatten(call(node.operation, args, kwargs))
            values |= {id(t): value for t, value in zip(node.outputs, found, strict=True)}
    return [values[id(tensor)] for tensor in model.outputs]


def in_order(model: keras.Model, given: Any) -> list[Any]:
    """Return what a functional model is called on in the order of its inputs (lesson 05).

    Keras takes a dictionary also for a model of a list of inputs, and goes by their names then.
    """
    if isinstance(given, Mapping) and not isinstance(model.input, Mapping):
        return [given[tensor.name] for tensor in model.inputs]
    return keras.tree.flatten(given)


def all_operations(model: keras.Model) -> Iterator[Any]:
    """List all layers and operations, also those of nested models (lesson 05)."""
    for operation in model.operations:
        if isinstance(operation, keras.Model) and not is_idle(operation):
            yield from all_operations(models.layer_graph(operation))
        else:
            yield operation
