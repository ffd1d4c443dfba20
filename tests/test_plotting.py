"""Tables and sentences; the pictures of the explorers are tested in test_explorers.py."""

from quant_tutorial import plotting

import numpy as np
import pytest
from matplotlib.figure import Figure


class TestTable:
    def test_text_is_aligned(self) -> None:
        table = plotting.Table(["name", "n"], [["one", 1], ["twenty", 20]])
        assert repr(table).splitlines() == ["name    n", "------  --", "one     1", "twenty  20"]

    def test_html_is_escaped(self) -> None:
        page = plotting.Table(["<a>"], [["x & y"], ["z"]])._repr_html_()
        assert "&lt;a&gt;" in page
        assert "x &amp; y" in page
        assert (page.count("<th "), page.count("<td "), page.count("<tr>")) == (1, 2, 3)

    def test_rows_must_fit(self) -> None:
        with pytest.raises(ValueError, match=r"rows must have 2 entries each, got \['1'\]"):
            plotting.Table(["a", "b"], [[1]])


def test_digits() -> None:
    axes = Figure().subplots(1, 2)
    images = np.stack([np.zeros((28, 28, 1)), np.ones((28, 28, 1))])
    plotting.plot_digits(axes, images, ["a\nb", "c"])
    assert axes[1].images[0].get_array().shape == (28, 28)
    assert plotting.describe_digits(["a\nb", "c"]) == "2 pictures from left to right: a b; c"
    with pytest.raises(ValueError, match="zip"):
        plotting.plot_digits(axes, images, ["one"])


def test_sqnr() -> None:
    bits, measured = range(2, 7), [10.0, 16.0, 22.0, 28.5, 34.5]
    ax = Figure().subplots()
    plotting.plot_sqnr(ax, bits, measured)
    points, rule = ax.lines
    assert list(points.get_ydata()) == measured
    assert rule.get_ydata()[-1] == measured[-1]
    sentence = plotting.describe_sqnr(bits, measured)
    assert "from 10.0 dB at 2 bits to 34.5 dB at 6 bits; from 4 bits on by 6.25 dB" in sentence


def test_integer_histogram() -> None:
    q = np.array([[-3, -3, 5]], np.int8)
    ax = Figure().subplots()
    plotting.plot_integer_histogram(ax, q, "title")
    assert [bar.get_height() for bar in ax.patches] == [2, 1]
    assert "3 values from -3 to 5, 2 different ones" in plotting.describe_integers(q, "w")
