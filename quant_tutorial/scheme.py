"""What is quantized how: bit widths, symmetry, granularity and calibrator (lessons 04 and 05).

Three levels of granularity, and what others call them:

| here           | one scale for …                     | TFLite, LiteRT   | PyTorch        |
| -------------- | ----------------------------------- | ---------------- | -------------- |
| `tensor-wise`  | all the weights of the model        | –                | –              |
| `layer-wise`   | the tensor of one layer             | per tensor       | per_tensor     |
| `channel-wise` | one output channel of one layer     | per axis/channel | per_channel    |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from quant_tutorial.affine import MAX_BITS, MIN_BITS

CALIBRATORS = ("min_max", "moving_average", "percentile", "mse", "entropy")
GRANULARITIES = ("tensor-wise", "layer-wise", "channel-wise")


@dataclass(frozen=True)
class TensorScheme:
    """How one kind of tensor is quantized (lesson 04).

    `bits` None leaves it in float. `symmetric` gives zero point 0, and the narrow range for
    weights. `calibrator` is one of `CALIBRATORS` (see `calibration`).

    Raises:
        ValueError: for a value that makes no sense; the message names the field.
    """

    bits: int | None = 8
    symmetric: bool = False
    granularity: str = "layer-wise"
    calibrator: str = "min_max"

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.bits is not None:
            whole = isinstance(self.bits, int) and not isinstance(self.bits, bool)
            if not whole or not MIN_BITS <= self.bits <= MAX_BITS:
                raise ValueError(
                    f"bits must be from {MIN_BITS} to {MAX_BITS}, or None for float; "
                    f"got {self.bits!r}."
                )
        if not isinstance(self.symmetric, bool):
            raise ValueError(f"symmetric must be True or False, got {self.symmetric!r}.")
        for name, known in (("granularity", GRANULARITIES), ("calibrator", CALIBRATORS)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.")

    def __repr__(self) -> str:
        """Say it in the course's words."""
        if self.bits is None:
            return "<float>"
        kind = "symmetric" if self.symmetric else "asymmetric"
        return f"<{self.bits} bits, {kind}, {self.granularity}, {self.calibrator}>"


FLOAT = TensorScheme(bits=None)


@dataclass(frozen=True)
class LayerScheme:
    """How one layer is quantized: its weights and the activation it gives (lesson 05)."""

    weights: TensorScheme = FLOAT
    activations: TensorScheme = FLOAT

    def __post_init__(self) -> None:
        """Check the fields."""
        _check_tensor_schemes(self, ("weights", "activations"))


@dataclass(frozen=True)
class QuantScheme:
    """How a model is quantized: weights, activations and input each in their own way (lesson 05).

    The default is LiteRT's full-integer int8: weights symmetric and channel-wise, activations
    asymmetric and layer-wise.

    Args:
        weights: For the weights of every layer.
        activations: For the output of every layer. LiteRT has no channel-wise activations: a scale
            that differs along the summed channels could not be taken out of the integer sum.
        input: For the model's input.
        overrides: Layers that differ, by name: a `LayerScheme`, or None to leave it in float.

    Raises:
        ValueError: for a combination that makes no sense; the message names the field.
    """

    weights: TensorScheme = TensorScheme(8, symmetric=True, granularity="channel-wise")
    activations: TensorScheme = TensorScheme(8)
    input: TensorScheme = TensorScheme(8)
    overrides: Mapping[str, LayerScheme | None] | tuple[tuple[str, LayerScheme], ...] = ()

    def __post_init__(self) -> None:
        """Check the fields; keep the overrides as a sorted tuple, so that the value is hashable."""
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
        """Give the scheme of a layer: its own, or the one for all."""
        return dict(self.overrides).get(name, LayerScheme(self.weights, self.activations))

    def with_layer(self, name: str, layer: LayerScheme | None) -> QuantScheme:
        """Give the same scheme with one layer treated differently; None leaves it in float."""
        return replace(self, overrides={**dict(self.overrides), name: layer})

    def check_layers(self, names: Iterable[str]) -> None:
        """Check that every override is for a layer of the model.

        Raises:
            ValueError: naming the override that is not, and the layers there are.
        """
        names = list(names)
        for name, _ in self.overrides:
            if name not in names:
                raise ValueError(
                    f"overrides[{name!r}] is for no layer of the model: it has {', '.join(names)}."
                )

    def __repr__(self) -> str:
        """Say it in the course's words, a line for each kind of tensor and each override."""
        names = ("weights", "activations", "input")
        lines = [f"{name}: {getattr(self, name)!r}" for name in names]
        for name, layer in self.overrides:
            both = f"weights {layer.weights!r}, activations {layer.activations!r}"
            lines.append(f"layer {name}: {both}")
        return "QuantScheme\n  " + "\n  ".join(lines)


def _check_tensor_schemes(scheme: Any, names: tuple[str, ...]) -> None:
    assert set(names) <= {field.name for field in fields(scheme)}
    for name in names:
        value = getattr(scheme, name)
        if not isinstance(value, TensorScheme):
            raise ValueError(f"{name} must be a TensorScheme, got {value!r}.")
        if name != "weights" and value.bits is not None and value.granularity != "layer-wise":
            raise ValueError(
                f"{name}.granularity must be layer-wise, got {value.granularity!r}: LiteRT has no "
                "other for activations; only weights can have it."
            )
