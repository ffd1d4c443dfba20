"""Look for what would spoil a conversion before the converter starts (lesson 06).

The converter ends the whole process if a value is infinite while it measures the ranges, for
example log(0), and names no layer in most of its own messages. So the model is run here first, with
TensorFlow on many images at a time, and each value that it computes is looked at. The float model's
answers come from the same run, and `trial` compares the new file's answers with them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant_tutorial import flatbuffer, models, op_names, quiet
from quant_tutorial.arguments import by_input
from quant_tutorial.frameworks import tf
from quant_tutorial.tflite.interpreter import Runner
from quant_tutorial.tflite.running import invoke_each
from quant_tutorial.tflite.saved_model import (
    called,
    export_saved_model,
    fixed_batch,
    in_models_order,
    layer_names,
    model_inputs,
    takes_lists,
)

import numpy as np
from numpy.typing import NDArray

INFINITE = (
    "A logarithm of 0 or a division by 0 can be the cause: keep its input away from 0, for example "
    "with keras.ops.log(x + 1e-6), or leave out the images that lead to it."
)
Arrays = Mapping[str, NDArray[Any]]  # for each input of a model, in its order
_BATCH = 100
# What a model does not compute from its images, and ops that only read or say something.
_CONSTANT = ("Const", "ReadVariableOp", "Placeholder", "Identity", "NoOp")
# From finite values these compute finite values, so that they are never the first with others.
_SAFE = (
    "Relu",
    "Relu6",
    "MaxPool",
    "Reshape",
    "Squeeze",
    "ExpandDims",
    "Transpose",
    "Pad",
    "Shape",
)
# These hide the ops of a function that they call.
_CALLS = ("PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "While")


def require_convertible(model: Any) -> None:
    """Raise a ValueError for a Keras model that the converter would take for another one.

    Args:
        model: A Keras 3 or tf_keras model, or the folder of a SavedModel, which is not looked at.
    """
    if not isinstance(model, (str, Path)):
        models.require_float32(model)
        models.require_same_shapes(model)
        models.require_finite_weights(model)


def finite_outputs(model: Any, images: Any, count: int = 0) -> list[NDArray[np.generic]]:
    """Return a model's answers to the first images, when all values that it computes are finite.

    Args:
        model: A Keras 3 or tf_keras model, or the folder of a SavedModel.
        images: Images as the model takes them, shape (n, …), n ≥ 1; for several inputs in the
            forms of `arguments.by_input`. All of them are looked at.
        count: How many answers are wanted.

    Returns:
        An array for each output, in the model's order, with a row for each of the wanted answers.

    Raises:
        ValueError: when a layer computes NaN or infinite values; the message names the first such
            layer and the first such image.
    """
    found: list[Sequence[NDArray[np.generic]]] = []
    arrays = by_input("images", images, [*model_inputs(model)], listed=takes_lists(model))
    for start, batch, run in _runs(model, arrays):
        sums, outputs = run.of(batch)
        if not np.isfinite(sums).all():
            _require_finite(run, batch, start)  # sums of large numbers can be infinite as well
        if start < count:
            found.append([output[: count - start] for output in outputs])
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _require_finite(run: _Run, images: Arrays, start: int) -> None:
    """Raise the error for the first of these images that leads to infinite values, if one does."""
    for place in range(len(next(iter(images.values())))):
        image = {name: each[place : place + 1] for name, each in images.items()}
        fine = np.isfinite(run.of(image)[0])
        if not fine.all():
            raise ValueError(
                f"{run.names[np.argmin(fine)]} computes NaN or infinite values from calibration "
                f"image {start + place}, and the converter ends the process on these. {INFINITE}"
            )


def always_zero(model: Any, images: Arrays | None) -> Iterator[str]:
    """Yield what computes 0 alone from the images, in the model's order; nothing without images.

    `images` holds an array for each input, by name.
    """
    if images is None:
        return
    names: list[str] = []
    active: Any = False
    for _, batch, run in _runs(model, images, safe=()):
        names, active = run.names, active | (run.of(batch)[0] != 0)
    yield from (name for name, some in zip(names, active, strict=True) if not some)


@dataclass
class _Run:
    """A model that returns the sum of the magnitudes of each of its values, and its answers.

    A sum is finite only if all the values are, and 0 only if they all are.
    """

    function: Callable[[Arrays], tuple[Any, Sequence[Any]]]
    names: list[str]  # what computes the values, filled at the first call

    def of(self, batch: Arrays) -> tuple[NDArray[np.floating], list[NDArray[Any]]]:
        """Return the sums of a batch, shape (values,), and the answers."""
        sums, outputs = self.function(batch)
        return np.asarray(sums), [np.asarray(output) for output in outputs]


def _runs(
    model: Any, images: Arrays, *, safe: Sequence[str] = _SAFE
) -> Iterator[tuple[int, Arrays, _Run]]:
    """Yield the images in batches, each with its first number and the model to run it on."""
    run = None if isinstance(model, (str, Path)) else _traced(model, safe)
    size = _BATCH
    if run is None:  # nothing but a file shows what it computes
        run, size = _from_file(model), 1
    for start in range(0, len(next(iter(images.values()))), size):
        yield start, {name: each[start : start + size] for name, each in images.items()}, run


def _traced(model: Any, safe: Sequence[str]) -> _Run | None:
    """Return a Keras model as a graph; None where it hides ops, or keeps something for later."""
    known, names, hidden = set(layer_names(model)), [], []
    inputs, call = model_inputs(model), called(model).outputs
    fixed = fixed_batch(inputs)

    def answers(*batch: Any) -> Any:
        outputs = call(dict(zip(inputs, batch, strict=True)))
        everything = batch[0].graph.get_operations()
        ops = [op for op in everything if op.type not in _CONSTANT]
        hidden.extend(op for op in ops if op.type in _CALLS or op.type.startswith("Assign"))
        # What does not depend on the images, such as a bias of zeros, is no value of a layer.
        fed = _fed_by(batch, everything)
        ops = [op for op in ops if op.name in fed and op.type not in safe]
        values = [value for op in ops for value in op.outputs if value.dtype.is_floating]
        names[:] = [_label(value.op, known) for value in values]
        sums = [tf.reduce_sum(tf.abs(value)) for value in values]
        return tf.stack(sums) if sums else tf.zeros(0), outputs

    specs = [tf.TensorSpec((fixed, *each.shape[1:]), each.dtype) for each in inputs.values()]
    function = tf.function(answers, input_signature=specs, autograph=False)
    with quiet.all_output():
        function.get_concrete_function()

    def of_any_size(batch: Arrays) -> tuple[Any, Sequence[Any]]:
        if fixed is None:
            return function(*batch.values())
        count = len(next(iter(batch.values())))
        parts = [
            np.resize(each, (-(-count // fixed), fixed, *each.shape[1:])) for each in batch.values()
        ]
        sums, outputs = zip(*(function(*part) for part in zip(*parts, strict=True)), strict=True)
        together = (np.concatenate(each)[:count] for each in zip(*outputs, strict=True))
        return np.sum(sums, axis=0), list(together)

    return None if hidden else _Run(of_any_size, names)


def _fed_by(sources: Iterable[Any], ops: Iterable[Any]) -> set[str]:
    """Return the names of the ops that depend on values; the ops are in order of computation."""
    found = {source.op.name for source in sources}
    for op in ops:
        if any(value.op.name in found for value in op.inputs):
            found.add(op.name)
    return found


def _label(op: Any, known: set[str]) -> str:
    """Say which layer an op belongs to, in the reader's names, or what it is computed from."""
    paths = op_names.scopes(op.name)
    for part in reversed(paths[0] if paths else ()):
        for name in (part, op_names.without_suffix(part)):
            if name in known:
                return f"Layer {name}"
    while op.inputs and not op_names.scopes(op.name):
        flowing = [source.op for source in op.inputs if source.op.type != "Const"]
        kind, op = op.type, (flowing or [op.inputs[0].op])[0]
        if op_names.scopes(op.name):
            return f"The operation {kind} after {_label(op, known).removeprefix('Layer ')}"
        if op.type == "Placeholder":
            return f"The operation {kind} on the input"
    return f"The operation {op.name}"


def _from_file(model: Any) -> _Run:
    """Return a model as a float file whose values are looked at one image at a time."""
    with tempfile.TemporaryDirectory() as folder, quiet.all_output():
        export_saved_model(model, folder)
        content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    graph = flatbuffer.graph(in_models_order(content, model))
    made = [(op, tensor) for op in graph.ops for tensor in op.outputs if tensor.is_float]
    runner = Runner(content, graph, kernels="reference", keep_tensors=True)
    entries = [*graph.inputs_by_name.values()]

    def function(batch: Arrays) -> tuple[Any, Sequence[Any]]:
        given = {t.index: each for t, each in zip(entries, batch.values(), strict=True)}
        for _ in invoke_each(runner, graph, given):
            values = [runner.value(tensor.index) for _, tensor in made]
        sums = [np.sum(np.abs(value), dtype=np.float64) for value in values]
        return sums, [runner.value(tensor.index) for tensor in graph.outputs_by_name.values()]

    return _Run(function, [op.title for op, _ in made])
