"""The parts of a `.tflite` file: tensors, ops and the main graph (lesson 06)."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from quant_tutorial import op_names
from quant_tutorial.affine import QuantParams

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

FLOWING = ("input", "output", "activation")  # kinds that are computed for each image
_COMPUTED = (*FLOWING, "state")
CASTS = ("QUANTIZE", "DEQUANTIZE")
# The ops with weights among their inputs: they stand in place 1, and the bias follows them.
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_FLOATS = ("float", "bfloat", "complex")
NOT_A_MODEL = "model_bytes is not a .tflite model"
ORDERED = b"quant_tutorial.inputs_in_the_models_order"  # the name of a note in a file's metadata
# Which input an op may leave out; recurrent and custom ops may leave out any.
OPTIONAL = {
    "CONV_2D": 2,
    "CONV_3D": 2,
    "CONV_3D_TRANSPOSE": 3,
    "DEPTHWISE_CONV_2D": 2,
    "FULLY_CONNECTED": 2,
    "TRANSPOSE_CONV": 3,
}


@functools.cache
def code_names(codes: type) -> Mapping[int, str]:
    """Return the names of the numbers of one of the schema's enumerations."""
    return {number: name for name, number in vars(codes).items() if isinstance(number, int)}


TYPES = {number: name.lower() for number, name in code_names(schema.TensorType).items()}


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a `.tflite` file: an activation, a weight, a bias or a constant (lesson 06)."""

    name: str
    shape: tuple[int, ...]  # −1 stands for a length that the file leaves open, such as the batch
    dtype: np.dtype  # the array that LiteRT hands out: int8 for 4- and 2-bit tensors
    scales: NDArray[np.float32]  # none: not quantized; one: per tensor; several: per channel
    zero_points: NDArray[np.int64]
    axis: int  # the axis of the channels
    type: str  # as in the file: "float32", "int8", "int4", …
    kind: str  # input, output, activation, state, weights, dequantized weights, bias or constant
    bytes: int  # of its values: in the file for a constant, else in memory for one image
    index: int  # its number in the file, which the interpreter's get_tensor takes
    is_blockwise: bool = False  # weights with a scale for each block of some values
    # The values of a constant, read-only, 4- and 2-bit ones unpacked. None for what is computed,
    # for types that NumPy does not have, for sparse tensors and values in another file.
    data: NDArray[np.generic] | None = field(default=None, repr=False)

    @property
    def bits(self) -> int:
        """The bit width of one value; 0 for types without a fixed one."""
        return bits_of(self.type)

    @property
    def is_float(self) -> bool:
        """Whether the values are floating-point numbers."""
        return self.type.startswith(_FLOATS)

    @property
    def params(self) -> QuantParams | None:
        """The parameters of 2- to 16-bit integers; None for floats and wider integers."""
        if self.is_float or not 2 <= self.bits <= 16 or len(self.scales) == 0:
            return None
        signed = not self.type.startswith("u")
        scales = np.where(self.scales > 0, self.scales, np.float32(1))  # 0 for weights of 0 alone
        if len(scales) == 1:
            return QuantParams(self.bits, float(scales[0]), int(self.zero_points[0]), signed)
        return QuantParams(self.bits, scales, self.zero_points, signed, axis=self.axis)


@dataclass(frozen=True, eq=False)
class Op:
    """One operation of a `.tflite` file (lesson 06)."""

    index: int
    type: str  # CONV_2D, FULLY_CONNECTED, …
    inputs: tuple[Tensor, ...]  # those that are there: a bias that is left out is not
    outputs: tuple[Tensor, ...]
    options: Any = field(default=None, repr=False)  # the schema's object, such as Conv2DOptionsT
    layers: tuple[str, ...] = ()  # the Keras layers in it, first to last; none where names are lost

    @property
    def paths(self) -> list[tuple[str, ...]]:
        """The paths of its Keras layers, as the tensors' names have them; see `op_names`."""
        weights = (tensor.name for tensor in self.inputs if tensor.kind not in _COMPUTED)
        return op_names.op_scopes((tensor.name for tensor in self.outputs), weights)

    def __str__(self) -> str:
        """Name the op as a reader would."""
        layers = ", ".join(self.layers)
        return f"op {self.index} ({self.type}{', ' if layers else ''}{layers})"

    @property
    def title(self) -> str:
        """The op's name as a sentence begins with it."""
        return f"O{str(self)[1:]}"


@dataclass(frozen=True, eq=False)
class Graph:
    """The main graph of a `.tflite` file, in the file's order (lesson 06)."""

    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    # For each signature the tensors of its inputs and of its outputs, by name.
    signatures: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]]
    size: int  # of the file, in bytes
    # How ops keep values for their next run, in this graph or another of the file: in tensors of
    # their own, as recurrent ops do, or in variables, which other ops read and write.
    memory: Literal["none", "tensors", "variables"]
    # The file's other graphs, which branches, loops and CALL_ONCE call, by their numbers from 1.
    others: tuple[Graph, ...] = field(default=(), kw_only=True)
    # Whether the file says that its inputs stand in the order of the model's, which the caller
    # knows. The converter puts them in another order and does not say so.
    is_ordered: bool = field(default=False, kw_only=True)

    @property
    def inputs_by_name(self) -> dict[str, Tensor]:
        """The inputs by the names that the file's signature gives them, in its order."""
        return self._by_name(0, self.inputs)

    @property
    def outputs_by_name(self) -> dict[str, Tensor]:
        """The outputs by the names that the file's signature gives them.

        They are in the order of the model's outputs: that of the signature, in which a dictionary's
        keys are sorted as Keras does it. The names output_0, output_1 and so on stand for places,
        and a signature may hold output_10 before output_2.
        """
        found = self._by_name(1, self.outputs)
        places = [f"output_{number}" for number in range(len(found))]
        return {name: found[name] for name in (places if set(places) == set(found) else found)}

    @property
    def takes_lists(self) -> bool:
        """Whether inputs may be given as a list: their order is the model's, or all there is."""
        return self.is_ordered or not self.signatures

    def _by_name(self, side: int, ends: tuple[Tensor, ...]) -> dict[str, Tensor]:
        for sides in self.signatures.values():
            if set(sides[side].values()) == {tensor.index for tensor in ends}:
                return {name: self.tensors[index] for name, index in sides[side].items()}
        # A file without signatures.
        names = [tensor.name for tensor in ends]
        if len(set(names)) < len(names):
            names = [f"{('input', 'output')[side]}_{place}" for place in range(len(names))]
        return dict(zip(names, ends, strict=True))

    @property
    def all_ops(self) -> tuple[Op, ...]:
        """The ops of this graph and, after them, those of the others."""
        return sum((other.ops for other in self.others), self.ops)

    def called_by(self, op: Op) -> list[Graph]:
        """Return the graphs that an op calls, such as those of a branch."""
        numbers = (
            number
            for name, number in (vars(op.options) if op.options is not None else {}).items()
            if name.lower().endswith("subgraphindex")
        )
        return [self.others[number - 1] for number in numbers if number > 0]

    @property
    def op_types(self) -> tuple[str, ...]:
        """The types of all ops, each once, in order of first use; see `all_ops`."""
        return tuple(dict.fromkeys(op.type for op in self.all_ops))


class Node(NamedTuple):
    """An op as its checks see it: each input in its place, None for one that is left out."""

    index: int
    type: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Any

    def __str__(self) -> str:
        """Name the op as a message does."""
        return f"op {self.index} ({self.type})"

    def refuse(self, what: str) -> ValueError:
        """Return the error that says what is wrong with this op."""
        return damaged_error(f"{self} {what}")

    def input(self, place: int, rank: int | None = None) -> Tensor:
        """Return the input at a place, or say that there is none, or none of so many axes."""
        found = self.inputs[place] if place < len(self.inputs) else None
        if found is None:
            raise self.refuse(f"has no input {place}")
        if rank is not None and is_known(found) and len(found.shape) != rank:
            raise self.refuse(
                f"needs {rank} axes, and its input {label_of(found)} has {shape_text(found)}"
            )
        return found

    def require_shape(self, wanted: Sequence[int], number: int = 0) -> None:
        """Refuse an output that cannot have this shape; −1 stands for any length."""
        found = self.outputs[number]
        fits = len(found.shape) == len(wanted) and all(map(lengths_fit, found.shape, wanted))
        if is_known(found) and not fits:
            made, shape = lengths_text(wanted), shape_text(found)
            raise self.refuse(f"makes {made} values, and its output {label_of(found)} has {shape}")


def damaged_error(what: str) -> ValueError:
    """Return the error for a file whose numbers LiteRT cannot work with."""
    return ValueError(f"{NOT_A_MODEL} that LiteRT can run: {what}.")


def owner_of(name: str, index: int) -> str:
    """Return how messages call a tensor."""
    return f"{name.split(';')[0]!r} (tensor {index})"


def label_of(tensor: Tensor) -> str:
    """Return how messages call a tensor."""
    return owner_of(tensor.name, tensor.index)


def lengths_text(shape: Iterable[int]) -> str:
    """Write the lengths of axes: 1×28×28×1, with a question mark for an open one."""
    return "×".join("?" if length < 0 else str(length) for length in shape) or "1"


def shape_text(tensor: Tensor) -> str:
    """Write the shape of a tensor."""
    return lengths_text(tensor.shape) if tensor.shape else "no axes"


def lengths_fit(a: int, b: int) -> bool:
    """Tell whether two lengths can be the same, where a negative one is not known."""
    return a == b or a < 0 or b < 0


def is_known(tensor: Tensor) -> bool:
    """Tell whether the file says how many axes a tensor has.

    It gives no axes to a number, and also to what is computed with a shape that is computed.
    """
    return bool(tensor.shape) or tensor.kind == "input" or tensor.data is not None


@functools.cache
def bits_of(type_name: str) -> int:
    """Return the bit width of a type; 0 for one without a fixed width."""
    if type_name == "bool":
        return 8
    digits = re.search(r"\d+", type_name)
    return int(digits[0]) if digits else 0


def checked_indices(
    ids: Iterable[int] | None,
    count: int,
    owner: str,
    may_lack: Callable[[int], bool] = lambda _: False,
) -> tuple[int, ...]:
    """Return numbers of tensors, when they are among so many; −1 where that may be."""
    found = () if ids is None else tuple(map(int, ids))
    for place, index in enumerate(found):
        if not 0 <= index < count and not (index == -1 and may_lack(place)):
            raise damaged_error(f"{owner} is tensor {index}, and there are {count}")
    return found


def checked_text(name: bytes | None, owner: str) -> str:
    """Return a name of the file as text, or raise a ValueError for bytes that are none."""
    try:
        return (name or b"").decode()
    except UnicodeDecodeError:
        raise damaged_error(f"the name of {owner} is no text") from None
