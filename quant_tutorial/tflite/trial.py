"""Try a file out before it is handed over: run it, and compare it with its float model (lesson 06).

Whatever goes wrong in a conversion shows in the new file's answers: on a few of the calibration
images they are compared with the float model's. Where they are far apart, the question is whether
the scheme explains it. Few bits, and one scale for channels of different sizes, make a bad file
without any fault. So the float file then gets the weights as the new file rounds them, and each op
is compared with its float op on the same input (`op_errors`). What is left is the rounding of the
activations, half a step at most, and whatever is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from quant_tutorial import flatbuffer, metrics
from quant_tutorial.arguments import ModelInput, Range, as_given, checked_inputs, ranges_by_input
from quant_tutorial.flatbuffer import CASTS, WEIGHTED, Graph, Op, Tensor
from quant_tutorial.tflite.interpreter import Runner
from quant_tutorial.tflite.op_errors import TensorError, file_errors
from quant_tutorial.tflite.running import (
    correct_graph,
    dequantized,
    file_inputs,
    input_options,
    outputs_of,
    wrongly_computed,
)
from quant_tutorial.tflite.saved_model import called, fixed_batch, model_inputs, takes_lists

import numpy as np
from numpy.typing import NDArray

TRIED = 16  # images
# The answers of 8-bit files have an SQNR of 20 to 50 dB. Below this limit their ops are looked at.
_ENOUGH_DB = 5.0
# The same against a model that rounds as the file does.
_SIMULATED_DB = 20.0
_LARGEST_OWN = 4.0  # steps, fourteen times the error of rounding
_LOST_DB = 10.0  # the SQNR of an op's values below which they are no good
_HALF = 0.51  # steps by which weights are rounded; the scale itself is rounded to a float32


@dataclass(frozen=True)
class Comparison:
    """How far the answers of a file are from its float model's (lesson 06)."""

    images: int
    sqnr_db: float  # infinite for the same answers
    largest: float  # the largest difference
    step: float | None  # the scale of the file's output, None for floats
    output: str = ""  # its name in a file with several outputs

    def __str__(self) -> str:
        """Say in a sentence what was compared, and how far apart it is."""
        steps = "" if self.step is None else f" ({self.largest / self.step:.1f} output steps)"
        where = f" at output {self.output}" if self.output else ""
        return (
            f"On {self.images} images the file's answers{where} differ from the float model's by "
            "at most "
            f"{self.largest:.3g}{steps}; their SQNR is {self.sqnr_db:.1f} dB."
        )


def compare(float_model: Any, model_bytes: bytes, images: Any) -> Comparison | list[Comparison]:
    """Compare the answers of a `.tflite` file with those of the model it was made from (lesson 06).

    Args:
        float_model: The float file, or a model that `tflite.convert` accepts.
        model_bytes: The file.
        images: Images as the float model takes them, shape (n, …), n ≥ 1; a dozen are enough. For
            several inputs a mapping or a list, as for `convert`.

    Returns:
        The comparison, or a list with one for each of several outputs.

    Raises:
        ValueError: when the bytes are not a `.tflite` model that LiteRT runs correctly, and when
            the images are missing or do not fit the model.
    """
    graph = correct_graph(model_bytes)
    if isinstance(float_model, bytes):
        expected = _outputs(float_model, correct_graph(float_model), images)
    else:
        inputs, listed = model_inputs(float_model), takes_lists(float_model)
        images = as_given(checked_inputs("images", images, inputs, listed=listed))
        expected = float_outputs(float_model, images)
    outputs, exits = _outputs(model_bytes, graph, images), graph.outputs_by_name
    if [each.size for each in expected] != [each.size for each in outputs]:
        shapes, other = (
            ", ".join(str(each.shape) for each in found) for found in (expected, outputs)
        )
        raise ValueError(
            f"float_model gives outputs of the shape {shapes}, and model_bytes of the "
            f"shape {other}: compare a file with the model that it was made from."
        )
    several = len(outputs) > 1
    found = [
        Comparison(
            images=len(after),
            sqnr_db=_sqnr_db(before, after),
            largest=float(
                np.abs(before.reshape(after.shape).astype(np.float64) - after).max(initial=0)
            ),
            step=None if exit_.params is None else float(exit_.params.scale),
            output=name if several else "",
        )
        for (name, exit_), before, after in zip(exits.items(), expected, outputs, strict=True)
    ]
    return found if several else found[0]


def float_outputs(model: Any, images: Any) -> list[NDArray[Any]]:
    """Return a model's answers to images, an array for each output.

    The model stays as it is, also where it keeps something for its next call.

    Args:
        model: A Keras 3 or tf_keras model, or the folder of a SavedModel.
        images: Images as the model takes them, shape (n, …), n ≥ 1; for several inputs in the forms
            of `arguments.by_input`.
    """
    inputs, call = model_inputs(model), called(model).outputs
    given = checked_inputs("images", images, inputs, listed=takes_lists(model))
    kept: list[tuple[Any, NDArray[Any]]] = []
    if not isinstance(model, (str, Path)):
        kept = [(variable, variable.numpy()) for variable in model.non_trainable_variables]
    count = len(next(iter(given.values())))
    size = fixed_batch(inputs) or count
    times = -(-count // size)
    filled = {
        name: np.split(np.resize(each, (times * size, *each.shape[1:])), times)
        for name, each in given.items()
    }
    parts = [call({name: filled[name][place] for name in filled}) for place in range(times)]
    for variable, value in kept:
        if not np.array_equal(variable.numpy(), value):
            variable.assign(value)
    return [np.concatenate(each)[:count] for each in zip(*parts, strict=True)]


def drawn(inputs: Mapping[str, Any], input_range: Range | Mapping[str, Range]) -> Any:
    """Return a few arrays as a model takes them, where there are no calibration images.

    They are random numbers from the range; for whole numbers, which may stand for anything, zeros.

    Args:
        inputs: What has the shape and the type of each input, by its name.
        input_range: As for `arguments.ranges_by_input`.
    """
    entries = {
        name: ModelInput(tuple(entry.shape), np.dtype(entry.dtype))
        for name, entry in inputs.items()
    }
    ranges, random = ranges_by_input(input_range, entries), np.random.default_rng(0)
    arrays = {}
    for name, entry in entries.items():
        shape = (TRIED, *entry.shape[1:])
        if entry.is_integer:
            arrays[name] = np.zeros(shape, entry.dtype)
        else:
            low, high = ranges[name] or (0.0, 1.0)
            arrays[name] = random.uniform(low, high, shape).astype(np.float32)
    return as_given(arrays)


class File(NamedTuple):
    """A file, read and in LiteRT."""

    content: bytes
    graph: Graph
    runner: Runner


def started(content: bytes, zero: Iterable[str] = ()) -> File:
    """Return a new file, read and in LiteRT, or raise a ValueError for one that does not run.

    Args:
        content: The file.
        zero: What computes 0 alone from the calibration images; taken only if it is needed.
    """
    try:
        graph = flatbuffer.graph(content)
        return File(content, graph, Runner(content, graph))
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


def require_sound(
    file: File,
    images: NDArray[Any],
    expected: Sequence[NDArray[Any]],
    float_file: Callable[[], bytes],
    enough_db: float = _ENOUGH_DB,
    *,
    calibrated: bool = True,
) -> None:
    """Raise a ValueError for a new file that is worse than its scheme explains.

    Args:
        file: What `started` returns.
        images: Images as the float model takes them, for several inputs by their names.
        expected: The float model's answers to them, an array for each output.
        float_file: Makes the float file of the model; called only if it is needed.
        enough_db: The SQNR from which on nothing more is looked at.
        calibrated: Whether the file was calibrated with these images. Others may leave its ranges.
    """
    content, graph, runner = file
    if wrongly_computed(graph) is not None:  # `predict` says so
        return
    outputs = _outputs(content, graph, images, runner)
    if _are_enough(expected, outputs, enough_db):
        return
    # A model that looks at the whole batch, or draws at random, differs from any file of it.
    floats = float_file()
    float_graph = flatbuffer.graph(floats)
    if not _are_enough(_outputs(floats, float_graph, images), outputs, enough_db):
        _refuse_unexplained(content, graph, floats, images, calibrated)


def require_like_model(
    content: bytes,
    model: Any,
    input_range: tuple[float, float] | None,
    float_file: Callable[[], bytes],
) -> None:
    """Raise a ValueError for a new file that does not run, or computes other answers than a model.

    The images are random numbers.

    Args:
        content: The file.
        model: A model that rounds as the file does.
        input_range: The range of its input; None for 0 to 1.
        float_file: As for `require_sound`.
    """
    images = drawn(model_inputs(model), input_range)
    expected = float_outputs(model, images)
    require_sound(started(content), images, expected, float_file, _SIMULATED_DB, calibrated=False)


def require_like_floats(
    content: bytes, float_bytes: bytes, images: NDArray[Any], zero: Iterable[str] = ()
) -> None:
    """Raise a ValueError for a new file that does not run, or is worse than its scheme explains.

    Args:
        content: The file.
        float_bytes: The float file that it was made from.
        images: Images as the float file takes them.
        zero: As for `started`.
    """
    file, graph = started(content, zero), flatbuffer.graph(float_bytes)
    expected = _outputs(float_bytes, graph, images)
    require_sound(file, images, expected, lambda: float_bytes)


def _outputs(
    content: bytes, graph: Graph, images: Any, runner: Runner | None = None
) -> list[NDArray[Any]]:
    """Return a file's outputs for images, as real numbers and in the order of its model's."""
    given = file_inputs("images", images, graph)
    runner = runner or Runner(content, graph, **input_options(graph, given))
    values = outputs_of(runner, graph, given, graph.outputs)
    return [dequantized(values[t.index], t) for t in graph.outputs_by_name.values()]


def _are_enough(
    expected: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]], enough_db: float
) -> bool:
    """Return whether all answers are near enough, or cannot be compared."""
    return len(expected) != len(outputs) or all(
        before.size != after.size
        or not before.size
        or not np.isfinite(before).all()
        or _sqnr_db(before, after) >= enough_db
        for before, after in zip(expected, outputs, strict=True)
    )


def _sqnr_db(expected: NDArray[Any], outputs: NDArray[Any]) -> float:
    """Return the SQNR in dB: infinite for the same answers, and minus infinity for zeros alone."""
    expected, outputs = (values.astype(np.float64).ravel() for values in (expected, outputs))
    if np.array_equal(expected, outputs):
        return np.inf
    return float(metrics.sqnr_db(expected, outputs)) if expected.any() else -np.inf


def _refuse_unexplained(
    content: bytes, graph: Graph, float_bytes: bytes, images: NDArray[Any], calibrated: bool
) -> None:
    """Raise a ValueError that names the op whose error the scheme does not explain, if one does."""
    floats = flatbuffer.graph(float_bytes)
    before, after = ([op for op in file.ops if op.type not in CASTS] for file in (floats, graph))
    if [op.type for op in before] != [op.type for op in after]:
        return
    rounded = flatbuffer.read(float_bytes)
    unpacked = {op.outputs[0].index: op.inputs[0] for op in graph.ops if op.type == "DEQUANTIZE"}
    for op, made in zip(before, after, strict=True):
        if op.type in WEIGHTED and (wrong := _with_rounded(rounded, op, made, unpacked)):
            raise _unexplained(made, wrong)
    try:
        found = file_errors(flatbuffer.write(rounded), content, images, clipping=calibrated)
    except ValueError:  # it has no integer activations, or others than can be compared
        return
    if lost := [row for row in found.rows if _is_lost(row, found.rows, after)]:
        worst = max(lost, key=lambda row: row.own or 0)
        made = [op for op in after if worst.tensor.index in {t.index for t in op.outputs}]
        raise _unexplained(
            made[0] if made else "the input",
            f"its values are off by {worst.own:.0f} steps of their scale (root mean square), and "
            "rounding explains 0.3",
        )


def _is_lost(row: TensorError, rows: Sequence[TensorError], ops: Sequence[Op]) -> bool:
    """Return whether an op adds a large error of its own, and all that read it have it as well.

    The converter lets an op clip values that the next op would clip anyway, such as a minimum.
    """
    readers = {
        tensor.index
        for op in ops
        if row.tensor.index in {t.index for t in op.inputs}
        for tensor in op.outputs
    }
    later = [other for other in rows if other.tensor.index in readers]
    bad = all(other.sqnr_db < _LOST_DB for other in (row, *later))
    return bad and (row.own or 0) > _LARGEST_OWN


def _unexplained(where: Op | str, what: str) -> ValueError:
    return ValueError(
        f"The file that results is worse than its rounding explains, at {where}: {what}. Convert "
        "with mode 'int8_fallback' and leave this layer in float (float_layers), or take a mode "
        "without integer activations."
    )


def _with_rounded(rounded: Any, op: Op, made: Op, unpacked: Mapping[int, Tensor]) -> str:
    """Put an op's rounded weights into the float file's objects; say if rounding is not all."""
    for old, stored in zip(op.inputs, made.inputs, strict=False):
        new = unpacked.get(stored.index, stored)
        if old.data is None or new.data is None or old.shape != new.shape or not len(new.scales):
            continue
        scales = new.scales.astype(np.float64)
        if len(scales) > 1:
            scales = scales.reshape([-1 if a == new.axis else 1 for a in range(len(new.shape))])
        zeros = new.zero_points[0] if len(set(new.zero_points.tolist())) == 1 else 0
        values = (new.data.astype(np.float64) - zeros) * scales
        # A bias of many steps is a float32 number of 24 bits.
        room = _HALF * scales + 2.0**-20 * np.abs(old.data)
        off = np.abs(values - old.data) / np.where(room > 0, room, 1)
        if off.max(initial=0) > 1:
            return (
                f"its {new.kind} in the file: {np.count_nonzero(off > 1)} of {off.size} values are "
                f"off by more than half a step, up to {off.max() * _HALF:.0f} steps"
            )
        if new.kind == "weights":
            buffer = rounded.buffers[rounded.subgraphs[0].tensors[old.index].buffer]
            buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
    return ""
