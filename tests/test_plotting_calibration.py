"""The figures of lesson 03: what they draw is what their sentences say."""

from quant_tutorial import plotting
from quant_tutorial.affine import params_from_range

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

VALUES = np.concatenate([np.linspace(0, 3, 900), np.linspace(3.01, 9, 100)])


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


def test_workflow(ax: Axes) -> None:
    plotting.plot_workflow(ax)
    words = {text.get_text() for text in ax.texts}
    sentence = plotting.describe_workflow()
    for step in ("train", "calibrate", "quantize", "evaluate"):
        assert step in words
        assert step in sentence
    assert len({box.get_facecolor() for box in ax.patches if hasattr(box, "get_boxstyle")}) == 2


def test_clipping(ax: Axes) -> None:
    params = params_from_range(0, 3, 3)
    plotting.plot_clipped_histogram(ax, VALUES, params, "narrow")
    levels = ax.lines[-1].get_xdata()
    assert levels == pytest.approx(np.arange(8) * 3 / 7)
    assert "clipped" in {text.get_text() for text in ax.texts}
    sentence = plotting.describe_clipped_histogram(VALUES, params)
    assert sentence.startswith("Range 0 to 3: 8 levels, 0.429 apart; 10.0% of the values lie")
    wide = Figure().subplots()
    plotting.plot_clipped_histogram(wide, VALUES, params_from_range(0, 9, 3))
    assert "clipped" not in {text.get_text() for text in wide.texts}


def test_range_error(ax: Axes) -> None:
    ends, errors = [1.0, 2.0, 3.0], [0.5, 0.25, 0.375]
    parts = {"rounding": [0.0, 0.125, 0.25], "clipping": [0.5, 0.125, 0.125]}
    plotting.plot_range_error(ax, ends, errors, parts)
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines["their sum"].get_ydata()) == [0.5, 0.25, 0.375]
    assert list(lines["measured"].get_ydata()) == errors
    assert list(lines["smallest"].get_xdata()) == [2.0]
    sentence = plotting.describe_range_error(ends, errors)
    assert "is 0.5 where the range ends at 1.00, falls to 0.25 at 2.00, and rises" in sentence
    bare = Figure().subplots()
    plotting.plot_range_error(bare, ends, errors)
    assert len(bare.lines) == 2


def test_shapes(ax: Axes) -> None:
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    plotting.plot_shapes(ax, p, q, "title")
    assert sorted(bar.get_height() for bar in ax.patches if hasattr(bar, "get_height")) == [
        *(0.25, 0.25, 0.5)
    ]
    sentence = plotting.describe_shapes(p, q, 0.125)
    assert "number 0, holds 50% of the values before and 25% after; the KL divergence is 0.125" in (
        sentence
    )


def test_draws(ax: Axes) -> None:
    draws = {"one": [97.4, 99.4, 99.5], "ten": [99.4] * 12}
    plotting.plot_draws(ax, draws, "accuracy in %")
    dots = [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [sorted(line.get_ydata()) for line in dots] == [sorted(v) for v in draws.values()]
    assert len(set(dots[1].get_xdata()[:9])) == 9  # equal values stand side by side
    sentence = plotting.describe_draws(draws, decimals=1)
    assert sentence == (
        "one: 3 draws from 97.4 to 99.5, median 99.4; ten: 12 draws from 99.4 to 99.4, median 99.4."
    )
