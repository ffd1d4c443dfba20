"""What nbval does not look at: the form of the notebooks, which the design lays down."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(
    path
    for path in (ROOT / "notebooks").rglob("[0-9]*.ipynb")
    if path.parent.name in ("notebooks", "solutions")  # not JupyterLab's own copies
)
LESSONS = [path for path in NOTEBOOKS if path.parent.name == "notebooks"]
# Tags of nbval that keep an output from being compared.
IGNORING = {"nbval-ignore-output", "nbval-skip", "raises-exception"}


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
    assert [path.stem[:2] for path in LESSONS] == [f"{number:02}" for number in range(12)]


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
        assert set(cell["metadata"]) <= {"tags"}, cell["id"]
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
def test_ignored_outputs_give_their_reason(path: Path) -> None:
    for cell in code_cells(path):
        if IGNORING & set(cell["metadata"].get("tags", [])):
            source = "".join(cell["source"])
            assert re.search(r"^# not compared: \w+", source, re.M), cell["id"]
            assert "assert " in source, cell["id"]


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
    assert re.search(r"\*\*Time:\*\* \d+ minutes\. \*\*Before this:\*\*", text)
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
