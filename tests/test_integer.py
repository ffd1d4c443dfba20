"""Integer-only inference: each step against its definition, each op and model against LiteRT."""

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

from quant_tutorial import affine, integer, mnist, models, tflite
from quant_tutorial.integer import INT32_MAX, INT32_MIN, arithmetic, ops
from quant_tutorial.integer.ops import convolving, exponentials

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from no_floats import parts_of, patch_each, run_on_guard
from one_op_files import assert_as_litert, constant, file_of, integers, options, tensor

pytestmark = pytest.mark.slow

INT32 = st.integers(INT32_MIN, INT32_MAX)
ZERO_POINTS = st.integers(-128, 127)
SEEDS = st.integers(0, 2**32 - 1)
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
ACTIVATIONS = st.sampled_from(
    [getattr(schema.ActivationFunctionType, name) for name in ("NONE", "RELU", "RELU6")]
)


# --- Fixed-point arithmetic, against Python's integers and fractions of any length ---------------


def half_away(x: Fraction) -> int:
    return math.floor(abs(x) + Fraction(1, 2)) * (1 if x >= 0 else -1)


def gemmlowp_high_multiply(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul as gemmlowp writes it, with C's division."""
    if a == b == INT32_MIN:
        return INT32_MAX
    product = a * b
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    return abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)


class TestFixedPoint:
    @given(st.floats(2.0**-32, 2.0**30, exclude_max=True), st.integers(1, 62))
    def test_is_the_nearest_with_that_many_bits(self, ratio: float, bits: int) -> None:
        multiplier, shift = integer.fixed_point(ratio, bits)
        assert 2 ** (bits - 1) <= multiplier < 2**bits
        error = Fraction(ratio) - Fraction(multiplier, 2**bits) * Fraction(2) ** shift
        assert abs(error) <= Fraction(ratio) / 2**bits
        if bits >= 53:
            assert error == 0

    def test_known_values(self) -> None:
        assert integer.fixed_point(1.0) == (2**30, 1)
        assert integer.fixed_point(0.5) == (2**30, 0)
        assert integer.fixed_point(0.3, bits=4) == (10, -1)  # 10/16 · ½ = 0.3125
        assert integer.fixed_point(math.nextafter(1, 0)) == (2**30, 1)
        assert integer.fixed_point(2.0**-32) == (2**30, -31)
        assert integer.fixed_point(math.nextafter(2.0**-32, 0), bits=60) == (0, 0)
        assert integer.fixed_point(0.0) == (0, 0)

    @pytest.mark.parametrize("ratio", [-0.1, 2.0**30, math.inf, math.nan])
    def test_refuses_what_is_no_ratio(self, ratio: float) -> None:
        with pytest.raises(ValueError, match=r"ratio must lie in \[0, 2\^30\), got"):
            integer.fixed_point(ratio)

    @pytest.mark.parametrize("bits", [0, 63])
    def test_refuses_other_widths(self, bits: int) -> None:
        with pytest.raises(ValueError, match=f"bits must be from 1 to 62, got {bits}"):
            integer.fixed_point(0.5, bits)


@given(INT32, INT32)
def test_doubling_high_multiply_is_gemmlowps(a: int, b: int) -> None:
    assert integer.doubling_high_multiply(a, b) == gemmlowp_high_multiply(a, b)


def test_doubling_high_multiply_at_ties_and_ends() -> None:
    a = np.array([1, -1, 3, -3, INT32_MIN, INT32_MIN, INT32_MAX], np.int32)
    b = np.array([2**30] * 4 + [INT32_MIN, INT32_MAX, INT32_MAX], np.int32)
    product = integer.doubling_high_multiply(a, b)
    assert product.dtype == np.int32
    assert product.tolist() == [1, 0, 2, -1, INT32_MAX, -INT32_MAX, INT32_MAX - 1]
    assert product.tolist() == list(map(gemmlowp_high_multiply, a.tolist(), b.tolist()))


@given(INT32, st.integers(0, 31), st.sampled_from([np.int32, np.int64]))
def test_rounding_shift_rounds_half_away(x: int, exponent: int, kind: type) -> None:
    shifted = integer.rounding_shift(kind(x), exponent)
    assert shifted == half_away(Fraction(x, 2**exponent))
    assert shifted.dtype == kind


def test_rounding_shift_by_several_exponents() -> None:
    x = np.array([[5, 6, -6], [-5, -6, 7]], np.int32)
    assert integer.rounding_shift(x, [0, 2, 2]).tolist() == [[5, 2, -2], [-5, -2, 2]]


@given(st.lists(st.tuples(INT32, st.floats(2.0**-31, 2.0**30 - 1)), min_size=1, max_size=5))
def test_rescale_is_two_roundings(pairs: list[tuple[int, float]]) -> None:
    values, ratios = zip(*pairs, strict=True)
    multipliers, shifts = map(np.array, zip(*map(integer.fixed_point, ratios), strict=True))
    expected = []
    for value, multiplier, shift in zip(values, multipliers.tolist(), shifts.tolist(), strict=True):
        enlarged = min(max(value << max(shift, 0), INT32_MIN), INT32_MAX)
        product = gemmlowp_high_multiply(enlarged, multiplier)
        expected.append(half_away(Fraction(product, 2 ** max(-shift, 0))))
    rescaled = integer.rescale(np.array([values, values], np.int32), multipliers, shifts)
    assert rescaled.tolist() == [expected, expected]


@given(st.integers(-INT32_MAX, INT32_MAX), st.floats(0, 2.0**30 - 1))
def test_rescale_once_is_one_rounding_of_the_exact_product(x: int, ratio: float) -> None:
    rescaled = integer.rescale_once(np.int32(x), *integer.fixed_point(ratio, 62))
    assert rescaled == half_away(x * Fraction(ratio))


def test_the_second_rounding_can_meet_a_tie_that_the_first_one_made() -> None:
    ratio = 0.49 / 10_000
    exact = Fraction(ratio) * 10_204  # 0.499996
    twice = integer.rescale(10_204, *integer.fixed_point(ratio))
    once = integer.rescale_once(10_204, *integer.fixed_point(ratio, 62))
    assert (half_away(exact), int(once), int(twice)) == (0, 0, 1)


def output(**changes: Any) -> integer.Output:
    one = np.array(2**30), np.array(1)
    return dataclasses.replace(integer.Output(*one, -3, -128, 127, np.dtype(np.int8)), **changes)


def test_saturate_clamps_before_it_adds() -> None:
    values = np.array([INT32_MIN, -126, -125, 0, 130, 131, INT32_MAX], np.int32)
    assert integer.saturate(values, output()).tolist() == [-128, -128, -128, -3, 127, 127, 127]
    relu = integer.saturate(values, output(lowest=-3, highest=7))
    assert relu.tolist() == [-3, -3, -3, -3, 7, 7, 7]
    unsigned = output(zero_point=5, lowest=0, highest=255, dtype=np.dtype(np.uint8))
    assert integer.saturate(values, unsigned).tolist() == [0, 0, 0, 5, 135, 136, 255]


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 5))
def test_same_padding_gives_one_window_for_each_stride(size: int, kernel: int, stride: int) -> None:
    before, after = integer.same_padding(size, kernel, stride)
    assert 0 <= before <= after <= before + 1
    padded = size + before + after
    assert (padded - kernel) // stride + 1 == math.ceil(size / stride) or kernel < stride
    assert len(range(0, max(padded - kernel, 0) + 1, stride)) == math.ceil(size / stride)


def gemmlowp_exponential(x: int) -> int:
    """exp_on_negative_values for 26 fractional bits, its constants from the real exponentials."""

    def raw(real: float) -> int:
        return round(real * 2**31)

    rest = x % 2**24 - 2**24
    a = (rest << 5) + raw(1 / 8)
    a2 = gemmlowp_high_multiply(a, a)
    a3, a4 = gemmlowp_high_multiply(a2, a), gemmlowp_high_multiply(a2, a2)
    third = gemmlowp_high_multiply(half_away(Fraction(a4, 4)) + a3, raw(1 / 3))
    series = a + half_away(Fraction(third + a2, 2))
    result = raw(math.exp(-1 / 8)) + gemmlowp_high_multiply(raw(math.exp(-1 / 8)), series)
    for power in range(-2, 5):
        if (rest - x) >> (26 + power) & 1:
            result = gemmlowp_high_multiply(result, raw(math.exp(-(2.0**power))))
    return result if x else INT32_MAX


class TestSoftmaxArithmetic:
    @given(st.integers(-(2**31), 0) | st.integers(-(2**27), 0))
    def test_exponential_is_gemmlowps(self, x: int) -> None:
        assert exponentials.exponential_of_negative(np.array(x, np.int32)) == gemmlowp_exponential(
            x
        )

    def test_exponential(self) -> None:
        x = -np.unique(np.geomspace(1, 31 * 2**26, 20_000).astype(np.int32))
        exponential = exponentials.exponential_of_negative(x)
        assert exponential.dtype == np.int32
        np.testing.assert_allclose(exponential / 2**31, np.exp(x / 2**26), atol=3e-7)
        assert exponentials.exponential_of_negative(np.array([0], np.int32)).tolist() == [INT32_MAX]

    def test_reciprocal(self) -> None:
        x = np.linspace(0, INT32_MAX, 20_001).astype(np.int64)
        reciprocal = exponentials.reciprocal_of_one_plus(x)
        assert reciprocal.dtype == np.int32
        np.testing.assert_allclose(reciprocal / 2**31, 1 / (1 + x / 2**31), atol=1e-8)

    @given(st.integers(1, INT32_MAX))
    def test_leading_zeros(self, x: int) -> None:
        assert exponentials.leading_zeros(np.int32(x)) == 32 - x.bit_length()


# --- Each op, with its smallest file, against LiteRT ---------------------------------------------


GEOMETRY = {
    "seed": SEEDS,
    "size": st.tuples(st.integers(1, 9), st.integers(1, 9)),
    "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "padding": st.sampled_from([SAME, VALID]),
    "activation": ACTIVATIONS,
}


def places(size: tuple, kernel: tuple, strides: tuple, padding: int) -> tuple[int, int]:
    """How many rows and columns a window takes, by TensorFlow's rule."""
    if padding == SAME:
        return tuple(math.ceil(n / s) for n, s in zip(size, strides, strict=True))
    assume(all(k <= n for k, n in zip(kernel, size, strict=True)))
    return tuple((n - k) // s + 1 for n, k, s in zip(size, kernel, strides, strict=True))


def layer(
    rng: np.random.Generator, weights: np.ndarray, channels_axis: int, per_channel: bool, terms: int
) -> tuple[list[SimpleNamespace], float]:
    """Give weights and bias, and an output scale at which the outputs spread over the integers."""
    channels = weights.shape[channels_axis]
    scales = np.float32(rng.uniform(0.001, 0.01, channels if per_channel else 1))
    spread = 74 * 74 * math.sqrt(terms)  # the standard deviation of the accumulator
    bias = rng.normal(0, spread, channels).astype(np.int32)
    scale = 0.02 * scales.max() * spread / 50 * rng.uniform(0.3, 2)
    bias_scale = np.float32(0.02) * scales
    parts = constant("w", weights, scales, axis=channels_axis), constant("b", bias, bias_scale)
    return list(parts), scale


# Where it shows whether 6 / scale, and the ratio of two scales, is a division of float32.
SIX_AT_A_TIE = st.integers(12, 240).map(lambda steps: 6 / (steps + 0.5))
TIES_IN_FLOAT32 = st.tuples(st.floats(0.005, 0.1), st.sampled_from([0.5, 1.5, 3.5])).map(
    lambda pair: (float(np.float32(pair[0]) * np.float32(pair[1])), pair[0])
)


class TestOpsAsLiteRT:
    @settings(max_examples=150)
    @given(
        **GEOMETRY,
        channels=st.tuples(st.integers(1, 4), st.integers(1, 5)),
        zero_points=st.tuples(ZERO_POINTS, ZERO_POINTS),
        per_channel=st.booleans(),
    )
    def test_conv_2d(
        self,
        seed: int,
        size: tuple,
        kernel: tuple,
        strides: tuple,
        padding: int,
        activation: int,
        channels: tuple,
        zero_points: tuple,
        per_channel: bool,
    ) -> None:
        rng = np.random.default_rng(seed)
        weights = integers(rng, channels[1], *kernel, channels[0])
        terms = weights[0].size
        parts, scale = layer(rng, weights, 0, per_channel, terms)
        shape = 1, *places(size, kernel, strides, padding), channels[1]
        how = options(
            "Conv2D",
            padding=padding,
            strideH=strides[0],
            strideW=strides[1],
            fusedActivationFunction=activation,
        )
        x = tensor("x", (1, *size, channels[0]), 0.02, zero_points[0])
        y = tensor("y", shape, scale, zero_points[1])
        content = file_of("CONV_2D", [x, *parts], y, how)
        assert_as_litert(content, integers(rng, 4, *size, channels[0]))

    @settings(max_examples=100)
    @given(
        **GEOMETRY,
        channels=st.integers(1, 4),
        depth_multiplier=st.integers(1, 3),
        zero_points=st.tuples(ZERO_POINTS, ZERO_POINTS),
        per_channel=st.booleans(),
    )
    def test_depthwise_conv_2d(
        self,
        seed: int,
        size: tuple,
        kernel: tuple,
        strides: tuple,
        padding: int,
        activation: int,
        channels: int,
        depth_multiplier: int,
        zero_points: tuple,
        per_channel: bool,
    ) -> None:
        rng = np.random.default_rng(seed)
        weights = integers(rng, 1, *kernel, channels * depth_multiplier)
        parts, scale = layer(rng, weights, 3, per_channel, math.prod(kernel))
        shape = 1, *places(size, kernel, strides, padding), weights.shape[3]
        how = options(
            "DepthwiseConv2D",
            padding=padding,
            strideH=strides[0],
            strideW=strides[1],
            depthMultiplier=depth_multiplier,
            fusedActivationFunction=activation,
        )
        x = tensor("x", (1, *size, channels), 0.02, zero_points[0])
        y = tensor("y", shape, scale, zero_points[1])
        content = file_of("DEPTHWISE_CONV_2D", [x, *parts], y, how)
        assert_as_litert(content, integers(rng, 4, *size, channels))

    def test_depthwise_conv_2d_without_a_bias(self) -> None:
        """LiteRT's default kernels crash at such a file."""
        weights = constant("w", np.ones((1, 3, 3, 2), np.int8), 0.1)
        ends = tensor("x", (1, 5, 5, 2), 0.1), tensor("y", (1, 3, 3, 2), 0.5)
        how = options("DepthwiseConv2D", padding=VALID, strideH=1, strideW=1, depthMultiplier=1)
        with pytest.raises(ValueError, match=r"DEPTHWISE_CONV_2D\) has no bias"):
            integer.load(file_of("DEPTHWISE_CONV_2D", [ends[0], weights], ends[1], how))

    @settings(max_examples=100)
    @given(
        seed=SEEDS,
        shape=st.sampled_from([(300,), (3, 20, 5), (2, 7)]),
        keep=st.booleans(),
        activation=ACTIVATIONS,
        zero_points=st.tuples(ZERO_POINTS, ZERO_POINTS),
        per_channel=st.booleans(),
        with_bias=st.booleans(),
    )
    def test_fully_connected(
        self,
        seed: int,
        shape: tuple,
        keep: bool,
        activation: int,
        zero_points: tuple,
        per_channel: bool,
        with_bias: bool,
    ) -> None:
        rng = np.random.default_rng(seed)
        inputs = shape[-1] if keep else math.prod(shape)
        weights = integers(rng, 11, inputs)
        parts, scale = layer(rng, weights, 0, per_channel, inputs)
        how = options("FullyConnected", fusedActivationFunction=activation, keepNumDims=keep)
        x = tensor("x", (1, *shape), 0.02, zero_points[0])
        y = tensor("y", (1, *shape[:-1], 11) if keep else (1, 11), scale, zero_points[1])
        content = file_of("FULLY_CONNECTED", [x, *parts][: 3 if with_bias else 2], y, how)
        assert_as_litert(content, integers(rng, 20, *shape))

    def test_fully_connected_uses_every_bit_of_the_ratio(self) -> None:
        """Biases that put the accumulators so near to ties that 31 bits are too few."""
        scales = np.float32([0.02, 0.003, 600.0]).astype(float)
        ratio = scales[0] * scales[1] / scales[2]
        bias = np.int32([round((n + 0.5) / ratio) for n in range(10, 110)])
        short, shift = integer.fixed_point(ratio)
        too_short = integer.rescale_once(bias, short << 31, shift)
        exact = integer.rescale_once(bias, *integer.fixed_point(ratio, 62))
        assert (too_short != exact).sum() > 5
        x, y = tensor("x", (1, 1), scales[0], 5), tensor("y", (1, 100), scales[2])
        weights = constant("w", np.ones((100, 1), np.int8), scales[1])
        parts = [x, weights, constant("b", bias, scales[0] * scales[1])]
        content = file_of("FULLY_CONNECTED", parts, y, options("FullyConnected"))
        values = assert_as_litert(content, np.int8([[5]]))
        assert values[3].tolist() == [exact.tolist()]

    @settings(max_examples=100)
    @given(
        **GEOMETRY,
        name=st.sampled_from(["MAX_POOL_2D", "AVERAGE_POOL_2D"]),
        zero_point=ZERO_POINTS,
    )
    def test_pools(
        self,
        seed: int,
        size: tuple,
        kernel: tuple,
        strides: tuple,
        padding: int,
        activation: int,
        name: str,
        zero_point: int,
    ) -> None:
        rng = np.random.default_rng(seed)
        how = options(
            "Pool2D",
            padding=padding,
            strideH=strides[0],
            strideW=strides[1],
            filterHeight=kernel[0],
            filterWidth=kernel[1],
            fusedActivationFunction=activation,
        )
        shape = 1, *places(size, kernel, strides, padding), 3
        x, y = (tensor("xy"[n], s, 0.1, zero_point) for n, s in enumerate(((1, *size, 3), shape)))
        assert_as_litert(file_of(name, [x], y, how), integers(rng, 4, *size, 3))

    @settings(max_examples=100)
    @given(
        seed=SEEDS,
        shape=st.sampled_from([(7, 5, 3), (1, 1, 4), (40, 30, 2), (6, 4)]),
        axes=st.sampled_from([(1, 2), (2, 1), (-1,), (1,), (2, -2, 2)]),
        keep=st.booleans(),
        ratio=st.floats(0.1, 8),
        zero_points=st.tuples(ZERO_POINTS, ZERO_POINTS),
    )
    def test_mean(
        self,
        seed: int,
        shape: tuple,
        axes: tuple,
        keep: bool,
        ratio: float,
        zero_points: tuple,
    ) -> None:
        rng = np.random.default_rng(seed)
        x = integers(rng, 4, *shape)
        unique = tuple({axis % x.ndim for axis in axes})
        y = tensor("y", x[:1].mean(unique, keepdims=keep).shape, 0.02 / ratio, zero_points[1])
        parts = [tensor("x", (1, *shape), 0.02, zero_points[0]), constant("a", np.int32(axes))]
        assert_as_litert(file_of("MEAN", parts, y, options("Reducer", keepDims=keep)), x)

    @settings(max_examples=100)
    @given(
        seed=SEEDS,
        second=st.sampled_from([None, (1, 4, 5, 3), (3,), (1, 1, 1, 3), (5, 1), ()]),
        scales=st.tuples(*[st.floats(0.001, 1)] * 3),
        zero_points=st.tuples(*[ZERO_POINTS] * 3),
        activation=ACTIVATIONS,
    )
    def test_add(
        self, seed: int, second: tuple | None, scales: tuple, zero_points: tuple, activation: int
    ) -> None:
        rng = np.random.default_rng(seed)
        x = tensor("x", (1, 4, 5, 3), scales[0], zero_points[0])
        other = x
        if second is not None:
            values = rng.integers(-128, 128, second, np.int8)
            other = constant("c", np.asarray(values), scales[1], zero_point=zero_points[1])
        y = tensor("y", x.shape, scales[2], zero_points[2])
        how = options("Add", fusedActivationFunction=activation)
        assert_as_litert(file_of("ADD", [x, other], y, how), integers(rng, 4, 4, 5, 3))

    @settings(max_examples=100)
    @given(
        seed=SEEDS,
        scale=st.floats(0.0005, 3) | st.floats(3, 40),
        zero_point=ZERO_POINTS,
        beta=st.sampled_from([1.0, 0.3, 2.0]),
        shape=st.sampled_from([(10,), (3, 2, 4), (511,), (1,)]),
    )
    def test_softmax(
        self, seed: int, scale: float, zero_point: int, beta: float, shape: tuple
    ) -> None:
        rng = np.random.default_rng(seed)
        x = rng.integers(-128, 128, (50, *shape), np.int8)
        x[0] = 17  # all alike: the sum of the exponentials is whole
        source = tensor("x", (1, *shape), scale, zero_point)
        result = tensor("y", (1, *shape), 1 / 256, -128)
        assert_as_litert(file_of("SOFTMAX", [source], result, options("Softmax", beta=beta)), x)

    @given(
        name=st.sampled_from(["RELU", "RELU6"]),
        scales=st.tuples(st.floats(0.005, 0.5), st.floats(0.005, 0.5) | SIX_AT_A_TIE)
        | TIES_IN_FLOAT32,
        zero_points=st.tuples(ZERO_POINTS, ZERO_POINTS),
    )
    def test_relu_and_relu6_alone(self, name: str, scales: tuple, zero_points: tuple) -> None:
        x = np.arange(-128, 128, dtype=np.int8).reshape(4, 64)
        ends = (tensor("xy"[n], (1, 64), scales[n], zero_points[n]) for n in range(2))
        source, result = ends
        assert_as_litert(file_of(name, [source], result), x)

    @given(
        kinds=st.tuples(*[st.sampled_from(["int8", "uint8"])] * 2),
        scales=st.tuples(st.floats(0.005, 0.5), st.floats(0.005, 0.5)),
        zero_points=st.tuples(*[st.integers(0, 255)] * 2),
    )
    def test_quantize_from_integers(self, kinds: tuple, scales: tuple, zero_points: tuple) -> None:
        source, result = (
            tensor("xy"[n], (1, 64), scales[n], zero_points[n] - 128 * (kinds[n] == "int8"))
            for n in range(2)
        )
        source.dtype, result.dtype = kinds
        x = np.arange(256).astype(kinds[0]).reshape(4, 64)
        content = file_of("QUANTIZE", [source], result, options("Quantize"))
        assert_as_litert(content, x)

    @given(
        seed=SEEDS, kind=st.sampled_from(["int8", "uint8"]), scale=st.sampled_from([1 / 8, 0.0173])
    )
    def test_quantize_and_dequantize_floats(self, seed: int, kind: str, scale: float) -> None:
        rng = np.random.default_rng(seed)
        real = tensor("x", (1, 64), (), dtype="float32")
        whole = tensor("y", (1, 64), scale, 7, dtype=kind)
        ties = rng.integers(-300, 300, (4, 64)) * scale / 2
        for x in (ties, rng.normal(0, 10, (4, 64))):
            content = file_of("QUANTIZE", [real], whole, options("Quantize"))
            assert_as_litert(content, x.astype(np.float32))
        content = file_of("DEQUANTIZE", [whole], real, options("Dequantize"))
        assert_as_litert(content, integers(rng, 4, 64, kind=np.dtype(kind).type))

    def test_reshape_and_pad(self) -> None:
        rng = np.random.default_rng(0)
        x = tensor("x", (1, 4, 5, 3), 0.1, 9)
        shape = constant("s", np.int32([1, 15, 4]))
        flat = tensor("y", (1, 15, 4), 0.1, 9)
        assert_as_litert(file_of("RESHAPE", [x, shape], flat), integers(rng, 4, 4, 5, 3))
        paddings = constant("p", np.int32([[0, 0], [1, 2], [0, 3], [2, 0]]))
        padded = tensor("y", (1, 7, 8, 5), 0.1, 9)
        values = assert_as_litert(file_of("PAD", [x, paddings], padded), integers(rng, 4, 4, 5, 3))
        assert (values[2][:, 0] == 9).all()


# --- Whole models ---------------------------------------------------------------------------------


def separable() -> keras.Model:
    """Depthwise-separable convolutions with ReLU6, and a global average."""
    layers = keras.layers
    lively = keras.initializers.VarianceScaling(4)
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU(6)(layers.BatchNormalization()(x))
    for filters, strides, padding in ((12, 1, "same"), (16, 2, "same"), (24, 2, "valid")):
        x = layers.DepthwiseConv2D(
            3, strides, padding, depth_multiplier=2, depthwise_initializer=lively
        )(x)
        x = layers.Conv2D(filters, 1, kernel_initializer=lively)(layers.ReLU(6)(x))
        x = layers.ReLU(6)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10)(x), name="separable")


def residual() -> keras.Model:
    """Additions of two paths, with and without ReLU, average pooling, softmax."""
    layers = keras.layers
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(8, 5, strides=3, padding="same")(image)
    y = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    y = layers.Conv2D(8, 3, padding="same")(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    x = layers.Add()([x, layers.Conv2D(8, 1)(x)])
    x = layers.Dense(20, activation="relu")(layers.Flatten()(x))
    x = layers.Dense(10, kernel_initializer="lecun_normal")(x)
    return keras.Model(image, layers.Softmax()(x * 3), name="residual")


def padded() -> keras.Model:
    """Explicit padding, strides and kernels that differ by axis, ReLU6 that stands alone."""
    layers = keras.layers
    image = keras.Input((28, 28, 1))
    x = layers.ZeroPadding2D(((1, 2), (0, 3)))(image)
    x = layers.Conv2D(6, (3, 4), strides=(2, 3))(x)
    x = layers.Add()([x, layers.ReLU(6)(x), layers.ReLU()(x)])
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.AveragePooling2D((2, 3), strides=1)(layers.ZeroPadding2D(1)(x))
    x = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(9, 2)(x))
    return keras.Model(image, layers.Dense(10)(x), name="padded")


@pytest.fixture(scope="module")
def contents(files: dict[str, bytes], calibration: np.ndarray) -> dict[str, bytes]:
    """The int8 files of the shipped model and of three others with weights drawn at random."""
    made = {"baseline": files["int8, int8 input"]}
    for build in (separable, residual, padded):
        keras.utils.set_random_seed(8)
        model = build()
        for one in model.layers:
            for weight in one.weights:
                if weight.name in ("bias", "beta", "moving_mean"):
                    weight.assign(keras.random.normal(weight.shape, stddev=0.1))
        made[model.name] = tflite.convert(model, "int8", calibration=calibration[:200])
    return made


ARCHITECTURES = {
    "baseline": "CONV_2D FULLY_CONNECTED MAX_POOL_2D RESHAPE",
    "separable": "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED MEAN",
    "residual": "ADD AVERAGE_POOL_2D CONV_2D FULLY_CONNECTED RESHAPE SOFTMAX",
    "padded": "ADD AVERAGE_POOL_2D CONV_2D FULLY_CONNECTED MAX_POOL_2D MEAN PAD RELU RELU6",
}


def pixels(data: mnist.Mnist) -> np.ndarray:
    """The test images as the int8 files' input has them, p − 128."""
    return (data.x_test.astype(np.int16) - 128).astype(np.int8)[..., np.newaxis]


class TestModelsAsLiteRT:
    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_every_tensor(self, contents: dict[str, bytes], data: mnist.Mnist, name: str) -> None:
        # Lesson 07 compares all 10,000 images, for the baseline.
        model = integer.load(contents[name])
        assert {*ARCHITECTURES[name].split()} <= {op.name for op in model.steps}
        # Few integers show a second rounding: 12 logits of the baseline's for 2,500 images.
        images = pixels(data)[: 2500 if name == "baseline" else 1000]
        values = assert_as_litert(contents[name], images)
        # Tensors of few different values would prove little.
        few = [index for index, value in values.items() if len(np.unique(value)) < 60]
        assert few == []

    @pytest.mark.parametrize("io", ["uint8", "float32"])
    def test_other_inputs(
        self, files: dict[str, bytes], data: mnist.Mnist, x_test: np.ndarray, io: str
    ) -> None:
        images = {"uint8": data.x_test[..., np.newaxis], "float32": x_test}[io]
        assert_as_litert(files[f"int8, {io} input"], images[:500])

    @pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
    def test_predict_takes_and_gives_reals(
        self, files: dict[str, bytes], data: mnist.Mnist, x_test: np.ndarray, io: str
    ) -> None:
        content = files[f"int8, {io} input"]
        model = integer.load(content)
        outputs = integer.predict(model, x_test[:1000])
        assert outputs.dtype == np.float32
        # LiteRT's default kernels round otherwise: some integers of theirs differ by 1.
        step = 0.2236
        np.testing.assert_allclose(outputs, tflite.predict(content, x_test[:1000]), atol=step)
        if io == "int8":
            q = integer.run(model, pixels(data)[:1000])
            params = model.tensors[model.output].params
            np.testing.assert_array_equal(outputs, affine.dequantize(q, params))

    def test_run_is_the_last_of_all(self, contents: dict[str, bytes], data: mnist.Mnist) -> None:
        model, images = integer.load(contents["baseline"]), pixels(data)[:21]
        values = integer.run_all(model, images)
        assert list(values) == [model.input, *(op.output for op in model.steps)]
        np.testing.assert_array_equal(integer.run(model, images), values[model.output])
        np.testing.assert_array_equal(values[model.input], images)

    def test_the_count_of_logits_that_two_roundings_would_change(self, data: mnist.Mnist) -> None:
        # In the file that ships: the converter's ranges depend on the processor.
        model = integer.load(models.load_int8_baseline())
        images = pixels(data)
        values = integer.run_all(model, images)
        last = model.steps[-1]
        arguments = dict(last.arguments)
        before = arguments["output"]
        narrow = dataclasses.replace(before, multiplier=(before.multiplier + 2**30) >> 31)
        rows = integer.subtract_zero_point(values[last.inputs[0]], arguments["zero_point"])
        accumulator = arguments["bias"] + rows @ arguments["weights"].T.astype(np.int32)
        twice = integer.rescale(accumulator, narrow.multiplier, narrow.shift)
        changed = integer.saturate(twice, narrow) != values[model.output]
        assert changed.sum() == 48


# --- No floats ------------------------------------------------------------------------------------


class TestNoFloats:
    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_no_array_is_ever_a_float(
        self,
        monkeypatch: pytest.MonkeyPatch,
        contents: dict[str, bytes],
        data: mnist.Mnist,
        name: str,
    ) -> None:
        model, images = integer.load(contents[name]), pixels(data)[:8]
        expected = integer.run(model, images)
        np.testing.assert_array_equal(run_on_guard(monkeypatch, model, images), expected)

    @pytest.mark.parametrize("io", ["uint8", "float32"])
    def test_only_the_doors_touch_floats(
        self,
        monkeypatch: pytest.MonkeyPatch,
        files: dict[str, bytes],
        data: mnist.Mnist,
        x_test: np.ndarray,
        io: str,
    ) -> None:
        model = integer.load(files[f"int8, {io} input"])
        images = {"uint8": data.x_test[..., np.newaxis], "float32": x_test}[io][:8]
        expected = integer.run(model, images)
        np.testing.assert_array_equal(run_on_guard(monkeypatch, model, images), expected)
        doors = [op.name for op in model.steps if "params" in op.arguments]
        assert doors == {"uint8": [], "float32": ["QUANTIZE", "DEQUANTIZE"]}[io]

    @pytest.mark.parametrize(
        ("name", "function"),
        [
            ("rounding_shift", lambda x, exponent: np.rint(x / 2**exponent).astype(np.int32)),
            ("rescale", lambda x, multiplier, shift: np.int32(x * (multiplier * 2.0**shift) / 2e9)),
            ("subtract_zero_point", lambda x, z: (x.astype(np.float32) - z).astype(np.int32)),
            ("subtract_zero_point", lambda x, z: np.multiply(x, 1.0, dtype=np.float64) - z),
            ("saturate", lambda x, _: convolving.np.asarray(x, np.float64)),
        ],
    )
    def test_the_guard_finds_a_float(
        self,
        monkeypatch: pytest.MonkeyPatch,
        contents: dict[str, bytes],
        data: mnist.Mnist,
        name: str,
        function: Callable,
    ) -> None:
        model = integer.load(contents["baseline"])
        patch_each(monkeypatch, name, function)
        with pytest.raises(AssertionError, match="in the integer path"):
            run_on_guard(monkeypatch, model, pixels(data)[:2])

    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_the_ops_hold_integers_only(self, contents: dict[str, bytes], name: str) -> None:
        for op in integer.load(contents[name]).steps:
            for part in (part for value in op.arguments.values() for part in parts_of(value)):
                if isinstance(part, np.ndarray):
                    assert part.dtype.kind == "i"
                    assert not part.flags.writeable
                else:
                    assert isinstance(part, int | np.dtype)

    def test_accumulators_are_int32(
        self, monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes], data: mnist.Mnist
    ) -> None:
        seen = []
        for name in ("rescale", "rescale_once"):
            original = getattr(arithmetic, name)
            patch_each(
                monkeypatch,
                name,
                lambda x, *more, original=original: seen.append(x.dtype) or original(x, *more),
            )
        for content in contents.values():
            integer.run(integer.load(content), pixels(data)[:2])
        assert len(seen) > 20
        assert set(seen) == {np.dtype(np.int32)}


# --- Loading --------------------------------------------------------------------------------------


class TestMultiplierBits:
    def test_fewer_bits_are_used_and_cost_accuracy(
        self, contents: dict[str, bytes], data: mnist.Mnist
    ) -> None:
        images = pixels(data)[:300]
        exact = integer.run(integer.load(contents["baseline"]), images).astype(int)
        errors = []
        for bits in (31, 16, 8, 4, 2):
            model = integer.load(contents["baseline"], multiplier_bits=bits)
            for op in model.steps:
                if "output" in op.arguments:
                    width = 62 if op.name == "FULLY_CONNECTED" else 31
                    multiplier = op.arguments["output"].multiplier
                    assert (multiplier >= 2 ** (width - 1)).all()
                    assert not (multiplier & (2 ** (width - bits) - 1)).any()
            errors.append(float(np.abs(integer.run(model, images) - exact).mean()))
        assert errors == sorted(errors)
        assert errors[0] == 0 < errors[2] < 1 < errors[4]

    @pytest.mark.parametrize("name", ["separable", "residual"])
    def test_all_ops_take_part(
        self, contents: dict[str, bytes], data: mnist.Mnist, name: str
    ) -> None:
        images = pixels(data)[:200]
        coarse = integer.load(contents[name], multiplier_bits=5)
        for op in coarse.steps:
            multipliers = [op.arguments.get("multiplier", 0), *op.arguments.get("multipliers", ())]
            if op.name == "FULLY_CONNECTED":
                multipliers = [op.arguments["output"].multiplier >> 31]
            elif "output" in op.arguments:
                multipliers.append(op.arguments["output"].multiplier)
            assert not any(np.any(multiplier & (2**26 - 1)) for multiplier in multipliers)
        exact = integer.run(integer.load(contents[name]), images).astype(int)
        assert 0 < np.abs(exact - integer.run(coarse, images)).mean() < 10

    @pytest.mark.parametrize("bits", [0, 32])
    def test_range(self, contents: dict[str, bytes], bits: int) -> None:
        with pytest.raises(ValueError, match=f"multiplier_bits must be from 1 to 31, got {bits}"):
            integer.load(contents["baseline"], multiplier_bits=bits)


class TestWhatALoadedModelTells:
    def test_ops_and_tensors(self, contents: dict[str, bytes]) -> None:
        model = integer.load(contents["baseline"])
        names = "CONV_2D MAX_POOL_2D CONV_2D MAX_POOL_2D CONV_2D RESHAPE FULLY_CONNECTED"
        assert " ".join(op.name for op in model.steps) == names
        assert model.steps[0].function is ops.convolve
        assert str(model.steps[0]) == "Step(name='CONV_2D', inputs=(0,), output=10)"
        theirs = tflite.tensors(contents["baseline"])
        assert len(theirs) == len(model.tensors)
        for one, other in zip(model.tensors, theirs, strict=True):
            assert (one.name.split(";")[0], one.dtype) == (other.name.split(";")[0], other.dtype)
            assert one.params == other.params
        weights = next(one for one in model.tensors if one.shape == (10, 800))
        assert (weights.data.dtype, weights.data.shape) == (np.int8, (10, 800))

    def test_frozen(self, contents: dict[str, bytes]) -> None:
        model = integer.load(contents["baseline"])
        for record, name in (
            (model, "steps"),
            (model.steps[0], "name"),
            (model.tensors[0], "name"),
        ):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(record, name, None)
        with pytest.raises(TypeError):
            model.steps[0].arguments["zero_point"] = 0
        with pytest.raises(ValueError, match="read-only"):
            model.steps[0].arguments["weights"][0] = 0


def conv(**changes: Any) -> tuple[str, list[SimpleNamespace], SimpleNamespace, Any]:
    """What `file_of` makes a small valid CONV_2D of; the changes replace parts or options."""
    weights = changes.pop("weights", np.ones((2, 3, 3, 1), np.int8))
    x = tensor("x", (1, 5, 5, 1), 0.1)
    y = tensor("y", (1, 3, 3, 2), 0.5)
    for one in (x, y):
        for name, value in changes.pop(one.name, {}).items():
            setattr(one, name, value)
    parts = [constant("w", weights, 0.1), constant("b", np.int32([1, 2]), 0.01)]
    for one in parts:
        for name, value in changes.pop(one.name, {}).items():
            setattr(one, name, value)
    how = options("Conv2D", **({"padding": VALID, "strideH": 1, "strideW": 1} | changes))
    return "CONV_2D", [x, *parts], y, how


class TestBadInput:
    def test_the_small_file_is_valid(self) -> None:
        assert_as_litert(file_of(*conv()), integers(np.random.default_rng(0), 3, 5, 5, 1))

    @pytest.mark.parametrize("end", [0, 4, 20, 3000])
    def test_no_model(self, files: dict[str, bytes], end: int) -> None:
        for content in (files["int8, int8 input"][:end], b"no model" * 10):
            with pytest.raises(ValueError, match=r"model_bytes is not a \.tflite model"):
                integer.load(content)

    def test_a_float_model(self, files: dict[str, bytes]) -> None:
        with pytest.raises(
            ValueError, match=r"tensor 'serving_default.*' of op 0 \(CONV_2D, conv1.*\) is float32"
        ):
            integer.load(files["float32"])

    def test_weights_that_are_quantized_alone(self) -> None:
        """Dynamic-range quantization: int8 weights, float activations."""
        changes = {name: {"dtype": "float32", "scale": ()} for name in "xy"}
        with pytest.raises(ValueError, match=r"tensor 'x' of op 0 \(CONV_2D\) is float32"):
            integer.load(file_of(*conv(**changes)))

    def test_a_float_in_between(self) -> None:
        with pytest.raises(ValueError, match=r"tensor 'y' of op 0 \(CONV_2D\) is float32"):
            integer.load(file_of(*conv(y={"dtype": "float32", "scale": ()})))

    def test_16_bit_activations(self) -> None:
        with pytest.raises(
            ValueError, match=r"tensor 'x' of op 0 \(CONV_2D\) is int16.* 'int8'.* tflite.predict"
        ):
            integer.load(file_of(*conv(x={"dtype": "int16"})))

    def test_4_bit_weights_are_valid_and_2_bit_weights_are_not(self) -> None:
        packed = {"dtype": "int4", "shape": (2, 3, 3, 1), "data": np.arange(-120, 120, 27, np.int8)}
        x = integers(np.random.default_rng(0), 3, 5, 5, 1)
        assert_as_litert(file_of(*conv(w=packed)), x)
        packed |= {"dtype": "int2", "data": np.ones(5, np.int8)}
        with pytest.raises(
            ValueError, match=r"\(CONV_2D\) with weights that are not constant, int8"
        ):
            integer.load(file_of(*conv(w=packed)))

    def test_an_unknown_op(self) -> None:
        ends = tensor("x", (1, 4), 0.1), tensor("y", (1, 4), 0.1)
        message = r"does not cover op 0 \(SIGN\); integer.OPS lists .* LiteRT runs such a file"
        with pytest.raises(ValueError, match=message):
            integer.load(file_of("SIGN", [ends[0]], ends[1]))
        assert "SIGN" not in integer.OPS

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"fusedActivationFunction": 4}, r"\(CONV_2D\) with the activation TANH"),
            (
                {"w": {"zero_point": 3}},
                r"\(CONV_2D\) with weights that are not constant, int8 or int4, and sym",
            ),
            ({"w": {"data": None}}, r"CONV_2D\) reads 'w' .* before any op has written it"),
            ({"b": {"dtype": "int64", "data": np.int64([1, 2])}}, "a bias that is not a constant"),
            (
                {"x": {"shape": (3, 5, 5, 1)}, "y": {"shape": (3, 3, 3, 2)}},
                "input 'x' has the shape .* first axis must",
            ),
            ({"x": {"scale": (0.1, 0.2)}}, "'x' .* has 2 scales along axis 0"),
            ({"x": {"dtype": "uint8"}}, r"'x' of op 0 \(CONV_2D\) is uint8, .* needs int8"),
        ],
    )
    def test_what_an_op_may_not_have(self, changes: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            integer.load(file_of(*conv(**changes)))

    def test_an_accumulator_that_could_overflow(self) -> None:
        ends = tensor("x", (1, 70_000), 0.1, -128), tensor("y", (1, 1), 1000)
        weights = constant("w", np.full((1, 70_000), 127, np.int8), 0.1)
        with pytest.raises(ValueError, match=r"\(FULLY_CONNECTED\) sums products up to 2266950000"):
            integer.load(
                file_of("FULLY_CONNECTED", [ends[0], weights], ends[1], options("FullyConnected"))
            )
        bias = {"data": np.int32([INT32_MAX, 0])}
        with pytest.raises(ValueError, match=r"\(CONV_2D\) sums products up to"):
            integer.load(file_of(*conv(b=bias)))

    def test_a_sum_that_could_overflow(self) -> None:
        ends = tensor("x", (1, 3000, 3000, 1), 0.1), tensor("y", (1, 1), 0.1)
        axes = constant("a", np.int32([1, 2]))
        with pytest.raises(ValueError, match=r"\(MEAN\) sums 9000000 values"):
            integer.load(file_of("MEAN", [ends[0], axes], ends[1], options("Reducer")))

    def test_too_many_classes(self) -> None:
        ends = tensor("x", (1, 512), 0.1), tensor("y", (1, 512), 1 / 256, -128)
        with pytest.raises(ValueError, match=r"\(SOFTMAX\) with 512 classes. LiteRT runs"):
            integer.load(file_of("SOFTMAX", [ends[0]], ends[1], options("Softmax", beta=1.0)))

    def test_images(
        self, contents: dict[str, bytes], data: mnist.Mnist, x_test: np.ndarray
    ) -> None:
        model, images = integer.load(contents["baseline"]), pixels(data)
        for run in (integer.run, integer.run_all):
            with pytest.raises(ValueError, match=r"x must have the shape \('n', 28, 28, 1\)"):
                run(model, images[0])
            with pytest.raises(ValueError, match="n ≥ 1"):
                run(model, images[:0])
            with pytest.raises(ValueError, match="x must hold int8 images, got float32: quantize"):
                run(model, x_test[:2])
        with pytest.raises(ValueError, match="x must have the shape"):
            integer.predict(model, x_test[0])
