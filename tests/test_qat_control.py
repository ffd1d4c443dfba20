"""What lesson 08 compares QAT with: the file, how it is made, and what the lesson says of it."""

import json
from pathlib import Path
from typing import Any

from quant_tutorial import qat, rounding
from quant_tutorial.qat import control, shipped
from quant_tutorial.rounding.results import scheme_of

import pytest

pytestmark = pytest.mark.slow


def test_the_file_is_complete() -> None:
    found = qat.load_control()
    assert set(found.further) == {"float", "nearest", "best"}
    assert set(found.choices) == set(control.CHOICES)
    assert all(found.choices[choice]["ptq"]["best"] for choice in ("same", "ends"))
    assert all(kinds["qat"]["accuracy"] for kinds in found.choices.values())
    file = json.loads(shipped.CONTROL.read_text())
    assert file["command"] == "python -m quant_tutorial.qat.control"
    assert found.training["epochs"] == control.TRAINING.epochs


def test_choices_differ_in_one_thing_each() -> None:
    same, output, ends = (control.choice_scheme(choice) for choice in control.CHOICES)
    assert same == qat.named_scheme(2, 2)
    assert output == scheme_of("W2A2")  # so lesson 11's results are its rounding
    assert output.weights == ends.weights == same.weights
    assert output.for_layer("logits").weights.bits == 2
    assert output.for_layer("logits").activations.bits == 8
    assert ends.for_layer("logits").activations == output.for_layer("logits").activations
    assert {ends.for_layer(name).weights.bits for name in ("conv1", "logits")} == {8}
    assert ends.for_layer("conv1").activations.bits == ends.for_layer("conv2").weights.bits == 2


def test_the_command_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = []

    def run(kind: str) -> Any:
        def measure(*args: object) -> dict[str, float]:
            made.append(kind)
            return {"nearest": 0.5, "best": 0.6} if kind == "ptq" else {"accuracy": 0.7}

        return measure

    monkeypatch.setattr(control, "_float_run", run("float"))
    monkeypatch.setattr(control, "_qat_run", run("qat"))
    monkeypatch.setattr(control, "rounded_accuracies", run("ptq"))
    path = tmp_path / "control.json"
    command = ["control", "--file", str(path)]
    monkeypatch.setattr("sys.argv", [*command, "--only", "choices.same"])
    control.main()
    assert made == ["qat"] * 3 + ["ptq"] * 3
    monkeypatch.setattr("sys.argv", command)
    control.main()
    assert made.count("ptq") == 6
    assert made.count("float") == 3
    assert made.count("qat") == 9
    control.main()
    assert len(made) == 18
    found = qat.load_control(path)
    assert found.choices["ends"]["qat"]["accuracy"] == (0.7, 0.7, 0.7)
    assert found.choices["same"]["ptq"]["best"] == (0.6, 0.6, 0.6)


def test_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Make it with python -m quant_tutorial\.qat\.c"):
        qat.load_control(tmp_path / "none.json")
    path = tmp_path / "control.json"
    for text in ('{"float": {}}', '{"float": {"runs": [1]}, "choices": {}}', "[]"):
        path.write_text(text)
        with pytest.raises(ValueError, match="The control's figures are damaged"):
            qat.load_control(path)


def test_the_lesson_rests_on_these_bounds() -> None:
    found, better = qat.load_control(), rounding.load_results()["W2A2"]["best"].accuracies
    assert min(found.choices["output"]["qat"]["accuracy"]) > max(better)
    assert max(found.further["best"]) < max(better)
    assert max(found.choices["same"]["ptq"]["best"]) < 0.95
    assert min(found.choices["same"]["qat"]["accuracy"]) > 0.98
