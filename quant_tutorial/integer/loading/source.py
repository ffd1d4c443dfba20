"""What every builder needs: one op of the file, its tensors, and integers for ratios of scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from quant_tutorial.affine import round_half_away
from quant_tutorial.flatbuffer import Op, Tensor
from quant_tutorial.integer.arithmetic import INT32_MAX, Output, fixed_point
from quant_tutorial.integer.ops import Pair

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import ArrayLike, NDArray

_ACTIVATION_NAMES = {
    code: name for name, code in vars(schema.ActivationFunctionType).items() if name[0] != "_"
}
# The ranges of the activations that can be fused with an op, as real numbers.
_ACTIVATION_ENDS: Mapping[str, tuple[float | None, float | None]] = MappingProxyType(
    {"NONE": (None, None), "RELU": (0, None), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}
)
WAY_OUT = "LiteRT runs such a file: use tflite.predict"


class NotCoveredError(ValueError):
    """An op that integer-only inference leaves to LiteRT."""


@dataclass(frozen=True, eq=False)
class Source:
    """One op of the file, from which a builder makes a step."""

    op: Op
    inputs: tuple[Tensor, ...]  # every length known; constants, also computed ones, with `data`
    outputs: tuple[Tensor, ...]  # the first axis is 1 where the file leaves it open
    multiplier_bits: int | None

    @property
    def name(self) -> str:
        """Return the type of the op."""
        return self.op.type

    @property
    def options(self) -> Any:
        """Return the schema's object with the op's options."""
        return self.op.options

    @property
    def output(self) -> Tensor:
        """Return the first output."""
        return self.outputs[0]

    def input(self, place: int) -> Tensor:
        """Return the input at a place."""
        return self.inputs[place]

    def constant(self, place: int) -> NDArray[Any]:
        """Return the values of an input that must not depend on the image, such as a shape."""
        found = self.inputs[place]
        if found.data is None:
            raise self.refuse(f"an input {found.name!r} that depends on the image")
        return found.data

    def refuse(self, what: str) -> NotCoveredError:
        """Return the error for something about this op that is not covered."""
        return NotCoveredError(
            f"Integer-only inference does not cover {self.op} with {what}. {WAY_OUT}."
        )


@dataclass(frozen=True, eq=False)
class Built:
    """One step, as a builder returns it; an op with several outputs has a step for each."""

    function: Callable[..., NDArray[Any]]
    inputs: tuple[Tensor, ...]  # those that `function` gets, in order
    arguments: dict[str, Any] = field(default_factory=dict)
    # Whether `function` leaves the first axis alone, so that it may hold several images.
    keeps_images: bool = True


def scale_of(tensor: Tensor) -> float:
    """Return the one scale of a tensor."""
    return float(tensor.scales[0])


def zero_point_of(tensor: Tensor) -> int:
    """Return the one zero point of a tensor."""
    return int(tensor.zero_points[0])


def multiplier_of(
    source: Source, ratios: ArrayLike, width: int = 31
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return multipliers as fractions of 2^width, and shifts; `multiplier_bits` limits the bits."""
    bits = source.multiplier_bits or width
    pairs = [fixed_point(float(ratio), bits) for ratio in np.ravel(ratios)]
    multiplier, shift = (
        np.array(part).reshape(np.shape(ratios)) for part in zip(*pairs, strict=True)
    )
    return read_only(multiplier << (width - bits)), read_only(shift)


def output_of(
    source: Source,
    ratios: ArrayLike,
    activation: int = schema.ActivationFunctionType.NONE,
    *,
    width: int = 31,
) -> Output:
    """Return the rescaling by one ratio, or by one for each channel, and the clamping."""
    multiplier, shift = multiplier_of(source, ratios, width)
    lowest, highest = activation_range(source, activation)
    zero_point = zero_point_of(source.output)
    return Output(multiplier, shift, zero_point, lowest, highest, source.output.dtype)


def activation_range(source: Source, activation: int) -> Pair:
    """Return the lowest and the highest integer of the output under a fused activation."""
    tensor, name = source.output, _ACTIVATION_NAMES[activation]
    if name not in _ACTIVATION_ENDS:
        raise source.refuse(f"the activation {name}")
    ends, zero_point = np.iinfo(tensor.dtype), zero_point_of(tensor)
    low, high = (
        None
        if end is None
        else zero_point + int(round_half_away(np.float32(end) / tensor.scales[0]))
        for end in _ACTIVATION_ENDS[name]
    )
    lowest, highest = int(ends.min), int(ends.max)
    return lowest if low is None else max(lowest, low), highest if high is None else min(
        highest, high
    )


def check_count(source: Source, count: int, largest: int = 255) -> None:
    """Refuse a sum of so many values that an int32 may have no room for it."""
    if largest * count > INT32_MAX:
        raise NotCoveredError(
            f"{source.op} sums {count} values, more than an int32 has room for. {WAY_OUT}."
        )


def require_same_scale(source: Source, *tensors: Tensor) -> None:
    """Refuse an op that moves or compares integers of tensors with different scales."""
    for tensor in tensors:
        same = np.array_equal(tensor.scales, source.output.scales)
        if not (same and np.array_equal(tensor.zero_points, source.output.zero_points)):
            raise source.refuse("tensors of different scales or zero points")


def read_only(array: ArrayLike) -> NDArray[Any]:
    """Return an array that cannot be changed."""
    array = np.asarray(array)  # a scalar becomes an array of shape ()
    array.flags.writeable = False
    return array


def shape_with_images(shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    """Return a target shape with −1 for the images, if the first axis counts them before and after.

    An axis of the length 1 stands for one image.
    """
    return (-1, *target[1:]) if shape[:1] == (1,) == target[:1] else target
