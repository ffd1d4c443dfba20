"""The start page of the web edition: what the course is, its result, and its lessons.

Its text is `start.md`; the line that says what each lesson is for is the README's. What a reader
has done of a lesson is added in her browser, by `static/reader/overview.js`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant_tutorial.web import predictions

HERE = Path(__file__).resolve().parent
# The explorer in which bits become accuracy and bytes, and the table of the files that they end in.
RESULT = ("05_post_training_quantization", "explorer")
TABLE = ("00_start_here", "result-table")
_ROW = re.compile(r"^\| \[(\d\d) ([^\]]+)\]\((notebooks/[^)]+)\.ipynb\) \| (.+?) \|$", re.M)
_CHECK = re.compile(r'^check\("(\d\d\.\d+)"', re.M)


@dataclass(frozen=True)
class Lesson:
    """A lesson as the start page lists it.

    Attributes:
        number: Two digits.
        name: Its title.
        address: Its page, seen from the start page.
        can: What a reader can do afterwards.
        predictions: How many questions it asks.
        exercises: How many exercises it has.
    """

    number: str
    name: str
    address: str
    can: str
    predictions: int
    exercises: int


def exercises(cell: Mapping[str, Any]) -> list[str]:
    """Return the numbers of the exercises that a cell checks, such as "02.1"."""
    return _CHECK.findall("".join(cell["source"])) if cell["cell_type"] == "code" else []


def lessons(root: Path) -> list[Lesson]:
    """Return the lessons of the README's table, in its order.

    Raises:
        ValueError: when a question of a lesson has no valid metadata (see `predictions.questions`).
    """
    found = []
    for number, name, stem, can in _ROW.findall((root / "README.md").read_text(encoding="utf-8")):
        cells = json.loads((root / f"{stem}.ipynb").read_text(encoding="utf-8"))["cells"]
        asked = [predictions.questions(cell) for cell in cells if cell["cell_type"] == "markdown"]
        checked = [exercise for cell in cells for exercise in exercises(cell)]
        counts = (sum(map(len, asked)), len(checked))
        found.append(Lesson(number, name, f"{stem}.html", can, *counts))
    return found


def page(root: Path, result: str, table: str) -> str:
    """Return the start page's Markdown.

    Args:
        root: The folder of the README.
        result: The HTML of the explorer `RESULT`.
        table: The HTML of the table `TABLE`.
    """
    listed = lessons(root)
    text = (HERE / "start.md").read_text(encoding="utf-8")
    filled = {
        "begin": listed[0].address,
        "result": f'<div class="course-result">{result}</div>',
        "table": f'<div class="course-result">{table}</div>',
        "lessons": f'<ol class="course-lessons">{"".join(map(_item, listed))}</ol>',
    }
    return re.sub(r"\{(\w+)\}", lambda match: filled[match[1]], text)


def _item(lesson: Lesson) -> str:
    counts = [(lesson.predictions, "prediction"), (lesson.exercises, "exercise")]
    offers = ", ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in counts if n)
    return (
        f'<li data-lesson="{lesson.number}" data-predictions="{lesson.predictions}" '
        f'data-exercises="{lesson.exercises}"><a href="{lesson.address}">{lesson.number} '
        f"{html.escape(lesson.name)}</a> <span>{_code(lesson.can)}</span> "
        f'<span class="course-done">{offers}</span></li>'
    )


def _code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
