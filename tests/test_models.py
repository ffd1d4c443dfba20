"""The baseline: within its limits, trained, and trainable again."""

import json
from pathlib import Path
from typing import Any

from quant_tutorial import metrics, mnist, models

import keras
import numpy as np
import pytest


def test_within_its_limits(baseline: Any) -> None:
    assert baseline.count_params() <= 60_000
    assert models.multiply_adds(baseline) <= 1_000_000
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in baseline.layers) == 3
    assert baseline.layers[-1].activation is keras.activations.linear  # logits


def test_accuracy_is_the_one_written_down(
    baseline: Any, data: mnist.Mnist, x_test: np.ndarray
) -> None:
    figures = json.loads(models.FIGURES.read_text())
    accuracy = metrics.accuracy(models.predict(baseline, x_test), data.y_test)
    assert accuracy >= 0.992
    assert accuracy == pytest.approx(figures["test_accuracy"], abs=1e-4)
    assert figures["parameters"] == baseline.count_params()
    assert figures["multiply_adds"] == models.multiply_adds(baseline)
    assert figures["training_minutes"] <= 10


def test_training_learns_and_repeats_itself(data: mnist.Mnist, x_test: np.ndarray) -> None:
    first, second = (
        models.train_baseline(data.x_train[:12800], data.y_train[:12800], epochs=5, verbose=0)
        for _ in range(2)
    )
    answers, again = (models.predict(m, x_test[:2000]).argmax(axis=1) for m in (first, second))
    assert metrics.accuracy(answers, data.y_test[:2000]) > 0.9
    # Threads may add up floats in another order; `make baseline` forbids that, at some cost.
    assert metrics.agreement(answers, again) > 0.99


def test_moved_images_stay_digits(data: mnist.Mnist) -> None:
    images = mnist.to_float(data.x_train[:64])
    moved, again, other = (models._moved(images, 1, np.int64(step)).numpy() for step in (0, 0, 1))
    assert (moved == again).all()
    assert not np.allclose(moved, other)
    assert moved.shape == images.shape
    assert moved.min() >= 0
    assert moved.max() <= 1
    # Little of the ink leaves the picture, and the middle of it hardly moves.
    assert moved.sum() == pytest.approx(images.sum(), rel=0.1)


def test_training_needs_a_batch(data: mnist.Mnist) -> None:
    with pytest.raises(ValueError, match="images must hold at least 128 images, got 100"):
        models.train_baseline(data.x_train[:100], data.y_train[:100])


def test_missing_and_damaged_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"weights are missing: .*\. Get them back"):
        models.load_baseline(tmp_path / "none.weights.h5")
    cut = tmp_path / "cut.weights.h5"
    cut.write_bytes(models.WEIGHTS.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"(?s)weights are damaged .*Get them back"):
        models.load_baseline(cut)
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(other)
    with pytest.raises(ValueError, match=r"(?s)weights are damaged .*Get them back"):
        models.load_baseline(other)


def test_multiply_adds_by_hand() -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same"),  # 8·8·4 outputs of 3·3·3 products
            layers.DepthwiseConv2D(3),  # 6·6·4 outputs of 3·3 products
            layers.Flatten(),
            layers.Dense(5),  # 144·5
        ]
    )
    assert models.multiply_adds(model) == 8 * 8 * 4 * 27 + 6 * 6 * 4 * 9 + 144 * 5
    unknown = keras.Sequential([keras.Input((4, 2)), layers.LSTM(3)])
    with pytest.raises(ValueError, match=r"Layer lstm\w* \(LSTM\) cannot be counted"):
        models.multiply_adds(unknown)
