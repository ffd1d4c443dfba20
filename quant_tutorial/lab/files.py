"""Decide whether LiteRT has a file for a setting of the lab, and make it (lesson 10)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from quant_tutorial import simulate, tflite
from quant_tutorial.affine import QuantParams
from quant_tutorial.scheme import QuantScheme, TensorScheme
from quant_tutorial.simulate import ModelParams, Simulator

import numpy as np
from numpy.typing import NDArray


class Plan(NamedTuple):
    """How to make the file of a model with certain quantization parameters (lesson 10).

    `make` takes calibration images and returns the bytes of the file, and `reason` describes the
    file. If LiteRT has no such file, `make` is None, and `reason` explains why.
    """

    reason: str
    make: Callable[[NDArray[np.float32]], bytes] | None


def plan(simulator: Simulator, params: ModelParams) -> Plan:
    """Plan the `.tflite` file that computes with these parameters, if LiteRT has one (lesson 10).

    The file computes the same as the simulation. A tool that would choose other parameters than
    these is therefore not used.
    """
    owners = {node.name: node.layer for node in simulator.nodes}
    widths = {name: p and p.bits for name, p in params.activations.items()}
    spared = [name for name, p in params.weights.items() if p is None]
    if all(bits is None for bits in widths.values()):
        return _with_float_activations(simulator, params, spared)
    for name, bits in widths.items():
        if bits not in (None, 8, 16):
            return Plan(
                f"{_said(owners[name], params.activations[name])}: LiteRT's kernels take integer "
                "activations of 8 bits, or of 16 beside 8-bit weights.",
                None,
            )
    if 16 in widths.values():
        return _sixteen(simulator, params)
    if spared or None in widths.values():
        return _with_float_layers(simulator, params, spared, owners)
    for per_channel, granularity in ((True, "channel-wise"), (False, "layer-wise")):
        if params == _converters_choice(simulator, 8, granularity):
            options = {"mode": "int8", "per_channel": per_channel}
            return Plan(
                f"full-integer int8 with {granularity} weights, made by the TFLite converter.",
                partial(_converted, simulator, options),
            )
    return Plan(
        f"full-integer int8, with these ranges written into the model.{_bits_in_file(params)}",
        lambda _: simulate.int8_file(simulator.model, params, packed=True),
    )


def _bits_in_file(params: ModelParams) -> str:
    """Return a sentence on the bits that narrow weights take in a full-integer file, if any."""
    packed = [name for name, p in params.weights.items() if p.bits <= simulate.PACKED_BITS]
    if len(packed) == len(params.weights):
        return " Its weights take 4 bits each in the file."
    if packed:
        return f" The weights of {', '.join(packed)} take 4 bits each in the file, the others 8."
    is_narrow = any(p.bits < 8 for p in params.weights.values())
    return " Its weights take 8 bits each in the file." if is_narrow else ""


def _with_float_activations(simulator: Simulator, params: ModelParams, spared: list[str]) -> Plan:
    if len(spared) == len(params.weights):
        return Plan(
            "float32: nothing is rounded.", lambda _: tflite.convert(simulator.model, "float32")
        )
    if spared:
        return Plan(
            f"The weights of {spared[0]} are floats beside integer ones. A LiteRT file may mix "
            "them, but litert-quantizer's recipes treat all layers alike: round the weights of all "
            "layers, or of none.",
            None,
        )
    widest = max(p.bits for p in params.weights.values())
    bits = next(bits for bits in (2, 4, 8) if bits >= widest)
    recipe = f"weight_only_wi{bits}_afp32"
    return Plan(
        f"weights only: {bits} bits each in the file, unpacked to floats when it runs.",
        lambda _: simulate.low_bit_file(simulator.model, params, recipe),
    )


def _sixteen(simulator: Simulator, params: ModelParams) -> Plan:
    if any(p is None or p.bits != 16 for p in params.activations.values()):
        return Plan(
            "Only some activations have 16 bits: LiteRT's 16x8 kernels take 16 bits for all of "
            "them and for the input.",
            None,
        )
    for name, chosen in params.weights.items():
        if chosen is None or chosen.bits != 8:
            bits = "are floats" if chosen is None else f"have {chosen.bits} bits"
            return Plan(
                f"The weights of {name} {bits}: beside 16-bit activations LiteRT takes 8-bit "
                "weights.",
                None,
            )
    if params != _converters_choice(simulator, 16, "channel-wise"):
        return Plan(
            "16x8 files come from the TFLite converter alone, which chooses the ranges itself: "
            "minimum and maximum, at 100%, and a scale for each channel of the weights.",
            None,
        )
    return Plan(
        "16x8: 16-bit activations and 8-bit weights, made by the TFLite converter.",
        partial(_converted, simulator, {"mode": "int16x8"}),
    )


def _with_float_layers(
    simulator: Simulator, params: ModelParams, spared: list[str], owners: Mapping[str, str]
) -> Plan:
    """Plan a file in which each op computes either in float or in integers."""
    wanted = _converters_choice(simulator, 8, "channel-wise", spared)
    readers = {s: node.layer for node in simulator.nodes for s in node.sources}
    for name, found in params.activations.items():
        if found is None and wanted.activations[name] is not None:
            layer = owners[name]
            integer = layer if layer in params.weights and layer not in spared else readers[name]
            return Plan(
                f"{_said(layer, None)}, but {integer} has integer weights: LiteRT's integer "
                "kernels take integers in and give integers out.",
                None,
            )
        if found is not None and wanted.activations[name] is None:
            return Plan(
                f"{_said(owners[name], found)}, but no layer that gives or reads it has integer "
                "weights: LiteRT's float kernels round nothing.",
                None,
            )
    if params != wanted:
        return Plan(
            "Files with some layers in float come from the TFLite converter alone, which chooses "
            "the ranges itself: 8 bits for the rest, minimum and maximum, at 100%, and a scale "
            "for each channel of the weights.",
            None,
        )
    return Plan(
        f"int8 with {', '.join(spared)} in float, made by the TFLite converter.",
        partial(_converted, simulator, {"mode": "int8_fallback", "float_layers": spared}),
    )


def _converted(
    simulator: Simulator, options: Mapping[str, Any], images: NDArray[np.float32]
) -> bytes:
    return tflite.convert(simulator.model, calibration=images, **options)


def _converters_choice(
    simulator: Simulator, bits: int, granularity: str, spared: list[str] | None = None
) -> ModelParams:
    """Return the parameters that the TFLite converter chooses, with some layers left in float."""
    spared = spared or []
    activations = TensorScheme(bits, symmetric=bits == 16)
    chosen = simulator.params(
        QuantScheme(TensorScheme(8, True, granularity), activations, activations)
    )
    integer: set[str] = set()  # the nodes that integer ops read or compute
    for node in simulator.nodes:
        if node.weights and node.weights not in spared:
            integer |= {node.name, *node.sources}
    return ModelParams(
        {name: None if name in spared else p for name, p in chosen.weights.items()},
        {name: p if name in integer else None for name, p in chosen.activations.items()},
    )


def _said(layer: str, params: QuantParams | None) -> str:
    """Return a description of an activation: "The activations of conv1 have 4 bits"."""
    if layer == "image":
        return "The input is in float" if params is None else f"The input has {params.bits} bits"
    bits = "are floats" if params is None else f"have {params.bits} bits"
    return f"The activations of {layer} {bits}"
