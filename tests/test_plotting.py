"""Tables and sentences; the pictures of the explorers are tested in test_explorers.py."""

import re

from quant_tutorial import plotting
from quant_tutorial.affine import params_from_range
from quant_tutorial.explorers.post_training import PostTrainingFigure
from quant_tutorial.table import Table

import numpy as np
import pytest
from matplotlib.figure import Figure


class TestTable:
    def test_text_is_aligned(self) -> None:
        table = Table(["name", "n"], [["one", 1], ["twenty", 20]])
        assert repr(table).splitlines() == ["name     n", "------  --", "one      1", "twenty  20"]

    def test_numbers_are_on_the_right(self) -> None:
        rows = [
            ["a", "99.4%", "0.0 to 6.3", "8", "1 or 2"],
            ["b", "100%", "−30.9 to 27.9", "–", "3"],
        ]
        table = Table(["name", "share", "range", "bits", "words"], rows)
        assert repr(table).splitlines()[2] == "a     99.4%     0.0 to 6.3     8  1 or 2"
        sides = re.findall(r"<th style='text-align: (\w+)'", table._repr_html_())
        assert sides == ["left", "right", "right", "right", "left"]
        assert repr(Table(["a", "b"], [])).splitlines() == ["a  b", "-  -"]

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
    bits, rule = range(2, 7), [-0.6, 16.0, 22.0, 28.0, 34.0]
    measured = {"one": [10.0, 16.0, 22.0, 28.5, 34.5], "two": [5.0] * 5}
    ax = Figure().subplots()
    plotting.plot_sqnr(ax, bits, rule, measured)
    assert [list(line.get_ydata()) for line in ax.lines] == [rule, *measured.values()]
    assert plotting.describe_sqnr(bits, rule, measured) == (
        "SQNR from 2 to 6 bits. Predicted: −0.6 to 34.0 dB; measured, one: 10.0 to 34.5 dB; "
        "measured, two: 5.0 to 5.0 dB."
    )


def test_mapping() -> None:
    params = params_from_range(-2, 5, 3)
    ax = Figure().subplots()
    plotting.plot_mapping(ax, params, [2.3, 6.4, -4])
    texts = {text.get_text(): text.get_position() for text in ax.texts}
    for q, level in zip(range(-4, 4), range(-2, 6), strict=True):
        assert (level, 0) in [
            t.get_position() for t in ax.texts if t.get_text() == f"{q}".replace("-", "−")
        ]
    assert {"2.3 is rounded", "6.4 is clipped", "−4 is clipped", "zero point"} <= set(texts)
    assert plotting.describe_mapping(params, [2.3, 6.4, -4]) == (
        "The integers −4 to 3 stand for 8 levels on the real line from −2 to 5, 1 apart. The zero "
        "point is −2. 2.3 is rounded to 2, which is stored as 0; 6.4 is clipped to 5, which is "
        "stored as 3; −4 is clipped to −2, which is stored as −4."
    )


def test_layouts() -> None:
    layouts = {
        "a": params_from_range(-1, 2, 3),
        "b,\nnarrow": params_from_range(-1, 2, 3, symmetric=True, narrow_range=True),
    }
    ax = Figure().subplots()
    plotting.plot_layouts(ax, layouts, (-1, 2))
    ticks = [line.get_xdata() for line in ax.lines if line.get_marker() == "|"]
    assert [len(levels) for levels in ticks] == [8, 7]
    np.testing.assert_allclose(ticks[1], np.arange(-3, 4) * 2 / 3)
    zeros = [line.get_xdata() for line in ax.lines if line.get_marker() == "o"]
    assert np.all(np.array(zeros) == 0)
    assert plotting.describe_layouts(layouts) == (
        "A: the integers −4 to 3 stand for −0.857 to 2.14, zero point −2. "
        "B, narrow: the integers −3 to 3 stand for −2 to 2, zero point 0."
    )


def test_clipping() -> None:
    choices = [params_from_range(-c, c, 3, symmetric=True, narrow_range=True) for c in (3, 1.5)]
    axes = Figure().subplots(1, 2)
    plotting.plot_clipping(axes, choices)
    assert [ax.get_title() for ax in axes] == ["Range [−3, 3]", "Range [−1.5, 1.5]"]
    sentence = plotting.describe_clipping(choices)
    values = np.abs(np.random.default_rng(0).normal(size=400_000))
    for limit, share in ((3, "0.27%"), (1.5, "13.36%")):
        assert f"{share} of the values are clipped" in sentence
        assert np.mean(values > limit) == pytest.approx(float(share[:-1]) / 100, rel=0.06)
    assert (
        "with 7 levels. Range [−3, 3]: scale 1.00, so that rounding errors reach 0.50" in sentence
    )


def test_numbers_have_the_minus_sign_of_the_axes() -> None:
    assert plotting.describe_number(-3) == "−3"
    assert plotting.describe_number(-0.125, ".2f") == "−0.12"
    assert plotting.describe_number(2.5, "+.1f") == "+2.5"


def test_integer_histogram() -> None:
    q = np.array([[-3, -3, 5]], np.int8)
    ax = Figure().subplots()
    plotting.plot_integer_histogram(ax, q, "title")
    assert [bar.get_height() for bar in ax.patches] == [2, 1]
    sentence = plotting.describe_integers(q, "w")
    assert sentence.startswith("w: 3 values, 2 different ones. ")
    assert "The smallest and the largest: 2 are −3 and 1 are 5." in sentence
    assert [text.get_text() for text in ax.texts] == ["−3: 2", "5: 1"]


def test_errors_by_bits() -> None:
    curves = {"min_max": [0.1, 0.5, 0.98], "mse": [0.2, 0.99, 0.995]}
    ax = Figure().subplots()
    plotting.plot_errors_by_bits(ax, [2, 3, 4], curves, 0.996, "weights")
    assert [line.get_label() for line in ax.lines] == ["min_max", "mse", "float"]
    assert list(ax.lines[1].get_ydata()) == pytest.approx([80, 1, 0.5])
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] < 0.4
    sentence = plotting.describe_errors_by_bits([2, 3, 4], curves, "weights")
    assert sentence.startswith("Bits of the weights: at least 99% of the images are right, ")
    assert sentence.endswith("min_max at no width, mse from 3 bits on.")


def test_sizes() -> None:
    front, uniform = [(10, 0.9), (20, 0.99)], {2: (15, 0.8), 3: (30, 0.995)}
    ax = Figure().subplots()
    plotting.plot_sizes(ax, [*front, (25, 0.5)], front, uniform, front[1], 0.985)
    labelled = {line.get_label(): line for line in ax.lines}
    assert [len(line.get_xdata()) for line in ax.lines] == [3, 2, 2, 2, 1]
    assert labelled["Pareto front"].get_drawstyle() == "steps-post"
    assert labelled["chosen mix"].get_xdata()[0] == 20
    assert [text.get_text() for text in ax.texts] == ["2 bits", "3 bits"]
    low, high = ax.get_ylim()  # nothing is cut off
    assert all(low < error < high for line in ax.lines for error in line.get_ydata())
    assert (
        "the chosen mix needs 20 bytes, and one width for all layers 30 (3 bits)."
        in plotting.describe_sizes(front, uniform, front[1], 0.985)
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
    figure = PostTrainingFigure(0.99, 1000, [("image", False), ("conv1", True)])
    labels = np.full(40, 3)
    after = np.where(np.arange(40) % 20 == 7, 5, 3)
    shown = figure.changes.show(labels, after, labels, np.ones((40, 28, 28, 1)))
    assert shown.tolist() == [7, 27]
    figure.update(0.5)
    assert list(figure._distance.get_xdata()) == pytest.approx([1, 50])
    assert figure._mark.get_xdata()[0] == pytest.approx(50)
    assert figure._figures.get_text() == "50.00% right, 50× float's errors"
    figure.show_sizes(250, [[None, 4], [8, None]])
    assert figure._size_bar.get_width() == 250
    assert figure._bits.texts == ("–", "4", "8", "float")
    counts = np.reshape(figure.changes.counts.texts, (10, 10))
    assert [counts[place] for place in ((3, 5), (3, 3), (0, 0))] == ["+2", "−2", ""]
    row = figure.changes.row
    assert row.titles.texts[:3] == ("3: 3 → 5", "3: 3 → 5", "")
    strip = np.asarray(row._image.get_array())
    assert [strip[:, 30 * n : 30 * n + 28].mean() for n in range(3)] == [1, 1, 0]
    assert strip.mean() == 2 * 28 / strip.shape[1]  # nothing between the digits
    figure.update(0.5, (0.4, 0.6), 1000)
    assert list(figure._spread.get_xdata()) == pytest.approx([40, 60])
    assert figure._figures.get_text() == "40.0% to 60.0% right, estimated on 1,000 images"
    figure.update(1.0)  # no wrong image has no place on a logarithmic axis
    assert 0 < figure._mark.get_xdata()[0] < 0.2


def test_every_count_of_the_matrix_is_legible() -> None:
    matrix = PostTrainingFigure(0.99, 1000).changes
    labels = np.repeat(np.arange(10), 100)
    after = np.where(np.arange(1000) % 100 < 10 * labels, (labels + 1) % 10, labels)
    matrix.show(labels, after, labels, np.zeros((1000, 28, 28, 1), np.float32))
    values = np.asarray(matrix._cells.get_array()).ravel()
    inks = np.broadcast_to(matrix.counts.get_facecolor(), (100, 4))
    for cell, ink, text in zip(
        matrix._cells.cmap(matrix._cells.norm(values)), inks, matrix.counts.texts, strict=True
    ):
        light, dark = sorted((luminance(cell), luminance(ink)), reverse=True)
        assert not text or (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(color: np.ndarray) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


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
        assert sentence.endswith("W2A8: nearest 25.00%, GPTQ 3.00%.")
