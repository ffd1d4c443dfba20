"""Describe a setting of the lab, and choose its quantization parameters (lesson 10)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any

from quant_tutorial import qat, rounding
from quant_tutorial.arguments import checked_choice
from quant_tutorial.scheme import FLOAT, LayerScheme, QuantScheme, TensorScheme
from quant_tutorial.simulate import ModelParams, Simulator

PTQ = "PTQ"  # the weights of the float baseline, each rounded to its nearest level
TRAINED = tuple(name for name, r in qat.SHIPPED.items() if r.ranges == "learned")
# The weights of the float baseline, rounded better (lesson 11).
ROUNDED = tuple(name for name in rounding.SHIPPED if not name.endswith("nearest"))
LAYERS = ("conv1", "conv2", "conv3", "logits")
WEIGHT_CALIBRATORS = ("min_max", "mse")  # the others need values that come in batches
LOW_PERCENT, HIGH_PERCENT = 25, 200  # limits of the sliders, in percent of a range
SAMPLE = 1000  # images for a first estimate


def _by_layer(name: str, value: Any, usual: int) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        return MappingProxyType(dict.fromkeys(LAYERS, value))
    if unknown := [layer for layer in value if layer not in LAYERS]:
        raise ValueError(
            f"{name}[{unknown[0]!r}] is for no layer of the model: it has {', '.join(LAYERS)}."
        )
    return MappingProxyType({layer: value.get(layer, usual) for layer in LAYERS})


@dataclass(frozen=True)
class Setting:
    """The values of the lab's controls (lesson 10).

    Args:
        weights: Bits of the weights, None for float; a mapping by layer, or one value for all
            layers. Layers that are missing in the mapping have 8 bits.
        activations: Bits of the activation of each layer, in the same form.
        image: Bits of the input, None for float.
        ranges: Ranges of the activations in percent of the calibrated or own ranges; a mapping by
            layer, or one value for all layers. Layers that are missing in the mapping have 100.
        source: Where the weights come from: "PTQ" for the float baseline's, rounded to the nearest
            level; one of `ROUNDED` for the float baseline's, rounded better; or one of `TRAINED`.
        granularity: The granularity of the weights, one of `scheme.GRANULARITIES`.
        weight_calibrator: The calibrator of the weights, "min_max" or "mse".
        calibrator: The calibrator of the activations, one of `scheme.CALIBRATORS`.
        own_ranges: With weights of `ROUNDED` or `TRAINED`, whether the tensors that have the bit
            width of the rounding or training also have its range. Weights of another bit width or
            range are rounded to the nearest level, from the values that they have in that model.

    Raises:
        ValueError: for an unknown source, layer, granularity or calibrator, for bits outside 2 to
            16 (weights: 2 to 8), or for a range that is not positive.
    """

    weights: Any = 8
    activations: Any = 8
    image: int | None = 8
    ranges: Any = 100
    source: str = PTQ
    granularity: str = "channel-wise"
    weight_calibrator: str = "min_max"
    calibrator: str = "min_max"
    own_ranges: bool = True

    def __post_init__(self) -> None:
        """Expand the fields to an entry for each layer, and check them."""
        checked_choice("source", self.source, (PTQ, *ROUNDED, *TRAINED))
        for name, usual in (("weights", 8), ("activations", 8), ("ranges", 100)):
            object.__setattr__(self, name, _by_layer(name, getattr(self, name), usual))
        for layer, percent in self.ranges.items():
            if not (isinstance(percent, Real) and percent > 0):
                raise ValueError(
                    f"ranges must be positive percentages, got {percent!r} for {layer}."
                )
        if self.weight_calibrator not in WEIGHT_CALIBRATORS:
            raise ValueError(
                f"weight_calibrator must be {' or '.join(WEIGHT_CALIBRATORS)}, got "
                f"{self.weight_calibrator!r}."
            )
        scheme(self)  # checks the rest
        if wide := [n for n, bits in self.weights.items() if bits is not None and bits > 8]:
            raise ValueError(
                f"weights must have at most 8 bits, got {self.weights[wide[0]]} for {wide[0]}: "
                "LiteRT has no wider integer weights."
            )

    @property
    def name(self) -> str:
        """A name for a file, different for each setting: PTQ_w8_a8, QAT_W2A2_w2_a8_ranges50."""
        origin = f"QAT_{self.source}" if self.source in TRAINED else self.source.replace(" ", "_")
        parts = [origin, f"w{_short(self.weights)}", f"a{_short(self.activations)}"]
        if any(bits != self.image for bits in self.activations.values()):
            parts.append(f"image{_short({'image': self.image})}")
        if any(percent != 100 for percent in self.ranges.values()):
            parts.append(f"ranges{_short(self.ranges)}")
        if self.granularity != "channel-wise":
            parts.append(self.granularity)
        if self.weight_calibrator != "min_max":
            parts.append(f"w-{self.weight_calibrator}")
        if self.calibrator != "min_max" and {*self.activations.values(), self.image} != {None}:
            parts.append(f"a-{self.calibrator}")
        if self.source != PTQ and not self.own_ranges:
            parts.append("calibrated")
        return "_".join(parts)


def scheme(setting: Setting) -> QuantScheme:
    """Return the scheme of a setting, before its ranges are scaled (lesson 10).

    Weights are symmetric. Activations are asymmetric, except at 16 bits, as in LiteRT.

    Raises:
        ValueError: for bits, a granularity or a calibrator that `TensorScheme` does not accept.
    """

    def weights(bits: int | None) -> TensorScheme:
        chosen = TensorScheme(bits, True, setting.granularity, setting.weight_calibrator)
        return FLOAT if bits is None else chosen

    def activations(bits: int | None) -> TensorScheme:
        chosen = TensorScheme(bits, symmetric=bits == 16, calibrator=setting.calibrator)
        return FLOAT if bits is None else chosen

    layers = {
        name: LayerScheme(weights(setting.weights[name]), activations(setting.activations[name]))
        for name in LAYERS
    }
    return QuantScheme(input=activations(setting.image), overrides=layers)


PRESETS: dict[str, Setting] = {
    "float": Setting(weights=None, activations=None, image=None),
    "8-bit deploy": Setting(),
    "4-bit weights": Setting(
        weights=4, activations=None, image=None, weight_calibrator="mse", calibrator="mse"
    ),
    "2-bit weights, nearest": Setting(weights=2, weight_calibrator="mse"),
    "2-bit weights, AdaRound": Setting(weights=2, source="W2A8 adaround", weight_calibrator="mse"),
    "2-bit weights, trained": Setting(weights=2, source="W2A8", weight_calibrator="mse"),
    "where PTQ breaks": Setting(
        weights=2, activations=2, weight_calibrator="mse", calibrator="mse"
    ),
    "rescued by QAT": Setting(
        weights=2, activations=2, source="W2A2", weight_calibrator="mse", calibrator="mse"
    ),
}
# For an exercise: some of its choices are bad, and one of them is only unusual.
SABOTAGED = Setting(
    weights=3, activations=4, ranges={"conv2": 25, "logits": 200}, granularity="layer-wise"
)


def model_params(
    simulator: Simulator, setting: Setting, own: ModelParams | None = None
) -> ModelParams:
    """Choose a setting's parameters, calibrated or own, with the activations' ranges scaled.

    Scaling both ends of a range by the same factor scales its step and leaves its zero point
    unchanged. Lesson 10.

    Args:
        simulator: The model.
        setting: The setting.
        own: The parameters with which the weights were trained, or rounded better; None for the
            float baseline.
    """
    chosen = simulator.params(scheme(setting))
    weights, activations = dict(chosen.weights), dict(chosen.activations)
    if own is not None and setting.own_ranges:
        for found, kept in ((weights, own.weights), (activations, own.activations)):
            found |= {name: kept[name] for name in _alike(found, kept)}
    for node in simulator.nodes:
        percent, params = setting.ranges.get(node.layer, 100), activations[node.name]
        if params is not None and percent != 100:
            scaled = dataclasses.replace(params, scale=params.scale * percent / 100)
            activations[node.name] = scaled
    return ModelParams(weights, activations)


def _alike(found: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """List the quantized tensors that have the bit width they were trained or rounded with."""
    return [n for n, p in found.items() if p and own[n] and p.bits == own[n].bits]


def _short(bits: Mapping[str, int | None]) -> str:
    values = ["float" if value is None else str(value) for value in bits.values()]
    return values[0] if len(set(values)) == 1 else "-".join(values)
