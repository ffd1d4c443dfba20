"""What lesson 08 compares QAT with: the file, how it is made, and what the lesson says of it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from quant_tutorial import qat, rounding
from quant_tutorial.qat import control, shipped, workers
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
    monkeypatch.setattr(control, "_ptq_run", run("ptq"))
    monkeypatch.setattr(control, "_width_run", run("width"))
    monkeypatch.setattr(control, "_rate_run", lambda name, rate: {"loss": 0.1, "accuracy": 0.9})
    path = tmp_path / "control.json"
    command = ["control", "--workers", "0", "--file", str(path)]
    monkeypatch.setattr("sys.argv", [*command, "--only", "choices.same"])
    control.main()
    assert made == ["qat"] * 3 + ["ptq"] * 3
    monkeypatch.setattr("sys.argv", command)
    control.main()
    assert made.count("ptq") == 6
    assert made.count("float") == 3
    assert made.count("qat") == 9
    control.main()
    assert made.count("width") == 6
    assert len(made) == 24
    found = qat.load_control(path)
    assert found.choices["ends"]["qat"]["accuracy"] == (0.7, 0.7, 0.7)
    assert found.choices["same"]["ptq"]["best"] == (0.6, 0.6, 0.6)
    assert found.widths["W3A3"] == (0.7, 0.7, 0.7)
    # One that was stopped in the middle measures the rest, and writes it in the same order.
    whole = path.read_text()
    file = json.loads(whole)
    del file["choices"]["output"], file["float"]["runs"][1]
    path.write_text(json.dumps(file))
    control.main()
    assert made[24:] == ["qat"] * 3 + ["float"]
    assert path.read_text() == whole


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
    ptq = {choice: found.choices[choice]["ptq"]["best"] for choice in ("same", "ends")}
    for choice, rounded in {**ptq, "output": better}.items():
        trained = found.choices[choice]["qat"]["accuracy"]
        assert len(trained) == len(rounded) == 3
        assert min(trained) > max(rounded)
    assert max(ptq["same"]) < 0.95
    assert min(found.choices["same"]["qat"]["accuracy"]) > 0.98
    # The control, and the float model that it begins with.
    assert max(found.further["best"]) < min(better)
    assert max(found.further["float"]) < 0.9946
    # At 4 and 3 bits the ranges of training and of better rounding overlap.
    for name, trained in found.widths.items():
        rounded = rounding.load_results()[name]["best"].accuracies
        assert len(trained) == 3
        assert min(trained) <= max(rounded)
        assert min(rounded) <= max(trained)


def test_the_rates_have_the_lowest_loss_on_held_out_images() -> None:
    file = json.loads(shipped.CONTROL.read_text())
    assert set(file["widths"]) == set(control.WIDTHS)
    for name, config in control.WIDTHS.items():
        runs = file["widths"][name]["rates"]["runs"]
        assert [run["rate"] for run in runs] == list(control.RATES)
        assert min(runs, key=lambda run: run["loss"])["rate"] == config.rate
        assert config.scheme.weights == scheme_of(name).weights
        differs = dataclasses.replace(config, weight_bits=2, activation_bits=2, rate=1e-2)
        assert differs == control.TRAINING


def test_a_second_worker_brought_time_and_no_other_results() -> None:
    file = json.loads(shipped.WORKERS.read_text())
    assert file["command"] == "python -m quant_tutorial.qat.workers"
    one, two = file["runs"]
    assert (one["workers"], two["workers"]) == (1, 2)
    assert two["seconds"] < one["seconds"]
    assert file["same_results"]


def test_the_command_that_measures_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def measure(count: int) -> tuple[dict[str, float], dict[str, str]]:
        return {"workers": count, "seconds": 9 / count}, {"seed 1": f"{1 / count}"}

    monkeypatch.setattr(workers, "measure", measure)
    monkeypatch.setattr("sys.argv", ["workers", "--file", str(tmp_path / "workers.json")])
    workers.main()
    file = json.loads((tmp_path / "workers.json").read_text())
    assert [run["seconds"] for run in file["runs"]] == [9, 4.5]
    assert not file["same_results"]
