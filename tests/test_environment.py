"""One source of truth for versions: pyproject.toml → requirements.lock → every installation."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

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


@pytest.fixture(scope="module")
def environment() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment", ROOT / ".make" / "environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


class TestPythonVersion:
    @pytest.mark.parametrize(
        ("version", "word"), [((3, 8, 1), "too old"), ((3, 10), "too old"), ((3, 14), "too new")]
    )
    def test_unsupported(
        self, environment: ModuleType, version: tuple[int, ...], word: str
    ) -> None:
        problem = environment.version_problem(version)
        assert word in problem
        assert "Python 3.11 to 3.13" in problem
        assert "PYTHON=python3.13" in problem

    @pytest.mark.parametrize("version", [(3, 11, 0), (3, 12), (3, 13, 9)])
    def test_supported(self, environment: ModuleType, version: tuple[int, ...]) -> None:
        assert environment.version_problem(version) is None

    def test_the_bounds_are_those_of_the_package(self, environment: ModuleType) -> None:
        low, high = environment.supported_versions()
        assert PROJECT["requires-python"] == f">={low[0]}.{low[1]},<{high[0]}.{high[1]}"


class TestInterruptedInstall:
    """A stamp must never stand for an environment that was left half-way."""

    @pytest.fixture
    def made(
        self, environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> list[list[str]]:
        """Point the module at an empty folder and record its commands instead of running them."""
        commands: list[list[str]] = []
        monkeypatch.setattr(environment, "VENV", str(tmp_path))
        monkeypatch.setattr(environment, "STAMP", str(tmp_path / "installed.sha256"))
        monkeypatch.setattr(environment, "has_this_python", lambda: True)
        monkeypatch.setattr(
            environment.subprocess, "check_call", lambda command, **_: commands.append(command)
        )
        return commands

    def test_a_finished_one_is_kept(self, environment: ModuleType, made: list) -> None:
        environment.make()
        assert environment.is_current()
        made.clear()
        environment.make()
        assert not any("venv" in command for command in made)

    def test_one_without_a_stamp_begins_anew(self, environment: ModuleType, made: list) -> None:
        environment.make()
        assert "--clear" in made[0]

    def test_the_old_stamp_goes_first(
        self, environment: ModuleType, made: list, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment.make()

        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(environment.subprocess, "check_call", interrupted)
        with pytest.raises(KeyboardInterrupt):
            environment.make()
        assert not environment.is_current()


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
