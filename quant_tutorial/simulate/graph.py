"""Find the tensors of a Keras model that LiteRT quantizes, its nodes, in the graph (lesson 05).

A *node* is a tensor that holds integers in a full-integer model: each input and output of the
model, and the output of each convolution, dense layer, addition and so on with the activation fused
into it. Max pooling, flatten, reshape and zero padding have no node, because they only move values.
An output of the model that further layers read has a node of its own, with which none of them is
fused.

| a node's `kind` | layers | its quantization parameters |
| --- | --- | --- |
| "range" | convolutions, Dense, sums, products, constants, ReLU, swish …, means | its own |
| "range" | Concatenate, Maximum, Minimum, clip | its own, which its sources take over: `like` |
| "same" | average pooling, bilinear resizing | those of the node before it |
| "fixed" | Softmax and sigmoid: [0, 1); tanh: [−1, 1) | those of this range |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from quant_tutorial import models
from quant_tutorial.frameworks import keras
from quant_tutorial.simulate.canonical import canonical
from quant_tutorial.simulate.folding import fold
from quant_tutorial.simulate.kinds import WEIGHTED, activation_name
from quant_tutorial.simulate.operations import Function, WithConstant
from quant_tutorial.simulate.walking import layer_of

import numpy as np

_layers = keras.layers
# Rounding before and after these layers has the same result: they only select or move values, and
# the 0 of the padding is a level.
_MOVING = (
    *(_layers.MaxPooling1D, _layers.MaxPooling2D, _layers.GlobalMaxPooling1D),
    *(_layers.GlobalMaxPooling2D, _layers.Flatten, _layers.Reshape, _layers.Permute),
    *(_layers.RepeatVector, _layers.ZeroPadding1D, _layers.ZeroPadding2D, _layers.Cropping1D),
    *(_layers.Cropping2D, _layers.UpSampling1D),
)
_RESHAPING = (_layers.Flatten, _layers.Reshape)
_AVERAGING = (_layers.AveragePooling1D, _layers.AveragePooling2D)
_MAX_POOLING = (_layers.MaxPooling1D, _layers.MaxPooling2D)
_RESIZING = (_layers.UpSampling2D, _layers.Resizing)
# The ranges that LiteRT prescribes for an op's output.
_FIXED = {"softmax": (0.0, 1.0), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


@dataclass(frozen=True)
class Node:
    """A tensor that LiteRT quantizes.

    `name` is the Keras layer that computes it, and `layer` the one whose scheme it follows: relu1
    follows conv1, with which it is fused. `end` is the layer after which the simulation rounds it:
    the last of the layers that only move its values. After max pooling fewer values are left to
    round, and the result is the same.

    `kind` is how its quantization parameters are chosen: "range" from a calibrated range, "same" as
    those of the node before it (average pooling), "fixed" for a prescribed range (softmax).
    Lesson 05.
    """

    name: str
    layer: str
    end: str
    kind: Literal["range", "same", "fixed"]
    sources: tuple[str, ...]  # the nodes it is computed from; none for an input of the model
    weights: str | None  # the layer whose weights it needs
    constant: str | None = None  # the `WithConstant` layer whose constant it needs
    like: str = ""  # the node whose range it takes: its own, or that of a concatenation after it
    ends: tuple[float, float] = (0.0, 1.0)  # the range of the kind "fixed", without its upper end
    # The node whose values LiteRT's calibrator takes for values of this one, too: it lets an
    # addition, subtraction or multiplication write its result over its first input.
    overwritten_by: str | None = None


def prepare(model: keras.Model) -> keras.Model:
    """Write a model as layers that are used once, fold batch norm, drop layers without effect.

    The outputs stay the same up to float rounding. The given model is not changed. See `canonical`
    for what is rewritten, and `folding` for what is folded. Lesson 05.

    Args:
        model: A built Sequential or functional model. It may hold further models, use layers
            several times, and compute with operators and `keras.ops`.

    Raises:
        ValueError: for a model of another kind, for weights that are not finite or not float32, or
            for a layer that LiteRT's integer graph or this course does not support; the message
            names it.
    """
    graph = _functional(model)
    models.require_float32(graph)
    models.require_same_shapes(graph)
    models.require_finite_weights(graph)
    written = canonical(graph)
    _require_computing(written)
    return fold(written)


class _Readers:
    """Which layer reads which, in a prepared model."""

    def __init__(self, model: keras.Model) -> None:
        self.layers = {layer.name: layer for layer in model.layers}
        self.before = {layer.name: _inputs(layer) for layer in model.layers}
        self.after: dict[str, list[str]] = {name: [] for name in self.before}
        for name, sources in self.before.items():
            for source in sources:
                self.after[source].append(name)
        self.outputs = [layer_of(tensor).name for tensor in model.outputs]

    def only_user(self, name: str) -> keras.Layer | None:
        """Return the layer that alone reads another one, and only once."""
        users = self.after[name]
        alone = len(users) == 1 and name not in self.outputs
        return self.layers[users[0]] if alone else None

    def moves(self, layer: keras.Layer | None) -> bool:
        """Return whether rounding before and after a layer has the same result."""
        if isinstance(layer, Function):
            return layer.operation in ("slice", "max", "min")
        if isinstance(layer, _RESIZING):
            return layer.interpolation == "nearest"
        if isinstance(layer, _MOVING):
            return True
        # LiteRT fuses it into the pooling.
        return _is_relu(layer) and self._follows(layer, _MAX_POOLING)

    def _follows(self, layer: keras.Layer, kinds: tuple[type, ...]) -> bool:
        source = self.layers[self.before[layer.name][0]]
        return isinstance(source, kinds) and self.only_user(source.name) is layer

    def fused(self, layer: keras.Layer) -> tuple[str, set[str]]:
        """Return the layer after an op that LiteRT fuses with it, and all up to there."""
        passed, user = [layer.name], self.only_user(layer.name)
        if not _takes_activation(layer):
            return layer.name, set()
        while isinstance(user, _RESHAPING) and not isinstance(layer, _AVERAGING):
            passed.append(user.name)
            user = self.only_user(user.name)
        if _is_relu(user):
            return user.name, {*passed[1:], user.name}
        return layer.name, set()


def nodes(model: keras.Model) -> tuple[Node, ...]:
    """List the nodes of a prepared model, each after the nodes that it is computed from.

    Lesson 05.

    Raises:
        ValueError: for a model that only moves values.
    """
    readers = _Readers(model)
    found: dict[str, Node] = {}  # by the layer after which they are rounded
    fused: set[str] = set()
    for layer in model.layers:
        if layer.name in fused or readers.moves(layer):
            continue
        name, passed = readers.fused(layer)
        fused |= passed
        end, user = name, readers.only_user(name)
        while not isinstance(layer, _layers.InputLayer) and readers.moves(user):
            end, user = user.name, readers.only_user(user.name)
        found[end] = Node(
            name=name,
            layer=layer.name,
            end=end,
            kind=_kind(layer),
            sources=_sources(layer.name, readers.before, found),
            weights=layer.name if isinstance(layer, WEIGHTED) else None,
            constant=layer.name if isinstance(layer, WithConstant) else None,
            like=name,
            ends=_FIXED.get(activation(layer) or "", (0.0, 1.0)),
        )
    if not any(node.sources for node in found.values()):
        raise ValueError(f"model {model.name} computes nothing that could be quantized.")
    return tuple(_with_calibration(_with_shared_ranges(found, readers), readers))


def _with_shared_ranges(found: dict[str, Node], readers: _Readers) -> list[Node]:
    """Give the nodes that must have the same parameters the same range.

    LiteRT has no op that joins tensors of different scales. The converter gives the inputs of a
    concatenation, a maximum or a minimum the parameters of its output, and so on through chains of
    them. A sigmoid or softmax keeps its own, and its values are rounded again.
    """
    by_name = {node.name: node for node in found.values()}
    groups: dict[str, set[str]] = {name: {name} for name in by_name}
    leaders: list[str] = []

    def prescribed(node: Node) -> bool:
        return node.kind == "fixed" or (
            node.kind == "same" and prescribed(by_name[node.sources[0]])
        )

    for node in by_name.values():
        joins = _joins(readers.layers[node.layer])
        if prescribed(node) or not (joins or node.kind == "same"):
            continue
        members = [node.name, *(s for s in node.sources if not prescribed(by_name[s]))]
        union = set().union(*(groups[name] for name in members))
        groups |= dict.fromkeys(union, union)
        if joins:
            leaders.append(node.name)
    last = {name: leader for leader in leaders for name in groups[leader]}
    return [replace(node, like=last.get(node.name, node.like)) for node in by_name.values()]


def _with_calibration(found: Iterable[Node], readers: _Readers) -> list[Node]:
    """Note the nodes whose values LiteRT's calibrator finds overwritten; see `Node`.

    Its memory planner lets an op write over an input of the same size that nothing else reads, and
    that is no input of the model, unless the op computes the model's output. The calibrator looks
    at an op's inputs after the op has run.
    """
    by_name = {node.name: node for node in found}
    overwritten: dict[str, str] = {}
    for node in by_name.values():
        layer = readers.layers[node.layer]
        if not _is_sum(layer) or node.end in readers.outputs:
            continue
        size = int(np.prod(layer.output.shape[1:]))
        for source in readers.before[layer.name]:
            own = readers.layers[source]
            same = int(np.prod(own.output.shape[1:])) == size and size > 2
            if same and readers.only_user(source) and not isinstance(own, _layers.InputLayer):
                # A convolution of one dimension is followed by a reshape, whose values these are.
                flat = isinstance(own, (_layers.Conv1D, _layers.DepthwiseConv1D))
                if source in by_name and not flat:
                    overwritten[source] = node.name
                break
    return [replace(node, overwritten_by=overwritten.get(node.name)) for node in by_name.values()]


def rebuild(
    model: keras.Model,
    after: Callable[[Node, Any], Any],
    replace: Callable[[keras.Layer], keras.Layer] | None = None,
) -> keras.Model:
    """Copy a prepared model, with an operation inserted after each node and layers replaced.

    Lesson 05.

    Args:
        model: A model as `prepare` returns it.
        after: Takes a node and the tensor of its values, and returns the tensor that the following
            layers read instead.
        replace: Takes a layer with weights, and returns an unbuilt layer of the same name to
            replace it, or None for a copy. By default all layers are copied. Weights are not copied
            into layers of another type.
    """
    found = nodes(model)
    ends = {node.end: node for node in found}

    def clone(layer: keras.Layer) -> keras.Layer:
        copy = replace(layer) if replace and isinstance(layer, WEIGHTED) else None
        return copy or type(layer).from_config(layer.get_config())

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        # Cloning does not call input layers, so a layer that reads an input gets its node here.
        args = keras.tree.map_structure(lambda x: entries.get(id(x), x), args)
        output = layer(*args, **kwargs)
        return after(ends[layer.name], output) if layer.name in ends else output

    inputs = [keras.Input(x.shape[1:], name=layer_of(x).name) for x in model.inputs]
    entries = {id(x): after(ends[layer_of(x).name], x) for x in inputs}
    copy = keras.models.clone_model(
        model,
        input_tensors=keras.tree.pack_sequence_as(model.input, inputs),
        clone_function=clone,
        call_function=call,
    )
    for layer in model.layers:
        if type(copy.get_layer(layer.name)) is type(layer):
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def _kind(layer: keras.Layer) -> Literal["range", "same", "fixed"]:
    if isinstance(layer, (*_AVERAGING, *_RESIZING)):
        return "same"
    return "fixed" if activation(layer) in _FIXED else "range"


def _takes_activation(layer: keras.Layer) -> bool:
    """Return whether LiteRT's op has a ReLU after it fused."""
    if isinstance(layer, WEIGHTED):
        bare = isinstance(layer, _layers.Conv2DTranspose) and not layer.use_bias
        return activation(layer) == "linear" and not bare
    return _is_sum(layer) or isinstance(layer, _AVERAGING)


def _is_sum(layer: keras.Layer) -> bool:
    """Return whether a layer adds, subtracts or multiplies two tensors, or one and a constant."""
    if isinstance(layer, WithConstant):
        return layer.operation in ("add", "multiply", "subtract_from")
    return isinstance(layer, (_layers.Add, _layers.Subtract, _layers.Multiply))


def _is_relu(layer: keras.Layer | None) -> bool:
    """Return whether LiteRT can fuse a layer into the op before it."""
    if isinstance(layer, Function):
        ends = layer.arguments.get("x_min"), layer.arguments.get("x_max")
        return layer.operation == "clip" and ends == (-1.0, 1.0)
    acting = isinstance(layer, (_layers.ReLU, _layers.Activation))
    return acting and activation(layer) in ("relu", "relu6")


def _joins(layer: keras.Layer) -> bool:
    """Return whether a layer's inputs must have the parameters of its output."""
    if isinstance(layer, WithConstant):
        return layer.operation in ("maximum", "minimum")
    if isinstance(layer, Function):
        return layer.operation == "clip"
    return isinstance(layer, (_layers.Concatenate, _layers.Maximum, _layers.Minimum))


def _sources(name: str, before: dict[str, list[str]], ends: dict[str, Node]) -> tuple[str, ...]:
    """List the nodes that a layer is computed from, walking back through the graph."""
    found: list[str] = []
    for source in before[name]:
        found += [ends[source].name] if source in ends else _sources(source, before, ends)
    return tuple(dict.fromkeys(found))


def _inputs(layer: keras.Layer) -> list[str]:
    """List the layers that a layer reads from."""
    if isinstance(layer, _layers.InputLayer):
        return []
    return [layer_of(tensor).name for tensor in keras.tree.flatten(layer.input)]


def activation(layer: keras.Layer) -> str | None:
    """Return a layer's activation: "linear", "relu", "relu6", "softmax", …, or None for another.

    Lesson 05.
    """
    if isinstance(layer, _layers.ReLU):
        plain = not layer.negative_slope and not layer.threshold
        return {None: "relu", 6: "relu6"}.get(layer.max_value) if plain else None
    if isinstance(layer, _layers.Softmax):
        return "softmax" if layer.axis in (-1, len(layer.output.shape) - 1) else None
    return activation_name(getattr(layer, "activation", keras.activations.linear))


def _functional(model: keras.Model) -> keras.Model:
    model = models.layer_graph(model)
    for name, tensor in zip(models.input_names(model), model.inputs, strict=True):
        own = _entry(name, model)
        if not tensor.dtype.startswith(("float", "bfloat")):
            raise ValueError(
                f"model must take floats, {own} holds {tensor.dtype} values, which are not "
                "quantized: build it with an Input of floats, and do before it what needs integers."
            )
        if None in tensor.shape[1:]:
            raise ValueError(
                f"model must take images of a fixed size, {own} has the shape {tensor.shape}: "
                "build it again with the size of your images, as keras.Input((height, width, "
                "channels)), and copy the weights: new.set_weights(model.get_weights())."
            )
    return models.single_ended(model)


def _require_computing(model: keras.Model) -> None:
    """Raise a ValueError for an input that is not read, or is an output as it is."""
    read = {
        id(tensor) for layer in model.layers for tensor in layer._inbound_nodes[0].input_tensors
    }
    for name, tensor in zip(models.input_names(model), model.inputs, strict=True):
        own = _entry(name, model)
        if any(tensor is output for output in model.outputs):
            raise ValueError(
                f"model must compute its outputs, and it returns {own} as it is: give "
                "keras.Model(inputs, outputs) without this output."
            )
        if id(tensor) not in read:
            raise ValueError(
                f"model must compute something from each input, and no layer reads {own}: give "
                "keras.Model(inputs, outputs) without this input."
            )


def _entry(name: str, model: keras.Model) -> str:
    return f"its input {name}" if len(model.inputs) > 1 else "its input"
