"""Find the layer that does the most damage to an integer model: quantization debugging (lesson 06).

The module does what TensorFlow's `tf.lite.experimental.QuantizationDebugger` does, but on two
existing files: a float file and the integer file that any tool has made from it. What is measured
for each activation stands in `op_errors`.
"""

from __future__ import annotations

from typing import Any

from quant_tutorial.tflite.conversion import convert
from quant_tutorial.tflite.op_errors import Debugging, file_errors


def debug(float_model: Any, integer_bytes: bytes, images: Any) -> Debugging:
    """Compare each op of an integer `.tflite` model with the float op it was made from (lesson 06).

    Both run on LiteRT's reference kernels, which produce the same integers on every machine, or on
    the optimized kernels where those lack one of the ops or compute it wrongly. Ops that read and
    write variables have no row of their own. As everywhere, each image is computed as the first
    one.

    Args:
        float_model: The float32 file, or a model that `tflite.convert` accepts. It takes one image
            at a time.
        integer_bytes: A file made from the same model, with the ops in the same order.
        images: Images as the float model takes them, shape (n, …), n ≥ 1; a hundred are enough.
            For several inputs a mapping or a list, as for `predict`.

    Raises:
        ValueError: when either file is not a `.tflite` model or takes several images at a time,
            when the float file has quantized or float16 tensors, when the integer file has no
            integer activations, when the ops of the two differ, and when the images are missing,
            not floats, not finite or of the wrong shape.
    """
    is_file = isinstance(float_model, bytes)
    float_bytes = float_model if is_file else convert(float_model, "float32")
    return file_errors(float_bytes, integer_bytes, images, is_file=is_file)
