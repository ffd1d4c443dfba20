"""Run a full-integer model from `load` with integers alone (lesson 07)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quant_tutorial.affine import dequantize, quantize
from quant_tutorial.arguments import as_given, by_input, checked_images, require_same_count
from quant_tutorial.flatbuffer import Tensor

import numpy as np
from numpy.typing import NDArray

# The number of images at a time is so small that a layer's arrays stay in a core's cache: 10,000
# images took 2.5 s, and 4.2 s with 64 at a time. Two threads gained nothing.
_BATCH = 8


@dataclass(frozen=True, eq=False)
class Step:
    """One op of the file, ready to run: a function and its integer arguments (lesson 07)."""

    name: str  # the op's, such as CONV_2D
    inputs: tuple[int, ...]  # indices of the tensors that `function` gets, in order
    output: int  # index of the tensor that it computes
    function: Callable[..., NDArray[Any]] = field(repr=False)
    arguments: Mapping[str, Any] = field(repr=False)  # its keyword arguments


@dataclass(frozen=True, eq=False)
class IntegerModel:
    """A full-integer model, ready to run with integers alone (lesson 07)."""

    steps: tuple[Step, ...]  # in the order in which they run
    tensors: tuple[Tensor, ...]  # as numbered in the file, with the lengths for one image
    # Indices of the tensors that hold the images, and of the outputs, in the order of the model's.
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: Mapping[int, NDArray[np.generic]]  # inputs of ops that are not activations
    keeps_images: bool  # whether the first axis counts images throughout, so there may be several
    input_names: tuple[str, ...]  # those of the file's signature
    takes_lists: bool  # whether the file's inputs are in the order of its model's

    @property
    def input(self) -> int:
        """The index of the tensor that holds the images, in a model with one input."""
        return self._single("input", self.inputs)

    @property
    def output(self) -> int:
        """The index of the output, in a model with one."""
        return self._single("output", self.outputs)

    def _single(self, side: str, indices: tuple[int, ...]) -> int:
        if len(indices) != 1:
            names = ", ".join(repr(self.tensors[index].name) for index in indices)
            raise ValueError(
                f"The model has {len(indices)} {side}s, {names}: their indices are in {side}s."
            )
        return indices[0]


Images = NDArray[Any] | Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]]


def run(model: IntegerModel, x: Images) -> Any:
    """Run a model on images of its own input type and return its outputs (lesson 07).

    Args:
        model: The model, from `load`.
        x: Integers of the input tensor's type, shape (n, …), n ≥ 1; float32 images where the file
            begins with a QUANTIZE op for them. For a model with several inputs, a mapping from
            their names to such arrays, or a list, as for `tflite.predict`.

    Returns:
        An array, or a list with one for each of several outputs.

    Raises:
        ValueError: for images of another shape or type.
    """
    batches = list(_batches(model, _checked(model, x)))
    return _joined(
        [np.concatenate([values[index] for values in batches]) for index in model.outputs]
    )


def run_all(model: IntegerModel, x: Images) -> dict[int, NDArray[Any]]:
    """Run a model and return all activations, by their index in the file (lesson 07).

    They include the inputs and the outputs. For the baseline they take 14 kB for each image.

    Raises:
        ValueError: as for `run`.
    """
    batches = list(_batches(model, _checked(model, x), [step.output for step in model.steps]))
    return {index: np.concatenate([values[index] for values in batches]) for index in batches[0]}


def predict(model: IntegerModel, x: Images) -> Any:
    """Run a model on float images and return float outputs, as `tflite.predict` does (lesson 07).

    If an input is an integer tensor, the images are quantized with its scale and zero point, and
    likewise the outputs are dequantized. Everything in between is computed with integers.

    Args:
        model: The model, from `load`.
        x: Images as the float model takes them, shape (n, …), n ≥ 1. For a model with several
            inputs, a mapping from their names to such arrays, or a list, as for `tflite.predict`.

    Returns:
        An array, or a list with one for each of several outputs.

    Raises:
        ValueError: for images of another shape.
    """
    entries = []
    for name, images, index in _named(model, x):
        entry = model.tensors[index]
        images = checked_images(name, images, entry.shape[1:])
        entries.append(images if entry.params is None else quantize(images, entry.params))
    outputs = run(model, as_given(dict(zip(model.input_names, entries, strict=True))))
    exits = [model.tensors[index].params for index in model.outputs]
    pairs = zip(outputs if len(exits) > 1 else [outputs], exits, strict=True)
    return _joined([q if params is None else dequantize(q, params) for q, params in pairs])


def _joined(arrays: list[NDArray[Any]]) -> Any:
    return arrays[0] if len(arrays) == 1 else arrays


def _named(model: IntegerModel, x: Images) -> list[tuple[str, NDArray[Any], int]]:
    """Return each input's images, with their name for messages and the index of the tensor."""
    given = by_input("x", x, model.input_names, listed=model.takes_lists)
    if len(given) > 1:
        require_same_count("x", given)
    return [
        ("x" if len(given) == 1 else f"x[{name!r}]", images, index)
        for (name, images), index in zip(given.items(), model.inputs, strict=True)
    ]


def _checked(model: IntegerModel, x: Images) -> dict[int, NDArray[Any]]:
    return {
        index: checked_images(
            name, images, model.tensors[index].shape[1:], model.tensors[index].dtype
        )
        for name, images, index in _named(model, x)
    }


def _batches(
    model: IntegerModel, images: dict[int, NDArray[Any]], more: Sequence[int] = ()
) -> Iterator[dict[int, NDArray[Any]]]:
    """Yield the inputs, the outputs and more tensors of some images at a time."""
    size = _BATCH if model.keeps_images else 1
    wanted = dict.fromkeys((*model.inputs, *more, *model.outputs))
    for start in range(0, len(next(iter(images.values()))), size):
        values = dict(model.constants)
        values |= {index: array[start : start + size] for index, array in images.items()}
        for step in model.steps:
            inputs = (values[index] for index in step.inputs)
            values[step.output] = step.function(*inputs, **step.arguments)
        yield {index: _in_rows(values[index], model.keeps_images) for index in wanted}


def _in_rows(values: NDArray[Any], keeps_images: bool) -> NDArray[Any]:
    """Return values with a row for each image; all values of a single image are its row."""
    return values if keeps_images or values.shape[:1] == (1,) else values[np.newaxis]
