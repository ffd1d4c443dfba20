"""Run a `.tflite` file on LiteRT's different kernels, and see every tensor (lesson 07).

A kernel is the code that computes an op. LiteRT has several for each: the reference kernels are
written to be read, the optimized ones to be fast, and XNNPACK, a library of its own, is faster
still and the default on most processors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quant_tutorial import quiet

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

KERNELS = {
    "reference": OpResolverType.BUILTIN_REF,
    "optimized": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "default": OpResolverType.AUTO,
}


def run(model_bytes: bytes, x: NDArray[Any], kernels: str = "default") -> NDArray[Any]:
    """Run a file on images of its own input type and give its outputs as they are (lesson 07).

    Args:
        model_bytes: The content of a file that takes one image at a time.
        x: Images of the type and, but for the first axis, the shape of the input; n ≥ 1.
        kernels: One of `KERNELS`.

    Raises:
        ValueError: for unknown kernels, bytes that LiteRT does not take, or other images.
    """
    interpreter = _interpreter(model_bytes, kernels, keep=False)
    output = interpreter.get_output_details()[0]["index"]
    return np.concatenate([interpreter.get_tensor(output) for _ in _invoked(interpreter, x)])


def run_all(
    model_bytes: bytes, x: NDArray[Any], kernels: str = "reference"
) -> dict[int, NDArray[Any]]:
    """Run a file and give every tensor that an op computes, and the input, by index (lesson 07).

    Images and shapes as for `run`; the memory is that of all these tensors for all images.

    Raises:
        ValueError: as for `run`; and for the default kernels, which fuse ops and keep no tensors.
    """
    if kernels == "default":
        raise ValueError(
            "kernels must be reference or optimized, got 'default': XNNPACK keeps no tensors "
            "between its ops."
        )
    interpreter = _interpreter(model_bytes, kernels, keep=True)
    inputs = [details["index"] for details in interpreter.get_input_details()]
    made = [int(index) for op in interpreter._get_ops_details() for index in op["outputs"]]
    found: dict[int, list[NDArray[Any]]] = {index: [] for index in dict.fromkeys([*inputs, *made])}
    for _ in _invoked(interpreter, x):
        for index, parts in found.items():
            parts.append(interpreter.get_tensor(index))
    return {index: np.concatenate(parts) for index, parts in found.items()}


def _interpreter(model_bytes: bytes, kernels: str, *, keep: bool) -> Interpreter:
    if kernels not in KERNELS:
        raise ValueError(f"kernels must be one of {', '.join(KERNELS)}, got {kernels!r}.")
    try:
        with quiet.all_output():  # LiteRT warns that keeping the tensors takes memory
            interpreter = Interpreter(
                model_content=bytes(model_bytes),
                experimental_op_resolver_type=KERNELS[kernels],
                experimental_preserve_all_tensors=keep,
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"model_bytes is not a .tflite model that LiteRT can run: {error}"
        ) from None
    return interpreter


def _invoked(interpreter: Interpreter, x: NDArray[Any]) -> Iterator[None]:
    """Run the images one after another, stopping after each."""
    entry = interpreter.get_input_details()[0]
    shape = tuple(int(size) for size in entry["shape"])
    if shape[0] != 1 or x.shape[1:] != shape[1:] or len(x) == 0 or x.dtype != entry["dtype"]:
        wanted = f"{np.dtype(entry['dtype'])} images of shape {('n', *shape[1:])}, n ≥ 1"
        raise ValueError(f"x must hold {wanted}, got {x.dtype} of shape {x.shape}.")
    for index in range(len(x)):
        interpreter.set_tensor(entry["index"], x[index : index + 1])
        interpreter.invoke()
        yield
