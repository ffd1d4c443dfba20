"""One source of truth for versions: pyproject.toml → the two lock files → every installation."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
TOOLS = "tests/requirements.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# What the course needs, and what is installed when tests, site or tools are called for.
COURSE = [*PROJECT["dependencies"], *EXTRAS["checkout"]]
TOOLS_ONLY = [*EXTRAS["cluster"], *EXTRAS["test"], *EXTRAS["site"]]
RANGES = [Requirement(line) for line in [*COURSE, *TOOLS_ONLY]]
LOCKS = {name: (ROOT / name).read_text() for name in ("requirements.lock", TOOLS)}
every_lock = pytest.mark.parametrize("name", LOCKS)


def locked(name: str) -> list[tuple[Requirement, int]]:
    """The pins of a lock file, each with the number of its hashes."""
    pattern = r"^(\S+==.*?) \\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)"
    blocks = re.findall(pattern, LOCKS[name], re.M)
    return [(Requirement(pin), hashes.count("--hash")) for pin, hashes in blocks]


PINS = [pin for name in LOCKS for pin, _ in locked(name)]


def pins(name: str) -> list[Requirement]:
    return [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(name)]


@pytest.mark.parametrize("needed", RANGES, ids=lambda needed: needed.name)
def test_a_lock_holds_a_version_within_each_range(needed: Requirement) -> None:
    found = pins(needed.name)
    assert found, f"{needed.name} is in no lock file: run make lock"
    for pin in found:
        (exact,) = pin.specifier
        assert needed.specifier.contains(exact.version), f"{pin} is outside {needed}: run make lock"


@every_lock
def test_every_line_of_a_lock_is_an_exact_pin_with_hashes_and_no_address(name: str) -> None:
    lines = [line for line in LOCKS[name].splitlines() if not line.startswith("    --hash=sha256:")]
    assert len(lines) == len(locked(name)) > 30
    assert all(hashes for _, hashes in locked(name))
    assert "://" not in LOCKS[name]
    assert not re.search(r"^--(index|extra|find)", LOCKS[name], re.M)


def test_each_package_is_locked_once() -> None:
    course, tools = ({pin.name for pin, _ in locked(name)} for name in LOCKS)
    assert not course & tools


def test_what_only_tests_and_site_need_is_not_in_the_course() -> None:
    course = {pin.name for pin, _ in locked("requirements.lock")}
    assert not course & {"playwright", "sphinx", "nbval", "pytest", "hypothesis", "deno", "ruff"}
    assert "distributed" not in course
    for line in COURSE:
        assert canonicalize_name(Requirement(line).name) in map(canonicalize_name, course)


def test_this_environment_is_the_locked_one() -> None:
    wrong = []
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate():
            (exact,) = pin.specifier
            if version(pin.name) != exact.version:
                wrong.append(f"{pin.name} {version(pin.name)}, locked {exact.version}")
    assert not wrong


def test_conda_installs_the_same() -> None:
    text = (ROOT / "environment.yml").read_text()
    content = yaml.safe_load(text)
    assert "://" not in text
    python, pip, by_pip = content["dependencies"]
    assert pip == "pip"
    assert by_pip == {"pip": ["-r requirements.lock"]}
    number = python.removeprefix("python=")
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(f"{number}.0")


def test_each_dependency_says_what_it_is_for() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    for needed in RANGES:
        (line,) = [line for line in lines if re.match(rf'\s+"{re.escape(needed.name)}[>=<]', line)]
        assert re.search(r", +# \w+", line), line


# A Python that only notes what it is asked for; `-m venv` leaves a copy of it in the new .venv.
NOTING = """#!/bin/sh
echo "$0 $*" >> "$LOG"
case "$*" in
  *"zlib"*) exec {python} -c "$2" ;;
  *"requires-python"*) exec {python} -c "import sys; sys.version_info = {version}; $2" "$3" ;;
  *"ensurepip"*) exit ${{NO_ENSUREPIP:-0}} ;;
  *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *"--require-hashes"*) exit ${{FAIL:-0}} ;;
esac
"""


class TestMake:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        """What `make venv` reads, in a folder of its own."""
        folder = tmp_path / "project"
        folder.mkdir()
        (folder / "tests").mkdir()
        for name in ("Makefile", "pyproject.toml", *LOCKS):
            shutil.copy(ROOT / name, folder / name)
        return folder

    @staticmethod
    def make(
        project: Path, version: tuple[int, ...] = (3, 12), fail: int = 0, target: str = "venv"
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Run make; return how it ended and what it asked Python for."""
        python, log = project.parent / "python", project.parent / "log"
        # Another version is another file, as it would be.
        python.write_text(NOTING.format(python=sys.executable, version=version))
        python.chmod(0o755)
        log.unlink(missing_ok=True)
        done = subprocess.run(
            ["make", target, f"PYTHON={python}"],
            cwd=project,
            env={**os.environ, "LOG": str(log), "FAIL": str(fail)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done, log.read_text().splitlines()

    @pytest.mark.parametrize(
        ("version", "word"), [((3, 8, 1), "too old"), ((3, 10), "too old"), ((3, 14), "too new")]
    )
    def test_an_unsupported_python_is_refused(
        self, project: Path, version: tuple[int, ...], word: str
    ) -> None:
        done, asked = self.make(project, version)
        assert done.returncode
        assert word in done.stderr
        assert "Python 3.11 to 3.13" in done.stderr
        assert "make venv PYTHON=python3.13" in done.stderr
        assert not any("-m venv" in line for line in asked)

    @pytest.mark.parametrize("version", [(3, 11, 0), (3, 12), (3, 13, 9)])
    def test_a_supported_one_installs_the_lock(
        self, project: Path, version: tuple[int, ...]
    ) -> None:
        done, asked = self.make(project, version)
        assert done.returncode == 0, done.stderr
        assert any("--require-hashes" in line and "requirements.lock" in line for line in asked)
        assert (
            "fetchNews" in (project / ".venv/share/jupyter/lab/settings/overrides.json").read_text()
        )

    def test_a_finished_one_is_kept(self, project: Path) -> None:
        self.make(project)
        _, asked = self.make(project)
        assert not any("install" in line for line in asked)
        later = (project / "requirements.lock").stat().st_mtime + 10
        os.utime(project / "requirements.lock", (later, later))
        _, asked = self.make(project)
        assert any("install" in line for line in asked)
        assert not any("-m venv" in line for line in asked)

    def test_what_only_tests_need_comes_when_it_is_called_for(self, project: Path) -> None:
        _, asked = self.make(project)
        assert not any(TOOLS in line for line in asked)
        _, asked = self.make(project, target="tools")
        (line,) = [line for line in asked if "--require-hashes" in line]
        assert f"-r requirements.lock -r {TOOLS}" in line
        _, asked = self.make(project, target="tools")
        assert not any("install" in line for line in asked)
        # A new lock of the course installs both again.
        later = (project / "requirements.lock").stat().st_mtime + 10
        os.utime(project / "requirements.lock", (later, later))
        _, asked = self.make(project, target="tools")
        assert len([line for line in asked if "--require-hashes" in line]) == 2

    def test_one_that_was_interrupted_begins_again(self, project: Path) -> None:
        """A stamp must never stand for an environment that was left half-way."""
        self.make(project)
        later = (project / "requirements.lock").stat().st_mtime + 10
        os.utime(project / "requirements.lock", (later, later))
        done, _ = self.make(project, fail=1)
        assert done.returncode
        assert not list(project.glob(".venv/installed-*"))
        _, asked = self.make(project)
        assert any("-m venv --clear" in line for line in asked)

    @pytest.mark.parametrize(
        ("missing", "pip"), [(0, ".venv/bin/python -m"), (1, "--python .venv")]
    )
    def test_pip_comes_from_the_new_environment_where_it_can(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, missing: int, pip: str
    ) -> None:
        monkeypatch.setenv("NO_ENSUREPIP", str(missing))
        _, asked = self.make(project)
        assert all(pip in line for line in asked if " install " in line)
        assert any("-m venv --clear --without-pip" in line for line in asked) == bool(missing)

    def test_a_folder_with_an_apostrophe(self, project: Path) -> None:
        other = project.rename(project.with_name("O'Brien's course"))
        done, _ = self.make(other)
        assert done.returncode == 0, done.stderr
        assert list(other.glob(".venv/installed-?*"))

    def test_another_folder_gets_its_own(self, project: Path) -> None:
        self.make(project)
        _, asked = self.make(project.rename(project.with_name("moved")))
        assert any("-m venv --clear" in line for line in asked)


def test_ruff_finds_nothing() -> None:
    for arguments in (["check"], ["format", "--check"]):
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--no-cache", "."],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout
