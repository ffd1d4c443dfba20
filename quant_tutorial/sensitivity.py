"""Which layers suffer from quantization, and how many bits each needs (lesson 05)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from quant_tutorial import metrics
from quant_tutorial.affine import QuantParams, fake_quantize
from quant_tutorial.scheme import FLOAT, LayerScheme, QuantScheme
from quant_tutorial.simulate import Place, Simulator
from quant_tutorial.stages import StagedRun

import numpy as np
from numpy.typing import ArrayLike, NDArray

HEALTHY = 1 / math.sqrt(12)  # the RMS of an error that is spread evenly over one step


class Sensitivity(NamedTuple):
    """What quantizing a layer does to the model: accuracy (0 to 1), SQNR of the logits in dB."""

    layer: str
    alone: float  # accuracy with this layer quantized and all others in float
    alone_db: float
    spared: float  # accuracy with this layer in float and all others quantized
    spared_db: float


def layer_sensitivity(
    simulator: Simulator,
    run: StagedRun,
    labels: NDArray[np.integer],
    scheme: QuantScheme,
    layers: Iterable[str] | None = None,
) -> list[Sensitivity]:
    """Quantize one layer at a time, then leave one at a time in float (lesson 05).

    A layer is its weights and its activation, as `LayerScheme` has them; the input follows the
    scheme only in the second case.

    Args:
        simulator: The model.
        run: The same model on some images.
        labels: The images' true classes, shape (images,).
        scheme: How what is quantized is quantized.
        layers: Which layers, by default all.

    Raises:
        ValueError: for a layer that the model does not have.
    """
    nothing = QuantScheme(FLOAT, FLOAT, FLOAT)
    reference = run.outputs(simulator.params(nothing))

    def measure(tried: QuantScheme) -> tuple[float, float]:
        outputs = run.outputs(simulator.params(tried))
        return metrics.accuracy(outputs, labels), metrics.sqnr_db(reference, outputs)

    return [
        Sensitivity(
            name,
            *measure(nothing.with_layer(name, scheme.for_layer(name))),
            *measure(scheme.with_layer(name, None)),
        )
        for name in (simulator.layers if layers is None else layers)
    ]


class Mix(NamedTuple):
    """Weight bits for each layer, and what they come to."""

    bits: Mapping[str, int]
    weight_bytes: int
    accuracy: float  # 0 to 1
    sqnr: float  # of the logits, in dB


@dataclass(frozen=True)
class Search:
    """What a mixed-precision search found (lesson 05)."""

    path: tuple[Mix, ...]  # from the widest on, each one bit less in one layer
    tried: tuple[Mix, ...]  # all that were measured
    chosen: Mix | None  # the smallest that keeps to the limits; None when none does

    @property
    def front(self) -> tuple[Mix, ...]:
        """Those of all tried that no other beats in both bytes and accuracy, smallest first."""
        return pareto_front(self.tried)


def search_bits(
    simulator: Simulator,
    run: StagedRun,
    labels: NDArray[np.integer],
    scheme: QuantScheme,
    *,
    accuracy: float | None = None,
    weight_bytes: int | None = None,
    widths: Sequence[int] = (8, 7, 6, 5, 4, 3, 2),
) -> Search:
    """Search how many bits the weights of each layer need, greedily (lesson 05).

    All layers start at the largest width. Each step narrows one layer to the next width: the one
    whose bytes saved cost least error of the logits. The order comes from the error because the
    accuracy of near-perfect models hardly moves; accuracy decides when to stop. Run it on images
    other than the test set, whose accuracy would otherwise be chosen and not measured. After Wang
    et al., "HAQ" (CVPR 2019), which learns such an order; greedy descent is the plainest form.

    Args:
        simulator: The model.
        run: The same model on the images to search with.
        labels: Their true classes, shape (images,).
        scheme: How weights and activations are quantized; the bits of the weights are searched.
        accuracy: Find the smallest weights with at least this accuracy, 0 to 1, or
        weight_bytes: find the most accurate weights of at most this size (`Simulator.weight_bytes`,
            which counts the biases too).
        widths: The bit widths to choose from, largest first.

    Raises:
        ValueError: unless exactly one limit is given, for an accuracy outside 0 to 1, or for widths
            that do not fall.
    """
    if (accuracy is None) == (weight_bytes is None):
        raise ValueError(
            "Give one limit: accuracy (a share from 0 to 1) or weight_bytes (a number of bytes); "
            f"got accuracy={accuracy} and weight_bytes={weight_bytes}."
        )
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise ValueError(
            f"accuracy must be a share from 0 to 1, got {accuracy}: write 0.99 for 99 %."
        )
    if not widths or list(widths) != sorted(set(widths), reverse=True):
        raise ValueError(f"widths must fall from the largest to the smallest, got {widths!r}.")
    reference = run.outputs(simulator.params(QuantScheme(FLOAT, FLOAT, FLOAT)))

    def measure(bits: dict[str, int]) -> Mix:
        params = simulator.params(with_weight_bits(scheme, bits))
        outputs = run.outputs(params)
        return Mix(
            bits,
            simulator.weight_bytes(params),
            metrics.accuracy(outputs, labels),
            metrics.sqnr_db(reference, outputs),
        )

    def cost(mix: Mix, now: Mix) -> float:
        """How much the noise of the logits grows, against the signal, for each byte saved."""
        grown = 10 ** (-mix.sqnr / 10) - 10 ** (-now.sqnr / 10)
        # A small kernel may take as many whole bytes as before.
        return grown / max(now.weight_bytes - mix.weight_bytes, 1)

    path = [measure(dict.fromkeys(simulator.kernels, widths[0]))]
    tried = list(path)
    while True:
        now = path[-1]
        narrower = {
            name: widths[widths.index(bits) + 1]
            for name, bits in now.bits.items()
            if bits != widths[-1]
        }
        if not narrower:
            break
        nexts = [measure({**now.bits, name: bits}) for name, bits in narrower.items()]
        tried += nexts
        path.append(min(nexts, key=lambda mix: cost(mix, now)))
        if accuracy is not None and all(mix.accuracy < accuracy for mix in nexts):
            break
    if accuracy is not None:
        kept = [mix for mix in tried if mix.accuracy >= accuracy]
        chosen = min(kept, key=lambda mix: (mix.weight_bytes, -mix.accuracy), default=None)
    else:
        kept = [mix for mix in tried if mix.weight_bytes <= weight_bytes]
        chosen = max(kept, key=lambda mix: (mix.accuracy, mix.sqnr), default=None)
    return Search(tuple(path), tuple(tried), chosen)


def with_weight_bits(scheme: QuantScheme, bits: Mapping[str, int]) -> QuantScheme:
    """Give the scheme with other bit widths for the weights of some layers (lesson 05)."""
    for name, width in bits.items():
        layer = scheme.for_layer(name)
        scheme = scheme.with_layer(
            name, LayerScheme(replace(layer.weights, bits=width), layer.activations)
        )
    return scheme


def pareto_front(mixes: Iterable[Mix]) -> tuple[Mix, ...]:
    """Keep those that no other beats in bytes and accuracy at once, smallest first (lesson 05)."""
    front: list[Mix] = []
    for mix in sorted(mixes, key=lambda mix: (mix.weight_bytes, -mix.accuracy)):
        if not front or mix.accuracy > front[-1].accuracy:
            front.append(mix)
    return tuple(front)


class Health(NamedTuple):
    """How the rounding of one place looks."""

    place: Place
    ratio: float  # RMS error over the scale: near `HEALTHY`, when all is well
    clipped: float  # share of the values outside the range, 0 to 1


def rounding_ratio(values: ArrayLike, params: QuantParams) -> float:
    """Give the RMS error over the scale, of all values that are not exactly 0 (lesson 05).

    Near 1/√12 ≈ 0.289 where values spread evenly over many steps: the health test of TensorFlow's
    quantization debugger, which counts zeros too. Far less: the values are few, or already lie on
    levels. Far more: clipping. Exact zeros always lie on a level and would hide both.

    Raises:
        ValueError: when all values are 0.
    """
    values = np.asarray(values)
    scale = np.asarray(params.scale)
    if params.axis is not None:
        scale = np.moveaxis(
            np.broadcast_to(scale, np.moveaxis(values, params.axis, -1).shape), -1, params.axis
        )
    error = (fake_quantize(values, params) - values) / scale
    nonzero = values != 0
    if not nonzero.any():
        raise ValueError("values are all 0, which no map rounds: there is no ratio.")
    return float(np.sqrt(np.mean(np.square(error[nonzero], dtype=np.float64))))


def health(simulator: Simulator, run: StagedRun, scheme: QuantScheme) -> list[Health]:
    """Test the rounding of every weight and activation of a scheme (lesson 05).

    Activations are those of the simulated model itself, on the images of the run. A place whose
    values are all 0 has the ratio 0.
    """
    params = simulator.params(scheme)
    run.outputs(params)
    found = []
    for place in simulator.places(params):
        if place.params is None:
            continue
        weights = place.what == "weights"
        values = simulator.kernels[place.name] if weights else run.values(place.name)
        low, high = (np.asarray(e) for e in (place.params.minimum, place.params.maximum))
        half = np.asarray(place.params.scale) / 2  # within it, values are rounded, not clipped
        outside = np.mean((values < low - half) | (values > high + half))
        ratio = rounding_ratio(values, place.params) if np.any(values) else 0.0
        found.append(Health(place, ratio, float(outside)))
    return found
