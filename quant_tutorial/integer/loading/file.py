"""Walk through the ops of a file, and make the steps of an integer model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from quant_tutorial import flatbuffer
from quant_tutorial.arguments import checked_whole
from quant_tutorial.flatbuffer import Tensor
from quant_tutorial.integer.loading import (
    convolving,
    elementwise,
    moving,
    reducing,
    shapes,
    tables,
)
from quant_tutorial.integer.loading.source import WAY_OUT, Built, Source, read_only
from quant_tutorial.integer.model import IntegerModel, Step

import numpy as np

_BUILDERS: Mapping[str, Callable[[Source], Built | list[Built]]] = MappingProxyType(
    {
        "ABS": elementwise.absolute,
        "ADD": elementwise.addition,
        "ARG_MAX": reducing.position,
        "ARG_MIN": reducing.position,
        "AVERAGE_POOL_2D": reducing.pool,
        "BATCH_MATMUL": convolving.matrices,
        "BATCH_TO_SPACE_ND": moving.batch_to_space,
        "BROADCAST_TO": moving.stretch,
        "CONCATENATION": moving.concatenate,
        "CONV_2D": convolving.convolution,
        "DEPTHWISE_CONV_2D": convolving.convolution,
        "DEPTH_TO_SPACE": moving.depth_to_space,
        "DEQUANTIZE": elementwise.dequantization,
        "DIV": elementwise.division,
        "EXP": tables.table,
        "EXPAND_DIMS": moving.expand,
        "FULLY_CONNECTED": convolving.fully_connected,
        "GATHER": moving.gather,
        "GELU": tables.table,
        "GREATER": elementwise.comparison,
        "GREATER_EQUAL": elementwise.comparison,
        "HARD_SWISH": elementwise.hard_swish,
        "L2_NORMALIZATION": elementwise.normalization,
        "LEAKY_RELU": elementwise.leaky_relu,
        "LESS": elementwise.comparison,
        "LESS_EQUAL": elementwise.comparison,
        "LOG": tables.table,
        "LOGISTIC": tables.table,
        "MAXIMUM": elementwise.extreme,
        "MAX_POOL_2D": reducing.pool,
        "MEAN": reducing.mean,
        "MINIMUM": elementwise.extreme,
        "MIRROR_PAD": moving.mirror_pad,
        "MUL": elementwise.multiplication,
        "PACK": moving.stack,
        "PAD": moving.pad,
        "PADV2": moving.pad,
        "PRELU": elementwise.prelu,
        "QUANTIZE": elementwise.requantization,
        "REDUCE_MAX": reducing.extreme,
        "REDUCE_MIN": reducing.extreme,
        "RELU": elementwise.relu,
        "RELU6": elementwise.relu,
        "RELU_N1_TO_1": elementwise.relu,
        "RESHAPE": moving.reshape,
        "RESIZE_BILINEAR": moving.bilinear,
        "RESIZE_NEAREST_NEIGHBOR": moving.nearest,
        "REVERSE_V2": moving.flip,
        "RSQRT": elementwise.reciprocal_root,
        "SELECT": elementwise.selection,
        "SELECT_V2": elementwise.selection,
        "SHAPE": shapes.shape_of,
        "SLICE": moving.take_slice,
        "SOFTMAX": reducing.softmax,
        "SPACE_TO_BATCH_ND": moving.space_to_batch,
        "SPACE_TO_DEPTH": moving.depth_to_space,
        "SPLIT": moving.split,
        "SPLIT_V": moving.split,
        "SQRT": tables.table,
        "SQUARED_DIFFERENCE": elementwise.squared_difference,
        "SQUEEZE": moving.squeeze,
        "STRIDED_SLICE": moving.strided_slice,
        "SUB": elementwise.addition,
        "SUM": reducing.total,
        "TANH": tables.table,
        "TILE": moving.tile,
        "TRANSPOSE": moving.transpose,
        "TRANSPOSE_CONV": convolving.transpose_convolution,
        "UNPACK": moving.unstack,
    }
)
OPS = tuple(sorted(_BUILDERS))
"""The types of ops that integer-only inference covers (lesson 07)."""
_ANSWERS = ("ARG_MAX", "ARG_MIN")  # their output counts, and has no scale


def load(model_bytes: bytes, *, multiplier_bits: int | None = None) -> IntegerModel:
    """Read a full-integer `.tflite` file and prepare it for integer-only inference (lesson 07).

    Args:
        model_bytes: The content of the file, as `tflite.convert` returns it: one image at a time,
            int8 throughout, with int8, uint8 or float32 input and output. Weights may be int4.
        multiplier_bits: How many bits each multiplier has, 1 to 31. None means the precision of
            LiteRT's reference kernels: 31 bits, and a float of 53 bits for FULLY_CONNECTED.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, for an op that is not covered (named
            in the message, with its layer), for a tensor that is float where integers are needed,
            and for weights and biases that could overflow an accumulator.
    """
    if multiplier_bits is not None:
        multiplier_bits = checked_whole("multiplier_bits", multiplier_bits, 1, 31)
    graph = flatbuffer.graph(model_bytes)
    tensors = [_for_one_image(tensor) for tensor in graph.tensors]
    for entry in graph.inputs:
        _check_entry(entry)
    steps: list[Step] = []
    keeps_images = True
    for op in graph.ops:
        source = Source(
            op,
            tuple(tensors[tensor.index] for tensor in op.inputs),
            tuple(tensors[tensor.index] for tensor in op.outputs),
            multiplier_bits,
        )
        for output, built in zip(op.outputs, _built(source), strict=True):
            function, arguments = built.function, built.arguments
            values = [tensor.data for tensor in built.inputs]
            if all(value is not None for value in values):
                tensors[output.index] = _with_data(output, function(*values, **arguments))
                continue
            _check_types(source)
            shape = output.shape
            if not _is_known(output):
                shape = np.shape(function(*map(_zeros, built.inputs), **arguments))
                tensors[output.index] = replace(output, shape=shape)
            keeps_images &= built.keeps_images and _count_images(
                *(tensor for tensor in built.inputs if tensor.data is None), tensors[output.index]
            )
            steps.append(
                Step(
                    op.type,
                    tuple(tensor.index for tensor in built.inputs),
                    output.index,
                    function,
                    MappingProxyType(arguments),
                )
            )
    constants = {
        index: tensors[index].data
        for step in steps
        for index in step.inputs
        if tensors[index].data is not None
    }
    return IntegerModel(
        tuple(steps),
        tuple(tensors),
        tuple(tensor.index for tensor in graph.inputs),
        tuple(tensor.index for tensor in graph.outputs),
        MappingProxyType(constants),
        keeps_images,
    )


def _built(source: Source) -> Sequence[Built]:
    """Return the steps of an op, one for each output."""
    if (whole := shapes.whole_numbers(source)) is not None:
        return [whole]
    if source.name not in _BUILDERS:
        raise ValueError(
            f"Integer-only inference does not cover {source.op}; integer.OPS lists the ops that it "
            f"covers. {WAY_OUT}."
        )
    if any(tensor.data is None for tensor in source.inputs) and source.name != "SHAPE":
        _check_types(source)
    built = _BUILDERS[source.name](source)
    return built if isinstance(built, list) else [built]


def _check_types(source: Source) -> None:
    """Refuse tensors that are not 8-bit integers with one scale where such are needed."""
    doors = {"QUANTIZE": source.input(0), "DEQUANTIZE": source.output}
    types = ("int8", "uint8") if source.name in doors else ("int8",)
    flowing = [tensor for tensor in source.inputs if tensor.data is None]
    for tensor in (*flowing, *source.outputs):
        if tensor is doors.get(source.name) and tensor.type == "float32":
            continue
        if tensor.type == "bool" or (tensor is source.output and source.name in _ANSWERS):
            continue
        if tensor.type not in types or len(tensor.scales) != 1:
            raise ValueError(
                f"The tensor {tensor.name!r} of {source.op} is {tensor.type}, and integer-only "
                "inference needs int8 with one scale: convert the model with "
                f"tflite.convert(model, 'int8', calibration=images), or else {WAY_OUT}."
            )


def _check_entry(entry: Tensor) -> None:
    shape = entry.shape
    if shape[:1] not in ((1,), (-1,)) or min(shape[1:], default=1) < 0:
        raise ValueError(
            f"The input {entry.name!r} has the shape {shape}: its first axis must count images and "
            "be 1, and the other lengths must be known, as in the files of tflite.convert."
        )


def _is_known(tensor: Tensor) -> bool:
    """Tell whether the file gives the lengths of a tensor, except for the number of images."""
    return bool(tensor.shape) and min(tensor.shape[1:], default=1) >= 0


def _for_one_image(tensor: Tensor) -> Tensor:
    if tensor.shape[:1] != (-1,):
        return tensor
    return replace(tensor, shape=(1, *tensor.shape[1:]))


def _with_data(tensor: Tensor, values: Any) -> Tensor:
    return replace(tensor, shape=np.shape(values), data=read_only(values))


def _zeros(tensor: Tensor) -> Any:
    return np.zeros(tensor.shape, tensor.dtype) if tensor.data is None else tensor.data


def _count_images(*tensors: Tensor) -> bool:
    """Tell whether the first axis of each tensor counts images."""
    return all(tensor.shape[:1] == (1,) for tensor in tensors)
