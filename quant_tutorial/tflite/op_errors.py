"""Measure the error of each op of an integer file against the float file it was made from.

Lesson 06. Two errors are measured for each activation. *Own*: the float op and the integer op get
the same input, namely the outputs of the integer ops before them, and the difference is the error
that this op alone adds. *Accumulated*: the difference between the integer model and the float
model, both run from the image.

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
from quant_tutorial.flatbuffer import CASTS, FLOWING, Graph, Op, Tensor
from quant_tutorial.table import Table
from quant_tutorial.tflite.interpreter import Runner
from quant_tutorial.tflite.running import file_inputs

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

# LiteRT's reference kernel leaves the zero point of integers out; a test shows that it still does.
_WRONG_REFERENCE = ("SUM",)


class TensorError(NamedTuple):
    """The error of one activation of an integer model against the float model (lesson 06)."""

    op: str  # the type of the op that computes it, or INPUT
    layers: tuple[str, ...]  # the Keras layers in that op; the name of one of several inputs
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


def file_errors(
    float_bytes: bytes,
    integer_bytes: bytes,
    images: Any,
    *,
    is_file: bool = True,
    clipping: bool = True,
) -> Debugging:
    """Compare each op of an integer file with the op of the float file that it was made from.

    Lesson 06. See `debugging.debug`, whose checks these are.

    Args:
        float_bytes: The float32 file.
        integer_bytes: The file made from the same model.
        images: Images as the float file takes them, shape (n, …), n ≥ 1; for several inputs by
            their names.
        is_file: Whether messages speak of the reader's float file, or of the model it came from.
        clipping: Whether values outside the range of a tensor count in its own error.
    """
    float_file = flatbuffer.graph(float_bytes, "float_model")
    integer_file = flatbuffer.graph(integer_bytes, "integer_bytes")
    if not any(tensor.params for op in integer_file.ops for tensor in op.outputs):
        raise ValueError(
            "integer_bytes must be a file with integer activations, got one without: convert with "
            "mode 'int8', and give the float model first."
        )
    _require_float32(float_file, is_file)
    for name, file in (("float_model", float_file), ("integer_bytes", integer_file)):
        _require_single_images(name, file)
    sources = _same_inputs(float_file, integer_file)
    pairs = _pairs(float_file.ops, integer_file.ops)
    given = file_inputs("images", images, float_file)
    model = flatbuffer.read(float_bytes)
    doors = [(_quantized(tensor, integer_file), _Errors()) for tensor in sources.values()]
    floats = _Run(float_bytes, float_file, float_file.inputs)
    integers = _Run(integer_bytes, integer_file, [*sources.values()])
    alone = [_Run(_one_op(model, op), float_file, _flowing(op)) for op, _ in pairs]
    errors = [_Errors() for _ in pairs]
    for row in range(len(next(iter(given.values())))):
        image = {index: values[row : row + 1] for index, values in given.items()}
        floats.invoke([image[tensor.index] for tensor in float_file.inputs])
        integers.invoke([image[index] for index in sources])
        for index, (entry, at_input) in zip(sources, doors, strict=True):
            if entry is not None:
                at_input.add(integers.value(entry), image[index], image[index])
        for place, (float_op, op) in enumerate(pairs):
            alone[place].invoke([integers.value(tensor) for tensor in _flowing(op)])
            for made, float_made in zip(op.outputs, float_op.outputs, strict=True):
                if made.params != op.outputs[0].params:  # such as the places of the largest values
                    continue
                result, expected = integers.value(made), floats.value(float_made)
                own = alone[place].value(float_made)
                if not clipping and made.params is not None:
                    own = np.clip(own, made.params.minimum, made.params.maximum)
                errors[place].add(result, own, expected)
    names = [*float_file.inputs_by_name] if len(sources) > 1 else [None]
    rows = [
        found.row("INPUT", () if name is None else (name,), entry)
        for name, (entry, found) in zip(names, doors, strict=True)
        if entry is not None
    ]
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
        # Truth values, such as those of a mask, cannot be subtracted.
        result, own, expected = (
            values.astype(np.int8) if values.dtype == bool else values
            for values in (result, own, expected)
        )
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

    def __init__(self, model_bytes: bytes, graph: Graph, inputs: Sequence[Tensor]) -> None:
        self._inputs = inputs
        is_right = not any(op.type in _WRONG_REFERENCE and op.inputs[0].params for op in graph.ops)
        try:
            kernels = "reference" if is_right else "optimized"
            self._runner = Runner(model_bytes, graph, kernels=kernels, keep_tensors=True)
        except ValueError:  # the reference kernels lack an op, such as TILE
            self._runner = Runner(model_bytes, graph, kernels="optimized", keep_tensors=True)

    def invoke(self, arrays: Sequence[NDArray[np.generic]]) -> None:
        self._runner.invoke(
            {
                tensor.index: array if tensor.params is None else quantize(array, tensor.params)
                for tensor, array in zip(self._inputs, arrays, strict=True)
            }
        )

    def value(self, tensor: Tensor) -> NDArray[np.generic]:
        content = self._runner.value(tensor.index)
        return content if tensor.params is None else dequantize(content, tensor.params)


def _require_float32(graph: Graph, is_file: bool) -> None:
    for tensor in graph.tensors:
        if tensor.params is None and tensor.type not in ("float16", "bfloat16"):
            continue
        if is_file:
            raise ValueError(
                f"float_model must be a float32 file, and tensor {tensor.name!r} of it is "
                f"{tensor.type}: give the file of tflite.convert(model, 'float32'), or the model."
            )
        raise ValueError(
            "float_model must compute in floats, and this one rounds values itself, as models made "
            "for quantization-aware training do: give the float model that it was made from."
        )


def _require_single_images(name: str, graph: Graph) -> None:
    is_one = all(
        tensor.shape[:1] in ((1,), (-1,)) and min(tensor.shape[1:], default=0) >= 0
        for tensor in graph.inputs
    )
    if not is_one or not graph.inputs:
        shapes = ", ".join(str(tensor.shape) for tensor in graph.inputs)
        raise ValueError(
            f"{name} must take one image of a fixed size at a time, and its input has the shape "
            f"{shapes}: convert the model with tflite.convert, which makes such files."
        )


def _same_inputs(floats: Graph, integers: Graph) -> dict[int, Tensor]:
    """Return the inputs of the integer file by the indices of those of the float file."""
    before, after = floats.inputs_by_name, integers.inputs_by_name
    if len(before) == len(after) == 1:
        return {floats.inputs[0].index: integers.inputs[0]}
    if set(before) != set(after):
        raise ValueError(
            "float_model and integer_bytes must have the same inputs, got "
            f"{', '.join(before)} and {', '.join(after)}: convert both from one model."
        )
    return {before[name].index: after[name] for name in before}


def _pairs(floats: Sequence[Op], integers: Sequence[Op]) -> list[tuple[Op, Op]]:
    """Return pairs of ops from two files, without those that only change the type of a tensor."""
    first, second = ([op for op in ops if op.type not in CASTS] for ops in (floats, integers))
    if [op.type for op in first] != [op.type for op in second]:
        raise ValueError(
            "float_model and integer_bytes must have the same ops in the same order, got "
            f"{', '.join(op.type for op in first)} and {', '.join(op.type for op in second)}: "
            "convert both from one model."
        )
    return [
        (op, other)
        for op, other in zip(first, second, strict=True)
        if other.outputs and not any(t.type == "resource" for t in (*op.inputs, *op.outputs))
    ]


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
    # A branch or loop calls the other graphs.
    others = model.subgraphs[1:]
    needed |= {tensor.buffer for other in others for tensor in other.tensors}
    one.subgraphs, one.signatureDefs, one.metadata = [graph, *others], None, None
    one.buffers = [
        buffer if index in needed else schema.BufferT()
        for index, buffer in enumerate(model.buffers)
    ]
    return flatbuffer.write(one)


def _quantized(source: Tensor, integer_file: Graph) -> Tensor | None:
    """Return an image as integers: the input itself, or else the output of a first QUANTIZE op."""
    if source.params is not None:
        return source
    doors = (
        op
        for op in integer_file.ops
        if op.type == "QUANTIZE" and op.inputs[0].index == source.index
    )
    return next((op.outputs[0] for op in doors), None)
