"""Read a full-integer `.tflite` file for integer-only inference (lesson 07).

This is the only place in which scales, which are floats, become integers. `file` walks through the
ops of a file, `source` holds what all builders share, and the other modules have a builder for each
type of op.

Not covered, and refused by `load` with the op and its layer named, are:

- files with 16-bit activations, and float ops between integer ones,
- ops that remember (recurrent layers, variables), branches and loops,
- LOG_SOFTMAX, and SOFTMAX over more than 511 values,
- inputs of plain integers, such as the numbers of words,
- shapes, indices and paddings that depend on the image, and images of open size,
- custom ops, and all that are missing in `OPS`; the converter makes no integer version of most.
"""

from quant_tutorial.integer.loading.file import OPS, load

__all__ = ["OPS", "load"]
