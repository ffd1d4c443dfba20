"""Check the answers to the exercises of lesson 02."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

from quant_tutorial.affine import (
    QuantParams,
    fake_quantize,
    params_from_range,
    quantize,
    round_half_away,
)
from quant_tutorial.checks.registry import exercise, number_hint
from quant_tutorial.metrics import mse, sqnr_db

import numpy as np
from numpy.typing import NDArray


@exercise("02.1")
def _scale(answer: Any) -> str | None:
    mistakes = {
        "this counts as many intervals as levels. Draw four levels and count the gaps.": 4 / 16,
        "this is how many steps there are in one unit, the inverse of what is asked.": 15 / 4,
        "this leaves out the part of the range below 0. How wide is it from end to end?": 1 / 15,
        "a distance is never negative. How wide is the range from end to end?": -2 / 15,
        "this is symmetric and in the narrow range; here all 16 levels cover [−3, 1].": 3 / 7,
        "this is the scale of a symmetric range; here the range is [−3, 1].": 6 / 15,
        "this is the scale at 8 bits.": 4 / 255,
    }
    return number_hint(
        answer, params_from_range(-3, 1, 4).scale, mistakes, "how wide is the range?"
    )


@exercise("02.2")
def _zero_point(answer: Any) -> str | None:
    mistakes = {
        "is the scale right: how many intervals lie between 256 levels? And which integer is the "
        "nearest?": 64,
        "a zero point is an integer.": -128 + 3 / (4 / 255),
        "this counts from 0. Which integer stands for the minimum at 8 bits, signed?": 191,
        "this counts from 0, and with as many intervals as levels.": 192,
        "no 8-bit integer is that low. 0 lies above the minimum, so in which direction do you "
        "count from the lowest integer?": -319,
        "the sign is wrong. Quantize −3 with this zero point: which integer stores it?": -63,
        "this is the zero point of symmetric quantization; here the range is [−3, 1].": 0,
        "this is the integer that stands for the minimum, and not for 0.": -128,
        "this is the zero point at 4 bits.": 3,
    }
    hint = "how many steps lie between the minimum and 0, and from which integer are they counted?"
    return number_hint(answer, params_from_range(-3, 1, 8).zero_point, mistakes, hint)


@exercise("02.3")
def _by_hand(answer: Any) -> str | None:
    numbers, params = np.array([-3.2, 0.625, 1.7]), QuantParams(4, 0.25, 3)
    right, given = fake_quantize(numbers, params), np.asarray(answer, float)
    if given.shape != right.shape:
        return "three numbers are needed, in a list."
    if np.allclose(given, right):
        return None
    steps = round_half_away(numbers / params.scale)
    q = quantize(numbers, params)
    unclamped = steps * params.scale
    mistakes = {
        "these are the integers. Now dequantize them.": q,
        "when you dequantize, the zero point is missing.": q * params.scale,
        "two of these need an integer that 4 bits do not have. Which step is missing?": unclamped,
        "this clamps too early: add the zero point first.": (
            np.clip(steps, params.qmin, params.qmax) * params.scale
        ),
        "the integers are signed: they do not begin at 0.": (
            (np.clip(steps + 3, 0, 15) - 3) * params.scale
        ),
        "the zero point has the wrong sign in both directions.": (
            (np.clip(steps - 3, params.qmin, params.qmax) + 3) * params.scale
        ),
    }
    for hint, wrong in mistakes.items():
        if np.allclose(given, wrong):
            return hint
    names = ("first", "second", "third")
    wrong_ones = [name for name, ok in zip(names, np.isclose(given, right), strict=True) if not ok]
    if wrong_ones == ["second"]:
        return "the second is a tie. Which way does it go in this course?"
    return f"look again at the {' and the '.join(wrong_ones)}: which integer stores it?"


_Quantize = Callable[[NDArray[np.float64], float, int], NDArray[np.floating]]

# What a reader's function may do instead. Each is tried on the same numbers.
_SUSPECTS: dict[str, _Quantize] = {
    "ties go to the even neighbour": lambda x, s, z: np.clip(np.round(x / s) + z, -128, 127),
    "ties go up": lambda x, s, z: np.clip(np.floor(x / s + 0.5) + z, -128, 127),
    "numbers are cut off and not rounded": lambda x, s, z: np.clip(np.trunc(x / s) + z, -128, 127),
    "numbers are rounded down, not to the nearest": (
        lambda x, s, z: np.clip(np.floor(x / s) + z, -128, 127)
    ),
    "nothing is clamped": lambda x, s, z: round_half_away(x / s) + z,
    "integers outside int8 wrap around: it converts before it clamps": (
        lambda x, s, z: (round_half_away(x / s) + z).astype(np.int64).astype(np.int8)
    ),
    "the zero point is missing": lambda x, s, z: np.clip(round_half_away(x / s), -128, 127),
    "the zero point is subtracted": lambda x, s, z: np.clip(round_half_away(x / s) - z, -128, 127),
    "it clamps before it adds the zero point": (
        lambda x, s, z: np.clip(round_half_away(x / s), -128, 127) + z
    ),
    "it rounds after it has added the zero point, which sends some ties the other way": (
        lambda x, s, z: np.clip(round_half_away(x / s + z), -128, 127)
    ),
    "it multiplies by the scale": lambda x, s, z: np.clip(round_half_away(x * s) + z, -128, 127),
}


@exercise("02.4")
def _own_quantize(answer: Any) -> str | None:
    suspects = dict(_SUSPECTS)
    found = None
    for params in (QuantParams(8, 0.25, 3), QuantParams(8, 0.5, -128), QuantParams(8, 1.0, 0)):
        far = 400 * params.scale
        ties = (np.arange(-9, 10) + 0.5) * params.scale
        x = np.concatenate([ties, np.linspace(-far, far, 1001), [-1e4, 1e4]])
        right = quantize(x, params)
        given = np.asarray(answer(x, params.scale, params.zero_point))
        if given.shape != right.shape:
            return (
                f"for an array of shape {x.shape} it must return an array of the same shape, and "
                f"your function returns the shape {given.shape}."
            )
        suspects = {
            hint: suspect
            for hint, suspect in suspects.items()
            if np.array_equal(given, suspect(x, params.scale, params.zero_point))
        }
        wrong = np.flatnonzero(given != right)
        if wrong.size and found is None:
            first = wrong[0]
            found = (
                f"x = {x[first]:g} with scale {params.scale:g} and zero point {params.zero_point} "
                f"must give {right[first]}, and your function gives {given[first]:g}."
            )
    if found is None:
        return None
    return found.replace(" -", " −") + "".join(f" It seems that {s}." for s in list(suspects)[:1])


@exercise("02.5")
def _balanced_range(answer: Any) -> str | None:
    mistakes = {
        "this compares with a whole scale. How far can a number be from its nearest level?": (
            150 / 16
        ),
        "this counts 16 intervals, or has too few digits.": 320 / 33,
        "this compares with a whole scale, and counts 16 intervals.": 160 / 17,
    }
    c = float(answer)
    hint = "c must be positive."
    if c >= 10:
        hint = "with this range 10 is not clipped at all."
    elif c > 0:
        hint = f"with this c, 10 is off by {10 - c:.4g} and rounding errors reach {c / 30:.4g}."
    return number_hint(c, 300 / 31, mistakes, hint)


@exercise("02.6")
def _bits_for_error(answer: Any) -> str | None:
    if len(answer) != 2:
        return "two numbers are needed: (bit width, largest rounding error)."
    bits, error = (float(number) for number in answer)
    right = next(n for n in range(2, 17) if params_from_range(0, 4, n).scale / 2 <= 1 / 128)
    if bits != right:
        hints = {
            right - 1: "this misses the bound narrowly. How many intervals lie between its levels?",
            right + 1: "fewer bits are enough. How far can a number be from its nearest level?",
        }
        return hints.get(int(bits), "try your bit width: how large is its scale?")
    mistakes = {
        "the bit width is right; this is its scale. How far can a number be from its level?": (
            4 / 511
        ),
        "the bit width is right; the error counts as many intervals as levels.": 4 / 512 / 2,
        "the bit width is right; this is the bound. How large is the error at that width?": 1 / 128,
    }
    hint = "the bit width is right, the largest error is not."
    return number_hint(error, params_from_range(0, 4, right).scale / 2, mistakes, hint)


_LOW, _HIGH, _BITS = -3.0, 1.0, 4  # where each wrong formula fails visibly


def _formula(name: str, x: float) -> float:
    """Return x̂ by one of the exercise's formulas, for the range [−3, 1] at 4 bits."""
    qmin, qmax = -(2 ** (_BITS - 1)), 2 ** (_BITS - 1) - 1
    s = (_HIGH - _LOW) / (2**_BITS - (name != "D"))
    z = float(round_half_away(qmax - _HIGH / s if name == "A" else qmin - _LOW / s))
    steps = float(round_half_away(x / s))
    q = min(max(steps + z, qmin), qmax)
    if name == "B":
        return s * q + z
    if name == "C":
        return s * (min(max(steps, qmin), qmax) + z - z)
    if name == "E":
        q = min(max(float(round_half_away(x / s + z)), qmin), qmax)
    if name == "F":
        return float(round_half_away((x - _LOW) / s)) * s + _LOW
    return s * (q - z)


@exercise("02.7")
def _formulas(answer: Any) -> str | None:
    text = answer.upper().replace("AND", " ") if isinstance(answer, str) else answer
    given = {str(letter).strip().upper() for letter in text if str(letter).strip(" ,;/&+")}
    if not given or not given <= set("ABCDEF"):
        return 'letters from A to F are needed, such as "BC".'
    scale = (_HIGH - _LOW) / (2**_BITS - 1)
    for name in sorted(given):
        for x in (0.0, _LOW, _HIGH):
            x_hat = _formula(name, x)
            if abs(x_hat - x) > (0 if x == 0 else scale / 2 + 1e-9):
                return (
                    f"one that you accept returns {x:g} as {x_hat:.3g} for the range [−3, 1] at 4 "
                    "bits. Which requirement does that break?"
                ).replace(" -", " −")
    if given != set("AE"):
        return (
            "all that you accept are right, and there is one more. A formula can look different "
            "and return the same numbers: try those that you reject on [−3, 1] at 4 bits."
        )
    return None


@cache
def _conv3() -> NDArray[np.float32]:
    from quant_tutorial import models

    return models.load_baseline().get_layer("conv3").kernel.numpy()


@exercise("02.8")
def _own_range(answer: Any) -> str | None:
    kernel, c = _conv3(), float(answer)
    if not 0 < c < math.inf:
        return "c must be a positive number."
    params = params_from_range(-c, c, 3, symmetric=True, narrow_range=True)
    found = fake_quantize(kernel, params)
    ratio = sqnr_db(kernel, found)
    if ratio >= 13.3:
        return None
    clipping = mse(kernel, np.clip(kernel, params.minimum, params.maximum)) / mse(kernel, found)
    direction = "wide" if clipping < 0.25 else "narrow"
    return (
        f"this range reaches {ratio:.1f} dB. {clipping:.0%} of the noise comes from clipping and "
        f"the rest from rounding, so the range is too {direction}."
    )
