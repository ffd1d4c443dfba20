"""Check the answers to the exercises of lesson 06, and make the damaged file of one of them."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

from quant_tutorial import flatbuffer
from quant_tutorial.affine import dequantize, quantize
from quant_tutorial.checks.registry import exercise, no_bytes

import numpy as np
from numpy.typing import NDArray

_PIXEL, _OUTPUT, _SCALE, _ZERO = 200, -20, 0.25, 5  # of exercise 1
_TOLERANCE = 1e-3


@exercise("06.1")
def _in_and_out(answer: Any) -> str | None:
    given = np.asarray(answer, float)
    if given.shape != (2,):
        return "two numbers are needed: (the integer, the logit)."
    right = _PIXEL - 128, (_OUTPUT - _ZERO) * _SCALE
    wrong_integers = {
        "the integer is that of a model with uint8 input. int8 ends at 127.": _PIXEL,
        "this is what a cast of the byte gives: it wraps around. Quantize the float instead.": (
            _PIXEL - 256
        ),
        "this is the float before it is quantized.": _PIXEL / 255,
        "a cast of the float gives this. Divide by the scale first.": 0,
        "the zero point is missing on one side: real 0 must become −128.": 127,
        "the zero point is added, and it is negative.": _PIXEL + 128,
    }
    if given[0] != right[0]:
        for hint, wrong in wrong_integers.items():
            if math.isclose(given[0], wrong, rel_tol=_TOLERANCE):
                return hint
        return "with scale 1/255 and zero point −128, what is left of the division by 255?"
    wrong_logits = {
        "the zero point is subtracted when you dequantize.": (_OUTPUT + _ZERO) * _SCALE,
        "the zero point is missing.": _OUTPUT * _SCALE,
        "the scale is missing.": _OUTPUT - _ZERO,
        "subtract the zero point before you multiply by the scale.": _OUTPUT * _SCALE - _ZERO,
        "dequantizing multiplies by the scale.": (_OUTPUT - _ZERO) / _SCALE,
        "these are the input's scale and zero point. The output has its own.": (
            (_OUTPUT + 128) / 255
        ),
    }
    if math.isclose(given[1], right[1], rel_tol=_TOLERANCE):
        return None
    for hint, wrong in wrong_logits.items():
        if math.isclose(given[1], wrong, rel_tol=_TOLERANCE):
            return f"the integer is right, the logit is not: {hint}"
    return "the integer is right, the logit is not: use the output's scale and zero point."


@cache
def _ten_images(of_test: bool = False) -> NDArray[np.float32]:
    """Return the first training (or test) image of each digit."""
    from quant_tutorial import mnist

    data = mnist.load()
    images, labels = (data.x_test, data.y_test) if of_test else (data.x_train, data.y_train)
    return mnist.to_float(images[np.unique(labels, return_index=True)[1]])


@cache
def _logits_scale(kind: str) -> float:
    """Return the scale of the logits after calibration with these images."""
    from quant_tutorial import mnist, models, tflite

    images = {
        "ten": _ten_images(),
        "ten of the test set": _ten_images(of_test=True),
        "500": mnist.to_float(mnist.load().x_train[:500]),
        "first ten": mnist.to_float(mnist.load().x_train[:10]),
    }[kind]
    content = tflite.convert(models.load_baseline(), "int8", calibration=images)
    return float(tflite.input_output(content)[1].params.scale)


@exercise("06.2")
def _repaired_conversion(answer: Any) -> str | None:
    from quant_tutorial import tflite

    if not isinstance(answer, bytes):
        return no_bytes(answer)
    source, target = tflite.input_output(answer)
    if any(tensor.dtype.kind == "f" for tensor in tflite.tensors(answer) if tensor.kind != "input"):
        if source.dtype == np.float32 and target.dtype == np.float32:
            return "input and output are float32; both must be uint8. Are other tensors floats?"
        return "some tensors are still floats: see inspect(my_file).verdict."
    for name, tensor in (("input", source), ("output", target)):
        if tensor.dtype != np.uint8:
            return f"the {name} of the file is {tensor.dtype}; it must be uint8."
    scale, logits = float(source.params.scale), float(target.params.scale)
    if scale > 0.5:
        return (
            f"the scale of the input is {scale:.2f}, so it was calibrated with values far above 1. "
            "Which values did the model see in training?"
        )
    if math.isclose(logits, _logits_scale("ten"), rel_tol=1e-4):
        return None
    found = f"the scale of the logits is {logits:.4f}, and with the right images it is "
    found += f"{_logits_scale('ten'):.4f}. "
    for kind, hint in (
        ("ten of the test set", "Yours are test images, which must only judge the result."),
        ("500", "Yours are 500 training images. Ten were asked for, one of each digit."),
        ("first ten", "Yours are the first ten training images: some digits are missing."),
    ):
        if math.isclose(logits, _logits_scale(kind), rel_tol=1e-4):
            return found + hint
    return found + "Which images calibrate it?"


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


_IMAGES = 24  # on which the client is tried

# What a client may do wrong, each with its hint. "" is the right way. At each stage of the client
# one of them applies.
_FEEDING = {
    "": lambda p, s: quantize(p / np.float32(255), s),
    "the pixels go into the formula as bytes. Which numbers was the model trained on?": (
        lambda p, s: _wrapped(np.round(p / s.scale) + s.zero_point, s)
    ),
    "the pixels go into the formula as bytes, and are clipped.": (
        lambda p, s: quantize(p.astype(np.float32), s)
    ),
    "the integers are cut off. The division leaves 199.99999 in place of 200: round.": (
        lambda p, s: np.trunc(p / 255 / s.scale + s.zero_point).astype(s.dtype)
    ),
    "the bytes are cast to the input's type. Quantize the floats with scale and zero point.": (
        lambda p, s: p.astype(s.dtype)
    ),
}
_ORDER = {
    "": lambda q: q,
    "each image gets the logits of the image before it. In which order are the four steps?": (
        lambda q: np.roll(q, 1, axis=0)
    ),
}
_DEQUANTIZING = {
    "": lambda q, s, t: dequantize(q, t),
    "the logits are not dequantized correctly: what has to be done before the product?": (
        lambda q, s, t: q - t.zero_point * t.scale
    ),
    "the output is returned as it is, without scale and zero point.": lambda q, s, t: q,
    "the logits are dequantized without the zero point.": lambda q, s, t: q * t.scale,
    "the logits are dequantized with the input's scale and zero point.": (
        lambda q, s, t: (q - s.zero_point) * s.scale
    ),
    "an int8 minus a zero point overflows in NumPy: widen the integers first.": (
        lambda q, s, t: _wrapped(q - t.zero_point, t) * t.scale
    ),
}


def _wrapped(numbers: NDArray[Any], params: Any) -> NDArray[np.generic]:
    return np.asarray(numbers).astype(np.int64).astype(params.dtype)


@cache
def _client_files() -> dict[str, bytes]:
    from quant_tutorial import mnist, models, tflite

    images = mnist.to_float(mnist.load().x_train[:20])
    uint8 = tflite.convert(models.load_baseline(), "int8", calibration=images, io="uint8")
    return {"int8": models.load_int8_baseline(), "uint8": uint8}


@exercise("06.4")
def _client(answer: Any) -> str | None:
    from quant_tutorial import mnist, tflite

    pixels = mnist.load().x_test[:_IMAGES]
    for kind, file in _client_files().items():
        expected = tflite.predict(file, mnist.to_float(pixels))
        got = np.asarray(answer(file, pixels.copy()), float)
        if got.shape != expected.shape:
            return (
                f"for {_IMAGES} images it must return an array of shape {expected.shape}, the "
                f"logits, and your function returns {got.shape}."
            )
        if np.allclose(got, expected, atol=1e-4):
            continue
        mistakes = _mistakes(got, file, pixels)
        if not mistakes:
            worst = np.abs(got - expected).max()
            return f"with the {kind} file the logits are off by up to {worst:.2f}."
        left = f"{len(mistakes)} of its mistakes are" if len(mistakes) > 1 else "one mistake is"
        return f"with the {kind} file, {left} left. {mistakes[0][0].upper()}{mistakes[0][1:]}"
    return None


def _mistakes(got: NDArray[Any], file: bytes, pixels: NDArray[np.uint8]) -> list[str]:
    """Return the hints for the fewest mistakes that together lead to these logits."""
    from quant_tutorial import tflite

    source, target = (tensor.params for tensor in tflite.input_output(file))
    raw = {}
    for hint, feed in _FEEDING.items():
        raw[hint] = tflite.run(file, feed(pixels[..., np.newaxis], source)).astype(np.int64)
    ways = sorted(
        itertools.product(_FEEDING, _ORDER, _DEQUANTIZING), key=lambda way: sum(map(bool, way))
    )
    for way in ways:
        feeding, order, dequantizing = way
        q = _ORDER[order](raw[feeding])
        logits = _DEQUANTIZING[dequantizing](q, source, target)
        # The first image of a client that reads too early gets what was there before.
        if np.allclose(got[1:], logits[1:], atol=1e-4):
            return [hint for hint in way if hint]
    return []


# The seconds of a run that is slow at first and disturbed now and then.
_SECONDS = (0.9, 0.011, 0.0125, 0.01, 0.013, 0.5, 0.0145, 0.0102, 0.0121, 0.0105, 0.7, 0.011)


class _FakeRun:
    """A `run` whose calls take known times on a clock of their own."""

    def __init__(self) -> None:
        self.now, self.calls = 100.0, 0

    def __call__(self) -> None:
        self.now += _SECONDS[self.calls % len(_SECONDS)]
        self.calls += 1


@contextmanager
def _clock(run: _FakeRun) -> Iterator[None]:
    """Let Python's clocks show the time of a fake run."""
    with mock.patch.multiple(
        time,
        perf_counter=lambda: run.now,
        monotonic=lambda: run.now,
        time=lambda: run.now,
        perf_counter_ns=lambda: round(1e9 * run.now),
    ):
        yield


@exercise("06.5")
def _median_time(answer: Any) -> str | None:
    run = _FakeRun()
    with _clock(run):
        got = float(answer(run, 9))
    if run.calls < 9:
        return f"it calls run {run.calls} times; 9 were asked for, after one that does not count."
    warm, cold = np.array(_SECONDS[1:10]), np.array(_SECONDS[:9])
    if math.isclose(got, np.median(warm), rel_tol=_TOLERANCE):
        return None
    mistakes = {
        "the first run counts. It is slow, since memory and caches are not ready yet.": (
            np.median(cold),
            np.median(_SECONDS[:10]),
        ),
        "this is the mean, and a few disturbed runs decide it.": (
            warm.mean(),
            cold.mean(),
            np.mean(_SECONDS[:10]),
        ),
        "this is the fastest run, and not the middle one.": (warm.min(),),
        "this is the time of all runs together.": (warm.sum(), cold.sum()),
        "the unit is the second.": tuple(
            factor * part for factor in (1e3, 1e6, 1e9) for part in (np.median(warm), warm.mean())
        ),
    }
    for hint, values in mistakes.items():
        if any(math.isclose(got, value, rel_tol=_TOLERANCE) for value in values):
            return hint
    return (
        f"for runs of {', '.join(f'{1e3 * s:.0f}' for s in _SECONDS[:10])} ms it returns "
        f"{got:.6g} s. Does it measure each run by itself, with time.perf_counter()?"
    )


_DAMAGED, _FACTOR = "conv2", 5.0


@cache
def damaged_file() -> bytes:
    """Return the shipped int8 file with wrong scales of one op's weights (exercise 06.6)."""
    from quant_tutorial import models

    content = models.load_int8_baseline()
    graph, model = flatbuffer.graph(content), flatbuffer.read(content)
    (op,) = (op for op in graph.ops if _DAMAGED in op.layers)
    quantization = model.subgraphs[0].tensors[op.inputs[1].index].quantization
    quantization.scale = np.asarray(quantization.scale, np.float32) * np.float32(_FACTOR)
    return flatbuffer.write(model)


@exercise("06.6")
def _damage(answer: Any) -> str | None:
    if isinstance(answer, str | bytes) or len(answer) != 2:
        return "a pair is needed: (the layer's name, the factor)."
    layer, factor = str(answer[0]), float(answer[1])
    names = ["conv1", "conv2", "conv3", "logits"]
    if layer not in names:
        return f"the layer must be one of {', '.join(names)}."
    if layer in names[names.index(_DAMAGED) + 1 :]:
        return (
            f"{layer} has a large error, because values reach it that it was not calibrated for. "
            "Which op before it causes them?"
        )
    if layer != _DAMAGED:
        return f"debug shows for {layer} the error of a healthy op. Which is the first that is not?"
    if math.isclose(factor, 1 / _FACTOR, rel_tol=0.01):
        return None
    if math.isclose(factor, _FACTOR, rel_tol=0.01):
        return "the layer is right. This is the factor of the damage: what undoes it?"
    return (
        "the layer is right. For the factor, compare three scales in the file: those of the "
        "layer's bias, of its input and of its weights."
    )


_NEEDED_DB = 15


@exercise("06.7")
def _own_model(answer: Any) -> str | None:
    from quant_tutorial import metrics, models, tflite

    if isinstance(answer, str | bytes) or len(answer) != 3:
        return "three things are needed: (the float file, the integer file, some images)."
    floats, integers, images = answer
    for content in (floats, integers):
        if not isinstance(content, bytes):
            return no_bytes(content)
    before, after = tflite.inspect(floats), tflite.inspect(integers)
    if any(len(tensor.scales) for tensor in before.tensors):
        return "the first file must be the float one, and it has tensors with a scale."
    if not after.integer_only:
        return f"the second file: {after.verdict}"

    def shapes(file: flatbuffer.Graph) -> list[tuple[int, ...]]:
        return sorted(tensor.shape for tensor in file.tensors if tensor.kind == "weights")

    if shapes(after) == shapes(flatbuffer.graph(models.load_int8_baseline())):
        return "this is the course's own model. Take another one: its layers are up to you."
    if len(images) < 50:
        return f"{len(images)} images show little. Give at least 50."
    images = np.asarray(images)
    expected, got = (tflite.predict(content, images) for content in (floats, integers))
    found = metrics.sqnr_db(expected, got)
    if found >= _NEEDED_DB:
        return None
    worst = tflite.debug(floats, integers, images[:50]).worst
    return (
        f"the integer file's outputs have {found:.1f} dB, and {_NEEDED_DB} are needed. The op with "
        f"the largest own error is {worst.op} ({', '.join(worst.layers)}), {worst.own:.1f} scales."
    )
