"""Call the layers of a model that is written anew (lesson 05)."""

from __future__ import annotations

import itertools
from typing import Any

from quant_tutorial import models
from quant_tutorial.frameworks import keras
from quant_tutorial.simulate.operations import Function, WithConstant
from quant_tutorial.simulate.walking import all_operations

import numpy as np

_layers = keras.layers


class Builder:
    """Calls the layers of a model that is written anew, each with a name of its own (lesson 05).

    Args:
        model: The reader's model, whose layers keep their names.
    """

    def __init__(self, model: keras.Model) -> None:
        self._reserved = {operation.name for operation in all_operations(model)}
        self._taken = set(models.input_names(model))
        self._own = ""  # the name of the operation at hand

    def begin(self, operation: Any) -> None:
        """Name what follows after a layer or operation of the reader's model."""
        self._own = operation.name

    def layer(self, kind: Any, *inputs: Any, part: str = "", **settings: Any) -> Any:
        """Call a new layer, whose name is that of the operation at hand and of a part of it."""
        wanted = f"{self._own}_{part}" if part else self._own
        number = itertools.count(2)
        name, used = wanted, self._taken | (self._reserved - {self._own})
        while name in used:
            name = f"{wanted}_{next(number)}"
        self._taken.add(name)
        new = kind.from_config({**settings, "name": name}) if settings else kind(name=name)
        return new, new(inputs[0] if len(inputs) == 1 else list(inputs))

    def copy(self, layer: keras.Layer, *inputs: Any, part: str = "", **settings: Any) -> Any:
        """Call a copy of a layer with the same weights."""
        config = {**layer.get_config(), **settings}
        new, output = self.layer(type(layer), *inputs, part=part, **config)
        new.set_weights(layer.get_weights())
        return output

    def constant(self, operation: str, x: Any, constant: Any, part: str = "") -> Any:
        """Apply an operation with a constant."""
        values = np.asarray(constant, np.float32)
        values = values.reshape(values.shape[max(0, values.ndim - len(x.shape) + 1) :])
        if values.size == 1:
            values = values.reshape(())
        settings = {"operation": operation, "shape": values.shape}
        new, output = self.layer(WithConstant, x, part=part, **settings)
        new.set_weights([values])
        return output

    def function(self, operation: str, x: Any, part: str = "", **arguments: Any) -> Any:
        """Apply an operation of `keras.ops`."""
        settings = {"operation": operation, "arguments": arguments}
        return self.layer(Function, x, part=part, **settings)[1]

    def merged(self, kind: Any, *inputs: Any, part: str = "") -> Any:
        """Apply a merging layer to two tensors after another."""
        total = inputs[0]
        for number, other in enumerate(inputs[1:], start=2):
            last = number == len(inputs)
            total = self.layer(kind, total, other, part=part if last else f"{part}{number - 1}")[1]
        return total

    def activated(self, name: str, x: Any, part: str = "", **options: Any) -> Any:
        """Apply an activation by its name."""
        inner = f"{part}_" if part else ""
        if name == "linear":
            return x
        if name in ("relu", "relu6"):
            limit = {"max_value": 6.0} if name == "relu6" else {}
            return self.layer(_layers.ReLU, x, part=part, **limit)[1]
        if name == "softmax":
            return self.layer(_layers.Softmax, x, part=part)[1]
        if name == "leaky_relu":
            slope = options.get("negative_slope", 0.2)
            return self.layer(_layers.LeakyReLU, x, part=part, negative_slope=slope)[1]
        if name in ("silu", "swish"):
            gate = self.activated("sigmoid", x, part=f"{inner}sigmoid")
            return self.merged(_layers.Multiply, x, gate, part=part)
        if name == "hard_sigmoid":
            x = self.constant("add", x, 3.0, part=f"{inner}add")
            x = self.activated("relu6", x, part=f"{inner}relu6")
            return self.constant("multiply", x, 1 / 6, part=part)
        if name == "gelu" and options.get("approximate"):
            return self.function("gelu", x, part=part, approximate=True)
        return self.layer(_layers.Activation, x, part=part, activation=name)[1]
