"""The explorer of lesson 06: look into a `.tflite` file, tensor by tensor."""

from __future__ import annotations

from quant_tutorial import kernels, quiet
from quant_tutorial.affine import dequantize
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.inspection import Inspection, Tensor, inspect
from quant_tutorial.plotting import TensorFigure, describe_integers

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray


class TensorExplorer(Explorer):
    """A menu of a file's quantized tensors; the chosen one as integers and as reals (lesson 06).

    Weights are read from the file; activations are computed on some images, by LiteRT's reference
    kernels.

    Args:
        model_bytes: A full-integer file that takes one image at a time.
        images: Images of the type and, but for the first axis, the shape of its input.

    Raises:
        ValueError: when the file holds no quantized tensor, or for other images.
    """

    def __init__(self, model_bytes: bytes, images: NDArray[np.integer]) -> None:
        values = kernels.run_all(model_bytes, images)
        with quiet.native_output():
            # XNNPACK, the default, refuses some files that the reference kernels compute, such as
            # one with a layer that gives nothing but zeros.
            interpreter = Interpreter(
                model_content=bytes(model_bytes),
                experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            )
            interpreter.allocate_tensors()
        self._tensors: dict[str, tuple[Tensor, NDArray[np.integer]]] = {}
        for label, tensor in _labelled(inspect(model_bytes)).items():
            if tensor.kind == "weights":
                values[tensor.index] = interpreter.get_tensor(tensor.index)
            self._tensors[label] = tensor, values[tensor.index]
        if not self._tensors:
            raise ValueError("model_bytes holds no quantized tensor: convert with mode 'int8'.")
        self.tensor = controls.choice("Tensor", list(self._tensors), next(iter(self._tensors)))
        self._plot = TensorFigure()
        super().__init__([], [self.tensor], self._plot.figure, self._plot.moving, self._refresh)

    def _refresh(self) -> str:
        tensor, q = self._tensors[self.tensor.value]
        params = tensor.params
        real = dequantize(q, params)
        self._plot.show(q, real, (params.qmin, params.qmax))
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


def _labelled(inspection: Inspection) -> dict[str, Tensor]:
    """Name the quantized tensors by layer and kind, as a reader would, in the model's order.

    First the input, then for each op its weights and what it gives. Names of tensors would not do:
    the converter gives several one name, or one that says nothing.
    """
    found: dict[str, Tensor] = {}

    def add(label: str, tensor: Tensor, where: str) -> None:
        seen = any(tensor.index == other.index for other in found.values())  # weights used twice
        if tensor.params is None or seen:
            return
        label += where if label in found else ""
        found[label if label not in found else f"{label} {tensor.index}"] = tensor

    for tensor in inspection.inputs:
        add("input", tensor, f" ({tensor.name})")
    for op in inspection.ops:
        weights = [tensor for tensor in op.inputs if tensor.kind == "weights"]
        for tensor in (*weights, *op.outputs):
            # The first layer of an op holds its weights, what the last one computes comes out.
            layer = (op.layers or (op.type,))[0 if tensor.kind == "weights" else -1]
            label = "output" if tensor.kind == "output" else f"{layer}: {tensor.kind}"
            add(label, tensor, f" (op {op.index}, {op.type})")
    return found
