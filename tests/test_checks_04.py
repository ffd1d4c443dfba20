"""The exercises of lesson 04: right answers, and the hint that each typical mistake gets."""

from collections.abc import Callable
from typing import Any

from quant_tutorial.checks import lesson_04

import numpy as np
import pytest
from test_checks import said

pytestmark = pytest.mark.slow


def scales(kernel: np.ndarray, bits: int) -> np.ndarray:
    return np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0) / (2 ** (bits - 1) - 1)


BEST = ["depthwise6", "pointwise3", "pointwise2"]
RIGHT = [
    ("04.1", (1, 4, 74)),
    ("04.1", [1, 4, 74.0]),
    ("04.2", (33, 20 * np.log10(8))),
    ("04.2", (33, 18)),
    ("04.3", 5.53),
    ("04.4", "BD"),
    ("04.4", ["d", "b"]),
    ("04.5", (1.5, 0.4)),
    ("04.6", scales),
    ("04.7", BEST),
]


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_right(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any) -> None:
    assert said(capsys, exercise, answer) == f"Exercise {exercise}: right.\n"


WRONG = [
    ("04.1", (1, 1, 74), "what does the tensor of per_tensor hold?"),
    ("04.1", (4, 4, 74), "model-wide, the weights of all layers"),
    ("04.1", (1, 3, 74), "the depthwise layer and the dense layer"),
    ("04.1", (1, 4, 67), "these are the input channels"),
    ("04.1", (1, 4, 59), "more than one output channel"),
    ("04.1", (1, 4, 58), "one layer is missing"),
    ("04.1", (1, 4), "three numbers"),
    ("04.2", (31, 18.06), "Is it rounded down?"),
    ("04.2", (32, 18.06), "there is a level at 0"),
    ("04.2", (17, 18.06), "has negative weights"),
    ("04.2", (31.75, 18.06), "a level is an integer"),
    ("04.2", (255, 18.06), "all levels that there are"),
    ("04.2", (40, 18.06), "how large is the shared scale"),
    ("04.2", (33, 9.03), "10 · log₁₀"),
    ("04.2", (33, 8), "the ratio of the scales"),
    ("04.2", (33, 3), "How many decibels is a bit?"),
    ("04.2", (33, -18.06), "positive"),
    ("04.2", (33, 17.76), "not the counts of levels"),
    ("04.2", (33,), "two numbers"),
    ("04.3", 6.02, "a whole bit is lost when nothing is negative"),
    ("04.3", 2.764, "10 · log₁₀"),
    ("04.3", -5.528, "positive"),
    ("04.3", 1.8898, "the ratio of the scales"),
    ("04.3", 6.055, "begins at −0.375"),
    ("04.3", -18.553, "the larger of the two magnitudes"),
    ("04.3", -0.5266, "only half of it"),
    ("04.3", 5.4944, "the whole range by 255 intervals"),
    ("04.3", 2.76, "10 · log₁₀"),
    ("04.3", 5.6, "more digits"),
    ("04.3", 40, "divide the symmetric scale"),
    ("04.4", "B", "there is one more"),
    ("04.4", "BCD", "contains the activations"),
    ("04.4", "ABCD", "A is the sum itself"),
    ("04.4", "E", "letters from A to D"),
    ("04.5", (3, 0.35), "the weight is not folded"),
    ("04.5", (0.5, 0.35), "Which power"),
    ("04.5", (1.591, 0.35), "ε is missing"),
    ("04.5", (1.1754, 0.35), "ε belongs under the root"),
    ("04.5", (1.0, 0.35), "γ is missing"),
    ("04.5", (13.5, 0.35), "multiplies by the root"),
    ("04.5", (1.3, 0.35), "It belongs to the bias"),
    ("04.5", (1.5, -0.1), "own bias is missing"),
    ("04.5", (1.5, 0.35), "β is added after"),
    ("04.5", (1.5, 0.2), "the mean is multiplied by"),
    ("04.5", (1.5, 0.1), "this is β alone"),
    ("04.5", (1.5, 0.6), "the mean is subtracted before"),
    ("04.5", (1.5, 0.9), "own bias is multiplied"),
    ("04.5", (1.5, 0.3), "β is missing"),
    ("04.5", (1.5, 1), "the convolution's own bias. What"),
    ("04.5", 1.5, "a pair"),
    ("04.6", lambda k, b: scales(k, b).reshape((1,) * (k.ndim - 1) + (-1,)), "keepdims"),
    ("04.6", lambda k, b: np.abs(k).max() / (2 ** (b - 1) - 1), "returns one scale"),
    ("04.6", lambda k, b: np.abs(k).max(axis=-1) / (2 ** (b - 1) - 1), "Over which axes"),
    ("04.6", lambda k, b: np.abs(k).max(axis=(0, 1, 2)) / (2 ** (b - 1) - 1), "four axes"),
    ("04.6", lambda k, b: np.full(6, 2.0), "must be"),
    ("04.7", "depthwise6", "of the images are right; 92% are needed"),
    ("04.7", ["depthwise6", "depthwise3", "depthwise2"], "try layers of other kinds, too"),
    ("04.7", [*BEST, "conv1"], "these are 4 layers; at most 3"),
    ("04.7", ["depthwise7"], "a list of layers' names is needed"),
]


@pytest.mark.parametrize(("exercise", "answer", "hint"), WRONG)
def test_wrong(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any, hint: str) -> None:
    told = said(capsys, exercise, answer)
    assert told.startswith(f"Exercise {exercise}: not yet: ")
    assert hint in told


@pytest.mark.parametrize("mistake", lesson_04._SUSPECTS)
def test_own_scales(capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    wrong: Callable[..., Any] = lesson_04._SUSPECTS[mistake]
    assert f"It seems that {mistake}." in said(capsys, "04.6", wrong)
