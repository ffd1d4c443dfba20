"""The live explorers of the web edition say and compute what Python does, in Chromium."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from quant_tutorial.affine import QuantParams, params_from_range, quantize
from quant_tutorial.calibration import Statistics, weight_params
from quant_tutorial.explorers.affine import AffineExplorer
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.explorers.calibration import RangeExplorer
from quant_tutorial.explorers.granularity import GranularityExplorer
from quant_tutorial.scheme import GRANULARITIES, TensorScheme
from quant_tutorial.web import bundling

import live_page
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
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
    """What comes out of a ReLU, logits, and data below 0 only."""
    draw = np.random.default_rng(0)
    batches = {
        "relu": np.maximum(draw.normal(-0.5, 1.5, size=(2, 20_000)), 0).astype(np.float32),
        "logits": draw.standard_t(4, size=(2, 5000)).astype(np.float32) * 5,
        "negative": -draw.gamma(2, 0.01, size=(2, 5000)),
    }
    seen = {name: Statistics() for name in batches}
    for name, each in batches.items():
        for batch in each:
            seen[name].observe(batch)
    return RangeExplorer(seen, "relu", bits=4)


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


def ends(params: QuantParams) -> list[int]:
    return [params.qmin, params.qmax, params.zero_point]


# How each explorer is made, and the integers that it computes for its setting.
EXPLORERS: dict[str, tuple[Callable[..., Explorer], Callable[..., np.ndarray]]] = {
    "affine": (affine, affine_integers),
    "range": (calibration, calibration_integers),
    "granularity": (granularity, granularity_integers),
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    bundling.bundle(folder)
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
    draw = random.Random(2026)
    settings, expected = [], []
    with live_page.unchanged(explorer):
        for _ in range(SETTINGS):
            settings.append(live_page.random_setting(explorer, draw))
            expected.append((explorer.draw(), live_page.checksum(integers(explorer))))
    with live_page.opened(explorer, browser, scripts) as live:
        found = live.set_all(settings)
        for setting, one, other in zip(settings, found, expected, strict=True):
            assert one == other, setting
        assert len({text for text, _ in found}) > SETTINGS / 3  # they do depend on the setting
        assert live.complaints == []


@pytest.fixture
def live(
    made: Callable[[str], Explorer], browser: Browser, scripts: Path
) -> Iterator[live_page.LivePage]:
    with live_page.opened(made("affine"), browser, scripts) as opened:
        yield opened
        assert opened.complaints == []


class TestControls:
    """How a reader moves them; all explorers have the same."""

    @pytest.mark.parametrize(
        ("name", "key", "setting"),
        [
            ("Bit width", "ArrowRight", {"bits": 5}),
            ("Bit width", "End", {"bits": 16}),
            ("Number x", "Home", {"x": -10}),
            ("Number x", "ArrowLeft", {"x": 7.75}),
            ("Range: lower end", "ArrowLeft", {"value_range": [-0.05, 10]}),
            ("Range: lower end", "End", {"value_range": [10, 10]}),
            ("Range: upper end", "Home", {"value_range": [0, 0]}),
            ("symmetric", " ", {"symmetric": True}),
        ],
    )
    def test_keys(self, live: live_page.LivePage, name: str, key: str, setting: dict) -> None:
        before = live.settings()
        role = "checkbox" if key == " " else "slider"
        live.page.get_by_role(role, name=name, exact=True).press(key)
        assert live.settings() == {**before, **setting}
        live.says_what_it_draws()

    @pytest.mark.parametrize(
        ("name", "typed", "setting"),
        [
            ("Bit width", "9", {"bits": 9}),
            ("Bit width", "99", {"bits": 16}),
            ("Bit width", "3.4", {"bits": 3}),
            ("Bit width", "", {}),
            ("Number x", "0.123", {"x": 0.123}),
            ("Number x", "-11", {"x": -10}),
            ("Range: lower end", "12", {"value_range": [10, 10]}),
            ("Range: upper end", "-3", {"value_range": [-3, 0]}),
        ],
    )
    def test_fields(self, live: live_page.LivePage, name: str, typed: str, setting: dict) -> None:
        before = live.settings()
        field = live.page.get_by_role("spinbutton", name=name, exact=True)
        field.fill(typed)
        field.press("Enter")
        assert live.settings() == {**before, **setting}
        # Slider and field show the same, up to the slider's stops.
        slider = live.page.get_by_role("slider", name=name, exact=True)
        shown = float(field.input_value())
        assert float(slider.input_value()) == pytest.approx(shown, abs=0.026)

    def test_another_layer_brings_its_own_range(
        self, made: Callable[[str], Explorer], browser: Browser, scripts: Path
    ) -> None:
        with live_page.opened(made("range"), browser, scripts) as live:
            live.page.get_by_label("Layer").select_option(label="negative")
            live.says_what_it_draws()
            low, high = live.settings()["range"]
            upper = live.page.get_by_role("slider", name="Range: upper end", exact=True)
            assert (float(upper.get_attribute("min")), float(upper.get_attribute("max"))) == (
                low,
                high,
            )
            assert low < 0 < high == float(upper.get_attribute("step"))  # as in JupyterLab
            assert live.text.startswith("negative at 4 bits, range -")
            assert live.complaints == []


class TestPage:
    @pytest.mark.parametrize("kind", EXPLORERS)
    @pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (800, "light"), (1400, "light")])
    def test_it_fits_and_everyone_can_use_it(
        self,
        kind: str,
        width: int,
        scheme: str,
        made: Callable[[str], Explorer],
        browser: Browser,
        scripts: Path,
    ) -> None:
        view = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
        with live_page.opened(made(kind), browser, scripts, **view) as live:
            page = live.page
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            # Nothing of the picture is cut off, and its texts can be read.
            outside, sizes = page.locator("svg[role=img]").evaluate(
                """svg => {
                  const frame = svg.getBoundingClientRect();
                  const texts = [...svg.querySelectorAll("text")];
                  const outside = texts.filter((text) => {
                    const { left, right, top, bottom } = text.getBoundingClientRect();
                    return left < frame.left - 1 || right > frame.right + 1 ||
                      top < frame.top - 1 || bottom > frame.bottom + 1;
                  });
                  const sizes = texts.map((text) => parseFloat(getComputedStyle(text).fontSize));
                  return [outside.map((text) => text.textContent), sizes];
                }"""
            )
            assert outside == []
            assert min(sizes) >= 11
            found = Axe().run(page, context="figure.explorer").response["violations"]
            assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
            assert page.get_by_role("img", name=live.text[:20]).count() == 1
            assert page.locator("figcaption").get_attribute("aria-live") == "polite"
            assert live.complaints == []

    def test_it_follows_the_width_of_the_page(self, live: live_page.LivePage) -> None:
        live.page.set_viewport_size({"width": 400, "height": 900})
        live.page.wait_for_function(
            "document.querySelector('svg[role=img]').clientWidth < 400"
            " && document.documentElement.scrollWidth <= 400"
        )

    def test_the_theme_s_switch_changes_the_colours(self, live: live_page.LivePage) -> None:
        ink = "getComputedStyle(document.querySelector('svg[role=img] text')).fill"
        light = live.page.evaluate(ink)
        live.page.evaluate("document.documentElement.dataset.theme = 'dark'")
        assert live.page.evaluate(ink) != light

    def test_where_it_cannot_start_the_pictures_stay(
        self, made: Callable[[str], Explorer], browser: Browser, tmp_path: Path
    ) -> None:
        with live_page.opened(made("affine"), browser, tmp_path, starts=False) as live:
            assert live.page.locator("figure.explorer .explorer-picture img").count() == 1
            assert live.page.locator("figcaption").text_content() == "A sentence."
