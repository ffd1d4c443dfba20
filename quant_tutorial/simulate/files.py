"""Write the integers of a simulated model into a `.tflite` file (lesson 08).

The file computes with the quantization parameters and the integers of the simulation, whoever chose
them: rounding to the nearest level, a better rounding, or training. There are two kinds of file. A
model with 8-bit activations becomes a full-integer file, made by the TFLite converter. A model with
any activations becomes a file with weights of 8, 4 or 2 bits and float activations, made by
litert-quantizer.

Both tools choose the scale of a channel from its largest weight, which need not lie at the end of
the range: training moves it, and so does a range with the smallest squared error. For the
conversion, each channel therefore gets a *mark*, a weight at the end of its range. The tool then
chooses the wanted scale, and afterwards the wanted integers are put into the file.

Each tool also has a method of its own, but neither suffices here. The converter takes scales from
fake-quant ops, but it fails where a dense layer has several, because it transposes the weights and
not the axis of the scales. The quantizer can recover levels from the smallest distance between two
of them; with only nine weights in a channel, as in the first convolution, this distance need not be
one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any

from quant_tutorial import flatbuffer, models, tflite
from quant_tutorial.affine import QuantParams, quantize
from quant_tutorial.arguments import checked_choice
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.simulate.graph import Node, nodes, rebuild
from quant_tutorial.simulate.simulator import ModelParams
from quant_tutorial.tflite import trial
from quant_tutorial.tflite.biases import scales_for

import numpy as np
from numpy.typing import NDArray

PACKED_BITS = 4  # LiteRT's integer convolutions take weights of 8 or 4 bits


def int8_file(
    model: keras.Model,
    params: ModelParams,
    *,
    io: tflite.IOType | None = None,
    packed: bool = False,
) -> bytes:
    """Make a full-integer file with the ranges of `params` and the model's weights as integers.

    The converter gets the ranges of the activations as TensorFlow's fake-quant ops, so that it
    needs no calibration images. Biases become int32. Lesson 08.

    By default every weight takes 8 bits in the file, also one that was chosen from fewer levels.
    With `packed`, the layers whose weights have at most 4 bits get int4 weights, two to a byte. The
    file then gives the same outputs, bit for bit, with LiteRT's reference kernels and with its
    optimized ones. XNNPACK (LiteRT 2.3) takes no int4 convolutions and leaves them to these. A
    dense layer whose int4 weights share one scale has one scale in the file, too, because LiteRT
    for Microcontrollers requires it; the converter writes it once for each output.

    Args:
        model: A model as `graph.prepare` returns it, such as `Simulator.model`.
        params: 8-bit activations, and weights of at most 8 bits with zero point 0. The model's
            weights, quantized with these, are the integers in the file.
        io: The type of the file's input and output; see `tflite.MODES`.
        packed: Whether weights of at most 4 bits take 4 bits in the file.

    Raises:
        ValueError: for parameters for which LiteRT has no full-integer kernels, and for a file that
            would not compute what the simulation does.
    """
    for name, chosen in params.activations.items():
        if chosen is None or chosen.bits != 8:
            bits = "are floats" if chosen is None else f"have {chosen.bits} bits"
            raise ValueError(
                f"The activations of {name} {bits}: LiteRT's full-integer kernels take 8 bits. "
                "Choose 8-bit activations, or keep float activations with low_bit_file()."
            )
    _check_weights(params, 8)
    params = _with_room_for_biases(model, params)

    def after(node: Node, x: Any) -> Any:
        return _FakeQuantOp(params.activations[node.name], name=f"{node.end}_quant")(x)

    simulated = _with_marks(rebuild(model, after), model, params, 8)
    content = _with_integers(tflite.convert(simulated, "int8", io=io), model, params, 8)
    if packed:
        narrow = {n: p for n, p in params.weights.items() if p.bits <= PACKED_BITS}
        content = _packed(content, narrow.keys())
        content = _with_one_scale(content, {n for n, p in narrow.items() if p.axis is None})
    entries = {n.name: params.activations[n.name] for n in nodes(model) if not n.sources}
    ranges = {name: (entry.minimum, entry.maximum) for name, entry in entries.items()}
    _require_as_simulated(content, simulated, model, params, ranges)
    return content


def low_bit_file(model: keras.Model, params: ModelParams, recipe_name: str) -> bytes:
    """Make a file with the model's weights as integers, and with float activations (lesson 08).

    Args:
        model: A model as `graph.prepare` returns it, such as `Simulator.model`.
        params: Weights with zero point 0. The model's weights, quantized with these, are the
            integers in the file. The parameters of the activations are left out.
        recipe_name: One of the dynamic or weight-only `tflite.RECIPES`, with at least as many bits
            as the weights.

    Raises:
        ValueError: for a recipe of another kind or with too few bits, for a layer that the recipe
            leaves in float, or for a file that would not compute what the simulation does.
    """
    known = [name for name, recipe in tflite.RECIPES.items() if recipe.kind != "static"]
    bits = tflite.RECIPES[checked_choice("recipe_name", recipe_name, known)].weight_bits
    _check_weights(params, bits)
    simulated = _with_marks(rebuild(model, lambda _, x: x), model, params, bits)
    content = tflite.apply_recipe(tflite.export_litert(simulated), recipe_name)
    content = _with_integers(content, model, params, bits)
    _require_as_simulated(content, simulated, model, params, None)
    return content


def _require_as_simulated(
    content: bytes,
    simulated: keras.Model,
    model: keras.Model,
    params: ModelParams,
    input_range: Mapping[str, tuple[float, float]] | None,
) -> None:
    """Raise a ValueError for a new file that does not compute what the simulation does.

    Args:
        content: The file.
        simulated: The copy that it was made from, which gets the values of the integers here.
        model: The model.
        params: The parameters.
        input_range: The range of each input by its name, if they are known.
    """
    values = {
        name: q * np.float32(params.weights[name].scale)
        for name, q in _integers(model, params).items()
    }
    models.set_weights(simulated, values)

    def float_file() -> bytes:
        plain = rebuild(model, lambda _, x: x)
        models.set_weights(plain, values)
        return tflite.convert(plain, "float32")

    trial.require_like_model(content, simulated, input_range, float_file)


def _with_room_for_biases(model: keras.Model, params: ModelParams) -> ModelParams:
    """Make the scales of channels with next to no weights so large that their biases fit.

    The converter would choose them so itself, and its integers would not be the expected ones.
    """
    weights = dict(params.weights)
    for node in nodes(model):
        layer = model.get_layer(node.layer)
        if node.weights and layer.use_bias:
            chosen, source = weights[node.weights], params.activations[node.sources[0]]
            needed = scales_for(layer.bias.numpy(), source.scale)
            if chosen.axis is None:
                needed = needed.max()
            if np.any(needed > chosen.scale):
                scale = np.maximum(chosen.scale, needed.astype(np.float32))
                weights[node.weights] = replace(chosen, scale=scale)
    return ModelParams(weights, params.activations)


def _check_weights(params: ModelParams, most: int) -> None:
    top = 2 ** (most - 1) - 1
    for name, p in params.weights.items():
        if p is None or np.any(p.zero_point) or max(p.qmax, -p.qmin) > top:
            kind = "are floats" if p is None else f"have {p.bits} bits"
            raise ValueError(
                f"The weights of {name} {kind}: this file holds at most {most} bits with zero "
                f"point 0, from {-top} to {top}. Choose such weights (symmetric=True)."
            )


def _integers(model: keras.Model, params: ModelParams) -> dict[str, NDArray[np.int8]]:
    floats = models.weights(model)
    return {n: quantize(values, params.weights[n]).astype(np.int8) for n, values in floats.items()}


def _marked(q: NDArray[np.int8], bits: int) -> NDArray[np.int8]:
    """Return the integers with the first of each channel set to the largest that the file has."""
    marked = q.copy()
    marked.reshape(-1, q.shape[-1])[0] = 2 ** (bits - 1) - 1
    return marked


def _with_marks(
    copy: keras.Model, model: keras.Model, params: ModelParams, bits: int
) -> keras.Model:
    """Set the weights of a copy to the values of the model's marked integers, and return it."""
    scales = {name: np.float32(chosen.scale) for name, chosen in params.weights.items()}
    steps = {name: _marked(q, bits) for name, q in _integers(model, params).items()}
    models.set_weights(copy, {name: q * scales[name] for name, q in steps.items()})
    for name in steps:
        layer = copy.get_layer(name)
        if layer.use_bias and len(set(layer.bias.numpy().tolist())) == 1:
            # The converter writes equal biases with the first channel's scale for all of them.
            bias = layer.bias.numpy()
            bias[0] = np.nextafter(bias[0], np.float32(np.inf))
            layer.bias.assign(bias)
    return copy


def _with_integers(model_bytes: bytes, model: keras.Model, params: ModelParams, bits: int) -> bytes:
    """Replace the marked integers in a file with the model's own."""
    content = bytearray(model_bytes)
    written: dict[bytes, bytes] = {}
    for name, q in _integers(model, params).items():
        layer = model.get_layer(name)

        def stored(q: NDArray[np.int8], layer: keras.Layer = layer) -> NDArray[np.generic]:
            values = models.litert_layout(layer, q)
            return values.ravel() if bits == 8 else flatbuffer.packed(values, bits)

        marked, wanted = stored(_marked(q, bits)), stored(q)
        found = flatbuffer.constant_view(content, marked, f"int{bits}")
        if found is None and written.get(marked.tobytes()) == wanted.tobytes():
            continue  # the file has the same weights once, as for the uses of a shared layer
        if found is None:
            raise ValueError(
                f"Layer {name} ({type(layer).__name__}) has no {bits}-bit weights in the file: the "
                "recipe leaves it in float, or the converter has merged it with another."
            )
        found[:] = wanted
        written[marked.tobytes()] = wanted.tobytes()
    return bytes(content)


def _packed(model_bytes: bytes, layers: Set[str]) -> bytes:
    """Pack the int8 weights of some layers as int4."""
    weights = [
        tensor.index
        for op in flatbuffer.graph(model_bytes).ops
        if not layers.isdisjoint(op.layers)
        for tensor in op.inputs
        if tensor.kind == "weights"
    ]
    return flatbuffer.with_packed(model_bytes, weights, PACKED_BITS)


def _with_one_scale(model_bytes: bytes, layers: Set[str]) -> bytes:
    """Give the weights and the biases of some layers' dense ops a single scale each."""
    constants = [
        tensor.index
        for op in flatbuffer.graph(model_bytes).ops
        if op.type == "FULLY_CONNECTED" and not layers.isdisjoint(op.layers)
        for tensor in op.inputs
        if tensor.kind in ("weights", "bias")
    ]
    return flatbuffer.with_one_scale(model_bytes, constants) if constants else model_bytes


class _FakeQuantOp(keras.layers.Layer):
    """TensorFlow's fake-quant op as a layer; the TFLite converter takes its range from it."""

    def __init__(self, params: QuantParams, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._params = params

    def call(self, x: Any) -> Any:
        p = self._params
        return tf.quantization.fake_quant_with_min_max_vars(
            x, np.float32(p.minimum), np.float32(p.maximum), num_bits=p.bits
        )
