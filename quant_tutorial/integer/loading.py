"""Read a full-integer `.tflite` file for integer-only inference (lesson 07).

This is the only module in which scales, which are floats, become integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from quant_tutorial import flatbuffer
from quant_tutorial.affine import dequantize, quantize, round_half_away
from quant_tutorial.arguments import checked_whole
from quant_tutorial.flatbuffer import Op, Tensor
from quant_tutorial.integer import ops
from quant_tutorial.integer.arithmetic import INT32_MAX, Output, fixed_point
from quant_tutorial.integer.model import IntegerModel, Step
from quant_tutorial.integer.ops import Pair
from quant_tutorial.integer.softmax import softmax

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import ArrayLike, NDArray


def load(model_bytes: bytes, *, multiplier_bits: int | None = None) -> IntegerModel:
    """Read a full-integer `.tflite` file and prepare it for integer-only inference (lesson 07).

    Args:
        model_bytes: The content of the file, as `tflite.convert` returns it: one image at a time,
            int8 throughout, with int8, uint8 or float32 input and output. Weights may be int4.
        multiplier_bits: How many bits each multiplier has, 1 to 31. None means the precision of
            LiteRT's reference kernels: 31 bits, and a float of 53 bits for FULLY_CONNECTED.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, for an op that is not supported (named
            in the message), for a tensor that is float where integers are needed, and for weights
            and biases that could overflow an accumulator.
    """
    if multiplier_bits is not None:
        multiplier_bits = checked_whole("multiplier_bits", multiplier_bits, 1, 31)
    graph = flatbuffer.graph(model_bytes)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            "The model must have one input and one output, "
            f"it has {len(graph.inputs)} and {len(graph.outputs)}."
        )
    steps = []
    for op in graph.ops:
        if op.type not in _BUILDERS:
            known = ", ".join(sorted(_BUILDERS))
            raise ValueError(f"The op {op.type} is not supported here. These are: {known}.")
        steps.append(_step(_Source(op, multiplier_bits)))
    constants = {
        index: graph.tensors[index].data
        for step in steps
        for index in step.inputs
        if graph.tensors[index].data is not None
    }
    ends = graph.inputs[0].index, graph.outputs[0].index
    return IntegerModel(tuple(steps), graph.tensors, *ends, MappingProxyType(constants))


_ACTIVATION_NAMES = {
    code: name for name, code in vars(schema.ActivationFunctionType).items() if name[0] != "_"
}


@dataclass(frozen=True, eq=False)
class _Source:
    """One op of the file, from which a builder makes a step."""

    op: Op
    multiplier_bits: int | None

    @property
    def name(self) -> str:
        return self.op.type

    @property
    def options(self) -> Any:
        return self.op.options

    def input(self, number: int) -> Tensor:
        return self.op.inputs[number]

    @property
    def output(self) -> Tensor:
        return self.op.outputs[0]

    def refuse(self, what: str) -> ValueError:
        return ValueError(f"{self.name} with {what} is not supported here.")


# What a builder returns: the step's function and its keyword arguments.
_Built = tuple[Callable[..., NDArray[Any]], dict[str, Any]]


def _step(source: _Source) -> Step:
    activations = source.op.inputs[:2] if source.name == "ADD" else source.op.inputs[:1]
    doors = {"QUANTIZE": source.input(0), "DEQUANTIZE": source.output}
    types = ("int8", "uint8") if source.name in doors else ("int8",)
    for tensor in (*activations, source.output):
        if tensor is doors.get(source.name) and tensor.type == "float32":
            continue
        if tensor.type not in types or len(tensor.scales) != 1:
            raise ValueError(
                f"The tensor {tensor.name!r} of {source.name} is {tensor.type}, and integer-only "
                "inference needs int8 with one scale: convert the model with "
                "tflite.convert(model, 'int8', calibration=images)."
            )
        if tensor.data is None and tensor.shape[:1] not in ((1,), (-1,)):
            raise ValueError(
                f"The tensor {tensor.name!r} of {source.name} has the shape {tensor.shape}: its "
                "first axis must count images and be 1, as in the files of tflite.convert."
            )
    function, arguments = _BUILDERS[source.name](source)
    return Step(
        source.name,
        tuple(tensor.index for tensor in activations),
        source.output.index,
        function,
        MappingProxyType(arguments),
    )


def _output(
    source: _Source,
    ratios: ArrayLike,
    activation: int = schema.ActivationFunctionType.NONE,
    *,
    width: int = 31,
) -> Output:
    """Return the rescaling by one ratio, or by one for each channel, and the clamping."""
    multiplier, shift = _multiplier(source, ratios, width)
    lowest, highest = _activation_range(source, activation)
    zero_point = int(source.output.zero_points[0])
    return Output(multiplier, shift, zero_point, lowest, highest, source.output.dtype)


def _multiplier(
    source: _Source, ratios: ArrayLike, width: int = 31
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return multipliers as fractions of 2^width, and shifts; `multiplier_bits` limits the bits."""
    bits = source.multiplier_bits or width
    pairs = [fixed_point(float(ratio), bits) for ratio in np.ravel(ratios)]
    multiplier, shift = (
        np.array(part).reshape(np.shape(ratios)) for part in zip(*pairs, strict=True)
    )
    return _read_only(multiplier << (width - bits)), _read_only(shift)


def _activation_range(source: _Source, activation: int) -> Pair:
    tensor = source.output
    ends = np.iinfo(tensor.dtype)
    lowest, highest = int(ends.min), int(ends.max)
    zero_point = int(tensor.zero_points[0])
    name = _ACTIVATION_NAMES[activation]
    if name not in ("NONE", "RELU", "RELU6"):
        raise source.refuse(f"the activation {name}")
    if name != "NONE":
        lowest = max(lowest, zero_point)
    if name == "RELU6":
        highest = min(highest, zero_point + int(round_half_away(np.float32(6) / tensor.scales[0])))
    return lowest, highest


def _scale(tensor: Tensor) -> float:
    return float(tensor.scales[0])


def _read_only(array: ArrayLike) -> NDArray[Any]:
    array = np.asarray(array)  # a scalar becomes an array of shape ()
    array.flags.writeable = False
    return array


def _weights(source: _Source, outputs_axis: int, *, width: int = 31) -> dict[str, Any]:
    """Return the arguments that all ops with weights share.

    The weights and biases are checked first, so that no accumulator can overflow.
    """
    x, weights = source.input(0), source.input(1)
    known = weights.type in ("int8", "int4")  # int4 ones are unpacked in `data`
    if weights.data is None or not known or weights.zero_points.any():
        raise source.refuse("weights that are not constant, int8 or int4, and symmetric")
    outputs = weights.shape[outputs_axis]
    bias = np.zeros(outputs, np.int32)
    if len(source.op.inputs) > 2:
        bias = source.input(2).data
    if bias is None or bias.dtype != np.int32:
        raise source.refuse("a bias that is not a constant int32")
    # |q_x − zero_point| ≤ 255, so no input can lead to a larger sum than this.
    others = tuple(axis for axis in range(weights.data.ndim) if axis != outputs_axis)
    largest = 255 * np.abs(weights.data.astype(np.int64)).sum(axis=others) + abs(
        bias.astype(np.int64)
    )
    if largest.max() > INT32_MAX:
        raise ValueError(
            f"{source.name} sums products up to {largest.max()}, more than an int32 holds "
            f"({INT32_MAX}): the layer has too many inputs."
        )
    scales = np.resize(weights.scales, outputs).astype(np.float64)  # one, or one for each channel
    ratios = _scale(x) * scales / _scale(source.output)
    return {
        "weights": weights.data,
        "bias": bias,
        "zero_point": int(x.zero_points[0]),
        "output": _output(source, ratios, source.options.fusedActivationFunction, width=width),
    }


def _strides_and_padding(source: _Source, kernel: Pair) -> dict[str, Any]:
    options, size = source.options, source.input(0).shape[1:3]
    strides = options.strideH, options.strideW
    same = options.padding == schema.Padding.SAME
    padding = tuple(
        ops.same_padding(*axis) if same else (0, 0)
        for axis in zip(size, kernel, strides, strict=True)
    )
    return {"strides": strides, "padding": padding}


def _build_convolution(source: _Source) -> _Built:
    options, shape = source.options, source.input(1).shape
    if (options.dilationHFactor, options.dilationWFactor) != (1, 1):
        raise source.refuse("dilation")
    depthwise = source.name == "DEPTHWISE_CONV_2D"
    if not depthwise and shape[3] != source.input(0).shape[3]:
        raise source.refuse("groups")
    arguments = _weights(source, 3 if depthwise else 0) | _strides_and_padding(source, shape[1:3])
    return ops.depthwise_convolve if depthwise else ops.convolve, arguments


def _build_fully_connected(source: _Source) -> _Built:
    shape = {"shape": source.output.shape[1:]}
    return ops.fully_connected, _weights(source, 0, width=62) | shape


def _check_count(source: _Source, count: int) -> None:
    if 255 * count > INT32_MAX:
        raise ValueError(f"{source.name} sums {count} values, more than an int32 has room for.")


def _build_pool(source: _Source) -> _Built:
    options = source.options
    kernel = options.filterHeight, options.filterWidth
    lowest, highest = _activation_range(source, options.fusedActivationFunction)
    arguments = {"kernel": kernel, "lowest": lowest, "highest": highest}
    function = ops.max_pool
    if source.name == "AVERAGE_POOL_2D":
        _check_count(source, math.prod(kernel))
        function = ops.average_pool
    return function, arguments | _strides_and_padding(source, kernel)


def _build_mean(source: _Source) -> _Built:
    x = source.input(0)
    axes = tuple(sorted({int(axis) % len(x.shape) for axis in np.ravel(source.input(1).data)}))
    if 0 in axes:
        raise source.refuse("the axis of the images")
    count = math.prod(x.shape[axis] for axis in axes)
    _check_count(source, count)
    multiplier, shift = _multiplier(source, _scale(x) / _scale(source.output))
    # The division by the count, in integers. To keep precision, the multiplier is first shifted to
    # the left as far as there is room.
    places = min(count.bit_length() - 1, 31 + int(shift))
    unused = 31 - (source.multiplier_bits or 31)
    multiplier = (multiplier << places) // count >> unused << unused
    output = replace(
        _output(source, 1), multiplier=_read_only(multiplier), shift=_read_only(shift - places)
    )
    shape, zero_point = source.output.shape[1:], int(x.zero_points[0])
    return ops.mean, {"axes": axes, "zero_point": zero_point, "output": output, "shape": shape}


def _build_add(source: _Source) -> _Built:
    inputs = source.input(0), source.input(1)
    common = 2 * max(_scale(x) for x in inputs)
    pairs = [_multiplier(source, _scale(x) / common) for x in inputs]
    ratio = common / (2**20 * _scale(source.output))
    return ops.add, {
        "zero_points": tuple(int(x.zero_points[0]) for x in inputs),
        "multipliers": tuple(int(multiplier) for multiplier, _ in pairs),
        "shifts": tuple(int(shift) for _, shift in pairs),
        "output": _output(source, ratio, source.options.fusedActivationFunction),
    }


def _build_softmax(source: _Source) -> _Built:
    x = source.input(0)
    if x.shape[-1] > 511:  # LiteRT ends the process if the exponentials add up to 512
        raise source.refuse(f"{x.shape[-1]} classes")
    # From a scale of 16 on, every exponential except exp(0) is 0, whatever the ratio.
    ratio = min(source.options.beta * _scale(x) * 2**26, 2.0**30 - 1)
    multiplier, shift = _multiplier(source, ratio)
    return softmax, {"multiplier": int(multiplier), "shift": int(shift)}


def _build_quantize(source: _Source) -> _Built:
    x = source.input(0)
    if x.dtype == np.float32:
        return quantize, {"params": source.output.params}
    output = _output(source, _scale(x) / _scale(source.output))
    return ops.requantize, {"zero_point": int(x.zero_points[0]), "output": output}


def _build_dequantize(source: _Source) -> _Built:
    return dequantize, {"params": source.input(0).params}


def _build_relu(source: _Source) -> _Built:
    x = source.input(0)
    ratio = x.scales[0] / source.output.scales[0]  # in float32, as LiteRT does for this op
    activation = getattr(schema.ActivationFunctionType, source.name)
    output = _output(source, ratio, activation)
    return ops.requantize, {"zero_point": int(x.zero_points[0]), "output": output}


def _build_reshape(source: _Source) -> _Built:
    return ops.reshape, {"shape": source.output.shape[1:]}


def _build_pad(source: _Source) -> _Built:
    paddings = tuple((int(before), int(after)) for before, after in source.input(1).data)
    if paddings[0] != (0, 0):
        raise source.refuse("padding of the axis of the images")
    return ops.pad, {"paddings": paddings, "value": int(source.output.zero_points[0])}


_BUILDERS: Mapping[str, Callable[[_Source], _Built]] = MappingProxyType(
    {
        "ADD": _build_add,
        "AVERAGE_POOL_2D": _build_pool,
        "CONV_2D": _build_convolution,
        "DEPTHWISE_CONV_2D": _build_convolution,
        "DEQUANTIZE": _build_dequantize,
        "FULLY_CONNECTED": _build_fully_connected,
        "MAX_POOL_2D": _build_pool,
        "MEAN": _build_mean,
        "PAD": _build_pad,
        "QUANTIZE": _build_quantize,
        "RELU": _build_relu,
        "RELU6": _build_relu,
        "RESHAPE": _build_reshape,
        "SOFTMAX": _build_softmax,
    }
)
