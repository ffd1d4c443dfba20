"""The exercises' checks: right, wrong, open and impossible answers."""

from quant_tutorial import checks, tflite
from quant_tutorial.scheme import FLOAT, QuantScheme, TensorScheme

import numpy as np
import pytest


def said(capsys: pytest.CaptureFixture[str], exercise: str, answer: object) -> str:
    checks.check(exercise, answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("exercise", sorted(checks._CHECKS))
def test_open_wrong_and_impossible_answers(
    capsys: pytest.CaptureFixture[str], exercise: str
) -> None:
    assert "not attempted yet" in said(capsys, exercise, ...)
    for wrong in (-1e6, "text", None, np.zeros(3), b"no model", lambda *_: 0):
        assert said(capsys, exercise, wrong).startswith(f"Exercise {exercise}: not yet: ")


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        ("01.1", 7033),
        ("01.2", 3),
        ("02.1", 2 / 15),
        ("02.2", -64),
        ("02.4", 10),
        ("03.1", 4.2),
        ("03.2", 5),
        ("04.1", 66),
        ("05.1", 6645),
        ("06.1", 72),
        ("07.1", 66311),
    ],
)
def test_right_numbers(capsys: pytest.CaptureFixture[str], exercise: str, answer: float) -> None:
    assert said(capsys, exercise, answer) == f"Exercise {exercise}: right.\n"
    assert "not yet" in said(capsys, exercise, answer + 1)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda x, s, z: np.clip(np.round(x / s) + z, -128, 127), "x = "),  # ties to even
        (lambda x, s, z: np.trunc(x / s + np.copysign(0.5, x)) + z, "clipping"),
        (lambda x, s, z: np.clip(np.round(x / s), -128, 127), "offset"),
    ],
)
def test_own_quantize(capsys: pytest.CaptureFixture[str], wrong: object, hint: str) -> None:
    assert hint in said(capsys, "02.3", wrong)


def test_own_node(capsys: pytest.CaptureFixture[str]) -> None:
    def unclipped(x: np.ndarray, s: float, z: int, bits: int) -> np.ndarray:
        return np.round(x / s) * s

    assert "must give" in said(capsys, "05.2", unclipped)


@pytest.mark.parametrize(
    ("scheme", "answer"),
    [
        (QuantScheme(TensorScheme(3, True, "channel-wise", "mse")), "right."),
        (QuantScheme(TensorScheme(3, True, "tensor-wise")), "its accuracy is 10"),
        (QuantScheme(), "the weights of conv1 have 8 bits"),
        (QuantScheme(TensorScheme(3, True), TensorScheme(16)), "relu1 has 16 bits"),
        (QuantScheme(TensorScheme(3, True), input=FLOAT), "image has 32 bits"),
        (3, "a QuantScheme is needed, not int"),
    ],
)
def test_own_scheme(capsys: pytest.CaptureFixture[str], scheme: object, answer: str) -> None:
    assert answer in said(capsys, "05.3", scheme)


@pytest.mark.parametrize(
    ("pair", "answer"),
    [
        ((31038, -8), "right."),
        ((31038, -7), "0.0037 = fraction"),
        ((15519, -7), "must have 15 bits"),
        ((31038,), "could not use this answer"),
    ],
)
def test_own_multiplier(capsys: pytest.CaptureFixture[str], pair: object, answer: str) -> None:
    assert answer in said(capsys, "07.2", pair)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda x, n: x >> n, "must give"),
        (lambda x, n: (x + ((1 << n) >> 1)) >> n, "-39 divided by 2^1 must give -20, not -19"),
        (lambda x, n: np.round(x / 2**n), "must hold integers"),
    ],
)
def test_own_shift(capsys: pytest.CaptureFixture[str], wrong: object, hint: str) -> None:
    assert hint in said(capsys, "07.3", wrong)


def test_own_model(capsys: pytest.CaptureFixture[str], files: dict[str, bytes]) -> None:
    assert "right." in said(capsys, "06.2", files["int8, uint8 input"])
    assert "input is int8; it must be uint8" in said(capsys, "06.2", files["int8, int8 input"])
    assert "input is float32" in said(capsys, "06.2", files["float32"])


def test_own_mixed_model(
    capsys: pytest.CaptureFixture[str], baseline: object, calibration: np.ndarray
) -> None:
    for layer, answer in (("logits", "right."), ("conv2", "conv2, bn2, relu2) are float32")):
        file = tflite.convert(
            baseline, "int8_fallback", calibration=calibration[:20], float_layers=[layer]
        )
        assert answer in said(capsys, "06.3", file)


def test_the_number_of_weights_is_the_models(baseline: object) -> None:
    assert baseline.count_params() == checks._BASELINE_WEIGHTS


def test_an_unknown_exercise() -> None:
    with pytest.raises(ValueError, match=r"exercise must be one of 01\.1, .*, got '99'"):
        checks.check("99", 1)
