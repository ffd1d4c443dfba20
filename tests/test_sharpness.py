"""Figures of cells and pictures of explorers have the same pixels for each pixel of the page."""

import base64
import io

from quant_tutorial.explorers.affine import AffineExplorer
from quant_tutorial.plotting.sharpness import SHARPNESS, quick_png, sharp_png

import nbclient
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

KIND = "image/png"


def opened(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data)))


def drawn() -> Figure:
    figure = Figure(figsize=(5, 2), layout="constrained")
    ax = figure.subplots()
    ax.plot([1, 3, 2], color="#D55E00")
    ax.imshow(np.linspace(0, 1, 100).reshape(10, 10), cmap="gray")
    return figure


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 2), (40, 33)])
def test_a_quick_png_is_the_picture(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    picture = Image.open(io.BytesIO(quick_png(pixels)))
    assert (picture.format, picture.mode) == ("PNG", "RGB")
    assert np.array_equal(np.asarray(picture), pixels)


def test_a_quick_png_is_about_as_small_as_pillow_s() -> None:
    explorer, usual = AffineExplorer(), io.BytesIO()
    Image.fromarray(explorer.pixels()).save(usual, "png", compress_level=1)
    assert len(explorer.png()) < 1.2 * len(usual.getvalue())


def test_a_figure() -> None:
    figure = drawn()
    data, size = sharp_png(figure)
    picture = opened(data)
    assert size == {"width": round(picture.width / 1.5), "height": round(picture.height / 1.5)}
    assert repr(figure) == "<Figure size 500x200 with 1 Axes>"  # nbval compares it
    # As Jupyter would show it: bbox_inches="tight" cuts and pads.
    usual = io.BytesIO()
    figure.savefig(usual, format="png", bbox_inches="tight")
    width, height = Image.open(usual).size
    assert abs(size["width"] - width) <= 1
    assert abs(size["height"] - height) <= 1


def test_few_colours_look_the_same() -> None:
    figure = drawn()
    full = io.BytesIO()
    figure.savefig(full, format="png", bbox_inches="tight", dpi=SHARPNESS * figure.dpi)
    colours = np.array(Image.open(full).convert("RGB"), int)
    few = np.array(opened(sharp_png(figure)[0]).convert("RGB"), int)
    assert np.abs(colours - few).max() <= 24
    assert np.abs(colours - few).mean() < 0.5
    white = (colours == 255).all(axis=-1)
    assert white.mean() > 0.3
    assert (few[white] == 255).all()


def test_a_figure_without_axes_is_not_shown() -> None:
    assert sharp_png(Figure()) is None


def test_an_explorer() -> None:
    explorer = AffineExplorer()
    data, metadata = explorer._repr_mimebundle_()
    width, height = opened(data[KIND]).size
    shown = metadata[KIND]
    assert (width, height) == (SHARPNESS * shown["width"], SHARPNESS * shown["height"])
    assert f'width="{shown["width"]}" height="{shown["height"]}"' in explorer._picture.value


@pytest.mark.slow
@pytest.mark.parametrize(
    "setup",
    [
        "from quant_tutorial import plotting\nimport matplotlib.pyplot as plt",
        "import matplotlib.pyplot as plt\nplt.plot(1)\nfrom quant_tutorial.explorers import affine",
    ],
)
def test_in_a_notebook(setup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.v4.new_notebook()
    draw = "plt.subplots(figsize=(4, 2))\nplt.show()"
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in (setup, draw)]
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=300).execute()
    (shown,) = notebook.cells[1].outputs
    assert shown.data["text/plain"] == "<Figure size 400x200 with 1 Axes>"
    width, size = opened(shown.data[KIND]).width, shown.metadata[KIND]
    assert size["width"] == round(width / SHARPNESS)
    assert 350 < size["width"] < 420
