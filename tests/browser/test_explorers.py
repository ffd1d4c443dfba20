"""The explorers as a reader meets them: in JupyterLab, in Chromium, from the keyboard.

Every notebook that has an explorer is opened once and run; the tests use its page one after
another. With QUANT_TUTORIAL_SCREENSHOTS=folder each explorer is photographed there: at the start,
at both ends of its sliders, and with each choice of its menus.
"""

import hashlib
import json
import math
import os
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page
from playwright.sync_api import TimeoutError as Late

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# Seconds until a result that has not come counts as missing; until a notebook is open; for Run All.
PATIENCE, OPENING, RUNNING = 20, 120, 900
# The course's promise, by lesson: the median time in ms from a key press to the changed read-out,
# in lesson 05, where an estimate comes first, to the accuracy on all test images.
PROMISED = {"02": 300, "03": 300, "05": 600}
PRESSES, ROUNDS = 24, 3  # the best round counts
# How many steps a key moves a slider; the page keys' five are noUiSlider's.
STEPS = {
    "Home": -math.inf,
    "ArrowRight": 1,
    "ArrowLeft": -1,
    "PageUp": 5,
    "PageDown": -5,
    "End": math.inf,
}
KEYS = [*STEPS, "ArrowLeft"]
VALUES = "menu => [...menu.options].map(option => option.value)"
# What Playwright would wait for without end.
LIMITED = """([ms, argument]) => Promise.race([quant.%s(argument), new Promise((_, reject) =>
  setTimeout(() => reject(new Error(`not done within ${ms / 1000} s`)), ms))])"""


def has_explorer(path: Path) -> bool:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return any(re.search(r"^from quant_tutorial\.explorers", source, re.M) for source in code)


WITH_EXPLORER = sorted(
    path.relative_to(NOTEBOOKS).as_posix()
    for path in NOTEBOOKS.rglob("[0-9]*.ipynb")
    if path.parent.name in ("notebooks", "solutions") and has_explorer(path)
)


def within(seconds: float, page: Page, function: str, argument: Any = None) -> Any:
    """Call a function of page.js."""
    return page.evaluate(LIMITED % function, [1000 * seconds, argument])


@dataclass(frozen=True)
class Shown:
    """What an explorer shows: a digest of its picture, and its sentence."""

    picture: str
    text: str


class Slider:
    """A slider in the page: its one or two handles, and a number field for each."""

    def __init__(self, root: Locator, explorer: Locator) -> None:
        self.handles = root.get_by_role("slider").all()
        # A handle and its field belong together by the name that a screen reader says of both.
        self.names = [handle.get_attribute("aria-label") or "" for handle in self.handles]
        assert all(self.names), "a slider's handle has no accessible name"
        self.fields = [
            explorer.get_by_role("spinbutton", name=name, exact=True) for name in self.names
        ]
        low, high, step = (
            float(self.fields[0].get_attribute(name)) for name in ("min", "max", "step")
        )
        self.low, self.high, self.step = low, high, step
        self.kind = len(self.handles), step  # what is alike in these differs in label and ends only

    @property
    def values(self) -> list[float]:
        return [float(field.input_value()) for field in self.fields]

    def target(self, handle: int, key: str) -> float:
        """Where a key will move a handle: as far as the slider's end or the other handle."""
        ends = [self.low, *self.values, self.high]
        there = ends[handle + 1] + STEPS[key] * self.step
        return min(max(there, ends[handle]), ends[handle + 2])

    def enter(self, handle: int, value: float) -> None:
        """Type a number into a handle's field."""
        self.fields[handle].fill(f"{value:g}")
        self.fields[handle].press("Enter")


class Explorer:
    """An explorer in the page."""

    def __init__(self, page: Page, root: Locator, name: str) -> None:
        self.page, self.root, self.name = page, root, name

    def shown(self, after: str = "Run All") -> Shown:
        """Wait for the kernel's answer, and give what is shown then."""
        within(PATIENCE, self.page, "answered")
        try:
            found = self.page.wait_for_function(
                "root => quant.shown(root)", arg=self.root.element_handle(), timeout=1000 * PATIENCE
            ).json_value()
        except Late:
            pytest.fail(f"{self.name}, after {after}: no result within {PATIENCE} s")
        assert "error" not in found, f"{self.name}, after {after}:\n{found['error']}"
        digest = hashlib.sha256(found["picture"].encode()).hexdigest()[:12]
        return Shown(digest, found["text"])

    @property
    def sliders(self) -> list[Slider]:
        enabled = self.root.locator(".noUi-target:not([disabled])")
        return [Slider(root, self.root) for root in enabled.all()]

    @property
    def kinds(self) -> list[Slider]:
        """One slider of each kind."""
        return [*{slider.kind: slider for slider in reversed(self.sliders)}.values()]

    @property
    def checkboxes(self) -> list[Locator]:
        return [box for box in self.root.get_by_role("checkbox").all() if box.is_enabled()]

    @property
    def menus(self) -> list[Locator]:
        return [menu for menu in self.root.get_by_role("combobox").all() if menu.is_enabled()]

    def photograph(self, state: str) -> None:
        """Write a picture to the folder that was asked for, if one was."""
        if folder := os.environ.get("QUANT_TUTORIAL_SCREENSHOTS"):
            name = re.sub(r"\W+", "-", f"{self.name} {state}").strip("-")
            self.root.screenshot(path=Path(folder) / f"{name}.png")


@dataclass
class Lesson:
    """A notebook's page after Run All: its cells, its explorers, the errors in its console."""

    page: Page
    console: list[str] = field(default_factory=list)
    whole: bool = False  # Run All came to the end
    cells: list[dict[str, Any]] = field(default_factory=list)
    explorers: list[Explorer] = field(default_factory=list)

    def keep_its_cells_from_keys_in(self, control: Locator) -> None:
        """Press keys that are commands of JupyterLab where they are not meant for it."""
        for key in "bmxddz":  # a new cell, prose instead of code, cut, delete, undo
            control.press(key)
        now = within(PATIENCE, self.page, "cells")
        assert [(cell["id"], cell["cell_type"]) for cell in now] == [
            (cell["id"], cell["cell_type"]) for cell in self.cells
        ]


@pytest.fixture(scope="module", params=WITH_EXPLORER, ids=lambda path: path.removesuffix(".ipynb"))
def lesson(
    request: pytest.FixtureRequest, browser: BrowserContext, jupyterlab: Callable[[str], str]
) -> Iterator[Lesson]:
    path, page = request.param, browser.new_page()
    page.add_init_script(path=Path(__file__).with_name("page.js"))
    lesson = Lesson(page)

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            lesson.console.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: lesson.console.append(str(error)))
    page.goto(jupyterlab(path))
    page.wait_for_function("() => window.jupyterapp", timeout=1000 * OPENING)
    within(OPENING, page, "open", path)
    lesson.whole = within(RUNNING, page, "runAll")
    lesson.cells = within(PATIENCE, page, "cells")
    # While a kernel starts JupyterLab asks it for widgets before it knows of any; not our fault.
    page.evaluate("() => { quant.complaints = []; }")
    for index, cell in enumerate(lesson.cells):
        if any(WIDGET_VIEW in output.get("data", {}) for output in cell.get("outputs", [])):
            within(PATIENCE, page, "scrollTo", index)
            root = page.locator(".quant-explorer").nth(len(lesson.explorers))
            root.wait_for(timeout=1000 * PATIENCE)
            lesson.explorers.append(Explorer(page, root, f"{path[:2]} {cell['id']}"))
    yield lesson
    within(PATIENCE, page, "shutDown")
    page.close()


def test_the_lessons_with_explorers_are_found() -> None:
    numbers = {path[:2] for path in WITH_EXPLORER}
    assert numbers >= {"02", "03", "04", "05", "06", "07", "08", "10"}


def test_run_all_shows_the_explorer_and_no_error(lesson: Lesson) -> None:
    code = [cell for cell in lesson.cells if cell["cell_type"] == "code"]
    for cell in code:
        for output in cell["outputs"]:
            assert output["output_type"] != "error", "\n".join([cell["id"], *output["traceback"]])
            assert output.get("name") != "stderr", f"{cell['id']}: {output['text']}"
    assert lesson.whole
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for explorer in lesson.explorers:
        assert explorer.shown().text
        explorer.photograph("start")
    assert any(explorer.sliders or explorer.menus for explorer in lesson.explorers)


def test_every_slider_works_from_the_keyboard(lesson: Lesson) -> None:
    for explorer in lesson.explorers:
        tried = set()
        for slider in explorer.sliders:
            keys = KEYS[:3] if slider.kind in tried else KEYS
            tried.add(slider.kind)
            for handle, name in enumerate(slider.names):
                effect = walk(explorer, slider, handle, keys)
                # Lesson 03 begins with a layer without negative values: there the lower end of the
                # range has to be 0. With another layer it must have its effect.
                for menu in explorer.menus:
                    first = menu.input_value()
                    for choice in reversed(menu.evaluate(VALUES)):
                        if not effect:
                            menu.select_option(choice)
                            effect = walk(explorer, slider, handle, keys)
                    menu.select_option(first)
                assert effect, f"{explorer.name}: {name} changes nothing"


def walk(explorer: Explorer, slider: Slider, handle: int, keys: Sequence[str]) -> bool:
    """Press the keys on a handle and type its old value; tell whether a step has an effect.

    An effect is another picture and another sentence. Not every step has one: 15 bits may give the
    very picture of 16, and an end of a range on the wrong side of 0 counts as 0. But the sentence
    follows every move of a handle that is alone, and the same value always shows the same.
    """
    name = f"{explorer.name}, {slider.names[handle]}"
    start, value, effect = explorer.shown(), slider.values[handle], False
    last, seen = start, {value: start}
    for key in keys:
        at, target = slider.values[handle], slider.target(handle, key)
        move = f"{name} at {at:g}, {key}"
        slider.handles[handle].press(key)
        now = explorer.shown(move)
        reached = slider.values[handle]
        assert math.isclose(reached, target, abs_tol=1e-9), f"{move}: leads to {reached}"
        assert seen.setdefault(reached, now) == now, f"{move}: not what was there before"
        if reached != at and len(slider.handles) == 1:
            assert now.text != last.text, f"{move}: the same sentence"
        if abs(STEPS[key]) == 1:
            effect |= now.picture != last.picture and now.text != last.text
        if key in ("Home", "End"):
            explorer.photograph(f"{slider.names[handle]} {key}")
        last = now
    slider.enter(handle, value)
    assert explorer.shown(f"typing {value:g}") == start, f"{name}: {value:g} typed"
    return effect


def test_number_fields_keep_to_their_bounds(lesson: Lesson) -> None:
    for explorer in lesson.explorers:
        for slider in explorer.kinds:
            start, values = explorer.shown(), slider.values
            # An end of a range that is typed past the other end takes its place.
            for handle, name in enumerate(slider.names):
                slider.enter(handle, slider.low - 1000)
                explorer.shown(name)
                assert min(slider.values) == slider.low, f"{explorer.name}: {name}"
                slider.enter(handle, slider.high + 1000)
                explorer.shown(name)
                assert max(slider.values) == slider.high, f"{explorer.name}: {name}"
            for handle, value in 2 * [*enumerate(values)]:
                slider.enter(handle, value)
                now = explorer.shown()
            assert now == start


def test_of_quick_presses_the_last_one_counts(lesson: Lesson) -> None:
    for explorer in lesson.explorers:
        for slider in explorer.kinds:
            handle, value = slider.handles[-1], slider.values[-1]
            for key in ["Home"] + 8 * ["ArrowRight"]:
                handle.press(key)
            quick = explorer.shown("quick presses")
            for key in ("ArrowLeft", "ArrowRight"):
                handle.press(key)
                slow = explorer.shown(key)
            assert quick == slow, f"{explorer.name}, {slider.names[-1]}"
            slider.enter(-1, value)


def test_every_option_works_from_the_keyboard(lesson: Lesson) -> None:
    for explorer in lesson.explorers:
        start = explorer.shown()
        for box in explorer.checkboxes:
            box.press("Space")
            assert explorer.shown("Space on a checkbox") != start
            box.press("Space")
            assert explorer.shown("Space on a checkbox") == start
        for menu in explorer.menus:
            first, last = menu.input_value(), start
            values = menu.evaluate(VALUES)
            if first != values[0]:
                menu.press("Home")
                last = explorer.shown("Home on a menu")
            for value in values[1:]:
                menu.press("ArrowDown")
                now = explorer.shown(f"ArrowDown to {value}")
                assert menu.input_value() == value
                assert now != last, f"{explorer.name}: {value} changes nothing"
                explorer.photograph(value)
                last = now
            lesson.keep_its_cells_from_keys_in(menu)
            menu.select_option(first)
            assert explorer.shown(first) == start


def test_a_canvas_keeps_its_keys(lesson: Lesson) -> None:
    for explorer in lesson.explorers:
        for canvas in explorer.root.get_by_label("Canvas to draw a digit").all():
            lesson.keep_its_cells_from_keys_in(canvas)


def test_no_serious_accessibility_violation(lesson: Lesson) -> None:
    found = Axe().run(lesson.page, ".quant-explorer").response
    assert "image-alt" in {rule["id"] for rule in found["passes"]}  # it has looked
    serious = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
    assert not serious, "\n".join(
        f"{rule['id']} ({rule['impact']}): {rule['help']}: {node['html'][:200]}"
        for rule in serious
        for node in rule["nodes"]
    )


@pytest.mark.parametrize(
    "lesson",
    [path for path in WITH_EXPLORER if path[:2] in PROMISED],
    ids=lambda path: path.removesuffix(".ipynb"),
    indirect=True,
    scope="module",
)
def test_the_read_out_follows_a_key_press_in_time(lesson: Lesson, measured: list[str]) -> None:
    for explorer in lesson.explorers:
        promised, rounds = PROMISED[explorer.name[:2]], []
        while len(rounds) < ROUNDS and min(rounds, default=math.inf) >= promised:
            rounds.append(median_time(explorer))
        measured.append(
            f"{explorer.name}: {', '.join(f'{time:.0f}' for time in rounds)} ms, promised "
            f"{promised} (median of {PRESSES} presses; {os.cpu_count()} cores, "
            f"{os.getloadavg()[0]:.1f} processes at work)"
        )
        assert min(rounds) < promised, f"{measured[-1]}. Is the machine busy?"


def median_time(explorer: Explorer) -> float:
    """Press arrow keys on the sliders in turn; give the median time that the page noted.

    Each handle goes to its end and back, so that every press leads to another value.
    """
    moves = [(s, i) for s in explorer.sliders for i in range(len(s.handles))]
    keys = ["ArrowLeft"] * len(moves)
    explorer.root.evaluate("root => quant.startClock(root)")
    for press in range(PRESSES):
        turn = press % len(moves)
        slider, handle = moves[turn]
        if math.isclose(slider.target(handle, keys[turn]), slider.values[handle], abs_tol=1e-9):
            keys[turn] = "ArrowRight" if keys[turn] == "ArrowLeft" else "ArrowLeft"
        slider.handles[handle].press(keys[turn])
        text = explorer.shown(keys[turn]).text
    if explorer.name.startswith("05"):
        assert "of 10,000 images right" in text
    times = explorer.page.evaluate("() => quant.stopClock()")
    # The lower end of lesson 03's range has to be 0: moving it changes nothing.
    assert len(times) >= PRESSES / 2, f"{explorer.name}: {len(times)} changes of the read-out"
    return statistics.median(times)


def test_a_cell_that_is_run_again_shows_a_new_explorer(lesson: Lesson) -> None:
    """The former one is closed; the page must not miss it."""
    number = -1
    for index, cell in enumerate(lesson.cells):
        if not any(WIDGET_VIEW in output.get("data", {}) for output in cell.get("outputs", [])):
            continue
        number += 1
        if "display_id=" in cell["source"]:  # trains for a minute
            continue
        explorer = lesson.explorers[number]
        explorer.root.evaluate("root => root.classList.add('former')")
        within(PATIENCE, lesson.page, "scrollTo", index)
        within(4 * PATIENCE, lesson.page, "runCell", index)
        former = lesson.page.locator(".quant-explorer.former")
        former.wait_for(state="detached", timeout=1000 * PATIENCE)
        explorer.root.wait_for(timeout=1000 * PATIENCE)
        assert explorer.shown("running its cell again").text
        assert lesson.page.locator(".quant-explorer").count() == len(lesson.explorers)
        for slider in explorer.sliders[:1]:
            slider.handles[-1].press("Home")
            slider.handles[-1].press("ArrowRight")
            assert explorer.shown("ArrowRight").text


def test_no_error_in_the_console_nor_from_the_kernel(lesson: Lesson) -> None:
    # The last test, for all that the others have done.
    complaints = lesson.console + lesson.page.evaluate("() => quant.complaints")
    assert not complaints, "\n".join(complaints)
