"""Feed images to a `.tflite` file as its input says: type, shape and number (lessons 06 and 07)."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Any

from quant_tutorial import flatbuffer
from quant_tutorial.affine import quantize
from quant_tutorial.arguments import checked_images, checked_integers
from quant_tutorial.flatbuffer import Graph, Op, Tensor
from quant_tutorial.tflite.interpreter import Runner

import numpy as np
from numpy.typing import NDArray

_PART = 1000  # images that are quantized at a time


def run(model_bytes: bytes, x: NDArray[Any], kernels: str = "default") -> NDArray[Any]:
    """Run a file on images of its own input type and return its outputs as they are (lesson 07).

    Each image is computed as the first one, whatever the file's ops remember. A file that takes
    several images at a time gets as many; the last batch is filled up with its last image.

    Args:
        model_bytes: The content of a `.tflite` file.
        x: Images of the input's type and, except for the first axis, of its shape; n ≥ 1.
        kernels: One of `KERNELS`.

    Raises:
        ValueError: for unknown kernels, bytes that LiteRT does not accept, images of another type
            or shape, and a file with several inputs or outputs.
    """
    graph = flatbuffer.graph(model_bytes)
    entry, exit_ = single_input_output(graph)
    images = _own_images(entry, x)
    runner = make_runner(model_bytes, graph, images, kernels=kernels)
    return outputs_of(runner, graph, images, [exit_])[exit_.index]


def run_all(
    model_bytes: bytes, x: NDArray[Any], kernels: str = "reference"
) -> dict[int, NDArray[Any]]:
    """Run a file and return the input and all tensors that ops compute, by index (lesson 07).

    The arguments are those of `run`. The memory must hold all these tensors for all images. Left
    out are variables, and what a loop computes for itself alone.

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
    runner = make_runner(model_bytes, graph, images, kernels=kernels, keep_tensors=True)
    return outputs_of(runner, graph, images, [*graph.inputs, *_computed(graph)])


def _computed(graph: Graph) -> list[Tensor]:
    """List the tensors that ops compute and LiteRT hands out."""
    used = {tensor.index for op in graph.ops for tensor in op.inputs}
    used |= {tensor.index for tensor in graph.outputs}
    return [
        tensor
        for op in graph.ops
        for tensor in op.outputs
        if tensor.type != "resource" and (op.type != "WHILE" or tensor.index in used)
    ]


def make_runner(model_bytes: bytes, graph: Graph, images: NDArray[Any], **options: Any) -> Runner:
    """Return a file in LiteRT, ready for such images.

    Args:
        model_bytes: The content of the `.tflite` file.
        graph: The same file, read, with one input.
        images: Images as the file takes them, shape (n, …).
        options: As for `make_interpreter`.
    """
    return Runner(model_bytes, graph, **input_options(graph.inputs[0], images), **options)


def input_options(entry: Tensor, images: NDArray[Any]) -> dict[str, Any]:
    """Return options for `make_interpreter` that give open lengths of the input the images' own."""
    if min(entry.shape[1:], default=0) >= 0:
        return {}
    return {"shapes": {entry.index: (batch_size(entry), *images.shape[1:])}}


def outputs_of(
    runner: Runner, graph: Graph, images: NDArray[Any], wanted: list[Tensor]
) -> dict[int, NDArray[Any]]:
    """Run images one batch after another and return tensors with one row for each image.

    Args:
        runner: The file in LiteRT.
        graph: The same file, read, with one input.
        images: Images as the file takes them, shape (n, …).
        wanted: The tensors to return.

    Raises:
        ValueError: when LiteRT refuses an image or fails at an op, and when a file that takes
            several images at a time computes a tensor without a row for each.
    """
    found: dict[int, NDArray[Any]] = {}
    size = batch_size(graph.inputs[0])
    for rows in invoke_each(runner, graph.inputs[0], images):
        for tensor in wanted:
            index = tensor.index
            values = _in_rows(runner.value(index), tensor, size)
            if index not in found:
                found[index] = np.empty((len(images), *values.shape[1:]), values.dtype)
            found[index][rows] = values if size == 1 else values[: rows.stop - rows.start]
    return found


def invoke_each(runner: Runner, entry: Tensor, images: NDArray[Any]) -> Iterator[slice]:
    """Run images one batch after another, and pause after each so that tensors can be read.

    Yields:
        The rows of the images in the batch. If the file takes more than are left, the last image
        fills the batch.
    """
    size = batch_size(entry)
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        rows = slice(start, start + len(batch))
        if len(batch) < size:
            batch = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
        try:
            runner.invoke({entry.index: batch})
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"LiteRT cannot run this file on image {start}: {error}") from None
        yield rows


def file_images(name: str, x: Any, entry: Tensor) -> NDArray[Any]:
    """Return images of the float model as a file takes them.

    Args:
        name: The name of the argument, for the error messages.
        x: Images, shape (n, …): floats, which are quantized with the input's scale and zero point
            if it has some; or integers for an input that holds plain integers, such as the numbers
            of words.
        entry: The file's input.

    Raises:
        ValueError: as for `checked_images` and `checked_integers`, and for an input whose type
            NumPy does not have.
    """
    shape = _image_shape(entry, x)
    if entry.params is not None:
        images = checked_images(name, x, shape)
        integers = np.empty(images.shape, entry.params.dtype)
        # In parts: the 64-bit integers in between would take eight times the memory of the result.
        for start in range(0, len(images), _PART):
            part = slice(start, start + _PART)
            integers[part] = quantize(images[part], entry.params)
        return integers
    if entry.is_float:
        return checked_images(name, x, shape).astype(entry.dtype, copy=False)
    return checked_integers(name, x, shape, entry.dtype)


def single_input_output(graph: Graph) -> tuple[Tensor, Tensor]:
    """Return the input and the output tensor of a graph.

    Raises:
        ValueError: when it has several of either.
    """
    for side, found, way_out in (
        ("input", graph.inputs, "with a single input that holds them side by side"),
        (
            "output",
            graph.outputs,
            "for each: keras.Model(model.inputs, model.outputs[0]) and so on",
        ),
    ):
        if len(found) != 1:
            raise ValueError(
                f"The model must have one {side}, it has {len(found)}. Convert a model {way_out}."
            )
    return graph.inputs[0], graph.outputs[0]


def correct_graph(model_bytes: bytes) -> Graph:
    """Return the graph of a file after a check that LiteRT computes all its ops correctly.

    Raises:
        ValueError: for bytes that are not a `.tflite` model, and for an op that LiteRT runs without
            an error but computes wrongly. A test shows that the current version still does.
    """
    graph = flatbuffer.graph(model_bytes)
    if (op := wrongly_computed(graph)) is not None:
        raise ValueError(
            f"LiteRT {importlib.metadata.version('ai-edge-litert')} computes {op} wrongly: its "
            "convolution reads 2-bit weights as if they had 8 bits, and gives NaN or infinite "
            "numbers without an error. Use recipe 'weight_only_wi2_afp32', which unpacks them "
            "first, or 4 bits."
        )
    return graph


def wrongly_computed(graph: Graph) -> Op | None:
    """Return the first op of a file that LiteRT computes wrongly without an error, or None."""
    for op in graph.ops:
        if op.type == "CONV_2D" and any(tensor.type == "int2" for tensor in op.inputs):
            return op
    return None


def _own_images(entry: Tensor, x: NDArray[Any]) -> NDArray[Any]:
    if entry.params is None:
        return file_images("x", x, entry)
    return checked_images("x", x, _image_shape(entry, x), entry.dtype)


def _image_shape(entry: Tensor, x: Any) -> tuple[int, ...]:
    """Return the shape of one image, with the given lengths where the file leaves them open."""
    if entry.dtype.hasobject:
        raise ValueError(
            f"The model's input holds {entry.type} values, for which NumPy has no type: convert a "
            "model that takes numbers."
        )
    if not entry.shape:
        raise ValueError("The model's input is a single number, without an axis for the images.")
    shape = entry.shape[1:]
    given = np.shape(x)[1:] if min(shape, default=0) < 0 else ()
    if len(given) != len(shape):
        return shape
    return tuple(have if length < 0 else length for length, have in zip(shape, given, strict=True))


def batch_size(entry: Tensor) -> int:
    """Return how many images a file takes at a time: one where it takes any number."""
    return max(entry.shape[0], 1)


def _in_rows(values: NDArray[Any], tensor: Tensor, size: int) -> NDArray[Any]:
    """Return the values of a tensor with one row for each image of a batch."""
    if values.shape[:1] == (size,):
        return values
    if size == 1:  # they all belong to the one image
        return values[np.newaxis]
    raise ValueError(
        f"The file takes {size} images at a time, and its tensor {tensor.name!r} has the shape "
        f"{values.shape}, without a row for each: convert the model for one image at a time."
    )
