"""Check the reader's answers: `check("02.1", answer)` prints whether it is right.

An answer that is still `...` is not an error, so that a notebook with unsolved exercises runs to
its end. The right values are computed, not stored. The lessons' solutions are in
`notebooks/solutions`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from quant_tutorial.arguments import checked_choice
from quant_tutorial.checks.registry import CHECKS

__all__ = ["CHECKS", "check", "grade"]

for _module in pkgutil.iter_modules(__path__):  # a lesson's module registers its checks
    importlib.import_module(f"{__name__}.{_module.name}")


def check(exercise: str, answer: Any) -> None:
    """Print whether an answer to an exercise is right, and a hint if it is not.

    Args:
        exercise: The number of the exercise in the notebook, such as "02.1".
        answer: The reader's answer: a number, a function, an array, …; `...` for none yet.

    Raises:
        ValueError: for a number that no exercise has.
    """
    hint = _hint(exercise, answer)
    if answer is ...:
        print(f"Exercise {exercise}: {hint}")
    else:
        print(f"Exercise {exercise}: " + ("right." if hint is None else f"not yet: {hint}"))


def grade(exercise: str, answer: Any) -> None:
    """Do nothing for a right answer, and raise the hint for any other (`make graded`).

    Args:
        exercise: The number of the exercise in the notebook, such as "02.1".
        answer: The reader's answer; `...` for none.

    Raises:
        AssertionError: for any answer that is not right.
        ValueError: for a number that no exercise has.
    """
    hint = _hint(exercise, answer)
    if hint is not None:
        raise AssertionError(f"Exercise {exercise}: {hint}")


def _hint(exercise: str, answer: Any) -> str | None:
    """Return None for a right answer, and else what is wrong with it."""
    checked_choice("exercise", exercise, CHECKS)
    if answer is ...:
        return "not attempted yet. Put your answer in place of the dots."
    try:
        return CHECKS[exercise](answer)
    except Exception as error:  # show the reader any error of their own code
        return f"the check could not use this answer ({type(error).__name__}: {error})."
