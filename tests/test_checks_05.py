"""The exercises of lesson 05: right answers, and the hint that each typical mistake gets."""

from dataclasses import replace
from typing import Any

from quant_tutorial import simulate
from quant_tutorial.checks import lesson_05
from quant_tutorial.scheme import FLOAT, LayerScheme, QuantScheme, TensorScheme

import numpy as np
import pytest
from test_checks import said

pytestmark = pytest.mark.slow


def node(x: np.ndarray, scale: float, zero_point: int, bits: int) -> np.ndarray:
    q = np.clip(np.round(x / scale) + zero_point, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (q - zero_point) * scale


def three(
    granularity: str = "channel-wise",
    calibrator: str = "mse",
    activations: TensorScheme | None = None,
    last: int = 8,
) -> QuantScheme:
    weights = TensorScheme(3, True, granularity, calibrator)
    activations = activations or TensorScheme(4, calibrator="mse")
    logits = LayerScheme(weights, TensorScheme(last))
    return QuantScheme(weights, activations, overrides={"logits": logits})


def repaired(*places: str) -> QuantScheme:
    """The broken scheme with 8 bits at some places: a layer's name, and "w" or "a"; or "image"."""
    scheme = lesson_05.broken_scheme()
    wide = TensorScheme(8, True, "channel-wise")
    for place in places:
        if place == "image":
            scheme = replace(scheme, input=TensorScheme(8))
            continue
        name, kind = place.split()
        layer = scheme.for_layer(name)
        scheme = scheme.with_layer(
            name,
            replace(layer, weights=wide)
            if kind == "w"
            else replace(layer, activations=TensorScheme(8)),
        )
    return scheme


CURE = ("conv1 w", "conv2 a", "logits a")
RIGHT = [
    ("05.1", 6645),
    ("05.2", 3.4133),
    ("05.2", 8 * 6.4 / 15),
    ("05.3", node),
    ("05.4", lesson_05.fair_share),
    ("05.5", ("conv2", 864)),
    ("05.6", "BE"),
    ("05.6", ["e", "b"]),
    ("05.7", three()),
    ("05.7", three(activations=TensorScheme(4, calibrator="percentile"))),
    ("05.8", repaired(*CURE)),
]


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_right(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any) -> None:
    assert said(capsys, exercise, answer) == f"Exercise {exercise}: right.\n"


WRONG = [
    ("05.1", 53160, "these are bits"),
    ("05.1", 7187, "the dense layer has 3 bits"),
    ("05.1", 6909, "leave out the biases"),
    ("05.1", 6600, "three convolutions"),
    ("05.1", 13832, "the size at 8 bits"),
    ("05.1", 6916, "are not 4 bits on average"),
    ("05.1", 55328, "the size in float"),
    ("05.1", 6646, "count the bits of each kernel"),
    ("05.2", 8, "the number of steps"),
    ("05.2", 3.38, "the mean of the maxima"),
    ("05.2", 3.2667, "the last batch"),
    ("05.2", 3.36, "the first batch"),
    ("05.2", 3.2, "15 steps between them"),
    ("05.2", 3.46, "has to contain 0"),
    ("05.2", 3.657, "all 16 levels"),
    ("05.2", 2.987, "rounds down"),
    ("05.2", 3.3, "only 16 values"),
    ("05.2", 3.4, "more digits"),
    ("05.2", 5, "which range do the three batches"),
    ("05.3", lambda x, s, z, bits: x[:3], "one value for each value"),
    ("05.3", lambda x, s, z, bits: x, "must give"),
    ("05.4", lambda outputs, labels: 0.5, "it must return"),
    ("05.5", ("conv1", 54), "another one helps more"),
    ("05.5", ("logits", 6000), "another one helps more"),
    ("05.5", ("conv2", 1152), "How many had it before?"),
    ("05.5", ("conv2", 6912), "these are bits"),
    ("05.5", ("conv2", 288), "that the layer had before"),
    ("05.5", ("conv2", 7), "how many bits more"),
    ("05.5", ("relu2", 864), "a pair is needed"),
    ("05.6", "ABE", "differ in more than the widths"),
    ("05.6", "BCE", "the best of many"),
    ("05.6", "BDE", "as floats"),
    ("05.6", "B", "there is one more"),
    ("05.6", "F", "letters from A to E"),
    ("05.7", 3, "a QuantScheme is needed, not int"),
    ("05.7", QuantScheme(), "the weights of conv1 have 8 bits"),
    ("05.7", QuantScheme(FLOAT), "the weights of conv1 have 32 bits"),
    ("05.7", three(activations=TensorScheme(8)), "relu1 has 8 bits; 4 are allowed"),
    ("05.7", replace(three(), input=FLOAT), "image has 32 bits; 8 are allowed"),
    ("05.7", three("layer-wise"), "look at the granularity"),
    ("05.7", three(calibrator="min_max"), "look at the ranges of the weights"),
    ("05.7", three(last=4), "look at the last output"),
    ("05.7", three(activations=TensorScheme(4)), "the ranges and the bits of the activations"),
    ("05.8", "scheme", "a QuantScheme is needed"),
    ("05.8", lesson_05.broken_scheme(), "nothing has changed"),
    ("05.8", repaired(*CURE, "image"), "4 places have changed (the input, weights of conv1"),
    ("05.8", repaired("conv2 a"), "You may change 2 more"),
    ("05.8", repaired("conv1 w", "conv2 a", "logits w"), "at most 6,000 are allowed"),
    ("05.8", repaired("conv1 w", "conv2 a", "image"), "Two bits for pixels look few"),
    ("05.8", repaired("conv1 w", "conv2 a", "conv3 a"), "measure the other places again"),
]


@pytest.mark.parametrize(("exercise", "answer", "hint"), WRONG)
def test_wrong(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any, hint: str) -> None:
    told = said(capsys, exercise, answer)
    assert told.startswith(f"Exercise {exercise}: not yet: ")
    assert hint in told


@pytest.mark.parametrize("mistake", lesson_05.NODE_SUSPECTS)
def test_own_node(capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    wrong = lesson_05.NODE_SUSPECTS[mistake]
    assert f"It seems that {mistake}." in said(capsys, "05.3", wrong)


@pytest.mark.parametrize("mistake", lesson_05.SHARE_SUSPECTS)
def test_own_share(capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    wrong = lesson_05.SHARE_SUSPECTS[mistake]
    assert f"It seems that {mistake}." in said(capsys, "05.4", wrong)


def test_fair_share() -> None:
    outputs = np.array([[1, 1, 0], [2, 2, 2], [0, 1, 3], [5, 1, 3]])
    assert lesson_05.fair_share(outputs, np.array([1, 0, 2, 1])) == (1 / 2 + 1 / 3 + 1 + 0) / 4


def test_the_layer_that_brings_most_is_measured() -> None:
    weights = TensorScheme(2, True, "channel-wise")
    scheme = QuantScheme(weights)
    gained = {
        name: lesson_05.searched(simulate.with_weight_bits(scheme, {name: 8}))
        for name in ("conv1", "conv2", "conv3", "logits")
    }
    assert max(gained, key=lambda name: gained[name][0]) == "conv2"
    assert gained["conv2"][1] - lesson_05.searched(scheme)[1] == 864
