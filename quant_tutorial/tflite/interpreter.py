"""Run `.tflite` files with LiteRT; no other module makes an interpreter (lessons 06 and 07).

LiteRT is the current name of the TensorFlow Lite runtime. A kernel is the code that computes an op,
and LiteRT has several for each op. The reference kernels are written for clarity, the optimized
ones for speed. XNNPACK, a separate library, is faster still and the default on most processors.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Any

from quant_tutorial import flatbuffer, quiet
from quant_tutorial.arguments import checked_choice, checked_images
from quant_tutorial.flatbuffer import Graph, Tensor

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

KERNELS = {
    "reference": OpResolverType.BUILTIN_REF,
    "optimized": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "default": OpResolverType.AUTO,
}


def make_interpreter(
    model_bytes: bytes,
    *,
    kernels: str = "default",
    threads: int | None = None,
    keep_tensors: bool = False,
) -> Interpreter:
    """Return LiteRT's interpreter for a file, with its tensors allocated (lesson 06).

    LiteRT's log lines are not shown. The file is not checked. LiteRT ends the process on some
    damaged files, so call `flatbuffer.graph` first on bytes that a reader supplies.

    Args:
        model_bytes: The content of the `.tflite` file.
        kernels: One of `KERNELS`.
        threads: How many threads LiteRT may use; None leaves the choice to LiteRT.
        keep_tensors: Whether to keep the values of all tensors, for `get_tensor`. This does not
            work with the default kernels, which fuse ops.

    Raises:
        ValueError: for unknown kernels, or bytes that LiteRT does not accept.
    """
    checked_choice("kernels", kernels, KERNELS)
    try:
        with quiet.all_output():  # LiteRT warns that keeping the tensors takes memory
            interpreter = Interpreter(
                model_content=bytes(model_bytes),
                num_threads=None if threads is None else int(threads),
                experimental_op_resolver_type=KERNELS[kernels],
                experimental_preserve_all_tensors=keep_tensors,
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:  # a wrong header, or wrong content
        raise ValueError(
            f"model_bytes is not a .tflite model that LiteRT can run: {error}"
        ) from None
    return interpreter


def invoke_each(interpreter: Interpreter, images: NDArray[Any]) -> Iterator[None]:
    """Run images one after another and pause after each, so that its tensors can be read.

    Args:
        interpreter: The interpreter for a file that takes one image at a time.
        images: Images of the input's type and, except for the first axis, of its shape.

    Raises:
        ValueError: when the interpreter refuses an image or fails at an op.
    """
    source = interpreter.get_input_details()[0]["index"]
    for index in range(len(images)):
        try:
            interpreter.set_tensor(source, images[index : index + 1])
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"LiteRT cannot run this file on image {index}: {error}") from None
        yield


def run(model_bytes: bytes, x: NDArray[Any], kernels: str = "default") -> NDArray[Any]:
    """Run a file on images of its own input type and return its outputs as they are (lesson 07).

    Args:
        model_bytes: The content of a file that takes one image at a time.
        x: Images of the input's type and, except for the first axis, of its shape; n ≥ 1.
        kernels: One of `KERNELS`.

    Raises:
        ValueError: for unknown kernels, bytes that LiteRT does not accept, images of another type
            or shape, and a file with several inputs or outputs.
    """
    images = _own_images(single_input_output(flatbuffer.graph(model_bytes))[0], x)
    interpreter = make_interpreter(model_bytes, kernels=kernels)
    output = interpreter.get_output_details()[0]["index"]
    outputs = [interpreter.get_tensor(output) for _ in invoke_each(interpreter, images)]
    return np.concatenate(outputs)


def run_all(
    model_bytes: bytes, x: NDArray[Any], kernels: str = "reference"
) -> dict[int, NDArray[Any]]:
    """Run a file and return the input and all tensors that ops compute, by index (lesson 07).

    The arguments are those of `run`. The memory must hold all these tensors for all images.

    Raises:
        ValueError: as for `run`, and for the default kernels, which fuse ops and keep no tensors.
    """
    if kernels == "default":
        raise ValueError(
            "kernels must be reference or optimized, got 'default': XNNPACK keeps no tensors "
            "between its ops."
        )
    graph = flatbuffer.graph(model_bytes)
    images = _own_images(single_input_output(graph)[0], x)
    interpreter = make_interpreter(model_bytes, kernels=kernels, keep_tensors=True)
    made = [tensor.index for op in graph.ops for tensor in op.outputs]
    indices = dict.fromkeys([tensor.index for tensor in graph.inputs] + made)
    found: dict[int, list[NDArray[Any]]] = {index: [] for index in indices}
    for _ in invoke_each(interpreter, images):
        for index, parts in found.items():
            parts.append(interpreter.get_tensor(index))
    return {index: np.concatenate(parts) for index, parts in found.items()}


def single_input_output(graph: Graph) -> tuple[Tensor, Tensor]:
    """Return the input and the output tensor of a graph.

    Raises:
        ValueError: when it has several of either.
    """
    for side, found in (("input", graph.inputs), ("output", graph.outputs)):
        if len(found) != 1:
            raise ValueError(f"The model must have one {side}, it has {len(found)}.")
    return graph.inputs[0], graph.outputs[0]


def correct_graph(model_bytes: bytes) -> Graph:
    """Return the graph of a file after a check that LiteRT computes all its ops correctly.

    Raises:
        ValueError: for bytes that are not a `.tflite` model, and for an op that LiteRT runs without
            an error but computes wrongly. A test shows that the current version still does.
    """
    graph = flatbuffer.graph(model_bytes)
    for op in graph.ops:
        if op.type == "CONV_2D" and any(tensor.type == "int2" for tensor in op.inputs):
            raise ValueError(
                f"LiteRT {importlib.metadata.version('ai-edge-litert')} computes {op} wrongly: its "
                "convolution reads 2-bit weights as if they had 8 bits, and gives NaN or infinite "
                "numbers without an error. Use recipe 'weight_only_wi2_afp32', which unpacks them "
                "first, or 4 bits."
            )
    return graph


def _own_images(entry: Tensor, x: NDArray[Any]) -> NDArray[Any]:
    return checked_images("x", x, entry.shape[1:], entry.dtype)


def delegated_ops(model_bytes: bytes) -> tuple[bool, ...]:
    """Return for each op of a file whether LiteRT hands it to XNNPACK, in the file's order.

    LiteRT decides when it loads the file, by the types of the op's tensors. Lesson 09.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, or one that LiteRT does not accept.
    """
    ops = flatbuffer.graph(model_bytes).ops
    given = dict.fromkeys(range(len(ops)), False)
    maker = {tensor.index: op for op in ops for tensor in op.outputs}
    # LiteRT appends a node for each group of ops that it has handed over, and keeps the old ones.
    for node in make_interpreter(model_bytes)._get_ops_details()[len(ops) :]:
        inputs, waiting = set(node["inputs"]), list(node["outputs"])
        while waiting:
            op = maker.get(waiting.pop())
            if op is not None and not given[op.index]:
                given[op.index] = True
                waiting += [t.index for t in op.inputs if t.index not in inputs]
    return tuple(given.values())
