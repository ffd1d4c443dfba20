"""Integer-only inference of the ops beyond lesson 07's network, each against LiteRT's kernels.

First every op in files of its own, with scales, zero points and shapes drawn at random; then files
of the converter with many ops, of which every tensor is compared.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from quant_tutorial import integer, tflite
from quant_tutorial.integer import ops

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from one_op_files import assert_as_litert, constant, file_of, integers, options, tensor

Case = tuple[str, list[SimpleNamespace], Any, Any]
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
ACTIVATIONS = [
    getattr(schema.ActivationFunctionType, name)
    for name in ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
]
SHAPE = (1, 5, 4, 3)
# What a second input may be: an activation of one of these shapes, or a constant.
SECONDS = [SHAPE, (1, 1, 1, 3), (1, 5, 1, 1), (3,), (4, 1), ()]


class Draw:
    """Draws tensors of one op."""

    def __init__(self, seed: int) -> None:
        self.seed, self.rng = seed, np.random.default_rng(seed)

    def scale(self, low: float = 0.003, high: float = 0.3) -> float:
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def zero_point(self) -> int:
        return int(self.rng.choice([-128, 127, 0, *self.rng.integers(-128, 128, 3)]))

    def one_of(self, choices: list) -> Any:
        return choices[self.rng.integers(len(choices))]

    def tensor(self, name: str, shape: tuple[int, ...], **fixed: Any) -> SimpleNamespace:
        given = {"scale": self.scale(), "zero_point": self.zero_point()} | fixed
        return tensor(name, shape, **given)

    def constant(self, name: str, shape: tuple[int, ...], **fixed: Any) -> SimpleNamespace:
        made = self.tensor(name, shape, **fixed)
        made.data = np.asarray(self.rng.integers(-128, 128, shape, np.int8))
        return made

    def alike(self, *shapes: tuple[int, ...]) -> list[SimpleNamespace]:
        """Tensors a, b, … with one scale and one zero point."""
        fixed = {"scale": self.scale(), "zero_point": self.zero_point()}
        return [tensor("acdefgh"[n], shape, **fixed) for n, shape in enumerate(shapes)]

    def second(self) -> SimpleNamespace:
        """The second input of an op that broadcasts."""
        shape = SECONDS[self.seed % len(SECONDS)]
        is_activation = shape[:1] == (1,) and self.seed // len(SECONDS) % 2
        make = self.tensor if is_activation else self.constant
        return make("c", shape)


def numbers(*values: Any) -> SimpleNamespace:
    """A constant of whole numbers, such as axes or lengths."""
    return constant(f"n{values}", np.array(values, np.int32))


def number(value: int) -> SimpleNamespace:
    return constant(f"n{value}", np.array(value, np.int32))


# --- Each op --------------------------------------------------------------------------------------


def arithmetic(name: str, kind: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        inputs = [draw.tensor("a", SHAPE), draw.second()]
        if draw.seed % 3 == 0 and name != "PRELU":
            inputs.reverse()
        how = options(kind) if kind else None
        if hasattr(how, "fusedActivationFunction"):
            how.fusedActivationFunction = draw.one_of(ACTIVATIONS)
        return name, inputs, draw.tensor("y", SHAPE), how

    return case


def extreme(name: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        second = SECONDS[draw.seed % len(SECONDS)]
        a, c, y = draw.alike(SHAPE, second, SHAPE)
        if draw.seed % 2 or second[:1] != (1,):
            c.data = np.asarray(draw.rng.integers(-128, 128, second, np.int8))
        return name, [a, c], y, options("MaximumMinimum")

    return case


def unary(name: str, kind: str = "", **fixed: Any) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        out = {"scale": 1 / 256, "zero_point": -128} if name == "LOGISTIC" else {}
        if name in ("TANH", "L2_NORMALIZATION"):
            out = {"scale": 1 / 128, "zero_point": 0}
        x = draw.tensor("a", (1, 256))
        if name in ("SQRT", "RSQRT"):  # LiteRT fails at what is below 0
            x.zero_point = -128
        if name == "HARD_SWISH":  # the kernel takes no more precise outputs
            out = {"scale": x.scale * draw.scale(0.02, 5)}
        return (
            name,
            [x],
            draw.tensor("y", (1, 256), **out),
            options(kind, **fixed) if kind else None,
        )

    return case


def leaky(draw: Draw) -> Case:
    how = options("LeakyRelu", alpha=draw.one_of([0.2, 0.01, 1.5, 0.0]))
    return "LEAKY_RELU", [draw.tensor("a", (1, 256))], draw.tensor("y", (1, 256)), how


def reduction(name: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        axes = draw.one_of([(1, 2), (-1,), (2,), (3, 1), (1, 2, 3), (0,), (0, 1, 2)])
        keep = draw.one_of([True, False])
        shape = np.zeros(SHAPE).sum(axes, keepdims=keep).shape
        x, y = draw.tensor("a", SHAPE), draw.tensor("y", shape, scale=draw.scale(0.01, 1))
        if name.startswith("REDUCE"):
            x, y = draw.alike(SHAPE, shape)
        return name, [x, numbers(*axes)], y, options("Reducer", keepDims=keep)

    return case


def position(name: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        y = tensor("y", SHAPE[:-1], (), dtype="int64")
        how = options(name.title().replace("_", ""), outputType=schema.TensorType.INT64)
        return name, [draw.tensor("a", SHAPE), number(-1)], y, how

    return case


def layer(draw: Draw, weights: np.ndarray, axis: int) -> tuple[list[SimpleNamespace], float]:
    """Weights and biases, and a scale with which the outputs fill their range."""
    scales = np.exp(draw.rng.uniform(-6, -4, weights.shape[axis]))
    bias = draw.rng.integers(-20_000, 20_000, weights.shape[axis], np.int32)
    terms = weights.size / weights.shape[axis]
    parts = [
        constant("k", weights, scales, axis=axis),
        constant("bias", bias, scales * 0.02),
    ]
    return parts, float(0.02 * scales.mean() * 30 * math.sqrt(terms))


def convolution(draw: Draw) -> Case:
    """Dilation and groups; the plain ones are in test_integer."""
    groups, per_group = draw.one_of([(1, 3), (2, 2), (3, 1)])
    dilation = [(2, 1), (1, 3), (2, 2), (1, 1)][draw.seed % 4]
    kernel = (draw.one_of([1, 2, 3]), draw.one_of([1, 2, 3]))
    strides = (1, 1) if max(dilation) > 1 else (2, 1)
    padding = draw.one_of([SAME, VALID])
    weights = integers(draw.rng, 4 * groups, *kernel, per_group)
    parts, scale = layer(draw, weights, 0)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [
        math.ceil((n - (0 if padding == SAME else r - 1)) / s)
        for n, r, s in zip((9, 8), reach, strides, strict=True)
    ]
    how = options(
        "Conv2D",
        padding=padding,
        strideH=strides[0],
        strideW=strides[1],
        dilationHFactor=dilation[0],
        dilationWFactor=dilation[1],
        fusedActivationFunction=draw.one_of(ACTIVATIONS),
    )
    x = draw.tensor("a", (1, 9, 8, groups * per_group), scale=0.02)
    return "CONV_2D", [x, *parts], draw.tensor("y", (1, *size, 4 * groups), scale=scale), how


def depthwise(draw: Draw) -> Case:
    dilation = draw.one_of([(2, 1), (1, 2), (3, 2)])
    weights = integers(draw.rng, 1, 3, 2, 6)
    parts, scale = layer(draw, weights, 3)
    how = options(
        "DepthwiseConv2D",
        padding=SAME,
        strideH=1,
        strideW=1,
        depthMultiplier=2,
        dilationHFactor=dilation[0],
        dilationWFactor=dilation[1],
        fusedActivationFunction=draw.one_of(ACTIVATIONS),
    )
    ends = draw.tensor("a", (1, 9, 8, 3), scale=0.02), draw.tensor("y", (1, 9, 8, 6), scale=scale)
    return "DEPTHWISE_CONV_2D", [ends[0], *parts], ends[1], how


def transpose_convolution(draw: Draw) -> Case:
    kernel = (draw.one_of([1, 2, 3, 4]), draw.one_of([1, 2, 3]))
    strides = (draw.one_of([1, 2, 3]), draw.one_of([1, 2]))
    padding = draw.one_of([SAME, VALID])
    weights = integers(draw.rng, 4, *kernel, 3)
    parts, scale = layer(draw, weights, 0)
    more = draw.one_of([0, 1]) if padding == VALID else 0  # rows that no window reaches
    size = [
        n * s if padding == SAME else (n - 1) * s + k + min(more, s - 1)
        for n, s, k in zip((5, 4), strides, kernel, strict=True)
    ]
    how = options(
        "TransposeConv",
        padding=padding,
        strideH=strides[0],
        strideW=strides[1],
        fusedActivationFunction=draw.one_of(ACTIVATIONS),
    )
    x, y = draw.tensor("a", (1, 5, 4, 3), scale=0.02), draw.tensor("y", (1, *size, 4), scale=scale)
    parts = [numbers(*y.shape), parts[0], x, parts[1]]
    return "TRANSPOSE_CONV", parts[: draw.one_of([3, 4])], y, how


def matrices(draw: Draw) -> Case:
    turned = draw.one_of([True, False]), draw.one_of([True, False])
    outer = draw.one_of([(1,), (1, 2)])
    shapes = (6, 5) if turned[0] else (5, 6), (4, 6) if turned[1] else (6, 4)
    a = draw.tensor("a", (*outer, *shapes[0]), scale=0.02)
    make = draw.one_of([draw.tensor, draw.constant])
    b = make("c", (*outer, *shapes[1]), scale=0.01)
    y = draw.tensor("y", (*outer, 5, 4), scale=0.05)
    return "BATCH_MATMUL", [a, b], y, options("BatchMatMul", adjX=turned[0], adjY=turned[1])


def dense(draw: Draw) -> Case:
    """Of an input with several axes, to one with as many or with two."""
    keep = draw.one_of([True, False])
    weights = integers(draw.rng, 7, 3)
    parts, scale = layer(draw, weights, 0)
    y = draw.tensor("y", (1, 5, 4, 7) if keep else (20, 7), scale=scale)
    how = options(
        "FullyConnected", keepNumDims=keep, fusedActivationFunction=draw.one_of(ACTIVATIONS)
    )
    return "FULLY_CONNECTED", [draw.tensor("a", SHAPE, scale=0.02), *parts], y, how


def resizing(name: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        size = draw.one_of([(10, 8), (3, 2), (5, 4), (7, 9), (1, 1), (13, 5)])
        corners, centers = draw.one_of([(False, True), (True, False), (False, False)])
        x, y = draw.alike(SHAPE, (1, *size, 3))
        kind = name.title().replace("_", "")
        how = options(kind, alignCorners=corners, halfPixelCenters=centers)
        return name, [x, numbers(*size)], y, how

    return case


def comparison(name: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        inputs = [draw.tensor("a", SHAPE), draw.second()]
        if draw.seed % 2:  # often equal
            inputs[1].scale, inputs[1].zero_point = inputs[0].scale, inputs[0].zero_point
        kind = name.title().replace("_", "")
        return name, inputs, tensor("y", SHAPE, (), dtype="bool"), options(kind)

    return case


def selection(draw: Draw) -> Case:
    a, c, y = draw.alike(SHAPE, SHAPE, SHAPE)
    condition = constant("n", draw.rng.integers(0, 2, (5, 4, 1)).astype(bool))
    return "SELECT_V2", [condition, a, c], y, options("SelectV2")


def moved(name: str, *parameters: Any, to: tuple[int, ...], how: Any = None) -> Callable:
    """A case of an op that moves the values of a tensor of SHAPE."""

    def case(draw: Draw) -> Case:
        x, y = draw.alike(SHAPE, to)
        return name, [x, *parameters], y, how

    return case


def padding(name: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        amounts = np.array(draw.one_of([((0, 0), (1, 2), (0, 3), (2, 0)), ((0, 0), *[(1, 1)] * 3)]))
        if name != "MIRROR_PAD" and draw.seed % 3 == 2:
            amounts[0] = 1, 0  # images too: an axis like the others
        x, y = draw.alike(SHAPE, tuple(np.array(SHAPE) + amounts.sum(axis=1)))
        parts = [x, constant("n", amounts.astype(np.int32))]
        how = options("Pad")
        if name == "PADV2":
            value = tensor(
                "c", (), x.scale, x.zero_point, data=np.array(draw.zero_point(), np.int8)
            )
            parts, how = [*parts, value], options("PadV2")
        if name == "MIRROR_PAD":
            modes = schema.MirrorPadMode
            how = options("MirrorPad", mode=draw.one_of([modes.REFLECT, modes.SYMMETRIC]))
        return name, parts, y, how

    return case


def concatenation(draw: Draw) -> Case:
    axis = draw.one_of([1, 2, 3, -1, 0])
    lengths = [2, 1, 4]
    shapes = [[*SHAPE] for _ in range(4)]
    for shape, length in zip(shapes, [*lengths, 7], strict=True):
        shape[axis] = length
    *parts, y = draw.alike(*map(tuple, shapes))
    if draw.seed % 2 or axis == 0:  # a constant goes with each image
        parts[1].data = draw.rng.integers(-128, 128, parts[1].shape, np.int8)
    if axis == 0:
        parts[0].data = draw.rng.integers(-128, 128, parts[0].shape, np.int8)
        parts[2].shape, y.shape = SHAPE, (4, *SHAPE[1:])
    return "CONCATENATION", parts, y, options("Concatenation", axis=axis)


def stacking(draw: Draw) -> Case:
    axis = draw.one_of([1, 2, 4, 0])
    shape = list(SHAPE)
    shape.insert(axis, 2)
    a, c, y = draw.alike(SHAPE, SHAPE, tuple(shape))
    return "PACK", [a, c], y, options("Pack", axis=axis, valuesCount=2)


def splitting(draw: Draw) -> Case:
    x, *parts = draw.alike((1, 6, 4, 3), *[(1, 2, 4, 3)] * 3)
    return "SPLIT", [number(1), x], parts, options("Split", numSplits=3)


def uneven_splitting(draw: Draw) -> Case:
    x, *parts = draw.alike((1, 6, 4, 3), (1, 1, 4, 3), (1, 3, 4, 3), (1, 2, 4, 3))
    how = options("SplitV", numSplits=3)
    return "SPLIT_V", [x, numbers(1, -1, 2), number(-3)], parts, how


def unstacking(draw: Draw) -> Case:
    axis = draw.one_of([1, 3])
    shape = SHAPE[:axis] + SHAPE[axis + 1 :]
    x, *parts = draw.alike(SHAPE, *[shape] * SHAPE[axis])
    return "UNPACK", [x], parts, options("Unpack", num=SHAPE[axis], axis=axis)


def slicing(draw: Draw) -> Case:
    """A random slice, its bits drawn too, with the shape that NumPy gives."""
    rng, index, bits = draw.rng, [], {"beginMask": 0, "endMask": 0, "shrinkAxisMask": 0}
    begin, end, strides = [], [], []
    for axis, length in enumerate(SHAPE):
        stride = 1 if axis == 0 else int(rng.choice([1, 2, -1, -2]))
        first, last = (0, length) if axis == 0 else sorted(rng.choice(length + 1, 2, replace=False))
        first, last = int(first), int(last)
        if stride < 0:
            first, last = last - 1, first - 1 if first else -length - 1
        begin.append(first), end.append(last), strides.append(stride)
        part = slice(first, last, stride)
        choice = rng.integers(4) if axis else 0
        if choice == 1:
            bits["beginMask"] |= 1 << axis
            part = slice(None, last, stride)
        elif choice == 2:
            bits["endMask"] |= 1 << axis
            part = slice(first, None, stride)
        elif choice == 3:
            bits["shrinkAxisMask"] |= 1 << axis
            begin[-1], strides[-1] = int(rng.integers(-length, length)), 1
            part = begin[-1]
        index.append(part)
    shape = np.zeros(SHAPE)[tuple(index)].shape
    if 0 in shape:
        return slicing(Draw(draw.seed + 1000))
    x, y = draw.alike(SHAPE, shape)
    parts = [x, *map(constant, ("n", "p", "q"), map(np.int32, (begin, end, strides)))]
    return "STRIDED_SLICE", parts, y, options("StridedSlice", **bits)


def new_axes(draw: Draw) -> Case:
    """x[:, np.newaxis, ..., 1:3]."""
    x, y = draw.alike(SHAPE, (1, 1, 5, 4, 2))
    entries = [0, 0, 0, 1], [1, 0, 0, 3], [1, 1, 1, 1]
    parts = [x, *map(constant, ("n", "p", "q"), map(np.int32, entries))]
    how = options("StridedSlice", ellipsisMask=4, newAxisMask=2)
    return "STRIDED_SLICE", parts, y, how


def to_batch(draw: Draw) -> Case:
    block, amounts = draw.one_of([((2, 2), ((1, 0), (0, 2))), ((3, 1), ((0, 1), (0, 0)))])
    lengths = [
        (n + sum(added)) // size for n, added, size in zip(SHAPE[1:3], amounts, block, strict=True)
    ]
    x, y = draw.alike(SHAPE, (math.prod(block), *lengths, 3))
    parts = [x, numbers(*block), constant("p", np.int32(amounts))]
    return "SPACE_TO_BATCH_ND", parts, y, options("SpaceToBatchND")


CASES: dict[str, Callable[[Draw], Case]] = {
    **{
        name: arithmetic(name, kind)
        for name, kind in (
            ("ADD", "Add"),
            ("MUL", "Mul"),
            ("SQUARED_DIFFERENCE", "SquaredDifference"),
            ("SUB", "Sub"),
            ("PRELU", ""),
        )
    },
    **{name: extreme(name) for name in ("MAXIMUM", "MINIMUM")},
    **{name: unary(name) for name in ("LOGISTIC", "RELU_N1_TO_1", "SQRT", "TANH")},
    "ABS": unary("ABS", "Abs"),
    "EXP": unary("EXP", "Exp"),
    "GELU": unary("GELU", "Gelu", approximate=False),
    "GELU by tanh": unary("GELU", "Gelu", approximate=True),
    "HARD_SWISH": unary("HARD_SWISH", "HardSwish"),
    "L2_NORMALIZATION": unary("L2_NORMALIZATION", "L2Norm"),
    "LOG": unary("LOG"),
    "RSQRT": unary("RSQRT"),
    "LEAKY_RELU": leaky,
    **{name: reduction(name) for name in ("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM")},
    **{name: position(name) for name in ("ARG_MAX", "ARG_MIN")},
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": depthwise,
    "TRANSPOSE_CONV": transpose_convolution,
    "BATCH_MATMUL": matrices,
    "FULLY_CONNECTED": dense,
    **{name: resizing(name) for name in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")},
    **{name: comparison(name) for name in ("GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")},
    "SELECT_V2": selection,
    **{name: padding(name) for name in ("MIRROR_PAD", "PAD", "PADV2")},
    "CONCATENATION": concatenation,
    "PACK": stacking,
    "SPLIT": splitting,
    "SPLIT_V": uneven_splitting,
    "UNPACK": unstacking,
    "STRIDED_SLICE": slicing,
    "STRIDED_SLICE with new axes": new_axes,
    "SPACE_TO_BATCH_ND": to_batch,
    "TRANSPOSE": moved("TRANSPOSE", numbers(0, 3, 1, 2), to=(1, 3, 5, 4)),
    "TRANSPOSE of the images": moved("TRANSPOSE", numbers(3, 0, 2, 1), to=(3, 1, 4, 5)),
    "RESHAPE": moved("RESHAPE", numbers(-1, 10, 6), to=(1, 10, 6)),
    "RESHAPE without the images": moved("RESHAPE", numbers(6, -1), to=(6, 10)),
    "RESHAPE by its options": moved(
        "RESHAPE", to=(1, 60), how=options("Reshape", newShape=[1, 60])
    ),
    "EXPAND_DIMS": moved("EXPAND_DIMS", number(-2), to=(1, 5, 4, 1, 3)),
    "SLICE": moved("SLICE", numbers(0, 1, 0, 1), numbers(-1, 3, 4, -1), to=(1, 3, 4, 2)),
    "GATHER": moved("GATHER", numbers(2, 0, 0), to=(1, 5, 3, 3), how=options("Gather", axis=2)),
    "REVERSE_V2": moved("REVERSE_V2", numbers(2), to=SHAPE),
    "BROADCAST_TO": moved("BROADCAST_TO", numbers(2, *SHAPE[1:]), to=(2, *SHAPE[1:])),
    "TILE": moved("TILE", numbers(1, 2, 1, 3), to=(1, 10, 4, 9)),
}
# SUM: the reference kernel leaves the zero point out. TILE: the reference kernels lack it.
OPTIMIZED = ("SUM", "TILE")
VERSIONS = {"BROADCAST_TO": 2}


def images_for(content: bytes, draw: Draw, count: int = 5) -> Any:
    """Random integers for each input, the extremes among them."""
    model = integer.load(content)
    found = [integers(draw.rng, count, *model.tensors[index].shape[1:]) for index in model.inputs]
    return found if len(found) > 1 else found[0]


@pytest.mark.parametrize("name", CASES)
def test_each_op(name: str) -> None:
    for seed in range(12):
        draw = Draw(seed)
        op, inputs, result, how = CASES[name](draw)
        content = file_of(op, inputs, result, how, VERSIONS.get(op, 1))
        kernels = "optimized" if op in OPTIMIZED else "reference"
        assert_as_litert(content, images_for(content, draw), kernels)
