"""Check the answers to the exercises of lesson 07."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from quant_tutorial import integer
from quant_tutorial.checks.registry import exercise, with_suspect
from quant_tutorial.integer import Output, fixed_point, rounding_shift

import numpy as np
from numpy.typing import NDArray

_INT32_MAX = 2**31 - 1


@exercise("07.1")
def _products_that_fit(answer: Any) -> str | None:
    right = _INT32_MAX // (255 * 127)
    mistakes = {
        "whole bits leave a product too much room: the largest one is below 2¹⁵.": (
            2**14,
            2**15 - 1,
            2**15,
            2**16,
            2**16 - 1,
        ),
        "the zero point is missing: how far apart can x and z be?": (
            _INT32_MAX // (128 * 127),
            _INT32_MAX // 127**2,
            _INT32_MAX // 128**2,
        ),
        "weights reach only from −127 to 127.": (_INT32_MAX // (255 * 128), _INT32_MAX // 255**2),
        "one bit of an int32 is the sign.": ((2**32 - 1) // (255 * 127),),
        "with one more than fit, the sum can overflow: round down.": (right + 1,),
    }
    value = float(answer)
    if value == right:
        return None
    for mistake, wrong in mistakes.items():
        if value in wrong:
            return mistake
    return "the largest |x − z| is 255, the largest |w| 127."


@exercise("07.2")
def _multiplier_and_shift(answer: Any) -> str | None:
    multiplier, shift = answer
    right = fixed_point(0.0037, bits=15)
    if (multiplier, shift) == right:
        return None
    if (shift, multiplier) == right:
        return "the order is (multiplier, shift)."
    if not float(multiplier).is_integer() or not float(shift).is_integer():
        return "both are integers."
    if not 2**14 <= multiplier < 2**15:
        return "the multiplier must have 15 bits: from 2^14 to 2^15 − 1."
    if (multiplier, -shift) == right:
        return "the shift has the wrong sign: a ratio below ½ needs a negative shift."
    if shift == right[1]:
        return "the shift is right. Is the multiplier rounded to the nearest integer?"
    return "0.0037 = fraction · 2^shift, ½ ≤ fraction < 1."


@exercise("07.3")
def _own_shift(answer: Any) -> str | None:
    big = 2**60 + np.arange(-3, 4)  # a float64 cannot hold all their bits
    x = np.concatenate([np.arange(-40, 41), big, -big]).astype(np.int64)
    for places in (1, 2, 5, 0):
        try:
            got = np.asarray(answer(x.copy(), places))
        except ValueError as error:  # Python's own integers refuse a negative shift
            if places or "shift" not in str(error):
                raise
            return _AT_ZERO
        if got.dtype.kind != "i":
            return f"the result must hold integers, got {got.dtype}."
        wrong = np.flatnonzero(got != rounding_shift(x, places))
        if wrong.size:
            first = x[wrong[0]]
            right = int(rounding_shift(first, places))
            return _why(x, got, places) or (
                f"{first} divided by 2^{places} must give {right}, not {got[wrong[0]]}."
            )
    return None


_AT_ZERO = "it fails at places = 0, where nothing is divided: half of 2⁰ is no integer."


def _why(x: NDArray[np.int64], got: NDArray[np.integer], places: int) -> str | None:
    """Return the mistake of a rounding shift, if it is a well-known one."""
    right = rounding_shift(x, places)
    small = np.abs(x) <= 40
    if np.array_equal(got[small], right[small]):
        return _AT_ZERO if places == 0 else "for large integers it is wrong: a float is in the way."
    half = (1 << places) >> 1
    known = {
        "a shift alone rounds down: −3 >> 1 is −2.": x >> places,
        "it rounds ties up, which is right for positive numbers only.": (x + half) >> places,
        "it cuts off the fraction instead of rounding.": np.sign(x) * (np.abs(x) >> places),
        "ties must go away from zero, not to the even neighbour.": np.rint(x / 2**places),
    }
    for mistake, wrong in known.items():
        if places and np.array_equal(got[small], wrong[small]):
            return mistake
    return None


class _Dense(tuple[Any, ...]):
    """A dense layer in integers: inputs, zero point, weights, biases, multiplier, shift, z_y."""

    __slots__ = ()


def _dense_layers() -> list[_Dense]:
    """Return two layers with zero points and ranges for which every mistake has its effect."""
    random, made = np.random.default_rng(7), []
    for z_x, z_y, units in ((-128, -20, 5), (-9, 15, 3)):
        q_x = random.integers(-128, 128, (30, 60)).astype(np.int8)
        q_w = random.integers(-127, 128, (units, 60)).astype(np.int8)
        q_b = random.integers(-90_000, 90_000, units).astype(np.int32)
        pairs = [fixed_point(ratio) for ratio in random.uniform(0.0006, 0.0019, units)]
        multiplier, shift = np.array(pairs, np.int64).T
        made.append(_Dense((q_x, z_x, q_w, q_b, multiplier, shift, z_y)))
    return made


_Function = Callable[..., NDArray[Any]]


def _sums(q_x: Any, z_x: int, q_w: Any, q_b: Any) -> NDArray[np.int64]:
    return q_b + (q_x.astype(np.int64) - z_x) @ q_w.astype(np.int64).T


def _wrapped(q_x: Any, z_x: int) -> NDArray[np.int64]:
    """Return q_x − z_x as 8-bit integers have it, which have no room for it."""
    return (q_x - np.int8(z_x)).astype(np.int64)


# What a reader's sums may be instead.
SUM_MISTAKES: Mapping[str, _Function] = MappingProxyType(
    {
        "the zero point is not subtracted": lambda q, z, w, b: _sums(q, 0, w, b),
        "the zero point is added": lambda q, z, w, b: _sums(q, -z, w, b),
        "the zero point is subtracted once for each output, and not for each input": (
            lambda q, z, w, b: _sums(q, 0, w, b) - z
        ),
        "the bias is missing": lambda q, z, w, b: _sums(q, z, w, 0 * b),
        "x − z is computed in 8 bits, which have no room for it": (
            lambda q, z, w, b: b + _wrapped(q, z) @ w.astype(np.int64).T
        ),
        "the products are added up in 8 bits": (lambda q, z, w, b: b + (q - np.int8(z)) @ w.T),
        "the products are added up in 16 bits": (
            lambda q, z, w, b: b + (q.astype(np.int16) - np.int16(z)) @ w.astype(np.int16).T
        ),
    }
)


@exercise("07.4")
def _own_sums(answer: Any) -> str | None:
    return _compared(answer, [layer[:4] for layer in _dense_layers()], _sums, SUM_MISTAKES)


def _dense(q_x: Any, z_x: int, q_w: Any, q_b: Any, m: Any, shift: Any, z_y: int) -> NDArray[Any]:
    scaled = integer.rescale_once(_sums(q_x, z_x, q_w, q_b), m << 31, shift)
    return np.clip(scaled + z_y, z_y, 127).astype(np.int8)


def _product(q_x: Any, z_x: int, q_w: Any, q_b: Any, m: Any) -> NDArray[np.int64]:
    return _sums(q_x, z_x, q_w, q_b) * m


def _rounded_down(q: Any, z: int, w: Any, b: Any, m: Any, s: Any, z_y: int) -> NDArray[Any]:
    return np.clip((_product(q, z, w, b, m) >> (31 - s)) + z_y, z_y, 127)


def _unclamped(q: Any, z: int, w: Any, b: Any, m: Any, s: Any, z_y: int) -> NDArray[np.int64]:
    return integer.rescale_once(_sums(q, z, w, b), m << 31, s) + z_y


def _in_32_bits(q: Any, z: int, w: Any, b: Any, m: Any, s: Any, z_y: int) -> NDArray[Any]:
    cut = _product(q, z, w, b, m).astype(np.int32).astype(np.int64)
    half = np.left_shift(1, 30 - s)
    return np.clip(((cut + half) >> (31 - s)) + z_y, z_y, 127)


# What a reader's dense layer may do instead.
DENSE_MISTAKES: Mapping[str, _Function] = MappingProxyType(
    {
        "the ReLU is missing": lambda *a: np.clip(_unclamped(*a), -128, 127),
        "the ReLU clamps at the integer 0. Which integer stands for the real 0?": (
            lambda *a: np.clip(_unclamped(*a), 0, 127)
        ),
        "values beyond 127 are not clamped: they wrap around when they become int8": (
            lambda *a: np.maximum(_unclamped(*a), a[-1]).astype(np.int8)
        ),
        "nothing clamps at the upper end": lambda *a: np.maximum(_unclamped(*a), a[-1]),
        "the zero point of the output is missing": lambda *a: np.clip(
            _unclamped(*a[:-1], 0), 0, 127
        ),
        "the zero point of the output is subtracted": lambda *a: np.clip(
            _unclamped(*a[:-1], 0) - a[-1], -a[-1], 127
        ),
        "the product does not fit into 32 bits": _in_32_bits,
        "it rounds down": _rounded_down,
        "it uses the multiplier and shift of unit 0 for all units": (
            lambda q, z, w, b, m, s, z_y: _dense(q, z, w, b, m[:1], s[:1], z_y)
        ),
        "the shift has no effect": lambda q, z, w, b, m, s, z_y: _dense(q, z, w, b, m, 0 * s, z_y),
    }
)


@exercise("07.5")
def _own_dense(answer: Any) -> str | None:
    layers = _dense_layers()
    hint = _compared(answer, layers, _dense, DENSE_MISTAKES)
    if hint is None and np.asarray(answer(*layers[0])).dtype != np.int8:
        return "the values are right; the outputs must be int8."
    return hint


def _compared(
    answer: Any, layers: list[Any], right: _Function, mistakes: Mapping[str, _Function]
) -> str | None:
    """Return None for a function that computes what `right` does, or else its mistake."""
    suspects = dict(mistakes)
    found = None
    for layer in layers:
        expected = right(*layer)
        got = np.asarray(answer(*layer))
        if got.shape != expected.shape:
            return (
                f"for inputs of shape {layer[0].shape} and weights of shape {layer[2].shape} the "
                f"result must have the shape {expected.shape}, and yours has {got.shape}."
            )
        if got.dtype.kind != "i":
            return f"the result must hold integers, got {got.dtype}: no float is needed."
        suspects = {h: f for h, f in suspects.items() if np.array_equal(got, f(*layer))}
        wrong = np.argwhere(got != expected)
        if wrong.size and found is None:
            place = tuple(wrong[0].tolist())
            most = np.abs(got.astype(np.int64) - expected).max()
            found = (
                f"{len(wrong)} of {got.size} values are wrong, by {most:,} at most; the one at "
                f"{place} must be {expected[place]}, not {got[place]}."
            )
    return with_suspect(found, suspects)


def _kernel(
    *,
    fill: int = 0,
    bias: bool = True,
    down: bool = False,
    shared: bool = False,
    wraps: bool = False,
) -> _Function:
    """Return a convolution kernel with one fault, or with none."""

    def kernel(x: NDArray[np.int8], layer: Mapping[str, Any]) -> NDArray[np.int8]:
        known: Output = layer["output"]
        steps = integer.subtract_zero_point(x, layer["zero_point"])
        weights = layer["weights"].astype(np.int32)
        size = weights.shape[1:3]
        value = fill and fill - layer["zero_point"]
        patches = integer.windows(steps, size, layer["strides"], layer["padding"], value)
        sums = np.einsum("nyxijc,oijc->nyxo", patches, weights) + bias * layer["bias"]
        multiplier, shift = known.multiplier, known.shift
        if shared:
            multiplier, shift = multiplier[:1], shift[:1]
        if down:
            scaled = sums.astype(np.int64) * multiplier >> (31 - shift)
        else:
            scaled = integer.rescale(sums, multiplier, shift)
        shifted = scaled.astype(np.int64) + known.zero_point
        top = None if wraps else known.highest
        return np.clip(shifted, known.lowest, top).astype(np.int8)

    return kernel


FAULTS = MappingProxyType(
    {
        0: "nothing is wrong",
        1: "it pads with another integer than the zero point",
        2: "it leaves out the bias",
        3: "it rounds down instead of to the nearest",
        4: "it uses the multiplier of channel 0 for all channels",
        5: "it wraps around at the upper end instead of clamping",
    }
)
# Kernels for a CONV_2D; each takes inputs and the layer's arguments. Which of them lie?
KERNELS: Mapping[str, _Function] = MappingProxyType(
    {
        "A": _kernel(down=True),
        "B": _kernel(wraps=True),
        "C": _kernel(),
        "D": _kernel(fill=-125),
        "E": _kernel(shared=True),
    }
)
_RIGHT = {"A": 3, "B": 5, "C": 0, "D": 1, "E": 4}
_WAYS = {
    "A": "Are its errors large or small, and do they all have the same sign?",
    "B": "Where is it different from the reference, and for which inputs? Images are not all the "
    "inputs that there are.",
    "C": "Did you find an input for which it differs from the reference?",
    "D": "At which pixels does it differ from the reference?",
    "E": "In which output channels does it differ from the reference?",
}


@exercise("07.6")
def _faults(answer: Any) -> str | None:
    if not isinstance(answer, Mapping) or set(answer) != set(KERNELS):
        return f"a dictionary is needed, with a number for each of {', '.join(KERNELS)}."
    unknown = [number for number in answer.values() if number not in FAULTS]
    if unknown:
        return f"the faults have the numbers {min(FAULTS)} to {max(FAULTS)}, not {unknown[0]!r}."
    for letter, number in answer.items():
        if _RIGHT[letter] != number:
            return f'kernel {letter} is not that "{FAULTS[number]}". {_WAYS[letter]}'
    return None
