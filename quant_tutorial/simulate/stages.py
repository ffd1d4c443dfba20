"""Cut a model at its nodes into stages, each a small float graph for LiteRT (lesson 05).

A stage rounds the values of the nodes that it reads, and computes the values of the next node. The
scale and the limits of the rounding are inputs of the stage, and so is the constant of a layer
`WithConstant`. `join_stages` makes one file of them all, which computes the same values faster.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quant_tutorial import flatbuffer, quiet
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.simulate.fake_quantize import rounded
from quant_tutorial.simulate.graph import Node, rebuild

BATCH = 50  # images at a time: few enough that a batch of activations fits in a core's cache
_TOGETHER = 2**20  # weights of stages that are converted together: with more, memory runs short


def convert_stages(model: keras.Model, nodes: Sequence[Node]) -> dict[str, bytes]:
    """Convert the stage of each node except the inputs to a `.tflite` file for `BATCH` images.

    Lesson 05.

    Args:
        model: A model as `graph.prepare` returns it.
        nodes: Its nodes.
    """
    by_name = {node.name: node for node in nodes}
    if any(len({bool(by_name[name].sources) for name in node.sources}) > 1 for node in nodes):
        # A stage that reads an input and something else: to cut it off, Keras changes the input,
        # and the model could no longer be saved or handed to another process.
        model = rebuild(model, lambda _, x: x)
    stages = [_stage(model, [by_name[name] for name in n.sources], n) for n in nodes if n.sources]
    groups: list[list[_StageFunction]] = [[]]
    for stage in stages:
        if sum(one.weights for one in groups[-1]) > _TOGETHER:
            groups.append([])
        groups[-1].append(stage)
    with quiet.all_output():
        return {name: file for group in groups for name, file in _converted(group).items()}


def value_names(source: Node, index: int) -> list[str]:
    """Return the names of the inputs for the rounding of a source; see `run_time_values`."""
    names = ["scale", "low", "high", *(["zero_point"] if source.kind == "same" else [])]
    return [f"{name}_{index}" for name in names]


def input_name(tensor_name: str) -> tuple[str, str]:
    """Return the node whose stage has an input, and what the stage calls it: "scale_0".

    The node is "" in a stage's own file. Lesson 05.
    """
    node, _, name = tensor_name.rpartition("serving_default_")
    return node.removesuffix("/"), name.split(":")[0]


def join_stages(stages: Mapping[str, bytes], nodes: Sequence[Node]) -> bytes | None:
    """Make one file that runs all stages, each on what those before it have computed (lesson 05).

    Its outputs are the values of all nodes except the input, in order. A tensor has the name of its
    node's stage in front: "relu1/serving_default_scale_0:0". The ops are those of the stages, one
    by one, so that the values are the same bits. None for stages with branches or loops.

    Args:
        stages: As `convert_stages` returns them.
        nodes: The nodes of the model.
    """
    parts = [(node, flatbuffer.read(stages[node.name])) for node in nodes if node.sources]
    if any(len(part.subgraphs) > 1 for _, part in parts):
        return None
    whole = copy.copy(parts[0][1])
    graph = copy.copy(whole.subgraphs[0])
    whole.subgraphs, whole.buffers, whole.operatorCodes = [graph], [], []
    whole.signatureDefs = whole.metadata = None
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
    values: dict[str, int] = {}  # the tensor with each node's values
    for node, part in parts:
        (own,) = part.subgraphs
        places = {-1: -1}  # -1 stands for an input that an op leaves out
        for index, tensor in enumerate(own.tensors):
            is_input = index in own.inputs
            name = input_name(tensor.name.decode())[1]
            source = node.sources[int(name[2:])] if is_input and name.startswith("x_") else ""
            if source in values:
                places[index] = values[source]
                continue
            places[index] = len(graph.tensors)
            graph.tensors.append(tensor)
            tensor.name = f"{node.name}/".encode() + tensor.name
            tensor.buffer += len(whole.buffers)
            if is_input:
                graph.inputs.append(places[index])
            if source:
                values[source] = places[index]
        for op in own.operators:
            op.opcodeIndex += len(whole.operatorCodes)
            for field in ("inputs", "outputs", "intermediates"):
                found = getattr(op, field)
                setattr(op, field, None if found is None else [places[i] for i in found])
            graph.operators.append(op)
        values[node.name] = places[own.outputs[0]]
        graph.outputs.append(values[node.name])
        whole.buffers += part.buffers
        whole.operatorCodes += part.operatorCodes
    return flatbuffer.write(whole)


@dataclass(frozen=True)
class _StageFunction:
    """A stage as a function, with the specifications of its inputs by name."""

    name: str
    weights: int  # how many constants it has
    inputs: Mapping[str, tf.TensorSpec]
    compute: Callable[[Mapping[str, Any]], Any]


def _stage(model: keras.Model, sources: Sequence[Node], node: Node) -> _StageFunction:
    """Return a stage: round the values of its sources, and compute those of its node."""
    ends = [model.get_layer(source.end).output for source in sources]
    part = keras.Model(ends, model.get_layer(node.end).output)
    variable = model.get_layer(node.constant).constant if node.constant else None
    # The weights become constants, because the converter does not freeze variables of Keras 3.
    constants = [(v, tf.constant(v)) for v in part.variables if v is not variable]
    inputs = {}
    if variable is not None:
        inputs["constant"] = tf.TensorSpec(variable.shape)
    for index, (source, end) in enumerate(zip(sources, ends, strict=True)):
        inputs[f"x_{index}"] = tf.TensorSpec((BATCH, *end.shape[1:]))
        inputs |= {name: tf.TensorSpec((1,)) for name in value_names(source, index)}

    def compute(given: Mapping[str, Any]) -> Any:
        values = [
            rounded(given[f"x_{i}"], *(given[name] for name in value_names(source, i)))
            for i, source in enumerate(sources)
        ]
        own = [(variable, given["constant"])] if node.constant else []
        with keras.StatelessScope(state_mapping=[*constants, *own]):
            return part(values if len(values) > 1 else values[0], training=False)

    count = sum(values.shape.num_elements() for _, values in constants)
    return _StageFunction(node.name, count, inputs, compute)


def _converted(stages: Sequence[_StageFunction]) -> dict[str, bytes]:
    """Convert stages, by their names.

    The converter takes them side by side in one graph, in which none reads what another computes,
    and the file is taken apart again. Most of a conversion's time does not depend on the size.
    """

    def compute(**inputs: tf.Tensor) -> dict[str, Any]:
        return {
            f"stage_{place}": stage.compute({n: inputs[f"{n}_of_{place}"] for n in stage.inputs})
            for place, stage in enumerate(stages)
        }

    signature = {
        f"{name}_of_{place}": tf.TensorSpec(spec.shape, name=f"{name}_of_{place}")
        for place, stage in enumerate(stages)
        for name, spec in stage.inputs.items()
    }
    concrete = tf.function(compute, autograph=False).get_concrete_function(**signature)
    content = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert()
    graph = flatbuffer.graph(content)
    entries, exits = graph.inputs_by_name, graph.outputs_by_name
    parts = [
        flatbuffer.Part(
            {name: entries[f"{name}_of_{place}"].index for name in stage.inputs},
            {"output_0": exits[f"stage_{place}"].index},
        )
        for place, stage in enumerate(stages)
    ]
    names = [stage.name for stage in stages]
    return dict(zip(names, flatbuffer.split(content, parts), strict=True))
