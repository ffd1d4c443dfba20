"""Training the float models, and the command that does it."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from quant_tutorial import metrics, mnist, models, training

import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.slow


@pytest.fixture
def step_by_step() -> Iterator[None]:
    """Compute op by op: for a few steps that is quicker than to trace them as a graph first."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def trained(data: mnist.Mnist, count: int, epochs: int) -> Any:
    """A baseline that was trained on so many images."""
    given = data.x_train[:count], data.y_train[:count]
    return training.train_baseline(*given, epochs=epochs, verbose=0)


def test_training_learns(data: mnist.Mnist, x_test: np.ndarray) -> None:
    outputs = models.predict(trained(data, 6400, epochs=6), x_test[:2000])
    assert metrics.accuracy(outputs, data.y_test[:2000]) > 0.9


@pytest.mark.usefixtures("step_by_step")
@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
def test_training_repeats_itself(data: mnist.Mnist) -> None:
    one, other = (models.weights(trained(data, 640, epochs=1))["conv3"] for _ in range(2))
    # Threads may add up floats in another order; `make baseline` forbids that, at some cost. Images
    # in another order, or moved in another way, make a difference of 1e-3.
    assert np.abs(one - other).mean() < 1e-4


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


@pytest.mark.usefixtures("step_by_step")
def test_the_colour_model_repeats_itself(data: mnist.Mnist) -> None:
    def trained() -> np.ndarray:
        digits, labels = data.x_train[:256], data.y_train[:256]
        model = training.train_colour_digits(digits, labels, epochs=1, verbose=0)
        return models.weights(model)["pointwise4"]

    assert np.abs(trained() - trained()).mean() < 1e-4  # other colours: 5e-3


def test_painted_batches(data: mnist.Mnist) -> None:
    digits, labels = data.x_train[:300], np.arange(300, dtype=np.uint8)
    batches = list(training._painted_batches(digits, labels, epochs=2, seed=4))
    assert [images.shape for images, _ in batches] == [(128, 32, 32, 3)] * 4
    (one, first), (two, second) = (
        (np.concatenate([x for x, _ in part]), np.concatenate([y for _, y in part]))
        for part in (batches[:2], batches[2:])
    )
    assert len(set(first.tolist())) > 150
    assert (first != second).mean() > 0.9  # another order
    again = list(training._painted_batches(digits, labels, epochs=1, seed=4))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in again]), one)
    # The same digit has other colours in another epoch.
    place, other = next(
        (i, np.flatnonzero(second == y)[0]) for i, y in enumerate(first) if y in second
    )
    assert (one[place] != two[other]).mean() > 0.9


@pytest.mark.parametrize("train", [training.train_baseline, training.train_colour_digits])
def test_training_needs_a_batch(data: mnist.Mnist, train: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="images must hold at least 128 images, got 100"):
        train(data.x_train[:100], data.y_train[:100])


def test_the_command_refuses_before_it_trains(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, message in (
        (["--output", "x.h5"], "--output must end in .weights.h5, got x.h5"),
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["colour_digits", "--int8"], "--int8 goes with the baseline only"),
        (["colour_cats"], "invalid choice: 'colour_cats'"),
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
