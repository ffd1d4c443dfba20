"""Walk through a model layer by layer, with the inputs that the rounded layers before make of it.

Every method of this room works in the same way: the layers are rounded in their order, and each is
rounded for the inputs that it will really get, those that come from the layers already rounded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from quant_tutorial import models
from quant_tutorial.affine import QuantParams, dequantize
from quant_tutorial.frameworks import keras
from quant_tutorial.rounding.matrices import (
    Moments,
    Shape,
    mean_row,
    row_count,
    shape_of,
    weight_matrices,
    weights_from,
)
from quant_tutorial.rounding.quadratic import Rounder, of_group, search_scales
from quant_tutorial.rounding.rounded import Rounded
from quant_tutorial.scheme import QuantScheme
from quant_tutorial.simulate import (
    ModelParams,
    Node,
    Simulator,
    activation,
    rounded,
    run_time_values,
    set_constants,
)

import numpy as np
from numpy.typing import NDArray

_BATCH = 250  # images at a time
# What a layer's rounding needs at least. With fewer, measured on layers of the course's network,
# the errors on other images were larger than those of nearest rounding.
_IMAGES, _ROWS_OF_INPUTS = 10, 1 / 4


@dataclass(frozen=True)
class Task:
    """A layer to round, and what it gets (lesson 11).

    Attributes:
        name: The layer's name.
        layer: The float layer.
        params: The quantization parameters that the scheme chooses for its weights.
        weights: Its float weights, output channels last.
        bias: Its float bias, or None if it has none.
        activation: What is applied to its outputs: "linear", "relu" or "relu6".
        inputs: Its input values from the rounded layers before, shape (images, …).
        float_inputs: Its input values in the float model, of the same shape.
        advance: Moves the progress bar to a part of the layer's work.
    """

    name: str
    layer: keras.Layer
    params: QuantParams
    weights: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    activation: str
    inputs: NDArray[np.float32]
    float_inputs: NDArray[np.float32]
    advance: Callable[[int], None]

    @property
    def shape(self) -> Shape:
        """The size of the layer's matrices."""
        return shape_of(self.layer)

    def hessians(self, found: Moments) -> NDArray[np.float64]:
        """Return the Hessian of each group; a bias makes up for the mean of the inputs."""
        return found.hessian if self.bias is None else found.centred

    @property
    def matrices(self) -> NDArray[np.float32]:
        """The float weights as matrices, shape (groups, inputs, outputs)."""
        return weight_matrices(self.layer, self.weights)


class Choice(NamedTuple):
    """How a layer is rounded (lesson 11)."""

    params: QuantParams
    integers: NDArray[np.int8]  # output channels last
    bias: NDArray[np.float32] | None  # None keeps the layer's own


def round_layers(
    simulator: Simulator,
    params: ModelParams,
    images: Any,
    choose: Callable[[Task], Choice],
    *,
    parts: int = 1,
    progress: bool = False,
) -> Rounded:
    """Round the layers of a model in their order, each by a function (lesson 11).

    Args:
        simulator: The model.
        params: The quantization parameters of a scheme; a layer without any stays in float.
        images: Images as the model takes them, shape (n, …); of several inputs a mapping or a list,
            see `Simulator`.
        choose: Rounds one layer.
        parts: How many parts of a layer's work `choose` reports with `task.advance`.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: for images that the model does not take, when there is no layer to round, and
            for weights of more than 8 bits.
    """
    given = simulator.by_input("images", images)
    check_weights(simulator, params)
    names = [name for name, chosen in params.weights.items() if chosen is not None]
    bar = keras.utils.Progbar(len(names) * parts, verbose=int(progress), unit_name="part")
    choices: dict[str, Choice] = {}
    done = 0

    def advance(part: int) -> None:
        if part < parts:  # the last part is done when the layer is
            bar.update(done + part)

    # Parts of a model leave traces in its layers, so that they are made of copies.
    copy, original = models.copied(simulator.model), models.copied(simulator.model)
    set_constants(copy, simulator.model, params)
    values: dict[str, NDArray[np.float32]] = {}  # after rounding
    floats: dict[str, NDArray[np.float32]] = {}
    users = Counter(name for node in simulator.nodes for name in node.sources)
    for node in simulator.nodes:
        sources = simulator.sources(node)
        if not sources:
            floats[node.name] = given[node.name]
            values[node.name] = _rounded(given[node.name], node, params)
            continue
        held = [values[source.name] for source in sources]
        float_held = [floats[source.name] for source in sources]
        ends = [source.end for source in sources]
        if node.weights and params.weights[node.weights] is not None:
            layer = simulator.model.get_layer(node.weights)
            task = Task(
                name=node.weights,
                layer=layer,
                params=params.weights[node.weights],
                weights=simulator.weights[node.weights],
                bias=layer.bias.numpy() if layer.use_bias else None,
                activation=activation_of(simulator.model, node),
                inputs=_computed(copy, ends, copy.get_layer(layer.name).input, held),
                float_inputs=_computed(
                    original, ends, original.get_layer(layer.name).input, float_held
                ),
                advance=advance,
            )
            choices[node.weights] = choose(task)
            _assign(copy.get_layer(node.weights), choices[node.weights])
            done += parts
            bar.update(done)
        for model, before, after in ((copy, held, values), (original, float_held, floats)):
            output = model.get_layer(node.end).output
            after[node.name] = _computed(model, ends, output, before)
        values[node.name] = _rounded(values[node.name], node, params)
        for source in sources:
            users[source.name] -= 1
            if not users[source.name]:  # no later layer needs it
                del values[source.name], floats[source.name]
    return Rounded(
        params=ModelParams(
            {n: choices[n].params if n in choices else None for n in params.weights},
            params.activations,
        ),
        integers={name: choice.integers for name, choice in choices.items()},
        biases={
            name: bias
            for name in params.weights
            if (bias := _bias(simulator.model.get_layer(name), choices.get(name))) is not None
        },
        base=simulator.model,
    )


def check_weights(simulator: Simulator, params: ModelParams) -> None:
    """Check that there are weights to round, and that their integers fit into int8 (lesson 11).

    Raises:
        ValueError: when they do not; the message says what to do.
    """
    if not simulator.weights:
        raise ValueError(
            f"model {simulator.model.name} has no layer with weights: there is nothing to round."
        )
    if all(chosen is None for chosen in params.weights.values()):
        raise ValueError(
            "scheme leaves the weights of every layer in float: give scheme.weights a bit width."
        )
    for name, chosen in params.weights.items():
        if chosen is not None and chosen.bits > 8:
            raise ValueError(
                f"The weights of layer {name} have {chosen.bits} bits: better rounding is for 2 to "
                "8 bits. With more, the nearest level is good enough: use simulate()."
            )


def activation_of(model: keras.Model, node: Node) -> str:
    """Return what is applied to a node's sums: "linear", "relu" or "relu6" (lesson 11)."""
    own = [activation(model.get_layer(name)) for name in (node.layer, node.name)]
    return next((str(name) for name in own if name != "linear"), "linear")


def scaled_for(
    task: Task, found: Moments, scheme: QuantScheme, round_with: Rounder | None
) -> QuantParams:
    """Return parameters of a layer's weights with searched scales (lesson 11).

    Without a function to round with, and for weights that share a tensor-wise scale with other
    layers, they are those of the scheme.
    """
    shared = scheme.for_layer(task.name).weights.granularity == "tensor-wise"
    if round_with is None or shared:
        return task.params
    return search_scales(task.matrices, task.hessians(found), task.params, round_with)


def rounded_by(
    task: Task, found: Moments, params: QuantParams, round_with: Rounder
) -> NDArray[np.int8]:
    """Return a layer's integers, each group of it rounded with its own Hessian (lesson 11)."""
    groups = enumerate(zip(task.matrices, task.hessians(found), strict=True))
    outputs = task.shape.outputs
    integers = [round_with(w, hessian, of_group(params, g, outputs)) for g, (w, hessian) in groups]
    return weights_from(task.layer, np.stack(integers))


def mean_bias(
    task: Task, params: QuantParams, integers: NDArray[np.int8]
) -> NDArray[np.float32] | None:
    """Return the bias with which each output's mean is that of the float model (lesson 11).

    A layer without a bias gets none.
    """
    if task.bias is None:
        return None
    rounded = weight_matrices(task.layer, dequantize(integers, params, np.float64))
    wanted, got = (
        np.einsum("gi,gio->go", mean_row(task.layer, values), weights)
        for values, weights in ((task.float_inputs, task.matrices), (task.inputs, rounded))
    )
    return (task.bias + (wanted - got).ravel()).astype(np.float32)


def check_enough(task: Task) -> None:
    """Check that there are enough images to choose a layer's rounding by (lesson 11).

    A Hessian of fewer rows than inputs has directions of which it knows nothing. Damping keeps the
    weights from moving there, so that fewer rows can do, but not arbitrarily few.

    Raises:
        ValueError: for fewer than ten images, or fewer rows than a quarter of the layer's inputs.
    """
    images = len(task.inputs)
    rows, inputs = row_count(task.layer, images), task.shape.inputs
    needed = math.ceil(inputs * _ROWS_OF_INPUTS)
    if images < _IMAGES or rows < needed:
        enough = max(_IMAGES, math.ceil(needed * images / rows))
        raise ValueError(
            f"images are too few for layer {task.name}: {images} make {rows} rows for its Hessian, "
            f"which has {inputs} inputs. Give at least {enough} images, better some hundred, or "
            f"leave the layer in float with scheme.with_layer({task.name!r}, None)."
        )


def check_same_model(simulator: Simulator, rounded: Rounded) -> None:
    """Check that a result belongs to the simulator's model (lesson 11).

    Raises:
        ValueError: when its layers have other names or shapes.
    """
    shapes = {name: weights.shape for name, weights in simulator.weights.items()}
    if any(shapes.get(name) != q.shape for name, q in rounded.integers.items()):
        raise ValueError(
            f"rounded has the layers {', '.join(rounded.integers)}, which are not those of model "
            f"{simulator.model.name}: give the simulator with which it was made."
        )


def _computed(
    model: keras.Model, ends: Sequence[str], tensor: Any, values: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Compute a tensor of a model from the outputs of the layers `ends`, shape (images, …) each."""
    before = [model.get_layer(end).output for end in ends]
    if tensor is before[0]:
        return values[0]
    part = keras.Model(before, tensor)
    return np.concatenate(
        [
            part([value[start : start + _BATCH] for value in values], training=False)
            for start in range(0, len(values[0]), _BATCH)
        ]
    )


def _rounded(values: NDArray[np.float32], node: Node, params: ModelParams) -> NDArray[np.float32]:
    averages = node.kind == "same"
    return np.asarray(rounded(values, *run_time_values(params.activations[node.name], averages)))


def _assign(layer: keras.Layer, choice: Choice) -> None:
    values = dequantize(choice.integers, choice.params)
    layer.kernel.assign(models.keras_layout(layer, values))
    if choice.bias is not None:
        layer.bias.assign(choice.bias)


def _bias(layer: keras.Layer, choice: Choice | None) -> NDArray[np.float32] | None:
    if not layer.use_bias:
        return None
    return layer.bias.numpy() if choice is None or choice.bias is None else choice.bias
