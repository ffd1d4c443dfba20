"""The live explorers of the web edition say and compute what Python does, in Chromium."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from quant_tutorial.affine import QuantParams, params_from_range, quantize
from quant_tutorial.calibration import Statistics, weight_params
from quant_tutorial.explorers.affine import AffineExplorer
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.explorers.calibration import RangeExplorer
from quant_tutorial.explorers.granularity import GranularityExplorer
from quant_tutorial.explorers.post_training import PostTrainingExplorer
from quant_tutorial.scheme import GRANULARITIES, TensorScheme
from quant_tutorial.web import bundling, model_assets

import live_page
import numpy as np
import pytest
from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

SETTINGS = 200
# Python takes a quarter of a second to measure a setting of the real model. The variable sets
# another number for a more thorough run.
MODEL_SETTINGS = int(os.environ.get("QUANT_TUTORIAL_LIVE_SETTINGS", "30"))


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


def ends(params: QuantParams) -> list[int]:
    return [params.qmin, params.qmax, params.zero_point]


# How each explorer is made, and the integers that it computes for its setting.
EXPLORERS: dict[str, tuple[Callable[..., Explorer], Callable[..., np.ndarray]]] = {
    "affine": (affine, affine_integers),
    "range": (calibration, calibration_integers),
    "granularity": (granularity, granularity_integers),
    "post_training": (post_training, post_training_integers),
}
WITH_MODEL = ("post_training",)


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
    runs_the_model = kind in WITH_MODEL
    count = MODEL_SETTINGS if runs_the_model else SETTINGS
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
        assert len({text for text, _ in found}) > count / 3  # they do depend on the setting
        assert live.complaints == []
