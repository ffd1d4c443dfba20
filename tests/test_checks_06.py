"""The exercises of lesson 06: right answers, and the hint that each typical mistake gets."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

from quant_tutorial import flatbuffer, mnist, models, tflite
from quant_tutorial.checks import lesson_06

import keras
import numpy as np
import pytest
from test_checks import said

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def train() -> tuple[np.ndarray, np.ndarray]:
    data = mnist.load()
    return data.x_train, data.y_train


@pytest.fixture(scope="module")
def ten(train: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    images, labels = train
    return mnist.to_float(images[np.unique(labels, return_index=True)[1]])


def client(file: bytes, pixels: np.ndarray, *bugs: str) -> np.ndarray:
    """The client of exercise 4, with some of its bugs."""
    interpreter = tflite.make_interpreter(file)
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = source["quantization"]
    ends = np.iinfo(source["dtype"])
    logits = []
    for image in pixels[..., np.newaxis]:
        steps = (image if "bytes" in bugs else image / 255) / scale + zero_point
        steps = np.trunc(steps) if "cut off" in bugs else np.round(steps)
        steps = steps if "bytes" in bugs else np.clip(steps, ends.min, ends.max)
        q = steps.astype(np.int32).astype(source["dtype"])
        q = image.astype(source["dtype"]) if "cast" in bugs else q
        interpreter.set_tensor(source["index"], q[np.newaxis])
        if "early" in bugs:
            logits.append(interpreter.get_tensor(target["index"])[0])
        interpreter.invoke()
        if "early" not in bugs:
            logits.append(interpreter.get_tensor(target["index"])[0])
    if "input's" not in bugs:
        scale, zero_point = target["quantization"]
    q = np.array(logits) if "narrow" in bugs else np.array(logits).astype(int)
    if "raw" in bugs:
        return q
    if "no zero point" in bugs:
        return q * scale
    return q - zero_point * scale if "brackets" in bugs else (q - zero_point) * scale


def median_time(run: Callable[[], None], repeats: int) -> float:
    return float(np.median(times(run, repeats + 1)[1:]))


def times(run: Callable[[], None], repeats: int) -> list[float]:
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return found


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        ("06.1", (72, -6.25)),
        ("06.1", [72.0, -6.25]),
        ("06.4", client),
        ("06.5", median_time),
        ("06.6", ("conv2", 0.2)),
        ("06.6", ["conv2", 1 / 5]),
    ],
)
def test_right(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any) -> None:
    assert said(capsys, exercise, answer) == f"Exercise {exercise}: right.\n"


WRONG = [
    ("06.1", 72, "two numbers"),
    ("06.1", (200, -6.25), "int8 ends at 127"),
    ("06.1", (-56, -6.25), "it wraps around"),
    ("06.1", (0.784, -6.25), "before it is quantized"),
    ("06.1", (0, -6.25), "Divide by the scale first"),
    ("06.1", (328, -6.25), "it is negative"),
    ("06.1", (73, -6.25), "what is left of the division"),
    ("06.1", (72, -3.75), "the zero point is subtracted"),
    ("06.1", (72, -5), "the zero point is missing"),
    ("06.1", (72, -25), "the scale is missing"),
    ("06.1", (72, -10), "before you multiply"),
    ("06.1", (72, -100), "dequantizing multiplies"),
    ("06.1", (72, 0.4235), "The output has its own"),
    ("06.1", (72, 1), "use the output's scale"),
    ("06.5", lambda run, n: float(np.median(times(run, n))), "the first run counts"),
    ("06.5", lambda run, n: float(np.median(times(run, n + 1))), "the first run counts"),
    ("06.5", lambda run, n: float(np.mean(times(run, n + 1)[1:])), "a few disturbed runs"),
    ("06.5", lambda run, n: float(np.mean(times(run, n))), "a few disturbed runs"),
    ("06.5", lambda run, n: min(times(run, n + 1)), "the fastest run"),
    ("06.5", lambda run, n: sum(times(run, n)), "all runs together"),
    ("06.5", lambda run, n: 1e6 * median_time(run, n), "the unit is the second"),
    ("06.5", lambda run, n: median_time(run, 3), "9 were asked for"),
    ("06.5", lambda run, n: median_time(run, n) / 7, "each run by itself"),
    ("06.6", "conv2", "a pair"),
    ("06.6", ("relu2", 0.2), "must be one of conv1"),
    ("06.6", ("logits", 0.2), "Which op before it"),
    ("06.6", ("conv3", 0.2), "Which op before it"),
    ("06.6", ("conv1", 0.2), "the error of a healthy op"),
    ("06.6", ("conv2", 5), "what undoes it?"),
    ("06.6", ("conv2", 0.5), "compare three scales"),
]


@pytest.mark.parametrize(("exercise", "answer", "hint"), WRONG)
def test_wrong(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any, hint: str) -> None:
    told = said(capsys, exercise, answer)
    assert told.startswith(f"Exercise {exercise}: not yet: ")
    assert hint in told


@pytest.mark.parametrize(
    ("bugs", "hints"),
    [
        (["bytes", "early", "brackets"], ["3 of its mistakes are left", "go into the formula"]),
        (["early", "brackets"], ["2 of its mistakes are left", "In which order"]),
        (["brackets"], ["one mistake is left", "before the product"]),
        (["bytes"], ["go into the formula as bytes"]),
        (["cast"], ["are cast to the input's type"]),
        (["cut off"], ["round"]),
        (["early"], ["the image before it"]),
        (["no zero point"], ["without the zero point"]),
        (["raw"], ["as it is"]),
        (["input's"], ["with the input's scale"]),
        (["narrow"], ["overflows"]),
    ],
)
def test_clients(capsys: pytest.CaptureFixture[str], bugs: list[str], hints: list[str]) -> None:
    told = said(capsys, "06.4", lambda file, pixels: client(file, pixels, *bugs))
    assert "not yet" in told
    for hint in hints:
        assert hint in told


def test_clients_that_return_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    def digits(file: bytes, pixels: np.ndarray) -> np.ndarray:
        return client(file, pixels).argmax(axis=-1)

    assert "an array of shape (24, 10)" in said(capsys, "06.4", digits)
    doubled = said(capsys, "06.4", lambda file, pixels: 2 * client(file, pixels))
    assert "the logits are off by up to" in doubled


def test_repaired_conversion(
    capsys: pytest.CaptureFixture[str],
    baseline: keras.Model,
    files: dict[str, bytes],
    ladder: dict[str, bytes],
    ten: np.ndarray,
    train: Any,
) -> None:
    def told(images: np.ndarray) -> str:
        file = tflite.convert(baseline, "int8", calibration=images, io="uint8", input_range=None)
        return said(capsys, "06.2", file)

    data = mnist.load()
    assert told(ten) == "Exercise 06.2: right.\n"
    # What is wrong with these is not which images have calibrated them.
    assert "the input of the file is int8; it must be uint8" in said(capsys, "06.2", ladder["int8"])
    for mode in ("int8_fallback", "float32"):
        assert [t.dtype for t in tflite.input_output(ladder[mode])] == [np.float32] * 2
        assert "both must be uint8" in said(capsys, "06.2", ladder[mode])
    assert "with values far above 1" in told(255 * ten)
    of_test = data.x_test[np.unique(data.y_test, return_index=True)[1]]
    assert "Yours are test images" in told(mnist.to_float(of_test))
    assert "Yours are 500 training images" in said(capsys, "06.2", files["int8, uint8 input"])
    assert "some digits are missing" in told(mnist.to_float(train[0][:10]))
    assert "Which images calibrate it?" in told(mnist.to_float(train[0][77:99]))
    assert "bytes of a .tflite file are needed" in said(capsys, "06.2", baseline)


def test_damaged_file() -> None:
    damaged, whole = lesson_06.damaged_file(), models.load_int8_baseline()
    differing = []
    for a, b in zip(*(flatbuffer.graph(file).tensors for file in (damaged, whole)), strict=True):
        assert np.array_equal(a.data, b.data)
        if not np.array_equal(a.scales, b.scales):
            differing.append((a.shape, float(np.median(a.scales / b.scales))))
    assert differing == [((16, 3, 3, 8), pytest.approx(5))]
    (op,) = (op for op in flatbuffer.graph(damaged).ops if "conv2" in op.layers)
    image, weights, bias = op.inputs
    assert bias.scales / (image.scales * weights.scales) == pytest.approx(0.2, rel=1e-5)


def test_own_model(capsys: pytest.CaptureFixture[str], ladder: dict[str, bytes]) -> None:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    own = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu"), layers.Dense(3)])
    inputs = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    floats = tflite.convert(own, "float32")

    @cache
    def integers(factor: float) -> bytes:
        images = inputs * np.float32(factor)
        return tflite.convert(own, "int8", calibration=images, input_range=None)

    def told(*answer: Any) -> str:
        return said(capsys, "06.7", answer)

    assert "right." in told(floats, integers(1), inputs)
    assert "three things" in told(floats, integers(1))
    assert "show little" in told(floats, integers(1), inputs[:10])
    assert "must be the float one" in told(integers(1), floats, inputs)
    assert "Integer only: no" in told(floats, floats, inputs)
    poor = told(floats, integers(0.2), inputs)
    assert "dB, and 15 are needed. The op with the largest own error is" in poor
    ours = ladder["float32"], models.load_int8_baseline()
    assert "the course's own model" in told(*ours, np.zeros((60, 28, 28, 1), np.float32))


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
    capsys: pytest.CaptureFixture[str], exported: bytes, ladder: dict[str, bytes]
) -> None:
    weight_only = tflite.apply_recipe(exported, "weight_only_wi8_afp32")
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
