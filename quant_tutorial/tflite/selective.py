"""Leave chosen layers or op types of an int8 file in float: selective quantization (lesson 06).

The TFLite converter offers this only through its quantization debugger, whose two steps are taken
here: calibrate the float file, then quantize it with a list of nodes and ops to leave out. A node
is identified by the exact name of its op's output tensor. The converter silently ignores a name
that matches no op, so the layers' names are first looked up in the calibrated file. It is also
silent if an op becomes an integer op nevertheless, as pooling after an integer op does, so the new
file is checked as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quant_tutorial import flatbuffer, quiet
from quant_tutorial.flatbuffer import CASTS, Graph, Op
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.op_names import without_suffix
from quant_tutorial.tflite.saved_model import in_models_order, is_tf_keras, layer_names

from tensorflow.lite.python.convert import ConverterError, mlir_quantize

__all__ = ["ConverterError", "quantize_all_but"]


def quantize_all_but(
    converter: Any, model: Any, layers: Sequence[str], op_types: Sequence[str], io: str
) -> bytes:
    """Convert to int8, but leave some layers and types of ops in float; return the file's bytes.

    Args:
        converter: A `TFLiteConverter` with a representative dataset.
        model: The model that it converts, from which the layers' names are known.
        layers: Names of layers, including nested ones; an op of one of them stays in float.
        op_types: Types of ops, such as "CONV_2D".
        io: The type of the input and output: "float32", "int8" or "uint8".

    Raises:
        ValueError: for layers or op types that no op of the file has, and for pooling after an
            integer op, which the converter does not leave in float.
    """
    converter._experimental_calibrate_only = True
    with quiet.all_output():
        calibrated = converter.convert()
    graph = flatbuffer.graph(in_models_order(calibrated, model))
    spared = _ops_of(layers, model, graph)
    if unknown := [name for name in op_types if name not in graph.op_types]:
        raise ValueError(
            f"float_ops: the model has no op {unknown[0]!r}; it has {', '.join(graph.op_types)}."
        )
    with quiet.all_output():
        content = mlir_quantize(
            calibrated,
            disable_per_channel=converter._experimental_disable_per_channel,
            input_data_type=tf.as_dtype(io),
            output_data_type=tf.as_dtype(io),
            denylisted_ops=list(op_types) or None,
            denylisted_nodes=[op.outputs[0].name for op in spared] or None,
        )
    indices = {op.index for op in spared}
    indices |= {op.index for op in graph.ops if op.type in op_types}
    _require_float(indices, graph, flatbuffer.graph(content))
    return content


def _require_float(indices: set[int], before: Graph, after: Graph) -> None:
    """Raise a ValueError if one of these ops of the old file is an integer op in the new file."""
    # Quantizing adds casts but neither drops nor moves any other op.
    old, new = ([op for op in file.ops if op.type not in CASTS] for file in (before, after))
    for op, made in zip(old, new, strict=True):
        # Some ops, such as SHAPE, output integers even in a float file.
        if op.index in indices and op.outputs[0].is_float and not made.outputs[0].is_float:
            raise ValueError(
                f"float_layers, float_ops: {made} stays in integers: the converter leaves such an "
                "op in float only where the op before it stays in float as well."
            )


def _ops_of(layers: Sequence[str], model: Any, graph: Graph) -> list[Op]:
    """Return the ops of some layers, or raise a ValueError for a layer without one."""
    place = {tensor.index: n for n, tensor in enumerate(graph.outputs_by_name.values())}
    named = {op.index: _names(op, model, place.get(op.outputs[0].index)) for op in graph.ops}
    if missing := [name for name in layers if not any(name in names for names in named.values())]:
        found = dict.fromkeys(name for names in named.values() for name in sorted(names))
        raise ValueError(
            f"float_layers: layer {missing[0]!r} has no op of its own in the file; "
            f"these have: {', '.join(found)}."
        )
    return [op for op in graph.ops if named[op.index].intersection(layers)]


def _names(op: Op, model: Any, output: int | None) -> set[str]:
    """Return the names of the layers in an op, as the reader knows them.

    `output` is the place of its output among the model's.
    """
    is_keras3 = isinstance(model, keras.Model)
    if not is_keras3 and not is_tf_keras(model):
        return {part for layer in op.layers for part in layer.split("/")}
    parts = {part for path in op.paths for part in path}
    if not parts and output is not None:
        # The model's output has lost its name, and an op such as SOFTMAX has no weights from whose
        # names the layer could be found.
        history = model.outputs[output]._keras_history
        return {history.operation.name if is_keras3 else history.layer.name}
    known = layer_names(model)
    if is_keras3:
        # Keras 3's export numbers every name, so dropping one number never turns conv_1 into conv.
        names = {without_suffix(part) for part in parts}
    else:
        # tf_keras numbers only the second use of a layer.
        names = {part if part in known else without_suffix(part) for part in parts}
    return names.intersection(known)
