"""Insert quantize-dequantize nodes into a Keras model where LiteRT has integers (lesson 05).

`simulate` returns such a model, which can be inspected, saved and converted. A `Simulator` measures
a model's ranges once; after that it chooses the quantization parameters of any scheme quickly. A
`staged.StagedRun` runs it so fast that the accuracy on a whole test set can follow a slider.

Everything is computed in float32 on the values that the integers stand for, as in Jacob et al.
(CVPR 2018), section 3. Constants that LiteRT's ops read, such as the factors of a batch norm that
no convolution takes in, have as many bits as what is computed from them. Two roundings of LiteRT's
integer kernels are left out: that of the bias, whose int32 steps are very small at 8 bits, and that
of the scale ratio (lesson 07). Float sums are rounded instead, in their last digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

from quant_tutorial import models
from quant_tutorial.affine import QuantParams, fake_quantize, params_from_range
from quant_tutorial.arguments import ModelInput, as_given, checked_inputs
from quant_tutorial.calibration import Statistics, weight_params
from quant_tutorial.frameworks import keras
from quant_tutorial.metrics import packed_bytes
from quant_tutorial.scheme import QuantScheme, TensorScheme
from quant_tutorial.simulate.fake_quantize import FakeQuantize
from quant_tutorial.simulate.graph import Node, nodes, prepare, rebuild
from quant_tutorial.simulate.stages import convert_stages, join_stages

import numpy as np
from numpy.typing import NDArray

_KEPT = 1024  # choices of parameters that are cached
_BATCH = 100  # images at a time when ranges are measured; the moving average depends on it


@dataclass(frozen=True)
class ModelParams:
    """The quantization parameters of a whole model: a `QuantScheme` applied to data (lesson 05).

    `weights` are by layer name, and `activations`, which include the input, by node name. None
    means float.
    """

    weights: Mapping[str, QuantParams | None]
    activations: Mapping[str, QuantParams | None]


class Place(NamedTuple):
    """One row of the table of places that can be quantized, with its parameters (lesson 05)."""

    what: str  # "input", "weights" or "activation"
    name: str  # the layer that holds or computes the values
    params: QuantParams | None

    def entries(self) -> list[str]:
        """Return the row as text: what, name, bits, range, scale, zero point."""
        if self.params is None:
            return [self.what, self.name, "float", "", "", ""]
        p = self.params
        low, high, scale, zero = map(np.atleast_1d, (p.minimum, p.maximum, p.scale, p.zero_point))
        scales = f"{scale[0]:.4g}" if len(scale) == 1 else f"{scale.min():.4g} … {scale.max():.4g}"
        zeros = f"{zero[0]}" if len(set(zero.tolist())) == 1 else f"{zero.min()} … {zero.max()}"
        reach = f"{low.min():.3f} to {high.max():.3f}"
        return [self.what, self.name, f"{p.bits}", reach, scales, zeros]


HEADER = ("what", "layer", "bits", "range", "scale", "zero point")  # of `Place.entries`


class Simulator:
    """A model that is calibrated once and can then be simulated with any scheme (lesson 05).

    Attributes:
        model: The float model with batch norm folded; see `graph.prepare`.
        nodes: The activations that can be quantized, in order; see `graph.Node`.
        layers: The names that a scheme's overrides may use.
        weights: The float weights by layer, output channels on the last axis.

    Args:
        model: A built Sequential or functional model. Its outputs keep their structure, such as a
            list or a dictionary.
        calibration: Images as the model takes them, shape (n, …); of several inputs a mapping from
            their names, or a list, see `arguments.by_input`. The ranges of the activations are
            measured on them once, with the float weights.

    Raises:
        ValueError: for a layer that cannot be simulated, or for images that are missing, not
            floats, not finite or of the wrong shape.
    """

    def __init__(self, model: keras.Model, calibration: Any) -> None:
        self.model = prepare(model)
        self.nodes: tuple[Node, ...] = nodes(self.model)
        self._by_name = {node.name: node for node in self.nodes}
        self.weights = models.weights(self.model)
        self.layers = tuple(n.layer for n in self.nodes if n.sources and n.kind != "same")
        # The caches are bounded, and hold no reference to the simulator, so that it can be freed.
        self._range = lru_cache(_KEPT)(partial(_activation_params, self._measured(calibration)))
        self._shared = lru_cache(_KEPT)(partial(_weight_params, self.weights))

    def by_input(self, name: str, images: Any) -> dict[str, NDArray[np.float32]]:
        """Return images by the inputs' nodes, as arrays that the model takes.

        Args:
            name: The name of the argument, for the error messages.
            images: What `arguments.checked_inputs` takes.

        Raises:
            ValueError: as `arguments.checked_inputs`.
        """
        names = models.input_names(self.model)
        entries = {
            name: ModelInput(tuple(x.shape), np.dtype(np.float32))
            for name, x in zip(names, self.model.inputs, strict=True)
        }
        listed = models.has_ordered_inputs(self.model)
        return checked_inputs(name, images, entries, listed=listed)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to have the same simulator, with empty caches."""
        caches = {name: getattr(self, name).__wrapped__ for name in ("_range", "_shared")}
        return {**self.__dict__, **caches}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state over, and make the caches anew."""
        self.__dict__.update(state)
        self._range, self._shared = map(lru_cache(_KEPT), (self._range, self._shared))

    def params(self, scheme: QuantScheme) -> ModelParams:
        """Choose the quantization parameters of a scheme.

        Parameters that were chosen before come from a cache.

        Raises:
            ValueError: for an override of a layer that the model does not have.
        """
        scheme.check_layers(self.layers)
        layers = {name: scheme.for_layer(name) for name in self.layers}
        weights = self._weights({name: layers[name].weights for name in self.weights})
        activations: dict[str, QuantParams | None] = {}
        for node in self.nodes:
            if node.kind == "same":
                activations[node.name] = activations[node.sources[0]]
                continue
            tensor = layers[node.layer].activations if node.sources else scheme.input
            like = self._by_name[node.like]
            activations[node.name] = None if tensor.bits is None else self._range(like, tensor)
        return ModelParams(weights, activations)

    def places(self, params: ModelParams) -> list[Place]:
        """List all weights and nodes with their parameters, in the order of the model."""
        found = []
        for node in self.nodes:
            if node.weights:
                found.append(Place("weights", node.weights, params.weights[node.weights]))
            what = "activation" if node.sources else "input"
            found.append(Place(what, node.name, params.activations[node.name]))
        return found

    @cached_property
    def stages(self) -> dict[str, bytes]:
        """The model cut at its nodes into files for LiteRT, converted once and then shared."""
        return convert_stages(self.model, self.nodes)

    @cached_property
    def joined_stages(self) -> bytes | None:
        """One file that runs all stages, if they can be joined; see `stages.join_stages`."""
        return join_stages(self.stages, self.nodes)

    def sources(self, node: Node) -> list[Node]:
        """List the nodes that a node is computed from."""
        return [self._by_name[name] for name in node.sources]

    def rounded_weights(self, name: str, params: ModelParams) -> NDArray[np.float32]:
        """Return the weights of a layer, fake-quantized unless they stay in float."""
        chosen, weights = params.weights[name], self.weights[name]
        return weights if chosen is None else fake_quantize(weights, chosen)

    def simulated(self, params: ModelParams) -> keras.Model:
        """Build the simulated Keras model with these parameters; see `with_params`."""
        return with_params(self.model, params)

    def weight_bytes(self, params: ModelParams) -> int:
        """Count the bytes of all weights, packed at their bit widths, and of biases, 4 each.

        Other constants, such as those of a batch norm that is not folded, count with their bits.
        """
        parts = [
            (self.weights[name].size, 32 if chosen is None else chosen.bits)
            for name, chosen in params.weights.items()
        ]
        for node in self.nodes:
            if node.constant:
                constant = self.model.get_layer(node.constant).constant
                parts.append((int(np.prod(constant.shape)), bits_of(params, node) or 32))
        values = sum(int(np.prod(variable.shape)) for variable in self.model.weights)
        biases = values - sum(count for count, _ in parts)
        return sum(packed_bytes(count, bits) for count, bits in parts) + 4 * biases

    def _measured(self, images: Any) -> dict[str, Statistics]:
        """Collect statistics of the float model's values at each node with a calibrated range."""
        given = self.by_input("calibration", images)
        first = next(iter(given.values()))
        ranged = [node.name for node in self.nodes if node.kind == "range"]
        probe = keras.Model(
            self.model.input, {name: self.model.get_layer(name).output for name in ranged}
        )
        found = {name: Statistics() for name in ranged}
        for start in range(0, len(first), _BATCH):
            parts = {name: values[start : start + _BATCH] for name, values in given.items()}
            values = models.predict(probe, as_given(parts))
            for name in ranged:
                if not (fine := np.isfinite(values[name])).all():
                    broken = ~fine.reshape(len(fine), -1).all(axis=1)
                    raise ValueError(
                        f"Layer {name} computes NaN or infinite values from calibration image "
                        f"{start + np.argmax(broken)}, so that it has no range: look at its "
                        "weights and at this image."
                    )
                found[name].observe(values[name])
        return found

    def _weights(self, schemes: Mapping[str, TensorScheme]) -> dict[str, QuantParams | None]:
        """Choose the parameters of the weights; layers of a tensor-wise scheme share a scale."""
        found: dict[str, QuantParams | None] = {}
        for name, scheme in schemes.items():
            if scheme.bits is None:
                found[name] = None
                continue
            together = [name]
            if scheme.granularity == "tensor-wise":
                together = [other for other in schemes if schemes[other] == scheme]
            found[name] = self._shared(tuple(together), scheme)[name]
        return found


def _activation_params(
    statistics: Mapping[str, Statistics], node: Node, scheme: TensorScheme
) -> QuantParams:
    """Return the parameters of a node's values.

    The range from the smallest to the largest value is that of the TFLite converter's calibrator,
    with the values that overwrite the node's; see `Node`. The other calibrators see its own alone.
    """
    if node.kind == "fixed":
        low, high = node.ends
        scale = (high - low) / 2**scheme.bits
        return QuantParams(scheme.bits, scale, round(-(2 ** (scheme.bits - 1)) - low / scale))
    ends = statistics[node.name].range(scheme.calibrator, scheme.bits)
    if scheme.calibrator == "min_max" and node.overwritten_by:
        other = statistics[node.overwritten_by].range(scheme.calibrator, scheme.bits)
        ends = min(ends[0], other[0]), max(ends[1], other[1])
    return params_from_range(*ends, scheme.bits, symmetric=scheme.symmetric)


def _weight_params(
    weights: Mapping[str, NDArray[np.float32]], names: tuple[str, ...], scheme: TensorScheme
) -> dict[str, QuantParams]:
    """Return the parameters of some layers' weights, which share a tensor-wise scheme."""
    return weight_params({name: weights[name] for name in names}, scheme)


def with_params(model: keras.Model, params: ModelParams) -> keras.Model:
    """Build a Keras model with rounded weights and a `FakeQuantize` layer after each node.

    Average pooling is followed by a node as well, with the parameters of the values that it
    averages. Lesson 05.

    Args:
        model: A model as `graph.prepare` returns it.
        params: The parameters of each of its layers with weights and each of its nodes, or None.
    """

    def after(node: Node, x: Any) -> Any:
        chosen = params.activations[node.name]
        if chosen is None:
            return x
        return FakeQuantize(chosen, averages=node.kind == "same", name=f"{node.end}_quant")(x)

    copy = rebuild(model, after)
    weights = models.weights(model)
    chosen = {name: p for name, p in params.weights.items() if p is not None}
    models.set_weights(copy, {name: fake_quantize(weights[name], p) for name, p in chosen.items()})
    set_constants(copy, model, params)
    return copy


def set_constants(copy: keras.Model, model: keras.Model, params: ModelParams) -> None:
    """Round the constants of a copy of a model, with as many bits as what is computed with them.

    Lesson 05.
    """
    for node in nodes(model):
        if node.constant:
            constant = model.get_layer(node.constant).rounded_constant(bits_of(params, node))
            copy.get_layer(node.constant).set_weights([constant])


def bits_of(params: ModelParams, node: Node) -> int | None:
    """Return the bits of a node's values, None for floats (lesson 05)."""
    chosen = params.activations[node.name]
    return None if chosen is None else chosen.bits


def simulate(model: keras.Model, scheme: QuantScheme, calibration: Any) -> keras.Model:
    """Return a Keras model with quantize-dequantize nodes, quantized as the scheme describes.

    It can be saved as `.keras` or as a TF SavedModel, and converted by the TFLite converter. A
    process that loads the `.keras` file must import this module first. To try many schemes in turn,
    use a `Simulator`. Lesson 05.

    Args:
        model: A built Sequential or functional model.
        scheme: Bit widths and the rest, for each kind of tensor and for single layers.
        calibration: Images as the model takes them, shape (n, …), to measure the ranges on; of
            several inputs a mapping or a list, see `Simulator`.

    Raises:
        ValueError: as for `Simulator` and `Simulator.params`.
    """
    simulator = Simulator(model, calibration)
    return simulator.simulated(simulator.params(scheme))
