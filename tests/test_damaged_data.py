"""Damaged data of the course, and damaged messages of the canvas: what is wrong is named."""

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quant_tutorial import deployment, mnist, models, qat, rounding
from quant_tutorial.deployment.timing import RECORDED
from quant_tutorial.explorers.canvas import DigitCanvas
from quant_tutorial.qat import shipped
from quant_tutorial.rounding.shipped import RESULTS as ROUNDING

import numpy as np
import pytest

# What stands at the beginning of a file of another kind.
OTHERS = [b"", b"\x89PNG\r\n\x1a\n" + bytes(99), b"PK\x03\x04" + bytes(99), b"{}", b"\xff" * 500]


def damaged(content: bytes, count: int) -> list[bytes]:
    """So many damaged forms of a file, the same ones at each run: cut, changed, of another kind."""
    rng = random.Random(12)
    found = list(OTHERS)
    while len(found) < count:
        at = rng.randrange(len(content))
        # Half of them at the ends, where archives have their lists.
        if rng.random() < 0.5:
            at = rng.choice((at % 300, len(content) - 1 - at % 300))
        changed = bytearray(content)
        if rng.random() < 0.4:
            del changed[at:]
        else:
            for place in range(at, min(at + rng.choice((1, 4, 64)), len(content))):
                changed[place] = rng.randrange(256)
        if changed != content:
            found.append(bytes(changed))
    return found


def answers(load: Callable[[], Any], path: Path, contents: list[bytes], begins: str) -> int:
    """Count the files that are refused; fails for any other answer than a clear ValueError."""
    refused = 0
    for content in contents:
        path.write_bytes(content)
        error = None
        try:
            load()
        except ValueError as found:
            error = found
        if error is not None:
            assert str(error).startswith(begins), error
            assert type(error) is ValueError, error  # and none of JSON's or of Unicode's
            assert str(path) in str(error)
            refused += 1
    return refused


def test_mnist(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    contents = damaged(mnist.PATH.read_bytes(), 30)
    assert answers(lambda: mnist.load.__wrapped__(path), path, contents, "The MNIST file is ") > 20


def test_mnist_whose_arrays_have_an_absurd_shape(tmp_path: Path) -> None:
    """Far more than a computer's memory: the header of an array says so."""
    path = tmp_path / "mnist.npz"
    header = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": (2**50, 28, 28)}
    np.lib.format.write_array_header_2_0(header, described)
    with zipfile.ZipFile(path, "w") as archive:
        for name in mnist.Mnist._fields:
            archive.writestr(f"{name}.npy", header.getvalue())
    with pytest.raises(ValueError, match="The MNIST file is damaged"):
        mnist.load(path)


def test_the_float_model(tmp_path: Path) -> None:
    path = tmp_path / "baseline.weights.h5"
    contents = damaged(models.WEIGHTS.read_bytes(), 30)
    begins = "The baseline's weights are damaged"
    # Without the file of digests only what HDF5 and Keras notice is refused.
    assert answers(lambda: models.load_baseline(path), path, contents, begins) > 10
    figures = models.WEIGHTS.with_name("baseline.json").read_bytes()
    path.with_name("baseline.json").write_bytes(figures)
    assert answers(lambda: models.load_baseline(path), path, contents, begins) == len(contents)


def test_the_int8_model(tmp_path: Path) -> None:
    path = tmp_path / "int8.tflite"
    contents = damaged(models.INT8.read_bytes(), 200)
    found = answers(lambda: models.load_int8_baseline(path), path, contents, "The int8 baseline")
    assert found == len(contents)


def test_the_trained_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "W4A4.keras"
    contents = damaged(shipped.model_path("W4A4").read_bytes(), 40)
    monkeypatch.setattr(shipped, "model_path", lambda name: path)
    begins = "The trained model W4A4 is damaged"
    assert answers(lambda: qat.load_trained("W4A4"), path, contents, begins) > 30


@pytest.mark.parametrize(
    ("source", "load", "begins"),
    [
        (shipped.RESULTS, qat.load_results, "The results are damaged"),
        (ROUNDING, rounding.load_results, "The results are damaged"),
        (shipped.CONTROL, qat.load_control, "The control's figures are damaged"),
        (RECORDED, deployment.recorded_latencies, "The recorded latencies are damaged"),
    ],
    ids=["results", "results of rounding", "control", "latencies"],
)
def test_figures(source: Path, load: Callable[[Path], Any], begins: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    contents = damaged(source.read_bytes(), 200)
    contents += [b"null", b"[]", b'{"models": [1]}', b'{"machines": [{}]}', b'{"models": {"x": 1}}']
    assert answers(lambda: load(path), path, contents, begins) > 100
    path.unlink()
    with pytest.raises(FileNotFoundError, match="are missing"):
        load(path)


@pytest.mark.parametrize("sent", [None, "text", 5, [1, 2], {}, b"", b"\x00" * 11, b"\xff" * 12_545])
def test_the_canvas(sent: Any) -> None:
    canvas = DigitCanvas()
    with pytest.raises(ValueError, match="value must be"):
        canvas.set_state({"value": sent})
    assert canvas.is_empty
    assert not canvas.image.any()


@pytest.mark.parametrize(
    "image",
    [None, "text", [[1, 2], [3]], np.full((28, 28), np.nan), np.zeros((28, 28), object), b"\x00"],
)
def test_an_image_for_the_canvas(image: Any) -> None:
    canvas = DigitCanvas()
    with pytest.raises(ValueError, match="raster must"):
        canvas.show(image)
