"""The figures of a report: what they show, and that their sentences say the same."""

from quant_tutorial import plotting
from quant_tutorial.plotting import FileMark

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FILES = {
    "float32": FileMark(156.8, 97.8, 96.7, 98.5, False),
    "int8": FileMark(68.9, 26.4, 23.8, 29.2, True),
    "int8, a layer with a long name in float": FileMark(80.1, 40.0, 40.0, 40.0, False),
}
PATH = ["conv1", "depthwise4", "pointwise4"], [39.1, 28.9, 0.3], [3.8, 508.2, 1.5]


def test_files_by_size() -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    plotting.plot_files(axes, FILES, "images right, in %")
    FigureCanvasAgg(figure).draw()
    bars = [patch.get_width() for patch in axes[0].patches[: len(FILES)]]
    assert bars == [68.9, 80.1, 156.8]
    names = [label.get_text().replace("\n", " ") for label in axes[0].get_yticklabels()]
    assert names == ["int8", "int8, a layer with a long name in float", "float32"]
    points = [float(line.get_xdata()[0]) for line in axes[1].lines if line.get_marker() in "os"]
    assert points == [26.4, 40.0, 97.8]
    assert axes[0].patches[0].get_hatch() != axes[0].patches[1].get_hatch()
    assert plotting.describe_files(FILES, "images right, in %") == (
        "File in kB and images right, in %, smallest file first. int8: 68.9 kB, 26 (24 to 29), "
        "integer only; int8, a layer with a long name in float: 80.1 kB, 40, with float ops; "
        "float32: 156.8 kB, 98 (97 to 98), with float ops."
    )


def test_the_path_of_the_error() -> None:
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots(2, 1)
    plotting.plot_error_path(axes, *PATH)
    FigureCanvasAgg(figure).draw()
    assert axes[0].lines[0].get_ydata().tolist() == PATH[1]
    hatched = [bar.get_height() for bar in axes[1].patches if bar.get_hatch()]
    assert hatched == [508.2]
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert plotting.describe_error_path(*PATH) == (
        "The SQNR goes from 39 dB to 0 dB over 3 ops. It falls most at pointwise4, by 29 dB. The "
        "channels differ most in depthwise4, whose widest one is 508.2 times as wide as the median "
        "one."
    )
    assert "falls most" not in plotting.describe_error_path(["a"], [3.0], [1.0])
