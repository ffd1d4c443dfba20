"""Predict with a `.tflite` file and measure its accuracy with LiteRT (lesson 06)."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from quant_tutorial import flatbuffer, metrics
from quant_tutorial.arguments import checked_choice, checked_classes, checked_whole, is_whole
from quant_tutorial.flatbuffer import Graph, Tensor
from quant_tutorial.tflite.running import (
    FileInputs,
    correct_graph,
    dequantized,
    file_inputs,
    make_runner,
    one_or_list,
    outputs_of,
    single_input_output,
)

import numpy as np
from numpy.typing import NDArray


class Evaluation(NamedTuple):
    """What a model predicts for a set of images, and how often it is right (lesson 06)."""

    accuracy: float  # 0 to 1
    predictions: NDArray[np.int64]  # (images,)
    outputs: NDArray[np.float32]  # (images, classes), dequantized
    confusion: NDArray[np.int64]  # (classes, classes): a row for each true class
    seconds_per_image: float  # in LiteRT alone: setting the input, running, getting the output


def tensors(model_bytes: bytes) -> list[Tensor]:
    """List the tensors of a `.tflite` file, activations, weights and biases (lesson 06).

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    return list(flatbuffer.graph(model_bytes).tensors)


def inputs_outputs(model_bytes: bytes) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the inputs and the outputs of a `.tflite` file by their names (lesson 06).

    They are in the order in which `predict` takes and returns them.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    graph = flatbuffer.graph(model_bytes)
    return graph.inputs_by_name, graph.outputs_by_name


def input_output(model_bytes: bytes) -> tuple[Tensor, Tensor]:
    """Return the input and the output tensor of a `.tflite` file (lesson 06).

    Raises:
        ValueError: when the bytes are not a `.tflite` model, or one with several inputs or outputs.
    """
    return single_input_output(flatbuffer.graph(model_bytes))


def predict(model_bytes: bytes, x: Any, *, threads: int | None = None) -> Any:
    """Run a `.tflite` model on float images with LiteRT and return float outputs (lesson 06).

    If the input is an integer tensor, the images are quantized with its scale and zero point
    (rounded and clipped). Likewise, integer outputs are dequantized with those of the output. An
    input of plain integers, such as the numbers of words, takes integers.

    Each image is computed as the first one, whatever the file's ops remember from run to run. A
    file that takes several images at a time gets as many; the last batch is filled up.

    Args:
        model_bytes: The content of a `.tflite` file.
        x: Images as the float model takes them, shape (n, …), n ≥ 1. For a file with several
            inputs, a mapping from the names of its inputs (those of the model's Input layers) to
            such arrays. For a file of `convert`, `export_litert` or `apply_recipe`, it may be a
            list in the order of the model's inputs; no other file tells this order.
        threads: How many threads LiteRT may use; None leaves the choice to LiteRT.

    Returns:
        An array of float32, or a list with one for each of several outputs, in the order of
        `keras.tree.flatten(model.outputs)`.

    Raises:
        ValueError: when the bytes are not a `.tflite` model that LiteRT runs correctly, or the
            images are integers or have the wrong shape.
    """
    graph = correct_graph(model_bytes)
    outputs = _run(model_bytes, graph, file_inputs("x", x, graph), threads)[0]
    return one_or_list([*outputs.values()])


def evaluate(
    model_bytes: bytes, x: Any, y: NDArray[np.integer], *, output: str | int | None = None
) -> Evaluation:
    """Measure a `.tflite` model on images and labels with LiteRT (lesson 06).

    The time is that of LiteRT alone, with one image at a time and the default number of threads. It
    does not include quantizing the images and dequantizing the outputs, which NumPy does here.

    Args:
        model_bytes: The content of the `.tflite` file.
        x: Images as the float model takes them, shape (n, …); for several inputs as for `predict`.
        y: The true classes, shape (n,).
        output: The name or the number of the output that holds the classes, for a file with
            several.

    Raises:
        ValueError: as for `predict`, for labels that are not one class for each image, for a model
            whose output is not one number for each of at least two classes, and for an output that
            is not chosen, or that the file does not have.
    """
    graph, y = correct_graph(model_bytes), np.asarray(y)
    name = chosen_output(model_bytes, output)
    images = file_inputs("x", x, graph)
    count = len(next(iter(images.values())))
    if y.shape != (count,):
        way_out = ""
        if y.ndim == 2:
            is_column = y.shape[1] == 1
            way_out = " Give y[:, 0]." if is_column else " One-hot labels need y.argmax(axis=1)."
        raise ValueError(
            f"y must hold one class for each image, shape {(count,)}, got {y.shape}.{way_out}"
        )
    y = checked_classes("y", y)
    found, seconds = _run(model_bytes, graph, images, None)
    outputs = found[name]
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(
            "The model must give one number for each of two classes or more, shape ('n', classes); "
            f"its output has the shape {('n', *outputs.shape[1:])}. Use predict, which takes any. "
            f"{metrics.ONE_OUTPUT}"
        )
    predictions, classes = outputs.argmax(axis=1), outputs.shape[1]
    accuracy = metrics.accuracy(outputs, y)
    if np.min(y) < 0 or np.max(y) >= classes:
        raise ValueError(
            f"y must hold classes from 0 to {classes - 1}, got {np.min(y)} to {np.max(y)}."
        )
    confusion = metrics.confusion(predictions, y, classes)
    return Evaluation(accuracy, predictions, outputs, confusion, seconds / count)


def chosen_output(model_bytes: bytes, output: str | int | None = None) -> str:
    """Return the name of the output that holds the classes: that of the only one, or `output`.

    Args:
        model_bytes: The content of the `.tflite` file.
        output: A name, or a number in the order of the model's outputs.

    Raises:
        ValueError: for several outputs of which none is chosen, and for an output that the file
            does not have.
    """
    names = [*flatbuffer.graph(model_bytes).outputs_by_name]
    if output is None and len(names) == 1:
        return names[0]
    if output is None:
        raise ValueError(
            f"The file has {len(names)} outputs, {', '.join(names)}: say which one holds the "
            f"classes, as in output={names[0]!r}."
        )
    if is_whole(output):
        return names[checked_whole("output", output, 0, len(names) - 1)]
    return checked_choice("output", output, names)


def _run(
    model_bytes: bytes, graph: Graph, images: FileInputs, threads: int | None
) -> tuple[dict[str, NDArray[Any]], float]:
    """Return the outputs by name, and the seconds that LiteRT took."""
    runner = make_runner(model_bytes, graph, images, threads=threads)
    start = time.perf_counter()
    values = outputs_of(runner, graph, images, graph.outputs)
    seconds = time.perf_counter() - start
    exits = graph.outputs_by_name
    return {name: dequantized(values[exits[name].index], exits[name]) for name in exits}, seconds
