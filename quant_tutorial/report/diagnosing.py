"""Find the layers that suffer when a model becomes integers (lesson 12)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from quant_tutorial import flatbuffer, metrics, tflite
from quant_tutorial.flatbuffer import CASTS, FLOWING, Graph
from quant_tutorial.table import Table
from quant_tutorial.tflite.debugging import Debugging

import numpy as np
from numpy.typing import NDArray

WIDE = 16.0  # a channel so many times as wide as the median one leaves the others 4 bits of 8
FALL = 6.0  # decibels: the error has doubled, as if a bit had been lost
FINE = 30.0  # decibels: an error of 3% of the signal, whatever it was before
# Ops that leave every value as it is; what they make has no channels of its own.
_PASSING = (*CASTS, "RESHAPE", "SQUEEZE", "EXPAND_DIMS")
CLIPPED = 3 * metrics.HEALTHY  # an own error of three times that of rounding


class Suspect(NamedTuple):
    """One op of an integer file, with what it adds to the error (lesson 12)."""

    op: str  # its type
    layer: str  # the first layer in it, "" where names are lost
    sqnr_db: float | None  # of its output, accumulated; None without any error
    fall_db: float | None  # below the worst of its inputs; None for the first op
    own: float | None  # own error in scales, 0.289 if there is only rounding
    spread: float  # widest channel of its output over the median one; 1 without channels
    before: str  # the layer that makes its widest input, "" for the model's input
    before_spread: float  # the same ratio for that input

    @property
    def cause(self) -> str:
        """What the figures point at, in words; empty where nothing stands out."""
        falls = (self.fall_db or 0) >= FALL and (self.sqnr_db or FINE) < FINE
        if not falls and (self.own or 0) < CLIPPED:
            return ""
        if self.before_spread >= WIDE:
            return (
                f"one scale for channels that differ {self.before_spread:,.0f}-fold, in the output "
                f"of {self.before or 'the input'}"
            )
        if (self.own or 0) >= CLIPPED:
            return "clipping, or weights that are rounded too coarsely"
        return "the error of its inputs grows here"


@dataclass(frozen=True)
class Diagnosis:
    """How the error grows from op to op of an integer file (lesson 12)."""

    suspects: tuple[Suspect, ...]  # in the file's order

    @property
    def worst(self) -> tuple[Suspect, ...]:
        """The ops at which something stands out, the deepest fall first."""
        found = [suspect for suspect in self.suspects if suspect.cause]
        return tuple(sorted(found, key=lambda suspect: -(suspect.fall_db or 0)))

    @property
    def table(self) -> Table:
        """A table with one row for each op."""
        header = ["op", "layer", "SQNR in dB", "fall", "own error/scale", "widest channel"]
        rows = []
        for one in self.suspects:
            own = "" if one.own is None else f"{one.own:.2f}"
            fall = "" if one.fall_db is None else f"{one.fall_db:.1f}"
            sqnr = "" if one.sqnr_db is None else f"{one.sqnr_db:.1f}"
            rows.append([one.op, one.layer, sqnr, fall, own, f"{one.spread:,.1f}×"])
        return Table(header, rows)

    def __repr__(self) -> str:
        """Return the table as text."""
        return repr(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def diagnose(float_file: bytes, integer_file: bytes, images: NDArray[Any]) -> Diagnosis:
    """Compare an integer file with the float file op by op, and with its channels (lesson 12).

    Args:
        float_file: The float32 file.
        integer_file: A file with integer activations, made from the same model.
        images: Images as the float model takes them, shape (n, …); twenty are enough.

    Raises:
        ValueError: as for `tflite.debug`.
    """
    found = tflite.debug(float_file, integer_file, images)
    spreads = {name: spread(ranges) for name, ranges in channel_ranges(float_file, images).items()}
    return Diagnosis(tuple(_suspects(flatbuffer.graph(integer_file), found, spreads)))


def channel_ranges(float_file: bytes, images: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """Return the largest magnitude of each channel of each layer's output (lesson 12).

    The channels lie along the last axis. The keys are the layers' names, and "input" for the
    model's input; where an op has lost its layer's name, its type and number take its place.

    Args:
        float_file: The float32 file.
        images: Images as the model takes them, shape (n, …).
    """
    graph = flatbuffer.graph(float_file)
    made = {tensor.index: _label(op.layers, op) for op in graph.ops for tensor in op.outputs}
    made |= {tensor.index: "input" for tensor in graph.inputs}
    found: dict[str, NDArray[np.float32]] = {}
    for image in images:  # one at a time: large networks have megabytes of activations
        for index, values in tflite.run_all(float_file, image[np.newaxis], "optimized").items():
            if index not in made or values.ndim < 2 or values.dtype.kind != "f":
                continue
            reach = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            name = made[index]
            older = found.get(name)
            same = older is not None and older.shape == reach.shape
            found[name] = np.maximum(older, reach) if same else reach
    return found


def spread(ranges: NDArray[np.floating]) -> float:
    """Return how many times as wide the widest channel is as the median one (lesson 12).

    Channels that are 0 throughout are left out. A single channel has the ratio 1.
    """
    alive = ranges[ranges > 0]
    return float(alive.max() / np.median(alive)) if len(alive) else 1.0


def layers_around(suspects: Iterable[Suspect], known: Sequence[str]) -> tuple[str, ...]:
    """Return the layers of ops and those that make their inputs, without repetition (lesson 12).

    Where one scale is too coarse for a tensor, the tensor stays in float only if both the layer
    that makes it and the one that uses it do.

    Args:
        suspects: The ops.
        known: The names of the model's layers; others are left out.
    """
    names = [
        name
        for one in suspects
        for name in ((one.before, one.layer) if one.before_spread >= WIDE else (one.layer,))
    ]
    return tuple(dict.fromkeys(name for name in names if name in known))


def _suspects(graph: Graph, found: Debugging, spreads: dict[str, float]) -> Iterable[Suspect]:
    errors = {row.tensor.index: row for row in found.rows}
    makers, quality = _makers(graph), {}
    for op in graph.ops:
        if op.type in CASTS or not op.outputs or op.outputs[0].index not in errors:
            continue
        row, label = errors[op.outputs[0].index], _label(op.layers, op)
        inputs = [_origin(graph, t.index) for t in op.inputs if t.kind in FLOWING]
        before = [quality[i] for i in inputs if i in quality]
        widest = max(inputs, key=lambda i: spreads.get(makers.get(i, "input"), 1.0), default=None)
        source = makers.get(widest, "input")
        known = math.isfinite(row.sqnr_db)
        if known:
            quality[op.outputs[0].index] = row.sqnr_db
        yield Suspect(
            op=op.type,
            layer=_layer(op.layers),
            sqnr_db=row.sqnr_db if known else None,
            fall_db=min(before) - row.sqnr_db if before and known else None,
            own=row.own,
            spread=spreads.get(source if op.type in _PASSING else label, 1.0),
            before="" if source == "input" else source,
            before_spread=spreads.get(source, 1.0),
        )


def _makers(graph: Graph) -> dict[int, str]:
    """Return the label of the op that makes each tensor."""
    return {
        tensor.index: _label(op.layers, op)
        for op in graph.ops
        if op.type not in CASTS
        for tensor in op.outputs
    }


def _origin(graph: Graph, index: int) -> int:
    """Return the tensor from which casts and changes of shape alone have made this one."""
    for op in graph.ops:
        if op.type in _PASSING and any(tensor.index == index for tensor in op.outputs):
            return _origin(graph, op.inputs[0].index)
    return index


def _layer(layers: tuple[str, ...]) -> str:
    return layers[0].split("/")[-1] if layers else ""


def _label(layers: tuple[str, ...], op: Any) -> str:
    """Return a layer's name, or the type and number of an op whose name is lost."""
    return _layer(layers) or f"{op.type} {op.index}"
