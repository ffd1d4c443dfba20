"""The export for nbgrader and Otter: solutions get all points, stubs and wrong answers none."""

import doctest
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quant_tutorial import models, saving
from quant_tutorial.checks import CHECKS, lesson_02, lesson_07
from quant_tutorial.web import graded

import keras
import nbformat
import numpy as np
import pytest
import test_checks_01
import test_checks_02
import test_checks_07

ROOT = Path(__file__).parent.parent
LESSONS = {lesson.name: lesson for lesson in graded.read_lessons()}
# Of the lessons whose notebooks are executed here: the typical wrong answers, each with its hint.
EXECUTED = {
    "01_why_quantize": test_checks_01.WRONG,
    "02_affine_quantization": [
        *test_checks_02.WRONG,
        *(("02.4", wrong, f"seems that {m}.") for m, wrong in lesson_02._SUSPECTS.items()),
    ],
    "07_integer_only_inference": [
        *test_checks_07.WRONG,
        *(("07.4", wrong, f"seems that {m}.") for m, wrong in lesson_07.SUM_MISTAKES.items()),
        *(("07.5", wrong, f"seems that {m}.") for m, wrong in lesson_07.DENSE_MISTAKES.items()),
    ],
}
QUICK = ("02_affine_quantization", "07_integer_only_inference")  # to check once more, as Otter does
SIDES = ("students", "instructors")
every_lesson = pytest.mark.parametrize("name", LESSONS)
executed = pytest.mark.parametrize("name", EXECUTED)


def cell_of(notebook: dict[str, Any], identity: str) -> str:
    (found,) = [cell["source"] for cell in notebook["cells"] if cell["id"] == identity]
    return found


def run(code: str, names: dict[str, Any]) -> str | None:
    """Run a cell as a grader does, which goes on after an error, and return the error."""
    try:
        exec(code, names)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def otter_code(lesson: graded.Lesson, number: str) -> str:
    """Return the code of a test in Otter's format, which is a doctest."""
    file: dict[str, Any] = {}
    exec(graded.otter_test(number, lesson.answers[number]), file)
    assert file["OK_FORMAT"]
    assert (file["test"]["name"], file["test"]["points"]) == (f"q{number[3:]}", graded.POINTS)
    (suite,) = file["test"]["suites"]
    assert (suite["type"], suite["setup"], suite["teardown"]) == ("doctest", "", "")
    (case,) = suite["cases"]
    return case["code"]


def otter(lesson: graded.Lesson, number: str, names: dict[str, Any]) -> tuple[float, str]:
    """Return the points that Otter gives, and what it says."""
    said: list[str] = []
    test = doctest.DocTestParser().get_doctest(otter_code(lesson, number), names, "q", None, None)
    done = doctest.DocTestRunner(verbose=False).run(test, out=said.append, clear_globs=False)
    assert done.attempted == 2
    return graded.POINTS * (done.failed == 0), "".join(said)


class TestForm:
    def test_every_check_has_its_exercise(self) -> None:
        assert {n for lesson in LESSONS.values() for n in lesson.answers} == set(CHECKS)

    @every_lesson
    def test_an_answer_has_a_name_of_its_own(self, name: str) -> None:
        lesson = LESSONS[name]
        assert len(set(lesson.answers.values())) == len(lesson.answers)

    @pytest.mark.parametrize("side", SIDES)
    @every_lesson
    def test_the_notebooks_are_valid(self, name: str, side: str) -> None:
        lesson = LESSONS[name]
        notebook = getattr(lesson, side)
        nbformat.validate(notebook)
        roles = []
        for cell in notebook["cells"]:
            # As `nbgraderformat/v3.py` of nbgrader 0.9 validates it.
            meta = cell["metadata"]["nbgrader"]
            assert meta["schema_version"] == 3
            assert re.fullmatch(r"[\w-]+", meta["grade_id"])
            assert not meta["task"]
            roles.append((meta["solution"], meta["grade"], meta["locked"]))
            assert ("points" in meta) == meta["grade"]
            if meta["grade"] or meta["solution"]:
                assert cell["cell_type"] == "code"
        ids = [cell["metadata"]["nbgrader"]["grade_id"] for cell in notebook["cells"]]
        assert len(set(ids)) == len(ids)
        # An answer, and right below it its test. All else is locked and gives no points.
        answer, test, other = (True, False, False), (False, True, True), (False, False, True)
        assert set(roles) == {answer, test, other}
        assert roles.count(answer) == roles.count(test) == len(lesson.answers)
        assert all(roles[i + 1] == test for i, role in enumerate(roles) if role == answer)

    @every_lesson
    def test_no_solution_is_left_for_students(self, name: str) -> None:
        lesson = LESSONS[name]
        students = json.dumps(lesson.students)
        assert "SOLUTION" not in students
        assert "solutions" not in students
        places = 0
        for cell, full in zip(lesson.students["cells"], lesson.instructors["cells"], strict=True):
            assert cell["id"] == full["id"]
            before, mark, rest = full["source"].partition(f"\n{graded.BEGIN}\n")
            assert cell["source"] == before
            if mark:
                places += 1
                assert rest.endswith(f"\n{graded.END}")
                assert re.search(r"^\w+ = \.\.\.", before, re.M)
                assert len(rest) > len(graded.END) + 1
        assert places == len(lesson.answers)

    @every_lesson
    def test_both_tools_have_the_same_tests(self, name: str) -> None:
        lesson = LESSONS[name]
        for number in lesson.answers:
            lines = cell_of(lesson.students, f"exercise-{number[3:]}-test").splitlines()
            assert otter_code(lesson, number).splitlines() == [f">>> {x}" for x in lines if x]

    @every_lesson
    def test_no_link_leads_out(self, name: str) -> None:
        lesson = LESSONS[name]
        for cell in lesson.students["cells"]:
            assert not re.search(r"\]\((?!https://)", cell["source"]), cell["id"]

    def test_every_name_is_defined(self, tmp_path: Path) -> None:
        for lesson in LESSONS.values():
            for side in SIDES:
                path = tmp_path / side / f"{lesson.name}.ipynb"
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(getattr(lesson, side)), encoding="utf-8")
        command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache"]
        done = subprocess.run(
            [*command, "--select", "F821", tmp_path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def test_the_exercises_have_what_their_texts_name(self) -> None:
        for name, made in {
            "01_why_quantize": ("wrong = ", "x_test, y_test = "),
            "02_affine_quantization": ("kernel = ",),
            "03_calibration": ("values = ",),
            "04_granularity": ("shipped = ", "colour = "),
            "05_post_training_quantization": ("def ptq(", "simulator = ", "run, held = "),
            "06_tflite_conversion": ("int8_file = ",),
            "10_quantization_lab": ("import QuantizationLab",),
            "11_better_rounding": ("def scheme(", "params = ", "others = ", "def error("),
        }.items():
            given = cell_of(LESSONS[name].students, "from-the-lesson")
            assert [text for text in made if text not in given] == []
            # They come without the lesson's tables, pictures and explorers.
            assert not re.search(r"plotting|plt\.|Table\(|Explorer", given)


@pytest.fixture(scope="module")
def remembered() -> Callable[[Any, np.ndarray], Any]:
    """`models.predict`, which computes the same only once: lessons and checks do it again."""
    predict, known = models.predict, {}

    def answers(model: Any, x: np.ndarray) -> Any:
        parts = (str(model.get_config()).encode(), *model.get_weights(), np.ascontiguousarray(x))
        key = tuple(hashlib.sha1(part).digest() for part in parts)
        if key not in known:
            known[key] = predict(model, x)
        return keras.tree.map_structure(np.copy, known[key])

    return answers


@pytest.mark.slow
class TestPoints:
    @pytest.fixture(autouse=True)
    def quickly(self, monkeypatch: pytest.MonkeyPatch, remembered: Callable[..., Any]) -> None:
        monkeypatch.setattr(models, "predict", remembered)

    @pytest.mark.parametrize("side", SIDES)
    @executed
    def test_a_notebook_gets(self, name: str, side: str) -> None:
        """All points for the solutions, none for the dots: in nbgrader's way and in Otter's."""
        lesson, names = LESSONS[name], {}
        tests = {f"exercise-{number[3:]}-test" for number in lesson.answers}
        for cell in getattr(lesson, side)["cells"]:
            if cell["cell_type"] == "markdown":
                continue
            error = run(cell["source"], names)
            if side == "instructors" or cell["id"] not in tests:
                assert error is None, cell["id"]
            else:
                assert error is not None
                assert error.startswith("AssertionError: Exercise ")
                assert "not attempted yet" in error
        for number in lesson.answers if name in QUICK else ():
            points, said = otter(lesson, number, names)
            assert points == (graded.POINTS if side == "instructors" else 0), said

    @executed
    def test_typical_mistakes_get_none_and_their_hint(self, name: str) -> None:
        lesson = LESSONS[name]
        assert {number for number, _, _ in EXECUTED[name]} == set(lesson.answers)
        for number, wrong, hint in EXECUTED[name]:
            names = {lesson.answers[number]: wrong}
            error = run(cell_of(lesson.students, f"exercise-{number[3:]}-test"), names)
            assert error is not None, (number, wrong)
            assert error.startswith("AssertionError: ")
            assert hint in error

    def test_otter_passes_the_hint_on(self) -> None:
        lesson = LESSONS["02_affine_quantization"]
        assert otter(lesson, "02.1", {"my_scale": 4 / 15}) == (1, "")
        points, said = otter(lesson, "02.1", {"my_scale": 0.25})
        assert points == 0
        assert "AssertionError: Exercise 02.1: " in said
        assert "NameError" in otter(lesson, "02.1", {})[1]


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "quant_tutorial.web.graded", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


class TestExport:
    def test_the_files(self, tmp_path: Path) -> None:
        output = tmp_path / "new" / "graded"
        done = command("--output", output)
        assert done.stderr == ""
        assert done.stdout == f"{len(CHECKS)} exercises, one point each: {output}\n"
        found = {path.relative_to(output).as_posix() for path in output.rglob("*.*")}
        wanted = {"instructors/nbgrader_config.py"}
        for name, lesson in LESSONS.items():
            wanted |= {f"students/{name}.ipynb", f"instructors/source/{name}/{name}.ipynb"}
            wanted |= {f"otter/{name}/tests/q{number[3:]}.py" for number in lesson.answers}
        assert found == wanted
        assert list(output.parent.iterdir()) == [output]
        for name, lesson in LESSONS.items():
            students = output / "students" / f"{name}.ipynb"
            assert json.loads(students.read_text(encoding="utf-8")) == lesson.students

    def test_it_replaces_its_own_files_and_nothing_else(self, tmp_path: Path) -> None:
        graded.export(tmp_path / "graded")
        old = tmp_path / "graded" / "students" / "00_gone.ipynb"
        old.write_text("{}", encoding="utf-8")
        graded.export(tmp_path / "graded")
        assert not old.exists()
        marks = tmp_path / "graded" / "instructors" / "gradebook.db"
        marks.write_bytes(b"a year's work")
        with pytest.raises(ValueError, match=r"gradebook\.db is none of its files: move that away"):
            graded.export(tmp_path / "graded")
        assert marks.read_bytes() == b"a year's work"
        with pytest.raises(ValueError, match=r"must be a folder, and .*gradebook\.db is a file"):
            graded.export(marks)

    def test_a_folder_of_the_same_layout_is_not_its_own(self, tmp_path: Path) -> None:
        mine = tmp_path / "students" / "02_affine_quantization.ipynb"
        mine.parent.mkdir()
        mine.write_text("{}", encoding="utf-8")
        with pytest.raises(ValueError, match=r"02_affine_quantization\.ipynb is none of its files"):
            graded.export(tmp_path)
        assert mine.read_text(encoding="utf-8") == "{}"

    def test_an_error_leaves_the_old_export(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        graded.export(tmp_path / "graded")
        before = sorted(tmp_path.rglob("*"))

        def fail(number: str, answer: str) -> str:
            raise OSError("the disk is full")

        monkeypatch.setattr(graded, "otter_test", fail)
        with pytest.raises(OSError, match="the disk is full"):
            graded.export(tmp_path / "graded")
        assert sorted(tmp_path.rglob("*")) == before

    def test_the_command_says_what_is_wrong(self, tmp_path: Path) -> None:
        (tmp_path / "own.txt").write_text("mine", encoding="utf-8")
        done = command("--output", tmp_path)
        assert done.returncode == 1
        assert "own.txt is none of its files" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_folder_that_cannot_be_replaced_stays(self, tmp_path: Path) -> None:
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "file").write_bytes(b"content")
        with pytest.raises(FileNotFoundError):
            saving.replace_folder(tmp_path / "missing", tmp_path / "old")
        assert [path.name for path in tmp_path.rglob("*")] == ["old", "file"]


class TestDamagedLessons:
    """Notebooks that are not built as the others are."""

    HEADING = (
        "## Exercises\n\nPut it there. Solutions: [solutions/99](solutions/99_x.ipynb).\n\n**1.** ?"
    )

    def read(self, folder: Path, lesson: list[str], solution: list[str] | None) -> Any:
        def write(path: Path, cells: list[str]) -> Path:
            made = [
                (graded._markdown if text.startswith(("#", "**")) else graded._code)(f"c{i}", text)
                for i, text in enumerate(cells)
            ]
            path.write_text(json.dumps({"cells": made}), encoding="utf-8")
            return path

        path = write(folder / "99_x.ipynb", ["# X", *lesson])
        solutions = folder / "solved.ipynb"
        if solution is not None:
            write(solutions, ["# Solutions: X", *solution])
        return graded.read_lesson(path, solutions)

    CHECK = 'my_x = ...\ncheck("99.1", my_x)'

    def test_a_lesson_as_it_should_be(self, tmp_path: Path) -> None:
        lesson = [
            "import a, b\nbase = b.load()\nmore = [a]",
            self.HEADING,
            f"print(base)\n{self.CHECK}",
        ]
        found = self.read(tmp_path, lesson, ["import c", "**1.** So.", 'check("99.1", 7)'])
        assert found.answers == {"99.1": "my_x"}
        assert cell_of(found.students, "from-the-lesson") == "import b\nbase = b.load()"
        assert cell_of(found.students, "c3") == "print(base)\nmy_x = ..."
        solved = cell_of(found.instructors, "c3")
        assert solved.splitlines()[2:] == [graded.BEGIN, "my_x = 7", graded.END]
        assert "Solutions" not in cell_of(found.students, "c2")

    def test_a_lesson_without_exercises(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, ["x = 1"], None) is None

    @pytest.mark.parametrize(
        ("cells", "solution", "message"),
        [
            ([HEADING, CHECK], None, r"99_x\.ipynb has exercises, and .*solved\.ipynb is missing"),
            ([HEADING], [], "has no check below its exercises"),
            ([HEADING, CHECK], ["import c"], r"has no solution of exercise 99\.1"),
            ([HEADING, 'check("99.1", 7)'], ["**1.**", CHECK], r"exercise 99\.1 checks no name"),
            ([HEADING, "%magic", CHECK], ["**1.**", CHECK], "cell c2 is no Python"),
            (["## Exercises\n\n?", CHECK], ["**1.**", CHECK], "has not one link to its solutions"),
        ],
    )
    def test_others(
        self, tmp_path: Path, cells: list[str], solution: list[str] | None, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            self.read(tmp_path, cells, solution)

    def test_a_name_that_the_lesson_no_longer_makes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(graded._ALSO_NEEDED, "99", ("held",))
        with pytest.raises(ValueError, match="The exercises need held, which no statement"):
            self.read(tmp_path, [self.HEADING, self.CHECK], ["**1.**", self.CHECK])

    def test_no_notebook(self, tmp_path: Path) -> None:
        (tmp_path / "99_x.ipynb").write_text("<html>", encoding="utf-8")
        with pytest.raises(ValueError, match=r"99_x\.ipynb is no notebook"):
            graded.read_lesson(tmp_path / "99_x.ipynb", tmp_path / "solved.ipynb")
