"""The live explorers of the web edition say and compute what Python does, in Chromium."""

import os
import random
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from quant_tutorial.affine import QuantParams, params_from_range, quantize
from quant_tutorial.calibration import Statistics, weight_params
from quant_tutorial.explorers.affine import AffineExplorer
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.explorers.calibration import RangeExplorer
from quant_tutorial.explorers.comparison import ComparisonExplorer, _trained_integers
from quant_tutorial.explorers.granularity import GranularityExplorer
from quant_tutorial.explorers.post_training import PostTrainingExplorer
from quant_tutorial.explorers.rounding import RoundingExplorer, compare
from quant_tutorial.rounding import Rounded
from quant_tutorial.scheme import GRANULARITIES, TensorScheme
from quant_tutorial.simulate import ModelParams
from quant_tutorial.web import bundling, model_assets

import live_page
import numpy as np
import pytest
from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

SETTINGS = 200
# Of the explorers with the real model there are fewer, because Python takes up to a few seconds for
# one. `QUANT_TUTORIAL_LIVE_SETTINGS=200` tries as many of them as of the others.
MODEL_SETTINGS = {"comparison": 6, "post_training": 30}
THOROUGH = os.environ.get("QUANT_TUTORIAL_LIVE_SETTINGS")


def affine(_: pytest.FixtureRequest) -> AffineExplorer:
    return AffineExplorer()


def affine_integers(explorer: AffineExplorer) -> np.ndarray:
    params = params_from_range(
        *explorer.value_range.value,
        explorer.bits.value,
        symmetric=explorer.symmetric.value,
        narrow_range=explorer.narrow_range.value,
        signed=not explorer.unsigned.value,
    )
    return np.array([*ends(params), quantize(explorer.x.value, params)])


def calibration(request: pytest.FixtureRequest) -> RangeExplorer:
    """The activations of the lesson's layers, of fewer images; and data below 0 only."""
    from quant_tutorial import models

    import keras

    images = request.getfixturevalue("calibration")[:100]
    model = models.fold_batch_norm(request.getfixturevalue("baseline"))
    names = ("relu2", "logits")
    probe = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    seen = {name: Statistics() for name in (*names, "negative")}
    for start in (0, 50):
        for name, batch in models.predict(probe, images[start : start + 50]).items():
            seen[name].observe(batch)
    seen["negative"].observe(-np.random.default_rng(0).gamma(2, 0.01, 5000))
    return RangeExplorer(seen, "relu2", bits=4)


def calibration_integers(explorer: RangeExplorer) -> np.ndarray:
    bits = explorer.bits.value
    ranges = explorer._statistics[explorer.layer.value].ranges(bits)
    return np.array(
        [ends(params_from_range(*r, bits)) for r in (explorer.range.value, *ranges.values())]
    ).ravel()


def granularity(request: pytest.FixtureRequest) -> GranularityExplorer:
    from quant_tutorial import models

    weights = models.weights(models.fold_batch_norm(request.getfixturevalue("baseline")))
    return GranularityExplorer(weights, {(4, "layer-wise"): 0.9919, (8, "tensor-wise"): 0.99255})


def granularity_integers(explorer: GranularityExplorer) -> np.ndarray:
    name, symmetric = explorer.layer.value, explorer.symmetric.value
    schemes = (TensorScheme(explorer.bits.value, symmetric, g) for g in GRANULARITIES)
    kernel = explorer._weights[name]
    parts = (quantize(kernel, weight_params(explorer._weights, s)[name]) for s in schemes)
    return np.concatenate([part.ravel() for part in parts])


def post_training(request: pytest.FixtureRequest) -> PostTrainingExplorer:
    labels = request.getfixturevalue("data").y_test
    return PostTrainingExplorer(request.getfixturevalue("staged"), labels)


def post_training_integers(explorer: PostTrainingExplorer) -> np.ndarray:
    """Return the integer weights of all layers, channels first."""
    simulator = explorer._simulator
    chosen = simulator.params(explorer.scheme).weights
    parts = [
        np.moveaxis(quantize(simulator.weights[name], params), -1, 0).ravel()
        for name, params in chosen.items()
        if params is not None
    ]
    return np.concatenate([np.zeros(0, int), *parts])


def comparison(request: pytest.FixtureRequest) -> ComparisonExplorer:
    simulator, images = (request.getfixturevalue(name) for name in ("simulator", "x_test"))
    return ComparisonExplorer(simulator, images, request.getfixturevalue("data").y_test)


def comparison_integers(explorer: ComparisonExplorer) -> np.ndarray:
    """Return the integers of the layer, rounded and trained, channels first."""
    bits, name = explorer.bits.value, explorer.layer.value
    both = explorer._show_weights(bits, name, _trained_integers(bits))
    return np.concatenate([np.moveaxis(values, -1, 0).ravel() for values in both])


def rounding(request: pytest.FixtureRequest) -> RoundingExplorer:
    """Two layers with weights that are rounded to any level, more or less near."""
    draw = np.random.default_rng(11)
    weights = {
        "conv2": draw.normal(0, 0.1, (3, 3, 8, 16)).astype(np.float32),
        "logits": draw.normal(0, 0.1, (80, 10)).astype(np.float32),
    }
    rounded, sqnr, accuracy = {}, {}, {}
    for method, bits in product(("nearest", "GPTQ", "AdaRound"), (2, 3)):
        scheme = TensorScheme(bits, True, "channel-wise", "mse")
        params = weight_params(weights, scheme)
        top = 2 ** (bits - 1) - 1
        integers = {
            name: np.clip(quantize(w, params[name]) + draw.integers(-2, 3, w.shape), -top, top)
            if method != "nearest"
            else quantize(w, params[name])
            for name, w in weights.items()
        }
        model = ModelParams(params, {})
        rounded[method, bits] = Rounded(model, integers, {}, request.getfixturevalue("baseline"))
        sqnr[method, bits] = dict.fromkeys(weights, draw.uniform(-2, 30))
        accuracy[method, bits] = draw.uniform(0.1, 1)
    return RoundingExplorer(weights, rounded, sqnr, accuracy, 0.9946)


def rounding_integers(explorer: RoundingExplorer) -> np.ndarray:
    name, chosen = explorer.layer.value, (explorer.method.value, explorer.bits.value)
    found = explorer._rounded[chosen]
    return compare(explorer._weights[name], found.integers[name], found.params.weights[name]).steps


def ends(params: QuantParams) -> list[int]:
    return [params.qmin, params.qmax, params.zero_point]


# How each explorer is made, and the integers that it computes for its setting.
EXPLORERS: dict[str, tuple[Callable[..., Explorer], Callable[..., np.ndarray]]] = {
    "affine": (affine, affine_integers),
    "range": (calibration, calibration_integers),
    "granularity": (granularity, granularity_integers),
    "comparison": (comparison, comparison_integers),
    "post_training": (post_training, post_training_integers),
    "rounding": (rounding, rounding_integers),
}
STATES = {"comparison": 7 * 2 * 4, "rounding": 2 * 3 * 2}  # where there are few


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    bundling.bundle(folder)
    model_assets.write(folder)
    return folder


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Explorer]]:
    """Return the explorer of a kind, made once; it draws no pictures."""
    found: dict[str, Explorer] = {}

    def explorer(kind: str) -> Explorer:
        if kind not in found:
            found[kind] = EXPLORERS[kind][0](request)
            live_page.without_pictures(found[kind])
        return found[kind]

    yield explorer
    for each in found.values():
        each.close()


@pytest.mark.parametrize("kind", EXPLORERS)
def test_it_says_and_computes_what_python_does(
    kind: str, made: Callable[[str], Explorer], browser: Browser, scripts: Path
) -> None:
    explorer, integers = made(kind), EXPLORERS[kind][1]
    # Float sums depend on the processor in their last digits, and a prediction may depend on those.
    runs_the_model = kind in MODEL_SETTINGS
    count = int(THOROUGH or MODEL_SETTINGS[kind]) if runs_the_model else SETTINGS
    with live_page.opened(explorer, browser, scripts) as live:
        draw = random.Random(2026)
        settings, expected = [], []
        for _ in range(count):
            settings.append(live_page.random_setting(explorer, draw))
            expected.append((explorer.draw(), live_page.checksum(integers(explorer))))
        found = live.set_all(settings)
        different = 0
        for setting, one, other in zip(settings, found, expected, strict=True):
            if runs_the_model and one != other:
                different += 1
                one, other = [
                    (text[: text.index(":")], checksum) for text, checksum in (one, other)
                ]
            assert one == other, setting
        assert different <= count // 50
        possible = min(count, STATES.get(kind, count))
        assert len({text for text, _ in found}) > possible / 3  # they do depend on the setting
        assert live.complaints == []
