"""Count the bytes of weights, biases, scales and the rest in a `.tflite` file (lesson 09)."""

from __future__ import annotations

from typing import NamedTuple

from quant_tutorial import flatbuffer


class Sizes(NamedTuple):
    """The bytes of the parts of a `.tflite` file (lesson 09)."""

    file: int
    weights: int  # of convolutions and dense layers, at their bit width in the file
    biases: int
    scales: int  # a float32 for each scale and an int64 for each zero point, of all tensors
    rest: int  # the graph: ops, names, shapes, padding


def sizes(model_bytes: bytes) -> Sizes:
    """Count the bytes of each part of a `.tflite` file (lesson 09).

    The graphs of branches and loops are counted as well. Weights that two ops share are counted
    once. 4-bit weights are packed two to a byte, and 2-bit
    weights four to a byte.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    model, main = flatbuffer.read(model_bytes), flatbuffer.graph(model_bytes)
    in_file = [raw for part in model.subgraphs for raw in part.tensors or ()]
    tensors = [tensor for graph in (main, *main.others) for tensor in graph.tensors]
    buffers = {raw.buffer: tensor for raw, tensor in zip(in_file, tensors, strict=True)}
    weights, biases = (
        sum(tensor.bytes for tensor in buffers.values() if tensor.kind == kind)
        for kind in ("weights", "bias")
    )
    scales = sum(
        4 * len(values.scale) + 8 * (0 if values.zeroPoint is None else len(values.zeroPoint))
        for values in (tensor.quantization for tensor in in_file)
        if values is not None and values.scale is not None
    )
    rest = len(model_bytes) - weights - biases - scales
    return Sizes(len(model_bytes), weights, biases, scales, rest)


def weight_bytes(model_bytes: bytes) -> int:
    """Count the bytes of the weights at their bit width in the file (lesson 09).

    These are the weights of convolutions and dense layers, without biases, scales and zero points;
    see `sizes`.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    return sizes(model_bytes).weights
