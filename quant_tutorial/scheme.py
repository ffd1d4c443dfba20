"""Describe how a model is quantized: bits, symmetry, granularity, calibrator (lessons 04 and 05).

The three levels of granularity, and their names elsewhere:

| here           | one scale for …                 | the field   | TFLite, LiteRT   | PyTorch     |
| -------------- | ------------------------------- | ----------- | ---------------- | ----------- |
| `tensor-wise`  | all the weights of the model    | model-wide  | –                | –           |
| `layer-wise`   | the tensor of one layer         | per tensor  | per tensor       | per_tensor  |
| `channel-wise` | one output channel of one layer | per channel | per axis/channel | per_channel |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from quant_tutorial.affine import MAX_BITS, MIN_BITS
from quant_tutorial.arguments import checked_choice, is_whole

CALIBRATORS = ("min_max", "moving_average", "percentile", "mse", "entropy")
GRANULARITIES = ("tensor-wise", "layer-wise", "channel-wise")
# What the field calls each of them; the lessons' texts and figures use these words.
GRANULARITY_NAMES = dict(
    zip(GRANULARITIES, ("model-wide", "per tensor", "per channel"), strict=True)
)


@dataclass(frozen=True)
class TensorScheme:
    """The scheme by which one kind of tensor is quantized (lesson 04).

    With `bits=None` the tensor stays in float. With `symmetric` the zero point is 0, and weights
    use the narrow range. `granularity` is one of `GRANULARITIES`, and `calibrator` is one of
    `CALIBRATORS` (see `calibration`).

    Raises:
        ValueError: for an invalid value; the message names the field.
    """

    bits: int | None = 8
    symmetric: bool = False
    granularity: str = "layer-wise"
    calibrator: str = "min_max"

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.bits is not None:
            if not is_whole(self.bits) or not MIN_BITS <= self.bits <= MAX_BITS:
                raise ValueError(
                    f"bits must be from {MIN_BITS} to {MAX_BITS}, or None for float; "
                    f"got {self.bits!r}."
                )
            object.__setattr__(self, "bits", int(self.bits))
        if not isinstance(self.symmetric, bool):
            raise ValueError(f"symmetric must be True or False, got {self.symmetric!r}.")
        for name, known in (("granularity", GRANULARITIES), ("calibrator", CALIBRATORS)):
            checked_choice(name, getattr(self, name), known)

    def __repr__(self) -> str:
        """Return a description in the course's terms."""
        if self.bits is None:
            return "<float>"
        kind = "symmetric" if self.symmetric else "asymmetric"
        return f"<{self.bits} bits, {kind}, {self.granularity}, {self.calibrator}>"


FLOAT = TensorScheme(bits=None)


@dataclass(frozen=True)
class LayerScheme:
    """The scheme by which one layer is quantized: its weights and its output (lesson 05)."""

    weights: TensorScheme = FLOAT
    activations: TensorScheme = FLOAT

    def __post_init__(self) -> None:
        """Check the fields."""
        _check_tensor_schemes(self, ("weights", "activations"))


@dataclass(frozen=True)
class QuantScheme:
    """The scheme by which a model is quantized: weights, activations and input (lesson 05).

    The default is LiteRT's full-integer int8: weights symmetric and channel-wise, activations
    asymmetric and layer-wise.

    Args:
        weights: The scheme for the weights of every layer.
        activations: The scheme for the output of every layer. LiteRT has no channel-wise
            activations: a scale that differs along the summed channels could not be factored out of
            the integer sum.
        input: The scheme for the model's input.
        overrides: Layers with a different scheme, by name: a `LayerScheme`, or None to leave the
            layer in float.

    Raises:
        ValueError: for an invalid combination; the message names the field.
    """

    weights: TensorScheme = TensorScheme(8, symmetric=True, granularity="channel-wise")
    activations: TensorScheme = TensorScheme(8)
    input: TensorScheme = TensorScheme(8)
    overrides: Mapping[str, LayerScheme | None] | tuple[tuple[str, LayerScheme], ...] = ()

    def __post_init__(self) -> None:
        """Check the fields and store the overrides as a sorted tuple, which is hashable."""
        _check_tensor_schemes(self, ("weights", "activations", "input"))
        layers = dict(self.overrides)
        for name, layer in layers.items():
            if layer is not None and not isinstance(layer, LayerScheme):
                raise ValueError(
                    f"overrides[{name!r}] must be a LayerScheme, or None for float; got {layer!r}."
                )
        kept = tuple((name, layers[name] or LayerScheme()) for name in sorted(layers))
        object.__setattr__(self, "overrides", kept)

    def for_layer(self, name: str) -> LayerScheme:
        """Return the scheme of a layer: its override, or the scheme for all layers."""
        return dict(self.overrides).get(name, LayerScheme(self.weights, self.activations))

    def with_layer(self, name: str, layer: LayerScheme | None) -> QuantScheme:
        """Return a copy with an override for one layer; None leaves the layer in float."""
        return replace(self, overrides={**dict(self.overrides), name: layer})

    def check_layers(self, names: Iterable[str]) -> None:
        """Check that every override is for a layer of the model.

        Raises:
            ValueError: when one is not; the message names it and lists the layers of the model.
        """
        names = list(names)
        for name, _ in self.overrides:
            if name not in names:
                raise ValueError(
                    f"overrides[{name!r}] is for no layer of the model: it has {', '.join(names)}."
                )

    def __repr__(self) -> str:
        """Return a description with one line for each kind of tensor and each override."""
        names = ("weights", "activations", "input")
        lines = [f"{name}: {getattr(self, name)!r}" for name in names]
        for name, layer in self.overrides:
            both = f"weights {layer.weights!r}, activations {layer.activations!r}"
            lines.append(f"layer {name}: {both}")
        return "QuantScheme\n  " + "\n  ".join(lines)


def named_scheme(
    weight_bits: int, activation_bits: int, calibrator: str | None = None
) -> QuantScheme:
    """Return the scheme that the course compares at all widths (lesson 08).

    Weights are symmetric and channel-wise, activations have one scale, and the input has 8 bits.
    The default calibrator is "min_max" at 8 bits and "mse" below, where clipping reduces the error.
    """
    one, other = (
        calibrator or ("min_max" if bits >= 8 else "mse") for bits in (weight_bits, activation_bits)
    )
    return QuantScheme(
        TensorScheme(weight_bits, True, "channel-wise", one),
        TensorScheme(activation_bits, calibrator=other),
    )


def _check_tensor_schemes(scheme: Any, names: tuple[str, ...]) -> None:
    assert set(names) <= {field.name for field in fields(scheme)}
    for name in names:
        value = getattr(scheme, name)
        if not isinstance(value, TensorScheme):
            raise ValueError(f"{name} must be a TensorScheme, got {value!r}.")
        if name != "weights" and value.bits is not None and value.granularity != "layer-wise":
            raise ValueError(
                f"{name}.granularity must be layer-wise, got {value.granularity!r}: LiteRT "
                "supports no other for activations."
            )


IN_FLOAT = QuantScheme(FLOAT, FLOAT, FLOAT)  # nothing is quantized
