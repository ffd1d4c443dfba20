"""Predict with a `.tflite` file and measure its accuracy with LiteRT (lesson 06)."""

from __future__ import annotations

import time
from typing import NamedTuple

from quant_tutorial import flatbuffer, metrics
from quant_tutorial.affine import dequantize
from quant_tutorial.arguments import checked_classes
from quant_tutorial.flatbuffer import Tensor
from quant_tutorial.tflite.running import (
    correct_graph,
    file_images,
    make_runner,
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


def input_output(model_bytes: bytes) -> tuple[Tensor, Tensor]:
    """Return the input and the output tensor of a `.tflite` file (lesson 06).

    Raises:
        ValueError: when the bytes are not a `.tflite` model, or one with several inputs or outputs.
    """
    return single_input_output(flatbuffer.graph(model_bytes))


def predict(
    model_bytes: bytes, x: NDArray[np.float32], *, threads: int | None = None
) -> NDArray[np.float32]:
    """Run a `.tflite` model on float images with LiteRT and return float outputs (lesson 06).

    If the input is an integer tensor, the images are quantized with its scale and zero point
    (rounded and clipped). Likewise, integer outputs are dequantized with those of the output. An
    input of plain integers, such as the numbers of words, takes integers.

    Each image is computed as the first one, whatever the file's ops remember from run to run. A
    file that takes several images at a time gets as many; the last batch is filled up.

    Args:
        model_bytes: The content of a `.tflite` file with one input and one output.
        x: Images as the float model takes them, shape (n, …), n ≥ 1.
        threads: How many threads LiteRT may use; None leaves the choice to LiteRT.

    Raises:
        ValueError: when the bytes are not a `.tflite` model that LiteRT runs correctly, or the
            images are integers or have the wrong shape.
    """
    return _run(model_bytes, x, threads)[0]


def evaluate(model_bytes: bytes, x: NDArray[np.float32], y: NDArray[np.integer]) -> Evaluation:
    """Measure a `.tflite` model on images and labels with LiteRT (lesson 06).

    The time is that of LiteRT alone, with one image at a time and the default number of threads. It
    does not include quantizing the images and dequantizing the outputs, which NumPy does here.

    Args:
        model_bytes: The content of the `.tflite` file.
        x: Images as the float model takes them, shape (n, …).
        y: The true classes, shape (n,).

    Raises:
        ValueError: as for `predict`, for labels that are not one class for each image, and for a
            model whose output is not one number for each of at least two classes.
    """
    x, y = np.asarray(x), np.asarray(y)
    if y.shape != x.shape[:1]:
        way_out = ""
        if y.ndim == 2:
            is_column = y.shape[1] == 1
            way_out = " Give y[:, 0]." if is_column else " One-hot labels need y.argmax(axis=1)."
        raise ValueError(
            f"y must hold one class for each image, shape {x.shape[:1]}, got {y.shape}.{way_out}"
        )
    y = checked_classes("y", y)
    outputs, seconds = _run(model_bytes, x, None)
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
    return Evaluation(accuracy, predictions, outputs, confusion, seconds / len(x))


def _run(
    model_bytes: bytes, x: NDArray[np.float32], threads: int | None
) -> tuple[NDArray[np.float32], float]:
    """Return the outputs and the seconds that LiteRT took."""
    graph = correct_graph(model_bytes)
    entry, exit_ = single_input_output(graph)
    images = file_images("x", x, entry)
    runner = make_runner(model_bytes, graph, images, threads=threads)
    start = time.perf_counter()
    outputs = outputs_of(runner, graph, images, [exit_])[exit_.index]
    seconds = time.perf_counter() - start
    return (outputs if exit_.params is None else dequantize(outputs, exit_.params)), seconds
