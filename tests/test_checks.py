"""The exercises' checks: right, wrong, open and impossible answers."""

import shutil
from pathlib import Path

from quant_tutorial import checks, qat, tflite
from quant_tutorial.scheme import FLOAT, QuantScheme, TensorScheme

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
    ("exercise", "answer"),
    [
        ("05.1", 6645),
        ("06.1", 72),
        ("07.1", 66311),
    ],
)
def test_right_numbers(capsys: pytest.CaptureFixture[str], exercise: str, answer: float) -> None:
    assert said(capsys, exercise, answer) == f"Exercise {exercise}: right.\n"
    assert "not yet" in said(capsys, exercise, answer + 1)


def test_own_node(capsys: pytest.CaptureFixture[str]) -> None:
    def unclipped(x: np.ndarray, s: float, z: int, bits: int) -> np.ndarray:
        return np.round(x / s) * s

    assert "must give" in said(capsys, "05.2", unclipped)


@pytest.mark.parametrize(
    ("scheme", "answer"),
    [
        (QuantScheme(TensorScheme(3, True, "channel-wise", "mse")), "right."),
        (QuantScheme(TensorScheme(3, True, "tensor-wise")), "its accuracy is 10"),
        (
            QuantScheme(TensorScheme(3, True, "channel-wise", "mse"), TensorScheme(2)),
            "at the bits of the activations",
        ),
        (QuantScheme(), "the weights of conv1 have 8 bits"),
        (QuantScheme(TensorScheme(3, True), TensorScheme(16)), "relu1 has 16 bits"),
        (QuantScheme(TensorScheme(3, True), input=FLOAT), "image has 32 bits"),
        (3, "a QuantScheme is needed, not int"),
    ],
)
def test_own_scheme(capsys: pytest.CaptureFixture[str], scheme: object, answer: str) -> None:
    assert answer in said(capsys, "05.3", scheme)


@pytest.mark.parametrize(
    ("pair", "answer"),
    [
        ((31038, -8), "right."),
        ((31038, -7), "0.0037 = fraction"),
        ((15519, -7), "must have 15 bits"),
        ((31038,), "could not use this answer"),
    ],
)
def test_own_multiplier(capsys: pytest.CaptureFixture[str], pair: object, answer: str) -> None:
    assert answer in said(capsys, "07.2", pair)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda x, n: x >> n, "must give"),
        (lambda x, n: (x + ((1 << n) >> 1)) >> n, "-39 divided by 2^1 must give -20, not -19"),
        (lambda x, n: np.round(x / 2**n), "must hold integers"),
        (
            lambda x, n: (np.sign(x) * np.floor(np.abs(x) / 2**n + 0.5)).astype(np.int64),
            "1152921504606846973 divided by 2^0 must give 1152921504606846973",
        ),
    ],
)
def test_own_shift(capsys: pytest.CaptureFixture[str], wrong: object, hint: str) -> None:
    assert hint in said(capsys, "07.3", wrong)


def test_own_model(capsys: pytest.CaptureFixture[str], files: dict[str, bytes]) -> None:
    assert "right." in said(capsys, "06.2", files["int8, uint8 input"])
    assert "input is int8; it must be uint8" in said(capsys, "06.2", files["int8, int8 input"])
    assert "input is float32" in said(capsys, "06.2", files["float32"])


def test_own_mixed_model(
    capsys: pytest.CaptureFixture[str], baseline: object, calibration: np.ndarray
) -> None:
    for layer, answer in (
        ("logits", "right."),
        ("conv2", "the input of op 4 (CONV_2D, conv2, bn2, relu2) must be int8, got float32"),
    ):
        file = tflite.convert(
            baseline, "int8_fallback", calibration=calibration[:20], float_layers=[layer]
        )
        assert answer in said(capsys, "06.3", file)


def test_other_models_with_float_layers(
    capsys: pytest.CaptureFixture[str], baseline: object, ladder: dict[str, bytes]
) -> None:
    weight_only = tflite.apply_recipe(tflite.export_litert(baseline), "weight_only_wi8_afp32")
    floats = "the input of op 0 (CONV_2D, conv1, bn1, relu1) must be int8, got float32"
    for file in (ladder["dynamic"], ladder["float16"], ladder["float32"]):
        assert "(CONV_2D, conv1, bn1, relu1) must be int8, got float32" in said(
            capsys, "06.3", file
        )
    assert "must be int8, got float32" in said(capsys, "06.3", weight_only)
    assert floats in said(capsys, "06.3", ladder["float32"])
    hint = "the input of op 6 (FULLY_CONNECTED, logits) must be float32, got int8"
    assert hint in said(capsys, "06.3", ladder["int8"])
    layers = keras.layers
    dense = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)])
    answer = said(capsys, "06.3", tflite.convert(dense, "float32"))
    assert "then one FULLY_CONNECTED, this file FULLY_CONNECTED." in answer


def test_an_unknown_exercise() -> None:
    with pytest.raises(ValueError, match=r"exercise must be one of 01\.1, .*, got '99'"):
        checks.check("99", 1)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (12, "right."),
        (12.0, "right."),
        (12.5, "not yet"),
        (59, "one disturbed run"),
        (13, "leave out the warm-up"),
        (11, "not"),
    ],
)
def test_reported_latency(capsys: pytest.CaptureFixture[str], answer: float, hint: str) -> None:
    assert hint in said(capsys, "09.1", answer)


def test_own_micro_file(
    capsys: pytest.CaptureFixture[str],
    files: dict[str, bytes],
    ladder: dict[str, bytes],
    baseline: object,
    calibration: np.ndarray,
) -> None:
    from quant_tutorial import tflite

    assert "right." in said(capsys, "09.2", files["int8, uint8 input"])
    assert "input is int8; it must be uint8" in said(capsys, "09.2", files["int8, int8 input"])
    assert "input is float32; it must be uint8" in said(capsys, "09.2", files["float32"])
    assert "TFLM does not run it: op 2 (CONV_2D" in said(capsys, "09.2", ladder["dynamic"])
    assert "not PosixPath" in said(capsys, "09.2", Path("file"))
    poor = tflite.convert(baseline, "int8", calibration=0.3 * calibration, io="uint8")
    assert "which images calibrate it?" in said(capsys, "09.2", poor)


def header(content: bytes, name: str, **changed: str) -> str:
    parts = {
        "include": "#include <stdalign.h>",
        "align": "alignas(16)",
        "values": ", ".join(map(hex, content)),
        "length": f"const unsigned int {name}_len = {len(content)};",
    } | changed
    array = f"{parts['align']} const unsigned char {name}[] = {{{parts['values']}}};"
    return "\n".join([parts["include"], array, parts["length"], ""])


@pytest.mark.parametrize(
    ("changed", "hint"),
    [
        ({}, "right."),
        ({"align": "__attribute__((aligned(16)))", "include": ""}, "right."),
        ({"align": "_Alignas(16)", "include": ""}, "right."),
        ({"align": ""}, "must be aligned to 16 bytes"),
        ({"align": "", "include": "/* alignas(16) */ // align(16)"}, "must be aligned to 16 bytes"),
        ({"align": "alignas(1)"}, "must be aligned to 16 bytes"),
        ({"values": "0, 1"}, "does not hold the 2 bytes"),
        ({"values": "0, 256"}, "'256', which is not a byte"),
        ({"length": ""}, "two_bytes_len is not defined"),
    ],
)
def test_own_header(capsys: pytest.CaptureFixture[str], changed: dict[str, str], hint: str) -> None:
    assert hint in said(capsys, "09.3", lambda content, name: header(content, name, **changed))


def test_own_header_must_compile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from quant_tutorial import deployment

    def without_include(content: bytes, name: str) -> str:
        return header(content, name, include="")

    if shutil.which("cc"):
        assert "the compiler refuses the header" in said(capsys, "09.3", without_include)
    assert "must be a text, got bytes" in said(capsys, "09.3", lambda content, name: content)
    monkeypatch.setattr(deployment, "compile_and_read_back", lambda path: None)
    assert "right." in said(capsys, "09.3", without_include)  # nobody here to refuse it
    monkeypatch.setattr(deployment, "compile_and_read_back", lambda path: b"other")
    assert "holds other bytes" in said(capsys, "09.3", header)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"weights": {"conv3": 2, "conv1": 4, "conv2": 3, "logits": 3}}, "right."),
        ({"weights": 3}, "its weights take 5,451 bytes"),
        ({"weights": 2}, "its accuracy is "),
        ({"weights": 2, "source": "W2A2"}, "source is W2A2"),
    ],
)
def test_own_small_setting(
    capsys: pytest.CaptureFixture[str], given: dict[str, object], hint: str
) -> None:
    from quant_tutorial.lab import Setting

    assert hint in said(capsys, "10.1", Setting(**given, weight_calibrator="mse"))
    assert "a Setting is needed, not dict" in said(capsys, "10.1", given)


def test_own_small_file(capsys: pytest.CaptureFixture[str], files: dict[str, bytes]) -> None:
    from quant_tutorial import models

    recipe = "weight_only_wi2_afp32"
    trained = qat.load_trained("W2A8")
    assert "right." in said(capsys, "10.2", qat.low_bit_file(trained, recipe))
    narrow = qat.low_bit_file(qat.load_trained("W2A2"), recipe)
    assert "what activations were they trained with?" in said(capsys, "10.2", narrow)
    plain = tflite.apply_recipe(tflite.export_litert(models.load_baseline()), recipe)
    assert "whose weights are they" in said(capsys, "10.2", plain)
    assert "and 9,000 fit" in said(capsys, "10.2", files["int8, int8 input"])


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        (lambda w, a: a is None or (a == 8 and w is not None) or (a == 16 and w == 8), "right."),
        (lambda w, a: a is None or a == 8, "weights of None and activations of 8 bits there is no"),
        (lambda w, a: a in (None, 8, 16), "there is no such file"),
        (lambda w, a: a is None or (a == 8 and w == 8), "of 2 and activations of 8 bits there is"),
    ],
)
def test_own_rule(capsys: pytest.CaptureFixture[str], rule: object, hint: str) -> None:
    assert hint in said(capsys, "10.3", rule)
    assert "a function is needed, not bool" in said(capsys, "10.3", True)


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
