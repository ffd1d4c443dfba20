"""The README: its code runs, its links lead somewhere, and its tables name what is there."""

import re
from pathlib import Path

from quant_tutorial import mnist

import keras
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_lines_that_quantize_a_model(
    baseline: keras.Model,
    calibration: np.ndarray,
    x_test: np.ndarray,
    data: mnist.Mnist,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.+?)```", TEXT, re.S)
    names = {"model": baseline, "images": calibration, "x_test": x_test, "y_test": data.y_test}
    exec(code, names)
    verdict, compared, accuracy = capsys.readouterr().out.splitlines()
    assert verdict.startswith("Integer only: yes")
    assert re.match(r"On 16 images the file's answers differ .* SQNR is [34]\d\.\d dB", compared)
    assert re.fullmatch(r"99\.\d\d% in LiteRT", accuracy)
    assert (tmp_path / "model_int8.tflite").read_bytes() == names["int8"]


def test_the_links_lead_to_every_lesson() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert all((ROOT / target).exists() for target in targets)
    lessons = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert {f"notebooks/{path.name}" for path in lessons} <= set(targets)


def test_the_addresses_that_a_publisher_fills_in_stand_in_one_place() -> None:
    assert TEXT.count("mybinder.org") == TEXT.count("colab.research.google.com") == 1
    *_, binder, colab = TEXT.strip().splitlines()
    assert binder.startswith("[binder]: https://")
    assert colab.startswith("[colab]: https://")
    for link in ("[binder]", "[colab]"):
        assert f"]{link}" in TEXT


def test_every_room_has_its_line() -> None:
    named = set(re.findall(r"`(\w+)/?`", TEXT[TEXT.index("| room |") : TEXT.index("Where a new")]))
    package = ROOT / "quant_tutorial"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    rooms |= {path.stem for path in package.glob("*.py")} - {"__init__"}
    assert rooms <= named


def test_every_command_is_one_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```.*?```|`[^`]+`", TEXT, re.S))
    commands = set(re.findall(r"\bmake ([a-z]+)", code))
    assert commands >= {"lab", "app", "quick", "test", "benchmark", "notebooks", "site", "lock"}
    for command in commands:
        assert re.search(rf"^{command}:", makefile, re.M), command


def test_no_figure_is_missing() -> None:
    assert not re.search(r"@[A-Z]+@", TEXT)
