"""The JavaScript of the repository, with Deno: its style, its types and its own tests.

Deno comes from PyPI with the other tools. It fetches one package, LiteRT.js, whose types are
checked; it keeps it where the web edition's build finds it too.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from quant_tutorial.explorers.canvas import DigitCanvas
from quant_tutorial.explorers.controls import HandleNames

import pytest

ROOT = Path(__file__).parent.parent
EXPLORERS = ROOT / "quant_tutorial" / "explorers"


def files(suffix: str) -> list[str]:
    """Return the repository's files with a suffix, without those that are installed or built."""
    found = (path.relative_to(ROOT) for path in ROOT.glob(f"[!.]*/**/*{suffix}"))
    return sorted(
        path.as_posix()
        for path in found
        if path.parts[0] != "build" and not any(part.startswith(".") for part in path.parts)
    )


SCRIPTS = files(".js")
TESTS = [path for path in SCRIPTS if path.endswith("_test.js")]


@pytest.mark.parametrize(
    "command",
    [
        ["fmt", "--check", *SCRIPTS, *files(".css")],
        ["lint", *SCRIPTS],
        ["check", *SCRIPTS],
        ["test", "--no-check", "--cached-only", *TESTS],
    ],
    ids=lambda command: command[0],
)
def test_deno(command: list[str]) -> None:
    deno = shutil.which("deno", path=Path(sys.executable).parent)
    assert deno is not None, "Deno is not installed beside this Python: install the extra `test`"
    name, *arguments = command
    result = subprocess.run(
        [deno, name, "--config", ".deno.json", *arguments],
        cwd=ROOT,
        env={**os.environ, "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_file_is_found() -> None:
    found = {Path(path).name for path in SCRIPTS}
    assert {
        "canvas.js",
        "handle_names.js",
        "stepper.js",
        "lesson_page.js",
        "canvas_test.js",
    } <= found
    assert len(TESTS) >= 2


@pytest.mark.parametrize(
    ("widget", "trait", "name"),
    [
        (DigitCanvas, "_esm", "canvas.js"),
        (DigitCanvas, "_css", "canvas.css"),
        (HandleNames, "_esm", "handle_names.js"),
    ],
)
def test_a_widget_sends_the_text_of_its_file(widget: type, trait: str, name: str) -> None:
    assert widget().get_state()[trait] == (EXPLORERS / name).read_text(encoding="utf-8")
