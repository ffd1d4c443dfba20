"""From a model of `quantize_aware` to a `.tflite` file with the trained integers (lesson 08).

Two ways. With 8-bit activations: a full-integer file, by the TFLite converter, with the trained
ranges. With any activations: weights of 8, 4 or 2 bits and float activations, by litert-quantizer.

Both tools choose the scale of a channel from its largest weight, which after training need not
stand at the end of the range. So for the conversion each channel gets a *mark*, a weight there: the
tool then chooses the trained scale, and the trained integers are put into the file afterwards.

(The converter would take scales from fake-quant ops, but fails where a dense layer has several: it
transposes the kernel and not the axis of the scales. The quantizer can recover trained levels, by
the smallest distance between two; with the nine weights of a channel of the first convolution that
need not be one step.)
"""

from __future__ import annotations

from typing import Any

from quant_tutorial import inspection, models, quiet, recipes, tflite
from quant_tutorial.affine import QuantParams, quantize
from quant_tutorial.graph import Node, rebuild
from quant_tutorial.qat import float_model, trained_params
from quant_tutorial.simulate import ModelParams

import numpy as np
from numpy.typing import NDArray

quiet.load_tensorflow()
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402


def int8_file(model: keras.Model, *, io: tflite.IOType | None = None) -> bytes:
    """Convert a model of `quantize_aware` to a full-integer file with its trained ranges.

    The activations bring their ranges as TensorFlow's fake-quant ops; no calibration images are
    needed. Weights of fewer than 8 bits keep their integers, which the 8-bit file has room for.
    Lesson 08.

    Args:
        model: Its activations have 8 bits, its weights at most 8 and zero point 0.
        io: The type of the file's input and output, see `tflite.MODES`.

    Raises:
        ValueError: for a model that `quantize_aware` has not made, or one that LiteRT has no
            full-integer kernels for.
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
    """Make a file with the trained weights of a model as integers and with float activations.

    Lesson 08.

    Args:
        model: A model of `quantize_aware`; what it has trained for the activations is left out.
        recipe_name: One of `recipes.RECIPES`, dynamic or weight-only, with as many bits as the
            weights have, or more.

    Raises:
        ValueError: for a model that `quantize_aware` has not made, a recipe of another kind or with
            too few bits, and for a layer that the recipe leaves in float.
    """
    plain, params = float_model(model), trained_params(model)
    known = [name for name, recipe in recipes.RECIPES.items() if recipe.kind != "static"]
    if recipe_name not in known:
        raise ValueError(f"recipe_name must be one of {', '.join(known)}, got {recipe_name!r}.")
    bits = recipes.RECIPES[recipe_name].weight_bits
    _check_weights(params, bits)
    marked = _with_marks(rebuild(plain, lambda _, x: x), plain, params, bits)
    content = recipes.quantize(recipes.export_litert(marked), recipe_name)
    return _with_trained_integers(content, plain, params, bits)


def file_weights(model_bytes: bytes) -> dict[str, tuple[NDArray[np.int8], NDArray[np.float32]]]:
    """Give the integer weights of a file, and their scales, by layer (lesson 08).

    Both have the file's axes, see `models.litert_layout`; the scales are of the same rank.
    """
    found = {}
    for op in inspection.inspect(model_bytes).ops:
        for tensor in op.inputs:
            if tensor.kind == "weights" and len(tensor.scales):
                q = inspection.integers(model_bytes, tensor)
                shape = [-1 if axis == tensor.axis else 1 for axis in range(q.ndim)]
                # A layer that is fused into the op, such as padding, is named as well.
                found |= dict.fromkeys(op.layers, (q, tensor.scales.reshape(shape)))
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
    kernels = models.kernels(plain)
    return {n: quantize(kernel, params.weights[n]).astype(np.int8) for n, kernel in kernels.items()}


def _marked(q: NDArray[np.int8], bits: int) -> NDArray[np.int8]:
    """Put the largest integer of the file's weights into each channel, for its first one."""
    marked = q.copy()
    marked.reshape(-1, q.shape[-1])[0] = 2 ** (bits - 1) - 1
    return marked


def _with_marks(
    model: keras.Model, plain: keras.Model, params: ModelParams, bits: int
) -> keras.Model:
    """Give a model the values of the marked integers for kernels."""
    scales = {name: np.float32(chosen.scale) for name, chosen in params.weights.items()}
    steps = {name: _marked(q, bits) for name, q in _integers(plain, params).items()}
    models.set_kernels(model, {name: q * scales[name] for name, q in steps.items()})
    return model


def _with_trained_integers(
    model_bytes: bytes, plain: keras.Model, params: ModelParams, bits: int
) -> bytes:
    """Put the trained integers in place of the marked ones."""
    content = bytearray(model_bytes)
    for name, q in _integers(plain, params).items():
        layer = plain.get_layer(name)

        def stored(q: NDArray[np.int8], layer: keras.Layer = layer) -> NDArray[np.generic]:
            values = models.litert_layout(layer, q)
            return values.ravel() if bits == 8 else inspection.packed(values, bits)

        found = inspection.constant_view(content, stored(_marked(q, bits)), f"int{bits}")
        if found is None:
            raise ValueError(
                f"Layer {name} ({type(layer).__name__}) has no {bits}-bit weights in the file: the "
                "recipe leaves it in float, or the converter has merged it with another."
            )
        found[:] = stored(q)
    return bytes(content)


class _FakeQuantOp(keras.layers.Layer):
    """TensorFlow's fake-quant op, which the TFLite converter takes ranges from."""

    def __init__(self, params: QuantParams, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._params = params

    def call(self, x: Any) -> Any:
        p = self._params
        return tf.quantization.fake_quant_with_min_max_vars(
            x, np.float32(p.minimum), np.float32(p.maximum), num_bits=p.bits
        )
