"""Check what each type of op relies on: sizes, options, scales and shapes (lesson 06)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from quant_tutorial.flatbuffer.parts import (
    OPTIONAL,
    Node,
    Tensor,
    is_known,
    label_of,
    lengths_fit,
    lengths_text,
    shape_text,
)

import numpy as np
from ai_edge_litert import schema_py_generated as schema

# How many inputs an op has, from and to. LiteRT looks at those of most ops, but not of all.
_INPUTS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        name: (fewest, most)
        for fewest, most, names in (
            (
                1,
                1,
                "ABS AVERAGE_POOL_2D CAST CEIL COS DEPTH_TO_SPACE DEQUANTIZE ELU EXP FLOOR GELU",
            ),
            (1, 1, "HARD_SWISH L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LOG LOG_SOFTMAX LOGICAL_NOT"),
            (1, 1, "LOGISTIC MAX_POOL_2D NEG QUANTIZE RANK RELU RELU6 RELU_N1_TO_1 ROUND RSQRT"),
            (1, 1, "SHAPE SIGN SIN SOFTMAX SPACE_TO_DEPTH SQRT SQUARE SQUEEZE TANH UNPACK WHERE"),
            (1, 1, "ZEROS_LIKE"),
            (1, 2, "RESHAPE"),
            (
                2,
                2,
                "ADD ARG_MAX ARG_MIN BATCH_MATMUL BROADCAST_TO CUMSUM DIV EQUAL EXPAND_DIMS FILL",
            ),
            (2, 2, "FLOOR_DIV FLOOR_MOD GATHER GATHER_ND GREATER GREATER_EQUAL LESS LESS_EQUAL"),
            (2, 2, "LOGICAL_AND LOGICAL_OR MAXIMUM MEAN MINIMUM MIRROR_PAD MUL NOT_EQUAL PAD POW"),
            (2, 2, "PRELU REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RESIZE_BILINEAR"),
            (
                2,
                2,
                "RESIZE_NEAREST_NEIGHBOR REVERSE_V2 SPLIT SQUARED_DIFFERENCE SUB SUM TILE TOPK_V2",
            ),
            (2, 2, "TRANSPOSE"),
            (2, 3, "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED"),
            (
                3,
                3,
                "BATCH_TO_SPACE_ND PADV2 RANGE SELECT SELECT_V2 SLICE SPACE_TO_BATCH_ND SPLIT_V",
            ),
            (3, 4, "TRANSPOSE_CONV"),
            (4, 4, "ONE_HOT STRIDED_SLICE"),
        )
        for name in names.split()
    }
)
_SEVERAL_OUTPUTS = ("SPLIT", "SPLIT_V", "TOPK_V2", "UNPACK")


def check_op(node: Node) -> None:
    """Raise a ValueError where an op is not as LiteRT's code for it relies on."""
    fewest, most = _INPUTS.get(node.type, (0, len(node.inputs)))
    if not fewest <= len(node.inputs) <= most:
        raise node.refuse(f"has {len(node.inputs)} inputs")
    if node.type in _INPUTS and len(node.outputs) != 1 and node.type not in _SEVERAL_OUTPUTS:
        raise node.refuse(f"has {len(node.outputs)} outputs")
    if node.type in _CHECKS:
        _CHECKS[node.type](node)


def _options(node: Node, kind: type) -> Any:
    if not isinstance(node.options, kind):
        raise node.refuse("lacks its options, such as strides")
    return node.options


def _pair(node: Node, what: str, rows: int, columns: int) -> tuple[int, int]:
    """Return two numbers that a kernel counts places with."""
    for value in (rows, columns):
        # LiteRT multiplies such numbers in 32 bits; one that makes sense does not come near.
        if not 1 <= value <= 2**15:
            raise node.refuse(f"has the {what} {value}")
    return rows, columns


def _slid(
    node: Node, tensor: Tensor, kernel: Sequence[int], dilation: Sequence[int] = (1, 1)
) -> list[int]:
    """Return how many rows and columns a kernel gives that slides over a tensor."""
    options, lengths = node.options, []
    if options.padding not in (schema.Padding.SAME, schema.Padding.VALID):
        raise node.refuse(f"has padding {options.padding}, which stands for none")
    strides = _pair(node, "stride", options.strideH, options.strideW)
    for length, width, stride, apart in zip(
        tensor.shape[1:3], kernel, strides, dilation, strict=True
    ):
        reach = 1 if options.padding == schema.Padding.SAME else (width - 1) * apart + 1
        if length < 0 or width < 0:
            lengths.append(-1)
            continue
        if length < reach or width < 1:
            raise node.refuse(
                f"slides a kernel of {width} over {label_of(tensor)}, {shape_text(tensor)}"
            )
        lengths.append((length - reach) // stride + 1)
    return lengths


def _is_quantized(tensor: Tensor) -> bool:
    """Tell whether integers stand for real numbers: wider ones count or point."""
    return "int" in tensor.type and tensor.bits <= 16


def _check_scales(
    node: Node, activations: Iterable[Tensor], weights: Tensor | None = None, axis: int = 0
) -> None:
    """Refuse integers without a scale, and several scales where there is room for one."""
    for tensor in activations:
        if _is_quantized(tensor) and len(tensor.scales) != 1:
            raise node.refuse(f"needs one scale of {label_of(tensor)}, got {len(tensor.scales)}")
    if weights is None or not _is_quantized(weights):
        return
    if len(weights.scales) == 0 and not weights.is_blockwise:
        raise node.refuse(f"needs a scale of its weights {label_of(weights)}")
    if len(weights.scales) > 1 and weights.axis != axis:
        raise node.refuse(
            f"needs scales along axis {axis} of {label_of(weights)}, they go along {weights.axis}"
        )


def _check_bias(node: Node, outputs: int) -> None:
    place = OPTIONAL[node.type]
    bias = node.inputs[place] if place < len(node.inputs) else None
    if bias is not None and is_known(bias) and not lengths_fit(math.prod(bias.shape), outputs):
        raise node.refuse(
            f"has {outputs} outputs, and its bias {label_of(bias)} is {shape_text(bias)}"
        )


def _dilation(node: Node) -> tuple[int, int]:
    return _pair(node, "dilation", node.options.dilationHFactor, node.options.dilationWFactor)


def _check_convolution(node: Node) -> None:
    x, weights = node.input(0, 4), node.input(1, 4)
    _options(node, schema.Conv2DOptionsT)
    _check_scales(node, (x, node.outputs[0]), weights)
    if not (is_known(x) and is_known(weights)):
        return
    outputs, *kernel, channels = weights.shape
    groups = x.shape[3] // max(channels, 1)
    if x.shape[3] >= 0 and (groups * channels != x.shape[3] or not groups or outputs % groups):
        raise node.refuse(f"has weights {shape_text(weights)} for {label_of(x)}, {shape_text(x)}")
    node.require_shape([x.shape[0], *_slid(node, x, kernel, _dilation(node)), outputs])
    _check_bias(node, outputs)


def _check_depthwise(node: Node) -> None:
    x, weights = node.input(0, 4), node.input(1, 4)
    options = _options(node, schema.DepthwiseConv2DOptionsT)
    _check_scales(node, (x, node.outputs[0]), weights, axis=3)
    if not (is_known(x) and is_known(weights)):
        return
    first, *kernel, outputs = weights.shape
    if first != 1 or (x.shape[3] >= 0 and x.shape[3] * options.depthMultiplier != outputs):
        raise node.refuse(
            f"has weights {shape_text(weights)} for {label_of(x)}, {shape_text(x)}, and "
            f"{options.depthMultiplier} outputs for each channel"
        )
    node.require_shape([x.shape[0], *_slid(node, x, kernel, _dilation(node)), outputs])
    _check_bias(node, outputs)
    # XNNPACK reads a third input without looking whether there is one; it leaves int16 alone.
    if len(node.inputs) == 2 and x.type != "int16":
        raise node.refuse("has no bias")


def _check_transpose_convolution(node: Node) -> None:
    shape, weights, x, out = node.input(0, 1), node.input(1, 4), node.input(2, 4), node.outputs[0]
    _options(node, schema.TransposeConvOptionsT)
    _check_scales(node, (x, out), weights)
    if shape.data is not None:
        node.require_shape(shape.data.tolist())
    if not (is_known(x) and is_known(weights) and is_known(out)):
        return
    outputs, *kernel, channels = weights.shape
    node.require_shape([x.shape[0], -1, -1, outputs])
    # It is a convolution from its output to its input.
    wanted = [out.shape[0], *_slid(node, out, kernel), channels]
    if not all(map(lengths_fit, x.shape, wanted)):
        raise node.refuse(
            f"makes {shape_text(out)} values of {lengths_text(wanted)}, not of {label_of(x)}, "
            f"{shape_text(x)}"
        )
    _check_bias(node, outputs)


def _check_fully_connected(node: Node) -> None:
    x, weights, out = node.input(0), node.input(1, 2), node.outputs[0]
    _check_scales(node, (x, out), weights)
    if not (is_known(x) and is_known(weights)):
        return
    units, width = weights.shape
    if 0 in (units, width) or (-1 not in x.shape and math.prod(x.shape) % width):
        raise node.refuse(f"has weights {shape_text(weights)} for {label_of(x)}, {shape_text(x)}")
    if -1 not in (*x.shape, *out.shape) and is_known(out):
        wanted = math.prod(x.shape) // width * units
        if math.prod(out.shape) != wanted:
            raise node.refuse(
                f"makes {wanted} values, and its output {label_of(out)} has {shape_text(out)}"
            )
    _check_bias(node, units)


def _check_pool(node: Node) -> None:
    x, options = node.input(0, 4), _options(node, schema.Pool2DOptionsT)
    _check_scales(node, (x, node.outputs[0]))
    kernel = _pair(node, "filter size", options.filterHeight, options.filterWidth)
    if is_known(x):
        node.require_shape([x.shape[0], *_slid(node, x, kernel), x.shape[3]])


def _check_reshape(node: Node) -> None:
    x, out = node.input(0), node.outputs[0]
    both = is_known(x) and is_known(out) and -1 not in (*x.shape, *out.shape)
    if both and math.prod(x.shape) != math.prod(out.shape):
        raise node.refuse(f"cannot make {shape_text(out)} values of {label_of(x)}, {shape_text(x)}")
    if len(node.inputs) == 2 and node.input(1).data is not None:
        node.require_shape(node.input(1).data.ravel().tolist())


def _check_same_shape(node: Node) -> None:
    x = node.input(0)
    if is_known(x):
        node.require_shape(x.shape)


def _check_activation(node: Node) -> None:
    _check_same_shape(node)
    _check_scales(node, (node.input(0), node.outputs[0]))


def _check_softmax(node: Node) -> None:
    _check_activation(node)
    x, beta = node.input(0), _options(node, schema.SoftmaxOptionsT).beta
    # The reference kernel ends the process when this is no more than 1.
    if _is_quantized(x) and not beta * float(x.scales[0]) * 2**26 > 1:
        raise node.refuse(
            f"has beta {beta:g}, and its input {label_of(x)} a scale of {x.scales[0]:g}"
        )


def _check_arithmetic(node: Node) -> None:
    a, b = node.input(0), node.input(1)
    ends = a, b, node.outputs[0]
    plain = node.type == "MUL" and all(t.type == "int16" and not len(t.scales) for t in ends)
    if not plain:
        _check_scales(node, ends)
    if not (is_known(a) and is_known(b)):
        return
    pairs = itertools.zip_longest(a.shape[::-1], b.shape[::-1], fillvalue=1)
    if any(one != other and min(one, other) > 1 for one, other in pairs):
        raise node.refuse(
            f"takes {shape_text(a)} and {shape_text(b)} values, which do not go together"
        )
    if -1 not in (*a.shape, *b.shape):
        node.require_shape(np.broadcast_shapes(a.shape, b.shape))


def _check_sum(node: Node) -> None:
    _check_arithmetic(node)
    a, b, out = node.input(0), node.input(1), node.outputs[0]
    if _is_quantized(out):
        if not (len(a.scales) and len(b.scales)):
            raise node.refuse(f"makes {out.type} of {a.type} and {b.type}")
        # LiteRT brings both to twice the larger scale, with some bits more, and ends the process
        # when the way from there to the output's scale is no multiplication by less than 1, or one
        # by 0, which float32 makes of a very small ratio.
        common = 2 * max(float(a.scales[0]), float(b.scales[0]))
        finest = float(out.scales[0]) * 2 ** (15 if out.type == "int16" else 20)
        if not common < finest < float(np.finfo(np.float32).max):
            raise node.refuse(
                f"has the scales {common / 2:g} and, at its output, {out.scales[0]:g}"
            )


def _check_split(node: Node) -> None:
    count = _options(node, schema.SplitOptionsT).numSplits
    if count != len(node.outputs):
        raise node.refuse(f"splits its input in {count}, and has {len(node.outputs)} outputs")


_CHECKS: Mapping[str, Callable[[Node], None]] = MappingProxyType(
    {
        "ADD": _check_sum,
        "CONV_2D": _check_convolution,
        "DEPTHWISE_CONV_2D": _check_depthwise,
        "FULLY_CONNECTED": _check_fully_connected,
        "RESHAPE": _check_reshape,
        "SOFTMAX": _check_softmax,
        "SPLIT": _check_split,
        "SUB": _check_sum,
        "TRANSPOSE_CONV": _check_transpose_convolution,
        **dict.fromkeys(("AVERAGE_POOL_2D", "L2_POOL_2D", "MAX_POOL_2D"), _check_pool),
        **dict.fromkeys(("DEQUANTIZE", "QUANTIZE"), _check_same_shape),
        **dict.fromkeys(("DIV", "MUL"), _check_arithmetic),
        **dict.fromkeys(
            ("LEAKY_RELU", "LOGISTIC", "RELU", "RELU6", "RELU_N1_TO_1", "TANH"), _check_activation
        ),
    }
)
