"""Write the parameters of a model for the pages that run it themselves (lesson 05).

The page chooses none: it looks up what `Simulator` has chosen, for all that an explorer offers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from quant_tutorial import models
from quant_tutorial.affine import MAX_BITS, MIN_BITS, QuantParams, quantize
from quant_tutorial.explorers.exported import encoded
from quant_tutorial.frameworks import keras
from quant_tutorial.scheme import CALIBRATORS, FLOAT, GRANULARITIES, QuantScheme, TensorScheme
from quant_tutorial.simulate import Simulator

import numpy as np

WEIGHT_CALIBRATORS = ("min_max", "mse")  # those that the explorers offer for weights
WEIGHT_BITS = range(MIN_BITS, 9)
ACTIVATION_BITS = range(MIN_BITS, MAX_BITS + 1)
SYMMETRIC = "16, symmetric"  # LiteRT's 16-bit activations, which lesson 10 offers


def tables(simulator: Simulator) -> dict[str, Any]:
    """Return the quantization parameters that a simulator chooses for all that explorers offer.

    The scales of the weights, whose zero points are 0, are by granularity, calibrator, bits and
    layer; tensor-wise by the names of the layers that share it. The scales and zero points of the
    activations are by calibrator, bits and node. Lesson 05.
    """
    return {"weights": _weight_scales(simulator), "activations": _activation_params(simulator)}


def _weight_scales(simulator: Simulator) -> dict[str, Any]:
    layers = list(simulator.weights)
    subsets = [s for n in range(len(layers)) for s in itertools.combinations(layers, n + 1)]
    found: dict[str, Any] = {}
    for granularity, calibrator in itertools.product(GRANULARITIES, WEIGHT_CALIBRATORS):
        by_bits = found.setdefault(granularity, {}).setdefault(calibrator, {})
        for bits in WEIGHT_BITS:
            scheme = TensorScheme(bits, True, granularity, calibrator)
            if granularity != "tensor-wise":
                chosen = simulator.params(QuantScheme(scheme, FLOAT, FLOAT)).weights
                by_bits[bits] = {n: np.asarray(p.scale).tolist() for n, p in chosen.items()}
                continue
            by_bits[bits] = {}
            for together in subsets:
                others = {name: None for name in layers if name not in together}
                chosen = simulator.params(QuantScheme(scheme, FLOAT, FLOAT, others)).weights
                by_bits[bits][",".join(together)] = chosen[together[0]].scale
    return found


def _activation_params(simulator: Simulator) -> dict[str, Any]:
    kinds = {str(bits): TensorScheme(bits) for bits in ACTIVATION_BITS}
    kinds[SYMMETRIC] = TensorScheme(16, symmetric=True)
    return {
        calibrator: {
            kind: _scales_and_zero_points(
                simulator, TensorScheme(scheme.bits, scheme.symmetric, calibrator=calibrator)
            )
            for kind, scheme in kinds.items()
        }
        for calibrator in CALIBRATORS
    }


def _scales_and_zero_points(
    simulator: Simulator, scheme: TensorScheme
) -> dict[str, tuple[float, int]]:
    chosen = simulator.params(QuantScheme(FLOAT, scheme, scheme)).activations
    return {name: (p.scale, p.zero_point) for name, p in chosen.items()}


def integer_layers(
    model: keras.Model, params: Mapping[str, QuantParams]
) -> dict[str, dict[str, Any]]:
    """Return the integer weights of each layer in the layout of LiteRT, with scales and bias.

    The output channels lie on the first axis; see `models.litert_layout`. Lesson 08.

    Args:
        model: A prepared model, with the float weights.
        params: The parameters of each layer's weights.
    """
    found = {}
    for name, weights in models.weights(model).items():
        layer, chosen = model.get_layer(name), params[name]
        integers = models.litert_layout(layer, quantize(weights, chosen))
        bias = np.asarray(layer.bias)
        found[name] = {
            "integers": encoded(integers.ravel()),
            "bias": encoded(bias),
            "channels": len(bias),
            **weights_as_data(chosen),
        }
    return found


def weights_as_data(params: QuantParams) -> dict[str, Any]:
    """Return bits and scale(s) of weights, which are symmetric in the narrow range (lesson 08).

    Raises:
        ValueError: when they are not.
    """
    if np.any(params.zero_point) or not params.narrow_range or not params.signed:
        raise ValueError(f"Weights must be symmetric in the narrow range, got {params}.")
    return {"bits": params.bits, "scale": np.asarray(params.scale).tolist()}


def activations_as_data(params: Mapping[str, QuantParams | None]) -> dict[str, Any]:
    """Return bits, scale and zero point of each node's values, None for float (lesson 08).

    Raises:
        ValueError: for parameters that leave out an integer, or are unsigned.
    """
    if any(p and (p.narrow_range or not p.signed) for p in params.values()):
        raise ValueError("Activations must use all signed integers of their bit width.")
    return {
        name: p and {"bits": p.bits, "scale": p.scale, "zeroPoint": p.zero_point}
        for name, p in params.items()
    }
