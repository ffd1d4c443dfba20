"""Look for what would spoil a conversion before the converter starts (lesson 06).

The converter ends the whole process if a value is infinite while it measures the ranges, for
example log(0), and names no layer in most of its own messages. So the model is run here first, with
TensorFlow on many images at a time, and each value that it computes is looked at. For the course's
model and 500 images this takes a fifth of a second on one core, the conversion about one second.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant_tutorial import flatbuffer, models, op_names, quiet
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.tflite.interpreter import Runner, make_interpreter
from quant_tutorial.tflite.running import invoke_each
from quant_tutorial.tflite.saved_model import export_saved_model, layer_names, model_input, packed

import numpy as np
from numpy.typing import NDArray

INFINITE = (
    "A logarithm of 0 or a division by 0 can be the cause: keep its input away from 0, for example "
    "with keras.ops.log(x + 1e-6), or leave out the images that lead to it."
)
_BATCH = 100
# What a model does not compute from its images, and ops that only read or say something.
_CONSTANT = ("Const", "ReadVariableOp", "Placeholder", "Identity", "NoOp")
# These hide the ops of a function that they call.
_CALLS = ("PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "While")


def require_convertible(model: Any) -> None:
    """Raise a ValueError for a Keras model with other types than float32, or with wrong weights.

    Args:
        model: A Keras 3 or tf_keras model, or the folder of a SavedModel, which is not looked at.
    """
    if not isinstance(model, (str, Path)):
        models.require_float32(model)
        models.require_finite_weights(model)


def require_finite_values(model: Any, images: NDArray[np.float32]) -> None:
    """Raise a ValueError if a layer computes NaN or infinite values from some of the images.

    The message names the first such layer and the first such image.

    Args:
        model: A Keras 3 or tf_keras model, or the folder of a SavedModel.
        images: Images as the model takes them, shape (n, …), n ≥ 1.
    """
    for start, batch, run in _runs(model, images):
        flags = run.flags(batch)
        if flags[0].all():
            continue
        each = (run.flags(image[np.newaxis])[0] for image in batch)
        place, found = next(
            ((place, fine) for place, fine in enumerate(each) if not fine.all()), (0, flags[0])
        )
        raise ValueError(
            f"{run.names[np.argmin(found)]} computes NaN or infinite values from calibration image "
            f"{start + place}, and the converter ends the process on these. {INFINITE}"
        )


def require_runnable(content: bytes, zero: Iterable[str]) -> None:
    """Raise a ValueError for a new file that LiteRT does not run, with a layer that is always 0.

    Args:
        content: The file.
        zero: What computes 0 alone from the calibration images; taken only if it is needed.
    """
    try:
        flatbuffer.graph(content)
        make_interpreter(content)
    except ValueError as error:
        reason = str(error).removeprefix("model_bytes is not a .tflite model that LiteRT can run: ")
        way_out = "Dynamic-range quantization needs no ranges of the activations."
        if (idle := next(iter(zero), None)) is not None:
            way_out = (
                f"{idle} returns 0 for all calibration images, so that its values have no range. "
                f"Give images for which it does not, or take it out of the model. {way_out}"
            )
        raise ValueError(
            f"LiteRT cannot run the file that results ({reason.rstrip('.')}). {way_out}"
        ) from None


def always_zero(model: Any, images: NDArray[np.float32] | None) -> Iterator[str]:
    """Yield what computes 0 alone from the images, in the model's order; nothing without images."""
    if images is None:
        return
    names: list[str] = []
    active: Any = False
    for _, batch, run in _runs(model, images):
        names, active = run.names, active | run.flags(batch)[1]
    yield from (name for name, some in zip(names, active, strict=True) if not some)


@dataclass
class _Run:
    """A model that says of each of its values whether all are finite, and whether any is not 0."""

    function: Any
    names: list[str]  # what computes them, filled at the first call

    def flags(self, batch: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return the answers for a batch, shape (2, values)."""
        return np.asarray(self.function(batch))


def _runs(
    model: Any, images: NDArray[np.float32]
) -> Iterator[tuple[int, NDArray[np.float32], _Run]]:
    """Yield the images in batches, each with its first number and the model to run it on."""
    run = None if isinstance(model, (str, Path)) else _traced(model, images)
    size = _BATCH
    if run is None:  # nothing but a file shows what it computes
        run, size = _from_file(model), 1
    for start in range(0, len(images), size):
        yield start, images[start : start + size], run


def _traced(model: Any, images: NDArray[np.float32]) -> _Run | None:
    """Return a Keras model as a graph with the answers as outputs; None where it hides ops."""
    known, names, hidden = set(layer_names(model)), [], []
    plain = models.single_ended(model) if isinstance(model, keras.Model) else model

    def answers(batch: Any) -> Any:
        plain(packed(batch, getattr(plain, "input", None)), training=False)
        ops = [op for op in batch.graph.get_operations() if op.type not in _CONSTANT]
        hidden.extend(op for op in ops if op.type in _CALLS)
        values = [value for op in ops for value in op.outputs if value.dtype.is_floating]
        names[:] = [_label(value.op, known) for value in values]
        finite = [tf.reduce_all(tf.math.is_finite(value)) for value in values]
        # What does not depend on the images, such as a bias of zeros, is no value of a layer.
        fed = _fed_by(batch, batch.graph.get_operations())
        active = [
            tf.reduce_any(tf.not_equal(value, 0)) if value.op.name in fed else tf.constant(True)
            for value in values
        ]
        return tf.stack([finite, active])

    entry = model_input(model)
    fixed = entry.shape[0]
    spec = tf.TensorSpec((fixed, *images.shape[1:]), entry.dtype)
    function = tf.function(answers, input_signature=[spec], autograph=False)
    with quiet.all_output():
        function.get_concrete_function()

    def of_any_size(batch: NDArray[np.float32]) -> Any:
        if fixed is None:
            return function(batch)
        parts = np.resize(batch, (-(-len(batch) // fixed), fixed, *batch.shape[1:]))
        flags = np.stack([function(part).numpy() for part in parts])
        return np.stack([flags[:, 0].all(axis=0), flags[:, 1].any(axis=0)])

    return None if hidden else _Run(of_any_size, names)


def _fed_by(source: Any, ops: Iterable[Any]) -> set[str]:
    """Return the names of the ops that depend on a value; the ops are in order of computation."""
    found = {source.op.name}
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
    graph = flatbuffer.graph(content)
    made = [(op, tensor) for op in graph.ops for tensor in op.outputs if tensor.is_float]
    runner = Runner(content, graph, kernels="reference", keep_tensors=True)

    def function(batch: NDArray[np.float32]) -> list[list[bool]]:
        for _ in invoke_each(runner, graph.inputs[0], batch):
            values = [runner.value(tensor.index) for _, tensor in made]
        return [[np.isfinite(v).all() for v in values], [np.any(v) for v in values]]

    return _Run(function, [f"O{str(op)[1:]}" for op, _ in made])
