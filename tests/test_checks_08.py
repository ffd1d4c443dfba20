"""The exercises of lesson 08: right answers, and the hint that each typical mistake gets."""

from collections.abc import Callable
from typing import Any

from quant_tutorial import qat, tflite
from quant_tutorial.checks import lesson_08

import keras
import numpy as np
import pytest
from test_checks import said

pytestmark = pytest.mark.slow


def scale_gradient(x: np.ndarray, scale: float, low: int, high: int) -> np.ndarray:
    steps = x / scale
    clipped = np.clip(steps, low, high)
    return np.where(clipped == steps, np.round(steps) - steps, clipped)


RIGHT = [
    ("08.1", [0, 3, 3, 0]),
    ("08.1", np.array([0.0, 3.0, 3.0, 0.0])),
    ("08.2", scale_gradient),
    ("08.2", lambda *a: scale_gradient(*a).astype(np.float32)),
    ("08.5", "ABCD"),
    ("08.5", ["a", "b", "c", "d"]),
    ("08.5", "A, B, C, D"),
]


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_right(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any) -> None:
    assert said(capsys, exercise, answer) == f"Exercise {exercise}: right.\n"


WRONG = [
    ("08.1", [0, 0, 0, 0], "the gradient of the staircase itself"),
    ("08.1", [3, 3, 3, 3], "clipped values do not change"),
    ("08.1", [0, 1, 1, 0], "Here it is 3"),
    ("08.1", [0, 0.75, 0.75, 0], "÷ s and · s cancel"),
    ("08.1", [0, 12, 12, 0], "· s and ÷ s cancel"),
    ("08.1", [3, 0, 0, 3], "where gradients do not pass"),
    ("08.1", [0, 3, 3, 3], "number 4: 1.8 is rounded to the highest level"),
    ("08.1", [3, 3, 3, 0], "look at number 1"),
    ("08.1", [0, 3], "four numbers"),
    ("08.2", lambda *a: scale_gradient(*a) + 1, "it is "),
    ("08.2", lambda *a: scale_gradient(*a)[:5], "must have the shape"),
    ("08.2", 0.5, "a function is needed"),
    ("08.5", "AAAA", "team 2 loses 2 points"),
    ("08.5", "CBCD", "training gains next to nothing at 8 bits"),
    ("08.5", "ACCD", "team 2 has no labels"),
    ("08.5", "ABBD", "what does B offer that team 3 has not done"),
    ("08.5", "ABCC", "Training would make it no faster"),
    ("08.5", "ABCA", "what did it want 4 bits for"),
    ("08.5", "ABC", "four letters"),
    ("08.5", "ABCE", "four letters"),
]


@pytest.mark.parametrize(("exercise", "answer", "hint"), WRONG)
def test_wrong(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any, hint: str) -> None:
    told = said(capsys, exercise, answer)
    assert told.startswith(f"Exercise {exercise}: not yet: ")
    assert hint in told


@pytest.mark.parametrize("mistake", lesson_08._SUSPECTS)
def test_own_scale_gradient(capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    wrong: Callable[..., Any] = lesson_08._SUSPECTS[mistake]
    assert f"it seems that your function {mistake}." in said(capsys, "08.2", wrong)


def test_own_two_bit_model(
    capsys: pytest.CaptureFixture[str], baseline: keras.Model, calibration: np.ndarray
) -> None:
    assert "ships with the course" in said(capsys, "08.3", qat.load_trained("W2A8"))
    assert "conv1 have 4 bits, not 2" in said(capsys, "08.3", qat.load_trained("W4A8"))
    untrained = qat.quantize_aware(baseline, qat.named_scheme(2, 8), calibration[:100])
    assert "more steps" in said(capsys, "08.3", untrained)
    assert "no trainable quantization" in said(capsys, "08.3", baseline)
    assert "a Keras model is needed" in said(capsys, "08.3", 2)


def test_packed_file(capsys: pytest.CaptureFixture[str]) -> None:
    model = qat.load_trained("W4A8")
    assert "right." in said(capsys, "08.4", qat.int8_file(model, packed=True))
    assert "do not fit into 13,000. Each weight" in said(capsys, "08.4", qat.int8_file(model))
    floats = qat.low_bit_file(model, "weight_only_wi4_afp32")
    assert "the device has integer kernels only" in said(capsys, "08.4", floats)
    assert "bytes of a .tflite file" in said(capsys, "08.4", model)


def test_a_file_with_other_weights(
    capsys: pytest.CaptureFixture[str], baseline: keras.Model, calibration: np.ndarray
) -> None:
    hint = "the weights of conv1 are not those of the W4A8 model"
    assert hint in said(capsys, "08.4", qat.int8_file(qat.load_trained("W8A8")))
    ptq = tflite.convert(baseline, "int8", calibration=calibration[:50])
    assert hint in said(capsys, "08.4", ptq)


def test_quick_model(
    capsys: pytest.CaptureFixture[str], baseline: keras.Model, calibration: np.ndarray
) -> None:
    assert "ships with the course" in said(capsys, "08.6", qat.load_trained("W2A2"))
    wider = qat.quantize_aware(baseline, qat.named_scheme(2, 8), calibration[:100])
    assert "have 8 bits, at most 2" in said(capsys, "08.6", wider)
    untrained = qat.quantize_aware(baseline, qat.named_scheme(2, 2), calibration[:100])
    assert "never compiled" in said(capsys, "08.6", untrained)
    untrained.compile(keras.optimizers.Adam(), keras.losses.SparseCategoricalCrossentropy())
    assert "are needed" in said(capsys, "08.6", untrained)
    untrained.optimizer.iterations.assign(301)
    assert "301 steps; 300 are allowed" in said(capsys, "08.6", untrained)
