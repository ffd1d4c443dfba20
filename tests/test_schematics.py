"""The schematic drawings of the lessons: their sentences, and that nothing is cut off."""

from collections.abc import Callable

from quant_tutorial import plotting

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

NUMBERS = [0.31, 0.78, 0.55], [0.42, -0.65, 0.90]
WIDTHS = {"float32": 32, "float16": 16, "int8": 8, "int4": 4}
ENERGY = {"arithmetic": (1.865, 0.122), "instructions": (28.38, 28.38)}
MEMORY = {"float32": (58_908, 31_360, 0), "2-bit weights": (8_312, 31_360, 55_328)}
CHAIN = (
    [*("image", "conv1", "relu1", "pool1", "conv2", "relu2", "flatten", "logits")],
    ["image", "relu1", "relu2", "logits"],
    ["conv1", "conv2", "logits"],
)
# With the sizes that the lessons give them.
DRAWN: list[tuple[tuple[float, float], Callable[[Axes], None]]] = [
    ((9, 2.4), lambda ax: plotting.plot_dot_product(ax, *NUMBERS)),
    ((9, 3.2), plotting.plot_course),
    ((9, 3.4), plotting.plot_kinds),
    ((9, 2.8), plotting.plot_moments),
    ((9, 2), lambda ax: plotting.plot_register(ax, WIDTHS)),
    ((9, 3), lambda ax: plotting.plot_energy(ax, ENERGY)),
    ((9, 2.8), lambda ax: plotting.plot_granularities(ax, (3, 4))),
    ((9, 1.6), plotting.plot_ptq_steps),
    ((9, 2.3), lambda ax: plotting.plot_nodes(ax, *CHAIN)),
    ((9, 2.4), plotting.plot_integer_layer),
    ((9, 2.4), plotting.plot_zero_points),
    ((9, 3), plotting.plot_roads),
    ((9, 3), lambda ax: plotting.plot_memory(ax, MEMORY)),
    ((10, 4), plotting.plot_choice),
    ((9, 2.6), plotting.plot_fake_quant_node),
    ((9, 2.8), plotting.plot_aware_layer),
    ((9, 7.5), plotting.plot_repair),
]


@pytest.mark.parametrize(("size", "plot"), DRAWN)
def test_every_text_is_inside_and_apart(
    size: tuple[float, float], plot: Callable[[Axes], None]
) -> None:
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.subplots()
    plot(ax)
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    for number, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:number])
    assert all(text.get_fontsize() >= 9 for text in ax.texts)


def test_dot_product() -> None:
    sentence = plotting.describe_dot_product(*NUMBERS)
    assert "add up to 0.1182" in sentence
    assert "activations are 79, 199, 140, the weights 59, −92, 127" in sentence
    assert "add up to 4,133. Multiplied once by both scales, that is 0.1149." in sentence


def test_course() -> None:
    sentence = plotting.describe_course()
    assert all(f"{number:02}" in sentence for number in range(1, 13))
    assert "Part II, 11: round better than to nearest; 12: do it" in sentence


def test_kinds() -> None:
    ways, moments = plotting.describe_kinds(), plotting.describe_moments()
    assert "Weight-only: weights 8, 4 or 2-bit integers; arithmetic float32" in ways
    assert "Full integer: weights 8-bit integers; arithmetic 8-bit integers" in ways
    assert "dynamic range: the rounding of the weights is decided when the model is conv" in moments
    assert "the ranges of the activations are fixed when the file is run." in moments


def test_register() -> None:
    assert "4 of float32, 8 of float16, 16 of int8, 32 of int4" in plotting.describe_register(
        WIDTHS
    )
    with pytest.raises(ValueError, match="widths must divide 128, got 24"):
        plotting.describe_register({"int24": 24})


def test_energy() -> None:
    first, second = plotting.describe_energy(ENERGY).splitlines()
    assert first == "arithmetic: 1.86 µJ with float32, 0.12 µJ with int8, 15× less"
    assert second.endswith("no less")


def test_granularities() -> None:
    sentence = plotting.describe_granularities((3, 4))
    assert sentence.startswith("2 layers with 3 and 4 output channels. Model-wide, one scale s")
    assert "Per tensor there are 2 scales" in sentence
    assert "Per channel there are 7" in sentence


def test_ptq_steps() -> None:
    sentence = plotting.describe_ptq_steps()
    assert sentence.startswith("1 Load (float model); 2 Baseline")
    assert sentence.endswith("7 Save (a file). A loop leads from step 6 back to step 3.")


def test_nodes() -> None:
    ax = Figure().subplots()
    plotting.plot_nodes(ax, *CHAIN)
    said = [text.get_text() for text in ax.texts]
    assert said.count("Q") == len(CHAIN[1]) + len(CHAIN[2]) + 1  # one in the legend
    assert "conv1\nrelu1" in said
    sentence = plotting.describe_nodes(*CHAIN)
    assert "A chain: image, conv1 with relu1, pool1, conv2 with relu2, flatten, logits." in sentence
    assert (
        "nodes stand after image, relu1, relu2, logits, and between conv1, conv2, log" in sentence
    )


def test_integer_layer() -> None:
    sentence = plotting.describe_integer_layer()
    assert sentence.startswith("The int8 inputs become int32 sums")
    assert "times the multiplier is a 64-bit product" in sentence
    assert sentence.endswith("clamping leaves an int8.")


def test_zero_points() -> None:
    sentence = plotting.describe_zero_points()
    assert "Fast kernels compute q_b − z_x Σ q_w once" in sentence
    assert "−z_w Σ q_x would have to be computed for each patch of inputs." in sentence


def test_roads() -> None:
    first, second, last = plotting.describe_roads().splitlines()
    assert "which quantizes while it converts (deprecated)" in first
    assert "a float .tflite; LiteRT Quantizer; a quantized .tflite." in second
    assert last.endswith("with Interpreter or CompiledModel.")


def test_memory() -> None:
    assert plotting.describe_memory(MEMORY) == (
        "float32: file 58,908 bytes; RAM 31,360 for activations and 0 for unpacked weights. "
        "2-bit weights: file 8,312 bytes; RAM 31,360 for activations and 55,328 for unpacked "
        "weights."
    )
    ax = Figure().subplots()
    plotting.plot_memory(ax, MEMORY)
    widths = [bar.get_width() for bar in ax.patches[:6]]
    assert widths == pytest.approx([-58.908, 31.36, 0, -8.312, 31.36, 55.328])
    assert [text.get_text() for text in ax.texts] == ["58.9", "31.4", "8.3", "86.7"]


def test_choice() -> None:
    sentence = plotting.describe_choice()
    assert sentence.startswith("Which program runs the file? LiteRT for Microcontrollers: full-int")
    assert "LiteRT on a GPU: float16." in sentence
    assert sentence.endswith("Download or disk: weight-only, 4 or 2 bits.")


def test_quantization_aware_training() -> None:
    node, layer = plotting.describe_fake_quant_node(), plotting.describe_aware_layer()
    assert "passes the clamp inside and becomes 0 outside, passes the rounding unchanged" in node
    assert "The convolution uses ŵ, the float weights w after a fake-quantize node" in layer


def test_repair() -> None:
    lines = plotting.describe_repair().splitlines()
    assert lines[0].startswith(
        "1 Does the float model get the images right as you feed them? If no"
    )
    assert lines[4].endswith(
        "If yes: Ship it: inspect, measure on the device, write the model card."
    )
    assert lines[-1] == "Otherwise: Leave both layers in float, or train with fake quantization."
