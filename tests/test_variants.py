"""The comparison's picture and its sentence, against figures worked out here."""

import itertools
import re

from quant_tutorial.plotting import Variant, describe_variants, plot_variants

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

# Close together on purpose, as the course's own are.
VARIANTS = {
    "float": Variant(9946, 10_000, 58_908, {"A": 13.0, "B": 12.0}),
    "slow": Variant(9943, 10_000, 20_576, {"A": 400.0, "B": 300.0}),
    "int8": Variant(9941, 10_000, 19_472, {"B": 10.0}),
    "int8, trained": Variant(9942, 10_000, 19_500, {}, trained=True),
    "bad": Variant(1942, 10_000, 8_360, {"A": 44.0, "B": 48.0}),
    "2 bits": Variant(9931, 10_000, 8_312, {"A": 44.0, "B": 48.0}, trained=True),
}
IN_ORDER = ["2 bits", "bad", "int8", "int8, trained", "slow", "float"]


@pytest.fixture(scope="module")
def figure() -> Figure:
    figure = Figure(figsize=(10, 5), layout="constrained")
    plot_variants(figure.subplots(1, 2), VARIANTS, reference="float")
    figure.draw_without_rendering()
    return figure


def test_where_the_marks_stand(figure: Figure) -> None:
    left = figure.axes[0]
    marks = [line for line in left.lines if line.get_marker() in "os" and len(line.get_xdata())]
    found = [tuple(map(float, (line.get_xdata()[0], line.get_ydata()[0]))) for line in marks]
    expected = [(v.file / 1e3, 100 - v.right / 100) for v in (VARIANTS[n] for n in IN_ORDER)]
    np.testing.assert_allclose(found, expected)
    shapes = [line.get_marker() for line in marks]
    assert [shape == "s" for shape in shapes] == [VARIANTS[name].trained for name in IN_ORDER]
    assert (left.get_xscale(), left.get_yscale()) == ("log", "log")
    assert [label.get_text() for label in left.get_xticklabels()] == ["10", "20", "50"]


def test_intervals_are_wilson_s(figure: Figure) -> None:
    left = figure.axes[0]
    (band,) = left.patches
    # That of 9,946 in 10,000, worked out by hand.
    assert band.get_y() == pytest.approx(0.4140, abs=1e-3)
    assert band.get_y() + band.get_height() == pytest.approx(0.7041, abs=1e-3)
    spans = [line.get_ydata() for line in left.lines if len(line.get_xdata()) == 2]
    assert list(spans[-1]) == pytest.approx([0.4140, 0.7041], abs=1e-3)
    assert len(spans) == len(VARIANTS)


def test_the_noise_of_a_good_model_is_small_in_the_picture(figure: Figure) -> None:
    low, high = figure.axes[0].get_ylim()
    assert np.log(0.7041 / 0.4140) / np.log(high / low) < 0.15


def test_without_a_single_error() -> None:
    axes = Figure(figsize=(10, 5)).subplots(1, 2)
    plot_variants(axes, {"perfect": Variant(100, 100, 1000, {})}, reference="perfect")
    assert np.isfinite(axes[0].get_ylim()).all()
    assert axes[0].get_ylim()[0] > 0


def test_bars_are_the_latencies(figure: Figure) -> None:
    right = figure.axes[1]
    first, second = right.containers[::2] if len(right.containers) == 4 else right.containers
    assert [bar.get_width() for bar in first] == [44, 44, 400, 13]
    assert [bar.get_width() for bar in second] == [48, 48, 10, 300, 12]
    rows = [label.get_text() for label in right.get_yticklabels()]
    assert rows == [f"{number}  {name}" for number, name in enumerate(IN_ORDER, start=1)]
    heights = [bar.get_y() + bar.get_height() / 2 for bar in second]
    assert np.round(heights).tolist() == [0, 1, 2, 4, 5]
    (missing,) = [text for text in right.texts if "not measured" in text.get_text()]
    assert missing.get_position()[1] == IN_ORDER.index("int8, trained")
    assert right.get_ylim()[0] > right.get_ylim()[1]  # the smallest file at the top
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert labels == ["machine A", "machine B"]


def test_numbers_cover_nothing(figure: Figure) -> None:
    left = figure.axes[0]
    numbers = [text for text in left.texts if text.get_text()]
    assert [text.get_text() for text in numbers] == ["1", "2", "3", "4", "5", "6"]
    boxes = [Text.get_window_extent(text) for text in numbers]  # without the leading line
    places = left.transData.transform(
        [(VARIANTS[n].file / 1e3, 100 - VARIANTS[n].right / 100) for n in IN_ORDER]
    )
    reach = 3 * figure.dpi / 72
    marks = [Bbox.from_extents(*(xy - reach), *(xy + reach)) for xy in places]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert not any(box.overlaps(mark) for mark in marks)
        assert left.get_window_extent().containsx(box.x0)
        assert left.get_window_extent().containsy(box.y0)


def test_sentence() -> None:
    sentence = describe_variants(VARIANTS)
    assert re.findall(r"(\d) ([^:;]+):", sentence) == [
        (str(number), name) for number, name in enumerate(IN_ORDER, start=1)
    ]
    assert sentence.startswith(
        "Smallest file first. 1 2 bits: 8,312 bytes, 0.7% wrong (0.5 to 0.9), A 44.0 µs, B 48.0 µs;"
    )
    assert "4 int8, trained: 19,500 bytes, 0.6% wrong (0.4 to 0.7), not timed;" in sentence


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"reference must be one of float, slow, .*, got 'x'"):
        plot_variants(Figure().subplots(1, 2), VARIANTS, reference="x")
    with pytest.raises(ValueError, match="at least one variant, got none"):
        describe_variants({})
