"""The exercises of lesson 02: right answers, and the hint that each typical mistake gets."""

from typing import Any

from quant_tutorial.affine import params_from_range
from quant_tutorial.checks import lesson_02

import numpy as np
import pytest
from test_checks import said

pytestmark = pytest.mark.slow


def half_away(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


def right_quantize(x: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    return np.clip(half_away(x / scale) + zero_point, -128, 127).astype(np.int8)


RIGHT = [
    ("02.1", 4 / 15),
    ("02.1", 0.2667),
    ("02.1", np.float32(0.2667)),
    ("02.2", 63),
    ("02.2", 63.0),
    ("02.2", np.int8(63)),
    ("02.3", [-2.75, 0.75, 1.0]),
    ("02.3", (-2.75, np.float32(0.75), 1)),
    ("02.4", right_quantize),
    ("02.4", lambda x, s, z: np.clip(half_away(x / s), -128 - z, 127 - z) + z),
    ("02.5", 300 / 31),
    ("02.5", 9.68),
    ("02.6", (9, 2 / 511)),
    ("02.6", (9, 0.003914)),
    ("02.6", [np.int64(9), 0.00391]),
    ("02.6", (9.0, 1 / 255.5)),
    ("02.7", "AE"),
    ("02.7", "e, a"),
    ("02.7", "A and E"),
    ("02.7", {"A", "E"}),
    ("02.7", ["A", "E"]),
    ("02.8", 0.45),
    ("02.8", np.float32(0.43)),
]


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_right(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any) -> None:
    assert said(capsys, exercise, answer) == f"Exercise {exercise}: right.\n"


WRONG = [
    ("02.1", 4 / 16, "as many intervals as levels"),
    ("02.1", 15 / 4, "the inverse"),
    ("02.1", 1 / 15, "leaves out the part of the range below 0"),
    ("02.1", -2 / 15, "a distance is never negative"),
    ("02.1", 3 / 7, "in the narrow range"),
    ("02.1", 6 / 15, "the scale of a symmetric range"),
    ("02.1", 4 / 255, "the scale at 8 bits"),
    ("02.1", 0.27, "more digits"),
    ("02.1", 1.0, "how wide is the range?"),
    ("02.2", 64, "how many intervals lie between 256 levels?"),
    ("02.2", 63.25, "a zero point is an integer"),
    ("02.2", 191, "this counts from 0. "),
    ("02.2", 192, "and with as many intervals as levels"),
    ("02.2", -319, "in which direction"),
    ("02.2", -63, "the sign is wrong"),
    ("02.2", 0, "symmetric"),
    ("02.2", -128, "stands for the minimum"),
    ("02.2", 3, "at 4 bits"),
    ("02.2", 62, "how many steps lie between"),
    ("02.3", [-8, 6, 7], "these are the integers"),
    ("02.3", [-2, 1.5, 1.75], "the zero point is missing"),
    ("02.3", [-3.25, 0.75, 1.75], "Which step is missing?"),
    ("02.3", [-2, 0.75, 1.75], "clamps too early"),
    ("02.3", [-0.75, 0.75, 1.75], "the integers are signed"),
    ("02.3", [-1.25, 0.75, 1.75], "the wrong sign"),
    ("02.3", [-2.75, 0.5, 1], "the second is a tie"),
    ("02.3", [-2.5, 0.75, 1.25], "look again at the first and the third"),
    ("02.3", [0.75, 1], "three numbers"),
    ("02.5", 9.375, "a whole scale. How far"),
    ("02.5", 320 / 33, "16 intervals, or"),
    ("02.5", 160 / 17, "a whole scale, and counts 16"),
    ("02.5", 10, "not clipped at all"),
    ("02.5", 8, "10 is off by 2 and rounding errors reach 0.2667"),
    ("02.5", 0, "must be positive"),
    ("02.6", (8, 2 / 255), "misses the bound narrowly"),
    ("02.6", (10, 2 / 1023), "fewer bits are enough"),
    ("02.6", (5, 0.01), "try your bit width"),
    ("02.6", (9, 4 / 511), "this is its scale"),
    ("02.6", (9, 2 / 512), "as many intervals as levels"),
    ("02.6", (9, 1 / 128), "this is the bound"),
    ("02.6", (9, 1), "the largest error is not"),
    ("02.6", (9,), "two numbers"),
    ("02.7", "A", "there is one more"),
    ("02.7", "ABE", "returns 0 as 3.8 "),
    ("02.7", "ACE", "returns −3 as −2.13 "),
    ("02.7", "ADE", "returns 1 as 0.75 "),
    ("02.7", "EF", "returns 0 as −0.0667 "),
    ("02.7", "AX", "letters from A to F"),
    ("02.8", 0.82145333, "8.8 dB. 0% of the noise comes from clipping"),
    ("02.8", 0.6, "too wide"),
    ("02.8", 0.2, "too narrow"),
    ("02.8", -0.45, "must be a positive number"),
]


@pytest.mark.parametrize(("exercise", "answer", "hint"), WRONG)
def test_wrong(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any, hint: str) -> None:
    told = said(capsys, exercise, answer)
    assert told.startswith(f"Exercise {exercise}: not yet: ")
    assert hint in told


@pytest.mark.parametrize("mistake", lesson_02._SUSPECTS)
def test_own_quantize(capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    told = said(capsys, "02.4", lesson_02._SUSPECTS[mistake])
    assert f"It seems that {mistake}." in told


def test_own_quantize_says_what_it_gave(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "02.4", lambda x, s, z: np.full(x.shape, 5))
    assert "must give −6, and your function gives 5.\n" in told
    wraps = said(capsys, "02.4", lambda x, s, z: (half_away(x / s) + z).astype(int).astype(np.int8))
    assert "it converts before it clamps" in wraps
    assert "must return an array of the same shape" in said(capsys, "02.4", lambda x, s, z: 0)


def test_the_right_formulas_are_the_lessons() -> None:
    params = params_from_range(lesson_02._LOW, lesson_02._HIGH, lesson_02._BITS)
    levels = (np.arange(params.qmin, params.qmax + 1) - params.zero_point) * params.scale
    for name in "AE":
        for x in np.linspace(lesson_02._LOW, lesson_02._HIGH, 101):
            found = lesson_02._formula(name, x)
            assert np.abs(levels - found).min() < 1e-12
            assert abs(found - x) <= params.scale / 2 + 1e-12
        assert lesson_02._formula(name, 0.0) == 0


def test_the_numbers_tell_the_mistakes_apart() -> None:
    for exercise, right in (("02.1", 4 / 15), ("02.5", 300 / 31)):
        wrong = [answer for number, answer, _ in WRONG if number == exercise]
        answers = sorted([right, *wrong])
        assert np.diff(answers).min() > 1e-3 * max(map(abs, answers)) / 2
