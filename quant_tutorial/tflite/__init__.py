"""Convert, run, inspect, quantize and debug `.tflite` files (lessons 06, 07 and 09)."""

from quant_tutorial.tflite.conversion import MODES, IOType, Mode, convert, save
from quant_tutorial.tflite.debugging import debug
from quant_tutorial.tflite.evaluation import (
    Evaluation,
    chosen_output,
    evaluate,
    input_output,
    inputs_outputs,
    predict,
    tensors,
)
from quant_tutorial.tflite.inspection import Inspection, file_weights, inspect
from quant_tutorial.tflite.interpreter import KERNELS, delegated_ops, make_interpreter
from quant_tutorial.tflite.op_errors import Debugging, TensorError
from quant_tutorial.tflite.recipes import RECIPES, Recipe, apply_recipe, export_litert
from quant_tutorial.tflite.running import run, run_all
from quant_tutorial.tflite.trial import Comparison, compare

__all__ = [
    "KERNELS",
    "MODES",
    "RECIPES",
    "Comparison",
    "Debugging",
    "Evaluation",
    "IOType",
    "Inspection",
    "Mode",
    "Recipe",
    "TensorError",
    "apply_recipe",
    "chosen_output",
    "compare",
    "convert",
    "debug",
    "delegated_ops",
    "evaluate",
    "export_litert",
    "file_weights",
    "input_output",
    "inputs_outputs",
    "inspect",
    "make_interpreter",
    "predict",
    "run",
    "run_all",
    "save",
    "tensors",
]
