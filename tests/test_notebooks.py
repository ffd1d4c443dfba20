"""What nbval does not look at: the form of the notebooks, which the design lays down."""

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quant_tutorial.plotting.sharpness import page_size
from quant_tutorial.web import mathml
from quant_tutorial.web.frames import is_explorer

import nbformat
import pytest
from PIL import Image
from rerun_notebooks import COLLAPSED, clean

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(
    path
    for path in (ROOT / "notebooks").rglob("[0-9]*.ipynb")
    if path.parent.name in ("notebooks", "solutions")  # not JupyterLab's own copies
)
LESSONS = [path for path in NOTEBOOKS if path.parent.name == "notebooks"]
# Tags of nbval that keep an output from being compared.
IGNORING = {"nbval-ignore-output", "nbval-skip", "raises-exception"}


HIDDEN = {"outputs_hidden": True}  # by which JupyterLab knows a collapsed output


def named(path: Path) -> str:
    return str(path.relative_to(ROOT / "notebooks"))


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def prose(path: Path) -> str:
    cells = (cell for cell in read(path)["cells"] if cell["cell_type"] == "markdown")
    return "\n\n".join("".join(cell["source"]) for cell in cells)


every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
every_lesson = pytest.mark.parametrize("path", LESSONS, ids=named)


def test_the_lessons_are_there() -> None:
    assert [path.stem[:2] for path in LESSONS] == [f"{number:02}" for number in range(13)]


@every_notebook
def test_committed_as_after_restart_and_run_all(path: Path) -> None:
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


@every_notebook
def test_no_error_and_no_stderr_in_the_page(path: Path) -> None:
    for cell in code_cells(path):
        for output in cell["outputs"]:
            assert output["output_type"] != "error", cell["id"]
            assert output.get("name") != "stderr", cell["id"]


@every_notebook
def test_nothing_in_a_page_depends_on_the_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/tmp/|/home/|/root/|/Users/|/work/", text)


@every_notebook
def test_metadata_are_the_same_everywhere(path: Path) -> None:
    notebook = read(path)
    assert notebook["metadata"] == {
        "kernelspec": {
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags", "jupyter", "predict"}, cell["id"]
        # Ids that a person gave: they say what the cell is about, and never change by themselves.
        assert re.fullmatch(r"[a-z][a-z0-9-]+", cell["id"])
        assert not re.fullmatch(r"[0-9a-f]{8}(-.*)?", cell["id"])


@every_notebook
def test_widgets_are_explorers(path: Path) -> None:
    for cell in code_cells(path):
        source = "".join(cell["source"])
        assert not re.search(r"\b@?(interact\w*|Output)\b", source), cell["id"]
        for output in cell["outputs"]:
            # Only a running kernel can show it: the page would hold "model not found".
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


@every_notebook
def test_headings(path: Path) -> None:
    text = re.sub(r"```.*?```", "", prose(path), flags=re.S)
    headings = re.findall(r"^(#+) (.+)$", text, re.M)
    assert [level for level, _ in headings].count("#") == 1
    assert headings[0][0] == "#"
    for _, heading in headings[1:]:
        words = heading.split()[1:]
        allowed = {"LiteRT", "MNIST", "TFLite", "PTQ", "QAT", "NumPy", "Keras", "TFMOT"}
        assert all(word.islower() or word in allowed or not word.isalpha() for word in words), (
            heading
        )


@every_notebook
def test_no_words_that_make_a_reader_feel_slow(path: Path) -> None:
    assert not re.findall(r"\b(just|simply|easy|easily|obviously|trivial)\b", prose(path), re.I)


@every_notebook
def test_cells_are_short_and_imports_come_first(path: Path) -> None:
    for number, cell in enumerate(code_cells(path)):
        source = "".join(cell["source"])
        assert len(source.splitlines()) <= 15, cell["id"]
        assert cell["id"] != "setup" or number == 0
        if number:
            assert not re.search(r"^\s*(import|from) ", source, re.M), cell["id"]


@every_notebook
def test_every_figure_has_its_sentence(path: Path) -> None:
    for cell in code_cells(path):
        pictures = [o for o in cell["outputs"] if "image/png" in o.get("data", {})]
        words = "".join("".join(o.get("text", "")) for o in cell["outputs"])
        for picture in pictures:
            plain = "".join(picture["data"].get("text/plain", ""))
            words += "" if plain.startswith("<Figure") else plain
        assert not pictures or len(words.split()) >= 8, cell["id"]


@every_notebook
def test_pictures_are_equally_sharp(path: Path) -> None:
    for cell in code_cells(path):
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
                data = base64.b64decode("".join(output["data"]["image/png"]))
                size = page_size(*Image.open(io.BytesIO(data)).size)
                hint = f"{cell['id']}: run make notebooks"
                assert output["metadata"].get("image/png") == size, hint


@every_notebook
def test_ignored_outputs_give_their_reason(path: Path) -> None:
    for cell in code_cells(path):
        if IGNORING & set(cell["metadata"].get("tags", [])):
            source = "".join(cell["source"])
            reason = re.search(r"^# not compared: (\w+)", source, re.M)
            assert reason, cell["id"]
            # Times depend on what else the machine does: `make benchmark` holds them to a bound.
            assert "assert " in source or reason[1] == "times", cell["id"]


@every_notebook
def test_the_web_edition_knows_every_formula(path: Path) -> None:
    text = re.sub(r"`[^`]*`", "", prose(path))
    for block, inline in re.findall(r"\$\$(.+?)\$\$|\$(.+?)\$", text, re.S):
        mathml.mathml(block or inline, block=bool(block))


@every_notebook
def test_links_lead_somewhere(path: Path) -> None:
    text = prose(path)
    anchors = {heading.replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.M)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            assert (path.parent / target.split("#")[0]).exists(), target


@every_lesson
def test_a_lesson_has_its_parts(path: Path) -> None:
    text = prose(path)
    assert "**Afterwards you can**" in text
    goals = text.split("**Afterwards you can**")[1].split("**Time:**")[0]
    assert 2 <= len(re.findall(r"^- ", goals, re.M)) <= 4
    minutes = r"\d+ minutes( to read, \d+ for the exercises)?"
    assert re.search(rf"\*\*Time:\*\* {minutes}\. \*\*Before this:\*\*", text)
    assert text.count("**Predict") == text.count("<details>") + (path.stem == "00_start_here")
    if path.stem == "00_start_here":
        return
    assert "**Predict:**" in text
    assert "\n## Summary\n" in text
    assert "\n## Exercises\n" in text
    solutions = path.parent / "solutions" / path.name
    asked, solved = (
        [line for cell in code_cells(p) for line in "".join(cell["source"]).splitlines()]
        for p in (path, solutions)
    )
    checks = [re.match(r'check\("([\d.]+)"', line) for line in asked]
    exercises = [match[1] for match in checks if match]
    assert exercises
    assert all(number.startswith(path.stem[:2]) for number in exercises)
    assert exercises == [m[1] for line in solved if (m := re.match(r'check\("([\d.]+)"', line))]


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path not in LESSONS], ids=named)
def test_solutions_are_right(path: Path) -> None:
    for cell in code_cells(path):
        if "check(" in "".join(cell["source"]):
            printed = "".join(
                "".join(o["text"]) for o in cell["outputs"] if o.get("name") == "stdout"
            )
            assert printed.rstrip().endswith(": right."), cell["id"]


def predictions(path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each question of a lesson: the id of its cell, and the code cells up to the next heading."""
    asked, found = None, []
    for cell in read(path)["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            found.append(cell)
        elif "**Predict:**" in text or re.search(r"^##? ", text, re.M):
            if asked:
                yield asked, found
            asked, found = (cell["id"] if "**Predict:**" in text else None), []
    if asked:
        yield asked, found


def is_collapsed(cell: dict[str, Any]) -> bool:
    return COLLAPSED in cell["metadata"].get("tags", [])


@every_notebook
def test_a_collapsed_output_gives_nothing_away(path: Path) -> None:
    for cell in read(path)["cells"]:
        collapsed = is_collapsed(cell)
        hint = f"{cell['id']}: run make notebooks"
        assert cell["metadata"].get("jupyter") == (HIDDEN if collapsed else None), hint
        # JupyterLab shows the first line of the first output: that one is empty.
        empty = [output.get("data") == {} for output in cell.get("outputs", [])]
        assert empty == [collapsed and place == 0 for place in range(len(empty))], hint
        assert not collapsed or len(empty) >= 2, f"{cell['id']} has no output to collapse"


@every_lesson
def test_the_output_that_answers_a_question_starts_collapsed(path: Path) -> None:
    collapsed = [cell["id"] for cell in code_cells(path) if is_collapsed(cell)]
    answering = []
    for asked, cells in predictions(path):
        ids = [cell["id"] for cell in cells if is_collapsed(cell)]
        answering += ids
        # An explorer answers when the reader moves it. Some questions need no code at all.
        moves = any(is_explorer(output) for cell in cells for output in cell["outputs"])
        shows = any(cell["outputs"] for cell in cells)
        if collapsed or path.stem >= "05":
            assert ids or moves or not shows, f'no output after "{asked}" has the tag {COLLAPSED}'
    assert collapsed == answering, "collapsed, though it answers no question"


NOTEBOOK = """{"cells": [%s], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}"""


def saved_by_jupyterlab(name: str, metadata: dict[str, Any], printed: str) -> dict[str, Any]:
    output = {"name": "stdout", "output_type": "stream", "text": [f"{printed}\n"]}
    return {
        "cell_type": "code",
        "execution_count": 1,
        "id": name,
        "metadata": metadata,
        "outputs": [output],
        "source": [f"print('{name}')"],
    }


def test_make_notebooks_keeps_what_is_collapsed() -> None:
    as_opened = {"collapsed": True, "jupyter": HIDDEN, "trusted": True}
    for metadata in (as_opened, {"tags": [COLLAPSED]}, {"tags": ["a", COLLAPSED]}):
        cells = json.dumps(saved_by_jupyterlab("answer", metadata, "answer"))
        notebook = nbformat.reads(NOTEBOOK % cells, as_version=4)
        clean(notebook)
        (cell,) = notebook.cells
        tags = metadata.get("tags", [COLLAPSED])
        assert cell.metadata == {"jupyter": HIDDEN, "tags": tags}
        assert cell.outputs[0] == {"output_type": "display_data", "data": {}, "metadata": {}}
        assert cell.outputs[1].text == ["answer\n"]
        nbformat.validate(notebook)


@pytest.mark.slow
def test_nbval_compares_what_is_collapsed(tmp_path: Path) -> None:
    cells = [
        saved_by_jupyterlab(name, {"jupyter": HIDDEN}, printed)
        for name, printed in (("right", "right"), ("wrong", "something else"))
    ]
    notebook = nbformat.reads(NOTEBOOK % ", ".join(map(json.dumps, cells)), as_version=4)
    clean(notebook)
    path = tmp_path / "collapsed.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-rA", path]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.search(r"^PASSED .*Cell 0$", run.stdout, re.M), run.stdout
    assert re.search(r"^FAILED .*Cell 1", run.stdout, re.M), run.stdout
