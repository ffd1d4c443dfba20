"""A simulated model on the same images again and again, as fast as a slider moves (lesson 05).

The model is cut at its nodes into stages. A stage rounds the values of the nodes that it reads,
with scale and limits that are inputs of it, and computes the next node's values: one small float
graph, converted once, that LiteRT runs. Weights are constants of a stage, because LiteRT's fast
kernels want them so; new ones are written into the converted bytes in place.

What a stage gives is kept for every image. After a move only the stages run that it touches: first
that of the changed weights, or the one that reads the changed node.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from quant_tutorial import models, quiet
from quant_tutorial.graph import Node
from quant_tutorial.inspection import constant_view
from quant_tutorial.simulate import (
    ModelParams,
    Simulator,
    checked_images,
    rounded,
    run_time_values,
)

import numpy as np
from numpy.typing import NDArray

quiet.load_tensorflow()
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402

_BATCH = 50  # so few that a batch of activations stays in a core's cache


class StagedRun:
    """Runs a simulated model on fixed images with ever other parameters (lesson 05).

    Memory: the values of all nodes for all images in float32, for the course's model 16 kB an
    image.

    Args:
        simulator: The model.
        images: As the model gets them, shape (n, …), n ≥ 1.
        threads: How many threads compute, each a part of the images; by default one for each core.

    Raises:
        ValueError: for images of the wrong shape, that are no floats or not finite, or fewer than
            one thread.
    """

    def __init__(
        self, simulator: Simulator, images: NDArray[np.float32], *, threads: int | None = None
    ) -> None:
        wanted = simulator.model.input_shape[1:]
        images = checked_images("images", images, wanted)
        threads = (os.cpu_count() or 1) if threads is None else threads
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}.")
        self.count = len(images)
        self._simulator, (first, *rest) = simulator, simulator.nodes
        batches = -(-self.count // _BATCH)
        padded = np.zeros((batches * _BATCH, *wanted), np.float32)
        padded[: self.count] = images
        self._raw = {first.name: padded}  # the values of each node before they are rounded
        for node in rest:
            shape = simulator.model.get_layer(node.end).output.shape[1:]
            self._raw[node.name] = np.zeros((len(padded), *shape), np.float32)
        with quiet.all_output():
            contents = {node.name: _converted(simulator, node) for node in rest}
        self._workers = [
            {node.name: _Stage(simulator, node, contents[node.name]) for node in rest}
            for _ in range(threads)
        ]
        self._pool = ThreadPoolExecutor(threads, "simulate")
        self._versions: dict[Hashable, int] = {}
        # Which version of each node's values each batch holds; 0 stands for none.
        self._held = {node.name: np.zeros(batches, np.int64) for node in rest}

    def outputs(self, params: ModelParams, images: int | None = None) -> NDArray[np.float32]:
        """Give the model's outputs, shape (images, …), for the first so many images, or for all.

        What an earlier call has computed and the parameters have not changed is not repeated.

        Raises:
            ValueError: for a number of images outside 1 to all.
        """
        count = self.count if images is None else images
        if not 1 <= count <= self.count:
            raise ValueError(f"images must be from 1 to {self.count}, got {images}.")
        versions = self._wanted(params)
        batches = -(-count // _BATCH)
        stale = [n for n, v in versions.items() if np.any(self._held[n][:batches] != v)]
        shares = np.array_split(np.arange(batches), len(self._workers))
        for stages in self._workers:
            for name in stale:
                stages[name].set(params)
        tasks = [
            self._pool.submit(self._compute, stages, stale, versions, share)
            for stages, share in zip(self._workers, shares, strict=True)
        ]
        wait(tasks)  # all, so that after an error in one no other is still at work
        for task in tasks:
            task.result()
        last = self._simulator.nodes[-1]
        values = run_time_values(params.activations[last.name], last.kind == "same")
        return np.array(rounded(self._raw[last.name][:count], *values))

    def values(self, name: str) -> NDArray[np.float32]:
        """Give the values of a node before they are rounded, for all images, as computed last.

        A view of shape (images, …), read-only. Where pooling follows a node they are pooled. After
        `outputs(params, images=n)` those beyond the first n are of an earlier call.

        Raises:
            ValueError: for a name that no node has.
        """
        if name not in self._raw:
            raise ValueError(f"name must be one of {', '.join(self._raw)}, got {name!r}.")
        view = self._raw[name][: self.count]
        view.flags.writeable = False
        return view

    def close(self) -> None:
        """Let the threads go; the object cannot be used afterwards."""
        self._pool.shutdown()

    def _wanted(self, params: ModelParams) -> dict[str, int]:
        """Number the values that each node has under these parameters; the same ones alike."""
        versions: dict[str, int] = {self._simulator.nodes[0].name: 0}
        for node in self._simulator.nodes[1:]:
            sources = [(versions[name], params.activations[name]) for name in node.sources]
            weights = params.weights[node.weights] if node.weights else None
            key = (node.name, weights, *sources)
            versions[node.name] = self._versions.setdefault(key, len(self._versions) + 1)
        return {node.name: versions[node.name] for node in self._simulator.nodes[1:]}

    def _compute(
        self,
        stages: dict[str, _Stage],
        names: Sequence[str],
        versions: dict[str, int],
        batches: NDArray[np.integer],
    ) -> None:
        for batch in batches:
            rows = slice(batch * _BATCH, (batch + 1) * _BATCH)
            for name in names:
                if self._held[name][batch] == versions[name]:
                    continue
                self._held[name][batch] = 0  # should the stage fail, the batch holds nothing
                stages[name].run(self._raw, rows)
                self._held[name][batch] = versions[name]


class _Stage:
    """One stage, with the parameters that it was given last; for one thread."""

    def __init__(self, simulator: Simulator, node: Node, content: bytes) -> None:
        self._simulator, self._node = simulator, node
        self._content = bytearray(content)
        self._write = _kernel_writer(self._content, simulator, node) if node.weights else None
        self._kernel_of: Any = None
        self._load()

    def set(self, params: ModelParams) -> None:
        """Take over new parameters, as far as they concern this stage."""
        name = self._node.weights
        if name and params.weights[name] != self._kernel_of:
            self._write(self._simulator.kernel(name, params))
            self._kernel_of = params.weights[name]
            self._load()
        for index, source in enumerate(self._simulator.sources(self._node)):
            averages = source.kind == "same"
            values = run_time_values(params.activations[source.name], averages)
            for name, value in zip(_value_names(source, index), values, strict=True):
                self._interpreter.set_tensor(self._inputs[name], value.reshape(1))

    def run(self, raw: dict[str, NDArray[np.float32]], rows: slice) -> None:
        """Compute some rows of the node's values from those of its sources."""
        for index, source in enumerate(self._node.sources):
            self._interpreter.set_tensor(self._inputs[f"x_{index}"], raw[source][rows])
        self._interpreter.invoke()
        raw[self._node.name][rows] = self._interpreter.tensor(self._output)()

    def _load(self) -> None:
        with quiet.native_output():
            self._interpreter = Interpreter(model_content=bytes(self._content), num_threads=1)
            self._interpreter.allocate_tensors()
        runner = self._interpreter.get_input_details()
        # "serving_default_scale_0:0" and the like
        names = {details["name"].split(":")[0]: details["index"] for details in runner}
        self._inputs = {name.removeprefix("serving_default_"): i for name, i in names.items()}
        self._output = self._interpreter.get_output_details()[0]["index"]


def _value_names(source: Node, index: int) -> list[str]:
    """Name the inputs of a stage that say how a source is rounded; see `run_time_values`."""
    names = ["scale", "low", "high", *(["zero_point"] if source.kind == "same" else [])]
    return [f"{name}_{index}" for name in names]


def _converted(simulator: Simulator, node: Node) -> bytes:
    """Convert a stage: round the values of its sources, and compute those of its node."""
    model, sources = simulator.model, simulator.sources(node)
    ends = [model.get_layer(source.end).output for source in sources]
    part = keras.Model(ends, model.get_layer(node.end).output)
    # As constants, not variables: the converter does not freeze those of Keras 3.
    constants = [(variable, tf.constant(variable)) for variable in part.variables]
    signature = {}
    for index, (source, end) in enumerate(zip(sources, ends, strict=True)):
        signature[f"x_{index}"] = tf.TensorSpec((_BATCH, *end.shape[1:]), name=f"x_{index}")
        for name in _value_names(source, index):
            signature[name] = tf.TensorSpec((1,), name=name)

    def compute(**inputs: tf.Tensor) -> tf.Tensor:
        values = [
            rounded(inputs[f"x_{i}"], *(inputs[name] for name in _value_names(source, i)))
            for i, source in enumerate(sources)
        ]
        with keras.StatelessScope(state_mapping=constants):
            return part(values if len(values) > 1 else values[0], training=False)

    concrete = tf.function(compute).get_concrete_function(**signature)
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert()


def _kernel_writer(
    content: bytearray, simulator: Simulator, node: Node
) -> Callable[[NDArray[np.float32]], None]:
    """Find a stage's kernel in its bytes, and give a function that overwrites it."""
    layer = simulator.model.get_layer(node.weights)
    values = constant_view(content, models.litert_layout(layer, simulator.kernels[node.weights]))
    if values is not None:

        def write(new: NDArray[np.float32]) -> None:
            values[:] = models.litert_layout(layer, new).ravel()

        return write
    raise ValueError(
        f"Layer {node.weights}: the converter has changed its kernel, so that new weights cannot "
        "be put into its stage. Use simulate(), which builds the model anew for each scheme."
    )
