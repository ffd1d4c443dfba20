"""The reference page: its words are those of the lessons, and its sources those that they cite."""

import functools
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
TEXT = (NOTEBOOKS / "reference.md").read_text(encoding="utf-8")
GLOSSARY, NOTATIONS, BIBLIOGRAPHY = (
    TEXT[TEXT.index(f"\n## {heading}\n") :].split("\n## ")[1]
    for heading in ("Glossary", "Notations side by side", "Bibliography")
)
ENTRY = re.compile(r"^- \*\*(.+?)\*\* \(\[(\d\d)\]\(([\w.]+)\)\): (.+)$")
ENTRIES = [ENTRY.match(line) for line in GLOSSARY.splitlines() if line.startswith("- ")]
TERMS = [entry[1] for entry in ENTRIES if entry]
SOURCES = [" ".join(line.split()) for line in re.split(r"^(?=- )", BIBLIOGRAPHY, flags=re.M)[1:]]
SOURCES = [source.split(" ### ")[0] for source in SOURCES]


@functools.cache
def prose(name: str) -> str:
    """The text of a lesson in lower case, without emphasis and backticks, on one line."""
    cells = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]
    text = " ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return " ".join(re.sub(r"[*`]|</?em>", "", text).lower().split())


def words(term: str) -> list[str]:
    """A term as it may stand in a text; a term with an abbreviation in brackets stands for both."""
    name, _, short = term.rstrip(")").partition(" (")
    return [word.lower() for word in (name, short) if word]


def test_it_is_dated() -> None:
    assert re.search(r"As of [A-Z][a-z]+ 20\d\d\.", TEXT.split("\n## ")[0])


def test_every_line_of_the_glossary_is_an_entry() -> None:
    assert all(ENTRIES), "an entry is: - **term** ([NN](lesson.ipynb)): One sentence."
    assert len(TERMS) >= 60
    for entry in ENTRIES:
        assert entry[4][0].isupper()
        assert re.search(r"[.)]$", entry[4]), entry[1]


def test_the_glossary_is_alphabetical() -> None:
    keys = [re.sub(r"[^a-z0-9 ]", "", term.lower().replace("-", " ")) for term in TERMS]
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry], ids=lambda e: e[1])
def test_a_term_occurs_in_the_lesson_that_it_names(entry: re.Match[str]) -> None:
    _, number, name, _ = entry.groups()
    assert name.startswith(f"{number}_")
    assert (NOTEBOOKS / name).exists()
    for word in words(entry[1]):
        assert re.search(rf"(?<![a-z0-9]){re.escape(word)}", prose(name)), f"{word} in {name}"


def test_the_notations_are_tables() -> None:
    tables = [
        [line for line in part.splitlines() if line.startswith("|")]
        for part in NOTATIONS.split("\n\n")
    ]
    papers, tools = [table for table in tables if table]
    for table in (papers, tools):
        assert len({row.count("|") for row in table}) == 1
    assert all(name in papers[0] for name in ("this course", "Jacob", "Krishnamoorthi", "Nagel"))
    assert all(name in tools[0] for name in ("this course", "PyTorch", "TFLite"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source[4:30])
def test_a_source_is_cited_in_the_lessons_that_it_names(source: str) -> None:
    assert re.search(r"Read |Look up ", source), "say what to read it for"
    author = re.match(r"- \*\*([\w-]+)", source)[1].lower()
    addresses = re.findall(r"\]\((https?://[^)]+)\)", source)
    lessons = re.findall(r"\[(\d\d)\]\((\d\d_\w+\.ipynb)\)", source)
    assert bool(lessons) != source.endswith("General reading.")
    for number, name in lessons:
        assert name.startswith(number)
        text = prose(name)
        assert author in text or any(address.lower() in text for address in addresses), name


def test_sources_are_listed_once() -> None:
    names = [re.match(r"- \*\*(.+?)\*\*", source)[1] for source in SOURCES]
    assert len(set(names)) == len(names)
    addresses = re.findall(r"\]\((https?://[^)]+)\)", BIBLIOGRAPHY)
    assert len(set(addresses)) == len(addresses)


def test_the_papers_that_lessons_link_are_listed() -> None:
    linked = {
        address.removesuffix(".pdf")
        for path in NOTEBOOKS.glob("[0-9]*.ipynb")
        for address in re.findall(r"https?://(?:arxiv|doi)\.org/[^)\s\"]+", prose(path.name))
    }
    assert linked <= {address.lower() for address in re.findall(r"https?://[^)\s]+", BIBLIOGRAPHY)}


def test_the_links_lead_somewhere() -> None:
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]+)#?([^)]*)\)", TEXT):
        assert (NOTEBOOKS / target).exists(), target
        if heading:
            assert f"## {heading.replace('-', ' ').lower()}" in prose(target), heading


def test_the_readme_and_the_first_lesson_lead_to_it() -> None:
    assert "](notebooks/reference.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "](reference.md)" in prose("00_start_here.ipynb")
