"""The exercises of lesson 07: right answers, and the hint that each typical mistake gets."""

from collections.abc import Callable
from typing import Any

from quant_tutorial import integer
from quant_tutorial.checks import lesson_07

import numpy as np
import pytest
from test_checks import said

pytestmark = pytest.mark.slow


def shifted(x: np.ndarray, places: Any) -> np.ndarray:
    return np.sign(x) * ((np.abs(x) + (np.left_shift(1, places) >> 1)) >> places)


def with_floats(x: np.ndarray, places: int) -> np.ndarray:
    return (np.sign(x) * np.floor(np.abs(x) / 2**places + 0.5)).astype(np.int64)


def half_from_the_shift(x: np.ndarray, places: int) -> np.ndarray:
    return np.sign(x) * ((np.abs(x) + (1 << places - 1)) >> places)


def half_as_numpy_has_it(x: np.ndarray, places: int) -> np.ndarray:
    half = np.left_shift(1, abs(places - 1))
    return np.sign(x) * ((np.abs(x) + half) >> places)


def sums(q_x: np.ndarray, z_x: int, q_w: np.ndarray, q_b: np.ndarray) -> np.ndarray:
    return q_b + (q_x.astype(np.int32) - z_x) @ q_w.T.astype(np.int32)


def folded(q_x: np.ndarray, z_x: int, q_w: np.ndarray, q_b: np.ndarray) -> np.ndarray:
    wide = q_w.astype(np.int64)
    return q_b - z_x * wide.sum(axis=1) + q_x.astype(np.int64) @ wide.T


def dense(
    q_x: np.ndarray, z_x: int, q_w: np.ndarray, q_b: np.ndarray, m: Any, s: Any, z_y: int
) -> np.ndarray:
    scaled = shifted(sums(q_x, z_x, q_w, q_b).astype(np.int64) * m, 31 - s)
    return np.clip(scaled + z_y, z_y, 127).astype(np.int8)


def relu_before(*layer: Any) -> np.ndarray:
    """ReLU on the accumulators, which is the same."""
    q_x, z_x, q_w, q_b, m, s, z_y = layer
    positive = np.maximum(sums(q_x, z_x, q_w, q_b), 0).astype(np.int64)
    return np.minimum(shifted(positive * m, 31 - s) + z_y, 127).astype(np.int8)


FAULTS = {"A": 3, "B": 5, "C": 0, "D": 1, "E": 4}
RIGHT = [
    ("07.1", 66311),
    ("07.2", (31038, -8)),
    ("07.3", shifted),
    ("07.3", lambda x, places: integer.rounding_shift(x, places)),
    ("07.4", sums),
    ("07.4", folded),
    ("07.5", dense),
    ("07.5", relu_before),
    ("07.6", FAULTS),
]


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_right(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any) -> None:
    assert said(capsys, exercise, answer) == f"Exercise {exercise}: right.\n"


WRONG = [
    ("07.1", 2**16, "whole bits leave a product too much room"),
    ("07.1", (2**31 - 1) // 127**2, "the zero point is missing"),
    ("07.1", (2**31 - 1) // (128 * 127), "the zero point is missing"),
    ("07.1", (2**31 - 1) // (255 * 128), "weights reach only from −127"),
    ("07.1", (2**32 - 1) // (255 * 127), "the sign"),
    ("07.1", 66312, "round down"),
    ("07.1", 7, "the largest |x − z| is 255"),
    ("07.2", (31038, 8), "the shift has the wrong sign"),
    ("07.2", (-8, 31038), "the order is"),
    ("07.2", (31037, -8), "rounded to the nearest integer"),
    ("07.2", (31038.2016, -8), "both are integers"),
    ("07.2", (31038, -7), "0.0037 = fraction"),
    ("07.2", (15519, -7), "must have 15 bits"),
    ("07.2", (121, 0), "must have 15 bits"),
    ("07.2", (31038,), "could not use this answer"),
    ("07.3", lambda x, n: x >> n, "a shift alone rounds down"),
    ("07.3", lambda x, n: (x + ((1 << n) >> 1)) >> n, "rounds ties up"),
    ("07.3", lambda x, n: np.sign(x) * (np.abs(x) >> n), "cuts off the fraction"),
    ("07.3", lambda x, n: np.rint(x / 2**n).astype(np.int64), "to the even neighbour"),
    ("07.3", lambda x, n: np.round(x / 2**n), "must hold integers"),
    ("07.3", lambda x, n: x // 3, "must give"),
    ("07.3", with_floats, "a float is in the way"),
    ("07.3", half_from_the_shift, "at places = 0"),
    ("07.3", half_as_numpy_has_it, "divided by 2^0 must give -40"),
    ("07.4", lambda *a: sums(*a).T, "must have the shape (30, 5), and yours has (5, 30)"),
    ("07.4", lambda *a: sums(*a).astype(float), "no float is needed"),
    ("07.4", lambda *a: sums(*a) + 1, "150 of 150 values are wrong, by 1 at most"),
    ("07.5", lambda *a: dense(*a).astype(np.int32), "the outputs must be int8"),
    ("07.5", lambda *a: dense(*a)[:, :1], "must have the shape (30, 5)"),
    ("07.5", lambda *a: dense(*a) + np.int8(1), "the one at (0, 0) must be"),
    ("07.6", FAULTS | {"B": 0}, "Images are not all the inputs that there are"),
    ("07.6", FAULTS | {"A": 5}, "do they all have the same sign"),
    ("07.6", FAULTS | {"D": 2}, "At which pixels"),
    ("07.6", FAULTS | {"E": 2}, "In which output channels"),
    ("07.6", FAULTS | {"C": 5}, "Did you find an input"),
    ("07.6", FAULTS | {"C": 9}, "have the numbers 0 to 5, not 9"),
    ("07.6", {"A": 3}, "with a number for each of A, B, C, D, E"),
]


@pytest.mark.parametrize(("exercise", "answer", "hint"), WRONG)
def test_wrong(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any, hint: str) -> None:
    told = said(capsys, exercise, answer)
    assert told.startswith(f"Exercise {exercise}: not yet: ")
    assert hint in told


@pytest.mark.parametrize(
    ("exercise", "mistakes"),
    [("07.4", lesson_07.SUM_MISTAKES), ("07.5", lesson_07.DENSE_MISTAKES)],
    ids=["07.4", "07.5"],
)
def test_known_mistakes(
    capsys: pytest.CaptureFixture[str], exercise: str, mistakes: dict[str, Callable[..., Any]]
) -> None:
    for mistake, wrong in mistakes.items():
        assert f"It seems that {mistake}." in said(capsys, exercise, wrong)


def test_a_shift_that_fails_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert "could not use this answer" in said(capsys, "07.3", lambda x, n: x.reshape(7, n))
    assert "negative shift" in said(capsys, "07.3", lambda x, n: x >> (1 << n - 2))


def test_one_kernel_is_right_on_a_hundred_images(x_test: np.ndarray) -> None:
    from quant_tutorial import affine, models

    model = integer.load(models.load_int8_baseline())
    first = model.steps[0]
    images = affine.quantize(x_test, model.tensors[model.input].params)
    ends = np.random.default_rng(0).random((50, 28, 28, 1)) < 0.5
    extreme = np.where(ends, -128, 127).astype(np.int8)
    for x, letters in ((images[:100], "BC"), (extreme, "C")):
        right = first.function(x, **first.arguments)
        kernels = lesson_07.KERNELS.items()
        same = [n for n, k in kernels if np.array_equal(k(x, first.arguments), right)]
        assert "".join(same) == letters
