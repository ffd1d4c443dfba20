"""Integer-only inference of the ops beyond lesson 07's network, each against LiteRT's kernels.

First every op in files of its own, with scales, zero points and shapes drawn at random; then files
of the converter with many ops, of which every tensor is compared.
"""

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from quant_tutorial import affine, flatbuffer, integer, quiet
from quant_tutorial.integer.ops import roots

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from no_floats import run_on_guard
from one_op_files import assert_as_litert, constant, file_of, integers, options, tensor

Case = tuple[str, list[SimpleNamespace], Any, Any]
pytestmark = pytest.mark.slow

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
    how = options("LeakyRelu", alpha=draw.one_of([0.2, 0.01, 1.5, -0.3]))
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


def selection(name: str, shape: tuple[int, ...]) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        a, c, y = draw.alike(SHAPE, SHAPE, SHAPE)
        condition = constant("n", draw.rng.integers(0, 2, shape).astype(bool))
        return name, [condition, a, c], y, options(name.title().replace("_", ""))

    return case


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


def division(draw: Draw) -> Case:
    """By a constant without real 0, for which LiteRT has no rule.

    For quotients far below a step of the output, LiteRT shifts by more than 31 bits, and its result
    is not defined either.
    """
    divisor = draw.constant("c", (5, 1, 3))
    steps = divisor.data.astype(int) - divisor.zero_point
    divisor.data = np.where(steps == 0, divisor.data ^ 1, divisor.data).astype(np.int8)
    x = draw.tensor("a", SHAPE)
    y = draw.tensor("y", SHAPE, scale=x.scale / divisor.scale / draw.scale(64, 500))
    how = options("Div", fusedActivationFunction=draw.one_of(ACTIVATIONS))
    return "DIV", [x, divisor], y, how


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


def squeezing(draw: Draw) -> Case:
    dropped, to = draw.one_of([([1], (1, 4, 1, 3)), ([-2, 1], (1, 4, 3)), ([], (4, 3))])
    x, y = draw.alike((1, 1, 4, 1, 3), to)
    return "SQUEEZE", [x], y, options("Squeeze", squeezeDims=dropped)


def blocks(name: str, shape: tuple[int, ...], to: tuple[int, ...]) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        x, y = draw.alike(shape, to)
        return name, [x], y, options(name.title().replace("_", ""), blockSize=2)

    return case


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
    "DIV": division,
    "SELECT": selection("SELECT", (1, 5, 4, 3)),
    "SELECT_V2": selection("SELECT_V2", (5, 4, 1)),
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
    "SQUEEZE": squeezing,
    "DEPTH_TO_SPACE": blocks("DEPTH_TO_SPACE", (1, 2, 3, 12), (1, 4, 6, 3)),
    "SPACE_TO_DEPTH": blocks("SPACE_TO_DEPTH", (1, 4, 6, 3), (1, 2, 3, 12)),
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
    for seed in range(8):
        draw = Draw(seed)
        op, inputs, result, how = CASES[name](draw)
        content = file_of(op, inputs, result, how, VERSIONS.get(op, 1))
        kernels = "optimized" if op in OPTIMIZED else "reference"
        assert_as_litert(content, images_for(content, draw), kernels)


def test_no_op_is_left_out() -> None:
    """Of the others, test_integer has those of lesson 07, and the files below the rest."""
    others = {"AVERAGE_POOL_2D", "MAX_POOL_2D", "SOFTMAX", "QUANTIZE", "DEQUANTIZE", "RELU"}
    others |= {"RELU6", "SHAPE", "BATCH_TO_SPACE_ND"}
    tested = {name.split()[0] for name in CASES} | others
    assert tested == set(integer.OPS)


# --- Files of the converter -----------------------------------------------------------------------

layers, K = keras.layers, keras.ops


def activations() -> keras.Model:
    """Every activation that the converter has an integer version of."""
    image = keras.Input((6, 6, 3))
    lively = keras.initializers.VarianceScaling(3)
    found = []
    for activation in (
        *("sigmoid", "tanh", "swish", "hard_swish", "hard_sigmoid", "gelu", "softplus", "mish"),
        *("selu", "exponential", "relu6"),
        layers.LeakyReLU(0.2),
        layers.PReLU(shared_axes=[1], alpha_initializer=keras.initializers.RandomUniform(-1, 1)),
        layers.ReLU(max_value=2, negative_slope=0.1, threshold=0.3),
    ):
        x = layers.Conv2D(3, 1, kernel_initializer=lively)(image)
        made = activation if callable(activation) else layers.Activation(activation)
        found.append(made(x))
    return keras.Model(image, found)


def picture_to_picture() -> keras.Model:
    """Two pictures in, two out: up and down, split and joined, gated."""
    first, second = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    x = layers.BatchNormalization(beta_initializer="uniform")(layers.Subtract()([first, second]))
    x = layers.DepthwiseConv2D(3, dilation_rate=2, padding="same", depth_multiplier=2)(x)
    down = layers.Conv2D(6, 3, groups=2, padding="same", activation="relu")(
        layers.MaxPooling2D()(x)
    )
    gate = layers.Dense(6, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(down))
    up = layers.Conv2DTranspose(3, 3, strides=2, padding="same")(layers.Multiply()([down, gate]))
    wide = layers.UpSampling2D(interpolation="bilinear")(down)
    low, high = K.split(wide, 2, axis=-1)
    x = layers.Concatenate()([up, layers.Maximum()([low, high]), layers.Average()([up, low])])
    x = layers.Permute((2, 1, 3))(layers.Cropping2D(1)(layers.ZeroPadding2D(2)(x)))
    mask = layers.Softmax()(layers.Conv2D(4, 1)(x[:, 1:-1, ::2]))
    # A mean that loses the axis of the images on the way: the converter adds it as a vector.
    mean = layers.GlobalAveragePooling2D(keepdims=True)(up)
    return keras.Model([first, second], [mask, up + mean])


def sequence() -> keras.Model:
    """Attention, with matrices of activations, and convolutions along one axis."""
    x = image = keras.Input((12, 6))
    x = layers.Conv1D(8, 3, dilation_rate=2, padding="causal", activation="relu")(x)
    x = layers.DepthwiseConv1D(3, padding="same")(x)
    x = x + layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.AveragePooling1D(2)(layers.Conv1DTranspose(4, 3, strides=2)(x))
    return keras.Model(image, layers.Dense(5)(layers.Reshape((-1, 11))(x[:, 1:])))


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The int8 files of the models above, with weights drawn at random."""
    made = {}
    for build in (activations, picture_to_picture, sequence):
        keras.utils.set_random_seed(5)
        made[build.__name__] = converted(build())
    return made


def converted(model: keras.Model) -> bytes:
    """Convert a model of any number of inputs to int8, calibrated with random images."""
    rng = np.random.default_rng(2)
    shapes = [entry.shape[1:] for entry in model.inputs]

    def examples() -> Iterator[list[np.ndarray]]:
        for _ in range(20):
            yield [rng.normal(size=(1, *shape)).astype(np.float32) for shape in shapes]

    function = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0], training=False))
    specs = [tf.TensorSpec((1, *shape), tf.float32) for shape in shapes]
    return to_int8(function.get_concrete_function(*specs), examples)


def to_int8(function: Any, examples: Callable) -> bytes:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = examples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with quiet.all_output():
        return converter.convert()


NAMES = {
    "activations": "EXP GELU GREATER HARD_SWISH LEAKY_RELU LOG LOGISTIC PRELU SELECT_V2 TANH",
    "picture_to_picture": "ADD CONCATENATION LOGISTIC MAXIMUM MUL RESIZE_BILINEAR SPLIT "
    "STRIDED_SLICE SUB TRANSPOSE TRANSPOSE_CONV",
    "sequence": "BATCH_MATMUL DEPTHWISE_CONV_2D RESHAPE SOFTMAX TRANSPOSE TRANSPOSE_CONV",
}


class TestFilesOfTheConverter:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_tensor(self, files: dict[str, bytes], name: str) -> None:
        model = integer.load(files[name])
        assert {*NAMES[name].split()} <= {step.name for step in model.steps}
        values = assert_as_litert(files[name], images_for(files[name], Draw(1), 20))
        # Tensors of few different values would prove little. (SELU is made of an exponential of all
        # values, of which only those below 1 are used.)
        counts = {
            model.tensors[i].name: len(np.unique(v)) for i, v in values.items() if v.dtype != bool
        }
        assert [name for name, count in counts.items() if count < 10 and "Selu" not in name] == []

    @pytest.mark.parametrize("name", NAMES)
    def test_no_floats(
        self, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], name: str
    ) -> None:
        model, images = integer.load(files[name]), images_for(files[name], Draw(2), 1)
        expected = integer.run(model, images)
        found = run_on_guard(monkeypatch, model, images)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_several_inputs_and_outputs(self, files: dict[str, bytes]) -> None:
        model = integer.load(files["picture_to_picture"])
        images = [*np.random.default_rng(3).normal(size=(2, 3, 8, 8, 3)).astype(np.float32)]
        q = [
            affine.quantize(x, model.tensors[index].params)
            for x, index in zip(images, model.inputs, strict=True)
        ]
        outputs = integer.predict(model, images)
        assert [y.dtype for y in outputs] == [np.float32] * 2
        for y, q_y, index in zip(outputs, integer.run(model, q), model.outputs, strict=True):
            np.testing.assert_array_equal(y, affine.dequantize(q_y, model.tensors[index].params))
        with pytest.raises(ValueError, match=r"The model has 2 inputs, .* their indices are"):
            _ = model.input
        with pytest.raises(ValueError, match="The model has 2 outputs"):
            _ = model.output
        with pytest.raises(ValueError, match=r"each of the model's 2 inputs, got one array of the"):
            integer.run(model, q[0])
        with pytest.raises(ValueError, match="same number of examples for each input, got 3 for"):
            integer.run(model, [q[0], q[1][:2]])
        with pytest.raises(ValueError, match=r"x\['.*'\] must have the shape"):
            integer.run(model, [q[0], q[1][:, 1:]])

    def test_fewer_bits_of_the_multipliers(self, files: dict[str, bytes]) -> None:
        images = images_for(files["sequence"], Draw(1), 20)
        models = [integer.load(files["sequence"], multiplier_bits=n) for n in (31, 12, 4)]
        outputs = [integer.run(model, images).astype(int) for model in models]
        errors = [np.abs(found - outputs[0]).mean() for found in outputs]
        assert errors[0] < errors[1] < errors[2] < 30

    def test_shapes_that_the_file_computes(self) -> None:
        """A file for any number of images, which computes its shapes, and a dilation by TF."""

        def function(x: tf.Tensor) -> tf.Tensor:
            spread = tf.space_to_batch_nd(x, [2, 2], [[0, 0], [1, 1]])
            spread = tf.nn.relu(tf.nn.conv2d(spread, weights, 1, "SAME"))
            x = tf.batch_to_space(spread, [2, 2], [[0, 0], [1, 1]])
            count = tf.shape(x)[0]
            x = tf.reshape(x, tf.stack([count, -1, 4]))
            return tf.reshape(x[:, 1:], [count, tf.shape(x)[1] * 4 - 4])

        rng = np.random.default_rng(4)
        weights = rng.normal(size=(3, 3, 2, 4)).astype(np.float32)
        spec = tf.TensorSpec((None, 4, 6, 2), tf.float32)
        examples = rng.normal(size=(20, 1, 4, 6, 2)).astype(np.float32)
        content = to_int8(
            tf.function(function).get_concrete_function(spec), lambda: ([x] for x in examples)
        )
        before = {op.type for op in flatbuffer.graph(content).ops}
        assert {"SHAPE", "PACK", "BATCH_TO_SPACE_ND"} <= before
        model = integer.load(content)
        assert not {"SHAPE", "PACK"} & {step.name for step in model.steps}
        values = assert_as_litert(content, integers(rng, 7, 4, 6, 2))
        assert values[model.output].shape == (7, 92)


# --- What is computed beforehand, and what is refused ---------------------------------------------


def test_inverse_root() -> None:
    x = np.unique(np.geomspace(2, 2**31 - 1, 3000).astype(np.int32))
    multiplier, shift = roots.inverse_root(x)
    np.testing.assert_allclose(multiplier / 2.0**31 * 2.0**shift, 1 / np.sqrt(x), rtol=3e-6)
    multiplier, shift = roots.inverse_root(np.int32([0, 1]))
    assert multiplier.tolist() == [2**31 - 1] * 2
    assert shift.tolist() == [0, 0]


def test_a_table_holds_the_function() -> None:
    x, y = tensor("a", (1, 4), 0.05, 3), tensor("y", (1, 4), 1 / 256, -128)
    (step,) = integer.load(file_of("LOGISTIC", [x], y)).steps
    table, real = step.arguments["table"], 0.05 * (np.arange(-128, 128) - 3)
    np.testing.assert_allclose((table + 128.0) / 256, 1 / (1 + np.exp(-real)), atol=0.51 / 256)
    assert not table.flags.writeable


class TestRefused:
    def test_negative_numbers_under_a_root(self) -> None:
        for name in ("SQRT", "RSQRT"):
            x, y = tensor("a", (1, 4), 0.05, 3), tensor("y", (1, 4), 0.1)
            model = integer.load(file_of(name, [x], y))
            assert integer.run(model, np.int8([[3, 4, 5, 127]])).shape == (1, 4)
            with pytest.raises(ValueError, match=f"{name} takes"):
                integer.run(model, np.int8([[3, 4, 5, 2]]))

    def test_division_by_0(self) -> None:
        parts = tensor("a", (1, 4), 0.05, 3), tensor("c", (1, 4), 0.05, 7)
        model = integer.load(file_of("DIV", [*parts], tensor("y", (1, 4), 0.1), options("Div")))
        with pytest.raises(ZeroDivisionError, match="DIV divides by 0"):
            integer.run(model, [np.int8([[1, 2, 3, 4]]), np.int8([[1, 2, 7, 4]])])

    @pytest.mark.parametrize(
        ("case", "message"),
        [
            (
                ("LOG_SOFTMAX", [tensor("a", (1, 4), 0.1)], tensor("y", (1, 4), 1 / 16, 127)),
                r"does not cover op 0 \(LOG_SOFTMAX\); integer.OPS .* use tflite.predict",
            ),
            (
                ("TANH", [tensor("a", (1, 4), 0.1, dtype="int16")], tensor("y", (1, 4), 0.1)),
                r"'a' of op 0 \(TANH\) is int16, .*needs int8 .* LiteRT runs such a file",
            ),
            (
                (
                    "MAXIMUM",
                    [tensor("a", (1, 4), 0.1), tensor("c", (1, 4), 0.2)],
                    tensor("y", (1, 4), 0.1),
                ),
                r"op 0 \(MAXIMUM\) with tensors of different scales",
            ),
            (
                (
                    "RESHAPE",
                    [tensor("a", (1, 4), 0.1), tensor("c", (1, 2), (), dtype="int32")],
                    tensor("y", (1, 4), 0.1),
                ),
                "'c' of op 0 .* is int32",
            ),
            (
                ("HARD_SWISH", [tensor("a", (1, 4), 0.5)], tensor("y", (1, 4), 0.003)),
                r"\(HARD_SWISH\) with a scale of its input",
            ),
        ],
    )
    def test_with_the_reason(self, case: tuple, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            integer.load(file_of(*case))

    def test_the_layer_is_named(self) -> None:
        image = keras.Input((4,))
        model = keras.Model(image, keras.layers.Activation("log_softmax", name="answer")(image) * 2)
        with pytest.raises(ValueError, match=r"op 0 \(LOG_SOFTMAX, answer\)"):
            integer.load(converted(model))
