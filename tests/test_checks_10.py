"""The exercises of lesson 10: right answers, and the hint that each typical mistake gets."""

from dataclasses import replace
from typing import Any

from quant_tutorial import flatbuffer, tflite
from quant_tutorial.checks import lesson_10
from quant_tutorial.lab import PRESETS, SABOTAGED, Lab, Setting

import numpy as np
import pytest
from test_checks import said

pytestmark = pytest.mark.slow

SMALL = Setting(
    {"conv1": 4, "conv2": 3, "conv3": 2, "logits": 3}, None, None, weight_calibrator="mse"
)
NEAREST, RESCUED = PRESETS["2-bit weights, nearest"], PRESETS["rescued by QAT"]
BEST = Setting(4, source="W4A8 adaround", weight_calibrator="mse")
REPAIRED = replace(SABOTAGED, ranges=100, weight_calibrator="mse")


@pytest.fixture(scope="module")
def lab() -> Lab:
    return lesson_10._lab()


def has_file(weights: int | None, activations: int | None) -> bool:
    if activations in (None, 8):
        return activations is None or weights is not None
    return activations == 16 and weights == 8


RIGHT = [
    ("10.1", SMALL),
    ("10.3", has_file),
    ("10.4", (NEAREST, RESCUED)),
    ("10.5", BEST),
    ("10.6", REPAIRED),
]


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_right(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any) -> None:
    assert said(capsys, exercise, answer) == f"Exercise {exercise}: right.\n"


WRONG = [
    ("10.1", Setting(), "its weights take 14,096 bytes, and 5,000 fit"),
    ("10.1", Setting(2, None, None), "Which weight ranges suit few bits better?"),
    ("10.1", replace(SMALL, activations=2), "the activations may be finer"),
    ("10.1", Setting(2, None, None, weight_calibrator="mse"), "tolerates 2 bits best"),
    ("10.1", replace(RESCUED), "the float baseline's weights are to be rounded"),
    ("10.1", 0.975, "a Setting is needed, not float"),
    ("10.2", "lab.tflite", "the bytes of a .tflite file are needed, not str"),
    ("10.2", bytes(9001), "it has 9,001 bytes, and 9,000 fit"),
    ("10.3", lambda w, a: True, "with weights of 4 bits and activations of 4 bits there is no"),
    ("10.3", lambda w, a: w == a == 8, "weights of 4 bits and activations of 8 bits there is one"),
    ("10.3", lambda w, a: has_file(w or 8, a), "weights of float and activations of 8 bits"),
    ("10.3", lambda w, a: a in (None, 8, 16), "with weights of 4 bits and activations of 16"),
    ("10.3", lambda w, a: a == 8 or has_file(w, a), "weights of float and activations of 8"),
    ("10.3", lambda w, a: "yes", "it must return True or False, not 'yes'"),
    ("10.4", (RESCUED, NEAREST), "in the other order"),
    ("10.4", (Setting(), PRESETS["where PTQ breaks"]), "Are there others?"),
    ("10.4", (PRESETS["2-bit weights, AdaRound"], RESCUED), "does noise do no harm?"),
    ("10.4", (NEAREST, 76), "a Setting is needed, not int"),
    ("10.5", Setting(), "From how many bits on are weights packed"),
    ("10.5", Setting(4, weight_calibrator="mse"), "nearest level is not the best choice"),
    ("10.5", PRESETS["2-bit weights, AdaRound"], "How large would it be with more bits?"),
    ("10.5", PRESETS["2-bit weights, trained"], "no training is allowed"),
    ("10.5", PRESETS["4-bit weights"], "needs a full-integer file"),
    ("10.5", b"bytes", "a Setting is needed, not bytes"),
    ("10.6", SABOTAGED, "Where does the SQNR drop most"),
    ("10.6", replace(SABOTAGED, weight_calibrator="mse"), "Where does the SQNR drop most"),
    ("10.6", replace(SABOTAGED, ranges=100), "What else makes 3-bit weights coarse?"),
    ("10.6", replace(SABOTAGED, weights=8), "weights must stay as it was"),
    ("10.6", replace(REPAIRED, granularity="channel-wise"), "these are 3 changes"),
]


@pytest.mark.parametrize(("exercise", "answer", "hint"), WRONG)
def test_wrong(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any, hint: str) -> None:
    told = said(capsys, exercise, answer)
    assert told.startswith(f"Exercise {exercise}: not yet: ")
    assert hint in told


def test_own_small_file(capsys: pytest.CaptureFixture[str], lab: Lab) -> None:
    for source, hint in (
        ("W2A8", "right."),
        ("W2A2", "what activations were they trained with?"),
        ("PTQ", "whose weights are they"),
    ):
        setting = Setting(2, None, None, source=source, weight_calibrator="mse")
        content = lab.plan(setting).make(lab.images[:1])
        assert hint in said(capsys, "10.2", content)


def test_the_best_file_is_packed(lab: Lab) -> None:
    """All weights take 4 bits in it, and LiteRT predicts what the simulation does."""
    content = lab.plan(BEST).make(lab.images[:1])
    kinds = {t.type for t in flatbuffer.graph(content).tensors if t.kind == "weights"}
    assert kinds == {"int4"}
    found = tflite.evaluate(content, lab.images[:2000], lab.labels[:2000])
    assert np.mean(found.predictions == lab.measure(BEST, 2000).answers) >= 0.999
