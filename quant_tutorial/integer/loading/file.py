"""Walk through the ops of a file, and make the steps of an integer model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from quant_tutorial.integer.loading.source import (
    WAY_OUT,
    Built,
    NotCoveredError,
    Source,
    read_only,
)
from quant_tutorial.integer.model import IntegerModel, Step

import numpy as np
from numpy.typing import NDArray

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
OPS = tuple(sorted(_BUILDERS))  # the types of ops that integer-only inference covers
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
        with _own_words(source):
            for output, built in zip(source.outputs, _built(source), strict=True):
                if all(tensor.data is not None for tensor in built.inputs):
                    tensors[output.index] = _computed(output, built)
                    continue
                tensors[output.index] = _with_lengths(output, built)
                flowing = (tensor for tensor in built.inputs if tensor.data is None)
                rows = _count_images(*flowing, tensors[output.index])
                keeps_images = keeps_images and built.keeps_images and rows
                steps.append(_step(source, output, built))
    for tensor in graph.outputs:
        if tensors[tensor.index].data is not None:
            raise NotCoveredError(f"The output {tensor.name!r} does not depend on the images.")
    constants = {
        index: tensors[index].data
        for step in steps
        for index in step.inputs
        if tensors[index].data is not None
    }
    inputs, outputs = graph.inputs_by_name, graph.outputs_by_name
    return IntegerModel(
        tuple(steps),
        tuple(tensors),
        tuple(tensor.index for tensor in inputs.values()),
        tuple(tensor.index for tensor in outputs.values()),
        MappingProxyType(constants),
        keeps_images,
        tuple(inputs),
        graph.takes_lists,
    )


@contextlib.contextmanager
def _own_words(source: Source) -> Iterator[None]:
    """Name the op where a damaged file leads Python or NumPy to an error."""
    try:
        yield
    except NotCoveredError:
        raise
    except (ArithmeticError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise source.refuse(f"inputs or options that do not fit it ({error})") from error


def _built(source: Source) -> Sequence[Built]:
    """Return the steps of an op, one for each output."""
    if (whole := shapes.whole_numbers(source)) is not None:
        return [whole]
    if source.name not in _BUILDERS:
        raise NotCoveredError(
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
            raise NotCoveredError(
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


def _for_one_image(tensor: Tensor) -> Tensor:
    if tensor.shape[:1] != (-1,):
        return tensor
    return replace(tensor, shape=(1, *tensor.shape[1:]))


def _computed(output: Tensor, built: Built) -> Tensor:
    """Return an output that does not depend on the images, with its values."""
    values = built.function(*(tensor.data for tensor in built.inputs), **built.arguments)
    return replace(output, shape=np.shape(values), data=read_only(values))


def _with_lengths(output: Tensor, built: Built) -> Tensor:
    """Return an output with all its lengths, tried out where the file does not have them."""
    if output.shape and min(output.shape) >= 0:
        return output
    values = map(_example, built.inputs)
    return replace(output, shape=np.shape(built.function(*values, **built.arguments)))


def _example(tensor: Tensor) -> NDArray[Any]:
    """Return values that every op takes: not 0, by which none divides, and nothing below it."""
    if tensor.data is not None:
        return tensor.data
    value = min(int(tensor.zero_points[0]) + 1, 127) if len(tensor.zero_points) else 1
    return np.full(tensor.shape, value, tensor.dtype)


def _step(source: Source, output: Tensor, built: Built) -> Step:
    return Step(
        source.name,
        tuple(tensor.index for tensor in built.inputs),
        output.index,
        built.function,
        MappingProxyType(built.arguments),
    )


def _count_images(*tensors: Tensor) -> bool:
    """Tell whether the first axis of each tensor counts images."""
    return all(tensor.shape[:1] == (1,) for tensor in tensors)
