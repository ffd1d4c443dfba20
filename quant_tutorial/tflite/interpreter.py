"""Run `.tflite` files with LiteRT; no other module makes an interpreter (lessons 06 and 07).

LiteRT is the current name of the TensorFlow Lite runtime. A kernel is the code that computes an op,
and LiteRT has several for each op. The reference kernels are written for clarity, the optimized
ones for speed. XNNPACK, a separate library, is faster still and the default on most processors.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from quant_tutorial import flatbuffer, quiet
from quant_tutorial.arguments import checked_choice
from quant_tutorial.flatbuffer import Graph

from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

KERNELS = {
    "reference": OpResolverType.BUILTIN_REF,
    "optimized": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "default": OpResolverType.AUTO,
}


def make_interpreter(
    model_bytes: bytes,
    *,
    kernels: str = "default",
    threads: int | None = None,
    keep_tensors: bool = False,
    shapes: Mapping[int, tuple[int, ...]] | None = None,
) -> Interpreter:
    """Return LiteRT's interpreter for a file, with its tensors allocated (lesson 06).

    LiteRT's log lines are not shown. The file is not checked. LiteRT ends the process on some
    damaged files, so call `flatbuffer.graph` first on bytes that a reader supplies.

    Args:
        model_bytes: The content of the `.tflite` file.
        kernels: One of `KERNELS`.
        threads: How many threads LiteRT may use; None leaves the choice to LiteRT.
        keep_tensors: Whether to keep the values of all tensors, for `get_tensor`. This does not
            work with the default kernels, which fuse ops.
        shapes: The shapes of inputs whose lengths the file leaves open, by tensor index.

    Raises:
        ValueError: for unknown kernels, or bytes that LiteRT does not accept.
    """
    checked_choice("kernels", kernels, KERNELS)
    try:
        with quiet.all_output():  # LiteRT warns that keeping the tensors takes memory
            interpreter = Interpreter(
                model_content=bytes(model_bytes),
                num_threads=None if threads is None else int(threads),
                experimental_op_resolver_type=KERNELS[kernels],
                experimental_preserve_all_tensors=keep_tensors,
            )
            for index, shape in (shapes or {}).items():
                interpreter.resize_tensor_input(index, shape)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:  # a wrong header, or wrong content
        raise ValueError(
            f"model_bytes is not a .tflite model that LiteRT can run: {error}"
        ) from None
    return interpreter


class Runner:
    """An interpreter that begins each run with the memory that the file gives its ops (lesson 06).

    LiteRT keeps the state of recurrent ops, and the variables of a file, from one run to the next.
    A result would then depend on the images that were run before.

    Args:
        model_bytes: The content of the `.tflite` file.
        graph: The same file, read.
        options: As for `make_interpreter`.
    """

    def __init__(self, model_bytes: bytes, graph: Graph, **options: Any) -> None:
        self._make = partial(make_interpreter, model_bytes, **options)
        self._memory, self._used = graph.memory, False
        self._interpreter = self._make()

    def invoke(self, inputs: Mapping[int, NDArray[Any]]) -> None:
        """Run the file on the values of its inputs, by tensor index."""
        if self._used and self._memory == "tensors":
            self._interpreter.reset_all_variables()
        elif self._used and self._memory == "variables":
            self._interpreter = self._make()  # LiteRT initializes variables only once
        self._used = True
        for index, values in inputs.items():
            self._interpreter.set_tensor(index, values)
        self._interpreter.invoke()

    def value(self, index: int) -> NDArray[Any]:
        """Return the values of a tensor after a run."""
        return self._interpreter.get_tensor(index)


def delegated_ops(model_bytes: bytes) -> tuple[bool, ...]:
    """Return for each op of a file whether LiteRT hands it to XNNPACK, in the file's order.

    LiteRT decides when it loads the file, by the types of the op's tensors. Lesson 09.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, or one that LiteRT does not accept.
    """
    ops = flatbuffer.graph(model_bytes).ops
    given = dict.fromkeys(range(len(ops)), False)
    maker = {tensor.index: op for op in ops for tensor in op.outputs}
    # LiteRT appends a node for each group of ops that it has handed over, and keeps the old ones.
    for node in make_interpreter(model_bytes)._get_ops_details()[len(ops) :]:
        inputs, waiting = set(node["inputs"]), list(node["outputs"])
        while waiting:
            op = maker.get(waiting.pop())
            if op is not None and not given[op.index]:
                given[op.index] = True
                waiting += [t.index for t in op.inputs if t.index not in inputs]
    return tuple(given.values())
