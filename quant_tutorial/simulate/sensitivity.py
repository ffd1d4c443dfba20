"""Measure how sensitive each layer is to quantization, and search its bits (lesson 05)."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from quant_tutorial import metrics
from quant_tutorial.affine import QuantParams, fake_quantize
from quant_tutorial.executor import Task
from quant_tutorial.executor import run as run_tasks
from quant_tutorial.scheme import IN_FLOAT, LayerScheme, QuantScheme
from quant_tutorial.simulate.simulator import Place, Simulator
from quant_tutorial.simulate.staged import StagedRun

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Sensitivity(NamedTuple):
    """Effect of quantizing a layer: accuracy (0 to 1) and SQNR of the logits in dB (lesson 05)."""

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
    *,
    output: str | int | None = None,
) -> list[Sensitivity]:
    """Quantize one layer at a time, then leave one at a time in float (lesson 05).

    A layer here means its weights and its activation, as in `LayerScheme`. The model's input
    follows the scheme only in the second case; in the first it stays in float.

    Args:
        simulator: The model.
        run: The same model on some images.
        labels: The images' true classes, shape (images,).
        scheme: The scheme of the layers that are quantized.
        layers: The layers to measure, by default all.
        output: Of a model with several outputs, the one that is measured: its key in a dictionary,
            or its number in a list.

    Raises:
        ValueError: for a layer or an output that the model does not have, and for an output that
            holds a single number.
    """
    chosen = _classifier(simulator, output)
    reference = chosen(run.outputs(simulator.params(IN_FLOAT)))

    def measure(tried: QuantScheme) -> tuple[float, float]:
        outputs = chosen(run.outputs(simulator.params(tried)))
        return metrics.accuracy(outputs, labels), metrics.sqnr_db(reference, outputs)

    return [
        Sensitivity(
            name,
            *measure(IN_FLOAT.with_layer(name, scheme.for_layer(name))),
            *measure(scheme.with_layer(name, None)),
        )
        for name in (simulator.layers if layers is None else layers)
    ]


class Mix(NamedTuple):
    """Weight bits for each layer, with the size and the accuracy that result (lesson 05)."""

    bits: Mapping[str, int]
    weight_bytes: int
    accuracy: float  # 0 to 1
    sqnr: float  # of the logits, in dB


@dataclass(frozen=True)
class Search:
    """What a mixed-precision search found (lesson 05)."""

    path: tuple[Mix, ...]  # from the widest mix on, each narrower in one layer
    tried: tuple[Mix, ...]  # all mixes that were measured
    chosen: Mix | None  # the best within the limit; None if there is none

    @property
    def front(self) -> tuple[Mix, ...]:
        """The mixes tried that no other beats in both bytes and accuracy, smallest first."""
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
    executor: Executor | None = None,
    output: str | int | None = None,
) -> Search:
    """Search how many bits the weights of each layer need, greedily (lesson 05).

    All layers start at the largest width. Each step narrows one layer to the next width: the layer
    whose logits get the least additional error for each byte saved. The error decides the order,
    because the accuracy of near-perfect models hardly changes; the accuracy decides when to stop.

    Do not search with the test set: its accuracy would then be optimized, and no longer an
    independent measurement. The search follows Wang et al., "HAQ" (CVPR 2019), which learns the bit
    widths; greedy descent is its simplest form.

    Args:
        simulator: The model.
        run: The same model on the images to search with.
        labels: Their true classes, shape (images,).
        scheme: How weights and activations are quantized; the bits of the weights are searched.
        accuracy: The limit for the smallest weights: at least this accuracy, 0 to 1.
        weight_bytes: The limit for the most accurate weights: at most this size, which includes the
            biases (see `Simulator.weight_bytes`).
        widths: The bit widths to choose from, largest first.
        executor: Where the mixes of a step are measured at the same time, from the module
            `executor`. By default here, one after another, which is faster unless a measurement
            takes seconds: each one sends the model and the images along.
        output: As for `layer_sensitivity`.

    Raises:
        ValueError: unless exactly one limit is given, for an accuracy outside 0 to 1, for widths
            that do not decrease, for an output that the model does not have, or one that holds a
            single number.
    """
    _check_limits(accuracy, weight_bytes, widths)
    _classifier(simulator, output)
    if executor is None:
        function, argument = _Meter.mix, _Meter(simulator, run, labels, scheme, output)
    else:
        function, argument = _mix, pickle.dumps((simulator, run.images, labels, scheme, output))

    def measure(mixes: list[dict[str, int]]) -> list[Mix]:
        tasks = [Task(f"the weight bits {bits}", function, (argument, bits)) for bits in mixes]
        # The last layer's mix first: a run keeps what the layers before it compute.
        found = {task.name: mix for task, mix in run_tasks(reversed(tasks), executor)}
        return [found[task.name] for task in tasks]

    path = measure([dict.fromkeys(simulator.weights, widths[0])])
    tried = list(path)
    while narrower := _narrower(path[-1].bits, widths):
        nexts = measure(narrower)
        tried += nexts
        path.append(min(nexts, key=lambda mix: _cost(mix, path[-1])))
        if accuracy is not None and all(mix.accuracy < accuracy for mix in nexts):
            break
    if accuracy is not None:
        kept = [mix for mix in tried if mix.accuracy >= accuracy]
        chosen = min(kept, key=lambda mix: (mix.weight_bytes, -mix.accuracy), default=None)
    else:
        kept = [mix for mix in tried if mix.weight_bytes <= weight_bytes]
        chosen = max(kept, key=lambda mix: (mix.accuracy, mix.sqnr), default=None)
    return Search(tuple(path), tuple(tried), chosen)


class _Meter:
    """Measures mixes on the images of a run."""

    def __init__(
        self,
        simulator: Simulator,
        run: StagedRun,
        labels: NDArray[np.integer],
        scheme: QuantScheme,
        output: str | int | None,
    ) -> None:
        self._simulator, self._run, self._labels, self._scheme = simulator, run, labels, scheme
        self._chosen = _classifier(simulator, output)
        self._reference = self._chosen(run.outputs(simulator.params(IN_FLOAT)))

    def mix(self, bits: dict[str, int]) -> Mix:
        params = self._simulator.params(with_weight_bits(self._scheme, bits))
        outputs = self._chosen(self._run.outputs(params))
        return Mix(
            bits,
            self._simulator.weight_bytes(params),
            metrics.accuracy(outputs, self._labels),
            metrics.sqnr_db(self._reference, outputs),
        )


@lru_cache(1)
def _meter(content: bytes) -> _Meter:
    """Make the meter in another process, for all tasks of a search that come to it."""
    simulator, images, labels, scheme, output = pickle.loads(content)
    return _Meter(simulator, StagedRun(simulator, images, threads=1), labels, scheme, output)


def _mix(content: bytes, bits: dict[str, int]) -> Mix:
    return _meter(content).mix(bits)


def _classifier(simulator: Simulator, output: str | int | None) -> Callable[[Any], Any]:
    """Return a function that takes out of the model's outputs the one that is measured."""
    model = simulator.model
    several = isinstance(model.output, Mapping | list | tuple)
    if several:
        is_named = isinstance(model.output, Mapping)
        known = list(model.output if is_named else range(len(model.output)))
        if output not in known:
            raise ValueError(
                f"output must say which of the outputs of model {model.name} is measured, one of "
                f"{', '.join(map(repr, known))}, got {output!r}."
            )
    elif output is not None:
        raise ValueError(f"output is for a model of several outputs, and {model.name} has one.")

    def chosen(outputs: Any) -> Any:
        return outputs[output] if several else outputs

    shape = getattr(chosen(model.output), "shape", ())
    if len(shape) != 2 or shape[1] < 2:
        raise ValueError(
            f"model {model.name} must return one number for each of two classes or more, "
            f"its output has the shape {shape}. Of a model with one logit make one with two: a "
            "Dense(2) whose weights and bias are 0 for the first class and those of the old layer "
            "for the second predicts the same classes. For a regression, compare run.outputs of a "
            "scheme and of the float model with metrics.sqnr_db."
        )
    return chosen


def _check_limits(accuracy: float | None, weight_bytes: int | None, widths: Sequence[int]) -> None:
    if (accuracy is None) == (weight_bytes is None):
        raise ValueError(
            "Give one limit: accuracy (a share from 0 to 1) or weight_bytes (a number of bytes); "
            f"got accuracy={accuracy} and weight_bytes={weight_bytes}."
        )
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise ValueError(
            f"accuracy must be a share from 0 to 1, got {accuracy}: write 0.99 for 99%."
        )
    if not widths or list(widths) != sorted(set(widths), reverse=True):
        raise ValueError(f"widths must fall from the largest to the smallest, got {widths!r}.")


def _narrower(bits: Mapping[str, int], widths: Sequence[int]) -> list[dict[str, int]]:
    """List the mixes with one layer at the next width."""
    return [
        {**bits, name: widths[widths.index(width) + 1]}
        for name, width in bits.items()
        if width != widths[-1]
    ]


def _cost(mix: Mix, now: Mix) -> float:
    """Return the growth of the logits' noise relative to the signal, per byte saved."""
    grown = 10 ** (-mix.sqnr / 10) - 10 ** (-now.sqnr / 10)
    # A small layer may save no byte at all, because bytes are counted whole.
    return grown / max(now.weight_bytes - mix.weight_bytes, 1)


def with_weight_bits(scheme: QuantScheme, bits: Mapping[str, int]) -> QuantScheme:
    """Return the scheme with other bit widths for the weights of some layers (lesson 05)."""
    for name, width in bits.items():
        layer = scheme.for_layer(name)
        scheme = scheme.with_layer(
            name, LayerScheme(replace(layer.weights, bits=width), layer.activations)
        )
    return scheme


def pareto_front(mixes: Iterable[Mix]) -> tuple[Mix, ...]:
    """Return the mixes that no other beats in both bytes and accuracy, smallest first.

    Lesson 05.
    """
    front: list[Mix] = []
    for mix in sorted(mixes, key=lambda mix: (mix.weight_bytes, -mix.accuracy)):
        if not front or mix.accuracy > front[-1].accuracy:
            front.append(mix)
    return tuple(front)


class Health(NamedTuple):
    """The health of the rounding at one place of a model (lesson 05)."""

    place: Place
    ratio: float  # RMS error over the scale: near `metrics.HEALTHY` if healthy
    clipped: float  # share of the values outside the range, 0 to 1
    inside: float  # the ratio of the values that are not clipped


def rounding_ratio(values: ArrayLike, params: QuantParams) -> float:
    """Return the RMS error over the scale, of all values that are not exactly 0 (lesson 05).

    The ratio is near 1/√12 ≈ 0.289 where values spread evenly over many steps. It is far smaller
    where there are few values or they already lie on levels, and far larger where values are
    clipped. Exact zeros are left out, because they always lie on a level and would hide both. This
    is the health test of TensorFlow's quantization debugger, which counts zeros too.

    Args:
        values: Real values of any shape.
        params: The quantization parameters, per tensor or per channel.

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
        raise ValueError("values are all 0, which any scale represents: there is no ratio.")
    return float(np.sqrt(np.mean(np.square(error[nonzero], dtype=np.float64))))


def health(simulator: Simulator, run: StagedRun, scheme: QuantScheme) -> list[Health]:
    """Measure the health of the rounding of all weights and activations of a scheme (lesson 05).

    Activations are those of the simulated model itself, on the images of the run. Places in float
    are left out. A place whose values are all 0 has the ratio 0.
    """
    params = simulator.params(scheme)
    found = []
    with run.lock:
        run.outputs(params)
        for place in simulator.places(params):
            if place.params is None:
                continue
            weights = place.what == "weights"
            values = simulator.weights[place.name] if weights else run.values(place.name)
            low, high = (np.asarray(e) for e in (place.params.minimum, place.params.maximum))
            half = np.asarray(place.params.scale) / 2  # values closer to the range are only rounded
            outside = (values < low - half) | (values > high + half)
            ratios = [
                rounding_ratio(some, place.params) if np.any(some) else 0.0
                for some in (values, np.where(outside, 0, values))
            ]
            found.append(Health(place, ratios[0], float(np.mean(outside)), ratios[1]))
    return found
