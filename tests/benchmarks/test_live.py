"""A reader's move to the changed picture in Chromium, for live explorers that need no model."""

import statistics
from pathlib import Path

from quant_tutorial.web import bundling

import live_page
import pytest
from live_explorers import MAKERS
from measuring import Report
from playwright.sync_api import Browser

PROMISED = 30  # milliseconds
# Moves the first slider over all its stops, once for each value of a menu, and returns for each
# move the milliseconds of computing and drawing, and those until the browser has painted it.
MOVE = """async () => {
  const figure = document.querySelector("figure.explorer");
  const [slider] = figure.querySelectorAll("input[type=range]");
  const menu = figure.querySelector("select");
  const { times } = figure.live;
  const painted = () => new Promise((resolve) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = resolve;
    port2.postMessage(null);
  }));
  const found = [];
  for (let option = 0; option < (menu?.length ?? 1); option++) {
    if (menu) {
      menu.selectedIndex = option;
      menu.dispatchEvent(new Event("input"));
      await painted();
    }
    for (let bits = Number(slider.max); bits >= Number(slider.min); bits--) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      slider.value = bits;
      const begun = performance.now();
      slider.dispatchEvent(new Event("input"));
      await painted();
      found.push([times.at(-1), performance.now() - begun]);
    }
  }
  return found;
}"""
ROUNDS = 3


@pytest.mark.parametrize("kind", MAKERS)
def test_the_picture_follows_a_move(
    kind: str, browser: Browser, tmp_path: Path, report: Report
) -> None:
    bundling.bundle(tmp_path)
    with live_page.opened(MAKERS[kind](), browser, tmp_path) as live:
        found = [live.page.evaluate(MOVE) for _ in range(1 + ROUNDS)][1:]
    drawn, painted = (
        statistics.median(times) for times in zip(*[m for r in found for m in r], strict=True)
    )
    report(f"live explorer {kind}, computed and drawn", drawn, "ms")
    # A browser paints sixty times a second: up to 17 ms are waiting.
    report(f"live explorer {kind}, move to picture", painted, "ms", PROMISED)
