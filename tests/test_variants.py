"""The comparison's picture and its sentence, against figures worked out here."""

import itertools
import re

from quant_tutorial.plotting import Variant, describe_variants, plot_variants

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Affine2D, Bbox

# Close together on purpose, as the course's own are.
VARIANTS = {
    "float": Variant(9946, 10_000, 58_908, 55_328, 13e-6),
    "slow": Variant(9943, 10_000, 20_576, 13_832, 400e-6),
    "int8": Variant(9941, 10_000, 19_472, 13_832, 10e-6),
    "int8, trained": Variant(9942, 10_000, 19_500, 13_832, 10e-6, trained=True),
    "2 bits": Variant(9931, 10_000, 8_312, 3_458, 100e-6, trained=True),
}
IN_ORDER = ["2 bits", "int8", "int8, trained", "slow", "float"]


@pytest.fixture(scope="module")
def figure() -> Figure:
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    plot_variants(figure.subplots(), VARIANTS, reference="float")
    figure.draw_without_rendering()
    return figure


def outline(marks: PathCollection) -> np.ndarray:
    """Give the corners of a mark in pixels, as it is drawn, from its middle."""
    path = marks.get_paths()[0].transformed(Affine2D(marks.get_transforms()[0]))
    return path.to_polygons()[0]


def test_where_the_marks_stand(figure: Figure) -> None:
    (ax,) = figure.axes
    found = [tuple(marks.get_offsets()[0]) for marks in ax.collections]
    expected = [(VARIANTS[name].file / 1e3, VARIANTS[name].right / 100) for name in IN_ORDER]
    np.testing.assert_allclose(found, expected)
    lines = [line for line in ax.lines if len(line.get_xdata())]
    np.testing.assert_allclose(
        [line.get_xdata() for line in lines],
        [(VARIANTS[name].weights / 1e3, VARIANTS[name].file / 1e3) for name in IN_ORDER],
    )
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["5", "10", "20", "50"]


def test_the_area_is_the_latency(figure: Figure) -> None:
    # Measured on the drawn outline, not taken from the sizes that were asked for.
    (ax,) = figure.axes
    areas = []
    for marks in ax.collections:
        x, y = outline(marks).T
        areas.append(abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2)
    by_name = dict(zip(IN_ORDER, areas, strict=True))
    assert by_name["2 bits"] / by_name["slow"] == pytest.approx(100 / 400, rel=0.02)
    assert by_name["float"] / by_name["slow"] == pytest.approx(13 / 400, rel=0.02)
    assert by_name["int8"] == pytest.approx(by_name["int8, trained"], rel=0.02)
    corners = [len(marks.get_paths()[0].vertices) for marks in ax.collections]
    assert [count == 5 for count in corners] == [VARIANTS[name].trained for name in IN_ORDER]


def test_the_lines_stand_at_their_marks_and_apart(figure: Figure) -> None:
    def heights(ax: Axes) -> list[float]:
        """Give how far each line stands above its mark, in points."""
        lines = [line for line in ax.lines if len(line.get_xdata())]
        return [
            72 / ax.figure.dpi * (drawn - ax.transData.transform((x, y))[1])
            for line in lines
            for (x, y) in [line.get_xydata()[0]]
            for drawn in [line.get_transform().transform((x, y))[1]]
        ]

    (ax,) = figure.axes
    assert heights(ax) == pytest.approx([0] * 5, abs=1e-6)
    assert ax.get_xlim()[0] < VARIANTS["2 bits"].weights / 1e3
    same = {
        "2 bits": VARIANTS["2 bits"],
        "4 bits": VARIANTS["2 bits"]._replace(file=11_768, weights=6_916),
        "float": VARIANTS["float"]._replace(right=9931),  # as accurate, but far to the right
    }
    other = Figure(figsize=(9, 4.5)).subplots()
    plot_variants(other, same, reference="float")
    first, second, third = heights(other)
    assert abs(first - second) == pytest.approx(5)
    assert third == pytest.approx(0, abs=1e-6)
    assert other.get_xlim()[0] < 3.458


def test_the_smallest_mark_can_be_seen() -> None:
    ax = Figure().subplots()
    quick = VARIANTS["int8"]._replace(seconds=1e-9)
    plot_variants(ax, {"quick": quick, "slow": VARIANTS["slow"]}, reference="slow")
    assert [marks.get_sizes()[0] for marks in ax.collections] == pytest.approx([18, 1500])


def test_the_band_is_the_reference_s_interval(figure: Figure) -> None:
    (band,) = figure.axes[0].patches
    # Wilson's interval of 9,946 in 10,000, worked out by hand.
    assert band.get_y() == pytest.approx(99.2959, abs=1e-3)
    assert band.get_y() + band.get_height() == pytest.approx(99.5860, abs=1e-3)


def test_numbers_are_the_legend_s_and_cover_nothing(figure: Figure) -> None:
    (ax,) = figure.axes
    numbers = [text for text in ax.texts if text.get_text()]
    assert [text.get_text() for text in numbers] == ["1", "2", "3", "4", "5"]
    rows = [text.get_text() for text in ax.get_legend().get_texts()]
    assert rows[0] == "95 % interval of float"
    assert [row.split("  ")[1].rsplit(", ", 1)[0] for row in rows[1:]] == IN_ORDER
    assert rows[4] == "4  slow, 400.0 µs"
    boxes = [Text.get_window_extent(text) for text in numbers]  # without the leading line
    drawn = [
        Bbox.from_extents(*(middle + corners.min(0)), *(middle + corners.max(0)))
        for marks in ax.collections
        for corners, middle in [(outline(marks), ax.transData.transform(marks.get_offsets()[0]))]
    ]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert not any(box.overlaps(mark) for mark in drawn)
        assert ax.get_window_extent().containsx(box.x0)
        assert ax.get_window_extent().containsy(box.y0)


def test_sentence() -> None:
    sentence = describe_variants(VARIANTS)
    assert re.findall(r"(\d) ([^:;]+):", sentence) == [
        (str(number), name) for number, name in enumerate(IN_ORDER, start=1)
    ]
    assert sentence.startswith(
        "Smallest file first. 1 2 bits: 99.3 % (99.1 to 99.5), 8,312 bytes, 3,458 of them weights, "
        "100.0 µs; 2 int8: "
    )


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"reference must be one of float, slow, .*, got 'x'"):
        plot_variants(Figure().subplots(), VARIANTS, reference="x")
    with pytest.raises(ValueError, match="at least one variant, got none"):
        describe_variants({})
