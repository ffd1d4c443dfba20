"""Export the exercises as notebooks for nbgrader and Otter (`make graded`).

The exercises come from the lessons, the solutions from `notebooks/solutions`, and a test is the
course's own check, which raises its hint. What the exercises use of the lesson before them is put
into one cell. The output is written whole or not at all:

    students/NN_….ipynb                        an answer is `...`; the tests stand below
    instructors/nbgrader_config.py             nbgrader's course folder
    instructors/source/NN_…/NN_….ipynb         with the solutions, which nbgrader takes out
    otter/NN_…/tests/qK.py                     the same tests in the format of Otter

nbgrader's metadata are those of schema version 3:
https://nbgrader.readthedocs.io/en/stable/contributor_guide/metadata.html. Otter's tests:
https://otter-grader.readthedocs.io/en/latest/test_files/ok_format.html.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import json
import re
import symtable
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from quant_tutorial.saving import replace_folder
from quant_tutorial.web import sources
from quant_tutorial.web.sources import ROOT

POINTS = 1  # for each exercise
LIMIT = 900  # seconds for a cell while nbgrader grades: some solutions train a model
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
# What the texts of a lesson's exercises speak of in words, or only beside an argument of that name.
_ALSO_NEEDED = {
    "05": ("held", "y_held", "accuracy"),
    "10": ("QuantizationLab",),
    "11": ("error",),
}
_Cell = dict[str, Any]

_INTRODUCTION = """\
# Exercises: {title}

These are the exercises of lesson {title}. Where they mention the lesson or a cell above, they mean
that notebook. The next cells define what they use of it.

The cell below each answer tests it. It prints nothing if the answer is right. Otherwise it ends in
an error, whose last line says what is wrong. Change only the cells with the dots."""
_CONFIG = f"""\
# nbgrader's settings for these exercises; run nbgrader in this folder.
c = get_config()
c.CourseDirectory.course_id = "quant_tutorial"
c.ClearSolutions.code_stub = {{"python": ""}}  # the dots stand above the solution
c.ExecutePreprocessor.timeout = {LIMIT}  # seconds for a cell: some answers train a model
"""
_OTTER = """\
OK_FORMAT = True

test = {{
    "name": "q{place}",
    "points": {points},
    "suites": [
        {{
            "cases": [{{"code": {code!r}, "hidden": False, "locked": False}}],
            "scored": True,
            "setup": "",
            "teardown": "",
            "type": "doctest",
        }}
    ],
}}
"""


@dataclass(frozen=True)
class Lesson:
    """The exercises of a lesson, for both sides: `students` and `instructors` are notebooks."""

    name: str
    students: dict[str, Any]
    instructors: dict[str, Any]
    answers: dict[str, str]  # from "02.1" to the name of the answer, "my_scale"


@dataclass(frozen=True)
class _Statement:
    """A statement of a notebook: which names it binds anew, which it changes, which it uses."""

    source: str
    binds: frozenset[str]
    changes: frozenset[str]
    uses: frozenset[str]


def read_lesson(path: Path, solutions: Path) -> Lesson | None:
    """Return the exercises of a lesson with their solutions, or None for a lesson without.

    Raises:
        ValueError: when an exercise has no solution, or a notebook is not built as the others are.
    """
    cells = _cells(path)
    start = next((i for i, cell in enumerate(cells) if _is_heading(cell)), None)
    if start is None:
        return None
    if not solutions.exists():
        raise ValueError(f"{path.name} has exercises, and {solutions} is missing.")
    setup, solved = _solutions(solutions)
    last = max((i for i, cell in enumerate(cells) if _check(cell)), default=-1)
    if last < start:
        raise ValueError(f"{path.name} has no check below its exercises.")
    exercises = cells[start : last + 1]
    also = _ALSO_NEEDED.get(path.stem[:2], ())
    given = _given(cells[:start], exercises, "\n".join(setup), also)
    made = [_markdown("title", _INTRODUCTION.format(title=sources.title(path)))]
    made += [_code("setup" if i == 0 else f"setup-{i + 1}", text) for i, text in enumerate(setup)]
    made += [_code("from-the-lesson", given)] if given else []
    made = [_locked(cell) for cell in made]
    answers: dict[str, str] = {}
    for cell in exercises:
        text, found = _text(cell), _check(cell)
        if found is None:
            make = _markdown if cell["cell_type"] == "markdown" else _code
            text = _without_link(text, path) if _is_heading(cell) else text
            made.append(_locked(make(cell["id"], text)))
            continue
        number, answer = found
        if not isinstance(answer, ast.Name):
            raise ValueError(f"{path.name}: exercise {number} checks no name.")
        if number not in solved:
            raise ValueError(f"{solutions} has no solution of exercise {number}.")
        answers[number] = answer.id
        parts = _without_check(text), BEGIN, _named(*solved[number], answer.id), END
        test = _code(f"exercise-{number[3:]}-test", _test(number, answer.id))
        made.append(_graded(_code(cell["id"], "\n".join(parts)), solution=True))
        made.append(_graded(test, solution=False))
    open_cells = [{**c, "source": c["source"].partition(f"\n{BEGIN}\n")[0]} for c in made]
    return Lesson(path.stem, _notebook(open_cells), _notebook(made), answers)


def read_lessons() -> list[Lesson]:
    """Return the exercises of all lessons that have some.

    Raises:
        ValueError: when there are no lessons, or one is not built as the others are.
    """
    folder = ROOT / "notebooks"
    paths = sorted(folder.glob("[0-9]*.ipynb"))
    if not paths:
        raise ValueError(f"{ROOT} has no notebooks: run this in a checkout of the project.")
    read = [read_lesson(path, folder / "solutions" / path.name) for path in paths]
    return [lesson for lesson in read if lesson is not None]


def otter_test(number: str, answer: str) -> str:
    """Return the text of a test file in Otter's format."""
    code = "".join(f">>> {line}\n" for line in _test(number, answer).splitlines() if line)
    return _OTTER.format(place=number[3:], points=POINTS, code=code)


def export(output: Path) -> int:
    """Write the exercises of all lessons into a folder, and return their number.

    Raises:
        ValueError: when `output` is a file or holds anything that is no such export, or when a
            notebook is not built as the others are; the folder then stays as it was.
        OSError: when it cannot be written.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"output must be a folder, and {output} is a file.")
    foreign = _foreign(output)
    if foreign:
        raise ValueError(
            f"output would replace {output}, and {foreign[0]} is none of its files: "
            "move that away, or name another folder with --output."
        )
    lessons = read_lessons()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".") as scratch:
        part = Path(scratch) / "graded"
        _write(part / "instructors" / "nbgrader_config.py", _CONFIG)
        for lesson in lessons:
            file = f"{lesson.name}.ipynb"
            _write(part / "students" / file, _json(lesson.students))
            instructors = part / "instructors" / "source" / lesson.name / file
            _write(instructors, _json(lesson.instructors))
            for number, answer in lesson.answers.items():
                test = part / "otter" / lesson.name / "tests" / f"q{number[3:]}.py"
                _write(test, otter_test(number, answer))
        replace_folder(part, output)
    return sum(len(lesson.answers) for lesson in lessons)


def _foreign(output: Path) -> list[Path]:
    """List the files that an export would delete without having written them: a gradebook, say."""
    config = "instructors/nbgrader_config.py"
    patterns = [config, "students/*.ipynb", "instructors/source/*/*.ipynb", "otter/*/tests/q*.py"]
    ours = {path for pattern in patterns for path in output.glob(pattern)}
    if not (output / config).exists():
        ours.clear()  # another folder that has students' notebooks
    return sorted(path for path in output.rglob("*") if path.is_file() and path not in ours)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# --- Cells ----------------------------------------------------------------------------------------


def _cells(path: Path) -> list[_Cell]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is no notebook ({error!r}).") from None
    for cell in cells:
        try:
            ast.parse(_text(cell) if cell["cell_type"] == "code" else "")
        except SyntaxError as error:
            raise ValueError(f"{path}: cell {cell['id']} is no Python ({error}).") from None
    return cells


def _text(cell: _Cell) -> str:
    return "".join(cell["source"])


def _is_heading(cell: _Cell) -> bool:
    return cell["cell_type"] == "markdown" and _text(cell).startswith("## Exercises\n")


def _check(cell: _Cell) -> tuple[str, ast.expr] | None:
    """Return the number and the answer that a cell checks, or None where it checks nothing."""
    if cell["cell_type"] == "code":
        for node in ast.parse(_text(cell)).body:
            match node:
                case ast.Expr(ast.Call(ast.Name("check"), [ast.Constant(str(number)), answer])):
                    return number, answer
    return None


def _without_check(text: str) -> str:
    return re.sub(r"(?m)^check\(.*\)\n?", "", text).rstrip()


def _without_link(text: str, path: Path) -> str:
    """Return the text above the exercises without its link to the solutions."""
    short, found = re.subn(r" ?Solutions: \[[^]]*\]\([^)]*\)\.", "", text)
    if found != 1:
        raise ValueError(f"{path.name} has not one link to its solutions, but {found}.")
    return short


def _solutions(path: Path) -> tuple[list[str], dict[str, tuple[str, ast.expr]]]:
    """Return the set-up cells, and the code and the answer of each exercise.

    An exercise's cells begin at its bold number and end with the check. What follows up to the next
    number discusses the answer and is left out.
    """
    setup: list[str] = []
    solved: dict[str, tuple[str, ast.expr]] = {}
    code: list[str] | None = setup
    for cell in _cells(path):
        if cell["cell_type"] == "markdown":
            if re.match(r"\*\*\d+\.", _text(cell)):
                code = []
        elif code is not None:
            code.append(_without_check(_text(cell)))
            found = _check(cell)
            if found:
                solved[found[0]] = "\n\n\n".join(filter(None, code)), found[1]
                code = None
    return setup, solved


def _named(code: str, answer: ast.expr, name: str) -> str:
    """Return a solution that binds the name of the answer, also where its check has a literal."""
    if isinstance(answer, ast.Name) and answer.id == name:
        return code
    return f"{code}\n{name} = {ast.unparse(answer)}".lstrip()


def _test(number: str, answer: str) -> str:
    return f'from quant_tutorial.checks import grade\n\ngrade("{number}", {answer})'


def _markdown(identity: str, text: str) -> _Cell:
    return {"cell_type": "markdown", "id": identity, "metadata": {}, "source": text}


def _code(identity: str, text: str) -> _Cell:
    cell = {**_markdown(identity, text), "cell_type": "code"}
    return {**cell, "execution_count": None, "outputs": []}


def _locked(cell: _Cell) -> _Cell:
    """Return a cell that students must not change."""
    return _with_metadata(cell, grade=False, solution=False, locked=True)


def _graded(cell: _Cell, solution: bool) -> _Cell:
    """Return the cell of an answer, or else the locked one that tests it."""
    if solution:
        return _with_metadata(cell, grade=False, solution=True, locked=False)
    return _with_metadata(cell, grade=True, solution=False, locked=True, points=POINTS)


def _with_metadata(cell: _Cell, **roles: Any) -> _Cell:
    nbgrader = {"schema_version": 3, "grade_id": cell["id"], "task": False, **roles}
    return {**cell, "metadata": {"nbgrader": nbgrader}}


def _notebook(cells: list[_Cell]) -> dict[str, Any]:
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _json(notebook: dict[str, Any]) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


# --- What the exercises use of their lesson -------------------------------------------------------


def _given(before: list[_Cell], exercises: list[_Cell], setup: str, also: Iterable[str]) -> str:
    """Return the statements of a lesson that make what its exercises use.

    These are the names in their code and in the code of their texts, and those of `also`. The
    lesson is walked backwards: a statement is kept when it makes or changes a name that is needed
    from there on, and then needs what it uses itself.

    Raises:
        ValueError: when nothing makes a name of `also`.
    """
    has = {name for statement in _statements(setup) for name in statement.binds}
    code = [_text(cell) for cell in before if cell["cell_type"] == "code"]
    lesson = [statement for text in code for statement in _statements(text)]
    for name in set(also) - {name for statement in lesson for name in statement.binds}:
        raise ValueError(f"The exercises need {name}, which no statement of the lesson makes.")
    needed = (set(_names_in(exercises)) | set(also)) - has
    kept: list[str] = []
    for statement in reversed(lesson):
        if needed & (statement.binds | statement.changes):
            kept.append(_only(statement.source, needed))
            needed = (needed - statement.binds) | (statement.uses - has)
    kept.reverse()
    defines = [bool(re.match(r"(@|def |class )", source)) for source in kept]
    text = "".join(kept[:1])
    for source, near in zip(kept[1:], map(any, pairwise(defines)), strict=True):
        text += ("\n\n\n" if near else "\n") + source
    return text


def _only(source: str, needed: set[str]) -> str:
    """Return a statement, of an import only the names that are needed."""
    node = ast.parse(source).body[0]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        node.names = [a for a in node.names if (a.asname or a.name.split(".")[0]) in needed]
        return ast.unparse(node)
    return source


def _names_in(exercises: Iterable[_Cell]) -> Iterator[str]:
    """Yield the names that exercises use, in their cells and in the code of their texts.

    A text also names what the answer gets and what it consists of: `my_shift(x, places)` and
    `(bits, error)` are nothing that the lesson has made.
    """
    own: set[str] = set()  # what an answer is called, and the arguments that it is to take
    trees: list[ast.AST] = []
    for cell in exercises:
        if cell["cell_type"] == "markdown":
            for span in re.findall(r"(?<!`)`([^`\n]+)`", _text(cell)):
                try:
                    trees.append(ast.parse(span))
                except SyntaxError:
                    continue
        else:
            for statement in _statements(_without_check(_text(cell))):
                yield from statement.uses - own
                own |= statement.binds
    used = []
    for tree in trees:
        match tree:
            case ast.Module([ast.Expr(ast.Call(ast.Name(), arguments, []))]) if all(
                isinstance(argument, ast.Name) for argument in arguments
            ):
                own |= {argument.id for argument in arguments}
            case ast.Module([ast.Expr(ast.Tuple())]):
                pass
            case _:
                used += [statement.uses for statement in _statements(ast.unparse(tree))]
    for names in used:
        yield from names - own


def _statements(code: str) -> Iterator[_Statement]:
    """Yield the statements of a cell in their order."""
    for node in ast.parse(code).body:
        first = min([node, *getattr(node, "decorator_list", [])], key=lambda n: n.lineno)
        text = "\n".join(code.splitlines()[first.lineno - 1 : node.end_lineno])
        table = symtable.symtable(text, "cell", "exec")
        symbols = table.get_symbols()
        bound = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
        uses = {s.get_name() for s in symbols if s.is_referenced()} | set(_globals_of(table))
        if isinstance(node, (ast.For, ast.While)):  # its names are passing; what it fills is not
            uses, bound = uses - bound, set()
        changes = {name for part in ast.walk(node) for name in _changed(part)}
        names = bound - uses, bound | changes, uses - set(dir(builtins))
        yield _Statement(text, *map(frozenset, names))


def _globals_of(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the names that functions, classes and comprehensions take from outside of them."""
    for child in table.get_children():
        yield from (s.get_name() for s in child.get_symbols() if s.is_global())
        yield from _globals_of(child)


def _changed(node: ast.AST) -> Iterator[str]:
    """Yield the name of what an assignment changes in part, such as `table` in `table[0] = 1`."""
    if isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, ast.Store):
        inner: ast.expr = node
        while isinstance(inner, (ast.Subscript, ast.Attribute)):
            inner = inner.value
        if isinstance(inner, ast.Name):
            yield inner.id


def main() -> None:
    """Export the exercises for nbgrader and Otter, and print where they are."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "graded")
    arguments = parser.parse_args()
    try:
        count = export(arguments.output.resolve())
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    print(f"{count} exercises, one point each: {arguments.output}")


if __name__ == "__main__":
    main()
