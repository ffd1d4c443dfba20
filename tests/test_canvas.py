"""The canvas without a browser: its value, what Python puts on it, what a static page has."""

import base64
import io

from quant_tutorial import drawing, mnist
from quant_tutorial.drawing import SIDE, draw_strokes
from quant_tutorial.explorers.canvas import DigitCanvas

import ipywidgets as widgets
import numpy as np
import pytest
import traitlets
from PIL import Image

SEVEN = draw_strokes([[(35, 25), (80, 25), (50, 95)]])


@pytest.fixture
def canvas() -> DigitCanvas:
    return DigitCanvas()


def from_browser(canvas: DigitCanvas, levels: np.ndarray) -> None:
    """Send a drawing as the browser does: bytes beside the message, read as a memoryview."""
    message = {"data": {"method": "update", "state": {}, "buffer_paths": [["value"]]}}
    canvas._handle_msg({"content": message, "buffers": [memoryview(levels.tobytes())]})


def test_empty_at_the_start(canvas: DigitCanvas) -> None:
    assert canvas.is_empty
    assert (canvas.raster.shape, canvas.raster.dtype) == ((SIDE, SIDE), np.uint8)
    assert canvas.image.shape == (28, 28, 1)
    assert not canvas.image.any()


def test_a_drawing_from_the_browser(canvas: DigitCanvas) -> None:
    seen = []
    canvas.observe(lambda change: seen.append(change["new"]), names="value")
    from_browser(canvas, SEVEN)
    assert seen == [SEVEN.tobytes()]
    assert type(canvas.value) is bytes
    assert not canvas.is_empty
    np.testing.assert_array_equal(canvas.raster, SEVEN)
    np.testing.assert_array_equal(canvas.image, drawing.to_mnist(SEVEN))
    from_browser(canvas, SEVEN)  # nothing new
    assert len(seen) == 1


def test_every_mnist_image_comes_back(data: mnist.Mnist, canvas: DigitCanvas) -> None:
    """What the models get of a loaded image is that image."""
    for image in data.x_test[:300]:
        canvas.show(image)
        np.testing.assert_allclose(canvas.image[..., 0], image / np.float32(255), atol=1e-6)


def test_show_takes_each_form(data: mnist.Mnist, canvas: DigitCanvas) -> None:
    image = data.x_test[0]
    expected = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    for same in (image, mnist.to_float(data.x_test[:1])[0], image / 255, expected):
        canvas.clear()
        assert canvas.is_empty
        canvas.show(same)
        np.testing.assert_array_equal(canvas.raster, expected)
    np.testing.assert_array_equal(DigitCanvas(image).raster, expected)


def test_observers_hear_of_python_too(data: mnist.Mnist, canvas: DigitCanvas) -> None:
    seen = []
    canvas.observe(lambda _: seen.append(canvas.is_empty), names="value")
    canvas.show(data.x_test[0])
    canvas.clear()
    canvas.clear()
    assert seen == [False, True]


@pytest.mark.parametrize("shape", [(20, 20), (28, 14), (28, 112), (56, 56), (224, 224)])
def test_images_of_another_size(canvas: DigitCanvas, shape: tuple[int, int]) -> None:
    canvas.show(SEVEN)
    with pytest.raises(ValueError, match=rf"image must have the shape .*got \({shape[0]}, "):
        canvas.show(np.zeros(shape, np.uint8))
    np.testing.assert_array_equal(canvas.raster, SEVEN)


def test_wrong_values(canvas: DigitCanvas) -> None:
    with pytest.raises(ValueError, match=r"raster must be in \[0, 1\]"):
        canvas.show(np.full((28, 28), 2.0))
    with pytest.raises(ValueError, match=r"value must be 112 × 112 = 12,544 bytes, got 784"):
        canvas.value = bytes(784)
    with pytest.raises(traitlets.TraitError, match="value"):
        canvas.value = SEVEN
    assert canvas.is_empty
    with pytest.raises(ValueError, match="read-only"):
        canvas.raster[0, 0] = 1


def test_each_canvas_has_its_own_drawing(canvas: DigitCanvas) -> None:
    other = DigitCanvas(SEVEN)
    assert canvas.is_empty
    assert not other.is_empty


def test_page_without_a_kernel(canvas: DigitCanvas) -> None:
    data, _ = canvas._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == "Canvas to draw a digit on; it needs a running kernel."
    assert "image/png" not in data
    canvas.show(SEVEN)
    picture = Image.open(io.BytesIO(base64.b64decode(canvas._repr_mimebundle_()[0]["image/png"])))
    np.testing.assert_array_equal(np.asarray(picture), SEVEN)


def test_stands_in_a_layout(canvas: DigitCanvas) -> None:
    assert repr(widgets.VBox([canvas])) == "VBox(children=(DigitCanvas(empty),))"
    canvas.show(SEVEN)
    assert repr(canvas) == "DigitCanvas(drawn on)"
    assert widgets.HBox([canvas]).children == (canvas,)
    assert {"value", "_side", "_pen"} <= canvas.get_state().keys()
