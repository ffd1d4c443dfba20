"""Convert a Keras model to `.tflite` and run it with LiteRT (lesson 06).

`LiteRT` is today's name of the TensorFlow Lite runtime; the interpreter is `ai_edge_litert`'s.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from quant_tutorial import metrics, quiet, saving
from quant_tutorial.affine import QuantParams, dequantize, quantize

import numpy as np
from numpy.typing import NDArray

quiet.load_tensorflow()
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402

Mode = Literal["float32", "int8"]
IOType = Literal["float32", "int8", "uint8"]


class Tensor(NamedTuple):
    """One tensor of a `.tflite` file: an activation, a weight, a bias or a constant (lesson 06)."""

    name: str
    shape: tuple[int, ...]  # −1 stands for the batch
    dtype: np.dtype
    scales: NDArray[np.float32]  # none: not quantized; one: per tensor; several: per channel
    zero_points: NDArray[np.int32]
    axis: int  # the axis of the channels

    @property
    def params(self) -> QuantParams | None:
        """The map of the tensor's 8- or 16-bit integers, None for floats and 32-bit biases."""
        bits = {"int8": 8, "uint8": 8, "int16": 16}.get(self.dtype.name)
        if bits is None or len(self.scales) == 0:
            return None
        signed = self.dtype.kind == "i"
        if len(self.scales) == 1:
            return QuantParams(bits, float(self.scales[0]), int(self.zero_points[0]), signed)
        return QuantParams(bits, self.scales, self.zero_points, signed, axis=self.axis)


class Evaluation(NamedTuple):
    """What a model answers on a set of images."""

    accuracy: float  # 0 to 1
    predictions: NDArray[np.int64]  # (images,)
    outputs: NDArray[np.float32]  # (images, classes), dequantized


def convert(
    model: Any,
    mode: Mode,
    *,
    calibration: NDArray[np.float32] | None = None,
    io: IOType | None = None,
) -> bytes:
    """Convert a Keras 3 model with the TFLite converter and give the bytes of the file (lesson 06).

    The file takes one image at a time, as a device does: with a batch of any size the converter
    adds three integer ops that compute the shape for each Flatten.

    Args:
        model: A built Keras model with one input.
        mode: "float32", or "int8": every weight and activation an 8-bit integer (post-training
            full-integer quantization: weights per channel and symmetric, activations per tensor).
        calibration: For "int8": images as the model gets them, shape (n, …), float32; the converter
            runs the model on them and takes the minimum and maximum of each activation.
        io: For "int8": the type of the model's own input and output, "int8" by default. With
            "float32" the file begins with a QUANTIZE op and ends with a DEQUANTIZE op.

    Raises:
        ValueError: for an unknown mode or I/O type, for calibration images that are missing, not
            finite or of the wrong shape, and for either of the two with "float32".
    """
    for name, value, known in (("mode", mode, Mode), ("io", io or "int8", IOType)):
        if value not in get_args(known):
            raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, got {value!r}.")
    if mode == "float32" and (io is not None or calibration is not None):
        raise ValueError("A float32 model takes neither io nor calibration: it stays in float.")
    if mode == "int8":
        images = _checked_calibration(calibration, model.input_shape)
    with tempfile.TemporaryDirectory() as folder, quiet.all_output():
        signature = [keras.InputSpec(shape=(1, *model.input_shape[1:]), dtype="float32")]
        model.export(folder, format="tf_saved_model", input_signature=signature, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if mode == "int8":
            _set_full_integer(converter, images, io or "int8")
        return converter.convert()


def tensors(model_bytes: bytes) -> list[Tensor]:
    """List the tensors of a `.tflite` file, activations, weights and biases (lesson 06).

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    return [_tensor(details) for details in _interpreter(model_bytes).get_tensor_details()]


def input_output(model_bytes: bytes) -> tuple[Tensor, Tensor]:
    """Give the input and the output tensor of a `.tflite` file (lesson 06).

    Raises:
        ValueError: when the bytes are not a `.tflite` model, or one with several inputs or outputs.
    """
    interpreter = _interpreter(model_bytes)
    return _tensor(_only(interpreter, "input")), _tensor(_only(interpreter, "output"))


def predict(
    model_bytes: bytes, x: NDArray[np.float32], *, threads: int | None = None
) -> NDArray[np.float32]:
    """Run a `.tflite` model on float images with LiteRT and give float outputs (lesson 06).

    The images are quantized with the scale and zero point of the input (rounded and clipped) where
    that is an integer tensor, and the outputs are dequantized with those of the output.

    Args:
        model_bytes: The content of the `.tflite` file; float32, int8 or uint8 input and output.
        x: Images as the float model gets them, shape (n, …), n ≥ 1.
        threads: How many threads LiteRT may use; None leaves the choice to it.

    Raises:
        ValueError: when the bytes are not a `.tflite` model or the images have the wrong shape.
    """
    interpreter = _interpreter(model_bytes, threads)
    source, target = _only(interpreter, "input"), _only(interpreter, "output")
    entry, params = _tensor(source), _tensor(target).params
    if x.shape[1:] != entry.shape[1:] or len(x) == 0:
        wanted = ("n", *entry.shape[1:])
        raise ValueError(f"x must have the shape {wanted} with n ≥ 1, got {x.shape}.")
    images = np.asarray(x, np.float32)
    images = images if entry.params is None else quantize(images, entry.params)
    outputs = np.empty((len(x), *target["shape"][1:]), target["dtype"])
    for index in range(len(x)):
        interpreter.set_tensor(source["index"], images[index : index + 1])
        interpreter.invoke()
        outputs[index] = interpreter.get_tensor(target["index"])[0]
    return outputs if params is None else dequantize(outputs, params)


def evaluate(model_bytes: bytes, x: NDArray[np.float32], y: NDArray[np.integer]) -> Evaluation:
    """Measure a `.tflite` model on images and labels with LiteRT (lesson 06).

    Args:
        model_bytes: The content of the `.tflite` file.
        x: Images as the float model gets them, shape (n, …).
        y: The true classes, shape (n,).

    Raises:
        ValueError: as for `predict`, or when the numbers of images and labels differ.
    """
    outputs = predict(model_bytes, x)
    return Evaluation(metrics.accuracy(outputs, y), outputs.argmax(axis=-1), outputs)


def save(model_bytes: bytes, path: str | Path) -> Path:
    """Write a `.tflite` file, whole or not at all, and give its path (lesson 06).

    Missing folders are made. An older file of that name stays as it was if anything goes wrong.

    Raises:
        OSError: when the file cannot be written.
    """
    return saving.write_whole(Path(path), lambda part: part.write_bytes(model_bytes))


def _set_full_integer(converter: Any, images: NDArray[np.float32], io: IOType) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[np.newaxis]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.as_dtype(io)


def _checked_calibration(
    images: NDArray[np.float32] | None, input_shape: tuple[int | None, ...]
) -> NDArray[np.float32]:
    if images is None or len(images) == 0:
        raise ValueError(
            "calibration must hold at least one image: a full-integer model needs the ranges of "
            "its activations, and the converter measures them on these images."
        )
    images = np.asarray(images, np.float32)
    if images.shape[1:] != tuple(input_shape[1:]):
        wanted = ("n", *input_shape[1:])
        raise ValueError(f"calibration must have the shape {wanted}, got {images.shape}.")
    if not np.isfinite(images).all():
        raise ValueError("calibration must be finite, got NaN or infinite values.")
    return images


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


def _only(interpreter: Interpreter, side: Literal["input", "output"]) -> dict[str, Any]:
    details = getattr(interpreter, f"get_{side}_details")()
    if len(details) != 1:
        raise ValueError(f"The model must have one {side}, it has {len(details)}.")
    return details[0]


def _tensor(details: dict[str, Any]) -> Tensor:
    quantization = details["quantization_parameters"]
    signature = details["shape_signature"]
    return Tensor(
        name=details["name"],
        shape=tuple(int(n) for n in (signature if len(signature) else details["shape"])),
        dtype=np.dtype(details["dtype"]),
        scales=quantization["scales"],
        zero_points=quantization["zero_points"],
        axis=quantization["quantized_dimension"],
    )
