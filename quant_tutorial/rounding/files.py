"""Write the integers that a rounding method has chosen into a `.tflite` file (lesson 11).

How they get into a file is the part of `simulate.files`.
"""

from __future__ import annotations

from quant_tutorial import simulate, tflite
from quant_tutorial.rounding.rounded import Rounded


def int8_file(rounded: Rounded, *, io: tflite.IOType | None = None, packed: bool = False) -> bytes:
    """Make a full-integer file with the chosen integers, and with their biases as int32.

    Lesson 11.

    Args:
        rounded: A model with 8-bit activations, and weights of at most 8 bits with zero point 0.
        io: The type of the file's input and output; see `tflite.MODES`.
        packed: Whether weights of at most 4 bits take 4 bits in the file; see `simulate.int8_file`.

    Raises:
        ValueError: for a model for which LiteRT has no full-integer kernels.
    """
    return simulate.int8_file(rounded.model, rounded.params, io=io, packed=packed)


def low_bit_file(rounded: Rounded, recipe_name: str) -> bytes:
    """Make a file with the chosen integers as weights, and with float activations (lesson 11).

    Args:
        rounded: A model whose weights have zero point 0; the parameters of its activations are
            left out.
        recipe_name: One of the dynamic or weight-only `tflite.RECIPES`, with at least as many bits
            as the weights.

    Raises:
        ValueError: for a recipe of another kind or with too few bits, or for a layer that the
            recipe leaves in float.
    """
    return simulate.low_bit_file(rounded.model, rounded.params, recipe_name)
