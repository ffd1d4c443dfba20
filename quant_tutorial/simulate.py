"""A Keras model with quantize-dequantize nodes where LiteRT has integers (lesson 05).

`simulate` gives such a model, to look at, save and convert. A `Simulator` measures a model's ranges
once and then chooses the maps of any scheme in a moment; `stages.StagedRun` runs it so fast that
the accuracy on a whole test set can follow a slider.

Everything is computed in float32 on values that the integers stand for, as in Jacob et al. (CVPR
2018), section 3. Two roundings of the integer kernels are left out: that of the bias, which is
int32 and fine at 8 bits, and that of the scale ratio (lesson 07). Float sums round instead, in
their last digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from quant_tutorial import models, quiet
from quant_tutorial.affine import QuantParams, fake_quantize, params_from_range
from quant_tutorial.calibration import Statistics, weight_params
from quant_tutorial.graph import Node, nodes, prepare, rebuild
from quant_tutorial.metrics import packed_bytes
from quant_tutorial.scheme import QuantScheme, TensorScheme

import numpy as np
from numpy.typing import NDArray

quiet.load_tensorflow()
import keras  # noqa: E402

_BATCH = 100  # images at a time when ranges are measured; the moving average depends on it


@dataclass(frozen=True)
class ModelParams:
    """The maps of a whole model: what a `QuantScheme` comes to on given data (lesson 05).

    `weights` by layer name, `activations` by node name, the input among them; None stays in float.
    """

    weights: Mapping[str, QuantParams | None]
    activations: Mapping[str, QuantParams | None]


class Place(NamedTuple):
    """One line of the table that says where values are quantized and how (lesson 05)."""

    what: str  # "input", "weights" or "activation"
    name: str  # the layer that holds or gives the values
    params: QuantParams | None

    def entries(self) -> list[str]:
        """Give the line as text: what, name, bits, range, scale, zero point."""
        if self.params is None:
            return [self.what, self.name, "float", "", "", ""]
        p = self.params
        low, high, scale, zero = map(np.atleast_1d, (p.minimum, p.maximum, p.scale, p.zero_point))
        scales = f"{scale[0]:.4g}" if len(scale) == 1 else f"{scale.min():.4g} … {scale.max():.4g}"
        zeros = f"{zero[0]}" if len(set(zero.tolist())) == 1 else f"{zero.min()} … {zero.max()}"
        reach = f"{low.min():.3f} to {high.max():.3f}"
        return [self.what, self.name, f"{p.bits}", reach, scales, zeros]


HEADER = ("what", "layer", "bits", "range", "scale", "zero point")  # of `Place.entries`


@keras.saving.register_keras_serializable("quant_tutorial")
class FakeQuantize(keras.layers.Layer):
    """Rounds values to those that the integers of a map stand for (lesson 05).

    clip(round(x / scale), qmin − z, qmax − z) · scale, with z the zero point. Ties go to the even
    neighbour, as in XNNPACK's kernels; computed values hardly ever are ties, but averages are.

    Args:
        params: The map, with one scale; or its fields as a mapping, as a saved file has them.
        averages: Round averages of integers as LiteRT's average pooling does; see `rounded`.
    """

    def __init__(
        self, params: QuantParams | Mapping[str, Any], *, averages: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.params = params if isinstance(params, QuantParams) else QuantParams(**params)
        self.averages = averages
        if self.params.axis is not None:
            raise ValueError(f"params must have one scale, got {np.size(self.params.scale)}.")

    def call(self, x: Any) -> Any:
        """Round the values, any shape."""
        return rounded(x, *run_time_values(self.params, self.averages))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Give the shape unchanged."""
        return shape

    def get_config(self) -> dict[str, Any]:
        """Give what `keras.saving` needs to make the layer again."""
        names = ("bits", "scale", "zero_point", "signed", "narrow_range")
        params = {name: getattr(self.params, name) for name in names}
        return {**super().get_config(), "params": params, "averages": self.averages}


def rounded(x: Any, scale: Any, low: Any, high: Any, zero_point: Any = None) -> Any:
    """Round float values to multiples of the scale from low · scale to high · scale.

    With Keras operations, on tensors of any shape; all may be run-time values. With a zero point
    the values are averages of integers: LiteRT rounds such ties away from the integer 0, not from
    the real one, and what comes within a thousandth of a tie, in float32, is taken for one.
    """
    ops = keras.ops
    steps = x / scale
    if zero_point is None:
        steps = ops.round(steps)
    else:
        q = steps + zero_point
        steps = ops.sign(q) * ops.floor(ops.abs(q) + 0.501) - zero_point
    return ops.minimum(ops.maximum(steps, low), high) * scale


def run_time_values(params: QuantParams | None, averages: bool = False) -> NDArray[np.float32]:
    """Give (scale, low, high) of `rounded` for a map, and the zero point where it needs it.

    None gives values that round nothing: dividing by a tiny power of two is exact, and so large a
    quotient has no fraction to round.
    """
    if params is None:
        values = [2.0**-64, -3e38, 3e38, 0.0]
    else:
        zero_point = params.zero_point
        values = [params.scale, params.qmin - zero_point, params.qmax - zero_point, zero_point]
    return np.array(values if averages else values[:3], np.float32)


class Simulator:
    """A model whose quantization can be chosen anew from moment to moment (lesson 05).

    Attributes:
        model: The float model with batch norm folded; see `graph.prepare`.
        nodes: The activations that can be quantized, in order; see `graph.Node`.
        layers: The names that a scheme's overrides may use.
        kernels: The float kernels by layer, output channels on the last axis.

    Args:
        model: A built Sequential or functional model with one input and one output.
        calibration: Images as the model gets them, shape (n, …), on which the ranges of the
            activations are measured, once, with the float weights.

    Raises:
        ValueError: for a layer that cannot be simulated, or images that are missing, no floats, not
            finite or of the wrong shape.
    """

    def __init__(self, model: keras.Model, calibration: NDArray[np.float32]) -> None:
        self.model = prepare(model)
        self.nodes: tuple[Node, ...] = nodes(self.model)
        self.kernels = models.kernels(self.model)
        self.layers = tuple(n.layer for n in self.nodes if n.sources and n.kind != "same")
        self._statistics = self._measured(calibration)
        self._chosen: dict[tuple, QuantParams | dict[str, QuantParams]] = {}

    def params(self, scheme: QuantScheme) -> ModelParams:
        """Choose the maps of a scheme; what was chosen before is not computed again.

        Raises:
            ValueError: for an override of a layer that the model does not have.
        """
        scheme.check_layers(self.layers)
        layers = {name: scheme.for_layer(name) for name in self.layers}
        weights = self._weights({name: layers[name].weights for name in self.kernels})
        activations: dict[str, QuantParams | None] = {}
        for node in self.nodes:
            if node.kind == "same":
                activations[node.name] = activations[node.sources[0]]
                continue
            tensor = layers[node.layer].activations if node.sources else scheme.input
            activations[node.name] = None if tensor.bits is None else self._range(node, tensor)
        return ModelParams(weights, activations)

    def places(self, params: ModelParams) -> list[Place]:
        """Say where each node stands and with which map, in the order of the model."""
        found = []
        for node in self.nodes:
            if node.weights:
                found.append(Place("weights", node.weights, params.weights[node.weights]))
            what = "activation" if node.sources else "input"
            found.append(Place(what, node.name, params.activations[node.name]))
        return found

    def sources(self, node: Node) -> list[Node]:
        """Give the nodes that a node is computed from."""
        by_name = {other.name: other for other in self.nodes}
        return [by_name[name] for name in node.sources]

    def kernel(self, name: str, params: ModelParams) -> NDArray[np.float32]:
        """Give the kernel of a layer as its integers stand for it, or in float."""
        chosen, kernel = params.weights[name], self.kernels[name]
        return kernel if chosen is None else fake_quantize(kernel, chosen)

    def simulated(self, params: ModelParams) -> keras.Model:
        """Build the Keras model with these maps: weights rounded, `FakeQuantize` after each node.

        Average pooling, too, is followed by a node, with the map of the values that it averages.
        """
        return with_params(self.model, params)

    def weight_bytes(self, params: ModelParams) -> int:
        """Bytes of all kernels, packed at their bit widths, and of the biases, 4 bytes each."""
        biases = sum(int(np.prod(w.shape)) for w in self.model.weights) - sum(
            kernel.size for kernel in self.kernels.values()
        )
        bits = {name: p.bits if p else 32 for name, p in params.weights.items()}
        return sum(packed_bytes(self.kernels[n].size, bits[n]) for n in bits) + 4 * biases

    def _measured(self, images: NDArray[np.float32]) -> dict[str, Statistics]:
        """Show the float model's values at every node to its statistics."""
        images = checked_images("calibration", images, self.model.input_shape[1:])
        ranged = [node.name for node in self.nodes if node.kind == "range"]
        probe = keras.Model(
            self.model.inputs[0], {name: self.model.get_layer(name).output for name in ranged}
        )
        found = {name: Statistics() for name in ranged}
        for start in range(0, len(images), _BATCH):
            values = models.predict(probe, images[start : start + _BATCH])
            for name in ranged:
                found[name].observe(values[name])
        return found

    def _range(self, node: Node, scheme: TensorScheme) -> QuantParams:
        if node.kind == "fixed":
            return QuantParams(scheme.bits, 2.0**-scheme.bits, -(2 ** (scheme.bits - 1)))
        key = ("activation", node.name, scheme)
        if key not in self._chosen:
            ends = self._statistics[node.name].range(scheme.calibrator, scheme.bits)
            symmetric = scheme.symmetric
            self._chosen[key] = params_from_range(*ends, scheme.bits, symmetric=symmetric)
        return self._chosen[key]

    def _weights(self, schemes: Mapping[str, TensorScheme]) -> dict[str, QuantParams | None]:
        """Choose the maps of the weights; layers that share a tensor-wise scheme share a map."""
        found: dict[str, QuantParams | None] = {}
        for name, scheme in schemes.items():
            if scheme.bits is None:
                found[name] = None
                continue
            together = [name]
            if scheme.granularity == "tensor-wise":
                together = [other for other in schemes if schemes[other] == scheme]
            key = ("weights", *together, scheme)
            if key not in self._chosen:
                self._chosen[key] = weight_params({n: self.kernels[n] for n in together}, scheme)
            found[name] = self._chosen[key][name]
        return found


def checked_images(name: str, images: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Give images as float32, or say what is wrong with them (lesson 05).

    Args:
        name: What the argument is called that they came by.
        images: The images, shape (n, …), n ≥ 1.
        shape: What the model takes, without the batch.

    Raises:
        ValueError: for integers, as pixels are, another shape, or values that are not finite.
    """
    images = np.asarray(images)
    if images.dtype.kind != "f":
        raise ValueError(
            f"{name} must hold floats as the model gets them, got {images.dtype}: convert pixels "
            "with mnist.to_float."
        )
    if images.shape[1:] != tuple(shape) or len(images) == 0:
        raise ValueError(
            f"{name} must have the shape {('n', *shape)} with n ≥ 1, got {images.shape}."
        )
    if not np.isfinite(images).all():
        raise ValueError(f"{name} must be finite, got NaN or infinite values.")
    return images.astype(np.float32, copy=False)


def with_params(model: keras.Model, params: ModelParams) -> keras.Model:
    """Build the Keras model with these maps: weights rounded, `FakeQuantize` after each node.

    Average pooling, too, is followed by a node, with the map of the values that it averages.

    Args:
        model: As `graph.prepare` gives it.
        params: A map, or None, for each of its layers with weights and each of its nodes.
    """

    def after(node: Node, x: Any) -> Any:
        chosen = params.activations[node.name]
        if chosen is None:
            return x
        return FakeQuantize(chosen, averages=node.kind == "same", name=f"{node.end}_quant")(x)

    copy = rebuild(model, after)
    kernels = models.kernels(model)
    chosen = {name: p for name, p in params.weights.items() if p is not None}
    models.set_kernels(copy, {name: fake_quantize(kernels[name], p) for name, p in chosen.items()})
    return copy


def simulate(
    model: keras.Model, scheme: QuantScheme, calibration: NDArray[np.float32]
) -> keras.Model:
    """Give a Keras model that computes as the scheme says, with quantize-dequantize nodes.

    It can be saved as `.keras` and as a TF SavedModel and goes through the TFLite converter; a
    process that loads the `.keras` file imports this module first. For many schemes in turn use a
    `Simulator`. Lesson 05.

    Raises:
        ValueError: as for `Simulator` and `Simulator.params`.
    """
    simulator = Simulator(model, calibration)
    return simulator.simulated(simulator.params(scheme))
