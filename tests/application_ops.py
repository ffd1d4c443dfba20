"""Compare the simulation of a network with its file op by op: a part of `applications.py`.

Each op of the file gets the same integers as the layers of the simulation that stand for it: those
that the file's reference kernels compute from pictures. So the differences are those of one op, and
do not grow on their way to the output.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from quant_tutorial import flatbuffer, tflite
from quant_tutorial.affine import dequantize, quantize
from quant_tutorial.flatbuffer import FLOWING, Graph, Op, Tensor
from quant_tutorial.scheme import QuantScheme
from quant_tutorial.simulate import ModelParams, Node, Simulator, rounded, run_time_values
from quant_tutorial.tflite.interpreter import Runner

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema

MOVING = ("PAD", "RESHAPE")  # ops that compute nothing


def compared(model: Any, calibration: np.ndarray, images: np.ndarray) -> dict[str, dict[str, int]]:
    """Count for each type of op how many integers differ from those of LiteRT's default kernels.

    Each type has the number of its ops and of their integers, then of those that the simulation and
    the reference kernels compute differently, and the largest of these differences.
    """
    file = tflite.convert(model, "int8", calibration=calibration, input_range=None)
    simulator = Simulator(model, calibration)
    params = simulator.params(QuantScheme())
    simulation = simulator.simulated(params)
    graph = flatbuffer.graph(file)
    entry = quantize(images, graph.inputs[0].params).astype(np.int8)
    values = tflite.run_all(file, entry, "reference")
    tensors = dict(matches(simulator.nodes, params, simulation, graph))
    found: dict[str, dict[str, int]] = {}
    for node in simulator.nodes[1:]:
        sources = [tensors[name].index for name in node.sources if name in tensors]
        if node.name not in tensors or len(set(sources)) < len(node.sources):
            continue
        target = tensors[node.name]
        ops = ops_between(graph, sources, target.index)
        content = part_of(file, ops, sources, target.index)
        default, reference = (
            run(content, sources, values, target.index, kernels)
            for kernels in ("default", "reference")
        )
        given = [
            dequantize(values[tensors[name].index], tensors[name].params) for name in node.sources
        ]
        ours = computed(simulation, node, params, given).reshape(default.shape)
        kind = " and ".join(op.type for op in ops if op.type not in MOVING)
        own = found.setdefault(kind, {"ops": 0, "integers": 0})
        own["ops"] += 1
        own["integers"] += default.size
        for name, others in (("simulation", ours), ("reference", reference)):
            off = np.abs(others - default)
            own[f"{name}_differs"] = own.get(f"{name}_differs", 0) + int(np.sum(off > 0))
            own[f"{name}_largest"] = max(own.get(f"{name}_largest", 0), int(off.max()))
    return found


def matches(
    nodes: Sequence[Node], params: ModelParams, simulation: Any, graph: Graph
) -> Iterable[tuple[str, Tensor]]:
    """Find for each node the file's tensor of its size with its scale and zero point."""
    made = [*graph.inputs, *(tensor for op in graph.ops for tensor in op.outputs)]
    free = [tensor for tensor in made if tensor.params is not None and tensor.params.axis is None]
    for node in nodes:
        chosen = params.activations[node.name]
        size = int(np.prod(simulation.get_layer(node.name).output.shape[1:]))
        for tensor in free:
            same = tensor.params.zero_point == chosen.zero_point
            close = abs(tensor.params.scale / chosen.scale - 1) < 1e-3
            if same and close and int(np.prod(tensor.shape)) == size:
                free.remove(tensor)
                yield node.name, tensor
                break


def ops_between(graph: Graph, sources: Sequence[int], target: int) -> list[Op]:
    """List the ops that compute a tensor from others."""
    makers = {tensor.index: op for op in graph.ops for tensor in op.outputs}
    found: dict[int, Op] = {}
    wanted = [target]
    while wanted:
        op = makers[wanted.pop()]
        found[op.index] = op
        flowing = [tensor.index for tensor in op.inputs if tensor.kind in FLOWING]
        wanted += [index for index in flowing if index not in sources]
    return [found[index] for index in sorted(found)]


def part_of(file: bytes, ops: Sequence[Op], sources: Sequence[int], target: int) -> bytes:
    """Make a file of some ops of a file, with their weights."""
    model = flatbuffer.read(file)
    graph = model.subgraphs[0]
    needed = {
        graph.tensors[tensor.index].buffer
        for op in ops
        for tensor in op.inputs
        if tensor.kind not in FLOWING
    }
    part = copy.copy(graph)
    part.operators = [graph.operators[op.index] for op in ops]
    part.inputs, part.outputs = list(sources), [target]
    model.subgraphs, model.signatureDefs, model.metadata = [part], None, None
    model.buffers = [
        buffer if index in needed else schema.BufferT()
        for index, buffer in enumerate(model.buffers)
    ]
    return flatbuffer.write(model)


def run(
    content: bytes, sources: Sequence[int], values: Any, target: int, kernels: str
) -> np.ndarray:
    """Compute a tensor for each image with a part of a file."""
    graph = flatbuffer.graph(content)
    runner = Runner(content, graph, kernels=kernels, threads=1)
    rows = []
    for number in range(len(values[sources[0]])):
        runner.invoke({index: values[index][number : number + 1] for index in sources})
        rows.append(runner.value(target).astype(np.int32))
    return np.concatenate(rows)


def computed(
    simulation: Any, node: Node, params: ModelParams, given: Sequence[np.ndarray]
) -> np.ndarray:
    """Compute a node's integers with the layers of the simulation, from its sources' values."""
    ends = [simulation.get_layer(name).output for name in node.sources]
    inputs = [x.reshape(-1, *end.shape[1:]) for x, end in zip(given, ends, strict=True)]
    if len(ends) == 1:
        (ends,), (inputs,) = ends, inputs
    outputs = keras.Model(ends, simulation.get_layer(node.name).output)(inputs, training=False)
    chosen, averages = params.activations[node.name], node.kind == "same"
    values = keras.ops.convert_to_numpy(rounded(outputs, *run_time_values(chosen, averages)))
    return np.rint(values / np.float32(chosen.scale)).astype(np.int32) + chosen.zero_point
