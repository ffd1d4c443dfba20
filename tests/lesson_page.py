"""A lesson's page in JupyterLab, for tests and benchmarks that drive its explorers in Chromium."""

import contextlib
import json
import math
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quant_tutorial.web.frames import explorer_cells

import pytest
from lesson_run import NOTEBOOKS, JupyterLab, end
from playwright.sync_api import ConsoleMessage, Error, Locator, Page, sync_playwright

LESSON_PAGE = Path(__file__).with_name("lesson_page.js")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# Seconds until a result that has not come counts as missing; until a notebook is open; for Run All.
PATIENCE, OPENING, RUNNING = 20, 120, 900
VIEW = {"width": 1500, "height": 1100}
# The page alone: no sandbox (for root), no network of Chromium's own, no rest for what is hidden.
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)
# What the page runs in place of a cell that nbval has executed: of a training, what shows it; and
# of an explorer that measures 10,000 images at each move, the same one on 500.
INSTEAD = {
    ("08", "train-code"): "view = display(live, display_id=True)\nview.update(live)",
    ("05", "explorer"): (
        "PostTrainingExplorer(StagedRun(simulator, x_test[:500]), y_test[:500], bits=3)"
    ),
    ("08", "explorer"): "ComparisonExplorer(simulator, x_test[:500], y_test[:500], bits=2)",
    ("10", "lab"): (  # made once, as that of the lesson, for a cell that is run again
        "QuantizationLab(globals().get('fewer') or (fewer := "
        "Lab(models.load_baseline(), calibration, x_test[:500], data.y_test[:500])))"
    ),
}
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
LIMITS = "field => [field.min, field.max, field.step]"
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
    """What an explorer shows: its picture, by a number that the page gives it, and a sentence."""

    picture: int
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
        self.low, self.high, self.step = map(float, self.fields[0].evaluate(LIMITS))
        # What is alike in these differs in label and ends only.
        self.kind = len(self.handles), self.step

    @property
    def values(self) -> list[float]:
        return [float(field.input_value()) for field in self.fields]

    def target(self, handle: int, key: str, values: list[float]) -> float:
        """Where a key will move a handle: as far as the slider's end or the other handle."""
        ends = [self.low, *values, self.high]
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
        try:
            # Twice: for an estimate, and for what follows it.
            found = within(2 * PATIENCE, self.page, "result", self.root.element_handle())
        except Error as error:
            pytest.fail(f"{self.name}, after {after}: {error.message}")
        assert "error" not in found, f"{self.name}, after {after}:\n{found['error']}"
        return Shown(found["picture"], found["text"])

    @property
    def slider_roots(self) -> list[Locator]:
        return self.root.locator(".noUi-target:not([disabled])").all()

    @property
    def sliders(self) -> list[Slider]:
        return [Slider(root, self.root) for root in self.slider_roots]

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
    name: str
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


class Window:
    """A Chromium that stays open, with one page of JupyterLab in which a lesson follows another.

    To load JupyterLab takes three times as long as to open a notebook in it. Playwright cannot stay
    as long: while it runs, nbval can start no asyncio loop. It is connected for one lesson at a
    time.
    """

    def __init__(self, chromium: str) -> None:
        self._open = contextlib.ExitStack()
        self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        self._process = subprocess.Popen(
            [chromium, *CHROMIUM_FLAGS, f"--user-data-dir={self._folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        """Connect Playwright with the window, and give its page."""
        port = self._folder / "DevToolsActivePort"
        until = time.monotonic() + OPENING
        while not (port.exists() and port.read_text()):
            if time.monotonic() > until or self._process.poll() is not None:
                pytest.fail("Chromium did not start", pytrace=False)
            time.sleep(0.1)
        with sync_playwright() as playwright:
            address = f"http://127.0.0.1:{port.read_text().split()[0]}"
            browser = playwright.chromium.connect_over_cdp(address)
            try:
                page = browser.contexts[0].pages[0]
                page.set_viewport_size(VIEW)
                yield page
            finally:
                browser.close()  # the connection

    def close(self) -> None:
        """End Chromium."""
        end(self._process)
        with contextlib.suppress(OSError):  # a process of Chromium's may still write there
            self._open.close()


def show(page: Page, path: str, jupyterlab: JupyterLab) -> None:
    """Open a notebook in a page of JupyterLab, without what was open there; load it if need be."""
    address = jupyterlab.address(path)
    usable = "() => Boolean(window.jupyterapp) && !document.querySelector('.jp-Dialog')"
    if page.url.split("/lab")[0] == address.split("/lab")[0] and page.evaluate(usable):
        within(OPENING, page, "replaceBy", path)
    else:
        page.add_init_script(path=LESSON_PAGE)
        page.goto(address)
        page.wait_for_function("() => window.jupyterapp", timeout=1000 * OPENING)
    within(OPENING, page, "open", path)


@contextlib.contextmanager
def opened(path: str, page: Page, jupyterlab: JupyterLab) -> Iterator[Lesson]:
    """Open a notebook, run what has to be run for its explorers, and end its kernel afterwards."""
    notebook = json.loads((NOTEBOOKS / path).read_text(encoding="utf-8"))
    ran = [n for n, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"]
    executed = jupyterlab.executed(path, len(ran))  # by nbval, in the kernel that the page finds
    if executed:
        # Without the lesson around them: at each move Chromium would lay out its whole page again.
        notebook["cells"] = explorer_cells(notebook)
        ran = [*range(len(notebook["cells"]))]
        for cell in notebook["cells"]:
            cell["source"] = INSTEAD.get((path[:2], cell["id"]), cell["source"])
        jupyterlab.notebook(path).write_text(json.dumps(notebook), encoding="utf-8")
    lesson = Lesson(page, path.removesuffix(".ipynb"), ran)

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            lesson.console.append(message.text)

    def note_error(error: Error) -> None:
        lesson.console.append(str(error))

    page.on("console", note)
    page.on("pageerror", note_error)
    try:
        show(page, path, jupyterlab)
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
        page.remove_listener("console", note)
        page.remove_listener("pageerror", note_error)
        jupyterlab.end_kernel(path)
