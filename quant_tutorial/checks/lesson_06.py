"""Check the answers to the exercises of lesson 06."""

from __future__ import annotations

from typing import Any

from quant_tutorial.affine import params_from_range, quantize
from quant_tutorial.checks.registry import exercise, is_calibrated, is_number, no_bytes

import numpy as np


@exercise("06.1")
def _pixel(answer: Any) -> str | None:
    right = quantize(200 / 255, params_from_range(0, 1, 8))
    return is_number(
        answer, float(right), "with scale 1/255 and zero point −128, what is left of /255?"
    )


@exercise("06.2")
def _own_uint8_model(answer: Any) -> str | None:
    from quant_tutorial import tflite

    if not isinstance(answer, bytes):
        return no_bytes(answer)
    source, _ = tflite.input_output(answer)
    if source.dtype != np.uint8:
        return f"the model's input is {source.dtype}; it must be uint8."
    if any(tensor.dtype.kind == "f" for tensor in tflite.tensors(answer)):
        return "some tensors are still floats."
    return is_calibrated(answer)


@exercise("06.3")
def _own_mixed_model(answer: Any) -> str | None:
    from quant_tutorial import tflite

    if not isinstance(answer, bytes):
        return no_bytes(answer)
    wanted = {"CONV_2D": "int8", "FULLY_CONNECTED": "float32"}
    ops = [op for op in tflite.inspect(answer).ops if op.type in wanted]
    if [op.type for op in ops] != ["CONV_2D"] * 3 + ["FULLY_CONNECTED"]:
        found = ", ".join(op.type for op in ops) or "none of them"
        return f"the model has three CONV_2D and then one FULLY_CONNECTED, this file {found}."
    for op in ops:
        places = zip(("input", "weights", "output"), (*op.inputs[:2], op.outputs[0]), strict=True)
        for place, tensor in places:
            if tensor.type != wanted[op.type]:
                return f"the {place} of {op} must be {wanted[op.type]}, got {tensor.type}."
    return None
