"""Check a graph as a whole: tensors are written before they are read, calls end (lesson 06)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from quant_tutorial.flatbuffer.parts import (
    Graph,
    Op,
    Tensor,
    checked_indices,
    checked_text,
    damaged_error,
    label_of,
)


def check_order(
    ops: Sequence[Op], inputs: Sequence[Tensor], outputs: Sequence[Tensor], stored: set[int]
) -> None:
    """Refuse a graph in which a tensor is read before it is written, or written twice.

    Stored are the tensors whose values are there from the beginning: constants and states.
    """
    for tensor in inputs:
        if tensor.index in stored:
            raise damaged_error(f"the input {label_of(tensor)} has its values in the file")
    written = stored | {tensor.index for tensor in inputs}
    for op in ops:
        for tensor in op.inputs:
            if tensor.index not in written and not _is_empty(tensor):
                raise damaged_error(f"{op} reads {label_of(tensor)} before any op has written it")
        for tensor in op.outputs:
            if tensor.index in written and not _is_empty(tensor):
                raise damaged_error(f"{op} writes {label_of(tensor)}, which has its values already")
            written.add(tensor.index)
    for tensor in outputs:
        if tensor.index not in written and not _is_empty(tensor):
            raise damaged_error(f"no op writes the output {label_of(tensor)}")


def _is_empty(tensor: Tensor) -> bool:
    """Tell whether a tensor has no values: there is nothing to write."""
    return 0 in tensor.shape


def check_calls(model: Any) -> None:
    """Refuse a branch or loop that calls a graph that is not there, or one that calls it again."""
    callees = [set(_callees(part)) for part in model.subgraphs]
    for number, called in enumerate(callees):
        for index in called:
            if not 0 <= index < len(callees):
                raise damaged_error(
                    f"graph {number} calls graph {index}, and there are {len(callees)}"
                )
    # Take away the graphs that call none, again and again: what is left calls in a circle.
    left = set(range(len(callees)))
    while done := {number for number in left if not callees[number] & left}:
        left -= done
    if left:
        raise damaged_error(f"graph {min(left)} calls itself")


def _callees(part: Any) -> Iterator[int]:
    """Yield the numbers of the graphs that the ops of a graph call."""
    for op in part.operators or ():
        for options in (op.builtinOptions, op.builtinOptions2):
            for name, value in vars(options).items() if options is not None else ():
                if name.lower().endswith("subgraphindex"):
                    yield value


def signatures_of(
    model: Any, parts: Sequence[Graph]
) -> Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]]:
    """Return for each signature of the main graph the tensors of its inputs and outputs, by name.

    Those of other graphs are checked only.
    """
    found = {}
    for number, raw in enumerate(model.signatureDefs or ()):
        owner = f"signature {number}"
        if raw.subgraphIndex >= len(parts):
            raise damaged_error(
                f"{owner} is of graph {raw.subgraphIndex}, and there are {len(parts)}"
            )
        count = len(parts[raw.subgraphIndex].tensors)
        sides = []
        for entries in (raw.inputs or (), raw.outputs or ()):
            numbers = [entry.tensorIndex for entry in entries]
            checked_indices(numbers, count, f"an end of {owner}")
            names = [checked_text(entry.name, owner) for entry in entries]
            sides.append(MappingProxyType(dict(zip(names, numbers, strict=True))))
        key = checked_text(raw.signatureKey, owner)
        if raw.subgraphIndex == 0:
            found[key] = sides[0], sides[1]
    return MappingProxyType(found)
