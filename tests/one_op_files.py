"""Make `.tflite` files of one op, and compare integer-only inference with LiteRT on any file.

What several tests of `quant_tutorial.integer` share.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from quant_tutorial import integer

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import ArrayLike

KERNELS = {
    "reference": OpResolverType.BUILTIN_REF,
    "optimized": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


def tensor(
    name: str, shape: tuple[int, ...], scale: ArrayLike, zero_point: int = 0, **more: Any
) -> SimpleNamespace:
    """Describe a tensor; `data` makes it a constant, `axis` is that of several scales."""
    fields = {"dtype": "int8", "axis": 0, "data": None} | more
    return SimpleNamespace(name=name, shape=shape, scale=scale, zero_point=zero_point, **fields)


def constant(name: str, data: np.ndarray, scale: ArrayLike = (), **more: Any) -> SimpleNamespace:
    return tensor(name, data.shape, scale, dtype=data.dtype.name, data=data, **more)


def options(kind: str, **fields: Any) -> Any:
    made = getattr(schema, f"{kind}OptionsT")()
    for name, value in fields.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


def file_of(
    name: str,
    inputs: list[SimpleNamespace],
    result: SimpleNamespace | list[SimpleNamespace],
    how: Any = None,
    version: int = 1,
) -> bytes:
    """Make a `.tflite` file of one op. Its inputs without data are the model's; one may come twice.

    An op with several results has a list of them.
    """
    results = result if isinstance(result, list) else [result]
    parts = [part for n, part in enumerate(inputs) if part not in inputs[:n]]
    made = schema.ModelT()
    made.version, made.buffers = 3, [schema.BufferT()]
    graph, op, code = schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    graph.tensors = []
    for part in (*parts, *results):
        one, buffer = schema.TensorT(), schema.BufferT()
        one.name, one.shape = part.name, list(part.shape)
        one.type = getattr(schema.TensorType, part.dtype.upper())
        one.buffer = len(made.buffers)
        scales = np.ravel(part.scale)
        if len(scales):
            one.quantization = schema.QuantizationParametersT()
            one.quantization.scale = scales.astype(np.float32).tolist()
            one.quantization.zeroPoint = [part.zero_point] * len(scales)
            one.quantization.quantizedDimension = part.axis
        if part.data is not None:
            buffer.data = list(part.data.tobytes())
        graph.tensors.append(one)
        made.buffers.append(buffer)
    op.inputs = [parts.index(part) for part in inputs]
    op.outputs = list(range(len(parts), len(parts) + len(results)))
    # A constant without data: a test of what must not be.
    free = [n for n, part in enumerate(parts) if part.data is None and part.name not in "wb"]
    graph.inputs, graph.outputs, graph.operators = free, op.outputs, [op]
    if how is not None:
        op.builtinOptions = how
        op.builtinOptionsType = getattr(schema.BuiltinOptions, type(how).__name__[:-1])
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
    made.operatorCodes, made.subgraphs = [code], [graph]
    builder = flatbuffers.Builder()
    builder.Finish(made.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def reference(
    content: bytes, inputs: Sequence[np.ndarray], indices: list[int], kernels: str = "reference"
) -> dict[int, np.ndarray]:
    """Run LiteRT image by image and give the tensors with these indices, a row for each image."""
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=KERNELS[kernels],
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    entries = [entry["index"] for entry in interpreter.get_input_details()]
    seen = {index: [] for index in indices}
    for images in zip(*inputs, strict=True):
        for entry, image in zip(entries, images, strict=True):
            interpreter.set_tensor(entry, image[np.newaxis])
        interpreter.invoke()
        for index, rows in seen.items():
            values = interpreter.get_tensor(index)
            rows.append(values if values.shape[:1] == (1,) else values[np.newaxis])
    return {index: np.concatenate(rows) for index, rows in seen.items()}


def assert_as_litert(
    content: bytes, x: np.ndarray | list[np.ndarray], kernels: str = "reference"
) -> dict[int, np.ndarray]:
    """Every tensor on the way, inputs and outputs included, is LiteRT's in every bit."""
    model = integer.load(content)
    ours = integer.run_all(model, x)
    inputs = x if isinstance(x, list) else [x]
    for index, theirs in reference(content, inputs, list(ours), kernels).items():
        name = model.tensors[index].name
        assert ours[index].dtype == theirs.dtype == model.tensors[index].dtype, name
        np.testing.assert_array_equal(ours[index], theirs, err_msg=name)
    return ours


def integers(rng: np.random.Generator, *shape: int, kind: type = np.int8) -> np.ndarray:
    ends = np.iinfo(kind)
    values = rng.integers(ends.min, ends.max, shape, kind, endpoint=True)
    values.flat[:2] = ends.min, ends.max
    return values
