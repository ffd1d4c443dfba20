"""Check the answers to the exercises of lesson 08."""

from __future__ import annotations

from typing import Any

from quant_tutorial.checks.registry import exercise

import numpy as np


@exercise("08.1")
def _straight_through(answer: Any) -> str | None:
    scale, low, high = 0.25, -8, 7
    steps = np.array([-2.1, -0.4, 1.7, 1.8]) / scale
    right = ((low <= steps) & (steps <= high)).astype(float)
    given = np.asarray(answer, float)
    if given.shape != right.shape:
        return f"four numbers are needed, got {given.shape}."
    wrong = np.flatnonzero(given != right)
    return f"look at number {wrong[0] + 1}: is it inside −2 to 1.75?" if wrong.size else None


@exercise("08.2")
def _own_scale_gradient(answer: Any) -> str | None:
    from quant_tutorial import qat
    from quant_tutorial.frameworks import tf

    x = np.random.default_rng(8).normal(0, 1, 400).astype(np.float32)
    for scale, zero_point, bits in ((0.3, 0, 3), (0.1, -4, 4), (0.02, 10, 8)):
        qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        with tf.GradientTape() as tape:
            # One scale for each value, so that the gradients are not summed.
            scales = tf.fill(x.shape, np.float32(scale))
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


@exercise("08.3")
def _own_two_bit_model(answer: Any) -> str | None:
    from quant_tutorial import metrics, mnist, models, qat
    from quant_tutorial.frameworks import keras

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
