"""Run a full-integer `.tflite` file with integers alone: integer-only inference (lesson 07).

Write each real number as scale · (q − zero_point). A layer y = b + Σ x·w then becomes

    q_y = zero_point_y + M · (q_b + Σ (q_x − zero_point_x) · q_w)
    M = scale_x · scale_w / scale_y

The bracket is an int32 bias plus a sum of products of 8-bit integers, and an int32 holds it
exactly. Only the scale ratio M is not an integer. It is approximated by M ≈ multiplier / 2^31 ·
2^shift, which means a multiplication by an int32 and a shift. The method is that of Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (CVPR
2018): section 2.2 describes M, 2.3 the zero points, and 2.4 the int32 bias, the saturation and the
fused activation. The fixed-point functions are those of Google's gemmlowp library (`fixedpoint.h`),
on which LiteRT's kernels are built.

There are two stages. `load` reads the file and converts each scale ratio, a float, to a multiplier
and a shift. `run` then computes with integers alone, from the images to the outputs. The only
exception is a file with float32 input and output, in which QUANTIZE at the beginning and DEQUANTIZE
at the end handle floats.

Every tensor equals that of LiteRT's reference kernels (`OpResolverType.BUILTIN_REF`), bit for bit.
According to measurements, the kernels of ai-edge-litert 2.3 round as follows:

- A rescaling rounds twice (`rescale`), first the product and then the shift.
- Only FULLY_CONNECTED rounds once (`rescale_once`): its kernel multiplies the accumulator by M as a
  64-bit float. Two roundings would change 48 of the baseline's 100,000 logits.
- Functions such as LOGISTIC and TANH are tables of their 256 results, which `load` makes.

Two ops equal LiteRT's optimized kernels instead. The reference kernel of SUM is wrong: it leaves
the zero point out. For TILE there is none.

`OPS` names the ops that are covered, nearly all of those that the converter has an int8 version of;
what is left out stands in `integer.loading`.

No int32 overflows: `load` refuses a layer whose accumulator could overflow, products are computed
in int64, and values are clamped before a zero point is added.
"""

from quant_tutorial.integer.arithmetic import (
    INT32_MAX,
    INT32_MIN,
    Output,
    doubling_high_multiply,
    fixed_point,
    rescale,
    rescale_once,
    rounding_shift,
    saturate,
    subtract_zero_point,
)
from quant_tutorial.integer.loading import OPS, load
from quant_tutorial.integer.model import IntegerModel, Step, predict, run, run_all
from quant_tutorial.integer.ops import same_padding, windows

__all__ = [
    "INT32_MAX",
    "INT32_MIN",
    "OPS",
    "IntegerModel",
    "Output",
    "Step",
    "doubling_high_multiply",
    "fixed_point",
    "load",
    "predict",
    "rescale",
    "rescale_once",
    "rounding_shift",
    "run",
    "run_all",
    "same_padding",
    "saturate",
    "subtract_zero_point",
    "windows",
]
