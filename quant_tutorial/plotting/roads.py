"""Draw and describe the roads from a model to a quantized `.tflite` file (lesson 06)."""

from __future__ import annotations

from quant_tutorial.plotting.boxes import clear_axes, draw_arrow, draw_box
from quant_tutorial.plotting.style import BLUE, ORANGE, SKY

from matplotlib.axes import Axes

_WIDE, _HIGH = 2.3, 0.95  # of a box
_X = 0.0, 2.85, 5.7, 8.55, 11.4  # the left ends of the columns
_TOP, _MIDDLE, _BOTTOM = 2.7, 1.35, 0.0


def plot_roads(ax: Axes) -> None:
    """Draw the roads from a model to a quantized file, with the tools on the way (lesson 06).

    The TFLite converter, whose quantizing is deprecated, is orange with a dashed edge; the tools
    that replace it are blue; files are light blue.

    Args:
        ax: Where to draw, about 9 by 3.2 inches.
    """
    clear_axes(ax, _X[4] + _WIDE, _TOP + _HIGH)
    ax.set(xlim=(-0.05, _X[4] + _WIDE + 0.05), ylim=(-0.05, _TOP + _HIGH + 0.05))
    size, tall = (_WIDE, _HIGH), (_WIDE, _TOP - _MIDDLE + _HIGH)
    draw_box(ax, (_X[0], _MIDDLE), tall, "Keras or\nTensorFlow\nmodel", fontsize=9.5)
    draw_box(ax, (_X[0], _BOTTOM), size, "PyTorch\nmodel", fontsize=9.5)
    converter = {"color": ORANGE, "fontsize": 9.5}
    draw_box(ax, (_X[1], _TOP), size, "TFLite\nconverter", **converter).set_linestyle("--")
    tool = {"color": BLUE, "ink": "white", "fontsize": 9.5}
    draw_box(ax, (_X[1], _MIDDLE), size, 'Keras: export\n(format="litert")', **tool)
    draw_box(ax, (_X[1], _BOTTOM), size, "litert-torch", **tool)
    draw_box(ax, (_X[2], _MIDDLE), size, "float .tflite", color=SKY, fontsize=9.5)
    draw_box(ax, (_X[3], _MIDDLE), size, "LiteRT\nQuantizer", **tool)
    draw_box(ax, (_X[4], _MIDDLE), tall, "quantized\n.tflite", color=SKY, fontsize=9.5)
    runtime = "LiteRT: Interpreter\nor CompiledModel"
    draw_box(ax, (_X[3], _BOTTOM), (_X[4] - _X[3] + _WIDE, _HIGH), runtime, fontsize=9.5)
    for row in (_TOP, _MIDDLE, _BOTTOM):
        draw_arrow(ax, (_X[0] + _WIDE, row + _HIGH / 2), (_X[1], row + _HIGH / 2))
    draw_arrow(ax, (_X[1] + _WIDE, _TOP + 0.6), (_X[4], _TOP + 0.6))
    middle = (_X[1] + _WIDE + _X[4]) / 2
    ax.text(middle, _TOP + 0.66, "quantizes while it converts", ha="center", va="bottom", size=9.5)
    into, half = _X[2] + _WIDE / 2, _HIGH / 2
    draw_arrow(ax, (_X[1] + _WIDE, _TOP + 0.2), (into, _MIDDLE + _HIGH))
    draw_arrow(ax, (_X[1] + _WIDE, _MIDDLE + half), (_X[2], _MIDDLE + half))
    draw_arrow(ax, (_X[1] + _WIDE, _BOTTOM + half), (into, _MIDDLE))
    draw_arrow(ax, (_X[2] + _WIDE, _MIDDLE + half), (_X[3], _MIDDLE + half))
    draw_arrow(ax, (_X[3] + _WIDE, _MIDDLE + half), (_X[4], _MIDDLE + half))
    draw_arrow(ax, (_X[2] + _WIDE, _MIDDLE), (_X[3], _BOTTOM + half))
    draw_arrow(ax, (_X[4] + _WIDE / 2, _MIDDLE), (_X[4] + _WIDE / 2, _BOTTOM + _HIGH))


def describe_roads() -> str:
    """Return sentences on what `plot_roads` draws (lesson 06)."""
    return (
        "Road 1: a Keras or TensorFlow model, the TFLite converter, which quantizes while it "
        "converts (deprecated), a quantized .tflite.\n"
        "Road 2: a Keras model through Keras' export, a PyTorch model through litert-torch, or a "
        "TensorFlow model through the TFLite converter without quantization; a float .tflite; "
        "LiteRT Quantizer; a quantized .tflite.\n"
        "LiteRT runs float and quantized files, with Interpreter or CompiledModel."
    )
