"""The checks of lesson 03: right answers, and the mistakes that each of them knows."""

import math
from collections.abc import Callable

from quant_tutorial import calibration, checks
from quant_tutorial.calibration import kl_divergence

import numpy as np
import pytest

P, Q = np.array([6, 2, 0, 8]), np.array([4, 4, 0, 4])


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[str, object], str]:
    def say(exercise: str, answer: object) -> str:
        checks.check(exercise, answer)
        return capsys.readouterr().out

    return say


@pytest.mark.parametrize(
    ("exercise", "answer", "hint"),
    [
        ("03.1", ["relu1", "relu2", "dense"], "right."),
        ("03.1", {"dense", "relu2", "relu1"}, "right."),
        ("03.1", ["image", "relu1", "relu2", "dense"], "known before any image is seen"),
        ("03.1", ["conv1", "conv2", "dense"], "are one kernel"),
        ("03.1", ["relu1", "pool1", "relu2", "dense"], "about pool1: max-pooling and flatten"),
        ("03.1", ["relu1", "relu2", "softmax"], "whatever the image"),
        ("03.1", ["relu1", "relu2"], "1 are missing"),
        ("03.1", ["relu1", "relu2", "logits"], "logits is no layer of this model"),
        ("03.1", "relu1", "a list of names is needed"),
        ("03.2", 44, "right."),
        ("03.2", 43, "still a little above 6"),
        ("03.2", 45, "after the first one"),
        ("03.2", 2, "which of the two numbers has the weight 0.9"),
        ("03.2", 16, "does not start at 0"),
        ("03.2", 95, "plain mean of all batches"),
        ("03.2", 10, "by the same factor"),
        ("03.3", 3.5, "right."),
        ("03.3", 4, "how many intervals"),
        ("03.3", 4.5, "how many intervals"),
        ("03.3", 2.5, "mean absolute error"),
        ("03.3", 8, "smallest largest error"),
        ("03.3", 1, "the values beyond the range have an error, too"),
        ("03.3", 6, "each of the fifteen ends"),
        ("03.4", 92, "right."),
        ("03.4", 92.5, "the breakdown point itself"),
        ("03.4", 99.9, "up to 0.1%"),
        ("03.4", 97, "how many images are there here"),
        ("03.4", 95, "up to 5%"),
        ("03.4", 90, "clips more than it has to"),
        ("03.4", 7.5, "one of the six"),
        ("03.5", kl_divergence(P, Q), "right."),
        ("03.5", 0.1243, "right."),
        ("03.5", kl_divergence(np.array([6, 2, 0, 4]), Q), "where do the 4 values"),
        ("03.5", kl_divergence(P, np.array([4, 4, 0, 8])), "before the clipped values are added"),
        ("03.5", kl_divergence(P, np.array([4, 4, 2, 2])), "an empty bin stays empty"),
        ("03.5", kl_divergence(Q, P), "the other way round"),
        ("03.5", kl_divergence(P, Q) / math.log(2), "log2"),
        ("03.5", 1, "write down p"),
    ],
)
def test_numbers_and_names(
    said: Callable[[str, object], str], exercise: str, answer: object, hint: str
) -> None:
    assert hint in said(exercise, answer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (20, "right."),
        (5, "half of the draws fall short"),
        (1, "that is one draw, the first images"),
        (50, "compare the least of them"),
    ],
)
def test_images_for_every_draw(said: Callable[[str, object], str], answer: int, hint: str) -> None:
    assert hint in said("03.6", answer)


class Stored:
    """A right range, but from all values, which it keeps."""

    def __init__(self, bits: int) -> None:
        self._bits, self._batches = bits, []

    def observe(self, batch: np.ndarray) -> None:
        self._batches.append(batch)

    def range(self) -> tuple[float, float]:
        seen = calibration.MeanSquaredError(self._bits)
        return calibration.range_of(self._batches, seen)


class FromZero(calibration.MeanSquaredError):
    """A range that always contains 0, seen or not."""

    def range(self) -> tuple[float, float]:
        low, high = super().range()
        return min(low, 0), max(high, 0)


class LastBatch(calibration.MeanSquaredError):
    """The range of the last batch alone."""

    def observe(self, batch: np.ndarray) -> None:
        self.__init__(4)
        super().observe(batch)


class Unobserved(calibration.MeanSquaredError):
    """No error where nothing was observed."""

    def range(self) -> tuple[float, float]:
        try:
            return super().range()
        except ValueError:
            return 0.0, 0.0


@pytest.mark.parametrize(
    ("observer", "hint"),
    [
        (calibration.MeanSquaredError, "right."),
        (lambda bits: calibration.Percentile(99.9), "right."),
        (lambda bits: calibration.MinMax(), "that is min/max; leave out the tail"),
        (lambda bits: calibration.MovingAverage(), "wider than it needs to be"),
        (lambda bits: calibration.Percentile(98), "too many values are clipped"),
        (lambda bits: calibration.MeanSquaredError(8), "wider than it needs to be"),
        (FromZero, "with what does the observer start?"),
        (LastBatch, "too many values are clipped"),
        (Unobserved, "must raise a ValueError when nothing was observed"),
        (Stored, "a histogram of fixed size is enough"),
        (3, "a class is needed, not int"),
    ],
)
def test_own_observer(said: Callable[[str, object], str], observer: object, hint: str) -> None:
    assert hint in said("03.7", observer)
