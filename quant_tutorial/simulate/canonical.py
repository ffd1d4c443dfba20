"""Write any Keras model as a functional one of few kinds of layers, each used once (lesson 05).

Nested models are inlined, a shared layer becomes a layer for each use, operators and `keras.ops`
become layers, and layers that LiteRT computes in several steps are taken apart: a separable
convolution into two, swish into a sigmoid and a product, an average into a sum and a factor. What
stays are the layers to which `graph.nodes` gives their places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from quant_tutorial import models
from quant_tutorial.frameworks import keras
from quant_tutorial.simulate.building import Builder
from quant_tutorial.simulate.kinds import has_no_effect
from quant_tutorial.simulate.refusals import require_known
from quant_tutorial.simulate.rewriting import LAYERS, OPERATIONS
from quant_tutorial.simulate.walking import all_operations, in_order, walk


def canonical(model: keras.Model) -> keras.Model:
    """Return a functional model with the same outputs, of few kinds of layers, each used once.

    Layers keep their names; a further use of a layer, or a further layer of a name, gets a number:
    `conv`, `conv_2`. Layers without effect in inference are left out. Lesson 05.

    Args:
        model: A built functional model.

    Raises:
        ValueError: for a layer or an operation that this course does not treat; the message names
            it.
    """
    for operation in all_operations(model):
        require_known(operation)
    build = Builder(model)

    def run(graph: keras.Model, inputs: Sequence[Any]) -> list[Any]:
        return walk(graph, inputs, call)

    def call(operation: Any, args: tuple, kwargs: dict) -> Any:
        args = args or tuple(kwargs.values())[:1]  # of layer(inputs=x)
        if has_no_effect(operation):
            return args[0]
        if isinstance(operation, keras.Model):
            graph = models.layer_graph(operation)
            return run(graph, in_order(graph, args[0]))
        build.begin(operation)
        if isinstance(operation, keras.layers.Layer):
            return LAYERS[type(operation)](build, operation, *args)
        return OPERATIONS[type(operation).__name__](build, operation, *args, **kwargs)

    return rewritten(model, run)


def rewritten(
    model: keras.Model, run: Callable[[keras.Model, Sequence[Any]], Sequence[Any]]
) -> keras.Model:
    """Return a functional model whose outputs a function computes (lesson 05).

    Args:
        model: The model whose inputs, name, and structure of inputs and outputs it has.
        run: Takes that model and the new model's inputs, and returns its outputs.
    """
    names = models.input_names(model)
    inputs = [
        keras.Input(x.shape[1:], dtype=x.dtype, name=name)
        for name, x in zip(names, model.inputs, strict=True)
    ]
    outputs = run(model, inputs)
    pack = keras.tree.pack_sequence_as
    return keras.Model(pack(model.input, inputs), pack(model.output, outputs), name=model.name)
