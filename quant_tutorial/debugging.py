"""Find the layer that spoils an integer model: quantization debugging (lesson 06).

It does what TensorFlow's `tf.lite.experimental.QuantizationDebugger` does, but on two files that
are already there, a float one and the integer one made from it, by whichever tool. Each activation
is judged in two ways. *Own*: the float op and the integer op get the same input, what the integer
ops before it gave; the difference is what this op alone adds. *Accumulated*: the integer model
against the float model, from the image on.

Rounding to the nearest level is off by up to half a scale, evenly spread, which has the root mean
square 1/√12 ≈ 0.289 scales. An own error of much more than that comes from clipping, or from
weights that were rounded too coarsely. Less is found where values are exact: the zeros after a
ReLU, and ops that only choose or move. With int16 activations the figure says little: their scale
is fine enough to show the rounding of the int8 weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from quant_tutorial import quiet, tflite
from quant_tutorial.affine import dequantize, quantize
from quant_tutorial.inspection import FLOWING, Inspection, Op, Tensor, inspect, read
from quant_tutorial.simulate import checked_images
from quant_tutorial.table import Table

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

HEALTHY = 1 / math.sqrt(12)  # RMSE / scale of rounding to the nearest level

_CASTS = ("QUANTIZE", "DEQUANTIZE")


class TensorError(NamedTuple):
    """How far an activation of an integer model is from the float model's (lesson 06)."""

    op: str  # the type of the op that gives it, or INPUT
    layers: tuple[str, ...]  # the Keras layers in that op
    tensor: Tensor  # of the integer file
    own_rmse: float  # on equal input, in the unit of the tensor
    accumulated_rmse: float  # against the float model
    sqnr_db: float  # of the accumulated error

    @property
    def scale(self) -> float | None:
        """The scale of the tensor, None when it stayed a float."""
        params = self.tensor.params
        return None if params is None else float(params.scale)

    @property
    def own(self) -> float | None:
        """The own error in scales, the health figure: 0.289 for rounding alone."""
        return None if self.scale is None else self.own_rmse / self.scale

    @property
    def accumulated(self) -> float | None:
        """The accumulated error in scales."""
        return None if self.scale is None else self.accumulated_rmse / self.scale


@dataclass(frozen=True)
class Debugging:
    """The errors of all activations of an integer model, in the file's order (lesson 06)."""

    rows: tuple[TensorError, ...]

    @property
    def worst(self) -> TensorError:
        """The one with the largest own error in scales."""
        return max(self.rows, key=lambda row: row.own or 0.0)

    @property
    def table(self) -> Table:
        """One row for each activation."""
        header = ["op", "layers", "type", "scale", "own RMSE/scale", "accumulated", "SQNR in dB"]
        rows = []
        for row in self.rows:
            figures = [(row.scale, ".4f"), (row.own, ".3f"), (row.accumulated, ".3f")]
            texts = ["" if figure is None else f"{figure:{form}}" for figure, form in figures]
            layers, sqnr = ", ".join(row.layers), f"{row.sqnr_db:.1f}"
            rows.append([row.op, layers, row.tensor.type, *texts, sqnr])
        return Table(header, rows)

    def __repr__(self) -> str:
        """Give the table as text."""
        return repr(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def debug(float_model: Any, integer_bytes: bytes, images: NDArray[np.float32]) -> Debugging:
    """Compare each op of an integer `.tflite` model with the float op it was made from (lesson 06).

    Both run on LiteRT's reference kernels, which give the same integers on every machine.

    Args:
        float_model: The float32 file, or a model that `tflite.convert` takes.
        integer_bytes: A file made from the same model, with the ops in the same order.
        images: Images as the float model gets them, shape (n, …), n ≥ 1; a hundred are enough.

    Raises:
        ValueError: when one is not a `.tflite` model, the integer one has no integer activations,
            the ops of the two differ, or the images are none, no floats, not finite or of the
            wrong shape.
    """
    is_file = isinstance(float_model, bytes)
    float_bytes = float_model if is_file else tflite.convert(float_model, "float32")
    float_file, integer_file = inspect(float_bytes), inspect(integer_bytes)
    if not any(op.outputs[0].params for op in integer_file.ops):
        raise ValueError(
            "integer_bytes must be a file with integer activations, got one without: convert with "
            "mode 'int8', and give the float model first."
        )
    pairs = _pairs(float_file.ops, integer_file.ops)
    images = checked_images("images", images, float_file.inputs[0].shape[1:])
    model, entry = read(float_bytes), _quantized_input(integer_file)
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
    """Sums of squares over the images, so that no tensor need be kept."""

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

    XNNPACK, LiteRT's usual kernels, fuses ops and keeps no tensor between them.
    """

    def __init__(self, model_bytes: bytes, inputs: Sequence[Tensor]) -> None:
        self._inputs = inputs
        with quiet.all_output():  # LiteRT warns that keeping the tensors takes memory
            self._interpreter = Interpreter(
                model_content=model_bytes,
                experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
                experimental_preserve_all_tensors=True,
            )
            self._interpreter.allocate_tensors()

    def invoke(self, arrays: Sequence[NDArray[np.generic]]) -> None:
        for tensor, array in zip(self._inputs, arrays, strict=True):
            content = array if tensor.params is None else quantize(array, tensor.params)
            self._interpreter.set_tensor(tensor.index, content)
        self._interpreter.invoke()

    def value(self, tensor: Tensor) -> NDArray[np.generic]:
        content = self._interpreter.get_tensor(tensor.index)
        return content if tensor.params is None else dequantize(content, tensor.params)


def _pairs(floats: Sequence[Op], integers: Sequence[Op]) -> list[tuple[Op, Op]]:
    """Pair the ops of two files, without those that only change the type of a tensor."""
    first, second = ([op for op in ops if op.type not in _CASTS] for ops in (floats, integers))
    if [op.type for op in first] != [op.type for op in second]:
        raise ValueError(
            "float_model and integer_bytes must have the same ops in the same order, got "
            f"{', '.join(op.type for op in first)} and {', '.join(op.type for op in second)}: "
            "convert both from one model."
        )
    return list(zip(first, second, strict=True))


def _flowing(op: Op) -> list[Tensor]:
    """Give the inputs of an op that depend on the image."""
    return [tensor for tensor in op.inputs if tensor.kind in FLOWING]


def _one_op(model: Any, op: Op) -> bytes:
    """Make a `.tflite` file of a single op of a model, with its weights."""
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
    return bytes(flatbuffer_utils.convert_object_to_bytearray(one))


def _quantized_input(integer_file: Inspection) -> Tensor | None:
    """Give the integer form of the image: the input itself, or what the first QUANTIZE makes."""
    if integer_file.inputs[0].params is not None:
        return integer_file.inputs[0]
    first = integer_file.ops[0]
    return first.outputs[0] if first.type == "QUANTIZE" else None
