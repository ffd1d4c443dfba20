"""The live explorers of the web edition in Chromium: how they look and how a reader moves them."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from quant_tutorial.explorers.base import Explorer
from quant_tutorial.web import bundling

import live_page
import pytest
from live_explorers import MAKERS
from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    bundling.bundle(folder)
    return folder


@cache
def made(kind: str) -> Explorer:
    """Return the explorer of a kind; nobody moves its controls here."""
    return MAKERS[kind]()


@pytest.fixture(scope="module")
def pages(browser: Browser, scripts: Path) -> Iterator[Callable[..., live_page.LivePage]]:
    """Return the page of a kind; see `live_page.shared`."""
    with live_page.shared(made, browser, scripts) as page:
        yield page


@pytest.fixture
def live(pages: Callable[..., live_page.LivePage]) -> Iterator[live_page.LivePage]:
    live = pages("affine")
    yield live
    assert live.complaints == []


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

    def test_another_layer_brings_its_own_range(self, browser: Browser, scripts: Path) -> None:
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
    @pytest.mark.parametrize("kind", MAKERS)
    @pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (800, "light"), (1400, "light")])
    def test_it_fits_and_everyone_can_use_it(
        self,
        kind: str,
        width: int,
        scheme: str,
        pages: Callable[..., live_page.LivePage],
    ) -> None:
        live = pages(kind, width, scheme)
        live.fits_and_everyone_can_use_it(width)
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
        self, browser: Browser, tmp_path: Path
    ) -> None:
        with live_page.opened(made("affine"), browser, tmp_path, starts=False) as live:
            assert live.page.locator("figure.explorer .explorer-picture img").count() == 1
            assert live.page.locator("figcaption").text_content() == "A sentence."
