"""Tables and sentences; the pictures of the explorers are tested in test_explorers.py."""

from quant_tutorial import plotting
from quant_tutorial.explorers.post_training import PostTrainingFigure
from quant_tutorial.table import Table

import numpy as np
import pytest
from matplotlib.figure import Figure


class TestTable:
    def test_text_is_aligned(self) -> None:
        table = Table(["name", "n"], [["one", 1], ["twenty", 20]])
        assert repr(table).splitlines() == ["name    n", "------  --", "one     1", "twenty  20"]

    def test_html_is_escaped(self) -> None:
        page = Table(["<a>"], [["x & y"], ["z"]])._repr_html_()
        assert "&lt;a&gt;" in page
        assert "x &amp; y" in page
        assert (page.count("<th "), page.count("<td "), page.count("<tr>")) == (1, 2, 3)

    def test_rows_must_fit(self) -> None:
        with pytest.raises(ValueError, match=r"rows must have 2 entries each, got \['1'\]"):
            Table(["a", "b"], [[1]])


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


def test_accuracy_by_bits() -> None:
    curves = {"tensor-wise": [0.1, 0.5, 0.98], "channel-wise": [0.2, 0.99, 0.995]}
    ax = Figure().subplots()
    plotting.plot_accuracy_by_bits(ax, [2, 3, 4], curves, 0.996)
    assert [line.get_label() for line in ax.lines] == ["tensor-wise", "channel-wise", "float"]
    assert list(ax.lines[1].get_ydata()) == [20, 99, 99.5]
    sentence = plotting.describe_accuracy_by_bits([2, 3, 4], curves)
    assert "tensor-wise at no width, channel-wise from 3 bits on" in sentence


def test_sizes() -> None:
    front, uniform = [(10, 0.9), (20, 0.99)], [(15, 0.8), (30, 0.995)]
    ax = Figure().subplots()
    plotting.plot_sizes(ax, [*front, (25, 0.5)], front, uniform)
    assert [len(line.get_xdata()) for line in ax.lines] == [3, 2, 2]
    assert "need 20 bytes, one width for all layers 30." in plotting.describe_sizes(
        front, uniform, 0.99
    )


def test_flips() -> None:
    before, after = np.array([1, 2, 3, 4, 4]), np.array([1, 7, 3, 9, 9])
    assert plotting.describe_flips(before, before) == "No image is answered differently."
    sentence = plotting.describe_flips(before, after)
    assert sentence == "About 3 images are answered differently; most often 4 becomes 9."
    many = plotting.describe_flips(np.zeros(187, int), np.ones(187, int))
    assert many.startswith("About 200 images")


def test_points() -> None:
    pairs = ((0.9946, 0.9947), (0.9942, 0.9946), (0.986, 0.9946), (0.5, 0.4))
    assert [plotting.describe_points(*pair) for pair in pairs] == [
        "less than 0.1",
        "less than 0.1",
        "−0.9",
        "+10.0",
    ]


def test_post_training_figure() -> None:
    figure = PostTrainingFigure(0.99, 1000)
    labels = np.full(40, 3)
    after = np.where(np.arange(40) % 20 == 7, 5, 3)
    shown = figure.changes.show(labels, after, labels, np.ones((40, 28, 28, 1)))
    assert shown.tolist() == [7, 27]
    figure.update(0.5, 250)
    assert figure._bar.get_width() == 50
    assert figure._figures.get_text() == "50.00%, −49.00 points"
    counts = np.reshape(figure.changes.counts.texts, (10, 10))
    assert [counts[place] for place in ((3, 5), (3, 3), (0, 0))] == ["+2", "−2", ""]
    row = figure.changes.row
    assert row.titles.texts[:3] == ("3: 3 → 5", "3: 3 → 5", "")
    strip = np.asarray(row._image.get_array())
    assert [strip[:, 30 * n : 30 * n + 28].mean() for n in range(3)] == [1, 1, 0]
    assert strip.mean() == 2 * 28 / strip.shape[1]  # nothing between the digits
    figure.update(0.5, 250, (0.4, 0.6), 1000)
    assert list(figure._spread.get_xdata()) == [40, 60]
    assert "40 to 60 %, estimated on 1,000 images" in figure._figures.get_text()


class TestChoices:
    """The figures of lesson 11."""

    def test_two_weights(self) -> None:
        weights = (0.4, 0.3)
        hessians = {"apart": np.eye(2), "together": np.array([[1, 0.8], [0.8, 1]])}
        axes = Figure(layout="constrained").subplots(1, 2)
        plotting.plot_two_weights(axes, weights, hessians)
        said = [[text.get_text() for text in ax.texts] for ax in axes]
        assert said == [["0.25", "0.65", "0.45", "0.85"], ["0.44", "0.20", "0.16", "1.52"]]
        sentence = plotting.describe_two_weights(weights, hessians)
        assert "apart: the smallest error is 0.25, at 0 and 0" in sentence
        assert (
            "together: the smallest error is 0.16, at 1 and 0, and the nearest levels" in sentence
        )

    def test_all_roundings(self) -> None:
        errors = np.array([4.0, 0.5, 3.0, 1.0])
        ax = Figure().subplots()
        plotting.plot_all_roundings(ax, errors, 2)
        curve, best, nearest = ax.lines
        assert list(curve.get_ydata()) == [0.5, 1, 3, 4]
        assert (best.get_xdata()[0], best.get_ydata()[0]) == (1, 0.5)
        assert (nearest.get_xdata()[0], nearest.get_ydata()[0]) == (3, 3)
        sentence = plotting.describe_all_roundings(errors, 2)
        assert "Of 4 roundings of the filter, 2 have a smaller error" in sentence

    def test_pushed_error(self) -> None:
        factor = np.array([[1, 0.1, 0.2], [0, 2, -1.5], [0, 0, 1]])
        ax = Figure().subplots()
        plotting.plot_pushed_error(ax, factor, 0)
        assert len(ax.patches) == 3
        sentence = plotting.describe_pushed_error(factor, 0)
        assert sentence.endswith(
            "weights 2 to 3, which take over its error. Weight 3 takes over most."
        )

    def test_soft_rounding(self) -> None:
        axes = Figure().subplots(1, 2)
        plotting.plot_soft_rounding(axes, (20, 2))
        v, h = axes[0].lines[1].get_data()
        assert (h[v < -2.4] == 0).all()
        assert (h[v > 2.4] == 1).all()
        assert max(axes[1].lines[1].get_ydata()) == 1
        assert "With β = 20 it is flat" in plotting.describe_soft_rounding((20, 2))

    def test_channel_ranges(self) -> None:
        before, after = [np.array([1.0, 100.0])], [np.array([2.0, 4.0])]
        axes = Figure(layout="constrained").subplots(1, 2)[:1]
        plotting.plot_channel_ranges(axes, before, after, ["weights"])
        assert [bar.get_height() for bar in axes[0].patches] == [1, 100, 2, 4]
        sentence = plotting.describe_channel_ranges(before, after, ["weights"])
        assert sentence.endswith("weights: 100× before, 2× after.")

    def test_methods(self) -> None:
        errors = {"nearest": {"W2A8": [0.2, 0.3]}, "GPTQ": {"W2A8": [0.03]}}
        ax = Figure().subplots()
        plotting.plot_methods(ax, errors)
        assert [len(line.get_xdata()) for line in ax.lines] == [2, 1]
        sentence = plotting.describe_methods(errors)
        assert sentence.endswith("W2A8: nearest 25.00 %, GPTQ 3.00 %.")
