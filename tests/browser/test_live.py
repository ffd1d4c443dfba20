"""The live explorers of the web edition say and compute what Python does, in Chromium."""

import os
import random
import re
import shutil
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
from quant_tutorial.explorers.lab import _SOURCES, QuantizationLab
from quant_tutorial.explorers.post_training import PostTrainingExplorer
from quant_tutorial.explorers.rounding import RoundingExplorer, compare
from quant_tutorial.lab import PTQ, Lab
from quant_tutorial.rounding import Rounded
from quant_tutorial.scheme import GRANULARITIES, TensorScheme
from quant_tutorial.simulate import ModelParams
from quant_tutorial.web import bundling, model_assets

import live_page
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

SETTINGS = 200
# Of the explorers with the real model there are fewer, because Python takes up to a few seconds for
# one. `QUANT_TUTORIAL_LIVE_SETTINGS=200` tries as many of them as of the others.
MODEL_SETTINGS = {"comparison": 6, "lab": 8, "post_training": 30}
SOURCES = ("W2A8 adaround", "W2A2")  # of the lab's weights
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


class WithDrawing(QuantizationLab):
    """A lab whose sentence always has the predictions for the drawing; else they come first."""

    def draw(self) -> str:
        self._drawn = self._look_at_drawing(self.setting)
        return super().draw()


def lab(request: pytest.FixtureRequest) -> QuantizationLab:
    names = ("baseline", "calibration", "x_test", "data")
    model, calibration, images, data = map(request.getfixturevalue, names)
    explorer = WithDrawing(Lab(model, calibration, images, data.y_test))
    # Every other source takes seconds to load: a few stand for all of them.
    explorer.source.options = [text for text, name in _SOURCES.items() if name in (PTQ, *SOURCES)]
    return explorer


def lab_integers(explorer: QuantizationLab) -> np.ndarray:
    """Return the integer weights of all layers, channels first."""
    setting = explorer.setting
    weights = explorer._lab._bench(setting.source).simulator.weights
    parts = [
        np.moveaxis(quantize(weights[name], params), -1, 0).ravel()
        for name, params in explorer._lab.params(setting).weights.items()
        if params is not None
    ]
    return np.concatenate([np.zeros(0, int), *parts])


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
    moves = compare(explorer._weights[name], found.integers[name], found.params.weights[name])
    return moves.steps.ravel()


def ends(params: QuantParams) -> list[int]:
    return [params.qmin, params.qmax, params.zero_point]


# How each explorer is made, and the integers that it computes for its setting.
EXPLORERS: dict[str, tuple[Callable[..., Explorer], Callable[..., np.ndarray]]] = {
    "affine": (affine, affine_integers),
    "range": (calibration, calibration_integers),
    "granularity": (granularity, granularity_integers),
    "comparison": (comparison, comparison_integers),
    "lab": (lab, lab_integers),
    "post_training": (post_training, post_training_integers),
    "rounding": (rounding, rounding_integers),
}
STATES = {"comparison": 7 * 2 * 4, "rounding": 2 * 3 * 2}  # where there are few


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    bundling.bundle(folder)
    model_assets.write(folder, SOURCES)
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
    draw = random.Random(2026)
    settings, expected = [], []
    with live_page.unchanged(explorer):
        for _ in range(count):
            settings.append(live_page.random_setting(explorer, draw))
            explorer.text = explorer.draw()
            expected.append((explorer.text, live_page.checksum(integers(explorer))))
    with live_page.opened(explorer, browser, scripts) as live:
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


class TestLoading:
    """An explorer that runs the model loads it when the reader first moves a control."""

    def test_the_picture_stays_until_then(
        self, made: Callable[[str], Explorer], browser: Browser, scripts: Path
    ) -> None:
        with live_page.opened(made("post_training"), browser, scripts, loads=False) as live:
            page, asked = live.page, []
            page.on("request", lambda request: asked.append(request.url))
            assert page.locator("figure.explorer .explorer-picture img").count() == 1
            assert live.text == "A sentence."
            page.get_by_role("slider", name="Weight bits", exact=True).press("ArrowLeft")
            bar = page.get_by_role("progressbar", name="Loading the model")
            bar.wait_for()
            page.get_by_text("of 10,000 images right").wait_for()
            assert bar.count() == page.locator(".explorer-picture").count() == 0
            assert live.text.startswith("Weights 3 bits")
            bytes_sent = sum((scripts / Path(url).name).stat().st_size for url in {*asked})
            assert bytes_sent < 6e6 - 0.3e6  # and the page itself with its scripts and data
            assert live.complaints == []

    def test_of_several_moves_the_last_one_is_shown(
        self, made: Callable[[str], Explorer], browser: Browser, scripts: Path
    ) -> None:
        with live_page.opened(made("post_training"), browser, scripts) as live:
            slider = live.page.get_by_role("slider", name="Weight bits", exact=True)
            for key in ("Home", "ArrowRight", "End", "ArrowLeft", "ArrowLeft"):
                slider.press(key)
            live.page.get_by_text(re.compile("Weights 6 bits.* of 10,000 images right")).wait_for()
            live.page.wait_for_timeout(300)
            assert live.text.startswith("Weights 6 bits")

    def test_what_is_missing_is_said_and_tried_again(
        self, made: Callable[[str], Explorer], browser: Browser, scripts: Path, tmp_path: Path
    ) -> None:
        bundle = shutil.copytree(scripts, tmp_path / "bundle")
        listed = bundle / "assets.json"
        listed.rename(tmp_path / "assets.json")
        with live_page.opened(made("post_training"), browser, bundle, loads=False) as live:
            slider = live.page.get_by_role("slider", name="Weight bits", exact=True)
            slider.press("ArrowLeft")
            live.page.get_by_role("alert").wait_for()
            assert "Error" in live.text
            (tmp_path / "assets.json").rename(listed)
            slider.press("ArrowLeft")
            live.page.get_by_text("of 10,000 images right").wait_for()
            assert live.page.get_by_role("alert").count() == 0
