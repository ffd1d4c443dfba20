"""Check whether LiteRT for Microcontrollers runs a file, and with how much memory (lesson 09).

This is the current name of TensorFlow Lite Micro (TFLM), an interpreter for the same file format on
chips without an operating system. It gets the file as an array in C (`header`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from quant_tutorial import flatbuffer
from quant_tutorial.deployment.header import ALIGNMENT
from quant_tutorial.flatbuffer import FLOWING, WEIGHTED, Graph, Op, Tensor

import numpy as np

# The ops that TFLM has built in, with their names in its MicroMutableOpResolver, without the ops of
# the signal library and those for one vendor's chips. Source: the file that registers all of them,
# python/tflite_micro/python_ops_resolver.cc in github.com/tensorflow/tflite-micro, commit 85e19dd.
_MICRO_OPS = """
    Abs Add AddN ArgMax ArgMin AssignVariable AveragePool2D BatchMatMul BatchToSpaceNd BroadcastArgs
    BroadcastTo CallOnce Cast Ceil Concatenation Conv2D Cos CumSum DepthToSpace DepthwiseConv2D
    Dequantize Div Elu EmbeddingLookup Equal Exp ExpandDims Fill Floor FloorDiv FloorMod
    FullyConnected Gather GatherNd Greater GreaterEqual HardSwish If L2Normalization L2Pool2D
    LeakyRelu Less LessEqual Log LogSoftmax LogicalAnd LogicalNot LogicalOr Logistic MaxPool2D
    Maximum Mean Minimum MirrorPad Mul Neg NotEqual Pack Pad PadV2 Prelu Quantize ReadVariable
    ReduceMax Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor Round Rsqrt SelectV2 Shape Sin
    Slice Softmax SpaceToBatchNd SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze
    StridedSlice Sub Sum Svdf Tanh Transpose TransposeConv UnidirectionalSequenceLSTM Unpack
    VarHandle While ZerosLike
"""
_MICRO_NAMES = {name.lower(): name for name in _MICRO_OPS.split()}
# The pairs of activation and weight types that its kernels multiply. Source: conv_common.cc and
# fully_connected.cc in tensorflow/lite/micro/kernels, which call all other pairs "hybrid".
_MICRO_PAIRS = (("float32", "float32"), ("int8", "int8"), ("int8", "int4"), ("int16", "int8"))


def micro_refusal(model_bytes: bytes) -> str | None:
    """Return why LiteRT for Microcontrollers cannot run a file, or None if it can (lesson 09).

    The check covers the ops that it has, the types of weights that its kernels multiply, and
    DEQUANTIZE. It does not cover the options of the ops, and hardware vendors' kernels may accept
    less. A test of the course runs the real interpreter.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    for op in flatbuffer.graph(model_bytes).all_ops:
        reason = _micro_refusal(op)
        if reason is not None:
            return f"{op} {reason}"
    return None


def micro_ops(model_bytes: bytes) -> tuple[str, ...]:
    """Return the calls that register a file's ops with LiteRT for Microcontrollers (lesson 09).

    A program for a chip contains the code of only those ops that its model needs. It declares a
    `tflite::MicroMutableOpResolver<n> resolver;` for n ops, and registers each of them with a call
    such as `resolver.AddConv2D();`. Each op is listed once, in order of first use, without
    `resolver.`: "AddConv2D();".

    Raises:
        ValueError: when the bytes are not a `.tflite` model, or one that it cannot run.
    """
    reason = micro_refusal(model_bytes)
    if reason is not None:
        raise ValueError(
            f"LiteRT for Microcontrollers cannot run this file: {reason} A full-integer int8 file "
            "is what it is made for."
        )
    return tuple(f"Add{_micro_name(op)}();" for op in flatbuffer.graph(model_bytes).op_types)


class Memory(NamedTuple):
    """Where the bytes of a file go when LiteRT runs it (lesson 09)."""

    file: int  # in flash or on the disk; weights are read from it in place
    activations: int  # in RAM: the largest sum of the activations that are needed together
    unpacked: int  # in RAM: constants that ops of the file turn into floats


def memory(model_bytes: bytes) -> Memory:
    """Compute the bytes that a file takes, and the least RAM that it needs in LiteRT (lesson 09).

    Weight-only files and float16 files hold ops that unpack constants to floats. LiteRT unpacks
    each of them once, in the first run, and keeps the floats; so all of them count, in addition to
    the activations. What the kernels take for themselves is not counted.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    found = flatbuffer.graph(model_bytes)
    unpacked = {
        (id(graph), tensor.index): tensor.bytes
        for graph in (found, *found.others)
        for op in graph.ops
        for tensor in op.outputs
        if tensor.kind.startswith("dequantized")
    }
    return Memory(len(model_bytes), _largest_sum(found, found, FLOWING), sum(unpacked.values()))


def arena_bytes(model_bytes: bytes) -> int:
    """Compute the least memory that a file needs at a time while it runs, in bytes (lesson 09).

    While an op runs, its own activations and those that later ops still need are in memory. So are
    the weights that had to be unpacked for it: to floats by an op of the file, or from int4 to int8
    by the op itself. The states of recurrent ops stay in memory throughout. The result is the
    largest such sum, with each tensor rounded up to 16 bytes as in LiteRT for Microcontrollers. Its
    arena must be larger, because it also holds the interpreter's structures (2.7 kB for the
    course's int8 model on a 64-bit computer) and what else the kernels of the chip need. LiteRT
    keeps weights that it has unpacked to floats; see `memory`. While a branch or a loop runs, the
    tensors of its own graph are in memory as well.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    found = flatbuffer.graph(model_bytes)
    return _largest_sum(found, found, (*FLOWING, "dequantized"), _unpacked_by)


def _unpacked_by(op: Op) -> int:
    """Return the bytes to which an op itself unpacks its int4 weights, rounded up."""
    return sum(
        _rounded_up(int(np.prod(tensor.shape)))
        for tensor in op.inputs
        if tensor.kind == "weights" and tensor.type == "int4" and op.type in WEIGHTED
    )


def _rounded_up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _largest_sum(
    found: Graph, file: Graph, kinds: tuple[str, ...], extra: Callable[[Op], int] = lambda _: 0
) -> int:
    """Return the largest sum of tensors of these kinds, and of an op's extra bytes, at a time.

    Args:
        found: One graph of a file.
        file: Its main graph, which knows the others.
        kinds: What the kinds of the tensors begin with.
        extra: Returns the bytes that an op takes besides its tensors.
    """
    first = dict.fromkeys((tensor.index for tensor in found.inputs), 0)
    last: dict[int, int] = {}
    flowing: dict[int, Tensor] = {tensor.index: tensor for tensor in found.inputs}
    for step, op in enumerate(found.ops):
        for tensor in (*op.inputs, *op.outputs):
            if tensor.kind == "state":
                flowing[tensor.index] = tensor
                first[tensor.index], last[tensor.index] = 0, len(found.ops)
            elif tensor.kind.startswith(kinds):
                flowing[tensor.index] = tensor
                first.setdefault(tensor.index, step)
                last[tensor.index] = step
    last.update(dict.fromkeys((tensor.index for tensor in found.outputs), len(found.ops)))
    sums = [
        sum(
            _rounded_up(tensor.bytes)
            for index, tensor in flowing.items()
            if first[index] <= step <= last.get(index, 0)
        )
        + extra(op)
        + max((_largest_sum(g, file, kinds, extra) for g in file.called_by(op)), default=0)
        for step, op in enumerate(found.ops)
    ]
    return max(sums, default=0)


def _micro_name(op_type: str) -> str | None:
    return _MICRO_NAMES.get(op_type.replace("_", "").lower())


def _micro_refusal(op: Op) -> str | None:
    if _micro_name(op.type) is None:
        return "is not among the ops that it has."
    for tensor in (*op.inputs, *op.outputs):
        if tensor.type == "int2":
            return "has 2-bit values, a type that it does not know."
    if op.type in WEIGHTED:
        source, weights = op.inputs[2 if op.type == "TRANSPOSE_CONV" else 0], op.inputs[1]
        if (source.type, weights.type) not in _MICRO_PAIRS:
            return f"multiplies {source.type} by {weights.type} weights, which it does not."
        if op.type == "TRANSPOSE_CONV" and weights.type == "int4":
            return "has int4 weights, which it takes in other ops only."
        if op.type == "FULLY_CONNECTED" and weights.type == "int4" and len(weights.scales) > 1:
            return "has int4 weights with a scale for each channel, which it takes in no such op."
    if op.type == "DEQUANTIZE":
        source = op.inputs[0]
        if source.type not in ("int8", "int16", "uint8"):
            return f"unpacks {source.type} values, and it can unpack int8, int16 and uint8 only."
        if len(source.scales) > 1:
            return (
                "has a scale for each channel, of which it uses the first for all: wrong results."
            )
    return None
