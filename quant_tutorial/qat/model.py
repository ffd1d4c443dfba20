"""Make a copy of a Keras 3 model for quantization-aware training (lesson 08).

Batch norm is folded before the training begins, with the statistics of the float training. The
quantized training then runs on the same layers that are deployed, so that training and inference
compute the same. With one scale for each channel one could also fold afterwards: the factor of a
channel would go into its scale, and the integers would stay. With one scale for a whole layer it
would move the weights off their levels.

Krishnamoorthi (2018, section 3.2.2) freezes the statistics late in training. Here they are frozen
from the first step, because a network that is already trained needs no new ones.
"""

from __future__ import annotations

from typing import Any, get_args

from quant_tutorial import models
from quant_tutorial.affine import QuantParams
from quant_tutorial.arguments import checked_choice
from quant_tutorial.frameworks import keras
from quant_tutorial.qat.layers import (
    QuantizeActivation,
    QuantizedLayer,
    QuantizeWeights,
    Ranges,
)
from quant_tutorial.scheme import QuantScheme
from quant_tutorial.simulate import (
    ModelParams,
    Node,
    Simulator,
    layer_of,
    nodes,
    rebuild,
    set_constants,
    with_params,
)


def quantize_aware(
    model: keras.Model,
    scheme: QuantScheme,
    calibration: Any,
    *,
    ranges: Ranges = "learned",
) -> keras.Model:
    """Return a copy of a trained model, quantized by a scheme, that can be trained further.

    It is an ordinary Keras model. You can compile and fit it, save it as `.keras`, load it and
    continue; a process that loads the file must import this module first. Before any training, its
    outputs are those of `simulate` with the same scheme. Batch norm is folded. Lesson 08.

    Args:
        model: A built Sequential or functional model, trained in float. With several outputs, give
            `compile` the losses as a list in their order, or by the keys where the model returns a
            dictionary; by names, they are those of the layers with `_quant` behind.
        scheme: Bit widths and the rest, for each kind of tensor and for single layers.
        calibration: Images as the model takes them, shape (n, …); of several inputs a mapping or a
            list, see `Simulator`. The scheme's calibrators choose the initial ranges from them.
        ranges: How the ranges change during training; see `Quantizer`.

    Raises:
        ValueError: as for `Simulator`, for unknown `ranges`, or for tensor-wise weights whose
            ranges are not fixed, because the ranges of single layers would drift apart.
    """
    checked_choice("ranges", ranges, get_args(Ranges))
    simulator = Simulator(model, calibration)
    params = simulator.params(scheme)
    by_layer = {name: scheme.for_layer(name).weights for name in simulator.weights}
    for name, weights in by_layer.items():
        if weights.bits and weights.granularity == "tensor-wise" and ranges != "fixed":
            raise ValueError(
                f"weights.granularity is tensor-wise for layer {name}, and one scale for several "
                "layers cannot follow each of them: use layer-wise or channel-wise weights, or "
                "ranges='fixed'."
            )
    quantizers: dict[str, QuantizeActivation] = {}
    together: dict[tuple[str, QuantParams], QuantizeActivation] = {}

    def after(node: Node, x: Any) -> Any:
        chosen = params.activations[node.name]
        if chosen is None:
            return x
        if node.kind == "same":
            quantizers[node.name] = quantizers[node.sources[0]]
            return quantizers[node.name](x, averages=True)
        # Nodes whose parameters must be the same have one quantizer, and so one trained range.
        if (shared := together.get((node.like, chosen))) is not None:
            quantizers[node.name] = shared
            return shared(x)
        tensor = scheme.for_layer(node.layer).activations if node.sources else scheme.input
        quantizers[node.name] = QuantizeActivation(
            chosen,
            "fixed" if node.kind == "fixed" else ranges,
            symmetric=tensor.symmetric,
            name=f"{node.end}_quant",
        )
        together[node.like, chosen] = quantizers[node.name]
        return quantizers[node.name](x)

    def replace(layer: keras.Layer) -> keras.Layer | None:
        chosen = params.weights[layer.name]
        if chosen is None:
            return None
        copy = type(layer).from_config(layer.get_config())
        symmetric = by_layer[layer.name].symmetric
        quantizer = QuantizeWeights(chosen, ranges, symmetric=symmetric, name="quantizer")
        return QuantizedLayer(copy, quantizer, name=layer.name)

    trainable = rebuild(simulator.model, after, replace)
    for layer in trainable.layers:
        if isinstance(layer, QuantizedLayer):
            layer.layer.set_weights(simulator.model.get_layer(layer.name).get_weights())
    set_constants(trainable, simulator.model, params)
    return trainable


def float_model(model: keras.Model) -> keras.Model:
    """Return a model of `quantize_aware` without its quantization, with the trained float weights.

    A `Simulator` or `StagedRun` made from it can run the trained model with the parameters of
    `trained_params`. Lesson 08.

    Raises:
        ValueError: for a model that `quantize_aware` has not made.
    """
    _require_quantized(model)

    def clone(layer: keras.Layer) -> keras.Layer:
        plain = layer.layer if isinstance(layer, QuantizedLayer) else layer
        return type(plain).from_config(plain.get_config())

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if isinstance(layer, QuantizeActivation) else layer(*args, **kwargs)

    copy = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        plain = layer.layer if isinstance(layer, QuantizedLayer) else layer
        if not isinstance(layer, QuantizeActivation):
            copy.get_layer(layer.name).set_weights(plain.get_weights())
    return copy


def trained_params(model: keras.Model) -> ModelParams:
    """Return the current quantization parameters of a model of `quantize_aware` (lesson 08).

    Raises:
        ValueError: for a model that `quantize_aware` has not made.
    """
    return floats_and_params(model)[1]


def floats_and_params(model: keras.Model) -> tuple[keras.Model, ModelParams]:
    """Return what `float_model` and `trained_params` return, for those that need both (lesson 08).

    The parameters are read from a float model as well, and to make one takes most of the time.

    Raises:
        ValueError: for a model that `quantize_aware` has not made.
    """
    plain = float_model(model)
    floats, layers = models.weights(plain), {layer.name: layer for layer in model.layers}
    weights = {
        name: layers[name].quantizer.params(floats[name])
        if isinstance(layers[name], QuantizedLayer)
        else None
        for name in floats
    }
    quantizers = {
        layer_of(tensor).name: layer
        for layer in model.layers
        if isinstance(layer, QuantizeActivation)
        for use in layer._inbound_nodes
        for tensor in use.input_tensors
    }
    activations: dict[str, QuantParams | None] = {}
    for node in nodes(plain):
        quantizer = quantizers.get(node.end)
        if node.kind == "same":
            activations[node.name] = activations[node.sources[0]]
        else:
            activations[node.name] = None if quantizer is None else quantizer.params()
    return plain, ModelParams(weights, activations)


def frozen(model: keras.Model) -> keras.Model:
    """Return a model of `quantize_aware` for inference only, with rounded weights and fixed ranges.

    Its weights are the real values that the integers stand for, so that a float file made from it
    contains the quantized weights; see `qat.export`. Lesson 08.

    Raises:
        ValueError: for a model that `quantize_aware` has not made.
    """
    return with_params(*floats_and_params(model))


def _require_quantized(model: keras.Model) -> None:
    if not any(isinstance(layer, (QuantizedLayer, QuantizeActivation)) for layer in model.layers):
        raise ValueError(
            f"model {model.name} has no trainable quantization: make one with quantize_aware()."
        )
