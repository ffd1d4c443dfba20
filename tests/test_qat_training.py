"""The shipped models and their results: the files agree with each other and with LiteRT."""

import json
from pathlib import Path
from typing import Any

from quant_tutorial import metrics, mnist, models, qat, tflite
from quant_tutorial.qat import shipped, training
from quant_tutorial.simulate import Simulator

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results() -> dict[str, qat.Result]:
    return qat.load_results()


SHIPPED = [name for name, config in qat.SHIPPED.items() if config.ranges == "learned"]


@pytest.fixture(scope="module")
def outputs(x_test: np.ndarray) -> dict[str, np.ndarray]:
    return {name: models.predict(qat.load_trained(name), x_test) for name in SHIPPED}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_has_the_accuracy_of_its_first_seed(
    name: str,
    results: dict[str, qat.Result],
    outputs: dict[str, np.ndarray],
    data: mnist.Mnist,
) -> None:
    # Sums in another order, on another processor, can move a few values over an edge.
    assert metrics.accuracy(outputs[name], data.y_test) == pytest.approx(
        results[name].qat[0], abs=0.0003
    )
    params = qat.trained_params(qat.load_trained(name))
    config = qat.SHIPPED[name]
    assert {p.bits for p in params.weights.values()} == {config.weight_bits}
    activations = {n: p.bits for n, p in params.activations.items() if n != "image"}
    assert set(activations.values()) == {config.activation_bits}
    assert params.activations["image"].bits == 8


def test_results_hold_every_config(results: dict[str, qat.Result]) -> None:
    file = json.loads(shipped.RESULTS.read_text())
    assert list(file["models"]) == list(qat.SHIPPED)
    for name, config in qat.SHIPPED.items():
        runs = file["models"][name]["runs"]
        assert [run["seed"] for run in runs] == list(config.seeds)
        assert file["models"][name]["training"]["epochs"] == config.epochs
        result = results[name]
        assert result.mean == pytest.approx(np.mean([run["accuracy"] for run in runs]))
        assert result.spread == pytest.approx(np.ptp([run["accuracy"] for run in runs]))


def test_the_lesson_rests_on_these_bounds(results: dict[str, qat.Result]) -> None:
    """What lesson 08 says of the table, with the mean of three seeds."""
    baseline = json.loads(models.WEIGHTS.with_name("baseline.json").read_text())["test_accuracy"]
    assert results["W4A4"].mean >= baseline - 0.002
    assert results["W3A3"].mean >= baseline - 0.004
    assert results["W2A2"].mean >= 0.98
    assert max(results["W2A2"].ptq.values()) < 0.5
    assert abs(results["W8A8"].mean - baseline) < 0.001


@pytest.mark.parametrize("name", ["W4A4", "W2A8"])
def test_ptq_figures_are_the_simulators(
    name: str,
    results: dict[str, qat.Result],
    simulator: Simulator,
    data: mnist.Mnist,
    x_test: np.ndarray,
) -> None:
    config = qat.SHIPPED[name]
    for calibrator, share in results[name].ptq.items():
        scheme = qat.named_scheme(config.weight_bits, config.activation_bits, calibrator)
        model = simulator.simulated(simulator.params(scheme))
        measured = metrics.accuracy(models.predict(model, x_test), data.y_test)
        assert measured == pytest.approx(share, abs=0.001)


def test_the_int8_file_is_as_good_as_the_model(
    outputs: dict[str, np.ndarray], data: mnist.Mnist, x_test: np.ndarray
) -> None:
    content = qat.int8_file(qat.load_trained("W8A8"))
    deployed = tflite.evaluate(content, x_test, data.y_test)
    assert abs(deployed.accuracy - metrics.accuracy(outputs["W8A8"], data.y_test)) <= 0.0005


def test_a_file_with_2_bit_weights_reads_98_percent(data: mnist.Mnist, x_test: np.ndarray) -> None:
    model = qat.load_trained("W2A8")
    content = qat.low_bit_file(model, "weight_only_wi2_afp32")
    assert tflite.evaluate(content, x_test, data.y_test).accuracy >= 0.98


def test_training_is_repeatable_and_improves(
    baseline: Any, data: mnist.Mnist, calibration: np.ndarray, x_test: np.ndarray
) -> None:
    def trained(moved: bool) -> float:
        model = qat.quantize_aware(baseline, qat.named_scheme(2, 4), calibration)
        options = {"epochs": 2, "rate": 3e-3, "seed": 1, "moved": moved}
        training.train(model, data.x_train[:1500], data.y_train[:1500], **options)
        return metrics.accuracy(models.predict(model, x_test[:1000]), data.y_test[:1000])

    assert trained(moved=True) > 0.8
    assert trained(moved=False) > 0.8


def test_the_command_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: mnist.Mnist
) -> None:
    trained = []

    def run(name: str, seed: int) -> dict[str, Any]:
        trained.append((name, seed))
        found = {"run": {"seed": seed, "accuracy": 0.5, "minutes": 0.0}}
        return {**found, "model": b"a model"} if seed == 1 else found

    monkeypatch.setattr(training, "_run", run)
    monkeypatch.setattr(training, "_ptq", lambda name: {"ptq": {"min_max": 0.1, "mse": 0.2}})
    command = ["training", "--workers", "0", "--folder", str(tmp_path), "W4A4"]
    monkeypatch.setattr("sys.argv", command)
    training.main()
    assert trained == [("W4A4", seed) for seed in shipped.SEEDS]
    training.main()
    assert len(trained) == 3
    monkeypatch.setattr("sys.argv", [*command, "W7A7", "--again"])
    training.main()
    assert len(trained) == 7
    found = qat.load_results(tmp_path / "qat.json")
    assert found["W4A4"].qat == (0.5, 0.5, 0.5)
    assert found["W7A7"].ptq == {"min_max": 0.1, "mse": 0.2}
    assert shipped.model_path("W7A7", tmp_path).read_bytes() == b"a model"


class TestBadInput:
    def test_name(self) -> None:
        with pytest.raises(ValueError, match=r"name must be one of W2A2, .*got 'W1A1'"):
            qat.load_trained("W1A1")

    def test_missing_and_damaged(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(shipped, "model_path", lambda name: tmp_path / f"{name}.keras")
        with pytest.raises(FileNotFoundError, match=r"W4A4 is missing.*git checkout"):
            qat.load_trained("W4A4")
        (tmp_path / "W4A4.keras").write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"W4A4 is damaged.*git checkout"):
            qat.load_trained("W4A4")
        with pytest.raises(FileNotFoundError, match="results are missing"):
            qat.load_results(tmp_path / "qat.json")

    def test_too_few_images(
        self, baseline: Any, data: mnist.Mnist, calibration: np.ndarray
    ) -> None:
        model = qat.quantize_aware(baseline, qat.named_scheme(4, 4), calibration[:20])
        with pytest.raises(ValueError, match="at least 128 images, got 5"):
            training.train(model, data.x_train[:5], data.y_train[:5], epochs=1, rate=1e-3, seed=1)
