"""Run a full-integer model from `load` with integers alone (lesson 07)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from quant_tutorial.affine import dequantize, quantize
from quant_tutorial.arguments import checked_images
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
    tensors: tuple[Tensor, ...]  # as numbered in the file
    input: int  # index of the tensor that holds the images
    output: int
    constants: Mapping[int, NDArray[np.integer]]  # inputs of ops that are not activations


def run(model: IntegerModel, x: NDArray[Any]) -> NDArray[Any]:
    """Run a model on images of its own input type and return its outputs (lesson 07).

    Args:
        model: The model, from `load`.
        x: Integers of the input tensor's type, shape (n, …), n ≥ 1; float32 images where the file
            begins with a QUANTIZE op for them.

    Raises:
        ValueError: for images of another shape or type.
    """
    return np.concatenate([values[model.output] for values in _batches(model, x)])


def run_all(model: IntegerModel, x: NDArray[Any]) -> dict[int, NDArray[Any]]:
    """Run a model and return all activations, by their index in the file (lesson 07).

    They include the input and the output. For the baseline they take 14 kB for each image.

    Raises:
        ValueError: as for `run`.
    """
    batches = list(_batches(model, x))
    indices = [model.input, *(step.output for step in model.steps)]
    return {index: np.concatenate([values[index] for values in batches]) for index in indices}


def predict(model: IntegerModel, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a model on float images and return float outputs, as `tflite.predict` does (lesson 07).

    If the input is an integer tensor, the images are quantized with its scale and zero point, and
    likewise the outputs are dequantized. Everything in between is computed with integers.

    Args:
        model: The model, from `load`.
        x: Images as the float model takes them, shape (n, …), n ≥ 1.

    Raises:
        ValueError: for images of another shape.
    """
    source, target = model.tensors[model.input].params, model.tensors[model.output].params
    x = checked_images("x", x, model.tensors[model.input].shape[1:])
    outputs = run(model, x if source is None else quantize(x, source))
    return outputs if target is None else dequantize(outputs, target)


def _batches(model: IntegerModel, x: NDArray[Any]) -> Iterator[dict[int, NDArray[Any]]]:
    entry = model.tensors[model.input]
    x = checked_images("x", x, entry.shape[1:], entry.dtype)
    for start in range(0, len(x), _BATCH):
        values = {**model.constants, model.input: x[start : start + _BATCH]}
        for step in model.steps:
            inputs = (values[index] for index in step.inputs)
            values[step.output] = step.function(*inputs, **step.arguments)
        yield values
