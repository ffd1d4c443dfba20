"""Instant checks of the exercises: `check("02.1", answer)` says whether the answer is right.

An answer that is still `...` is not an error, so that a notebook with open exercises runs through.
The right values are computed here, not stored. The lessons' solutions are in `notebooks/solutions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from quant_tutorial.affine import fake_quantize, params_from_range, quantize
from quant_tutorial.calibration import MovingAverage
from quant_tutorial.metrics import mse, packed_bytes

import numpy as np

_BASELINE_WEIGHTS = 14_066

# Number of an exercise → a function that gives None for a right answer, and a hint for others.
_CHECKS: dict[str, Callable[[Any], str | None]] = {}


def check(exercise: str, answer: Any) -> None:
    """Print whether an answer to an exercise is right, and a hint where it is not.

    Args:
        exercise: Its number as the notebook gives it, such as "02.1".
        answer: What the reader found: a number, a function, an array; `...` when still open.

    Raises:
        ValueError: for a number that no exercise has.
    """
    if exercise not in _CHECKS:
        raise ValueError(f"exercise must be one of {', '.join(_CHECKS)}, got {exercise!r}.")
    if answer is ...:
        print(f"Exercise {exercise}: not attempted yet. Put your answer in place of the dots.")
        return
    try:
        hint = _CHECKS[exercise](answer)
    except Exception as error:  # whatever the reader's own code raises is news for the reader
        hint = f"the check could not use this answer ({type(error).__name__}: {error})."
    print(f"Exercise {exercise}: " + ("right." if hint is None else f"not yet: {hint}"))


def _exercise(number: str) -> Callable[[Callable[[Any], str | None]], None]:
    def register(function: Callable[[Any], str | None]) -> None:
        _CHECKS[number] = function

    return register


def _number(answer: Any, right: float, hint: str) -> str | None:
    # A real number may be rounded, a count must be exact.
    tolerance = 0 if float(right).is_integer() else 1e-3
    return None if math.isclose(float(answer), right, rel_tol=tolerance) else hint


@_exercise("01.1")
def _bytes_at_4_bits(answer: Any) -> str | None:
    return _number(
        answer, packed_bytes(_BASELINE_WEIGHTS, 4), "count the bits first; a byte has 8 of them."
    )


@_exercise("01.2")
def _bits_that_fit(answer: Any) -> str | None:
    right = max(bits for bits in range(1, 33) if packed_bytes(_BASELINE_WEIGHTS, bits) <= 6144)
    return _number(answer, right, "try a bit width, count the bytes, compare with 6,144.")


@_exercise("02.1")
def _scale(answer: Any) -> str | None:
    right = params_from_range(-1, 1, 4).scale
    return _number(answer, right, "how many intervals do 16 levels have between them?")


@_exercise("02.2")
def _zero_point(answer: Any) -> str | None:
    right = params_from_range(-2, 6, 8).zero_point
    return _number(answer, right, "round(qmin − min / scale), with qmin = −128 and 255 intervals.")


@_exercise("02.3")
def _own_quantize(answer: Any) -> str | None:
    for low, high in ((0, 10), (-1, 3), (-127.5, 127.5)):
        params = params_from_range(low, high, 8)
        x = np.concatenate([np.linspace(low - 5, high + 5, 997), [0.5, 1.5, 2.5, -0.5, -2.5]])
        wrong = np.flatnonzero(
            np.asarray(answer(x, params.scale, params.zero_point)) != quantize(x, params)
        )
        if wrong.size:
            first = x[wrong[0]]
            return (
                f"x = {first:g} with scale {params.scale:.4g} and zero point {params.zero_point} "
                f"must give {quantize(first, params)}; look at rounding, offset and clipping."
            )
    return None


@_exercise("02.4")
def _bits_for_error(answer: Any) -> str | None:
    right = next(n for n in range(2, 17) if params_from_range(-1, 1, n).scale / 2 < 0.001)
    return _number(answer, right, "the largest rounding error is half a scale.")


@_exercise("03.1")
def _moving_average(answer: Any) -> str | None:
    seen = MovingAverage(momentum=0.9)
    seen.observe([4.0])
    seen.observe([6.0])
    return _number(
        answer, seen.range()[1], "the first batch sets the average, the second moves it."
    )


@_exercise("03.2")
def _best_end(answer: Any) -> str | None:
    values = np.random.default_rng(3).exponential(1, 10_000)

    def error(end: int) -> float:
        return mse(values, fake_quantize(values, params_from_range(0, end, 3)))

    return _number(answer, min(range(1, 9), key=error), "compute the error of each of the eight.")


@_exercise("03.3")
def _own_observer(answer: Any) -> str | None:
    seen = answer()
    batches = np.random.default_rng(0).normal(size=(5, 20))
    for batch in batches:
        seen.observe(batch)
    if tuple(map(float, seen.range())) != (batches.min(), batches.max()):
        return f"after five batches range() gives {seen.range()}, not the extremes of all of them."
    try:
        answer().range()
    except ValueError:
        return None
    return "range() must raise a ValueError when nothing was observed."


@_exercise("04.1")
def _count_of_scales(answer: Any) -> str | None:
    return _number(answer, 8 + 16 + 32 + 10, "one for each output channel of each layer.")


@_exercise("04.2")
def _folded(answer: Any) -> str | None:
    gain = 2 / math.sqrt(3 + 1)
    right = 3.0 * gain, (0.0 - 0.5) * gain + 0.1
    if np.allclose(np.asarray(answer, float), right):
        return None
    return "the factor is γ/√(variance + ε); the mean is multiplied by it too, β is not."


@_exercise("04.3")
def _channel_scales(answer: Any) -> str | None:
    kernel = np.random.default_rng(1).normal(size=(3, 3, 4, 6))
    for bits in (8, 4, 2):
        right = np.abs(kernel).max(axis=(0, 1, 2)) / (2 ** (bits - 1) - 1)
        got = np.asarray(answer(kernel, bits))
        if got.shape != right.shape:
            return f"for a kernel of shape {kernel.shape} six scales are needed, got {got.shape}."
        if not np.allclose(got, right):
            return f"at {bits} bits the first scale must be {right[0]:.5f}, got {got[0]:.5f}."
    return None


@_exercise("05.1")
def _mixed_bytes(answer: Any) -> str | None:
    right = sum(packed_bytes(count, 5) for count in (72, 1152, 4608)) + packed_bytes(8000, 3)
    return _number(answer, right, "count the bits of each kernel; a byte has 8 of them.")


@_exercise("05.2")
def _own_node(answer: Any) -> str | None:
    x = np.random.default_rng(5).normal(0, 2, 500)
    for low, high, bits in ((-1.3, 4.1, 8), (0, 3, 3), (-2, 0.5, 2)):
        params = params_from_range(low, high, bits)
        got = np.asarray(answer(x, params.scale, params.zero_point, bits))
        wrong = np.flatnonzero(~np.isclose(got, fake_quantize(x, params)))
        if wrong.size:
            first = x[wrong[0]]
            return (
                f"x = {first:.4f} with scale {params.scale:.4g}, zero point {params.zero_point} "
                f"and {bits} bits must give {float(fake_quantize(first, params)):.4f}."
            )
    return None


@_exercise("05.3")
def _good_three_bits(answer: Any) -> str | None:
    from quant_tutorial import metrics, mnist, models
    from quant_tutorial.scheme import QuantScheme
    from quant_tutorial.simulate import Simulator
    from quant_tutorial.stages import StagedRun

    if not isinstance(answer, QuantScheme):
        return f"a QuantScheme is needed, not {type(answer).__name__}."
    data = mnist.load()
    simulator = Simulator(models.load_baseline(), mnist.to_float(data.x_train[:1000]))
    params = simulator.params(answer)
    for name, chosen in params.weights.items():
        if chosen is None or chosen.bits > 3:
            return f"the weights of {name} have {chosen.bits if chosen else 32} bits, not 3."
    for name, chosen in params.activations.items():
        if chosen is None or chosen.bits > 8:
            return f"the activation {name} has {chosen.bits if chosen else 32} bits; 8 are allowed."
    outputs = StagedRun(simulator, mnist.to_float(data.x_test)).outputs(params)
    share = metrics.accuracy(outputs, data.y_test)
    hint = (
        f"its accuracy is {share:.1%}: look at the calibrator and granularity of the weights, and "
        "at the bits of the activations."
    )
    return None if share >= 0.985 else hint


@_exercise("06.1")
def _pixel(answer: Any) -> str | None:
    right = quantize(200 / 255, params_from_range(0, 1, 8))
    return _number(
        answer, float(right), "with scale 1/255 and zero point −128, what is left of /255?"
    )


@_exercise("06.2")
def _own_uint8_model(answer: Any) -> str | None:
    from quant_tutorial import mnist, tflite

    if not isinstance(answer, bytes):
        return f"the bytes of a .tflite file are needed, not {type(answer).__name__}."
    source, _ = tflite.input_output(answer)
    if source.dtype != np.uint8:
        return f"the model's input is {source.dtype}; it must be uint8."
    if any(tensor.dtype.kind == "f" for tensor in tflite.tensors(answer)):
        return "some tensors are still floats."
    data = mnist.load()
    accuracy = tflite.evaluate(answer, mnist.to_float(data.x_test), data.y_test).accuracy
    return (
        None if accuracy > 0.99 else f"its accuracy is {accuracy:.1%}: which images calibrate it?"
    )


@_exercise("06.3")
def _own_mixed_model(answer: Any) -> str | None:
    from quant_tutorial.inspection import inspect

    if not isinstance(answer, bytes):
        return f"the bytes of a .tflite file are needed, not {type(answer).__name__}."
    wanted = {"CONV_2D": "int8", "FULLY_CONNECTED": "float32"}
    ops = [op for op in inspect(answer).ops if op.type in wanted]
    if [op.type for op in ops] != ["CONV_2D"] * 3 + ["FULLY_CONNECTED"]:
        found = ", ".join(op.type for op in ops) or "none of them"
        return f"the model has three CONV_2D and then one FULLY_CONNECTED, this file {found}."
    for op in ops:
        places = zip(("input", "weights", "output"), (*op.inputs[:2], op.outputs[0]), strict=True)
        for place, tensor in places:
            if tensor.type != wanted[op.type]:
                return f"the {place} of {op} must be {wanted[op.type]}, got {tensor.type}."
    return None


@_exercise("07.1")
def _products_that_fit(answer: Any) -> str | None:
    right = (2**31 - 1) // (255 * 127)
    return _number(answer, right, "the largest |x − z| is 255, the largest |w| 127.")


@_exercise("07.2")
def _multiplier_and_shift(answer: Any) -> str | None:
    from quant_tutorial.integer import fixed_point

    multiplier, shift = answer
    if not 2**14 <= multiplier < 2**15:
        return "the multiplier must have 15 bits: from 2^14 to 2^15 − 1."
    right = fixed_point(0.0037, bits=15)
    return (
        None if (multiplier, shift) == right else "0.0037 = fraction · 2^shift, ½ ≤ fraction < 1."
    )


@_exercise("07.3")
def _own_shift(answer: Any) -> str | None:
    from quant_tutorial.integer import rounding_shift

    big = 2**60 + np.arange(-3, 4)  # a float has no room for all their bits
    x = np.concatenate([np.arange(-40, 41), big, -big]).astype(np.int64)
    for places in (0, 1, 2, 5):
        got = np.asarray(answer(x.copy(), places))
        if got.dtype.kind != "i":
            return f"the result must hold integers, got {got.dtype}."
        wrong = np.flatnonzero(got != rounding_shift(x, places))
        if wrong.size:
            first = x[wrong[0]]
            right = int(rounding_shift(first, places))
            return f"{first} divided by 2^{places} must give {right}, not {got[wrong[0]]}."
    return None


@_exercise("08.1")
def _straight_through(answer: Any) -> str | None:
    scale, low, high = 0.25, -8, 7
    steps = np.array([-2.1, -0.4, 1.7, 1.8]) / scale
    right = ((low <= steps) & (steps <= high)).astype(float)
    given = np.asarray(answer, float)
    if given.shape != right.shape:
        return f"four numbers are needed, got {given.shape}."
    wrong = np.flatnonzero(given != right)
    return f"look at number {wrong[0] + 1}: is it inside −2 to 1.75?" if wrong.size else None


@_exercise("08.2")
def _own_scale_gradient(answer: Any) -> str | None:
    from quant_tutorial import qat

    import tensorflow as tf

    x = np.random.default_rng(8).normal(0, 1, 400).astype(np.float32)
    for scale, zero_point, bits in ((0.3, 0, 3), (0.1, -4, 4), (0.02, 10, 8)):
        qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        with tf.GradientTape() as tape:
            scales = tf.fill(x.shape, np.float32(scale))  # one for each value: no sum
            tape.watch(scales)
            y = qat.straight_through(x, scales, np.float32(zero_point), qmin, qmax)
        right = np.asarray(tape.gradient(y, scales))
        given = np.asarray(answer(x, scale, qmin - zero_point, qmax - zero_point), float)
        if given.shape != right.shape:
            return f"the result must have the shape {right.shape}, got {given.shape}."
        off = np.abs(given - right)
        off = np.where(np.abs(off - 1) < 1e-3, 0, off)  # a tie, rounded the other way
        if off.max() > 1e-3:
            i = int(off.argmax())
            return (
                f"at x = {x[i]:.3f}, scale {scale}, low {qmin - zero_point}, high "
                f"{qmax - zero_point} it is {right[i]:.3f}, not {given[i]:.3f}."
            )
    return None


@_exercise("08.3")
def _own_two_bit_model(answer: Any) -> str | None:
    from quant_tutorial import metrics, mnist, models, qat

    import keras

    if not isinstance(answer, keras.Model):
        return f"a Keras model is needed, not {type(answer).__name__}."
    params = qat.trained_params(answer)
    for name, chosen in params.weights.items():
        if chosen is None or chosen.bits != 2:
            return f"the weights of {name} have {chosen.bits if chosen else 32} bits, not 2."
    for name, chosen in params.activations.items():
        if chosen is None or chosen.bits > 8:
            return f"the activations of {name} have {chosen.bits if chosen else 32} bits, not 8."
    data = mnist.load()
    outputs = models.predict(answer, mnist.to_float(data.x_test))
    share = metrics.accuracy(outputs, data.y_test)
    return None if share >= 0.96 else f"it reads {share:.1%}: more steps, or a larger rate?"


@_exercise("09.1")
def _reported_latency(answer: Any) -> str | None:
    timed = [95, 31, 12, 11, 14, 340, 13, 12, 11]
    hint = "leave out the warm-up, and take the figure that one disturbed run does not move."
    return _number(answer, float(np.median(timed[2:])), hint)


@_exercise("09.2")
def _own_micro_file(answer: Any) -> str | None:
    from quant_tutorial import deployment, mnist, tflite

    if not isinstance(answer, bytes):
        return f"the bytes of a .tflite file are needed, not {type(answer).__name__}."
    reason = deployment.micro_refusal(answer)
    if reason is not None:
        return f"TFLM does not run it: {reason}"
    for side, tensor in zip(("input", "output"), tflite.input_output(answer), strict=True):
        if tensor.type != "uint8":
            return f"the model's {side} is {tensor.type}; it must be uint8."
    if len(answer) > 20_000:
        return f"it has {len(answer):,} bytes, and 20,000 fit."
    arena = deployment.arena_bytes(answer)
    if arena > 8000:
        return f"its activations need {arena:,} bytes, and there are 8,000."
    data = mnist.load()
    accuracy = tflite.evaluate(answer, mnist.to_float(data.x_test), data.y_test).accuracy
    return (
        None if accuracy > 0.99 else f"its accuracy is {accuracy:.1%}: which images calibrate it?"
    )


@_exercise("09.3")
def _own_header(answer: Any) -> str | None:
    import re
    import tempfile
    from pathlib import Path

    from quant_tutorial import deployment

    random = np.random.default_rng(9).bytes(1000)
    for content, name in ((b"\x00\xff", "two_bytes"), (random, "model")):
        text = answer(content, name)
        if not isinstance(text, str):
            return f"the result must be a text, got {type(text).__name__}."
        if deployment.read_c_array(text) != content:
            return f"the array does not hold the {len(content):,} bytes that it was given."
        for word in (f"{name}[", f"{name}_len"):
            if word not in re.sub(r"\s+\[", "[", text):
                return f"{word.rstrip('[')} is not defined."
        code = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
        if not re.search(r"align\w*\s*\(+\s*16\b", code, re.IGNORECASE):
            return "the array must be aligned to 16 bytes: alignas(16) before its type."
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "header.h"
            path.write_text(text, encoding="utf-8")
            try:
                compiled = deployment.compile_and_read_back(path)
            except RuntimeError as error:
                return "\n".join(str(error).splitlines()[:4])
        if compiled not in (None, content):
            return "the compiled array holds other bytes."
    return None


@_exercise("10.1")
def _own_small_setting(answer: Any) -> str | None:
    from quant_tutorial import mnist, models
    from quant_tutorial.lab import PTQ, Lab, Setting

    if not isinstance(answer, Setting):
        return f"a Setting is needed, not {type(answer).__name__}."
    if answer.source != PTQ:
        return f"source is {answer.source}: here the float baseline's weights are to be rounded."
    data = mnist.load()
    images, labels = mnist.to_float(data.x_test), data.y_test
    lab = Lab(models.load_baseline(), mnist.to_float(data.x_train[:1000]), images, labels)
    reading = lab.measure(answer)
    if reading.weight_bytes > 5000:
        return f"its weights take {reading.weight_bytes:,} bytes, and 5,000 fit."
    hint = f"its accuracy is {reading.accuracy:.1%}: which layer bears 2 bits best?"
    return None if reading.accuracy >= 0.975 else hint


@_exercise("10.2")
def _own_small_file(answer: Any) -> str | None:
    from quant_tutorial import mnist, tflite

    if not isinstance(answer, bytes):
        return f"the bytes of a .tflite file are needed, not {type(answer).__name__}."
    if len(answer) > 9000:
        return f"it has {len(answer):,} bytes, and 9,000 fit: how many bits do the weights have?"
    data = mnist.load()
    accuracy = tflite.evaluate(answer, mnist.to_float(data.x_test), data.y_test).accuracy
    hint = "whose weights are they, and what activations were they trained with?"
    return None if accuracy >= 0.993 else f"its accuracy is {accuracy:.1%}: {hint}"


@_exercise("10.3")
def _own_rule(answer: Any) -> str | None:
    from quant_tutorial import mnist, models
    from quant_tutorial.lab import Setting, model_params, plan
    from quant_tutorial.simulate import Simulator

    if not callable(answer):
        return f"a function is needed, not {type(answer).__name__}."
    images = mnist.to_float(mnist.load().x_train[:100])
    simulator = Simulator(models.load_baseline(), images)
    for weights in (None, *range(2, 9)):
        for activations in (None, *range(2, 17)):
            setting = Setting(weights, activations, image=activations)
            right = plan(simulator, model_params(simulator, setting))
            if bool(answer(weights, activations)) != (right.make is not None):
                is_there = "there is no such file" if right.make is None else "there is one"
                return (
                    f"with weights of {weights} and activations of {activations} bits "
                    f"{is_there}. {right.reason}"
                )
    return None
