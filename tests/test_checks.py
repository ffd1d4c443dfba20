"""The exercises' checks: right, wrong, open and impossible answers."""

from quant_tutorial import checks

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def said(capsys: pytest.CaptureFixture[str], exercise: str, answer: object) -> str:
    checks.check(exercise, answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("exercise", sorted(checks.CHECKS))
def test_open_wrong_and_impossible_answers(
    capsys: pytest.CaptureFixture[str], exercise: str
) -> None:
    assert "not attempted yet" in said(capsys, exercise, ...)
    for wrong in (-1e6, "text", None, np.zeros(3), b"no model", lambda *_: 0):
        assert said(capsys, exercise, wrong).startswith(f"Exercise {exercise}: not yet: ")


@pytest.mark.parametrize("exercise", sorted(checks.CHECKS))
def test_an_answer_that_is_graded(exercise: str) -> None:
    with pytest.raises(AssertionError, match=rf"^Exercise {exercise}: not attempted yet"):
        checks.grade(exercise, ...)
    with pytest.raises(AssertionError, match=rf"^Exercise {exercise}: "):
        checks.grade(exercise, None)


def test_an_unknown_exercise() -> None:
    for function in (checks.check, checks.grade):
        with pytest.raises(ValueError, match=r"exercise must be one of 01\.1, .*, got '99'"):
            function("99", 1)
