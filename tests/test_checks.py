"""The exercises' checks: right, wrong, open and impossible answers."""

from quant_tutorial import checks

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.slow


def said(capsys: pytest.CaptureFixture[str], exercise: str, answer: object) -> str:
    checks.check(exercise, answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("exercise", sorted(checks.CHECKS))
def test_open_wrong_and_impossible_answers(
    capsys: pytest.CaptureFixture[str], exercise: str
) -> None:
    assert "not attempted yet" in said(capsys, exercise, ...)
    for wrong in (-1e6, "text", None, np.zeros(3), b"no model", lambda *_: 0):
        assert said(capsys, exercise, wrong).startswith(f"Exercise {exercise}: not yet: ")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ([0, 1, 1, 0], "right."),
        ([0, 1, 1, 1], "number 4"),
        ([1, 1, 1, 1], "number 1"),
        ([0, 1], "four numbers"),
    ],
)
def test_straight_through(capsys: pytest.CaptureFixture[str], answer: list[int], hint: str) -> None:
    assert hint in said(capsys, "08.1", answer)


def test_own_scale_gradient(capsys: pytest.CaptureFixture[str]) -> None:
    def right(x: np.ndarray, scale: float, low: int, high: int) -> np.ndarray:
        steps = x / scale
        clipped = np.clip(steps, low, high)
        return np.where(clipped == steps, np.round(steps) - steps, clipped)

    assert "right." in said(capsys, "08.2", right)
    wrong = [
        lambda x, s, low, high: np.clip(np.round(x / s), low, high),  # without −x/s inside
        lambda x, s, low, high: np.round(x / s) - x / s,  # without clipping
    ]
    for answer in wrong:
        assert "it is " in said(capsys, "08.2", answer)
    assert "must have the shape" in said(capsys, "08.2", lambda *args: right(*args)[:5])


def test_own_two_bit_model(
    capsys: pytest.CaptureFixture[str], baseline: object, calibration: np.ndarray
) -> None:
    from quant_tutorial import qat

    assert "right." in said(capsys, "08.3", qat.load_trained("W2A8"))
    assert "conv1 have 4 bits, not 2" in said(capsys, "08.3", qat.load_trained("W4A8"))
    untrained = qat.quantize_aware(baseline, qat.named_scheme(2, 8), calibration[:100])
    assert "more steps" in said(capsys, "08.3", untrained)
    assert "no trainable quantization" in said(capsys, "08.3", baseline)


def test_an_unknown_exercise() -> None:
    with pytest.raises(ValueError, match=r"exercise must be one of 01\.1, .*, got '99'"):
        checks.check("99", 1)


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
