"""The explorer of lesson 06, which shows the quantized tensors of a `.tflite` file."""

from __future__ import annotations

from quant_tutorial import flatbuffer, tflite
from quant_tutorial.affine import dequantize
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.flatbuffer import Graph, Tensor
from quant_tutorial.plotting import describe_integers
from quant_tutorial.plotting.style import BLUE, GREEN

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

    Raises:
        ValueError: when the file holds no quantized tensor, or the images do not fit its input.
    """

    def __init__(self, model_bytes: bytes, images: NDArray[np.integer]) -> None:
        values = tflite.run_all(model_bytes, images)
        self._tensors: dict[str, tuple[Tensor, NDArray[np.integer]]] = {}
        for label, tensor in _labelled(flatbuffer.graph(model_bytes)).items():
            known = values[tensor.index] if tensor.data is None else tensor.data
            self._tensors[label] = tensor, known
        if not self._tensors:
            raise ValueError("model_bytes holds no quantized tensor: convert with mode 'int8'.")
        self.tensor = controls.choice("Tensor", list(self._tensors), next(iter(self._tensors)))
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
        self.plot.show(q, real, (params.qmin, params.qmax))
        self.redraw_background()
        scale, points = np.atleast_1d(params.scale), np.unique(params.zero_point)
        scales = (
            f"scale {scale[0]:.4g}"
            if len(scale) == 1
            else f"{len(scale)} scales from {scale.min():.4g} to {scale.max():.4g}"
        )
        return (
            f"{describe_integers(q, self.tensor.value)} With {scales} and zero point {points[0]} "
            f"they stand for {real.min():.3f} to {real.max():.3f}."
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

    Left: how often each integer occurs. Right: the real values that they represent. Lesson 06.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(9.4, 3.4))
        self._axes = self.figure.subplots(1, 2)
        self.figure.subplots_adjust(left=0.08, right=0.985, top=0.9, bottom=0.15, wspace=0.2)
        for ax, title, label in zip(
            self._axes,
            ("As integers, in the file or in memory", "As the real values they stand for"),
            ("integer q", "real value"),
            strict=True,
        ):
            ax.set_title(title, loc="left", fontsize=10)
            ax.set(xlabel=label, yscale="log", ylabel="how many")
        colors = BLUE, GREEN
        self._bars = [
            ax.add_collection(LineCollection([], colors=color, linewidths=1.2))
            for ax, color in zip(self._axes, colors, strict=True)
        ]
        self.moving = self._bars

    def show(
        self, q: NDArray[np.integer], real: NDArray[np.floating], ends: tuple[int, int]
    ) -> None:
        """Show a tensor of any shape; this changes the static part of the picture, too.

        Args:
            q: The integers.
            real: The real values that they represent, of the same shape.
            ends: The smallest and the largest integer of the tensor's type.
        """
        whole, counts = np.unique(q, return_counts=True)
        middles, heights = np.unique(real, return_counts=True)
        if len(middles) > 256:  # several scales: too many different values for a bar each
            heights, edges = np.histogram(real, 200)
            middles = (edges[:-1] + edges[1:]) / 2
        reach = np.histogram_bin_edges(real, 1)  # has some width even if all values are equal
        for ax, bars, places, heights_, limits in (
            (self._axes[0], self._bars[0], whole, counts, ends),
            (self._axes[1], self._bars[1], middles, heights, reach),
        ):
            margin = 0.03 * (limits[1] - limits[0])
            ax.set(xlim=(limits[0] - margin, limits[1] + margin), ylim=(0.7, 2 * heights_.max()))
            pairs = zip(places.tolist(), heights_.tolist(), strict=True)
            bars.set_segments([[(x, 0.7), (x, count)] for x, count in pairs if count])
