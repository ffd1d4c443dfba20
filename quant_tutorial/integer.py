"""Integer-only inference: run a full-integer `.tflite` file with integers alone (lesson 07).

Write each real number as scale · (q − zero_point). A layer y = b + Σ x·w then becomes

    q_y = zero_point_y + M · (q_b + Σ (q_x − zero_point_x) · q_w)
    M = scale_x · scale_w / scale_y

The bracket is a sum of products of 8-bit integers: an int32 holds it exactly. Only the scale ratio
M is no integer, so M ≈ multiplier / 2^31 · 2^shift: a multiplication by an int32, and a shift. That
is Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference" (CVPR 2018): section 2.2 has M, 2.3 the zero points, 2.4 the int32 bias, the saturation
and the fused activation. The fixed-point functions are those of Google's gemmlowp library
(`fixedpoint.h`), on which LiteRT's kernels are built.

There are two stages. `load` reads the file and turns each scale ratio, a float, into a multiplier
and a shift. `run` then has integers alone, from the images to the outputs. Only where a file has
float32 input and output, QUANTIZE at its beginning and DEQUANTIZE at its end deal with floats.

Every tensor equals that of LiteRT's reference kernels (`OpResolverType.BUILTIN_REF`), bit for bit.
Those of ai-edge-litert 2.3 were measured to round like this:

- A rescaling rounds twice (`rescale`), first the product and then the shift.
- Only FULLY_CONNECTED rounds once (`rescale_once`): its kernel multiplies the accumulator by M as a
  64-bit float. Two roundings would change 48 of the baseline's 100,000 logits.

No int32 overflows: `load` refuses a layer whose accumulator could, products are made in int64, and
values are clamped before a zero point is added.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from quant_tutorial.affine import QuantParams, dequantize, quantize, round_half_away

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1

Pair = tuple[int, int]  # of rows and of columns, or before and after
Padding = tuple[Pair, Pair]  # (above, below), (left, right)

# Few enough that a layer's arrays stay in a core's cache: 10,000 images took 2.5 s, at 64 at a time
# 4.2 s. Two threads gained nothing.
_BATCH = 8


# --- Fixed-point arithmetic ---------------------------------------------------------------------


def fixed_point(ratio: float, bits: int = 31) -> tuple[int, int]:
    """Write a scale ratio as integers: ratio ≈ multiplier / 2^bits · 2^shift (lesson 07).

    The multiplier has exactly `bits` bits, 2^(bits−1) ≤ multiplier < 2^bits, so its relative error
    is at most 2^−bits. A ratio below 2^−32 gives (0, 0), as in LiteRT. LiteRT has 31 bits; 53 and
    more keep every bit of a 64-bit float. Jacob et al., section 2.2, with shift = −n.

    Raises:
        ValueError: for a ratio outside [0, 2^30), or bits outside 1 to 62.
    """
    if not 0 <= ratio < 2**30:
        raise ValueError(f"ratio must lie in [0, 2^30), got {ratio}: are the scales mixed up?")
    if not 1 <= bits <= 62:
        raise ValueError(f"bits must be from 1 to 62, got {bits}.")
    fraction, shift = math.frexp(ratio)  # ratio = fraction · 2^shift, ½ ≤ fraction < 1
    multiplier = int(round_half_away(fraction * 2**bits))
    if multiplier == 2**bits:  # 0.999… was rounded up to 1
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def doubling_high_multiply(a: ArrayLike, b: ArrayLike) -> NDArray[np.int32]:
    """Multiply two fixed-point numbers: a · b / 2^31, rounded, ties up (lesson 07).

    With both read as fractions of 2^31, it is their product as a fraction of 2^31, the high half of
    the doubled 64-bit product. Any integers of int32's range; only −2^31 · −2^31 leaves it, and
    saturates. gemmlowp's SaturatingRoundingDoublingHighMul, one instruction (VQRDMULH) on Arm.
    """
    product = np.multiply(a, b, dtype=np.int64)
    return np.minimum((product + 2**30) >> 31, INT32_MAX).astype(np.int32)


def rounding_shift(x: ArrayLike, exponent: ArrayLike) -> NDArray[np.signedinteger]:
    """Divide by 2^exponent, rounded, ties away from zero (lesson 07).

    A plain shift to the right rounds down: −3 >> 1 is −2. So 1 is added where the bits that fall
    off are more than half. The type of `x` is kept; exponents from 0 to 31, which broadcast with x.
    gemmlowp's RoundingDivideByPOT.
    """
    x = np.asarray(x)
    exponent = np.asarray(exponent, x.dtype)
    mask = (np.left_shift(1, exponent, dtype=np.int64) - 1).astype(x.dtype)
    remainder = x & mask
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + (remainder > threshold)


def rescale(
    accumulator: ArrayLike, multiplier: ArrayLike, shift: ArrayLike
) -> NDArray[np.signedinteger]:
    """Multiply int32 values by multiplier / 2^31 · 2^shift with integers alone (lesson 07).

    A positive shift is done before the multiplication, saturating, a negative one after it. There
    are two roundings, and now and then the first one makes a tie for the second: 0.49 → 0.5 → 1.
    LiteRT's MultiplyByQuantizedMultiplier. Multipliers of 31 bits, such as `fixed_point` gives, one
    or one for each channel (the last axis).
    """
    shift = np.asarray(shift)
    enlarged = np.asarray(accumulator, np.int64) << np.maximum(shift, 0)
    enlarged = np.clip(enlarged, INT32_MIN, INT32_MAX)
    return rounding_shift(doubling_high_multiply(enlarged, multiplier), np.maximum(-shift, 0))


def rescale_once(
    accumulator: ArrayLike, multiplier: ArrayLike, shift: ArrayLike
) -> NDArray[np.int64]:
    """Multiply int32 values by multiplier / 2^62 · 2^shift and round once, ties away (lesson 07).

    For FULLY_CONNECTED, whose reference kernel multiplies by a 64-bit float. A multiplier of 62
    bits has room for all 53 of that float. The product would need 93 bits, so it is made of two,
    with the upper and the lower 31 bits of the multiplier, as one multiplies on paper, and its last
    31 bits are dropped: they cannot change the rounding. The float product, being rounded itself,
    can lead to another 8-bit integer only within 2^−44 of a tie.
    """
    accumulator, multiplier = np.asarray(accumulator, np.int64), np.asarray(multiplier)
    magnitude = np.abs(accumulator)
    upper, lower = multiplier >> 31, multiplier & INT32_MAX
    product = magnitude * upper + (magnitude * lower >> 31)  # < 2^62 + 2^31
    places = 31 - np.asarray(shift)
    half = np.left_shift(1, places) >> 1  # ≤ 2^61
    return np.sign(accumulator) * ((product + half) >> places)


@dataclass(frozen=True, eq=False)
class Output:
    """How an op's int32 values become the integers of its output tensor (lesson 07).

    `multiplier` and `shift` are those of `rescale` (for FULLY_CONNECTED, of `rescale_once`), of the
    shape () or (channels,). `lowest` and `highest` are the ends of the integer type, or of the
    activation that is fused with the op: ReLU is lowest = zero_point.
    """

    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    zero_point: int
    lowest: int
    highest: int
    dtype: np.dtype


def saturate(values: NDArray[np.signedinteger], output: Output) -> NDArray[np.integer]:
    """Add the output's zero point, and clamp to its range instead of wrapping (lesson 07).

    Clamping comes first: an int32 near its end has no room for the zero point.
    """
    low, high = output.lowest - output.zero_point, output.highest - output.zero_point
    return (np.clip(values, low, high) + output.zero_point).astype(output.dtype)


# --- The ops: integers in, integers out ---------------------------------------------------------
# x has shape (images, rows, columns, channels) unless said otherwise, and 8-bit integers.


def subtract_zero_point(x: NDArray[np.integer], zero_point: int) -> NDArray[np.int32]:
    """Subtract the zero point: how many steps of the scale each value is from real 0 (lesson 07).

    Any shape. The result lies in [−255, 255], so 8 bits do not hold it.
    """
    return x.astype(np.int32) - zero_point


def same_padding(size: int, kernel: int, stride: int) -> Pair:
    """Give how many places SAME padding adds (before, after) along one axis (lesson 07).

    The output has ⌈size / stride⌉ places; an odd place goes after.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def windows(
    x: NDArray[np.integer], kernel: Pair, strides: Pair, padding: Padding, value: int
) -> NDArray[np.integer]:
    """View the patches that a kernel sees, after padding with one value (lesson 07).

    Shape (images, rows, columns, kernel rows, kernel columns, channels).
    """
    padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)
    view = sliding_window_view(padded, kernel, axis=(1, 2))[:, :: strides[0], :: strides[1]]
    return np.moveaxis(view, 3, 5)


def convolve(
    x: NDArray[np.int8],
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    zero_point: int,
    strides: Pair,
    padding: Padding,
    output: Output,
) -> NDArray[np.int8]:
    """CONV_2D: weights of shape (outputs, kernel rows, kernel columns, channels) (lesson 07).

    The bias, shape (outputs,), counts in units of scale_x · scale_w, those of the accumulator.
    Padding is added after the zero point is gone, so it is 0 and stands for real 0.
    """
    steps = subtract_zero_point(x, zero_point)
    patches = windows(steps, weights.shape[1:3], strides, padding, 0)
    patches = np.ascontiguousarray(patches)  # a copy, but the next line takes half the time with it
    accumulator = bias + np.einsum("nyxijc,oijc->nyxo", patches, weights.astype(np.int32))
    return saturate(rescale(accumulator, output.multiplier, output.shift), output)


def depthwise_convolve(
    x: NDArray[np.int8],
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    zero_point: int,
    strides: Pair,
    padding: Padding,
    output: Output,
) -> NDArray[np.int8]:
    """DEPTHWISE_CONV_2D: each channel has its own kernel, or several (lesson 07).

    Weights of shape (1, kernel rows, kernel columns, outputs): the outputs of channel 0 come first.
    """
    steps = subtract_zero_point(x, zero_point).repeat(weights.shape[3] // x.shape[3], axis=3)
    patches = windows(steps, weights.shape[1:3], strides, padding, 0)
    accumulator = bias + np.einsum("nyxijc,ijc->nyxc", patches, weights[0].astype(np.int32))
    return saturate(rescale(accumulator, output.multiplier, output.shift), output)


def fully_connected(
    x: NDArray[np.int8],
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    zero_point: int,
    output: Output,
    shape: tuple[int, ...],
) -> NDArray[np.int8]:
    """FULLY_CONNECTED: weights of shape (units, inputs) (lesson 07).

    Any shape (images, …) whose values form rows of `inputs`; `shape` is that of one image's output.
    It rounds once, as LiteRT's reference kernel does; see `rescale_once`.
    """
    rows = subtract_zero_point(x, zero_point).reshape(-1, weights.shape[1])
    accumulator = bias + np.einsum("ni,oi->no", rows, weights.astype(np.int32))
    rescaled = rescale_once(accumulator, output.multiplier, output.shift)
    return saturate(rescaled, output).reshape(len(x), *shape)


def max_pool(
    x: NDArray[np.int8], *, kernel: Pair, strides: Pair, padding: Padding, lowest: int, highest: int
) -> NDArray[np.int8]:
    """MAX_POOL_2D: the largest integer stands for the largest real value (lesson 07)."""
    patches = windows(x, kernel, strides, padding, np.iinfo(x.dtype).min)
    return np.clip(patches.max(axis=(3, 4)), lowest, highest)


def average_pool(
    x: NDArray[np.int8], *, kernel: Pair, strides: Pair, padding: Padding, lowest: int, highest: int
) -> NDArray[np.int8]:
    """AVERAGE_POOL_2D: the mean of those that lie in the image, ties away from zero (lesson 07).

    Input and output have the same scale and zero point, so the mean of the integers is enough.
    """
    inside = np.ones((1, *x.shape[1:3], 1), np.int32)
    total, count = (
        windows(values, kernel, strides, padding, 0).sum(axis=(3, 4), dtype=np.int32)
        for values in (x.astype(np.int32), inside)
    )
    average = np.sign(total) * ((np.abs(total) + count // 2) // count)
    return np.clip(average, lowest, highest).astype(x.dtype)


def mean(
    x: NDArray[np.int8],
    *,
    axes: tuple[int, ...],
    zero_point: int,
    output: Output,
    shape: tuple[int, ...],
) -> NDArray[np.int8]:
    """MEAN over some axes: a sum whose division is part of the multiplier (lesson 07).

    Any shape (images, …); `shape` is that of one image's output.
    """
    total = subtract_zero_point(x, zero_point).sum(axis=axes, dtype=np.int32)
    rescaled = rescale(total, output.multiplier, output.shift)
    return saturate(rescaled, output).reshape(len(x), *shape)


def add(
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    *,
    zero_points: Pair,
    multipliers: Pair,
    shifts: Pair,
    output: Output,
) -> NDArray[np.int8]:
    """ADD: bring both inputs to one common scale, add, rescale to the output's (lesson 07).

    Any shapes that broadcast. The common scale is twice the larger of the two, divided by 2^20: the
    20 bits more than the inputs have keep the rounding to it far below one step of the output.
    """
    common = [
        rescale(subtract_zero_point(x, zero_point) << 20, multiplier, shift)
        for x, zero_point, multiplier, shift in zip(
            (a, b), zero_points, multipliers, shifts, strict=True
        )
    ]
    return saturate(rescale(common[0] + common[1], output.multiplier, output.shift), output)


def requantize(x: NDArray[np.integer], *, zero_point: int, output: Output) -> NDArray[np.integer]:
    """QUANTIZE from integers to integers of another scale or type; RELU and RELU6 (lesson 07).

    Any shape. An activation that no other op has taken in is a rescaling with a narrower range.
    """
    return saturate(
        rescale(subtract_zero_point(x, zero_point), output.multiplier, output.shift), output
    )


def reshape(x: NDArray[np.integer], *, shape: tuple[int, ...]) -> NDArray[np.integer]:
    """RESHAPE: `shape` is that of one image (lesson 07)."""
    return x.reshape(len(x), *shape)


def pad(x: NDArray[np.integer], *, paddings: tuple[Pair, ...], value: int) -> NDArray[np.integer]:
    """PAD each axis (before, after) with the zero point, which stands for real 0 (lesson 07)."""
    return np.pad(x, paddings, constant_values=value)


def softmax(x: NDArray[np.int8], *, multiplier: int, shift: int) -> NDArray[np.int8]:
    """SOFTMAX over the last axis: exponentials and a division, without floats (lesson 07).

    exp(x − max) / Σ exp(x − max). The rescaling gives the real differences in units of 2^−26; it
    saturates at −32, whose exponential is 0. The output has the scale 1/256 and the zero point
    −128, so that a probability of 1 saturates at 127.
    """
    difference = x.astype(np.int32) - x.max(axis=-1, keepdims=True)
    exponential = exponential_of_negative(rescale(difference, multiplier, shift))

    total = rounding_shift(exponential, 12).sum(axis=-1, keepdims=True, dtype=np.int32)
    zeros = leading_zeros(total)  # total / 2^19 = (1 + fraction / 2^31) · 2^(12 − zeros)
    fraction = (total.astype(np.int64) << zeros) - 2**31
    quotient = doubling_high_multiply(reciprocal_of_one_plus(fraction), exponential)
    return np.clip(rounding_shift(quotient, 35 - zeros) - 128, -128, 127).astype(np.int8)


def exponential_of_negative(x: NDArray[np.int32]) -> NDArray[np.int32]:
    """Compute exp(x / 2^26) · 2^31 for x ≤ 0 with integers (lesson 07).

    x is a sum of a part in [−¼, 0), for which four terms of the Taylor series around −⅛ do, and of
    binary digits −¼, −½, −1 … −16: for each that is present, a multiplication by its exponential, a
    constant. gemmlowp's exp_on_negative_values.
    """
    quarter = 2**24
    rest = (x & (quarter - 1)) - quarter  # in [−¼, 0)
    a = (rest << 5) + 2**28  # 31 fractional bits, and + ⅛
    a2 = doubling_high_multiply(a, a)
    a3 = doubling_high_multiply(a2, a)
    a4 = doubling_high_multiply(a2, a2)
    third = doubling_high_multiply(rounding_shift(a4, 2) + a3, 715827883)  # (a⁴/4 + a³) / 3
    series = a + rounding_shift(third + a2, 1)  # a + a²/2 + a³/6 + a⁴/24
    result = 1895147668 + doubling_high_multiply(1895147668, series)  # exp(−⅛) · (1 + series)

    quarters = rest - x
    for digit, factor in enumerate(
        (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
    ):
        present = (quarters & (quarter << digit)) != 0
        result = np.where(present, doubling_high_multiply(result, factor), result)
    return np.where(x == 0, INT32_MAX, result).astype(np.int32)


def reciprocal_of_one_plus(x: NDArray[np.integer]) -> NDArray[np.int32]:
    """Compute 2^31 / (1 + x / 2^31) for x in [0, 2^31) with integers (lesson 07).

    Three Newton steps, r ← r + r · (1 − d·r), approach 1/d for d = (1 + x) / 2; the start is the
    best straight line, 48/17 − 32/17 · d. 29 fractional bits, because r reaches 2. gemmlowp's
    one_over_one_plus_x_for_x_in_0_1.
    """
    d = (x.astype(np.int64) + 2**31) >> 1
    r = 1515870810 + doubling_high_multiply(d, -1010580540)
    for _ in range(3):
        rest = 2**29 - doubling_high_multiply(d, r)
        r = r + (doubling_high_multiply(r, rest) << 2)
    return np.minimum(r.astype(np.int64) << 1, INT32_MAX).astype(np.int32)  # r / 2, 31 bits


def leading_zeros(x: NDArray[np.int32]) -> NDArray[np.int32]:
    """Count the zeros before the first 1 in the 32 bits of a positive integer (lesson 07)."""
    for places in (1, 2, 4, 8, 16):
        x = x | (x >> places)  # every bit below the first 1 becomes 1
    return 32 - np.bitwise_count(x).astype(np.int32)


# --- The model ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of the file (lesson 07)."""

    name: str
    shape: tuple[int, ...]  # an activation's first axis counts images, and is 1
    dtype: np.dtype
    scales: NDArray[np.float32] = field(repr=False)  # none, one, or one for each channel
    zero_points: NDArray[np.int64] = field(repr=False)
    axis: int  # that of the channels
    data: NDArray[np.generic] | None = field(repr=False)  # None for activations

    @property
    def params(self) -> QuantParams | None:
        """The map of the tensor's 8-bit integers, None for others."""
        if self.dtype.name not in ("int8", "uint8") or not len(self.scales):
            return None
        signed = self.dtype == np.int8
        if len(self.scales) == 1:
            return QuantParams(8, float(self.scales[0]), int(self.zero_points[0]), signed)
        return QuantParams(8, self.scales, self.zero_points, signed, axis=self.axis)


@dataclass(frozen=True, eq=False)
class Op:
    """One op of the file: a function of this module and its integers (lesson 07)."""

    name: str  # TFLite's, such as CONV_2D
    inputs: tuple[int, ...]  # indices of the tensors that `function` gets, in order
    output: int  # index of the tensor that it makes
    function: Callable[..., NDArray[Any]] = field(repr=False)
    arguments: Mapping[str, Any] = field(repr=False)  # its keyword arguments


@dataclass(frozen=True, eq=False)
class IntegerModel:
    """A full-integer model, ready to run with integers alone (lesson 07)."""

    ops: tuple[Op, ...]  # in the order in which they run
    tensors: tuple[Tensor, ...]  # as numbered in the file
    input: int  # index of the tensor that gets the images
    output: int
    constants: Mapping[int, NDArray[np.integer]]  # tensors that ops take beside activations


def run(model: IntegerModel, x: NDArray[Any]) -> NDArray[Any]:
    """Run a model on images of its own input type and give its outputs (lesson 07).

    Args:
        model: As `load` gives it.
        x: Integers of the input tensor's type, shape (n, …), n ≥ 1; float32 images where the file
            begins with a QUANTIZE op for them.

    Raises:
        ValueError: for images of another shape or type.
    """
    return np.concatenate([values[model.output] for values in _batches(model, x)])


def run_all(model: IntegerModel, x: NDArray[Any]) -> dict[int, NDArray[Any]]:
    """Run a model and give every tensor on the way, by its index in the file (lesson 07).

    The input and the output are among them; an image of the baseline takes 14 kB.

    Raises:
        ValueError: as for `run`.
    """
    batches = list(_batches(model, x))
    indices = [model.input, *(op.output for op in model.ops)]
    return {index: np.concatenate([values[index] for values in batches]) for index in indices}


def predict(model: IntegerModel, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a model on float images and give float outputs, as `tflite.predict` does (lesson 07).

    The images are quantized with the scale and zero point of the input where that is an integer
    tensor, and the outputs are dequantized; all in between is integers.

    Args:
        model: As `load` gives it.
        x: Images as the float model gets them, shape (n, …), n ≥ 1.

    Raises:
        ValueError: for images of another shape.
    """
    source, target = model.tensors[model.input].params, model.tensors[model.output].params
    x = np.asarray(x, np.float32)
    outputs = run(model, x if source is None else quantize(x, source))
    return outputs if target is None else dequantize(outputs, target)


def _batches(model: IntegerModel, x: NDArray[Any]) -> Iterable[dict[int, NDArray[Any]]]:
    entry = model.tensors[model.input]
    if x.shape[1:] != entry.shape[1:] or len(x) == 0:
        raise ValueError(f"x must have the shape {('n', *entry.shape[1:])}, n ≥ 1, got {x.shape}.")
    if x.dtype != entry.dtype:
        raise ValueError(
            f"x must hold {entry.dtype}, got {x.dtype}: quantize the images, or use predict."
        )
    for start in range(0, len(x), _BATCH):
        values = {**model.constants, model.input: x[start : start + _BATCH]}
        for op in model.ops:
            inputs = (values[index] for index in op.inputs)
            values[op.output] = op.function(*inputs, **op.arguments)
        yield values


# --- Loading: the one place where scales, which are floats, become integers ---------------------


def load(model_bytes: bytes, *, multiplier_bits: int | None = None) -> IntegerModel:
    """Read a full-integer `.tflite` file and prepare it for integer-only inference (lesson 07).

    Args:
        model_bytes: The content of the file, as `tflite.convert` gives it: one image at a time,
            int8 throughout, with int8, uint8 or float32 input and output.
        multiplier_bits: How many bits each multiplier has, 1 to 31; None for those of LiteRT's
            reference kernels: 31, and FULLY_CONNECTED's float of 53.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, for an op that is not supported (named
            in the message), for a tensor that is float where integers are needed, and for numbers
            that could overflow an accumulator.
    """
    if multiplier_bits is not None and not 1 <= multiplier_bits <= 31:
        raise ValueError(f"multiplier_bits must be from 1 to 31, got {multiplier_bits}.")
    model = _parse(model_bytes)
    graph = model.subgraphs[0]
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            "The model must have one input and one output, "
            f"it has {len(graph.inputs)} and {len(graph.outputs)}."
        )
    tensors = tuple(_tensor(tensor, model.buffers[tensor.buffer].data) for tensor in graph.tensors)
    ops = []
    for op in graph.operators or ():
        name = _op_name(model.operatorCodes[op.opcodeIndex])
        if name not in _BUILDERS:
            raise ValueError(
                f"The op {name} is not supported here. These are: {', '.join(sorted(_BUILDERS))}."
            )
        ops.append(_op(_Source(name, op, tensors, multiplier_bits)))
    constants = {
        index: tensors[index].data
        for op in ops
        for index in op.inputs
        if tensors[index].data is not None
    }
    ends = int(graph.inputs[0]), int(graph.outputs[0])
    return IntegerModel(tuple(ops), tensors, *ends, MappingProxyType(constants))


def _parse(model_bytes: bytes) -> Any:
    content = bytes(model_bytes)
    try:
        if not schema.Model.ModelBufferHasIdentifier(content, 0):
            raise ValueError("the file identifier TFL3 is missing")
        return schema.ModelT.InitFromPackedBuf(content, 0)
    except (struct.error, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"model_bytes is not a .tflite model: {error}") from None


def _names(codes: type) -> dict[int, str]:
    return {code: name for name, code in vars(codes).items() if not name.startswith("_")}


_OP_NAMES = _names(schema.BuiltinOperator)
_TYPE_NAMES = _names(schema.TensorType)
_ACTIVATION_NAMES = _names(schema.ActivationFunctionType)
_KNOWN_TYPES = ("int8", "uint8", "int16", "int32", "int64", "float16", "float32", "bool")


def _op_name(code: Any) -> str:
    # Ops that are older than the wider field stand in the narrower one.
    name = _OP_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return code.customCode.decode() if name == "CUSTOM" else name


def _tensor(tensor: Any, data: NDArray[np.uint8] | None) -> Tensor:
    name, kind = (tensor.name or b"").decode(), _TYPE_NAMES[tensor.type].lower()
    if kind not in _KNOWN_TYPES:
        raise ValueError(f"The tensor {name!r} has the type {kind}, which is not supported here.")
    dtype = np.dtype(kind)
    shape = () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
    quantization = tensor.quantization
    quantized = quantization is not None and quantization.scale is not None
    constant = data is not None and len(data) > 0
    scales = np.asarray(quantization.scale if quantized else (), np.float32)
    zero_points = np.zeros(len(scales), np.int64)
    if quantized and quantization.zeroPoint is not None:
        zero_points = np.asarray(quantization.zeroPoint, np.int64)
    return Tensor(
        name=name,
        shape=shape,
        dtype=dtype,
        scales=scales,
        zero_points=zero_points,
        axis=quantization.quantizedDimension if quantized else 0,
        data=np.frombuffer(bytes(data), dtype).reshape(shape) if constant else None,
    )


@dataclass(frozen=True, eq=False)
class _Source:
    """What a builder reads: one op of the file, with its tensors."""

    name: str
    op: Any
    tensors: tuple[Tensor, ...]
    multiplier_bits: int | None

    @property
    def options(self) -> Any:
        return self.op.builtinOptions

    def input(self, number: int) -> Tensor:
        return self.tensors[self.op.inputs[number]]

    @property
    def output(self) -> Tensor:
        return self.tensors[self.op.outputs[0]]

    def refuse(self, what: str) -> ValueError:
        return ValueError(f"{self.name} with {what} is not supported here.")


# What a builder gives: the op's function and its keyword arguments.
_Built = tuple[Callable[..., NDArray[Any]], dict[str, Any]]


def _op(source: _Source) -> Op:
    activations = source.op.inputs[:2] if source.name == "ADD" else source.op.inputs[:1]
    doors = {"QUANTIZE": source.input(0), "DEQUANTIZE": source.output}
    types = ("int8", "uint8") if source.name in doors else ("int8",)
    for tensor in (*(source.tensors[index] for index in activations), source.output):
        if tensor is doors.get(source.name) and tensor.dtype == np.float32:
            continue
        if tensor.dtype.name not in types or len(tensor.scales) != 1:
            raise ValueError(
                f"The tensor {tensor.name!r} of {source.name} is {tensor.dtype}, and integer-only "
                "inference needs int8 with one scale: convert the model with "
                "tflite.convert(model, 'int8', calibration=images)."
            )
        if tensor.data is None and tensor.shape[:1] != (1,):
            raise ValueError(
                f"The tensor {tensor.name!r} of {source.name} has the shape {tensor.shape}: its "
                "first axis must count images and be 1, as in the files of tflite.convert."
            )
    function, arguments = _BUILDERS[source.name](source)
    return Op(
        source.name,
        tuple(int(index) for index in activations),
        int(source.op.outputs[0]),
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
    """Prepare the rescaling by one ratio, or by one for each channel, and the clamping."""
    multiplier, shift = _multiplier(source, ratios, width)
    lowest, highest = _activation_range(source, activation)
    zero_point = int(source.output.zero_points[0])
    return Output(multiplier, shift, zero_point, lowest, highest, source.output.dtype)


def _multiplier(
    source: _Source, ratios: ArrayLike, width: int = 31
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give multipliers as fractions of 2^width, of which fewer bits may be in use, and shifts."""
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
    """Give what all layers with weights share, after a check that no accumulator can overflow."""
    x, weights = source.input(0), source.input(1)
    if weights.data is None or weights.dtype != np.int8 or weights.zero_points.any():
        raise source.refuse("weights that are not constant, int8 and symmetric")
    outputs = weights.shape[outputs_axis]
    bias = np.zeros(outputs, np.int32)
    if len(source.op.inputs) > 2 and source.op.inputs[2] >= 0:
        bias = source.input(2).data
    if bias is None or bias.dtype != np.int32:
        raise source.refuse("a bias that is not a constant int32")
    # |q_x − zero_point| ≤ 255, so this is more than any input can lead to.
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
        same_padding(*axis) if same else (0, 0) for axis in zip(size, kernel, strides, strict=True)
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
    return depthwise_convolve if depthwise else convolve, arguments


def _build_fully_connected(source: _Source) -> _Built:
    shape = {"shape": source.output.shape[1:]}
    return fully_connected, _weights(source, 0, width=62) | shape


def _check_count(source: _Source, count: int) -> None:
    if 255 * count > INT32_MAX:
        raise ValueError(f"{source.name} sums {count} values, more than an int32 has room for.")


def _build_pool(source: _Source) -> _Built:
    options = source.options
    kernel = options.filterHeight, options.filterWidth
    lowest, highest = _activation_range(source, options.fusedActivationFunction)
    arguments = {"kernel": kernel, "lowest": lowest, "highest": highest}
    function = max_pool
    if source.name == "AVERAGE_POOL_2D":
        _check_count(source, math.prod(kernel))
        function = average_pool
    return function, arguments | _strides_and_padding(source, kernel)


def _build_mean(source: _Source) -> _Built:
    x = source.input(0)
    axes = tuple(sorted({int(axis) % len(x.shape) for axis in np.ravel(source.input(1).data)}))
    if 0 in axes:
        raise source.refuse("the axis of the images")
    count = math.prod(x.shape[axis] for axis in axes)
    _check_count(source, count)
    multiplier, shift = _multiplier(source, _scale(x) / _scale(source.output))
    # The division by the count, in integers: first to the left as far as there is room.
    places = min(count.bit_length() - 1, 31 + int(shift))
    unused = 31 - (source.multiplier_bits or 31)
    multiplier = (multiplier << places) // count >> unused << unused
    output = replace(
        _output(source, 1), multiplier=_read_only(multiplier), shift=_read_only(shift - places)
    )
    shape, zero_point = source.output.shape[1:], int(x.zero_points[0])
    return mean, {"axes": axes, "zero_point": zero_point, "output": output, "shape": shape}


def _build_add(source: _Source) -> _Built:
    inputs = source.input(0), source.input(1)
    common = 2 * max(_scale(x) for x in inputs)
    pairs = [_multiplier(source, _scale(x) / common) for x in inputs]
    ratio = common / (2**20 * _scale(source.output))
    return add, {
        "zero_points": tuple(int(x.zero_points[0]) for x in inputs),
        "multipliers": tuple(int(multiplier) for multiplier, _ in pairs),
        "shifts": tuple(int(shift) for _, shift in pairs),
        "output": _output(source, ratio, source.options.fusedActivationFunction),
    }


def _build_softmax(source: _Source) -> _Built:
    x = source.input(0)
    if x.shape[-1] > 511:  # LiteRT ends the process where the exponentials sum up to 512
        raise source.refuse(f"{x.shape[-1]} classes")
    # From a scale of 16 on, every exponential but exp(0) is 0 whatever the ratio.
    ratio = min(source.options.beta * _scale(x) * 2**26, 2.0**30 - 1)
    multiplier, shift = _multiplier(source, ratio)
    return softmax, {"multiplier": int(multiplier), "shift": int(shift)}


def _build_quantize(source: _Source) -> _Built:
    x = source.input(0)
    if x.dtype == np.float32:
        return quantize, {"params": source.output.params}
    output = _output(source, _scale(x) / _scale(source.output))
    return requantize, {"zero_point": int(x.zero_points[0]), "output": output}


def _build_dequantize(source: _Source) -> _Built:
    return dequantize, {"params": source.input(0).params}


def _build_relu(source: _Source) -> _Built:
    x = source.input(0)
    ratio = x.scales[0] / source.output.scales[0]  # in float32, as LiteRT does for this op
    activation = getattr(schema.ActivationFunctionType, source.name)
    output = _output(source, ratio, activation)
    return requantize, {"zero_point": int(x.zero_points[0]), "output": output}


def _build_reshape(source: _Source) -> _Built:
    return reshape, {"shape": source.output.shape[1:]}


def _build_pad(source: _Source) -> _Built:
    paddings = tuple((int(before), int(after)) for before, after in source.input(1).data)
    if paddings[0] != (0, 0):
        raise source.refuse("padding of the axis of the images")
    return pad, {"paddings": paddings, "value": int(source.output.zero_points[0])}


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
