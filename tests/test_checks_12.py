"""The exercises of lesson 12: right answers, and the hint that each typical mistake gets."""

from typing import Any

from quant_tutorial import colour_digits, report, rounding, tflite
from quant_tutorial.checks import lesson_12
from quant_tutorial.report import Made, Recommendation, Row

import keras
import numpy as np
import pytest
from test_checks import said

pytestmark = pytest.mark.slow

RIGHT = {"A": "one class", "B": "one scale", "C": "bytes"}


def by_ratio(low: Any, skip: bool = True) -> Any:
    """The layer with the largest ratio of the widest channel to what `low` returns."""

    def widest(ranges: dict[str, np.ndarray]) -> str:
        found = {}
        for name, reach in ranges.items():
            alive = reach[reach > 0] if skip else reach + np.float32(1e-9)
            if len(alive):
                found[name] = alive.max() / low(alive)
        return max(found, key=found.get)

    return widest


@pytest.mark.parametrize(
    ("exercise", "answer", "hint"),
    [
        ("12.1", "B", "right."),
        ("12.1", "A", "what does it make of 1"),
        ("12.1", "C", "the model does it once more"),
        ("12.1", "D", "one of the names A, B, C"),
        ("12.2", RIGHT, "right."),
        ("12.2", RIGHT | {"A": "one scale", "B": "one class"}, "C is right. Of A and B"),
        ("12.2", RIGHT | {"A": "bytes", "C": "one class"}, "which real range do the integers"),
        ("12.2", RIGHT | {"A": "one scale"}, "each cause belongs to one file"),
        ("12.2", RIGHT | {"A": "luck"}, "'luck' is none of the causes"),
        ("12.2", {"A": "bytes"}, "a cause for each of A, B and C"),
        ("12.3", by_ratio(np.median), "right."),
        ("12.3", by_ratio(np.min), "compare the widest one with the median"),
        ("12.3", by_ratio(lambda alive: 1), "What counts is the ratio"),
        ("12.3", by_ratio(np.median, skip=False), "always 0 do not count, also for the median"),
        ("12.3", by_ratio(np.mean), "not for random ones"),
        ("12.3", lambda ranges: "dead", "is left out"),
        ("12.4", ["depthwise2", "conv1"], "right."),
        ("12.4", ["depthwise2"], "depthwise2 is one of them. But the tensor"),
        ("12.4", ["pointwise4"], "at which op does the SQNR fall"),
        ("12.4", ["conv1", "depthwise2", "pointwise2"], "3 layers in float are more than it needs"),
        ("12.4", ["conv9"], "the base has no layer 'conv9'"),
        ("12.4", [], "without a layer in float"),
        ("12.6", 0.7391, "right."),
        ("12.6", 0.25, "How much can it be on others?"),
        ("12.6", 0.7199, "one image is to be added to either count"),
        ("12.6", 0.007391, "in percentage points"),
        ("12.6", -0.2199, "the other end of the interval"),
        ("12.6", 3.0, "put b = 14 + 1"),
    ],
)
def test_answers(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any, hint: str) -> None:
    assert hint in said(capsys, exercise, answer)


def test_the_files_are_spoiled_as_said() -> None:
    files = lesson_12.three_files()
    scales = {
        name: max(len(t.scales) for t in tflite.tensors(content) if t.kind == "weights")
        for name, content in files.items()
    }
    assert scales["B"] == 1
    assert min(scales["A"], scales["C"]) > 1
    ends = {name: tflite.input_output(c)[0].params.maximum for name, c in files.items()}
    assert ends["C"] == pytest.approx(255, abs=1)
    assert max(ends["A"], ends["B"]) < 1.01


def test_own_repair(capsys: pytest.CaptureFixture[str]) -> None:
    model, data = lesson_12.sabotaged(), colour_digits.load()
    pixels = data.x_train[:60].astype(np.float32)
    options = {"calibration": pixels, "input_range": (0, 255)}
    equal = rounding.equalize(model)
    mended = tflite.convert(equal, "int8", **options)
    assert "right." in said(capsys, "12.5", mended)
    plain = tflite.convert(model, "int8", **options)
    assert "the calibration is right" in said(capsys, "12.5", plain)
    unit = tflite.convert(equal, "int8", calibration=pixels / np.float32(255))
    assert "look at the Rescaling layer" in said(capsys, "12.5", unit)
    door = tflite.convert(equal, "int8", io="float32", **options)
    assert "a float op is left" in said(capsys, "12.5", door)
    assert "the bytes of a .tflite file" in said(capsys, "12.5", model)


def subject(name: str) -> report.Subject:
    """A subject with a model of one dense layer, which gets everything right."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name=name)
    images = np.random.default_rng(1).normal(size=(1000, 4)).astype(np.float32)
    outputs = model.predict(images, verbose=0)
    some = (images[:100], images, outputs.argmax(axis=1), outputs, (-5.0, 5.0))
    return report.Subject(name, model, *some, told_range=True, notes=(), fingerprint=name)


def test_own_report(capsys: pytest.CaptureFixture[str]) -> None:
    own = subject("own")
    wanted = [report.VARIANTS[0], report.VARIANTS[3]]
    assert [one.name for one in wanted] == ["float32", "int8"]
    made = report.measure_all(own, None, wanted)
    choice = Recommendation("float32", "", "float32")
    assert "right." in said(capsys, "12.7", (own, made, choice))
    assert "baseline is one of the course's" in said(
        capsys, "12.7", (subject("baseline"), made, choice)
    )
    assert "there is no int8 file" in said(capsys, "12.7", (own, made[:1], choice))
    other = Recommendation("int4", "", "int4")
    assert "no such file among them" in said(capsys, "12.7", (own, made, other))
    assert "a tuple is needed" in said(capsys, "12.7", choice)
    assert "what report.load returns" in said(capsys, "12.7", (made, made, choice))
    figures = {"images": 1000, "right": 0, "float_right": 1000, "same": 1000}
    row = Row("float32", "", file=1, only_float=1000, only_file=0, **figures)
    lost = [Made(row, made[0].content), made[1]]
    assert "not surely good enough" in said(capsys, "12.7", (own, lost, choice))
    row = Row("float32", "", file=1, only_float=0, only_file=0, **(figures | {"same": 3}))
    faked = [Made(row, made[0].content), made[1]]
    assert "made from another model?" in said(capsys, "12.7", (own, faked, choice))
