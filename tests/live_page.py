"""Live explorers in a page, as the web edition has them, without the rest of the site."""

import contextlib
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal
from unittest.mock import MagicMock

from quant_tutorial.explorers.base import Explorer
from quant_tutorial.explorers.exported import exported, exported_controls, named_widgets
from quant_tutorial.web import bundling

import barriers
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, ViewportSize

# A name for this machine, to which browsers allow all that they allow to HTTPS. Nothing listens:
# the test itself answers the requests.
ORIGIN = "http://localhost"
STATIC = bundling.HERE / "static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm"}
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<title>Live</title><meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="_static/site.css"><link rel="stylesheet" href="_static/live.css">
<script defer src="_static/stepper.js"></script></head><body><main>
<figure class="explorer" data-live="data.json"><div class="explorer-picture"><img alt="" src="">
</div><figcaption>A sentence.</figcaption></figure></main></body></html>"""
# Sets one setting after the other, and returns what is said and a checksum of all integers.
SET_ALL = """async settings => {
  const { live } = document.querySelector("figure.explorer");
  const found = [];
  for (const each of settings) {
    const whole = live.whole();
    live.set(each);
    const text = await whole;
    let sum = 0;
    for (const integer of live.integers()) sum = (Math.imul(sum, 31) + integer) | 0;
    found.push([text, sum >>> 0]);
  }
  return found;
}"""
# After the next picture nothing changes when the same values are set again.
FOLLOWS = """() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(() => {
  const { live } = document.querySelector("figure.explorer");
  const seen = () => document.querySelector("figure.explorer svg").innerHTML +
    document.querySelector("figcaption").textContent;
  const before = seen();
  live.set({});
  resolve(before === seen());
})))"""
RESET = """async settings => {
  document.documentElement.dataset.theme = "light";
  const { live } = document.querySelector("figure.explorer");
  const whole = live.whole();
  live.set(settings);
  await whole;
}"""
LOAD = """async () => {
  const { live } = document.querySelector("figure.explorer");
  const whole = live.whole();
  await live.load();
  await whole;
}"""
LIVES = "() => document.querySelector('figure.explorer').live !== undefined"


@dataclass
class LivePage:
    """A page with one live explorer, and what its console has complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def set_all(self, settings: list[dict[str, Any]]) -> list[tuple[str, int]]:
        """Return the sentence and the checksum of the integers for each setting."""
        return [tuple(found) for found in self.page.evaluate(SET_ALL, settings)]

    def settings(self) -> dict[str, Any]:
        """Return the values of the controls."""
        return self.page.evaluate("document.querySelector('figure.explorer').live.settings()")

    @property
    def text(self) -> str:
        """The sentence."""
        return self.page.locator("figcaption").text_content()

    def says_what_it_draws(self) -> None:
        """Wait until picture and sentence are those of the controls' values."""
        self.page.wait_for_function(FOLLOWS)

    def fits_and_everyone_can_use_it(self, width: int) -> None:
        """Assert that a page of this width has room for the picture, and axe finds no barrier."""
        page = self.page
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
        assert barriers.serious(page, "figure.explorer") == {}
        assert page.get_by_role("img", name=self.text[:20]).count() == 1
        assert page.locator("figcaption").get_attribute("aria-live") == "polite"


@contextlib.contextmanager
def made(
    makers: Mapping[str, Callable[..., Explorer]], request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Explorer]]:
    """Return the explorer of a kind, made once; it draws no pictures.

    Its data for the page are computed once, too: they are the same for all settings.
    """
    found: dict[str, Explorer] = {}

    def explorer(kind: str) -> Explorer:
        if kind not in found:
            found[kind] = makers[kind](request)
            without_pictures(found[kind])
            found[kind].page_data = cache(found[kind].page_data)
        return found[kind]

    yield explorer
    for each in found.values():
        each.close()


@contextlib.contextmanager
def opened(
    explorer: Explorer,
    browser: Browser,
    scripts: Path,
    *,
    starts: bool = True,
    loads: bool = True,
    **view: Any,
) -> Iterator[LivePage]:
    """Open a page with the live twin of an explorer.

    Args:
        explorer: The explorer.
        browser: The browser.
        scripts: The folder of the bundle.
        starts: Whether to wait for the twin; otherwise until the page has nothing left to load.
        loads: Whether to load what the twin computes with, which it does at the first move.
        view: What `new_page` is told.
    """
    page = browser.new_page(**view)
    data = json.dumps(exported(explorer), allow_nan=False)

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN).lstrip("/")
        if path in ("", "data.json"):
            route.fulfill(body=data if path else PAGE, content_type="" if path else "text/html")
            return
        name = path.removeprefix("_static/")
        file = scripts / Path(name).name if name.startswith("live/") else STATIC / name
        kind = TYPES.get(file.suffix, "application/octet-stream")
        if file.is_file():
            route.fulfill(body=file.read_bytes(), content_type=kind)
        else:
            route.fulfill(status=204)

    page.route(f"{ORIGIN}/**", answer)
    live = LivePage(page)
    page.on(
        "console",
        lambda message: live.complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: live.complaints.append(str(error)))
    try:
        page.goto(f"{ORIGIN}/")
        if starts:
            page.wait_for_function(LIVES)
            if loads:
                page.evaluate(LOAD)
        else:
            page.wait_for_load_state("networkidle")
        yield live
    finally:
        page.close()


@contextlib.contextmanager
def shared(
    explorer: Callable[[str], Explorer], browser: Browser, scripts: Path
) -> Iterator[Callable[..., LivePage]]:
    """Return the page of a kind, with a width and a scheme of colours; it is opened once.

    Whoever gets it finds the explorer's first settings, and no complaint. What else there is, such
    as a drawing, is as the one before has left it.
    """
    found: dict[str, tuple[LivePage, dict[str, Any]]] = {}

    def page(kind: str, width: int = 1280, scheme: Literal["dark", "light"] = "light") -> LivePage:
        size = ViewportSize(width=width, height=900)
        if kind not in found:
            view = {"viewport": size, "color_scheme": scheme}
            live = pages.enter_context(opened(explorer(kind), browser, scripts, **view))
            found[kind] = live, live.settings()
            return live
        live, settings = found[kind]
        live.complaints.clear()
        live.page.set_viewport_size(size)
        live.page.emulate_media(color_scheme=scheme)
        live.says_what_it_draws()  # in this width
        live.page.evaluate(RESET, settings)
        return live

    with contextlib.ExitStack() as pages:
        yield page


def without_pictures(explorer: Explorer) -> None:
    """Let an explorer show nothing, so that a test can call `draw` for the sentence alone."""
    explorer._show = lambda draw: None
    explorer.redraw_background = lambda: None
    explorer.plot = MagicMock()


def random_setting(explorer: Explorer, draw: random.Random) -> dict[str, Any]:
    """Set an explorer's controls as a reader might, and return their values by name.

    Menus come first, since the limits of sliders may depend on them. A slider is at its end or its
    middle now and then, mostly on a stop and else where only typing gets it.
    """
    found: dict[str, Any] = {}
    names = [each["name"] for each in exported_controls(explorer)]
    holders = named_widgets(explorer)
    for kinds in (("choice", "check"), ("integer", "real", "range")):
        for name in names:
            each = next(c for c in exported_controls(explorer) if c["name"] == name)
            if each["kind"] in kinds:
                found[name] = _random_value(each, draw)
                holders[name].value = found[name]
    return found


def show(explorer: Explorer, setting: dict[str, Any]) -> None:
    """Set an explorer's controls to the values of `random_setting`."""
    holders = named_widgets(explorer)
    for name, value in setting.items():
        holders[name].value = value


def states(explorer: Explorer) -> float:
    """Return how many settings an explorer has, as far as they can be counted."""
    sizes = [
        {"choice": len(c.get("options", ())), "check": 2}.get(
            c["kind"], c["high"] - c["low"] + 1 if c["kind"] == "integer" else math.inf
        )
        for c in exported_controls(explorer)
    ]
    return math.prod(sizes)


def _random_value(control: dict[str, Any], draw: random.Random) -> Any:
    if control["kind"] == "choice":
        return draw.choice([value for _, value in control["options"]])
    if control["kind"] == "check":
        return draw.random() < 0.5
    low, high, step = control["low"], control["high"], control["step"]
    if control["kind"] == "integer":
        return draw.randint(low, high)

    def number() -> float:
        if draw.random() < 0.15:
            return draw.choice([low, high, min(max(0.0, low), high), (low + high) / 2])
        value = draw.uniform(low, high)
        if draw.random() < 0.7:
            value = low + round((value - low) / step) * step
        return min(round(value, 9), high)

    return number() if control["kind"] == "real" else tuple(sorted((number(), number())))


def checksum(integers: np.ndarray) -> int:
    """Return the checksum that `SET_ALL` computes of integers: a polynomial in 31, in 32 bits."""
    powers = np.full(integers.size, 31, np.uint32)
    powers[:1] = 1
    weights = np.multiply.accumulate(powers, dtype=np.uint32)[::-1]
    return int((integers.astype(np.int64).astype(np.uint32) * weights).sum(dtype=np.uint32))
