"""Bars that are drawn in one go look like those of Matplotlib."""

from quant_tutorial.plotting.bars import Bars

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

LENGTHS = [0.3, -1.0, 0.0, 0.123456, 7.0]
ALPHAS = [1, 0.45, 1, 0.2, 0.8]


def axes() -> Axes:
    ax = Figure(figsize=(3, 2), dpi=150).add_axes((0.123, 0.2, 0.6, 0.7))
    ax.set(xlim=(-1, 1.9), ylim=(4.6, -0.6))
    return ax


def pixels(ax: Axes) -> np.ndarray:
    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def test_they_are_those_of_barh() -> None:
    here, there = axes(), axes()
    Bars(here, 5, 0.7, "#0072B2").show(LENGTHS, ALPHAS)
    for bar, alpha in zip(there.barh(range(5), LENGTHS, 0.7, color="#0072B2"), ALPHAS, strict=True):
        bar.set_alpha(alpha)
    assert np.array_equal(pixels(here), pixels(there))
    assert here.get_xlim() == (-1, 1.9)


def test_there_is_none_at_first_and_a_length_for_each() -> None:
    ax = axes()
    empty, bars = pixels(ax), Bars(ax, 3, 0.5, "black")
    assert np.array_equal(pixels(ax), empty)
    assert bars.lengths == [0, 0, 0]
    with pytest.raises(ValueError, match="lengths must be 3, got 2"):
        bars.show([1, 2])
