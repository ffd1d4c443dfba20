"""Feed images to a `.tflite` file as its input says: type, shape and number (lessons 06 and 07)."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from quant_tutorial import flatbuffer
from quant_tutorial.affine import dequantize, quantize
from quant_tutorial.arguments import by_input, checked_images, checked_integers, require_same_count
from quant_tutorial.flatbuffer import Graph, Op, Tensor
from quant_tutorial.tflite.interpreter import Runner

import numpy as np
from numpy.typing import NDArray

# Images as a file takes them, by the index of the input, all with the same number of rows.
FileInputs = Mapping[int, NDArray[Any]]
_PART = 1000  # images that are quantized at a time


def run(model_bytes: bytes, x: Any, kernels: str = "default") -> Any:
    """Run a file on images of its own input type and return its outputs as they are (lesson 07).

    Each image is computed as the first one, whatever the file's ops remember. A file that takes
    several images at a time gets as many; the last batch is filled up with its last image.

    Args:
        model_bytes: The content of a `.tflite` file.
        x: Images of the input's type and, except for the first axis, of its shape; n ≥ 1. For a
            file with several inputs, such an array for each, as `predict` takes them.
        kernels: One of `KERNELS`.

    Returns:
        An array, or a list with one for each of several outputs, in the order of the model's.

    Raises:
        ValueError: for unknown kernels, bytes that LiteRT does not accept, and images of another
            type or shape.
    """
    graph = flatbuffer.graph(model_bytes)
    images = _own_inputs(graph, x)
    runner = make_runner(model_bytes, graph, images, kernels=kernels)
    return one_or_list(in_order(graph, outputs_of(runner, graph, images, graph.outputs)))


def run_all(model_bytes: bytes, x: Any, kernels: str = "reference") -> dict[int, NDArray[Any]]:
    """Run a file and return the inputs and all tensors that ops compute, by index (lesson 07).

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
    images = _own_inputs(graph, x)
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


def make_runner(model_bytes: bytes, graph: Graph, images: FileInputs, **options: Any) -> Runner:
    """Return a file in LiteRT, ready for such images.

    Args:
        model_bytes: The content of the `.tflite` file.
        graph: The same file, read.
        images: Images as the file takes them, shape (n, …), for each input.
        options: As for `make_interpreter`.
    """
    return Runner(model_bytes, graph, **input_options(graph, images), **options)


def input_options(graph: Graph, images: FileInputs) -> dict[str, Any]:
    """Return options for `make_interpreter` that give open lengths of inputs the images' own."""
    shapes = {
        entry.index: (batch_size(graph), *images[entry.index].shape[1:])
        for entry in graph.inputs
        if min(entry.shape[1:], default=0) < 0
    }
    return {"shapes": shapes} if shapes else {}


def outputs_of(
    runner: Runner, graph: Graph, images: FileInputs, wanted: Iterable[Tensor]
) -> dict[int, NDArray[Any]]:
    """Run images one batch after another and return tensors with one row for each image.

    Args:
        runner: The file in LiteRT.
        graph: The same file, read.
        images: Images as the file takes them, shape (n, …), for each input.
        wanted: The tensors to return.

    Raises:
        ValueError: when LiteRT refuses an image or fails at an op, and when a file that takes
            several images at a time computes a tensor without a row for each.
    """
    found: dict[int, NDArray[Any]] = {}
    size, count = batch_size(graph), _count(images)
    for rows in invoke_each(runner, graph, images):
        for tensor in wanted:
            index = tensor.index
            values = _in_rows(runner.value(index), tensor, size)
            if index not in found:
                found[index] = np.empty((count, *values.shape[1:]), values.dtype)
            found[index][rows] = values if size == 1 else values[: rows.stop - rows.start]
    return found


def invoke_each(runner: Runner, graph: Graph, images: FileInputs) -> Iterator[slice]:
    """Run images one batch after another, and pause after each so that tensors can be read.

    Yields:
        The rows of the images in the batch. If the file takes more than are left, the last image
        fills the batch.
    """
    size, count = batch_size(graph), _count(images)
    for start in range(0, count, size):
        rows = slice(start, min(start + size, count))
        batch = {index: values[rows] for index, values in images.items()}
        if (left := start + size - count) > 0:
            batch = {
                index: np.concatenate([values, np.repeat(values[-1:], left, axis=0)])
                for index, values in batch.items()
            }
        try:
            runner.invoke(batch)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"LiteRT cannot run this file on image {start}: {error}") from None
        yield rows


def file_inputs(name: str, x: Any, graph: Graph) -> dict[int, NDArray[Any]]:
    """Return what a caller gives for a file's inputs as the file takes it, by tensor index.

    Args:
        name: The name of the argument, for the error messages.
        x: What `by_input` takes: values of the float model, for each input as `file_images` does. A
            list only where the file says that its inputs are in the order of its model's.
        graph: The file, read.

    Raises:
        ValueError: as for `by_input` and `file_images`, and for inputs with different numbers of
            images.
    """
    return _for_each_input(name, x, graph, file_images)


def _for_each_input(
    name: str, x: Any, graph: Graph, convert: Callable[[str, Any, Tensor], NDArray[Any]]
) -> dict[int, NDArray[Any]]:
    inputs = graph.inputs_by_name
    if not inputs:
        raise ValueError("The file must have an input, it has none.")
    given = by_input(name, x, [*inputs], listed=graph.takes_lists)
    several = len(inputs) > 1
    arrays = {
        key: convert(f"{name}[{key!r}]" if several else name, values, inputs[key])
        for key, values in given.items()
    }
    require_same_count(name, arrays)
    return {inputs[key].index: values for key, values in arrays.items()}


def in_order(graph: Graph, values: Mapping[int, NDArray[Any]]) -> list[NDArray[Any]]:
    """Return a file's outputs, by tensor index, in the order of its model's."""
    return [values[tensor.index] for tensor in graph.outputs_by_name.values()]


def one_or_list(arrays: list[NDArray[Any]]) -> Any:
    """Return the array of a single output, or the list of several."""
    return arrays[0] if len(arrays) == 1 else arrays


def dequantized(values: NDArray[Any], exit_: Tensor) -> NDArray[Any]:
    """Return the values of an output as real numbers."""
    return values if exit_.params is None else dequantize(values, exit_.params)


def _count(images: FileInputs) -> int:
    return len(next(iter(images.values())))


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
        ("input", graph.inputs_by_name, ""),
        (
            "output",
            graph.outputs_by_name,
            " For a file with one of them, convert keras.Model(model.inputs, model.outputs[0]).",
        ),
    ):
        if len(found) != 1:
            raise ValueError(
                f"The file must have one {side} here, it has {len(found)}: {', '.join(found)}. "
                f"tflite.inputs_outputs returns them all by name.{way_out}"
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


def _own_inputs(graph: Graph, x: Any) -> dict[int, NDArray[Any]]:
    return _for_each_input("x", x, graph, _own_images)


def _own_images(name: str, x: Any, entry: Tensor) -> NDArray[Any]:
    if entry.params is None:
        return file_images(name, x, entry)
    return checked_images(name, x, _image_shape(entry, x), entry.dtype)


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


def batch_size(graph: Graph) -> int:
    """Return how many images a file takes at a time: one where it takes any number.

    Raises:
        ValueError: for inputs that take different numbers of images.
    """
    sizes = {name: max(entry.shape[0], 1) for name, entry in graph.inputs_by_name.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"The file's inputs take different numbers of images at a time ({sizes}): convert the "
            "model for one image at a time, as tflite.convert does."
        )
    return next(iter(sizes.values()))


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
