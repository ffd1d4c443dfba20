"""A lesson's page in JupyterLab, for tests and benchmarks that drive its explorers in Chromium."""

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quant_tutorial.web.frames import is_explorer

import pytest
from lesson_run import NOTEBOOKS, JupyterLab
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page
from playwright.sync_api import TimeoutError as Late

LESSON_PAGE = Path(__file__).with_name("lesson_page.js")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# Seconds until a result that has not come counts as missing; until a notebook is open; for Run All.
PATIENCE, OPENING, RUNNING = 20, 120, 900
VIEW = {"width": 1500, "height": 1100}
# What the page runs in place of a cell that nbval has executed and that takes a minute.
INSTEAD = {"train-code": "view = display(live, display_id=True)\nview.update(live)"}
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
    """Call a function of lesson_page.js."""
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

    def shown(self, after: str = "its cell") -> Shown:
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
    """A notebook's page after its run: its cells, its explorers, the errors in its console."""

    page: Page
    ran: list[int]  # the cells that this page has run
    console: list[str] = field(default_factory=list)
    whole: bool = False  # they came to the end
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


@contextlib.contextmanager
def opened(path: str, browser: Browser, jupyterlab: JupyterLab) -> Iterator[Lesson]:
    """Open a notebook, run what has to be run for its explorers, and end its kernel afterwards."""
    page = browser.new_page(viewport=VIEW)
    page.add_init_script(path=LESSON_PAGE)
    notebook = json.loads((NOTEBOOKS / path).read_text(encoding="utf-8"))
    ran = [n for n, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"]
    executed = jupyterlab.executed(path, len(ran))  # by nbval, in the kernel that the page finds
    if executed:
        ran = [n for n in ran if any(map(is_explorer, notebook["cells"][n]["outputs"]))]
        for number in ran:
            cell = notebook["cells"][number]
            cell["source"] = INSTEAD.get(cell["id"], cell["source"])
        jupyterlab.notebook(path).write_text(json.dumps(notebook), encoding="utf-8")
    lesson = Lesson(page, ran)

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            lesson.console.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: lesson.console.append(str(error)))
    try:
        page.goto(jupyterlab.address(path))
        page.wait_for_function("() => window.jupyterapp", timeout=1000 * OPENING)
        within(OPENING, page, "open", path)
        if executed:
            for number in ran:
                within(4 * PATIENCE, page, "runCell", number)
            lesson.whole = True
        else:
            lesson.whole = within(RUNNING, page, "runAll")
        lesson.cells = within(PATIENCE, page, "cells")
        # While a kernel starts JupyterLab asks it for widgets before it knows of any: not our
        # fault.
        page.evaluate("() => { quant.complaints = []; }")
        for index, cell in enumerate(lesson.cells):
            if any(WIDGET_VIEW in output.get("data", {}) for output in cell.get("outputs", [])):
                within(PATIENCE, page, "scrollTo", index)
                root = page.locator(".quant-explorer").nth(len(lesson.explorers))
                root.wait_for(timeout=1000 * PATIENCE)
                lesson.explorers.append(Explorer(page, root, f"{path[:2]} {cell['id']}"))
        yield lesson
    finally:
        page.close()
        jupyterlab.end_kernel(path)
