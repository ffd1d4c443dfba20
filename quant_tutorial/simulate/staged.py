"""Run a simulated model on the same images again and again, fast enough for a slider (lesson 05).

The model is cut at its nodes into stages (`stages`), which LiteRT runs. Weights are constants of a
stage, because LiteRT's fast kernels require that. New weights are written into the converted bytes
in place.

The values that a stage computes are kept for every image. After a change only the affected stages
run again, beginning with the stage that has the changed weights or reads the changed node.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any

from quant_tutorial import models
from quant_tutorial.arguments import checked_choice, checked_whole
from quant_tutorial.flatbuffer import constant_view
from quant_tutorial.frameworks import keras
from quant_tutorial.simulate.fake_quantize import rounded, run_time_values
from quant_tutorial.simulate.graph import Node
from quant_tutorial.simulate.simulator import ModelParams, Simulator, bits_of
from quant_tutorial.simulate.stages import BATCH, value_names
from quant_tutorial.simulate.walking import layer_of
from quant_tutorial.tflite.interpreter import make_interpreter

import numpy as np
from numpy.typing import NDArray

_KEPT = 4096  # versions of values that are remembered; older ones are computed again


class StagedRun:
    """Runs a simulated model on the same images with new parameters each time (lesson 05).

    It keeps the values of all nodes for all images in float32, which takes 16 kB an image for the
    course's model. So make one for a set of images, and share it.

    Several threads may share it, as JupyterLab's do: it answers a slider while a cell runs. Hold
    the `lock` from `outputs` to `values` where both must be of the same parameters.

    Attributes:
        simulator: The model.
        images: The images, in the order in which they were given: an array, or of several inputs
            one for each, by their names.
        count: How many images there are.
        lock: Held by each method while it waits for results; a thread may take it again.

    Args:
        simulator: The model.
        images: Images as the model takes them, shape (n, …), n ≥ 1; of several inputs a mapping or
            a list, see `Simulator`.
        threads: How many threads share the images; by default one for each core.

    Raises:
        ValueError: for images that have the wrong shape, are not floats or not finite, or for fewer
            than one thread.
    """

    def __init__(self, simulator: Simulator, images: Any, *, threads: int | None = None) -> None:
        given = simulator.by_input("images", images)
        threads = checked_whole("threads", (os.cpu_count() or 1) if threads is None else threads, 1)
        self.simulator, self.lock = simulator, threading.RLock()
        self.count = len(next(iter(given.values())))
        # The order is random, and the same each time, so that the first rows are a fair sample of
        # all: MNIST's own order begins with easier images.
        self._order = np.random.default_rng(0).permutation(self.count)
        rest = [node for node in simulator.nodes if node.sources]
        batches = -(-self.count // BATCH)
        # The values of each node before rounding, one row for each image.
        self._raw: dict[str, NDArray[np.float32]] = {}
        for node in simulator.nodes:
            shape = simulator.model.get_layer(node.end).output.shape[1:]
            self._raw[node.name] = np.zeros((batches * BATCH, *shape), np.float32)
        self._ends = [_end(simulator, tensor) for tensor in simulator.model.outputs]
        self._workers = [
            {node.name: _Stage(simulator, node) for node in rest} for _ in range(threads)
        ]
        self._pool = ThreadPoolExecutor(threads, "simulate")
        numbers = itertools.count(1)
        self._version = lru_cache(_KEPT)(lambda key: next(numbers))
        # The version of each node's values that each batch holds; 0 means none.
        self._held = {node.name: np.zeros(batches, np.int64) for node in rest}
        # The current computation: the batches that are left, a task for each thread, and the rows
        # and versions that they compute.
        self._left: Iterator[int] = iter(())
        self._tasks: list[Future[None]] = []
        self._current: tuple[int, dict[str, int]] = 0, {}
        self.set_images(given if len(given) > 1 else next(iter(given.values())))

    def set_images(self, images: Any) -> None:
        """Replace the images with the same number of other images.

        Raises:
            ValueError: for images that the model does not take, or for another number of images.
        """
        given = self.simulator.by_input("images", images)
        first = next(iter(given.values()))
        if len(first) != self.count:
            raise ValueError(f"images must be {self.count}, as before, got {len(first)}.")
        with self.lock:
            self._stop()
            self.images = given if len(given) > 1 else first
            for name, values in given.items():
                self._raw[name][: self.count] = values[self._order]
            for held in self._held.values():
                held[:] = 0

    def sample(self, images: int) -> NDArray[np.intp]:
        """Return the indices of a random sample of the images, the same each time, shape (images,).

        Raises:
            ValueError: for a number of images outside 1 to all.
        """
        return self._order[: checked_whole("images", images, 1, self.count)]

    def outputs(self, params: ModelParams, images: int | None = None) -> Any:
        """Return the model's outputs, shape (images, …), for all images or for a `sample` of them.

        Several outputs are in the model's own structure, such as a list or a dictionary. Values
        from an earlier call are used again where the parameters leave them unchanged.

        Raises:
            ValueError: for a number of images outside 1 to all.
        """
        rows = self.count if images is None else len(self.sample(images))
        with self.lock:
            self._update(params, rows)
            outputs = [self._output(*end, params, rows) for end in self._ends]
        if images is None:
            outputs = [self._in_order(values) for values in outputs]
        return keras.tree.pack_sequence_as(self.simulator.model.output, outputs)

    def begin(self, params: ModelParams) -> None:
        """Start to compute the outputs for all images, and return at once.

        `outputs` with the same parameters then waits only for the rest. With others, or after
        `set_images`, the computation is abandoned.
        """
        with self.lock:
            self._start(params, self.count)

    def values(self, name: str, images: int | None = None) -> NDArray[np.float32]:
        """Return the values of a node before they are rounded, as computed last.

        They have the shape (images, …), for all images or for a `sample` of them. Where pooling
        follows a node, they are pooled. After `outputs(params, images=n)` only those of that sample
        are up to date; after `begin`, none is before `outputs`.

        Raises:
            ValueError: for a name that no node has, or a number of images outside 1 to all.
        """
        raw = self._raw[checked_choice("name", name, self._raw)]
        with self.lock:
            self._stop()
            if images is not None:
                return raw[: len(self.sample(images))].copy()
            return self._in_order(raw[: self.count])

    def close(self) -> None:
        """Stop the threads; the object cannot be used afterwards."""
        with self.lock:
            self._stop()
            self._pool.shutdown()

    def _update(self, params: ModelParams, rows: int) -> None:
        """Compute the values of the first rows anew where the parameters change them."""
        self._start(params, rows)
        try:
            wait(self._tasks)  # for all, so that none is still running when one has failed
        except BaseException:  # the reader interrupts the cell
            self._stop()
            raise
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.result()

    def _start(self, params: ModelParams, rows: int) -> None:
        """Let the threads compute what `_update` waits for, unless they already do."""
        versions = self._wanted(params)
        if self._tasks and rows <= self._current[0] and versions == self._current[1]:
            return
        self._stop()
        batches = -(-rows // BATCH)
        stale = [n for n, v in versions.items() if np.any(self._held[n][:batches] != v)]
        # Each thread takes the next batch when it is ready: fixed shares would wait for the thread
        # whose core has other work.
        self._left, self._current = iter(range(batches)), (rows, versions)
        self._tasks = [
            self._pool.submit(self._compute, stages, stale, params, versions, self._left)
            for stages in self._workers
        ]

    def _stop(self) -> None:
        """Take the batches that are left from the threads, and wait until none is at work."""
        for _ in self._left:
            pass
        wait(self._tasks)
        self._tasks = []

    def _output(
        self, node: Node, moving: keras.Model | None, params: ModelParams, rows: int
    ) -> NDArray[np.float32]:
        """Return the first rows of an output of the model, see `_end`."""
        values = run_time_values(params.activations[node.name], node.kind == "same")
        outputs = np.array(rounded(self._raw[node.name][:rows], *values))
        return outputs if moving is None else models.predict(moving, outputs)

    def _in_order(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the rows in the order in which the images were given."""
        given = np.empty_like(rows)
        given[self._order] = rows
        return given

    def _wanted(self, params: ModelParams) -> dict[str, int]:
        """Return the version number of each node's values; equal parameters have equal numbers."""
        versions: dict[str, int] = {}
        for node in self.simulator.nodes:
            if not node.sources:
                versions[node.name] = 0
                continue
            sources = [(versions[name], params.activations[name]) for name in node.sources]
            weights = params.weights[node.weights] if node.weights else None
            bits = bits_of(params, node) if node.constant else None
            versions[node.name] = self._version((node.name, weights, bits, *sources))
        return {node.name: versions[node.name] for node in self.simulator.nodes if node.sources}

    def _compute(
        self,
        stages: dict[str, _Stage],
        names: Sequence[str],
        params: ModelParams,
        versions: dict[str, int],
        batches: Iterator[int],
    ) -> None:
        for name in names:
            stages[name].set(params)
        for batch in batches:
            rows = slice(batch * BATCH, (batch + 1) * BATCH)
            for name in names:
                if self._held[name][batch] == versions[name]:
                    continue
                self._held[name][batch] = 0  # if the stage fails, the batch holds no version
                stages[name].run(self._raw, rows)
                self._held[name][batch] = versions[name]


def _end(simulator: Simulator, tensor: Any) -> tuple[Node, keras.Model | None]:
    """Return the node of an output's values, and the model that moves them to the output, if any.

    Values are moved behind a node only where it is an output itself, or is read more than once.
    """
    by_end = {node.end: node for node in simulator.nodes}
    layer = last = layer_of(tensor)
    while layer.name not in by_end:
        layer = layer_of(layer.input)
    return by_end[layer.name], None if layer is last else keras.Model(layer.output, tensor)


class _Stage:
    """One stage with its current parameters, for one thread."""

    def __init__(self, simulator: Simulator, node: Node) -> None:
        self._simulator, self._node = simulator, node
        self._content = bytearray(simulator.stages[node.name])
        self._write = _weights_writer(self._content, simulator, node) if node.weights else None
        self._weights_of: Any = None
        self._load()

    def set(self, params: ModelParams) -> None:
        """Set those of the new parameters that concern this stage."""
        name = self._node.weights
        if name and params.weights[name] != self._weights_of:
            self._write(self._simulator.rounded_weights(name, params))
            self._load()
            self._weights_of = params.weights[name]  # last, should loading fail
        if self._node.constant:
            layer = self._simulator.model.get_layer(self._node.constant)
            constant = layer.rounded_constant(bits_of(params, self._node))
            self._interpreter.set_tensor(self._inputs["constant"], constant)
        for index, source in enumerate(self._simulator.sources(self._node)):
            averages = source.kind == "same"
            values = run_time_values(params.activations[source.name], averages)
            for name, value in zip(value_names(source, index), values, strict=True):
                self._interpreter.set_tensor(self._inputs[name], value.reshape(1))

    def run(self, raw: dict[str, NDArray[np.float32]], rows: slice) -> None:
        """Compute some rows of the node's values from those of its sources."""
        for index, source in enumerate(self._node.sources):
            self._interpreter.set_tensor(self._inputs[f"x_{index}"], raw[source][rows])
        self._interpreter.invoke()
        raw[self._node.name][rows] = self._interpreter.tensor(self._output)()

    def _load(self) -> None:
        self._interpreter = make_interpreter(self._content, threads=1)
        runner = self._interpreter.get_input_details()
        # A name looks like "serving_default_scale_0:0".
        names = {details["name"].split(":")[0]: details["index"] for details in runner}
        self._inputs = {name.removeprefix("serving_default_"): i for name, i in names.items()}
        self._output = self._interpreter.get_output_details()[0]["index"]


def _weights_writer(
    content: bytearray, simulator: Simulator, node: Node
) -> Callable[[NDArray[np.float32]], None]:
    """Find a stage's weights in its bytes, and return a function that overwrites them."""
    layer = simulator.model.get_layer(node.weights)
    values = constant_view(content, models.litert_layout(layer, simulator.weights[node.weights]))
    if values is not None:

        def write(new: NDArray[np.float32]) -> None:
            values[:] = models.litert_layout(layer, new).ravel()

        return write
    raise ValueError(
        f"Layer {node.weights}: the converter has changed its weights, so that new weights cannot "
        "be put into its stage. Use simulate(), which builds the model anew for each scheme."
    )
