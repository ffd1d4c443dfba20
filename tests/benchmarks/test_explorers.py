"""Kernel time from a moved slider to the new picture."""

import itertools
from collections.abc import Callable, Iterable

from quant_tutorial import mnist, models, rounding
from quant_tutorial.calibration import Statistics
from quant_tutorial.explorers.affine import AffineExplorer
from quant_tutorial.explorers.calibration import RangeExplorer
from quant_tutorial.explorers.granularity import GranularityExplorer
from quant_tutorial.explorers.rounding import RoundingExplorer

import keras
import numpy as np
import pytest
from measuring import Report, in_turn

# Up and down again, so that each of 50 moves is to another place.
WIDTHS = [*range(2, 17), *range(15, 2, -1)]


@pytest.fixture(scope="module")
def folded() -> keras.Model:
    return models.fold_batch_norm(models.load_baseline())


@pytest.fixture(scope="module")
def statistics(folded: keras.Model) -> dict[str, Statistics]:
    """Those of lesson 03: a thousand images."""
    images = mnist.to_float(mnist.load().x_train[:1000])
    names = ("image", "relu1", "relu2", "relu3", "logits")
    probe = keras.Model(folded.input, {name: folded.get_layer(name).output for name in names})
    seen = {name: Statistics() for name in names}
    for start in range(0, 1000, 100):
        for name, values in models.predict(probe, images[start : start + 100]).items():
            seen[name].observe(values)
    return seen


def moving(states: Iterable, move: Callable[[object], None]) -> float:
    """Move through the states, beginning again at the end; return the median in milliseconds."""
    states = itertools.cycle(states)
    (seconds,) = in_turn(lambda: move(next(states)), rounds=50)
    return 1000 * seconds


def test_affine(report: Report) -> None:
    explorer = AffineExplorer()
    time = moving(WIDTHS, lambda bits: setattr(explorer.bits, "value", bits))
    assert explorer.text.startswith(f"{explorer.bits.value} bits")
    report("explorer of 02 in the kernel, moving the bits", time, "ms")


def test_calibration_bits(statistics: dict[str, Statistics], report: Report) -> None:
    explorer = RangeExplorer(statistics, "relu2")
    time = moving(WIDTHS, lambda bits: setattr(explorer.bits, "value", bits))
    assert f" at {explorer.bits.value} bits" in explorer.text
    report("explorer of 03 in the kernel, moving the bits", time, "ms")


def test_calibration_range(statistics: dict[str, Statistics], report: Report) -> None:
    explorer = RangeExplorer(statistics, "relu2")
    stops = explorer.range.max / 100 * np.random.default_rng(0).permutation(np.arange(1, 101))
    ends = [(0, end) for end in stops.tolist()]
    time = moving(ends, lambda pair: setattr(explorer.range, "value", pair))
    assert "mean squared error" in explorer.text
    report("explorer of 03 in the kernel, moving the range", time, "ms")


def test_granularity(folded: keras.Model, report: Report) -> None:
    explorer = GranularityExplorer(models.weights(folded), {}, "conv3")
    time = moving(WIDTHS, lambda bits: setattr(explorer.bits, "value", bits))
    assert f" at {explorer.bits.value} bits" in explorer.text
    report("explorer of 04 in the kernel, moving the bits", time, "ms")


def test_rounding(folded: keras.Model, report: Report) -> None:
    methods = {"nearest": "nearest", "GPTQ": "gptq"}
    rounded = {
        (method, bits): rounding.load(f"W{bits}A8 {name}")
        for method, name in methods.items()
        for bits in (2, 3, 4)
    }
    weights = models.weights(folded)
    noise = {
        key: dict.fromkeys(weights, 10.0 + bits)
        for key, bits in zip(rounded, range(6), strict=True)
    }
    accuracy = dict.fromkeys(rounded, 0.98)
    explorer = RoundingExplorer(weights, rounded, noise, accuracy, 0.99, "logits", "GPTQ", 2)
    time = moving((3, 4, 3, 2), lambda bits: setattr(explorer.bits, "value", bits))
    assert f" at {explorer.bits.value} bits by GPTQ" in explorer.text
    report("explorer of 11 in the kernel, moving the bits", time, "ms")
    time = moving(weights, lambda name: setattr(explorer.layer, "value", name))
    report("explorer of 11 in the kernel, choosing the layer", time, "ms")
