"""Round better than to the nearest level, without training (lesson 11).

Cross-layer equalization, bias correction, GPTQ, AdaRound and descent by single changes: all of them
need no labels, and the float weights stay as they are.
"""

from quant_tutorial.rounding.equalization import equalize
from quant_tutorial.rounding.files import int8_file, low_bit_file
from quant_tutorial.rounding.learned import adaround, refine
from quant_tutorial.rounding.quadratic import (
    flip_layer,
    gptq_layer,
    hessian,
    rounding_error,
    search_scales,
    squared_error,
)
from quant_tutorial.rounding.rounded import Rounded
from quant_tutorial.rounding.second_order import correct_bias, gptq, nearest
from quant_tutorial.rounding.shipped import (
    SHIPPED,
    Figures,
    load,
    load_results,
    restore,
    save,
)

__all__ = [
    "SHIPPED",
    "Figures",
    "Rounded",
    "adaround",
    "correct_bias",
    "equalize",
    "flip_layer",
    "gptq",
    "gptq_layer",
    "hessian",
    "int8_file",
    "load",
    "load_results",
    "low_bit_file",
    "nearest",
    "refine",
    "restore",
    "rounding_error",
    "save",
    "search_scales",
    "squared_error",
]
