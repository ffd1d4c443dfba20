"""The exercises of lesson 11: right answers, and the hint that each typical mistake gets."""

import keras
import numpy as np
import pytest
from test_checks import said

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ([0, 1, 1], "right."),
        ([0, 0, 1], "these are the nearest levels"),
        ([1, 1, 0], "the signs outside the diagonal"),
        ([1, 0, 1], "one of the eight roundings has less"),
        ([1, 1, 1], "compute the error of each"),
        ([0.3, 0.4, 0.8], "each 0 or 1"),
    ],
)
def test_own_rounding(capsys: pytest.CaptureFixture[str], answer: list[int], hint: str) -> None:
    assert hint in said(capsys, "11.1", answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (-0.7, "right."),
        (0.7, "has to bring it back"),
        (0.0, "as often as its input is large"),
        (-0.7 / 3, "not their mean"),
        (1.4, "by how much does each change"),
    ],
)
def test_own_bias(capsys: pytest.CaptureFixture[str], answer: float, hint: str) -> None:
    assert hint in said(capsys, "11.2", answer)


def test_own_update(capsys: pytest.CaptureFixture[str]) -> None:
    def right(hessian: np.ndarray, i: int, error: float) -> np.ndarray:
        inverse = np.linalg.inv(hessian)[i]
        return error * inverse / inverse[i]

    def alone(hessian: np.ndarray, i: int, error: float) -> np.ndarray:
        return error * np.eye(len(hessian))[i]

    wrong = [
        (alone, "the other weights stay as they are"),
        (lambda m, i, e: 2 * alone(m, i, e) - right(m, i, e), "in the wrong direction"),
        (lambda m, i, e: e * m[i] / m[i, i], "that is a row of H"),
        (lambda m, i, e: right(m, i, e) - alone(m, i, e), "weight i itself has to change"),
        (lambda m, i, e: 0.5 * (right(m, i, e) + alone(m, i, e)), "can be had"),
        (lambda m, i, e: right(m, i, e)[1:], "one change for each of the 2 weights"),
    ]
    assert "right." in said(capsys, "11.3", right)
    for answer, hint in wrong:
        assert hint in said(capsys, "11.3", answer)


def test_own_equalization(capsys: pytest.CaptureFixture[str]) -> None:
    def equalized(power: float, bias: bool = True, back: bool = True) -> object:
        def answer(w1: np.ndarray, b1: np.ndarray, w2: np.ndarray) -> tuple[np.ndarray, ...]:
            s = (np.abs(w1).max(axis=0) / np.abs(w2).max(axis=1)) ** power
            return w1 / s, b1 / s if bias else b1, w2 * s[:, None] if back else w2 / s[:, None]

        return answer

    assert "right." in said(capsys, "11.4", equalized(0.5))
    assert "the bias belongs to the channel" in said(capsys, "11.4", equalized(0.5, bias=False))
    assert "is divided by, the other is" in said(capsys, "11.4", equalized(0.5, back=False))
    assert "have swapped their ranges" in said(capsys, "11.4", equalized(1.0))
    assert "so are the ranges" in said(capsys, "11.4", lambda *three: three)
    assert "channel 0 has the range" in said(capsys, "11.4", equalized(0.3))
    assert "w2 must keep its shape" in said(capsys, "11.4", lambda w1, b1, w2: (w1, b1, w2.T))


def test_the_false_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert "right." in said(capsys, "11.5", "B")
    assert "Which of the three is worse than it says?" in said(capsys, "11.5", "A")
    assert "C keeps its word" in said(capsys, "11.5", "C")
    assert "one of the names A, B, C" in said(capsys, "11.5", "D")


def test_the_claims(simulator: object) -> None:
    """On other images A and C have the errors they claim, and B a much larger one."""
    from quant_tutorial import affine, mnist, rounding
    from quant_tutorial.checks import lesson_11

    simulator, params = lesson_11._two_bits()
    images = mnist.to_float(mnist.load().x_train[1000:2000])
    hessian = lesson_11._conv2_hessian(simulator, images)
    for name, claim in lesson_11.three_claims().items():
        levels = params.weights["conv2"]
        change = affine.dequantize(claim.integers, levels) - simulator.weights["conv2"]
        change = change.reshape(-1, change.shape[-1])
        ratio = np.sum(change * (hessian @ change)) / claim.error
        assert ratio > 1.5 if name == "B" else 0.9 < ratio < 1.1
    assert rounding  # the room that makes them


def test_own_repair(capsys: pytest.CaptureFixture[str]) -> None:
    from quant_tutorial import affine, mnist, models, rounding
    from quant_tutorial.checks import lesson_11
    from quant_tutorial.scheme import QuantScheme, TensorScheme

    simulator, params = lesson_11._two_bits()
    weights = TensorScheme(2, True, "channel-wise", "mse")
    scheme = QuantScheme(weights, TensorScheme(8, calibrator="mse"))
    images = mnist.to_float(mnist.load().x_train[:200])
    fixed = rounding.correct_bias(simulator, rounding.nearest(simulator, scheme), images)
    first, last = "conv1", "logits"
    biases = {name: simulator.model.get_layer(name).bias.numpy() for name in (first, last)}
    nearest = {n: affine.quantize(simulator.weights[n], params.weights[n]) for n in biases}
    moved = biases[last] + 0.0
    probe = keras.Model(simulator.model.input, simulator.model.get_layer(last).output)
    quantized = rounding.nearest(simulator, scheme).model
    shift = models.predict(probe, images) - models.predict(quantized, images)
    moved += shift.mean(axis=0)
    assert "right." in said(capsys, "11.6", (last, nearest[last], moved))
    assert "the bias is still that of the float" in said(
        capsys, "11.6", (last, nearest[last], biases[last])
    )
    assert "which layer comes after most of the errors?" in said(
        capsys, "11.6", (first, nearest[first], fixed.biases[first])
    )
    assert "2-bit weights are −1, 0 or 1" in said(capsys, "11.6", (last, 2 * nearest[last], moved))
    assert "the biases of logits have the shape" in said(
        capsys, "11.6", (last, nearest[last], moved[:5])
    )
    assert "the name of a layer comes first" in said(capsys, "11.6", ("fc", nearest[last], moved))
