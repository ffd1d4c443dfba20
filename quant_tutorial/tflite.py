"""Convert a model to `.tflite` with the TFLite converter and run it with LiteRT (lesson 06).

`LiteRT` is today's name of the TensorFlow Lite runtime; the interpreter is `ai_edge_litert`'s.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from quant_tutorial import metrics, quiet, saving, selective
from quant_tutorial.affine import dequantize, quantize
from quant_tutorial.exporting import export_saved_model, has_fake_quant, input_shape, layer_names
from quant_tutorial.inspection import Inspection, Tensor, inspect

import numpy as np
from numpy.typing import NDArray

quiet.load_tensorflow()
import tensorflow as tf  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402

Mode = Literal["float32", "float16", "dynamic", "int8_fallback", "int8", "int16x8"]
IOType = Literal["float32", "int8", "uint8", "int16"]

# What each mode is called in the field, and the types of input and output that it can have, the
# usual one first.
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


class Evaluation(NamedTuple):
    """What a model answers on a set of images."""

    accuracy: float  # 0 to 1
    predictions: NDArray[np.int64]  # (images,)
    outputs: NDArray[np.float32]  # (images, classes), dequantized
    confusion: NDArray[np.int64]  # (classes, classes): a row for each true class
    seconds_per_image: float  # in LiteRT alone: setting the input, running, getting the output


def convert(
    model: Any,
    mode: Mode,
    *,
    calibration: NDArray[np.float32] | None = None,
    io: IOType | None = None,
    input_range: tuple[float, float] | None = (0.0, 1.0),
    per_channel: bool = True,
    float_layers: Sequence[str] = (),
    float_ops: Sequence[str] = (),
) -> bytes:
    """Convert a model with the TFLite converter and give the bytes of the file (lesson 06).

    The file takes one image at a time, as a device does: with a batch of any size the converter
    adds three integer ops that compute the shape for each Flatten.

    Args:
        model: A built Keras 3 model or tf_keras model (such as TFMOT's) with one input, or the
            folder of a SavedModel with one signature "serving_default".
        mode: "float32"; "float16": float16 weights, float32 arithmetic; "dynamic": dynamic-range
            quantization, int8 weights and float activations; "int8_fallback": int8 where an op has
            an int8 version, float elsewhere; "int8": full-integer int8, or an error; "int16x8":
            int16 activations and int8 weights. Integer weights are symmetric; "dynamic" leaves
            those of fewer than 1,024 values in float. Activations have one scale a tensor: int8
            ones are asymmetric, int16 ones symmetric.
        calibration: For the last three modes: images as the model gets them, shape (n, …), float32;
            the converter runs the model on them and takes the minimum and maximum of each
            activation. A model that was trained with fake quantization brings its own ranges.
        io: The type of the model's own input and output, see `MODES`. With "float32" in an integer
            mode the file begins with a QUANTIZE op and ends with a DEQUANTIZE op.
        input_range: The range that the model was trained on; calibration images outside it are
            refused. None checks nothing.
        per_channel: Whether each output channel of the weights has a scale of its own.
        float_layers: With "int8_fallback": names of layers that stay in float (selective
            quantization), with whatever is fused into their ops; pooling only after a layer
            that does.
        float_ops: With "int8_fallback": types of ops that stay in float, such as "CONV_2D".

    Raises:
        ValueError: for an unknown mode, I/O type, layer or op; for calibration images that are
            missing, no array, not finite, of the wrong shape or outside the range; for an option
            that does not go with the mode; for a loop where activations are quantized; for an op
            that would stay in float in a full-integer file, or in integers though it is spared.
        RuntimeError: with "int16x8" for an op without such a version.
    """
    io = _checked_options(mode, io, calibration, per_channel, float_layers, float_ops)
    shape, known = input_shape(model), layer_names(model)
    if known is not None and (unknown := [name for name in float_layers if name not in known]):
        raise ValueError(
            f"float_layers: the model has no layer {unknown[0]!r}; it has {', '.join(known)}."
        )
    images = None
    if calibration is not None:
        images = checked_calibration(calibration, shape, input_range)
    with tempfile.TemporaryDirectory() as folder:
        with quiet.all_output():
            export_saved_model(model, folder)
        brings_ranges = images is None and mode in _INT8 and has_fake_quant(folder)
        if mode in _CALIBRATED and images is None and not brings_ranges:
            raise ValueError(
                f"calibration must hold at least one image: mode {mode!r} needs the ranges of the "
                "model's activations, and the converter measures them on these images. Give some "
                "hundred training images, such as mnist.to_float(data.x_train[:500])."
            )
        with quiet.all_output():
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if images is not None:
            _refuse_loops(folder)
        _set_mode(converter, mode, images, io, per_channel)
        if float_layers or float_ops:
            return selective.quantize_all_but(converter, model, float_layers, float_ops, io)
        content = _converted(converter, mode)
    if mode in ("int8", "int16x8"):
        _require_integer_ops(inspect(content), calibrated=images is not None)
    return content


def tensors(model_bytes: bytes) -> list[Tensor]:
    """List the tensors of a `.tflite` file, activations, weights and biases (lesson 06).

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    return list(inspect(model_bytes).tensors)


def input_output(model_bytes: bytes) -> tuple[Tensor, Tensor]:
    """Give the input and the output tensor of a `.tflite` file (lesson 06).

    Raises:
        ValueError: when the bytes are not a `.tflite` model, or one with several inputs or outputs.
    """
    return _input_output(inspect(model_bytes))


def predict(
    model_bytes: bytes, x: NDArray[np.float32], *, threads: int | None = None
) -> NDArray[np.float32]:
    """Run a `.tflite` model on float images with LiteRT and give float outputs (lesson 06).

    The images are quantized with the scale and zero point of the input (rounded and clipped) where
    that is an integer tensor, and the outputs are dequantized with those of the output.

    Args:
        model_bytes: The content of the `.tflite` file; float32, int8, uint8 or int16 input and
            output.
        x: Images as the float model gets them, shape (n, …), n ≥ 1.
        threads: How many threads LiteRT may use; None leaves the choice to it.

    Raises:
        ValueError: when the bytes are not a `.tflite` model that LiteRT runs correctly, or the
            images are integers or have the wrong shape.
    """
    return _run(model_bytes, x, threads)[0]


def evaluate(model_bytes: bytes, x: NDArray[np.float32], y: NDArray[np.integer]) -> Evaluation:
    """Measure a `.tflite` model on images and labels with LiteRT (lesson 06).

    The time is that of LiteRT with one image at a time and threads as it chooses; quantizing the
    images and dequantizing the outputs, here done in NumPy, is not in it.

    Args:
        model_bytes: The content of the `.tflite` file.
        x: Images as the float model gets them, shape (n, …).
        y: The true classes, shape (n,).

    Raises:
        ValueError: as for `predict`, for labels that are not one class for each image, and for a
            model whose output is not one number for each of two classes or more.
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
    outputs, seconds = _run(model_bytes, x, None)
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(
            "The model must give one number for each of two classes or more, shape ('n', classes); "
            f"its output has the shape {('n', *outputs.shape[1:])}. Use predict, which takes any."
        )
    predictions, classes = outputs.argmax(axis=1), outputs.shape[1]
    accuracy = metrics.accuracy(outputs, y)
    if np.min(y) < 0 or np.max(y) >= classes:
        raise ValueError(
            f"y must hold classes from 0 to {classes - 1}, got {np.min(y)} to {np.max(y)}."
        )
    confusion = metrics.confusion(predictions, y, classes)
    return Evaluation(accuracy, predictions, outputs, confusion, seconds / len(x))


def save(model_bytes: bytes, path: str | Path) -> Path:
    """Write a `.tflite` file, whole or not at all, and give its path (lesson 06).

    Missing folders are made. An older file of that name stays as it was if anything goes wrong.

    Raises:
        OSError: when the file cannot be written.
    """
    return saving.write_whole(Path(path), lambda part: part.write_bytes(model_bytes))


def checked_calibration(
    images: NDArray[np.float32],
    shape: tuple[int | None, ...],
    input_range: tuple[float, float] | None,
) -> NDArray[np.float32]:
    """Give calibration images as float32, or say in the reader's terms what is wrong with them.

    Args:
        images: The images, shape (n, …), n ≥ 1.
        shape: What the model takes, the batch first.
        input_range: The range that the model was trained on; None checks nothing.

    Raises:
        ValueError: for no images, something that is no array, another shape, values that are not
            finite or outside the range, and for images that fill less than a hundredth of it.
    """
    # A list of images and a tensor become an array; generators and data sets do not.
    if not isinstance(images, (list, tuple)) and not hasattr(images, "__array__"):
        raise ValueError(
            f"calibration must be an array of images, shape {('n', *shape[1:])}, got "
            f"{type(images).__name__}: collect some hundred images with np.concatenate."
        )
    images = np.asarray(images, np.float32)
    if images.size == 0:
        raise ValueError("calibration must hold at least one image, got none.")
    if images.shape[1:] != tuple(shape[1:]):
        raise ValueError(
            f"calibration must have the shape {('n', *shape[1:])}, got {images.shape}."
        )
    if not np.isfinite(images).all():
        raise ValueError("calibration must be finite, got NaN or infinite values.")
    if input_range is None:
        return images
    (low, high), smallest, largest = input_range, images.min(), images.max()
    if not low < high:
        raise ValueError(f"input_range must be (low, high) with low < high, got {input_range}.")
    found = f"calibration holds values from {smallest:g} to {largest:g}"
    way_out = (
        "Give the images as the model was trained on them, for this course's model with "
        "mnist.to_float, or say input_range=(low, high) if it was trained on another range."
    )
    # A hair over the end, from rounding in somebody's preprocessing, does no harm.
    slack = 0.01 * (high - low)
    if smallest < low - slack or largest > high + slack:
        raise ValueError(f"{found}, but the model expects {low:g} to {high:g}. {way_out}")
    if max(abs(smallest), abs(largest)) < slack:
        raise ValueError(
            f"{found}, less than a hundredth of {low:g} to {high:g}: were they divided by 255 "
            f"twice? {way_out}"
        )
    return images


def _checked_options(
    mode: str,
    io: str | None,
    calibration: Any,
    per_channel: bool,
    float_layers: Sequence[str],
    float_ops: Sequence[str],
) -> str:
    """Give the I/O type, or say which option does not go with the mode."""
    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}.")
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


def _set_mode(
    converter: Any, mode: str, images: NDArray[np.float32] | None, io: str, per_channel: bool
) -> None:
    if mode == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if images is not None:
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in images)
    integer_ops = {
        "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
        "int16x8": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    }
    # Without images, for a model with ranges of its own, the converter refuses this setting.
    if mode in integer_ops and images is not None:
        converter.target_spec.supported_ops = [integer_ops[mode]]
    converter.inference_input_type = converter.inference_output_type = tf.as_dtype(io)
    # The converter has no public switch for this one; a test reads the scales out of the file.
    converter._experimental_disable_per_channel = not per_channel


def _refuse_loops(folder: str) -> None:
    """Refuse a SavedModel with a loop: calibrating most of them ends the whole process."""
    if b"While" not in (Path(folder) / "saved_model.pb").read_bytes():
        return
    # tf_keras's LSTM has one there, too, but the converter makes a single op of it.
    with quiet.all_output():
        content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    if loops := [op for op in inspect(content).ops if op.type == "WHILE"]:
        raise ValueError(
            f"{loops[0]} is a loop, as recurrent layers have, and the converter crashes when it "
            "calibrates one. Make the layer with unroll=True, or use mode 'dynamic'."
        )


def _converted(converter: Any, mode: str) -> bytes:
    try:
        with quiet.all_output():
            return converter.convert()
    except RuntimeError as error:
        if mode == "int16x8":
            error.add_note("Mode 'int8_fallback' leaves ops without an integer version in float.")
        raise


def _require_integer_ops(inspection: Inspection, *, calibrated: bool) -> None:
    # The converter was told to use integer ops only, and yet it puts a float op between DEQUANTIZE
    # and QUANTIZE without a word where there is no int8 one.
    for op in inspection.ops:
        if op.type not in ("QUANTIZE", "DEQUANTIZE") and any(t.is_float for t in op.outputs):
            reason = (
                "the converter has no integer version of it"
                if calibrated
                else "the model's fake quantization gives it no range; calibration images would"
            )
            raise ValueError(
                f"A full-integer file is not possible: {op} stays in float, because {reason}. Mode "
                "'int8_fallback' allows float ops."
            )


def _run(
    model_bytes: bytes, x: NDArray[np.float32], threads: int | None
) -> tuple[NDArray[np.float32], float]:
    """Give the outputs and the seconds that LiteRT took."""
    inspection = inspect(model_bytes)
    _refuse_wrong_kernels(inspection)
    interpreter = _interpreter(model_bytes, threads)
    entry, exit_ = _input_output(inspection)
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]
    images = np.asarray(x)
    if images.shape[1:] != entry.shape[1:] or len(images) == 0:
        wanted = ("n", *entry.shape[1:])
        raise ValueError(f"x must have the shape {wanted} with n ≥ 1, got {images.shape}.")
    if images.dtype.kind != "f":
        raise ValueError(
            f"x must hold floats as the float model gets them, got {images.dtype}: predict "
            "quantizes them itself. Convert pixels with mnist.to_float."
        )
    images = images.astype(np.float32, copy=False)
    images = images if entry.params is None else quantize(images, entry.params)
    outputs = np.empty((len(x), *target["shape"][1:]), target["dtype"])
    start = time.perf_counter()
    for index in range(len(x)):
        interpreter.set_tensor(source, images[index : index + 1])
        interpreter.invoke()
        outputs[index] = interpreter.get_tensor(target["index"])[0]
    seconds = time.perf_counter() - start
    return (outputs if exit_.params is None else dequantize(outputs, exit_.params)), seconds


def _refuse_wrong_kernels(inspection: Inspection) -> None:
    """Refuse what LiteRT runs without an error and gets wrong; a test shows that it still does."""
    for op in inspection.ops:
        if op.type == "CONV_2D" and any(t.type == "int2" for t in op.inputs):
            raise ValueError(
                f"LiteRT {importlib.metadata.version('ai-edge-litert')} computes {op} wrongly: its "
                "convolution reads 2-bit weights as if they had 8 bits, and gives NaN or infinite "
                "numbers without an error. Use recipe 'weight_only_wi2_afp32', which unpacks them "
                "first, or 4 bits."
            )


def _interpreter(model_bytes: bytes, threads: int | None = None) -> Interpreter:
    try:
        with quiet.native_output():
            interpreter = Interpreter(model_content=bytes(model_bytes), num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:  # a wrong header, or wrong content
        raise ValueError(
            f"model_bytes is not a .tflite model that LiteRT can run: {error}"
        ) from None
    return interpreter


def _input_output(inspection: Inspection) -> tuple[Tensor, Tensor]:
    for side, found in (("input", inspection.inputs), ("output", inspection.outputs)):
        if len(found) != 1:
            raise ValueError(f"The model must have one {side}, it has {len(found)}.")
    return inspection.inputs[0], inspection.outputs[0]
