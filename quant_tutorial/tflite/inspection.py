"""Inspect a `.tflite` file: its ops and tensors, and whether it is integer only (lesson 06).

The file is read (see `flatbuffer`) and not run. What the interpreter would list depends on the
kernels that it has chosen, and it shows 4- and 2-bit weights as int8.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, fields

from quant_tutorial import flatbuffer
from quant_tutorial.flatbuffer import CASTS, Graph, Op
from quant_tutorial.op_names import without_suffix
from quant_tutorial.table import Table

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Inspection(Graph):
    """The contents of a `.tflite` file in its order, and whether it is integer only (lesson 06)."""

    integer_only: bool
    reason: str  # why, or why not

    @property
    def constant_bytes(self) -> int:
        """The bytes of all constants: weights, biases and shapes, as packed in the file."""
        kinds = ("weights", "bias", "constant")
        graphs = (self, *self.others)
        return sum(t.bytes for graph in graphs for t in graph.tensors if t.kind in kinds)

    @property
    def verdict(self) -> str:
        """A sentence that states whether the file is integer only, and why."""
        return f"Integer only: {'yes' if self.integer_only else 'no'}, because {self.reason}."

    @property
    def op_table(self) -> Table:
        """A table with one row for each op: its layers and the types it reads and writes."""
        return Table(
            ["op", "type", "layers", "reads", "writes"],
            [
                [
                    op.index,
                    op.type,
                    ", ".join(op.layers),
                    ", ".join(tensor.type for tensor in op.inputs),
                    ", ".join(tensor.type for tensor in op.outputs),
                ]
                for op in self.ops
            ],
        )

    @property
    def tensor_table(self) -> Table:
        """A table with one row for each tensor: type, shape, scales, zero points and bytes."""
        return Table(
            ["tensor", "kind", "type", "shape", "scale", "zero point", "bytes"],
            [
                [
                    _short(tensor.name),
                    tensor.kind,
                    tensor.type,
                    "×".join(map(str, tensor.shape)),
                    _several(tensor.scales, "{:.4g}"),
                    _several(tensor.zero_points, "{}"),
                    f"{tensor.bytes:,}",
                ]
                for tensor in self.tensors
            ],
        )

    def __repr__(self) -> str:
        """Return the verdict and both tables as text."""
        return f"{self.verdict}\n\n{self.op_table!r}\n\n{self.tensor_table!r}"

    def _repr_html_(self) -> str:
        tables = self.op_table._repr_html_() + self.tensor_table._repr_html_()
        return f"<p>{html.escape(self.verdict)}</p>{tables}"


def inspect(model_bytes: bytes) -> Inspection:
    """Return the ops and tensors of a `.tflite` file, and whether it is integer only (lesson 06).

    Files with branches or loops have further graphs: the verdict is about their ops as well, and
    `others` holds them. The tables show the main graph.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    graph = flatbuffer.graph(model_bytes)
    integer_only, reason = _judge(graph)
    parts = {field.name: getattr(graph, field.name) for field in fields(Graph)}
    return Inspection(**parts, integer_only=integer_only, reason=reason)


def file_weights(model_bytes: bytes) -> dict[str, tuple[NDArray[np.int8], NDArray[np.float32]]]:
    """Return the integer weights of a file and their scales, by layer (lesson 08).

    Both have the axes of the file, for which see `models.litert_layout`. The scales have the rank
    of the weights, so that weights · scales are the real values.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    found = {}
    for op in flatbuffer.graph(model_bytes).ops:
        for tensor in op.inputs:
            if tensor.kind == "weights" and len(tensor.scales):
                shape = [-1 if axis == tensor.axis else 1 for axis in range(len(tensor.shape))]
                # The op also has the names of layers that are fused into it, such as padding.
                found |= dict.fromkeys(op.layers, (tensor.data, tensor.scales.reshape(shape)))
    return found


def _short(name: str) -> str:
    """Return the first of the fused names, without the model's name and the exporter's number."""
    first = name.split(";")[0].split("/")
    if len(first) < 3:
        return first[-1]
    return "/".join([*map(without_suffix, first[1:-1]), first[-1]])


def _several(values: NDArray[np.generic], form: str) -> str:
    """Format one value, or the number of values with the smallest and the largest of them."""
    different = np.unique(values)
    if len(different) < 2:
        return "".join(map(form.format, different))
    return f"{len(values)}: {form.format(different[0])} … {form.format(different[-1])}"


def doors_and_float_ops(graph: Graph) -> tuple[list[Op], list[Op]]:
    """Return the ops of a file that read or write floats, in two lists.

    The first are its doors, which only turn a float input into integers, or integers into a float
    output; the second are all others, also of other graphs than the main one.
    """
    spoilers = [op for op in graph.all_ops if any(t.is_float for t in (*op.inputs, *op.outputs))]
    names_in, names_out = ({t.name for t in side} for side in (graph.inputs, graph.outputs))
    doors = [
        op
        for op in spoilers
        if (op.type == "QUANTIZE" and op.inputs[0].name in names_in)
        or (op.type == "DEQUANTIZE" and op.outputs[0].name in names_out)
    ]
    return doors, [op for op in spoilers if op not in doors]


def _judge(graph: Graph) -> tuple[bool, str]:
    """Return whether no op reads or writes a float, and the reason: if one does, which one."""
    doors, inner = doors_and_float_ops(graph)
    if not doors and not inner:
        return True, f"every tensor of its {len(graph.all_ops)} ops holds integers"
    if not inner:
        sides = [
            f"the {side} is {tensor.type} and {op} {work}"
            for op in doors
            for side, tensor, work in (
                ("input", op.inputs[0], f"makes it {op.outputs[0].type}")
                if op.type == "QUANTIZE"
                else ("output", op.outputs[0], f"makes it from {op.inputs[0].type}"),
            )
        ]
        return False, "; ".join(sides) + "; all other ops compute in integers"
    for op in inner:
        if op.type == "DEQUANTIZE" and op.inputs[0].kind == "weights":
            return False, f"{op} turns {op.inputs[0].type} weights into {op.outputs[0].type}"
    # The op that computes in floats explains more than the QUANTIZE and DEQUANTIZE around it.
    op = next((op for op in inner if op.type not in CASTS), inner[0])
    weights = [t for t in op.inputs if t.kind == "weights" and not t.is_float]
    if weights and op.outputs[0].is_float:
        return False, (
            f"only the weights of {op} are {weights[0].type}: "
            f"it reads and writes {op.outputs[0].type}"
        )
    tensor = next(t for t in (*op.inputs, *op.outputs) if t.is_float)
    verb = "reads" if any(t is tensor for t in op.inputs) else "writes"
    return False, f"{op} {verb} {tensor.type} ({tensor.kind} {_short(tensor.name)})"
