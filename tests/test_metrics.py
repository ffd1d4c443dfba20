"""The metrics against values worked out by hand."""

import math

from quant_tutorial import metrics

import numpy as np
import pytest
from scipy.stats import binomtest


def test_mse() -> None:
    assert metrics.mse([0, 1, 2], [0, 3, 2]) == pytest.approx(4 / 3)
    # The difference of unsigned integers must not wrap around.
    assert metrics.mse(np.uint8([0]), np.uint8([1])) == 1


def test_sqnr() -> None:
    assert metrics.sqnr_db([10.0, -10.0], [9.0, -9.0]) == pytest.approx(20)
    assert metrics.sqnr_db([1.0], [1.0]) == math.inf


def test_channel_sqnr() -> None:
    x = np.array([[10.0, 1.0, 0.0], [-10.0, 1.0, 0.0]])
    x_hat = np.array([[9.0, 1.0, 0.0], [-9.0, 1.0, 0.0]])
    assert metrics.channel_sqnr_db(x, x_hat).tolist() == [20, math.inf, math.inf]
    assert metrics.channel_sqnr_db(x[:, :1], x_hat[:, :1])[0] == metrics.sqnr_db(
        x[:, 0], x_hat[:, 0]
    )


def test_accuracy() -> None:
    logits = np.array([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]])
    assert metrics.accuracy(logits, [1, 0, 1]) == pytest.approx(2 / 3)
    assert metrics.accuracy([1, 0, 0], [1, 0, 1]) == pytest.approx(2 / 3)


def test_agreement() -> None:
    assert metrics.agreement([1, 2, 3, 4], [1, 2, 3, 5]) == 0.75


@pytest.mark.parametrize(("values", "bits", "size"), [(3, 8, 3), (3, 4, 2), (0, 2, 0), (5, 3, 2)])
def test_packed_bytes(values: int, bits: int, size: int) -> None:
    assert metrics.packed_bytes(values, bits) == size


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"same shape.*\(2,\) and \(3,\)"):
        metrics.mse([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="same shape"):
        metrics.accuracy([], [])
    with pytest.raises(ValueError, match="x is 0 everywhere"):
        metrics.sqnr_db([0.0], [1.0])
    with pytest.raises(ValueError, match="values must not be negative, got -1"):
        metrics.packed_bytes(-1, 8)
    with pytest.raises(ValueError, match="bits must be at least 1, got 0"):
        metrics.packed_bytes(1, 0)


def test_interval_as_published() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, Wilson's method without correction.
    for right, images, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        interval = metrics.accuracy_interval(right, images)
        assert interval == pytest.approx((low, high), abs=5e-5)
    assert metrics.accuracy_interval(20, 20)[1] == 1.0


@pytest.mark.parametrize(("right", "images"), [(0, 0), (5, 4), (-1, 4)])
def test_interval_of_nothing(right: int, images: int) -> None:
    with pytest.raises(ValueError, match="right must be from 0 to images"):
        metrics.accuracy_interval(right, images)


def test_confusion_against_tensorflow() -> None:
    import tensorflow as tf

    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 10, 500), rng.integers(0, 10, 500)
    counts = metrics.confusion(predictions, labels)
    np.testing.assert_array_equal(counts, tf.math.confusion_matrix(labels, predictions, 10))
    assert metrics.confusion(predictions.astype(np.uint8), labels.astype(np.uint8)).sum() == 500
    with pytest.raises(ValueError, match="from 0 to 4, got 9"):
        metrics.confusion(predictions, labels, classes=5)


@pytest.mark.parametrize("tosses", [0, 1, 2, 7, 31, 200])
def test_sign_test_against_scipy(tosses: int) -> None:
    for heads in range(tosses + 1):
        right = binomtest(heads, tosses).pvalue if tosses else 1.0
        assert metrics.sign_test(np.int64(heads), np.int64(tosses)) == pytest.approx(right)
    with pytest.raises(ValueError, match="heads must be from 0 to tosses"):
        metrics.sign_test(tosses + 1, tosses)


def test_holm() -> None:
    # Worked out by hand: times 4, 3, 2 and 1, and never below the one before.
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.9, 0.6, np.float64(0.0)]) == pytest.approx([1, 1, 0])
    assert metrics.holm([0.02]) == pytest.approx([0.02])
    assert metrics.holm([]) == []
    with pytest.raises(ValueError, match=r"p_values must be from 0 to 1, got 1\.5"):
        metrics.holm([0.1, 1.5])
