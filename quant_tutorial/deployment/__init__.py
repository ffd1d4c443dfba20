"""Measure a `.tflite` file, pack it for a device, and document it (lesson 09)."""

from quant_tutorial.deployment.card import DIGIT_FACTS, CardFacts, model_card
from quant_tutorial.deployment.header import (
    c_array,
    compile_and_read_back,
    read_c_array,
    write_c_array,
)
from quant_tutorial.deployment.microcontroller import (
    Memory,
    arena_bytes,
    memory,
    micro_ops,
    micro_refusal,
)
from quant_tutorial.deployment.size import Sizes, sizes, weight_bytes
from quant_tutorial.deployment.timing import (
    Latency,
    Machine,
    latencies,
    latency,
    recorded_latencies,
)

__all__ = [
    "DIGIT_FACTS",
    "CardFacts",
    "Latency",
    "Machine",
    "Memory",
    "Sizes",
    "arena_bytes",
    "c_array",
    "compile_and_read_back",
    "latencies",
    "latency",
    "memory",
    "micro_ops",
    "micro_refusal",
    "model_card",
    "read_c_array",
    "recorded_latencies",
    "sizes",
    "weight_bytes",
    "write_c_array",
]
