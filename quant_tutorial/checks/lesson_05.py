"""Check the answers to the exercises of lesson 05."""

from __future__ import annotations

from typing import Any

from quant_tutorial.affine import fake_quantize, params_from_range
from quant_tutorial.checks.registry import exercise, is_number
from quant_tutorial.metrics import packed_bytes

import numpy as np


@exercise("05.1")
def _mixed_bytes(answer: Any) -> str | None:
    right = sum(packed_bytes(count, 5) for count in (72, 1152, 4608)) + packed_bytes(8000, 3)
    return is_number(answer, right, "count the bits of each kernel; a byte has 8 of them.")


@exercise("05.2")
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


@exercise("05.3")
def _good_three_bits(answer: Any) -> str | None:
    from quant_tutorial import metrics, mnist, models
    from quant_tutorial.scheme import QuantScheme
    from quant_tutorial.simulate import Simulator, StagedRun

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
