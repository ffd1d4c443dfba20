"""Convert a model of `quantize_aware` to a `.tflite` file with its trained integers (lesson 08).

How the integers get into a file is the part of `simulate.files`.
"""

from __future__ import annotations

from quant_tutorial import simulate, tflite
from quant_tutorial.frameworks import keras
from quant_tutorial.qat.model import floats_and_params


def int8_file(
    model: keras.Model, *, io: tflite.IOType | None = None, packed: bool = False
) -> bytes:
    """Convert a model of `quantize_aware` to a full-integer file with its trained ranges.

    Lesson 08.

    Args:
        model: A model with 8-bit activations, and weights of at most 8 bits with zero point 0.
        io: The type of the file's input and output; see `tflite.MODES`.
        packed: Whether weights of at most 4 bits take 4 bits in the file; see `simulate.int8_file`.

    Raises:
        ValueError: for a model that `quantize_aware` has not made, or one for which LiteRT has no
            full-integer kernels.
    """
    return simulate.int8_file(*floats_and_params(model), io=io, packed=packed)


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
    return simulate.low_bit_file(*floats_and_params(model), recipe_name)
