"""The explorer of lesson 06, which shows the quantized tensors of a `.tflite` file."""

from __future__ import annotations

from quant_tutorial import flatbuffer, tflite
from quant_tutorial.affine import dequantize
from quant_tutorial.arguments import checked_choice
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.flatbuffer import Graph, Tensor
from quant_tutorial.plotting import describe_integers, describe_number
from quant_tutorial.plotting.style import BLUE, GREEN, GREY, ORANGE

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray


class TensorExplorer(Explorer):
    """A menu of a file's quantized tensors, shown as integers and as real values (lesson 06).

    Weights are read from the file. Activations are computed on some images, by LiteRT's reference
    kernels.

    Args:
        model_bytes: A full-integer `.tflite` file that takes one image at a time.
        images: Images with the type and, except for the first axis, the shape of its input.
        tensor: The tensor to show first, by its name in the menu; None shows the first one.

    Raises:
        ValueError: when the file holds no quantized tensor, or none of that name, or the images do
            not fit its input.
    """

    def __init__(
        self, model_bytes: bytes, images: NDArray[np.integer], tensor: str | None = None
    ) -> None:
        values = tflite.run_all(model_bytes, images)
        self._tensors: dict[str, tuple[Tensor, NDArray[np.integer]]] = {}
        for label, found in _labelled(flatbuffer.graph(model_bytes)).items():
            known = values[found.index] if found.data is None else found.data
            self._tensors[label] = found, known
        if not self._tensors:
            raise ValueError("model_bytes holds no quantized tensor: convert with mode 'int8'.")
        names = list(self._tensors)
        first = names[0] if tensor is None else checked_choice("tensor", tensor, names)
        self.tensor = controls.choice("Tensor", names, first)
        super().__init__(TensorFigure(), options=[self.tensor])

    def close(self) -> None:
        """Free the tensors, too."""
        self._tensors.clear()
        super().close()

    def draw(self) -> str:
        """Show the chosen tensor as integers and as real values, and describe it."""
        tensor, q = self._tensors[self.tensor.value]
        params = tensor.params
        real = dequantize(q, params)
        name, zero_point = self.tensor.value, int(np.unique(params.zero_point)[0])
        self.plot.show(q, real, (params.qmin, params.qmax), name, zero_point)
        self.redraw_background()
        scale = np.atleast_1d(params.scale)
        scales = (
            f"scale {scale[0]:.4g}"
            if len(scale) == 1
            else f"{len(scale)} scales from {scale.min():.4g} to {scale.max():.4g}"
        )
        ends = [describe_number(end, ".3f") for end in (real.min(), real.max())]
        return (
            f"{describe_integers(q, name)} With {scales} and zero point "
            f"{describe_number(zero_point, 'd')} they stand for {ends[0]} to {ends[1]}."
        )


def _labelled(graph: Graph) -> dict[str, Tensor]:
    """Return the quantized tensors by a label of layer and kind, in the model's order.

    The input comes first, then the weights and the outputs of each op. The tensors' own names are
    unsuitable: the converter gives several tensors the same name, or a meaningless one.
    """
    found: dict[str, Tensor] = {}

    def add(label: str, tensor: Tensor, where: str) -> None:
        seen = any(tensor.index == other.index for other in found.values())  # weights used twice
        if tensor.params is None or seen:
            return
        label += where if label in found else ""
        found[label if label not in found else f"{label} {tensor.index}"] = tensor

    for tensor in graph.inputs:
        add("input", tensor, f" ({tensor.name})")
    for op in graph.ops:
        weights = [tensor for tensor in op.inputs if tensor.kind == "weights"]
        for tensor in (*weights, *op.outputs):
            # Of the layers fused into an op, the first has the weights, the last the output.
            layer = (op.layers or (op.type,))[0 if tensor.kind == "weights" else -1]
            label = "output" if tensor.kind == "output" else f"{layer}: {tensor.kind}"
            add(label, tensor, f" (op {op.index}, {op.type})")
    return found


class TensorFigure:
    """The picture of the tensor explorer: the values of a tensor as integers and as real values.

    Left: how often each integer occurs. Right: the real values that they represent. The bars at
    the ends of the values are orange, and a dashed line marks the zero point and the real 0. Lesson
    06.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(9.4, 3.4))
        self._axes = self.figure.subplots(1, 2)
        self.figure.subplots_adjust(left=0.08, right=0.985, top=0.88, bottom=0.15, wspace=0.2)
        for ax, label in zip(self._axes, ("integer q", "real value"), strict=True):
            ax.set(xlabel=label, yscale="log", ylabel="how many")
        self._bars = [
            ax.add_collection(LineCollection([], colors=color, linewidths=1.2))
            for ax, color in zip(self._axes, (BLUE, GREEN), strict=True)
        ]
        self._ends = [
            ax.add_collection(LineCollection([], colors=ORANGE, linewidths=3)) for ax in self._axes
        ]
        self._zeros = [ax.axvline(0, color=GREY, ls="--", lw=1) for ax in self._axes]
        self.moving = [*self._zeros, *self._bars, *self._ends]

    def show(
        self,
        q: NDArray[np.integer],
        real: NDArray[np.floating],
        ends: tuple[int, int],
        name: str,
        zero_point: int,
    ) -> None:
        """Show a tensor of any shape; this changes the static part of the picture, too.

        Args:
            q: The integers.
            real: The real values that they represent, of the same shape.
            ends: The smallest and the largest integer of the tensor's type.
            name: The tensor's name, for the titles.
            zero_point: The integer that stands for real 0.
        """
        whole, counts = np.unique(q, return_counts=True)
        middles, heights = np.unique(real, return_counts=True)
        if len(middles) > 256:  # several scales: too many different values for a bar each
            heights, edges = np.histogram(real, 200)
            middles = (edges[:-1] + edges[1:]) / 2
        reach = np.histogram_bin_edges(real, 1)  # has some width even if all values are equal
        for side, (places, heights_, limits, zero, title) in enumerate(
            (
                (whole, counts, ends, zero_point, f"{name}, as integers"),
                (middles, heights, reach, 0.0, "as the real values they stand for"),
            )
        ):
            ax, margin = self._axes[side], 0.03 * (limits[1] - limits[0])
            ax.set(xlim=(limits[0] - margin, limits[1] + margin), ylim=(0.7, 2 * heights_.max()))
            # Without `y`, Matplotlib would look for it: a quarter of the time of the drawing.
            ax.set_title(title, loc="left", fontsize=10, y=1)
            pairs = zip(places.tolist(), heights_.tolist(), strict=True)
            segments = [[(x, 0.7), (x, count)] for x, count in pairs if count]
            self._bars[side].set_segments(segments)
            self._ends[side].set_segments([segments[0], segments[-1]])
            self._zeros[side].set_xdata([zero, zero])
