"""Convert a model to `.tflite` with the TFLite converter (lesson 06)."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from quant_tutorial import flatbuffer, quiet, saving
from quant_tutorial.arguments import (
    ModelInput,
    Range,
    as_given,
    checked_calibration_inputs,
    checked_choice,
)
from quant_tutorial.flatbuffer import CASTS, Graph, Op
from quant_tutorial.frameworks import tf
from quant_tutorial.tflite import selective, soundness, trial
from quant_tutorial.tflite.inspection import doors_and_float_ops
from quant_tutorial.tflite.saved_model import (
    export_names,
    export_saved_model,
    has_fake_quant,
    in_models_order,
    layer_names,
    model_inputs,
    other_floats,
    takes_lists,
)

import numpy as np

Mode = Literal["float32", "float16", "dynamic", "int8_fallback", "int8", "int16x8"]
IOType = Literal["float32", "int8", "uint8", "int16"]

# The common name of each mode, and the types of input and output that it can have, with the default
# first.
MODES: dict[str, tuple[str, tuple[str, ...]]] = {
    "float32": ("float32", ("float32",)),
    "float16": ("float16 weights", ("float32",)),
    "dynamic": ("dynamic range: int8 weights", ("float32",)),
    "int8_fallback": ("int8 with float fallback", ("float32", "int8", "uint8")),
    "int8": ("full-integer int8", ("int8", "uint8", "float32")),
    "int16x8": ("16x8: int16 activations, int8 weights", ("int16", "float32")),
}
_INT8 = ("int8_fallback", "int8")
_CALIBRATED = (*_INT8, "int16x8")
_FULL = ("int8", "int16x8")
# How often the converter may try where it forgets an op: every third time in an unrolled LSTM.
_ATTEMPTS = 4


def convert(
    model: Any,
    mode: Mode,
    *,
    calibration: Any = None,
    io: IOType | None = None,
    input_range: Range | Mapping[str, Range] = (0.0, 1.0),
    per_channel: bool = True,
    float_layers: Sequence[str] = (),
    float_ops: Sequence[str] = (),
) -> bytes:
    """Convert a model with the TFLite converter and return the bytes of the file (lesson 06).

    The file takes one image at a time, as is usual on a device. For a batch of any size the
    converter would add three integer ops to each Flatten, to compute the shape. Before the file is
    returned, it is run on a few images, and its answers are compared with the model's; `compare`
    says how far apart they are.

    Args:
        model: A built Keras 3 model or tf_keras model (such as TFMOT's), or the folder of a
            SavedModel with one signature "serving_default". An input of integers, such as the
            numbers of words, is one in the file as well, in every mode. Several inputs and outputs
            have the order of the model's in the file, and its signature has the names of the Input
            layers, and output_0, output_1, …; or the keys of dictionaries, where the model has
            some.
        mode: "float32"; "float16": float16 weights, float32 arithmetic; "dynamic": dynamic-range
            quantization, int8 weights and float activations; "int8_fallback": int8 where an op has
            an int8 version, float elsewhere; "int8": full-integer int8, or an error; "int16x8":
            int16 activations and int8 weights. Integer weights are symmetric; "dynamic" leaves
            weights of fewer than 1,024 values in float. Activations have one scale for each tensor:
            int8 activations are asymmetric, int16 ones symmetric.
        calibration: For the last three modes: images as the model takes them, shape (n, …),
            float32, or integers for a model that takes integers. The converter runs the model on
            them and records the minimum and maximum of each activation. For a model with several
            inputs: a mapping from their names to such arrays, of the same n, or a list in their
            order. In the two int8 modes, a model that was trained with fake quantization needs no
            images, because it contains its own ranges.
        io: The type of the file's inputs and outputs, see `MODES`. With "float32" in an integer
            mode, the file begins with a QUANTIZE op and ends with a DEQUANTIZE op.
        input_range: The range that the model was trained on; calibration images outside it are
            refused. None skips the check. It is not used for an input that takes integers. For
            several inputs: a range for all, or a mapping from their names to ranges.
        per_channel: Whether each output channel of the weights has its own scale.
        float_layers: With "int8_fallback": names of layers that stay in float (selective
            quantization), along with whatever is fused into their ops. A pooling layer can stay in
            float only after a layer that does.
        float_ops: With "int8_fallback": types of ops that stay in float, such as "CONV_2D".

    Raises:
        ValueError: for an unknown mode, I/O type, layer or op; for calibration images that are
            missing, not an array, not finite, of the wrong shape or outside the range; for weights
            that are not finite or not float32, and a layer that computes NaN or infinite values
            from these images; for a file that LiteRT cannot run, or whose answers are worse than
            its rounding explains; for a model of `qat.quantize_aware`, and one of whose ops LiteRT
            lacks some; for an option that does not match the mode; for a loop where
            activations are quantized; for an op that would stay in float in a full-integer file, or
            become an integer op although `float_layers` or `float_ops` exempts it; for whole
            numbers, such as those of words, that the file would round because the model takes
            floats.
        RuntimeError: with "int16x8", for an op that has no such version.
    """
    io = _checked_options(mode, io, calibration, per_channel, float_layers, float_ops)
    inputs, known = model_inputs(model), layer_names(model)
    soundness.require_convertible(model)
    _refuse_trained_ranges(model, mode)
    if known is not None and (unknown := [name for name in float_layers if name not in known]):
        raise ValueError(
            f"float_layers: the model has no layer {unknown[0]!r}; it has {', '.join(known)}."
        )
    for name, entry in inputs.items():
        if entry.is_integer and mode == "int16x8":
            which = f"input {name!r}" if len(inputs) > 1 else "input"
            raise ValueError(
                f"Mode 'int16x8' is not possible for a model whose {which} holds {entry.dtype} "
                "values: the converter has no such version of the ops that take them. Use mode "
                "'int8'."
            )
    images = None
    if calibration is not None:
        images = checked_calibration_inputs(
            calibration, inputs, input_range, listed=takes_lists(model)
        )
    with tempfile.TemporaryDirectory() as folder:
        with quiet.all_output():
            export_saved_model(model, folder)
        brings_ranges = images is None and mode in _INT8 and has_fake_quant(folder)
        if mode in _CALIBRATED and images is None and not brings_ranges:
            raise ValueError(
                f"calibration must hold at least one image: mode {mode!r} needs the ranges of the "
                "model's activations, and the converter measures them on these images. Give some "
                f"hundred training images, {_shapes(inputs)}, scaled as for its training."
            )
        if images is not None:
            tried = as_given({name: each[: trial.TRIED] for name, each in images.items()})
            with _explained(folder):
                _refuse_loops(folder, model)
                expected = soundness.finite_outputs(model, as_given(images), trial.TRIED)
        else:
            tried = trial.drawn(inputs, input_range)
            expected = trial.float_outputs(model, tried)
        with quiet.all_output():
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        _set_mode(converter, mode, images, io, per_channel)
        with _explained(folder):
            for _ in range(_ATTEMPTS):
                if float_layers or float_ops:
                    content = selective.quantize_all_but(
                        converter, model, float_layers, float_ops, io
                    )
                else:
                    content = _converted(converter, mode)
                content = in_models_order(content, model)
                file = trial.started(content, soundness.always_zero(model, images))
                if mode not in _FULL or images is None or not _forgotten(file.graph):
                    break
        _refuse_rounded_numbers(file.graph)
        if mode in _FULL:
            _require_integer_ops(file.graph, io, calibrated=images is not None)
        trial.require_sound(file, tried, expected, lambda: _float_file(folder, model))
    return content


def save(model_bytes: bytes, path: str | Path) -> Path:
    """Write a `.tflite` file, completely or not at all, and return its path (lesson 06).

    Missing folders are created. If anything goes wrong, an older file of that name stays as it was.

    Raises:
        OSError: when the file cannot be written.
    """
    return saving.write_whole(Path(path), lambda part: part.write_bytes(model_bytes))


def _shapes(inputs: Mapping[str, ModelInput]) -> str:
    """Say which shapes calibration images have."""
    shapes = {name: ("n", *entry.shape[1:]) for name, entry in inputs.items()}
    if len(shapes) == 1:
        return f"shape {next(iter(shapes.values()))}"
    return ", ".join(f"{name!r} of the shape {shape}" for name, shape in shapes.items())


def _checked_options(
    mode: str,
    io: str | None,
    calibration: Any,
    per_channel: bool,
    float_layers: Sequence[str],
    float_ops: Sequence[str],
) -> str:
    """Return the I/O type, or raise a ValueError for an option that does not match the mode."""
    checked_choice("mode", mode, get_args(Mode))
    allowed = MODES[mode][1]
    if io is not None and io not in allowed:
        raise ValueError(
            f"io must be {' or '.join(allowed)} with mode {mode!r}, got {io!r}"
            + (": it keeps float32 activations." if len(allowed) == 1 else ".")
        )
    if calibration is not None and mode not in _CALIBRATED:
        raise ValueError(
            f"Mode {mode!r} takes no calibration: it quantizes no activation ahead of time. "
            f"Leave it out, or use one of {', '.join(_CALIBRATED)}."
        )
    if not per_channel and mode in ("float32", "float16"):
        raise ValueError(f"per_channel=False does not go with mode {mode!r}: it has no scales.")
    for name, value in (("float_layers", float_layers), ("float_ops", float_ops)):
        if isinstance(value, str):
            raise ValueError(f"{name} must be a list of names, got {value!r}: write [{value!r}].")
        if value and mode != "int8_fallback":
            raise ValueError(f"{name} goes with mode 'int8_fallback' only, got {mode!r}.")
        if value and calibration is None:
            raise ValueError(f"{name} needs calibration images: give calibration as well.")
    return io or allowed[0]


def _refuse_trained_ranges(model: Any, mode: str) -> None:
    """Raise a ValueError for a model of `qat.quantize_aware`, which has its own ranges."""
    trained = {"QuantizeActivation", "QuantizedLayer"}
    if mode in _CALIBRATED and not isinstance(model, (str, Path)):
        for layer in model.layers:
            kind = type(layer)
            if kind.__name__ in trained and kind.__module__.startswith("quant_tutorial."):
                raise ValueError(
                    f"model {model.name} is one of quantize_aware(), with its own ranges in layer "
                    f"{layer.name}: qat.int8_file(model) makes the full-integer file of it, "
                    "without calibration images."
                )


def _set_mode(
    converter: Any, mode: str, images: soundness.Arrays | None, io: str, per_channel: bool
) -> None:
    if mode == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if images is not None:
        converter.representative_dataset = lambda: _each_image(images)
    integer_ops = {
        "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
        "int16x8": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    }
    # Without images (for a model that contains its own ranges) the converter refuses this setting.
    if mode in integer_ops and images is not None:
        converter.target_spec.supported_ops = [integer_ops[mode]]
    converter.inference_input_type = converter.inference_output_type = tf.as_dtype(io)
    # The converter has no public switch for this; a test checks the scales in the file.
    converter._experimental_disable_per_channel = not per_channel


def _each_image(images: soundness.Arrays) -> Iterator[Any]:
    """Yield the calibration images one at a time, as the converter takes them."""
    if len(images) == 1:
        yield from ([image[np.newaxis]] for image in next(iter(images.values())))
        return
    names = {name: export for export, name in export_names(images).items()}
    for place in range(len(next(iter(images.values())))):
        yield {names[name]: each[place : place + 1] for name, each in images.items()}


def _refuse_loops(folder: str, model: Any) -> None:
    """Raise a ValueError for a SavedModel with a loop: calibrating most loops ends the process."""
    if b"While" not in (Path(folder) / "saved_model.pb").read_bytes():
        return
    # tf_keras' LSTM also contains a loop there, but the converter turns it into a single op.
    ops = flatbuffer.graph(_float_file(folder, model)).ops
    if loops := [op for op in ops if op.type == "WHILE"]:
        raise ValueError(
            f"{loops[0]} is a loop, as recurrent layers have, and the converter crashes when it "
            "calibrates one. Make the layer with unroll=True, or use mode 'dynamic'."
        )


@contextlib.contextmanager
def _explained(folder: str) -> Iterator[None]:
    """Say in a few words why the converter refuses a SavedModel, or LiteRT what it makes of it."""
    try:
        yield
    except (selective.ConverterError, ValueError) as error:
        if (found := other_floats(folder)) is not None:
            raise ValueError(
                f"model computes in {found[0]} (at {found[1]}), and LiteRT in float32: build it in "
                "float32 with the same weights, and export that. In TensorFlow, cast each weight "
                "and each constant with tf.cast(value, tf.float32)."
            ) from None
        if isinstance(error, ValueError):
            raise
        ops = dict.fromkeys(re.findall(r"tf\.(\w+)' op|\btf\.(\w+)\(", str(error)))
        names = ", ".join(dict.fromkeys(one or other for one, other in ops))
        raise ValueError(
            f"The converter has no op of LiteRT for a part of the model ({names or 'unnamed'}): "
            "write this part with other ops, or do it before or after the model."
        ) from error


def _float_file(folder: str, model: Any) -> bytes:
    with quiet.all_output():
        content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    return in_models_order(content, model)


def _converted(converter: Any, mode: str) -> bytes:
    try:
        with quiet.all_output():
            return converter.convert()
    except RuntimeError as error:
        if mode == "int16x8":
            error.add_note("Mode 'int8_fallback' leaves ops without an integer version in float.")
        raise


def _forgotten(graph: Graph) -> set[str]:
    """Return the types of which the converter has left some ops in float, but not all.

    After a calibration, which ones it leaves differs from one conversion to the next.
    """
    _, floats = doors_and_float_ops(graph)
    left, all_ops = (Counter(op.type for op in ops) for ops in (floats, graph.ops))
    return {name for name, count in left.items() if count < all_ops[name]} - {*CASTS}


def _require_integer_ops(graph: Graph, io: str, *, calibrated: bool) -> None:
    # The converter was told to use integer ops only. Nevertheless, where an op has no int8 version,
    # it silently puts the float op between DEQUANTIZE and QUANTIZE.
    doors, others = doors_and_float_ops(graph)
    for op in others:
        if op.type in CASTS:
            continue
        if not calibrated:
            reason = "the model's fake quantization gives it no range; calibration images would"
        elif op.type in _forgotten(graph):
            reason = "the converter has forgotten it (it has made integers of others of its type)"
        else:
            reason = "the converter has no integer version of it"
        way_out = "Mode 'int8_fallback' allows float ops."
        if op.type == "CAST" and op.inputs[0].kind == "input" and op.inputs[0].is_float:
            raise _whole_numbers_error(op)
        if op.type == "CAST" and op.inputs[0].kind == "input":
            reason = f"it makes floats of the input, which holds {op.inputs[0].type} values"
            way_out = (
                "Build the model with a float input, keras.Input(…, dtype='float32'), and give it "
                "the same numbers; or use mode 'int8_fallback', which allows float ops."
            )
        raise ValueError(
            f"A full-integer file is not possible: {op} stays in float, because {reason}. {way_out}"
        )
    if others or (doors and io != "float32"):
        raise ValueError(
            f"A full-integer file is not possible: the converter leaves {(others or doors)[0]} in "
            "it. Mode 'int8_fallback' allows float ops."
        )


def _refuse_rounded_numbers(graph: Graph) -> None:
    """Raise a ValueError for a file that rounds an input before it takes it for whole numbers."""
    rounded = {tensor.index for tensor in graph.inputs if tensor.params is not None}
    rounded |= {
        op.outputs[0].index
        for op in graph.ops
        if op.type == "QUANTIZE" and op.inputs[0].kind == "input"
    }
    for op in graph.ops:
        if not any(tensor.index in rounded for tensor in op.inputs):
            continue
        if op.type in CASTS:
            rounded |= {tensor.index for tensor in op.outputs}
        elif op.type == "CAST" and not op.outputs[0].is_float:
            raise _whole_numbers_error(op)


def _whole_numbers_error(op: Op) -> ValueError:
    return ValueError(
        f"A file with quantized inputs is not possible: {op} takes them for whole numbers, such as "
        "the numbers of words, and they would be rounded to a scale first. Build the model with an "
        "integer input, keras.Input(…, dtype='int32'), which stays as it is; or use mode "
        "'int8_fallback' with io='float32'."
    )
