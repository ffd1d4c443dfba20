"""Simulate quantized models in Keras, fast enough for a slider (lesson 05)."""

from quant_tutorial.simulate.fake_quantize import FakeQuantize, rounded, run_time_values
from quant_tutorial.simulate.files import PACKED_BITS, int8_file, low_bit_file
from quant_tutorial.simulate.graph import Node, activation, nodes, prepare, rebuild
from quant_tutorial.simulate.operations import Function, WithConstant
from quant_tutorial.simulate.sensitivity import (
    Health,
    Mix,
    Search,
    Sensitivity,
    health,
    layer_sensitivity,
    pareto_front,
    rounding_ratio,
    search_bits,
    with_weight_bits,
)
from quant_tutorial.simulate.simulator import (
    HEADER,
    ModelParams,
    Place,
    Simulator,
    set_constants,
    simulate,
    with_params,
)
from quant_tutorial.simulate.staged import StagedRun
from quant_tutorial.simulate.walking import layer_of

__all__ = [
    "HEADER",
    "PACKED_BITS",
    "FakeQuantize",
    "Function",
    "Health",
    "Mix",
    "ModelParams",
    "Node",
    "Place",
    "Search",
    "Sensitivity",
    "Simulator",
    "StagedRun",
    "WithConstant",
    "activation",
    "health",
    "int8_file",
    "layer_of",
    "layer_sensitivity",
    "low_bit_file",
    "nodes",
    "pareto_front",
    "prepare",
    "rebuild",
    "rounded",
    "rounding_ratio",
    "run_time_values",
    "search_bits",
    "set_constants",
    "simulate",
    "with_params",
    "with_weight_bits",
]
