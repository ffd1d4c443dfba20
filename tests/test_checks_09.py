"""The exercises of lesson 09: right answers, and the hint that each typical mistake gets."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant_tutorial import deployment, rounding, tflite
from quant_tutorial.scheme import LayerScheme, QuantScheme, TensorScheme
from quant_tutorial.simulate import Simulator

import numpy as np
import pytest
from test_checks import said

pytestmark = pytest.mark.slow

PEAK = 32 * 32 * 16 + 16 * 16 * 16
WEIGHTS = 27 * 16 + 144 * 32 + 8192 * 10


def header(content: bytes, name: str, **changed: str) -> str:
    parts = {
        "include": "#include <stdalign.h>",
        "align": "alignas(16)",
        "const": "const",
        "values": ", ".join(map(hex, content)),
        "length": f"const unsigned int {name}_len = {len(content)};",
    } | changed
    array = f"{parts['align']} {parts['const']} unsigned char {name}[] = {{{parts['values']}}};"
    return "\n".join([parts["include"], array, parts["length"], ""])


def with_changed(**changed: str) -> Any:
    return lambda content, name: header(content, name, **changed)


RIGHT = [
    ("09.1", 12),
    ("09.1", np.float64(12)),
    ("09.2", (PEAK, 4 * (PEAK + WEIGHTS))),
    ("09.2", [20480.0, 429760]),
    ("09.3", "AB"),
    ("09.3", ["b", "a"]),
    ("09.3", "A, B"),
    ("09.4", header),
    ("09.4", with_changed(align="__attribute__((aligned(16)))", include="")),
    ("09.4", with_changed(align="_Alignas(16)", include="")),
    ("09.4", with_changed(align="const alignas(16)", const="")),
    ("09.5", "BCE"),
    ("09.5", ["e", "c", "b"]),
]


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_right(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any) -> None:
    assert said(capsys, exercise, answer) == f"Exercise {exercise}: right.\n"


WRONG = [
    ("09.1", 13, "but the warm-up is in it"),
    ("09.1", 12.5, "how many runs were there to warm up?"),
    ("09.1", 59, "this is the mean: one disturbed run"),
    ("09.1", 59.9, "the mean of all runs"),
    ("09.1", 11, "this is the fastest run"),
    ("09.1", 12.17, "not left out because it is slow"),
    ("09.1", 95, "take the figure that one disturbed run does not move"),
    ("09.2", 20480, "could not use this answer"),
    ("09.2", (20480,), "two numbers"),
    ("09.2", (31754, 0), "not all activations are in RAM at the same time"),
    ("09.2", (16384, 0), "its input is needed as well"),
    ("09.2", (19456, 0), "this is the first layer"),
    ("09.2", (12288, 0), "the second convolution"),
    ("09.2", (81920, 0), "these would be floats"),
    ("09.2", (7, 0), "(a) add up input and output"),
    ("09.2", (PEAK, 4 * PEAK), "(a) is right. (b) these are the activations"),
    ("09.2", (PEAK, 4 * WEIGHTS), "There are activations, too"),
    ("09.2", (PEAK, PEAK + 4 * WEIGHTS), "are not int8"),
    ("09.2", (PEAK, 4 * PEAK + WEIGHTS), "a weight is unpacked to a float"),
    ("09.2", (PEAK, 4 * PEAK + WEIGHTS // 2), "as in the file"),
    ("09.2", (PEAK, 4 * PEAK + 4 * 81920), "forgets the weights of the other layers"),
    ("09.2", (PEAK, 1), "add the activations as floats"),
    ("09.3", "ABD", "without a correction"),
    ("09.3", "B", "Bonferroni"),
    ("09.3", "ABCD", "none of the models"),
    ("09.3", "BC", "how often does a fair coin"),
    ("09.3", "A", "correct them one after the other"),
    ("09.3", "E", "letters from A to D"),
    ("09.4", with_changed(align=""), "must be aligned to 16 bytes"),
    ("09.4", with_changed(align="", include="/* alignas(16) */"), "must be aligned to 16 bytes"),
    ("09.4", with_changed(align="alignas(1)"), "must be aligned to 16 bytes"),
    ("09.4", with_changed(const=""), "Which word leaves it in flash?"),
    ("09.4", with_changed(const="/* const */"), "Which word leaves it in flash?"),
    ("09.4", with_changed(values="0, 1"), "does not hold the 2 bytes"),
    ("09.4", with_changed(values="0, 256"), "'256', which is not a byte"),
    ("09.4", with_changed(length=""), "two_bytes_len is not defined"),
    ("09.4", lambda content, name: content, "must be a text, got bytes"),
    ("09.5", "ABCE", "A is true"),
    ("09.5", "BCDE", "D is true"),
    ("09.5", "BC", "machine A is no phone"),
    ("09.5", "BE", "where do the weights go"),
    ("09.5", "CE", "in which type does"),
    ("09.5", "F", "letters from A to E"),
    ("09.6", Path("file"), "not PosixPath"),
]


@pytest.mark.parametrize(("exercise", "answer", "hint"), WRONG)
def test_wrong(capsys: pytest.CaptureFixture[str], exercise: str, answer: Any, hint: str) -> None:
    told = said(capsys, exercise, answer)
    assert told.startswith(f"Exercise {exercise}: not yet: ")
    assert hint in told


def test_own_header_must_compile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_include = with_changed(include="")
    if shutil.which("cc"):
        assert "the compiler refuses the header" in said(capsys, "09.4", without_include)
    monkeypatch.setattr(deployment, "compile_and_read_back", lambda path: None)
    assert "right." in said(capsys, "09.4", without_include)  # nobody here to refuse it
    monkeypatch.setattr(deployment, "compile_and_read_back", lambda path: b"other")
    assert "holds other bytes" in said(capsys, "09.4", header)


@pytest.fixture(scope="module")
def own(simulator: Simulator, calibration: np.ndarray) -> Mapping[str, bytes]:
    """Files of 4-bit weights whose dense layer differs."""
    dense = {
        "8 bits": TensorScheme(8, True, "channel-wise", "mse"),
        "4 bits, one scale": TensorScheme(4, True, "layer-wise", "mse"),
        "4 bits, a scale for each output": TensorScheme(4, True, "channel-wise", "mse"),
    }
    four, activations = TensorScheme(4, True, "channel-wise", "mse"), TensorScheme(8)
    made = {}
    for name, weights in dense.items():
        overrides = {"logits": LayerScheme(weights, activations)}
        scheme = QuantScheme(four, activations, overrides=overrides)
        if name == "8 bits":  # only the right one has to be accurate
            rounded = rounding.gptq(simulator, scheme, calibration[:200])
        else:
            rounded = rounding.nearest(simulator, scheme)
        made[name] = rounding.int8_file(rounded, packed=True, io="uint8")
    return made


def test_own_micro_file(
    capsys: pytest.CaptureFixture[str],
    own: Mapping[str, bytes],
    files: Mapping[str, bytes],
    ladder: Mapping[str, bytes],
) -> None:
    assert "right." in said(capsys, "09.6", own["8 bits"])
    hints = {
        "what does it unpack?": own["4 bits, one scale"],
        "with a scale for each channel": own["4 bits, a scale for each output"],
        "can have narrower weights?": files["int8, uint8 input"],
        "input is int8; it must be uint8": files["int8, int8 input"],
        "TFLM does not run it: op 2 (CONV_2D": ladder["dynamic"],
    }
    for hint, content in hints.items():
        assert hint in said(capsys, "09.6", content), hint


def test_own_micro_file_must_be_accurate(
    capsys: pytest.CaptureFixture[str], simulator: Simulator
) -> None:
    from quant_tutorial import simulate

    activations = TensorScheme(8)
    narrow = TensorScheme(2, True, "channel-wise")
    dense = LayerScheme(TensorScheme(8, True, "channel-wise"), activations)
    scheme = QuantScheme(narrow, activations, overrides={"logits": dense})
    found = simulator.model, simulator.params(scheme)
    poor = simulate.int8_file(*found, io="uint8", packed=True)
    assert "how is it rounded?" in said(capsys, "09.6", poor)
    assert tflite.inspect(poor).integer_only
