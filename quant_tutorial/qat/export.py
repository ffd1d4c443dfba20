"""Convert a model of `quantize_aware` to a `.tflite` file with its trained integers (lesson 08).

There are two kinds of file. A model with 8-bit activations becomes a full-integer file with the
trained ranges, made by the TFLite converter. A model with any activations becomes a file with
weights of 8, 4 or 2 bits and float activations, made by litert-quantizer.

Both tools choose the scale of a channel from its largest weight, which after training need not lie
at the end of the range. For the conversion, each channel therefore gets a *mark*, a weight at the
end of its range. The tool then chooses the trained scale, and afterwards the trained integers are
put into the file.

Each tool also has a method of its own, but neither suffices here. The converter takes scales from
fake-quant ops, but it fails where a dense layer has several, because it transposes the weights and
not the axis of the scales. The quantizer can recover trained levels from the smallest distance
between two of them; with only nine weights in a channel, as in the first convolution, this distance
need not be one step.
"""

from __future__ import annotations

from typing import Any

from quant_tutorial import flatbuffer, models, tflite
from quant_tutorial.affine import QuantParams, quantize
from quant_tutorial.arguments import checked_choice
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.qat.model import float_model, trained_params
from quant_tutorial.simulate import ModelParams, Node, rebuild

import numpy as np
from numpy.typing import NDArray


def int8_file(model: keras.Model, *, io: tflite.IOType | None = None) -> bytes:
    """Convert a model of `quantize_aware` to a full-integer file with its trained ranges.

    The converter gets the ranges of the activations as TensorFlow's fake-quant ops, so that it
    needs no calibration images. Weights of fewer than 8 bits keep their integers, which an 8-bit
    file can hold. Lesson 08.

    Args:
        model: A model with 8-bit activations, and weights of at most 8 bits with zero point 0.
        io: The type of the file's input and output; see `tflite.MODES`.

    Raises:
        ValueError: for a model that `quantize_aware` has not made, or one for which LiteRT has no
            full-integer kernels.
    """
    plain, params = float_model(model), trained_params(model)
    for name, chosen in params.activations.items():
        if chosen is None or chosen.bits != 8:
            bits = "are floats" if chosen is None else f"have {chosen.bits} bits"
            raise ValueError(
                f"The activations of {name} {bits}: LiteRT's full-integer kernels take 8 bits. "
                "Train with 8-bit activations, or keep float activations with low_bit_file()."
            )
    _check_weights(params, 8)

    def after(node: Node, x: Any) -> Any:
        return _FakeQuantOp(params.activations[node.name], name=f"{node.end}_quant")(x)

    marked = _with_marks(rebuild(plain, after), plain, params, 8)
    return _with_trained_integers(tflite.convert(marked, "int8", io=io), plain, params, 8)


def low_bit_file(model: keras.Model, recipe_name: str) -> bytes:
    """Make a file with the trained weights of a model as integers, and with float activations.

    Lesson 08.

    Args:
        model: A model of `quantize_aware`; its trained ranges of the activations are left out.
        recipe_name: One of the dynamic or weight-only `tflite.RECIPES`, with at least as many bits
            as the weights.

    Raises:
        ValueError: for a model that `quantize_aware` has not made, for a recipe of another kind or
            with too few bits, or for a layer that the recipe leaves in float.
    """
    plain, params = float_model(model), trained_params(model)
    known = [name for name, recipe in tflite.RECIPES.items() if recipe.kind != "static"]
    bits = tflite.RECIPES[checked_choice("recipe_name", recipe_name, known)].weight_bits
    _check_weights(params, bits)
    marked = _with_marks(rebuild(plain, lambda _, x: x), plain, params, bits)
    content = tflite.apply_recipe(tflite.export_litert(marked), recipe_name)
    return _with_trained_integers(content, plain, params, bits)


def file_weights(model_bytes: bytes) -> dict[str, tuple[NDArray[np.int8], NDArray[np.float32]]]:
    """Return the integer weights of a file and their scales, by layer (lesson 08).

    Both have the axes of the file, for which see `models.litert_layout`. The scales have the rank
    of the weights, so that weights · scales are the real values.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    found = {}
    for op in flatbuffer.graph(model_bytes).ops:
        for tensor in op.inputs:
            if tensor.kind == "weights" and len(tensor.scales):
                shape = [-1 if axis == tensor.axis else 1 for axis in range(len(tensor.shape))]
                # The op also has the names of layers that are fused into it, such as padding.
                found |= dict.fromkeys(op.layers, (tensor.data, tensor.scales.reshape(shape)))
    return found


def _check_weights(params: ModelParams, most: int) -> None:
    for name, chosen in params.weights.items():
        if chosen is None or chosen.bits > most or np.any(chosen.zero_point):
            kind = "are floats" if chosen is None else f"have {chosen.bits} bits"
            raise ValueError(
                f"The weights of {name} {kind}: this file holds at most {most} bits with zero "
                "point 0. Train with such weights (symmetric=True)."
            )


def _integers(plain: keras.Model, params: ModelParams) -> dict[str, NDArray[np.int8]]:
    floats = models.weights(plain)
    return {n: quantize(values, params.weights[n]).astype(np.int8) for n, values in floats.items()}


def _marked(q: NDArray[np.int8], bits: int) -> NDArray[np.int8]:
    """Return the integers with the first of each channel set to the largest that the file has."""
    marked = q.copy()
    marked.reshape(-1, q.shape[-1])[0] = 2 ** (bits - 1) - 1
    return marked


def _with_marks(
    model: keras.Model, plain: keras.Model, params: ModelParams, bits: int
) -> keras.Model:
    """Return a model whose weights are the values of the marked integers."""
    scales = {name: np.float32(chosen.scale) for name, chosen in params.weights.items()}
    steps = {name: _marked(q, bits) for name, q in _integers(plain, params).items()}
    models.set_weights(model, {name: q * scales[name] for name, q in steps.items()})
    return model


def _with_trained_integers(
    model_bytes: bytes, plain: keras.Model, params: ModelParams, bits: int
) -> bytes:
    """Replace the marked integers in a file with the trained ones."""
    content = bytearray(model_bytes)
    for name, q in _integers(plain, params).items():
        layer = plain.get_layer(name)

        def stored(q: NDArray[np.int8], layer: keras.Layer = layer) -> NDArray[np.generic]:
            values = models.litert_layout(layer, q)
            return values.ravel() if bits == 8 else flatbuffer.packed(values, bits)

        found = flatbuffer.constant_view(content, stored(_marked(q, bits)), f"int{bits}")
        if found is None:
            raise ValueError(
                f"Layer {name} ({type(layer).__name__}) has no {bits}-bit weights in the file: the "
                "recipe leaves it in float, or the converter has merged it with another."
            )
        found[:] = stored(q)
    return bytes(content)


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
