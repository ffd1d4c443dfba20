"""Provide the code that the lessons of the quantization course share.

Importing this package imports nothing else. `quant_tutorial.affine`, `.metrics` and `.mnist` need
only NumPy, and TensorFlow is loaded (quietly, see `quiet`) by the modules that use it.
"""

__version__ = "0.1.0"
