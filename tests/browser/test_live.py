"""The live explorers of the web edition say and compute what Python does, in Chromium."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from quant_tutorial.affine import QuantParams, params_from_range, quantize
from quant_tutorial.calibration import weight_params
from quant_tutorial.explorers.affine import AffineExplorer
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.explorers.calibration import RangeExplorer
from quant_tutorial.explorers.granularity import GranularityExplorer
from quant_tutorial.explorers.rounding import RoundingExplorer, compare
from quant_tutorial.scheme import GRANULARITIES, TensorScheme
from quant_tutorial.web import bundling

import live_explorers
import live_page
import numpy as np
import pytest
from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

SETTINGS = 200


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


def calibration(_: pytest.FixtureRequest) -> RangeExplorer:
    return live_explorers.ranges()


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


def rounding(_: pytest.FixtureRequest) -> RoundingExplorer:
    return live_explorers.rounding()


def rounding_integers(explorer: RoundingExplorer) -> np.ndarray:
    name, chosen = explorer.layer.value, (explorer.method.value, explorer.bits.value)
    found = explorer._rounded[chosen]
    moves = compare(explorer._weights[name], found.integers[name], found.params.weights[name])
    return moves.steps.ravel()


def ends(params: QuantParams) -> list[int]:
    return [params.qmin, params.qmax, params.zero_point]


# How each explorer is made, and the integers that it computes for its setting.
EXPLORERS: dict[str, tuple[Callable[..., Explorer], Callable[..., np.ndarray]]] = {
    "affine": (affine, affine_integers),
    "range": (calibration, calibration_integers),
    "granularity": (granularity, granularity_integers),
    "rounding": (rounding, rounding_integers),
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    bundling.bundle(folder)
    return folder


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Explorer]]:
    """Return the explorer of a kind, made once; it draws no pictures."""
    with live_page.made({kind: make for kind, (make, _) in EXPLORERS.items()}, request) as explorer:
        yield explorer


@pytest.mark.parametrize("kind", EXPLORERS)
def test_it_says_and_computes_what_python_does(
    kind: str, made: Callable[[str], Explorer], browser: Browser, scripts: Path
) -> None:
    explorer, integers = made(kind), EXPLORERS[kind][1]
    with live_page.opened(explorer, browser, scripts) as live:
        draw = random.Random(2026)
        settings, expected = [], []
        for _ in range(SETTINGS):
            settings.append(live_page.random_setting(explorer, draw))
            expected.append((explorer.draw(), live_page.checksum(integers(explorer))))
        found = live.set_all(settings)
        for setting, one, other in zip(settings, found, expected, strict=True):
            assert one == other, setting
        # They do depend on the setting.
        assert len({text for text, _ in found}) > min(SETTINGS, live_page.states(explorer)) / 3
        assert live.complaints == []
