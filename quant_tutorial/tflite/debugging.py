"""Find the layer that does the most damage to an integer model: quantization debugging (lesson 06).

The module does what TensorFlow's `tf.lite.experimental.QuantizationDebugger` does, but on two
existing files: a float file and the integer file that any tool has made from it. Two errors are
measured for each activation. *Own*: the float op and the integer op get the same input, namely the
outputs of the integer ops before them, and the difference is the error that this op alone adds.
*Accumulated*: the difference between the integer model and the float model, both run from the
image.

Rounding to the nearest level causes an error of up to half a scale, evenly spread, whose root mean
square is 1/√12 ≈ 0.289 scales. An own error much larger than that comes from clipping, or from
weights that were rounded too coarsely. The error is smaller where values are exact: the zeros after
a ReLU, and the outputs of ops that only select or move values. With int16 activations the figure
means little, because their scale is fine enough to show the rounding of the int8 weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from quant_tutorial import flatbuffer
from quant_tutorial.affine import dequantize, quantize
from quant_tutorial.arguments import checked_images
from quant_tutorial.flatbuffer import CASTS, FLOWING, Graph, Op, Tensor
from quant_tutorial.table import Table
from quant_tutorial.tflite.conversion import convert
from quant_tutorial.tflite.interpreter import make_interpreter

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray


class TensorError(NamedTuple):
    """The error of one activation of an integer model against the float model (lesson 06)."""

    op: str  # the type of the op that computes it, or INPUT
    layers: tuple[str, ...]  # the Keras layers in that op
    tensor: Tensor  # of the integer file
    own_rmse: float  # with the same input, in the unit of the tensor
    accumulated_rmse: float  # against the float model, in the unit of the tensor
    sqnr_db: float  # of the accumulated error

    @property
    def scale(self) -> float | None:
        """The scale of the tensor, or None if it stayed in float."""
        params = self.tensor.params
        return None if params is None else float(params.scale)

    @property
    def own(self) -> float | None:
        """The own error in scales: 0.289 if there is only rounding, None for a float tensor."""
        return None if self.scale is None else self.own_rmse / self.scale

    @property
    def accumulated(self) -> float | None:
        """The accumulated error in scales, None for a float tensor."""
        return None if self.scale is None else self.accumulated_rmse / self.scale


@dataclass(frozen=True)
class Debugging:
    """The errors of all activations of an integer model, in the file's order (lesson 06)."""

    rows: tuple[TensorError, ...]

    @property
    def worst(self) -> TensorError:
        """The activation with the largest own error in scales."""
        return max(self.rows, key=lambda row: row.own or 0.0)

    @property
    def table(self) -> Table:
        """A table with one row for each activation."""
        header = ["op", "layers", "type", "scale", "own RMSE/scale", "accumulated", "SQNR in dB"]
        rows = []
        for row in self.rows:
            figures = [(row.scale, ".4f"), (row.own, ".3f"), (row.accumulated, ".3f")]
            texts = ["" if figure is None else f"{figure:{form}}" for figure, form in figures]
            layers, sqnr = ", ".join(row.layers), f"{row.sqnr_db:.1f}"
            rows.append([row.op, layers, row.tensor.type, *texts, sqnr])
        return Table(header, rows)

    def __repr__(self) -> str:
        """Return the table as text."""
        return repr(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def debug(float_model: Any, integer_bytes: bytes, images: NDArray[np.float32]) -> Debugging:
    """Compare each op of an integer `.tflite` model with the float op it was made from (lesson 06).

    Both run on LiteRT's reference kernels, which produce the same integers on every machine.

    Args:
        float_model: The float32 file, or a model that `tflite.convert` accepts.
        integer_bytes: A file made from the same model, with the ops in the same order.
        images: Images as the float model takes them, shape (n, …), n ≥ 1; a hundred are enough.

    Raises:
        ValueError: when either file is not a `.tflite` model, when the integer file has no integer
            activations, when the ops of the two differ, and when the images are missing, not
            floats, not finite or of the wrong shape.
    """
    is_file = isinstance(float_model, bytes)
    float_bytes = float_model if is_file else convert(float_model, "float32")
    float_file = flatbuffer.graph(float_bytes, "float_model")
    integer_file = flatbuffer.graph(integer_bytes, "integer_bytes")
    if not any(op.outputs[0].params for op in integer_file.ops):
        raise ValueError(
            "integer_bytes must be a file with integer activations, got one without: convert with "
            "mode 'int8', and give the float model first."
        )
    pairs = _pairs(float_file.ops, integer_file.ops)
    images = checked_images("images", images, float_file.inputs[0].shape[1:])
    model, entry = flatbuffer.read(float_bytes), _quantized_input(integer_file)
    alone = [_Run(_one_op(model, op), _flowing(op)) for op, _ in pairs]
    floats = _Run(float_bytes, float_file.inputs)
    integers = _Run(integer_bytes, integer_file.inputs)
    errors = [_Errors() for _ in pairs]
    at_input = _Errors()
    for image in images:
        floats.invoke([image[np.newaxis]])
        integers.invoke([image[np.newaxis]])
        if entry is not None:
            at_input.add(integers.value(entry), image[np.newaxis], image[np.newaxis])
        for row, (float_op, op) in enumerate(pairs):
            alone[row].invoke([integers.value(tensor) for tensor in _flowing(op)])
            result = integers.value(op.outputs[0])
            expected = floats.value(float_op.outputs[0])
            own = alone[row].value(float_op.outputs[0])
            errors[row].add(result, own, expected)
    rows = [] if entry is None else [at_input.row("INPUT", (), entry)]
    for (_, op), found in zip(pairs, errors, strict=True):
        rows.append(found.row(op.type, op.layers, op.outputs[0]))
    return Debugging(tuple(rows))


class _Errors:
    """Sums of squared errors over the images, so that no tensor has to be stored."""

    def __init__(self) -> None:
        self._squares, self._values = np.zeros(3), 0

    def add(
        self,
        result: NDArray[np.generic],
        own: NDArray[np.generic],
        expected: NDArray[np.generic],
    ) -> None:
        for place, difference in enumerate((result - own, result - expected, expected)):
            self._squares[place] += np.sum(np.square(difference, dtype=np.float64))
        self._values += result.size

    def row(self, op: str, layers: tuple[str, ...], tensor: Tensor) -> TensorError:
        own, accumulated, signal = self._squares / self._values
        with np.errstate(divide="ignore", invalid="ignore"):
            decibels = math.inf if accumulated == 0 else float(10 * np.log10(signal / accumulated))
        return TensorError(op, layers, tensor, math.sqrt(own), math.sqrt(accumulated), decibels)


class _Run:
    """A model on the reference kernels that keeps every tensor, read and written as real numbers.

    XNNPACK, which LiteRT uses by default, fuses ops and keeps no tensor between them.
    """

    def __init__(self, model_bytes: bytes, inputs: Sequence[Tensor]) -> None:
        self._inputs = inputs
        self._interpreter = make_interpreter(model_bytes, kernels="reference", keep_tensors=True)

    def invoke(self, arrays: Sequence[NDArray[np.generic]]) -> None:
        for tensor, array in zip(self._inputs, arrays, strict=True):
            content = array if tensor.params is None else quantize(array, tensor.params)
            self._interpreter.set_tensor(tensor.index, content)
        self._interpreter.invoke()

    def value(self, tensor: Tensor) -> NDArray[np.generic]:
        content = self._interpreter.get_tensor(tensor.index)
        return content if tensor.params is None else dequantize(content, tensor.params)


def _pairs(floats: Sequence[Op], integers: Sequence[Op]) -> list[tuple[Op, Op]]:
    """Return pairs of ops from two files, without those that only change the type of a tensor."""
    first, second = ([op for op in ops if op.type not in CASTS] for ops in (floats, integers))
    if [op.type for op in first] != [op.type for op in second]:
        raise ValueError(
            "float_model and integer_bytes must have the same ops in the same order, got "
            f"{', '.join(op.type for op in first)} and {', '.join(op.type for op in second)}: "
            "convert both from one model."
        )
    return list(zip(first, second, strict=True))


def _flowing(op: Op) -> list[Tensor]:
    """Return the inputs of an op that depend on the image."""
    return [tensor for tensor in op.inputs if tensor.kind in FLOWING]


def _one_op(model: Any, op: Op) -> bytes:
    """Return a `.tflite` file of a single op of a model, with its weights."""
    graph = copy.copy(model.subgraphs[0])
    needed = {graph.tensors[tensor.index].buffer for tensor in op.inputs}
    graph.operators = [graph.operators[op.index]]
    graph.inputs = [tensor.index for tensor in _flowing(op)]
    graph.outputs = [tensor.index for tensor in op.outputs]
    one = copy.copy(model)
    one.subgraphs, one.signatureDefs, one.metadata = [graph], None, None
    one.buffers = [
        buffer if index in needed else schema.BufferT()
        for index, buffer in enumerate(model.buffers)
    ]
    return flatbuffer.write(one)


def _quantized_input(integer_file: Graph) -> Tensor | None:
    """Return the quantized image: the input itself, or else the output of a first QUANTIZE op."""
    if integer_file.inputs[0].params is not None:
        return integer_file.inputs[0]
    first = integer_file.ops[0]
    return first.outputs[0] if first.type == "QUANTIZE" else None
