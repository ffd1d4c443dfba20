"""The questions of the lessons, as the web edition asks them."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from quant_tutorial.web import predictions, start

import pytest
from bs4 import BeautifulSoup
from rerun_notebooks import kept

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
EVERY = [*LESSONS, *sorted((ROOT / "notebooks" / "solutions").glob("[0-9]*.ipynb"))]
ANSWER = "Below. At 8 bits 7,840 of <em>all</em> values, four of five; the rest stays."
CHOICE = {"kind": "choice", "choices": ["above", "below"], "answer": "below"}
NUMBER = {"kind": "number", "answer": 7840, "tolerance": 10, "says": "7,840 of all values"}


def markdown(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "markdown"]


def cell(*entries: Any, answer: str = ANSWER) -> dict[str, Any]:
    text = f"**Predict:** where?\n<details><summary>Answer</summary>{answer}</details>\n"
    return {
        "id": "where",
        "source": (text * max(1, len(entries))).splitlines(keepends=True),
        "metadata": {"predict": list(entries)},
    }


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_question_can_be_answered(path: Path) -> None:
    # `questions` compares each part with the answer that the cell gives.
    for each in markdown(path):
        found = predictions.questions(each)
        assert len(found) == "".join(each["source"]).count("**Predict:**"), each["id"]
        for parts in found:
            # Where there are several, each says what it asks for.
            assert len(parts) == 1 or all(part.label for part in parts), each["id"]
            assert len({part.label for part in parts}) == len(parts), each["id"]


def test_most_questions_are_compared_by_the_page() -> None:
    asked = [
        parts
        for path in LESSONS
        for each in markdown(path)
        for parts in predictions.questions(each)
    ]
    kinds = Counter(part.kind for parts in asked for part in parts)
    assert set(kinds) == {"choice", "several", "number", "text"}
    assert kinds["text"] < sum(kinds.values()) / 10


def test_a_question_without_its_parts_is_refused() -> None:
    without = cell()
    with pytest.raises(ValueError, match=r"'where' asks 1 questions.*have 0"):
        predictions.questions(without)
    with pytest.raises(ValueError, match="have 2"):
        predictions.questions({**without, "metadata": {"predict": [[CHOICE], [CHOICE]]}})
    with pytest.raises(ValueError, match="at least one part"):
        predictions.questions(cell([]))
    assert predictions.questions({"id": "a", "source": ["No question."], "metadata": {}}) == ()


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"kind": "guess"}, "kind must be one of choice"),
        ({"kind": "choice", "choices": ["above", "below"]}, "needs answer, choices"),
        ({**CHOICE, "unit": "dB"}, "unit"),
        ({**CHOICE, "answer": "beside"}, "answer must be some of"),
        ({**CHOICE, "choices": ["below", "below"]}, "all different"),
        ({**CHOICE, "kind": "several", "answer": ["above", "below"]}, "but not all"),
        ({**CHOICE, "kind": "several", "answer": []}, "answer must be some of"),
        ({**NUMBER, "tolerance": -1}, "0 or more"),
        # Whose answer is not the one that the cell gives:
        ({**CHOICE, "answer": "above"}, "nowhere 'above'"),
        ({**CHOICE, "says": "Far below"}, "nowhere 'Far below'"),
        ({**NUMBER, "answer": 7820}, "7820 is not in"),
        ({k: v for k, v in NUMBER.items() if k != "says"}, "Quote in `says`"),
    ],
)
def test_a_wrong_part_is_refused(entry: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as error:
        predictions.questions(cell([entry]))
    assert str(error.value).startswith("The cell 'where': ")


def test_numbers_are_found_in_words_too() -> None:
    assert predictions.numbers("7,840 bytes, −128 or 10/255; four, none.") == [
        *(7840, -128, 10 / 255, 4, 0)
    ]


def test_a_page_gets_what_it_needs_and_no_more() -> None:
    two = {**CHOICE, "kind": "several", "choices": ["a", 'b "q"', "<c>"], "answer": ["a"]}
    zero = {"kind": "number", "answer": 0, "tolerance": 0, "says": "none"}
    made = predictions.marked(
        cell([{**two, "says": "all"}, {**zero, "label": "n"}], [NUMBER], answer="none of all 7,840")
        | {
            "metadata": {"predict": [[{**two, "says": "all"}, zero], [{**NUMBER, "says": "7,840"}]]}
        },
        "02",
    )
    details = BeautifulSoup(made, "html.parser").select("details.prediction")
    assert [each["data-question"] for each in details] == ["02/where/0", "02/where/1"]
    first = json.loads(details[0]["data-parts"])
    assert first[0] == {"kind": "several", "choices": two["choices"], "answer": ["a"]}
    assert first[1] == {"kind": "number", "answer": 0, "tolerance": 0}
    # The text is the one of the notebook, and stands there once.
    bare = re.sub(r"<details [^>]*>", "<details>", made)
    assert bare == "".join(cell([], [], answer="none of all 7,840")["source"])


def test_make_notebooks_keeps_the_questions() -> None:
    asked = {"predict": [[CHOICE]]}
    assert kept({**asked, "trusted": True}) == asked


def test_the_start_page_lists_every_lesson() -> None:
    listed = start.lessons(ROOT)
    assert [f"{lesson.address.removesuffix('.html')}.ipynb" for lesson in listed] == [
        path.relative_to(ROOT).as_posix() for path in LESSONS
    ]
    for lesson, path in zip(listed, LESSONS, strict=True):
        text = path.read_text(encoding="utf-8")
        assert lesson.predictions == text.count("**Predict:**")
        assert lesson.exercises == len(set(re.findall(r'"check\(\\"([\d.]+)\\"', text)))
    page = start.page(ROOT, "<figure></figure>", "<table></table>")
    assert not re.search(r"\{\w+\}", page)
    assert not re.search(r"```|`make |pip install", page)  # commands are for those who install it
    assert page.count("data-lesson=") == len(LESSONS)
