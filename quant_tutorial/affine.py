"""Quantize and dequantize: the affine map between real numbers and n-bit integers (lesson 02).

    scale = (max − min) / (qmax − qmin)          zero_point = round(qmin − min / scale)
    q = clamp(round(x / scale) + zero_point, qmin, qmax)          x̂ = (q − zero_point) · scale

For signed n bits qmin = −2^(n−1) and qmax = 2^(n−1) − 1, so there are 2^n levels and 2^n − 1
intervals between them. The scheme is that of Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference" (CVPR 2018), and of the LiteRT 8-bit
quantization specification.

`round` rounds half away from zero, as LiteRT's reference QUANTIZE kernel does. NumPy and the
XNNPACK kernels round half to even, and TensorFlow's fake-quant op takes floor(x + ½). The results
differ only on ties.
"""

from __future__ import annotations

from dataclasses import dataclass

from quant_tutorial.arguments import checked_whole, is_whole

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

MIN_BITS = 2
MAX_BITS = 16


@dataclass(frozen=True, eq=False)
class QuantParams:
    """The quantization parameters of a tensor: bit width, scale(s) and zero point(s).

    Per tensor, `scale` is a float and `zero_point` an int. Per channel, both are read-only arrays
    of shape (channels,), and `axis` is the axis of the tensor along which the channels lie. The
    scale has the unit of the data: it is the distance between two neighbouring levels. Lesson 02;
    per channel, lesson 04.

    Raises:
        ValueError: for a bit width outside 2 to 16, a scale that is not positive and finite, a zero
            point outside the integer range, or an `axis` that does not match the scale's shape.
    """

    bits: int
    scale: float | NDArray[np.float64]
    zero_point: int | NDArray[np.int64] = 0
    signed: bool = True
    narrow_range: bool = False
    axis: int | None = None

    def __post_init__(self) -> None:
        """Check the fields and make per-channel arrays read-only."""
        object.__setattr__(self, "bits", checked_bits(self.bits))
        if self.axis is not None:
            if not is_whole(self.axis):
                raise ValueError(f"axis must be an integer or None, got {self.axis!r}.")
            object.__setattr__(self, "axis", int(self.axis))
        scale = np.array(self.scale, dtype=np.float64)
        zero_point = np.array(self.zero_point)
        if scale.ndim > 1 or (scale.ndim == 1) != (self.axis is not None):
            raise ValueError(
                f"axis={self.axis} does not go with a scale of shape {scale.shape}: give one scale "
                "and no axis (per tensor), or an array of scales and their axis (per channel)."
            )
        if not np.all(np.isfinite(scale) & (scale > 0)):
            raise ValueError(f"scale must be positive and finite, got {self.scale!r}.")
        if zero_point.dtype.kind not in "iu":
            raise ValueError(f"zero_point must be an integer, got {self.zero_point!r}.")
        if zero_point.ndim and zero_point.shape != scale.shape:
            raise ValueError(
                f"zero_point has shape {zero_point.shape}, scale has {scale.shape}: "
                "give one zero point, or one for each channel."
            )
        if not np.all((zero_point >= self.qmin) & (zero_point <= self.qmax)):
            raise ValueError(
                f"zero_point must lie in [{self.qmin}, {self.qmax}], got {self.zero_point!r}."
            )
        if scale.ndim == 0:
            object.__setattr__(self, "scale", float(scale))
            object.__setattr__(self, "zero_point", int(zero_point))
            return
        points = np.broadcast_to(zero_point, scale.shape).astype(np.int64)
        for name, array in (("scale", scale), ("zero_point", points)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __eq__(self, other: object) -> bool:
        """Return whether both objects hold the same parameters."""
        return isinstance(other, QuantParams) and self._key() == other._key()

    def __hash__(self) -> int:
        """Return a hash that agrees with `==`."""
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        numbers = np.asarray(self.scale).tobytes(), np.asarray(self.zero_point).tobytes()
        return (self.bits, self.signed, self.narrow_range, self.axis, *numbers)

    @property
    def qmin(self) -> int:
        """The smallest quantized integer."""
        return (-(2 ** (self.bits - 1)) if self.signed else 0) + self.narrow_range

    @property
    def qmax(self) -> int:
        """The largest quantized integer."""
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

    @property
    def levels(self) -> int:
        """The number of quantized integers, and so of representable real values."""
        return self.qmax - self.qmin + 1

    @property
    def minimum(self) -> float | NDArray[np.float64]:
        """The smallest representable real value, or one for each channel."""
        return (self.qmin - self.zero_point) * self.scale

    @property
    def maximum(self) -> float | NDArray[np.float64]:
        """The largest representable real value, or one for each channel."""
        return (self.qmax - self.zero_point) * self.scale

    @property
    def dtype(self) -> np.dtype:
        """The smallest NumPy integer type that holds every quantized integer."""
        size = 8 if self.bits <= 8 else 16
        return np.dtype(f"{'int' if self.signed else 'uint'}{size}")


def scale_and_zero_point(
    low: NDArray[np.float64], high: NDArray[np.float64], ends: QuantParams, *, symmetric: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scale and the zero point for real ranges [low, high] that contain 0 (lesson 02).

    `low` and `high` hold one entry for each range, and so do the results. `ends` supplies the ends
    of the integer range and, with `symmetric`, the zero point. A range of zero width gets scale 1.
    """
    if symmetric:  # the positive side, qmax − zero_point steps, reaches the larger magnitude
        scale = np.maximum(-low, high) / (ends.qmax - ends.zero_point)
        return _positive(scale), np.full(scale.shape, ends.zero_point)
    scale = _positive((high - low) / (ends.qmax - ends.qmin))
    zero_point = round_half_away(ends.qmin - low / scale)
    return scale, np.clip(zero_point, ends.qmin, ends.qmax)


def params_from_range(
    minimum: ArrayLike,
    maximum: ArrayLike,
    bits: int,
    *,
    symmetric: bool = False,
    narrow_range: bool = False,
    signed: bool = True,
    axis: int | None = None,
) -> QuantParams:
    """Return the quantization parameters that map [minimum, maximum] onto the integers.

    The range is first widened to contain 0, so that 0 is exactly representable; zero padding and
    ReLU need that. A range of zero width (only 0) gets scale 1. `scale_and_zero_point` is the bare
    formula. Lesson 02.

    Args:
        minimum: Lower end of the range: a number, or one for each channel, shape (channels,).
        maximum: Upper end of the range, of the same shape.
        bits: Bit width, 2 to 16.
        symmetric: Use the range [−m, m], where m is the larger magnitude, so that 0 maps to the
            middle: zero point 0 (2^(bits−1) when unsigned).
        narrow_range: Leave out the lowest integer. Together with `symmetric`, this is TFLite's
            scheme for weights.
        signed: Use integers from −2^(bits−1) upwards; if False, from 0 upwards.
        axis: The axis of the tensor along which the channels lie, if each has its own range.

    Raises:
        ValueError: for NaN or infinite ends, minimum > maximum, a bit width outside 2 to 16, or
            shapes that do not match.
    """
    low, high = _checked_range(minimum, maximum, axis)
    # The ends of the integer range do not depend on the scale, so any valid one will do.
    middle = 0 if signed else 2 ** (checked_bits(bits) - 1)
    ends = QuantParams(bits, 1.0, middle, signed, narrow_range)
    with np.errstate(over="ignore"):
        scale, zero_point = scale_and_zero_point(low, high, ends, symmetric=symmetric)
    if not np.all(np.isfinite(scale)):
        raise ValueError(f"maximum − minimum overflows, got {minimum!r} and {maximum!r}.")
    return QuantParams(ends.bits, scale, zero_point.astype(np.int64), signed, narrow_range, axis)


def round_half_away(values: ArrayLike) -> NDArray[np.floating]:
    """Round to the nearest integer, ties away from zero: 0.5 → 1, −0.5 → −1, 2.5 → 3.

    This is C's `round`, which LiteRT's reference QUANTIZE kernel uses; `np.round` rounds ties to
    the even neighbour instead. `values` may have any shape, and its floating-point type is kept.
    Lesson 02.
    """
    values = np.asarray(values)
    whole = np.trunc(values)
    # values − whole is exact, whereas floor(values + ½) would round 0.49999997 up in float32.
    return whole + np.sign(values) * (np.abs(values - whole) >= 0.5)


def quantize(x: ArrayLike, params: QuantParams) -> NDArray[np.integer]:
    """Quantize real numbers to the integers of `params`; values outside the range saturate.

    `x` may have any shape; per channel, the length of its axis `params.axis` must be the number of
    scales. The result has the same shape and the type `params.dtype`. The division is done in the
    precision of `x`, so that float32 input leads to exactly the integers of LiteRT's reference
    kernel. Lesson 02.

    Raises:
        ValueError: for NaN or infinite values, or a shape that does not match the parameters.
    """
    steps, zero_point = _steps(x, params)
    return np.add(steps, zero_point, dtype=np.int32, casting="unsafe").astype(params.dtype)


def dequantize(
    q: ArrayLike, params: QuantParams, dtype: DTypeLike = np.float32
) -> NDArray[np.floating]:
    """Convert quantized integers back to real numbers, (q − zero_point) · scale.

    `q` may have any shape, as for `quantize`. The result has the floating-point type `dtype`
    (LiteRT uses float32). Lesson 02.

    Raises:
        ValueError: for values that are not integers from qmin to qmax, or a shape that does not
            match the parameters.
    """
    q = np.asarray(q)
    if q.dtype.kind not in "iu":
        raise ValueError(f"q must hold integers, got {q.dtype}: quantize the values first.")
    if q.size and (q.min() < params.qmin or q.max() > params.qmax):
        raise ValueError(
            f"q must lie in [{params.qmin}, {params.qmax}], got values from {q.min()} to {q.max()}."
        )
    scale, zero_point = _broadcast("q", params, q.shape, np.dtype(dtype))
    return ((q.astype(np.int64) - zero_point).astype(dtype) * scale).astype(dtype)


def fake_quantize(x: ArrayLike, params: QuantParams) -> NDArray[np.floating]:
    """Quantize and dequantize: return the real values that the integers stand for.

    The result has the shape and floating-point type of `x`, except that Python numbers become
    float64 and float16 becomes float32. Lesson 02.

    Raises:
        ValueError: as for `quantize`.
    """
    # That is q − zero_point times the scale, without the way through integers and back.
    steps, _ = _steps(x, params)
    steps += 0.0  # −0.0, of which integers have none, becomes 0.0
    return steps * _broadcast("x", params, steps.shape, steps.dtype)[0]


def split_error(x: float, params: QuantParams) -> tuple[float, float]:
    """Split the error x̂ − x of one number into its rounding and its clipping error (lesson 02).

    The clipping error is the signed distance from x to the nearest real value in the range, and the
    rounding error is the remainder. One of the two is 0, or nearly so.
    """
    clipped = float(np.clip(x, params.minimum, params.maximum))
    return float(fake_quantize(x, params)) - clipped, clipped - x


def checked_bits(bits: int) -> int:
    """Return a bit width as a Python integer.

    Raises:
        ValueError: when it is not an integer from 2 to 16.
    """
    return checked_whole("bits", bits, MIN_BITS, MAX_BITS)


def _checked_range(
    minimum: ArrayLike, maximum: ArrayLike, axis: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper ends of one or several ranges, widened to contain 0."""
    low, high = (
        _finite(name, end).astype(np.float64)
        for name, end in (("minimum", minimum), ("maximum", maximum))
    )
    if low.shape != high.shape or low.ndim > 1 or (low.ndim == 1) != (axis is not None):
        raise ValueError(
            f"minimum has shape {low.shape}, maximum has {high.shape} and axis is {axis}: give two "
            "numbers and no axis (per tensor), or two arrays of shape (channels,) and their axis."
        )
    if np.any(low > high):
        worst = np.argmax(low - high)
        pair = f"{low.flat[worst]} > {high.flat[worst]}"
        raise ValueError(f"minimum must not exceed maximum, got {pair}: swap the two.")
    return np.minimum(low, 0.0), np.maximum(high, 0.0)


def _positive(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scale, replaced by 1 where it is 0 or too small to divide by accurately."""
    return np.where(scale < np.finfo(np.float64).tiny, 1.0, scale)


def _finite(name: str, values: ArrayLike) -> NDArray[np.floating]:
    """Return the values as float32 or float64, or raise a ValueError if one is not finite."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers, got {array.dtype}.")
    if array.dtype != np.float32:
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        raise ValueError(
            f"{name} must be finite, got {array[bad].flat[0]} ({bad.sum()} of {array.size} values)."
        )
    return array


def _steps(x: ArrayLike, params: QuantParams) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Return q − zero_point as whole floats of the type of `x`, a new array, and the zero point."""
    x = _finite("x", x)
    scale, zero_point = _broadcast("x", params, x.shape, x.dtype)
    # A quotient beyond the type's range becomes infinite, and saturates like any large one.
    with np.errstate(over="ignore"):
        steps = np.asarray(x / scale)
    # The limits are whole numbers: to clamp to them first changes nothing, and leaves no infinity.
    # Also, float32 has no room for a huge quotient plus 1.
    low, high = (np.asarray(end - zero_point, x.dtype) for end in (params.qmin, params.qmax))
    np.clip(steps, low, high, out=steps)
    whole = np.trunc(steps)
    # As `round_half_away`: twice the exact rest is ±1 or more where it is half a step or more.
    steps -= whole
    steps += steps
    whole += np.trunc(steps, out=steps)
    return whole, zero_point


def _broadcast(
    name: str, params: QuantParams, shape: tuple[int, ...], dtype: np.dtype
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Return scale and zero point in shapes that broadcast with a tensor of the given shape."""
    scale, zero_point = np.asarray(params.scale, dtype=dtype), np.asarray(params.zero_point)
    if not scale.all():
        raise ValueError(f"scale {params.scale} is too small for {dtype}: use float64 for {name}.")
    if params.axis is None:
        return scale, zero_point
    try:
        matches = shape[params.axis] == scale.size
    except IndexError:
        matches = False
    if not matches:
        raise ValueError(
            f"{name} has shape {shape}, which does not broadcast with {scale.size} scales on axis "
            f"{params.axis}: the length of that axis must be the number of scales."
        )
    ones = [1] * len(shape)
    ones[params.axis] = scale.size
    return scale.reshape(ones), zero_point.reshape(ones)
