"""Key press to changed read-out in JupyterLab and Chromium."""

import math
import statistics

import pytest
from lesson_page import Explorer, opened
from lesson_run import JupyterLab
from measuring import Report
from playwright.sync_api import Page

# Milliseconds by lesson; in 05, where an estimate comes first, to the accuracy on all images.
PROMISED = {
    "02_affine_quantization": 100,
    "03_calibration": 100,
    "04_granularity": 100,
    "05_post_training_quantization": 250,
}
PRESSES, ROUNDS = 24, 3


@pytest.mark.parametrize("name", PROMISED)
def test_the_read_out_follows_a_key_press(
    name: str, lab_page: Page, jupyterlab: JupyterLab, report: Report
) -> None:
    with opened(f"{name}.ipynb", lab_page, jupyterlab) as lesson:
        for explorer in lesson.explorers:
            times = [time for _ in range(ROUNDS) for time in press(explorer)]
            what = f"{explorer.name} in Chromium, key press to read-out"
            report(what, statistics.median(times), "ms", PROMISED[name])


def press(explorer: Explorer) -> list[float]:
    """Press arrow keys on the sliders in turn; return the times in ms that the page noted.

    Each handle goes to its end and back, so that every press leads to another value.
    """
    moves = [(s, i) for s in explorer.sliders for i in range(len(s.handles))]
    keys = ["ArrowLeft"] * len(moves)
    explorer.root.evaluate("root => quant.startClock(root)")
    for count in range(PRESSES):
        turn = count % len(moves)
        slider, handle = moves[turn]
        values = slider.values
        if math.isclose(slider.target(handle, keys[turn], values), values[handle], abs_tol=1e-9):
            keys[turn] = "ArrowRight" if keys[turn] == "ArrowLeft" else "ArrowLeft"
        slider.handles[handle].press(keys[turn])
        text = explorer.shown(keys[turn]).text
    if explorer.name.startswith("05"):
        assert "of 10,000 images right" in text
    times = explorer.page.evaluate("() => quant.stopClock()")
    # The lower end of lesson 03's range has to be 0: moving it changes nothing.
    assert len(times) >= PRESSES / 2, f"{explorer.name}: {len(times)} changes of the read-out"
    return times
