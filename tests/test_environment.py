"""One source of truth for versions: pyproject.toml → requirements.lock → every installation."""

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
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RANGES = [
    Requirement(line)
    for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
]
LOCK = (ROOT / "requirements.lock").read_text()


def locked() -> list[tuple[Requirement, int]]:
    """The pins of the lock file, each with the number of its hashes."""
    blocks = re.findall(r"^(\S+==.*?) \\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", LOCK, re.M)
    return [(Requirement(pin), hashes.count("--hash")) for pin, hashes in blocks]


def pins(name: str) -> list[Requirement]:
    return [pin for pin, _ in locked() if canonicalize_name(pin.name) == canonicalize_name(name)]


@pytest.mark.parametrize("needed", RANGES, ids=lambda needed: needed.name)
def test_the_lock_holds_a_version_within_each_range(needed: Requirement) -> None:
    found = pins(needed.name)
    assert found, f"{needed.name} is not in requirements.lock: run make lock"
    for pin in found:
        (exact,) = pin.specifier
        assert needed.specifier.contains(exact.version), f"{pin} is outside {needed}: run make lock"


def test_every_line_of_the_lock_is_an_exact_pin_with_hashes_and_no_address() -> None:
    lines = [line for line in LOCK.splitlines() if not line.startswith("    --hash=sha256:")]
    assert len(lines) == len(locked()) > 100
    assert all(hashes for _, hashes in locked())
    assert "://" not in LOCK
    assert not re.search(r"^--(index|extra|find)", LOCK, re.M)


def test_this_environment_is_the_locked_one() -> None:
    wrong = []
    for pin, _ in locked():
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
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, folder)
        return folder

    @staticmethod
    def make(
        project: Path, version: tuple[int, ...] = (3, 12), fail: int = 0
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Run `make venv`; return how it ended and what it asked Python for."""
        python, log = project.parent / "python", project.parent / "log"
        # Another version is another file, as it would be.
        python.write_text(NOTING.format(python=sys.executable, version=version))
        python.chmod(0o755)
        log.unlink(missing_ok=True)
        done = subprocess.run(
            ["make", "venv", f"PYTHON={python}"],
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
