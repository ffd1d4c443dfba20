"""The explorers as a reader meets them: in JupyterLab, in Chromium, from the keyboard.

Every notebook that has an explorer is opened once; the tests use its page one after another. Where
nbval has just executed the notebook, the page uses that kernel and shows only the cells with an
explorer, which it runs; otherwise, as lesson 02 always, it shows and runs all. With
QUANT_TUTORIAL_SCREENSHOTS=folder each explorer is photographed there: at the start, at both ends of
its sliders, and with each choice of its menus.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence

from quant_tutorial.web.frames import explorer_cells

import pytest
from axe_playwright_python.sync_playwright import Axe
from lesson_page import (
    INSTEAD,
    KEYS,
    PATIENCE,
    STEPS,
    VALUES,
    WIDGET_VIEW,
    WITH_EXPLORER,
    Explorer,
    Lesson,
    Slider,
    opened,
    within,
)
from lesson_run import NOTEBOOKS, JupyterLab
from playwright.sync_api import Page

# Where every key of a slider is tried; in the other lessons no page keys, which are noUiSlider's.
ALL_KEYS = "02_affine_quantization"
OWN_KEYS = [key for key in KEYS if not key.startswith("Page")]
MOST = 2  # options of a menu are tried here; what each does, tests without a browser see
# The start page shows the explorer of lesson 02, where it is walked.
WALKED_ELSEWHERE = {"00_start_here": "02_affine_quantization"}


@pytest.fixture(scope="module", params=WITH_EXPLORER, ids=lambda path: path.removesuffix(".ipynb"))
def lesson(
    request: pytest.FixtureRequest, lab_page: Page, jupyterlab: JupyterLab
) -> Iterator[Lesson]:
    with opened(request.param, lab_page, jupyterlab) as lesson:
        yield lesson


def test_the_lessons_with_explorers_are_found() -> None:
    numbers = {path[:2] for path in WITH_EXPLORER}
    assert numbers >= {"02", "03", "04", "05", "06", "07", "08", "10", "11"}


def test_what_the_page_runs_instead_shows_what_the_cell_does() -> None:
    for (number, name), source in INSTEAD.items():
        path = next(NOTEBOOKS / path for path in WITH_EXPLORER if path.startswith(number))
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        whole = next("".join(cell["source"]) for cell in cells if cell["id"] == name)
        *_, expression = whole.splitlines()
        if "display_id=" in source:
            assert set(source.splitlines()) <= set(whole.splitlines())
        else:
            explorer, options = r"^(\w+)\(", r"\w+=\w+"
            for part in (explorer, options):
                assert re.findall(part, source) == re.findall(part, expression)


def test_what_is_walked_elsewhere_is_the_same() -> None:
    for one, other in WALKED_ELSEWHERE.items():
        shown = []
        for lesson in (one, other):
            notebook = json.loads((NOTEBOOKS / f"{lesson}.ipynb").read_text(encoding="utf-8"))
            sources = ("".join(cell["source"]) for cell in explorer_cells(notebook))
            shown.append([re.findall(r"^(\w+Explorer)\(", source, re.M) for source in sources])
        assert shown[0] == shown[1] != [[]]


def walked_here(lesson: Lesson) -> list[Explorer]:
    """Return the explorers of a lesson, but none that another lesson shows as well."""
    return [] if lesson.name in WALKED_ELSEWHERE else lesson.explorers


def test_its_run_shows_the_explorers_and_no_error(lesson: Lesson) -> None:
    assert lesson.whole
    for number in lesson.ran:
        cell = lesson.cells[number]
        for output in cell["outputs"]:
            assert output["output_type"] != "error", "\n".join([cell["id"], *output["traceback"]])
            assert output.get("name") != "stderr", f"{cell['id']}: {output['text']}"
    counts = [lesson.cells[number]["execution_count"] for number in lesson.ran]
    assert counts == list(range(1, len(counts) + 1))
    assert len(lesson.explorers) == len(explorer_cells({"cells": lesson.cells}))
    for explorer in lesson.explorers:
        assert explorer.shown().text
        explorer.photograph("start")
    assert any(explorer.slider_roots or explorer.menus for explorer in lesson.explorers)


def test_every_slider_works_from_the_keyboard(lesson: Lesson) -> None:
    all_keys = KEYS if lesson.name == ALL_KEYS else OWN_KEYS
    for explorer in lesson.explorers:
        tried, alike = set(), []
        for number, slider in enumerate(explorer.sliders):
            for handle, name in enumerate(slider.names):
                keys: Sequence[str] = all_keys
                if lesson.name in WALKED_ELSEWHERE:
                    keys = ("ArrowLeft", "ArrowRight")
                elif (slider.kind, handle) in tried:
                    if len(slider.names) == 1:
                        alike.append(slider)
                        continue
                    keys = KEYS[:2]  # an end of a range may have no effect where it is
                tried.add((slider.kind, handle))
                effect = walk(explorer, slider, handle, keys)
                # Lesson 03 begins with a layer without negative values: there the lower end of the
                # range has to be 0. With another layer it must have its effect.
                for menu in explorer.menus:
                    first = menu.input_value()
                    for choice in reversed(menu.evaluate(VALUES)):
                        if not effect:
                            menu.select_option(choice)
                            explorer.shown(choice)
                            # The limits of the slider are those of the layer's values.
                            effect = walk(explorer, explorer.sliders[number], handle, keys)
                    menu.select_option(first)
                assert effect, f"{explorer.name}: {name} changes nothing"
        step_each(explorer, alike)


def step_each(explorer: Explorer, sliders: Sequence[Slider]) -> None:
    """Move each slider by a step, on top of the others' steps.

    That is as much as shows that a slider is wired whose like has been walked.
    """
    last = explorer.shown()
    for slider in sliders:
        (value,) = slider.values
        name = f"{explorer.name}, {slider.names[0]} at {value:g}"
        keys = ("ArrowRight", "ArrowLeft")
        key = next(k for k in keys if slider.target(0, k, [value]) != value)
        slider.handles[0].press(key)
        now = explorer.shown(f"{name}, {key}")
        # The values are those of the number fields, which follow their sliders.
        assert slider.values == pytest.approx([slider.target(0, key, [value])], abs=1e-9), name
        assert now.picture != last.picture, f"{name}, {key}: the same picture"
        assert now.text != last.text, f"{name}, {key}: the same sentence"
        last = now


def walk(explorer: Explorer, slider: Slider, handle: int, keys: Sequence[str]) -> bool:
    """Press the keys on a handle and type its old value; tell whether a step has an effect.

    An effect is another picture and another sentence. Not every step has one: 15 bits may give the
    very picture of 16, and an end of a range on the wrong side of 0 counts as 0. But the sentence
    follows every move of a handle that is alone, and the same value always shows the same.
    """
    name = f"{explorer.name}, {slider.names[handle]}"
    start, values, effect = explorer.shown(), slider.values, False
    value = values[handle]
    last, seen = start, {value: start}
    for key in keys:
        at, target = values[handle], slider.target(handle, key, values)
        move = f"{name} at {at:g}, {key}"
        slider.handles[handle].press(key)
        now = explorer.shown(move)
        values = slider.values
        reached = values[handle]
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
    for explorer in walked_here(lesson):
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
    for explorer in walked_here(lesson):
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
            within(PATIENCE, lesson.page, "answered")
        assert explorer.shown("Space on all checkboxes again") == start
        for menu in explorer.menus:
            first, last = menu.input_value(), start
            values = menu.evaluate(VALUES)
            if first != values[0]:
                menu.press("Home")
                last = explorer.shown("Home on a menu")
            for value in values[1:MOST]:
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
        if explorer.slider_roots:
            handle = explorer.slider_roots[0].get_by_role("slider").last
            handle.press("Home")
            handle.press("ArrowRight")
            assert explorer.shown("ArrowRight").text


def test_no_error_in_the_console_nor_from_the_kernel(lesson: Lesson) -> None:
    # The last test, for all that the others have done.
    complaints = lesson.console + lesson.page.evaluate("() => quant.complaints")
    assert not complaints, "\n".join(complaints)
