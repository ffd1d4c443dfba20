"""Find the tensors of a Keras model that LiteRT quantizes, its nodes, in the graph (lesson 05).

A *node* is a tensor that holds integers in a full-integer model: the input, the output of the
model, and the output of each convolution, dense layer or addition with the activation fused into
it. Max pooling, flatten, reshape and zero padding have no node, because they only move values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from quant_tutorial import models
from quant_tutorial.frameworks import keras

_layers = keras.layers
_WEIGHTED = (_layers.Conv2D, _layers.DepthwiseConv2D, _layers.Dense)
# Rounding before and after these layers has the same result: they only select or move values, and
# the 0 of the padding is a level.
_MOVING = (_layers.MaxPooling2D, _layers.Flatten, _layers.Reshape, _layers.ZeroPadding2D)
_TREATED = (
    "Conv2D, DepthwiseConv2D, Dense, BatchNormalization after one of these, ReLU (also with "
    "max_value 6), Softmax, Activation, MaxPooling2D, AveragePooling2D, GlobalAveragePooling2D, "
    "Flatten, Reshape, ZeroPadding2D, Dropout, Add, and layers that only augment in training"
)
# These do nothing in inference. Of the layers with other names, Keras augments with these as well.
_IDLE = (
    *(kind for name, kind in vars(_layers).items() if name.startswith("Random")),
    *(_layers.Dropout, _layers.GaussianDropout, _layers.GaussianNoise, _layers.AlphaDropout),
    *(_layers.ActivityRegularization, _layers.MixUp, _layers.CutMix, _layers.AugMix),
    *(_layers.RandAugment, _layers.Solarization, _layers.Equalization),
)


@dataclass(frozen=True)
class Node:
    """A tensor that LiteRT quantizes.

    `name` is the Keras layer that computes it, and `layer` the one whose scheme it follows: relu1
    follows conv1, with which it is fused. `end` is the layer after which the simulation rounds it:
    the last of the layers that only move its values. After max pooling fewer values are left to
    round, and the result is the same.

    `kind` is how its quantization parameters are chosen: "range" from its own calibrated range,
    "same" as those of the node before it (average pooling), "fixed" for the range [0, 1) (softmax).
    Lesson 05.
    """

    name: str
    layer: str
    end: str
    kind: Literal["range", "same", "fixed"]
    sources: tuple[str, ...]  # the nodes it is computed from; none for the input
    weights: str | None  # the layer whose weights it needs


def prepare(model: keras.Model) -> keras.Model:
    """Fold batch norm, drop layers without effect, and make every softmax a separate layer.

    The outputs stay the same up to float rounding. The given model is not changed. Lesson 05.

    Args:
        model: A built Sequential or functional model with one input and one output.

    Raises:
        ValueError: for a model of another kind, for weights that are not finite or not float32, or
            for a layer that LiteRT's integer graph or this course does not support; the message
            names it.
    """
    graph = _functional(model)
    models.require_float32(graph)
    models.require_finite_weights(graph)
    for operation in graph.operations:
        _check_operation(operation)

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if isinstance(layer, _WEIGHTED) and activation(layer) == "softmax":
            config["activation"] = "linear"
        return type(layer).from_config(config)

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        plain = isinstance(layer, _layers.Activation) and activation(layer) == "linear"
        if plain or layer.name in idle:
            return args[0]
        output = layer(*args, **kwargs)
        if layer.name in split:
            output = _layers.Softmax(name=f"{layer.name}_softmax")(output)
        return output

    idle = {layer.name for layer in graph.layers if is_idle(layer)}
    folded = models.fold_batch_norm(graph)
    weighted = [layer for layer in folded.layers if isinstance(layer, _WEIGHTED)]
    split = {layer.name for layer in weighted if activation(layer) == "softmax"}
    prepared = keras.models.clone_model(folded, clone_function=clone, call_function=call)
    for layer in weighted:
        prepared.get_layer(layer.name).set_weights(layer.get_weights())
    return prepared


def nodes(model: keras.Model) -> tuple[Node, ...]:
    """List the nodes of a prepared model, each after the nodes that it is computed from.

    Lesson 05.

    Raises:
        ValueError: for a model that only moves values.
    """
    before = {layer.name: _inputs(layer) for layer in model.layers}
    after = {name: [user for user, names in before.items() if name in names] for name in before}
    kinds = {layer.name: layer for layer in model.layers}

    def only_user(name: str) -> keras.Layer | None:
        return kinds[after[name][0]] if len(after[name]) == 1 else None

    found: dict[str, Node] = {}  # by the layer after which they are rounded
    fused: set[str] = set()
    for layer in model.layers:
        if layer.name in fused or isinstance(layer, _MOVING):
            continue
        name, user = layer.name, only_user(layer.name)
        acts = (
            isinstance(user, (_layers.ReLU, _layers.Activation)) and activation(user) != "softmax"
        )
        if acts and isinstance(layer, (*_WEIGHTED, _layers.Add)):
            name = user.name
            fused.add(name)
        end, user = name, only_user(name)
        while isinstance(user, _MOVING) and not isinstance(layer, _layers.InputLayer):
            end, user = user.name, only_user(user.name)
        found[end] = Node(
            name=name,
            layer=layer.name,
            end=end,
            kind=_kind(layer),
            sources=_sources(layer.name, before, found),
            weights=layer.name if isinstance(layer, _WEIGHTED) else None,
        )
    if len(found) < 2:
        raise ValueError(f"model {model.name} computes nothing that could be quantized.")
    return tuple(found.values())


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
        copy = replace(layer) if replace and isinstance(layer, _WEIGHTED) else None
        return copy or type(layer).from_config(layer.get_config())

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        # Cloning does not call the input layer, so a layer that reads the input gets its node here.
        args = keras.tree.map_structure(lambda x: entry if x is image else x, args)
        output = layer(*args, **kwargs)
        return after(ends[layer.name], output) if layer.name in ends else output

    image = keras.Input(model.input_shape[1:], name=found[0].name)
    entry = after(found[0], image)
    copy = keras.models.clone_model(
        model, input_tensors=image, clone_function=clone, call_function=call
    )
    for layer in model.layers:
        if type(copy.get_layer(layer.name)) is type(layer):
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def _kind(layer: keras.Layer) -> Literal["range", "same", "fixed"]:
    if isinstance(layer, _layers.AveragePooling2D):
        return "same"
    return "fixed" if activation(layer) == "softmax" else "range"


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
    return [tensor._keras_history.operation.name for tensor in keras.tree.flatten(layer.input)]


def activation(layer: keras.Layer) -> str | None:
    """Return a layer's activation: "linear", "relu", "relu6", "softmax", or None for another.

    Lesson 05.
    """
    if isinstance(layer, _layers.ReLU):
        plain = not layer.negative_slope and not layer.threshold
        return {None: "relu", 6: "relu6"}.get(layer.max_value) if plain else None
    if isinstance(layer, _layers.Softmax):
        return "softmax" if layer.axis == -1 else None
    known = {getattr(keras.activations, n): n for n in ("linear", "relu", "relu6", "softmax")}
    return known.get(getattr(layer, "activation", keras.activations.linear))


def is_idle(layer: Any) -> bool:
    """Return whether a layer does nothing in inference, as dropout and augmentation (lesson 05).

    A nested model of such layers alone does nothing either.
    """
    if isinstance(layer, keras.Model):
        inner = [one for one in layer.layers if not isinstance(one, _layers.InputLayer)]
        return bool(inner) and all(map(is_idle, inner))
    if isinstance(layer, _layers.RandomCrop):  # in inference it crops the middle
        return layer.output.shape == layer.input.shape
    return isinstance(layer, _IDLE)


def _functional(model: keras.Model) -> keras.Model:
    model = models.layer_graph(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"model must have one input and one output, it has {len(model.inputs)} and "
            f"{len(model.outputs)}: give keras.Model(x, y) of one output y and the only input x "
            "that it is computed from."
        )
    if not model.inputs[0].dtype.startswith(("float", "bfloat")):
        raise ValueError(
            f"model must take floats, its input holds {model.inputs[0].dtype} values, which are "
            "not quantized: build it with an Input of floats, and do before it what needs integers."
        )
    shape = model.inputs[0].shape
    if None in shape[1:]:
        raise ValueError(
            f"model must take images of a fixed size, its input has the shape {shape}: build it "
            "again with the size of your images, as keras.Input((height, width, channels)), and "
            "copy the weights: new.set_weights(model.get_weights())."
        )
    return models.single_ended(model)


def _check_operation(operation: Any) -> None:
    passing = (*_MOVING, _layers.InputLayer, _layers.BatchNormalization)
    pooling = (_layers.AveragePooling2D, _layers.GlobalAveragePooling2D, _layers.Add)
    acting = (*_WEIGHTED, _layers.ReLU, _layers.Softmax, _layers.Activation)
    kind = type(operation).__name__
    if is_idle(operation):
        return
    if not isinstance(operation, (*passing, *pooling, *acting)):
        raise ValueError(
            f"Layer {operation.name} ({kind}) cannot be simulated. These can: {_TREATED}."
        )
    if isinstance(operation, acting) and activation(operation) is None:
        raise ValueError(
            f"Layer {operation.name} ({kind}) has an activation that cannot be simulated: use "
            "linear, relu, relu6 or softmax."
        )
    if len(operation._inbound_nodes) > 1:
        raise ValueError(
            f"Layer {operation.name} ({kind}) is used {len(operation._inbound_nodes)} times, and "
            "each use would need nodes of its own: make a layer for each use."
        )
