"""Cut a model at its nodes into stages, each a small float graph for LiteRT (lesson 05).

A stage rounds the values of the nodes that it reads, and computes the values of the next node. The
scale and the limits of the rounding are inputs of the stage, and so is the constant of a layer
`WithConstant`.
"""

from __future__ import annotations

from collections.abc import Sequence

from quant_tutorial import quiet
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.simulate.fake_quantize import rounded
from quant_tutorial.simulate.graph import Node

BATCH = 50  # images at a time: few enough that a batch of activations fits in a core's cache


def convert_stages(model: keras.Model, nodes: Sequence[Node]) -> dict[str, bytes]:
    """Convert the stage of each node except the inputs to a `.tflite` file for `BATCH` images.

    Lesson 05.

    Args:
        model: A model as `graph.prepare` returns it.
        nodes: Its nodes.
    """
    by_name = {node.name: node for node in nodes}
    with quiet.all_output():
        return {
            node.name: _converted(model, [by_name[name] for name in node.sources], node)
            for node in nodes
            if node.sources
        }


def value_names(source: Node, index: int) -> list[str]:
    """Return the names of the inputs for the rounding of a source; see `run_time_values`."""
    names = ["scale", "low", "high", *(["zero_point"] if source.kind == "same" else [])]
    return [f"{name}_{index}" for name in names]


def _converted(model: keras.Model, sources: Sequence[Node], node: Node) -> bytes:
    """Convert a stage: round the values of its sources, and compute those of its node."""
    ends = [model.get_layer(source.end).output for source in sources]
    part = keras.Model(ends, model.get_layer(node.end).output)
    variable = model.get_layer(node.constant).constant if node.constant else None
    # The weights become constants, because the converter does not freeze variables of Keras 3.
    constants = [(v, tf.constant(v)) for v in part.variables if v is not variable]
    signature = {}
    if variable is not None:
        signature["constant"] = tf.TensorSpec(variable.shape, name="constant")
    for index, (source, end) in enumerate(zip(sources, ends, strict=True)):
        signature[f"x_{index}"] = tf.TensorSpec((BATCH, *end.shape[1:]), name=f"x_{index}")
        for name in value_names(source, index):
            signature[name] = tf.TensorSpec((1,), name=name)

    def compute(**inputs: tf.Tensor) -> tf.Tensor:
        values = [
            rounded(inputs[f"x_{i}"], *(inputs[name] for name in value_names(source, i)))
            for i, source in enumerate(sources)
        ]
        own = [(variable, inputs["constant"])] if node.constant else []
        with keras.StatelessScope(state_mapping=[*constants, *own]):
            return part(values if len(values) > 1 else values[0], training=False)

    concrete = tf.function(compute).get_concrete_function(**signature)
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert()
