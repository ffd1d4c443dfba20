"""The exercises of lesson 01: right answers, and the hint that each typical mistake gets."""

from functools import cache
from typing import Any

from quant_tutorial import metrics, models
from quant_tutorial.checks import lesson_01

import keras
import numpy as np
import pytest
from test_checks import said

pytestmark = pytest.mark.slow

WEIGHTS = np.array([72, 1152, 4608, 8000])
WORK = np.array([56448, 225792, 115200, 8000])


def shares(fetch: float, work: float) -> np.ndarray:
    return WEIGHTS * fetch / (WEIGHTS * fetch + WORK * work)


@cache
def parts(model: Any) -> tuple[int, int]:
    folded = models.fold_batch_norm(model)
    weights = sum(kernel.size for kernel in models.weights(folded).values())
    return weights, folded.count_params() - weights


def size(model: Any, bits: int) -> int:
    weights, biases = parts(model)
    return metrics.packed_bytes(weights, bits) + 4 * biases


def cut(threshold: float, low: float, high: float) -> Any:
    return lambda images: np.where(images > threshold, high, low)


KINDS = ["full integer", "dynamic range", "weight-only", "float16", "QAT"]
RIGHT = [
    ("01.1", shares(160, 4.375)),
    ("01.1", [0.045, 0.157, 0.594, 0.973]),
    ("01.1", list(map(float, np.round(shares(160, 4.375), 4)))),
    ("01.2", KINDS),
    ("01.2", np.array([f"{kind} quantization" for kind in KINDS[:4]] + ["QAT"])),
    ("01.2", ("Full-integer", "dynamic", "weight only", "FLOAT16", "quantization-aware training")),
    ("01.3", (9, 993 / 1009)),
    ("01.3", (9, 0.9841)),
    ("01.3", np.array([9, 0.9841])),
    ("01.3", (np.int64(9), np.float32(993 / 1009))),
    ("01.4", size),
    ("01.4", lambda m, b: np.int64(size(m, b))),
    ("01.4", lambda m, b: float(size(m, b))),
    ("01.5", cut(0.35, 0, 1)),
    ("01.5", cut(0.3, 0, 0.8)),
]


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_right(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any) -> None:
    assert said(capsys, exercise, answer) == f"Exercise {exercise}: right.\n"


def instead(place: int, kind: str) -> list[str]:
    return [*KINDS[:place], kind, *KINDS[place + 1 :]]


WRONG = [
    ("01.1", 100 * shares(160, 4.375), "percentages"),
    ("01.1", 1 - shares(160, 4.375), "the other part"),
    ("01.1", 160 * WEIGHTS / (4.375 * WORK), "divided by both"),
    ("01.1", shares(160, 4.375)[::-1], "opposite order"),
    ("01.1", shares(640, 4.375), "How many of these weights"),
    ("01.1", shares(160, 70), "an instruction for each multiply-add"),
    ("01.1", shares(160, 17.5), "for four multiply-adds"),
    ("01.1", shares(160, 0.3), "arithmetic alone"),
    ("01.1", 160 / (160 + 4.375) * np.ones(4), "each time that it is used"),
    ("01.1", WEIGHTS / WEIGHTS.sum(), "in all fetches"),
    ("01.1", [4.5, 15.7, 59.4, 97.3], "percentages"),
    ("01.1", [0.05, 0.16, 0.59, 0.97], "close: give three digits"),
    ("01.1", [0.045, 0.2, 0.594, 0.973], "look again at conv2:"),
    ("01.1", 0.973, "four numbers are needed"),
    ("01.2", instead(0, "dynamic range"), "(a) between its layers the activations are floats"),
    ("01.2", instead(0, "QAT"), "(a) nobody has labels"),
    ("01.2", instead(1, "full integer"), "(b) it fixes the ranges of the activations before"),
    ("01.2", instead(1, "weight-only"), "(b) its arithmetic"),
    ("01.2", instead(2, "float16"), "(c) how many bits"),
    ("01.2", instead(3, "weight-only"), "(d) that saves enough memory"),
    ("01.2", instead(4, "full integer"), "(e) it rounds after training"),
    ("01.2", instead(4, "PTQ"), "'PTQ' is none of the five names"),
    ("01.2", KINDS[:4], "a list of five names"),
    ("01.3", (7, 0.9951), "predicted wrongly. Count by the label"),
    ("01.3", (6, 0.9927), "of another digit the model gets more images wrong"),
    ("01.3", (9, 16 / 1009), "its error rate"),
    ("01.3", (9, 98.414), "from 0 to 1"),
    ("01.3", (9, 1 - 16 / 10000), "not by all 10,000"),
    ("01.3", (9, 993 / 998), "takes for it"),
    ("01.3", (9, 0.9946), "on all digits"),
    ("01.3", (9, 16), "how many it gets wrong"),
    ("01.3", (9, 0.97), "which share"),
    ("01.3", 9, "a pair is needed"),
    ("01.4", lambda m, b: parts(m)[0] * b + 32 * parts(m)[1], "it counts bits"),
    ("01.4", lambda m, b: metrics.packed_bytes(m.count_params(), b), "parameters of batch norm"),
    ("01.4", lambda m, b: m.count_params() * b / 8, "parameters of batch norm"),
    ("01.4", lambda m, b: metrics.packed_bytes(sum(parts(m)), b), "as few bits as the weights"),
    ("01.4", lambda m, b: metrics.packed_bytes(parts(m)[0], b), "it leaves out the biases."),
    ("01.4", lambda m, b: metrics.packed_bytes(parts(m)[0], b) + 40, "that folding"),
    ("01.4", lambda m, b: metrics.packed_bytes(parts(m)[0], b) + parts(m)[1], "as one byte"),
    ("01.4", lambda m, b: parts(m)[0] * b / 8 + 4 * parts(m)[1], "whole bytes only"),
    ("01.4", lambda m, b: parts(m)[0] * b // 8 + 4 * parts(m)[1], "whole bytes only"),
    ("01.4", lambda m, b: size(m, b) / 1000, "not in kilobytes"),
    ("01.4", lambda m, b: size(m, 32), "depend on the bit width"),
    ("01.4", lambda m, b: 1, "it returns 1, which is too few"),
    ("01.4", lambda m, b: size(m, b) + 4, "which is too many"),
    ("01.5", lambda images: images, "allows two shades"),
    ("01.5", lambda images: images[..., 0] > 0.3, "the shape of the images"),
    ("01.5", cut(0.35, 0, 255), "expects numbers from 0 to 1"),
    ("01.5", np.round, "what rounding to 0 or 1 reaches"),
    ("01.5", cut(0.5, 0, 0.8), "on training images"),
]


@pytest.mark.parametrize(("exercise", "answer", "hint"), WRONG)
def test_wrong(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any, hint: str) -> None:
    told = said(capsys, exercise, answer)
    assert told.startswith(f"Exercise {exercise}: not yet: ")
    assert hint in told
    # No hint gives the answer away.
    given_away = {
        "01.1": ["0.9", "0.5"],
        "01.4": ["5,451", "weights and"],
        "01.3": ["0.984", "digit 9"],
        "01.5": ["0.35"],
    }
    assert not any(number in told for number in given_away.get(exercise, []))


def test_the_layers_are_the_models(baseline: keras.Model) -> None:
    kernels = models.weights(baseline)
    assert list(kernels) == ["conv1", "conv2", "conv3", "logits"]
    assert [kernel.size for kernel in kernels.values()] == list(lesson_01._WEIGHTS)
    assert lesson_01._MULTIPLY_ADDS.sum() == models.multiply_adds(baseline)
