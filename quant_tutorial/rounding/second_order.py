"""Round a model's weights to their nearest levels, or by GPTQ (lesson 11)."""

from __future__ import annotations

from functools import partial
from typing import Any

from quant_tutorial.affine import quantize
from quant_tutorial.arguments import checked_choice
from quant_tutorial.rounding.matrices import moments
from quant_tutorial.rounding.quadratic import gptq_layer, nearest_layer
from quant_tutorial.rounding.rounded import Rounded
from quant_tutorial.rounding.walk import (
    Choice,
    Task,
    check_enough,
    check_same_model,
    check_weights,
    mean_bias,
    round_layers,
    rounded_by,
    scaled_for,
)
from quant_tutorial.scheme import QuantScheme
from quant_tutorial.simulate import Simulator


def nearest(simulator: Simulator, scheme: QuantScheme) -> Rounded:
    """Round each weight to its nearest level, as `simulate` does (lesson 11).

    Raises:
        ValueError: for an override of a layer that the model does not have, and when there is no
            layer to round.
    """
    params = simulator.params(scheme)
    check_weights(simulator, params)
    integers = {
        name: quantize(simulator.weights[name], chosen)
        for name, chosen in params.weights.items()
        if chosen is not None
    }
    layers = [simulator.model.get_layer(name) for name in simulator.weights]
    biases = {layer.name: layer.bias.numpy() for layer in layers if layer.use_bias}
    return Rounded(params, integers, biases, simulator.model)


def gptq(
    simulator: Simulator,
    scheme: QuantScheme,
    images: Any,
    *,
    damp: float = 0.01,
    by_activity: bool = False,
    scales: str = "scheme",
    progress: bool = False,
) -> Rounded:
    """Round the weights by GPTQ, layer after layer; see `gptq_layer` (lesson 11).

    Each layer's Hessian is that of the inputs that it gets from the rounded layers before, with
    activations rounded as the scheme says. The bias counts as one more weight, of an input that is
    always 1. It stays in float and is updated last, so that the mean of each output is that of the
    float model. This departs from the paper, whose layers have no biases.

    Args:
        simulator: The model.
        scheme: Bit widths and the rest, for each kind of tensor and for single layers.
        images: Unlabelled images as the model takes them, shape (n, …); of several inputs a mapping
            or a list, see `Simulator`.
        damp: The share of the Hessian's mean diagonal that is added to the diagonal.
        by_activity: Whether the inputs with the largest values are rounded first.
        scales: Where the scales of the weights come from: "scheme" for the scheme's calibrator,
            "nearest" for those with which nearest rounding has the smallest error of the outputs,
            "gptq" for those with which GPTQ has. Tensor-wise scales, which several layers share,
            remain those of the scheme.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: for images that the model does not take or that are too few for a layer, for
            unknown `scales`, when there is no layer to round, and as `gptq_layer`.
    """
    round_with = partial(gptq_layer, damp=damp, by_activity=by_activity)
    searches = {"scheme": None, "nearest": nearest_layer, "gptq": round_with}
    search = searches[checked_choice("scales", scales, searches)]

    def choose(task: Task) -> Choice:
        check_enough(task)
        found = moments(task.layer, task.inputs)
        params = scaled_for(task, found, scheme, search)
        integers = rounded_by(task, found, params, round_with)
        return Choice(params, integers, mean_bias(task, params, integers))

    return round_layers(simulator, simulator.params(scheme), images, choose, progress=progress)


def correct_bias(
    simulator: Simulator,
    rounded: Rounded,
    images: Any,
    *,
    progress: bool = False,
) -> Rounded:
    """Set each bias so that the mean of each output is that of the float model (lesson 11).

    The integers stay as they are. The mean is that of the sums before the activation function, over
    the images. Layer follows layer, so that each is corrected for what is left of the error of
    those before. This is the bias correction of Nagel et al., "Data-Free Quantization Through
    Weight Equalization and Bias Correction" (ICCV 2019), section 4.2, in its empirical form: from
    images. A layer without a bias is left as it is.

    Args:
        simulator: The model that was rounded.
        rounded: The result of a rounding method.
        images: Unlabelled images as the model takes them, shape (n, …); of several inputs a mapping
            or a list, see `Simulator`.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: for images that the model does not take, or another model's result.
    """
    check_same_model(simulator, rounded)

    def choose(task: Task) -> Choice:
        integers = rounded.integers[task.name]
        return Choice(task.params, integers, mean_bias(task, task.params, integers))

    return round_layers(simulator, rounded.params, images, choose, progress=progress)
