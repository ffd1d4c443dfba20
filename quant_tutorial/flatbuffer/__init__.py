"""Read a `.tflite` file without running it, and refuse a damaged one (lesson 06).

The file is a FlatBuffer: tables of fields that point to each other by offsets. LiteRT ships the
code that reads them, generated from the schema, but neither that code nor the interpreter checks
where an offset leads. A file that was cut short or changed in one byte can therefore end the whole
process. Here every offset is followed first (`offsets`), and then every number that LiteRT relies
on is checked (`reading`, `op_checks`, `order`).

`read` returns the objects of the schema, which can be changed, and `write` makes a file of them
again. `graph` returns the main graph as the rest of the course needs it: ops and tensors, the
constants with their values.
"""

from quant_tutorial.flatbuffer.packing import constant_view, packed, unpacked
from quant_tutorial.flatbuffer.parts import CASTS, FLOWING, WEIGHTED, Graph, Op, Tensor
from quant_tutorial.flatbuffer.reading import graph, read
from quant_tutorial.flatbuffer.writing import (
    Part,
    split,
    with_ends,
    with_one_scale,
    with_packed,
    write,
)

__all__ = [
    "CASTS",
    "FLOWING",
    "WEIGHTED",
    "Graph",
    "Op",
    "Part",
    "Tensor",
    "constant_view",
    "graph",
    "packed",
    "read",
    "split",
    "unpacked",
    "with_ends",
    "with_one_scale",
    "with_packed",
    "write",
]
