"""Collapsed outputs in JupyterLab: what a reader sees of them before and after a cell is run."""

import json
from collections.abc import Iterator

import nbformat
import pytest
from lesson_page import PATIENCE, show, within
from lesson_run import JupyterLab
from playwright.sync_api import Page
from rerun_notebooks import COLLAPSED, clean

NAME = "collapsed.ipynb"
# The answers are 42, which may not be seen: as text, as a table and as an explorer's sentence.
CELLS = {
    "printed": "print('the answer is 42')",
    "table": "display({'text/html': '<table><tr><td>42</td></tr></table>'}, raw=True)",
    "sentence": "display({'text/plain': 'After 3 steps it is 42.'}, raw=True)",
}
OUTPUTS = {
    "printed": nbformat.v4.new_output("stream", text="the answer is 42\n"),
    "table": nbformat.v4.new_output(
        "display_data", {"text/html": "<table><tr><td>42</td></tr></table>"}
    ),
    "sentence": nbformat.v4.new_output("display_data", {"text/plain": "After 3 steps it is 42."}),
}


@pytest.fixture
def page(lab_page: Page, jupyterlab: JupyterLab) -> Iterator[Page]:
    cells = [
        nbformat.v4.new_code_cell(
            source, id=name, outputs=[OUTPUTS[name]], metadata={"tags": [COLLAPSED]}
        )
        for name, source in CELLS.items()
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    clean(notebook)
    jupyterlab.notebook(NAME).write_text(json.dumps(notebook), encoding="utf-8")
    try:
        show(lab_page, NAME, jupyterlab)
        yield lab_page
    finally:
        jupyterlab.end_kernel(NAME)


def test_a_click_or_running_the_cell_shows_them(page: Page) -> None:
    cells = page.locator(".jp-CodeCell")
    for number in range(len(CELLS)):
        cell = cells.nth(number)
        placeholder = cell.locator(".jp-OutputPlaceholder")
        placeholder.wait_for(timeout=1000 * PATIENCE)
        # Without the empty output JupyterLab would show the first line, which has the answer.
        assert placeholder.inner_text().strip() == ""
        assert cell.locator(".jp-OutputArea-output").count() == 0
    cells.nth(0).locator(".jp-Placeholder-content").click()
    cells.nth(0).get_by_text("the answer is 42", exact=True).wait_for(timeout=1000 * PATIENCE)
    for number in range(1, len(CELLS)):
        within(PATIENCE, page, "runCell", number)
        shown = cells.nth(number).locator(".jp-OutputArea-output")
        shown.get_by_text("42").wait_for(timeout=1000 * PATIENCE)
        # JupyterLab forgets its own mark then; `make notebooks` sets it again by the tag.
        metadata = within(PATIENCE, page, "cells")[number]["metadata"]
        assert metadata["tags"] == [COLLAPSED]
        assert "jupyter" not in metadata
