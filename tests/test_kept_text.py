"""A canvas that copies texts draws the same pixels as Matplotlib's own."""

import string
from collections.abc import Callable
from typing import Any

from quant_tutorial.explorers import kept_text
from quant_tutorial.explorers.kept_text import KeptTextCanvas

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure

LETTERS = [string.printable.strip()[start : start + 24] for start in range(0, 94, 24)]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> dict:
    kept = {}
    monkeypatch.setattr(kept_text, "_KEPT", kept)
    return kept


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of text that Matplotlib has drawn."""
    drawn, usual = [], RendererAgg.draw_text

    def draw_text(*given: Any, **options: Any) -> None:
        drawn.append(given[4])
        usual(*given, **options)

    monkeypatch.setattr(RendererAgg, "draw_text", draw_text)
    return drawn


def made(draw: Callable[[Figure], None]) -> Figure:
    figure = Figure(figsize=(5, 3), dpi=150)
    draw(figure)
    return figure


def pixels(figure: Figure, kind: type[FigureCanvasAgg] = KeptTextCanvas) -> np.ndarray:
    canvas = kind(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def every_text(figure: Figure) -> None:
    ax = figure.subplots()
    ax.set(title="99.2% right, 1.3× the errors", xlabel="x̂ − x", ylabel="how many", xlim=(0, 1))
    ax.set_yscale("log")  # labels with mathtext
    for place, letters in enumerate(LETTERS):
        weight, style = ("bold", "normal")[place % 2], ("normal", "italic")[place // 2]
        options = {"fontsize": 6 + 3 * place, "weight": weight, "style": style}
        figure.text(0.05, 0.1 + 0.21 * place, letters.replace("$", ""), **options)
    figure.text(0.5, 0.3, "two\nlines", ha="center", color="#D55E00", alpha=0.4)
    figure.text(0.6, 0.3, "askew", rotation=30)
    figure.text(0.7, 0.3, "two\naskew", rotation=30)
    figure.text(0.8, 0.3, "pale", bbox={"facecolor": "yellow"}, antialiased=False)
    figure.text(0.99, 0.99, "beyond the corner")
    figure.text(-0.02, -0.02, "beyond the other")
    ax.text(0.9, 3, "cut at the end of the axes", clip_on=True)


def test_the_same_pixels_the_first_and_the_second_time(lines: list[str]) -> None:
    expected = pixels(made(every_text), FigureCanvasAgg)
    count = len(lines)
    for rest in (count, 2):  # the two lines that are askew
        lines.clear()
        assert np.array_equal(pixels(made(every_text)), expected)
        assert len(lines) == rest


@pytest.mark.parametrize("change", [{"color": "red"}, {"alpha": 0.3}, {"x": 0.21}, {"y": 0.501}])
def test_what_looks_different_is_drawn(change: dict[str, Any]) -> None:
    figure = made(lambda figure: figure.text(0.2, 0.5, "text"))
    pixels(figure)
    figure.texts[0].set(**change)
    assert np.array_equal(pixels(figure), pixels(figure, FigureCanvasAgg))


def test_a_text_over_something_else_is_drawn() -> None:
    figure = made(lambda figure: figure.text(0.2, 0.5, "text"))
    pixels(figure)
    figure.set_facecolor("pink")
    assert np.array_equal(pixels(figure), pixels(figure, FigureCanvasAgg))


def test_the_latest_texts_are_kept(
    nothing_kept: dict, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_text, "_MOST", 2)
    for name in "abacab":
        pixels(made(lambda figure, name=name: figure.text(0.2, 0.5, name)))
    assert "".join(lines) == "abcb"
    assert [key[0] for key in nothing_kept] == ["a", "b"]
