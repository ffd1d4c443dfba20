"""The lessons' questions ("Predict: …") as a page asks them, before it shows the output.

The question and the course's answer stand in the Markdown cell. The cell's metadata only add how
the reader answers: `predict` lists, for each question, its parts. A part is a choice of one, a
choice of several, a number with its tolerance, or free text. `says` quotes the words of the
course's answer on which a part's answer rests (without it, they are the answer itself), so that the
two cannot drift apart; "…" separates two quotations.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MARK = "**Predict:**"  # begins a question
_QUESTION = re.compile(rf"{re.escape(MARK)}.*?<details>(.*?)</details>", re.S)
_NUMBER = re.compile(r"[−-]?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_WORDS = {"none": 0, "nothing": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}


@dataclass(frozen=True)
class Part:
    """What a reader answers to a question, or to a part of it.

    Attributes:
        kind: "choice" (of one), "several" (any number of them), "number" or "text".
        label: What is asked for, where the question has several parts.
        choices: The texts to choose from.
        answer: The course's: a choice, a tuple of choices, or a number; None for a free text.
        tolerance: How far a number may be from `answer` and still agree with it.
        unit: What follows a number.
        says: The words of the course's answer that give this one.
    """

    kind: str
    label: str = ""
    choices: tuple[str, ...] = ()
    answer: str | float | tuple[str, ...] | None = None
    tolerance: float = 0.0
    unit: str = ""
    says: str = ""


def part(entry: Mapping[str, Any]) -> Part:
    """Return a part from its entry in a cell's metadata.

    Raises:
        ValueError: when the entry has another form than its kind needs.
    """
    needed = {
        "choice": {"choices", "answer"},
        "several": {"choices", "answer"},
        "number": {"answer", "tolerance"},
        "text": set(),
    }
    kind = entry.get("kind")
    if kind not in needed:
        raise ValueError(f"kind must be one of {', '.join(needed)}, got {kind!r}.")
    optional = {"kind", "label", "says"} | ({"unit"} if kind == "number" else set())
    if not needed[kind] <= set(entry) or not set(entry) <= needed[kind] | optional:
        expected = ", ".join(sorted(needed[kind])) or "no more"
        raise ValueError(f'A part of the kind "{kind}" needs {expected}, got {sorted(entry)}.')
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    made = Part(**fields)
    if made.choices:
        chosen = (made.answer,) if kind == "choice" else made.answer
        if len(made.choices) < 2 or len(set(made.choices)) < len(made.choices):
            raise ValueError(f"choices must be two or more, all different, got {made.choices}.")
        if not set(chosen) < set(made.choices) or not chosen:
            raise ValueError(f"answer must be some of {made.choices}, but not all: {made.answer}.")
    if kind == "number" and made.tolerance < 0:
        raise ValueError(f"tolerance must be 0 or more, got {made.tolerance}.")
    return made


def questions(cell: Mapping[str, Any]) -> tuple[tuple[Part, ...], ...]:
    """Return the parts of each question in a cell, in order; empty where it asks nothing.

    Raises:
        ValueError: when a question has no parts, a part is malformed, or its answer is not the one
            that the Markdown gives.
    """
    text = "".join(cell["source"])
    answers = [plain(match[1]) for match in _QUESTION.finditer(text)]
    entries = cell["metadata"].get("predict", [])
    where = f"The cell {cell['id']!r}"
    if text.count(MARK) != len(answers) or len(entries) != len(answers):
        raise ValueError(
            f"{where} asks {text.count(MARK)} questions and answers {len(answers)}, and its "
            f"metadata `predict` have {len(entries)}: give a list of parts for each."
        )
    found = []
    for entry, answer in zip(entries, answers, strict=True):
        try:
            parts = tuple(part(each) for each in entry)
            if not parts:
                raise ValueError("A question needs at least one part.")
            for each in parts:
                _compare(each, answer)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        found.append(parts)
    return tuple(found)


def plain(markup: str) -> str:
    """Return the text of a `<details>` element, without its summary and its tags."""
    text = re.sub(r"<summary>.*?</summary>|<[^>]+>", "", markup, flags=re.S)
    return " ".join(html.unescape(text).split())


def numbers(text: str) -> list[float]:
    """Return the numbers in a text: "7,840", "−128", "10/255", and words such as "four"."""
    found = []
    for match in re.finditer(rf"{_NUMBER.pattern}|[a-z]+", text.lower()):
        if match[0].isalpha():
            found += [float(_WORDS[match[0]])] if match[0] in _WORDS else []
        else:
            above, _, below = match[0].replace(",", "").replace("−", "-").partition("/")
            found.append(float(above) / float(below or 1))
    return found


def _compare(each: Part, answer: str) -> None:
    """Raise a ValueError unless the course's answer says what a part has as its answer."""
    if each.kind == "text":
        return
    says = each.says or (each.answer if isinstance(each.answer, str) else "")
    if not says:
        raise ValueError(f"Quote in `says` the words that give the answer {each.answer}.")
    for quotation in says.split(" … "):
        if quotation.lower() not in answer.lower():
            raise ValueError(f"The course's answer has nowhere {quotation!r}: {answer}")
    if each.kind == "number" and not any(
        abs(number - each.answer) <= each.tolerance for number in numbers(says)
    ):
        raise ValueError(f"The number {each.answer} is not in {says!r}.")


def marked(cell: Mapping[str, Any], lesson: str) -> str:
    """Return a cell's Markdown, whose answers carry the parts as data for `reader/prediction.js`.

    Args:
        cell: A Markdown cell.
        lesson: The lesson's number. With the cell's id and the place of the question in it, it
            makes the key by which a browser keeps what the reader has answered.

    Raises:
        ValueError: as `questions`.
    """
    text = "".join(cell["source"])
    for place, parts in enumerate(questions(cell)):
        shown = [{k: v for k, v in asdict(each).items() if v and k != "says"} for each in parts]
        for entry, each in zip(shown, parts, strict=True):
            if each.kind == "number":  # may be 0
                entry |= {"answer": each.answer, "tolerance": each.tolerance}
        data = html.escape(json.dumps(shown, ensure_ascii=False))
        key = f"{lesson}/{cell['id']}/{place}"
        opening = f'<details class="prediction" data-question="{key}" data-parts="{data}">'
        text = text.replace("<details>", opening, 1)
    return text
