"""Training the float model, and the command that does it."""

import hashlib
import json
from pathlib import Path

from quant_tutorial import metrics, mnist, models, training

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def test_training_learns_and_repeats_itself(data: mnist.Mnist, x_test: np.ndarray) -> None:
    def trained(epochs: int) -> np.ndarray:
        images, labels = data.x_train[:6400], data.y_train[:6400]
        model = training.train_baseline(images, labels, epochs=epochs, verbose=0)
        return models.predict(model, x_test[:2000]).argmax(axis=1)

    assert metrics.accuracy(trained(6), data.y_test[:2000]) > 0.9
    # Threads may add up floats in another order; `make baseline` forbids that, at some cost.
    assert metrics.agreement(trained(1), trained(1)) > 0.99


def test_moved_images_stay_digits(data: mnist.Mnist) -> None:
    images = mnist.to_float(data.x_train[:64])
    moved, again, other = (training._moved(images, 1, np.int64(step)).numpy() for step in (0, 0, 1))
    assert (moved == again).all()
    assert not np.allclose(moved, other)
    assert moved.shape == images.shape
    assert moved.min() >= 0
    assert moved.max() <= 1
    # Little of the ink leaves the picture, and the middle of it hardly moves.
    assert moved.sum() == pytest.approx(images.sum(), rel=0.1)


def test_training_needs_a_batch(data: mnist.Mnist) -> None:
    with pytest.raises(ValueError, match="images must hold at least 128 images, got 100"):
        training.train_baseline(data.x_train[:100], data.y_train[:100])


def test_the_command_refuses_before_it_trains(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, message in (
        (["--output", "x.h5"], "--output must end in .weights.h5, got x.h5"),
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
    ):
        monkeypatch.setattr("sys.argv", ["training", *arguments])
        with pytest.raises(SystemExit):
            training.main()
        assert message in capsys.readouterr().err


def test_the_command_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "baseline.weights.h5"
    output.write_bytes(models.WEIGHTS.read_bytes())
    figures = models.WEIGHTS.with_name("baseline.json").read_text()
    (tmp_path / "baseline.json").write_text(figures)
    monkeypatch.setattr("sys.argv", ["training", "--int8", "--output", str(output)])
    training.main()
    assert json.loads(capsys.readouterr().out)["sha256"] == json.loads(figures)["sha256"]
    content = (tmp_path / "baseline_int8.tflite").read_bytes()
    written = json.loads((tmp_path / "baseline.json").read_text())
    assert written["int8_sha256"] == hashlib.sha256(content).hexdigest()
    assert len(content) == len(models.load_int8_baseline())
