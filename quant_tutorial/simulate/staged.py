"""Run a simulated model on the same images again and again, fast enough for a slider (lesson 05).

The model is cut at its nodes into stages (`stages`), which LiteRT runs. Weights are constants of a
stage, because LiteRT's fast kernels require that. New weights are written into the converted bytes
in place.

The values that a stage computes are kept for every image. After a change only the affected stages
run again, beginning with the stage that has the changed weights or reads the changed node. Where
all have to run, one file that joins them takes their place. It spares loading each of them with
its new weights, and copying the values of one to the next.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any

from quant_tutorial import models
from quant_tutorial.arguments import as_given, checked_choice, checked_whole
from quant_tutorial.flatbuffer import constant_view
from quant_tutorial.frameworks import keras
from quant_tutorial.simulate.fake_quantize import rounded, run_time_values
from quant_tutorial.simulate.graph import Node
from quant_tutorial.simulate.simulator import ModelParams, Simulator, bits_of
from quant_tutorial.simulate.stages import BATCH, input_name, value_names
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
        self._workers = [_Worker(simulator) for _ in range(threads)]
        # The weights of each layer as the files have them, with the parameters they are rounded to.
        self._weights: dict[str, NDArray[np.float32]] = {}
        self._weights_of: dict[str, Any] = {}
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
        self.set_images(as_given(given))

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
            self.images = as_given(given)
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
        self._round_weights(params)
        # Each thread takes the next batch when it is ready: fixed shares would wait for the thread
        # whose core has other work.
        self._left, self._current = iter(range(batches)), (rows, versions)
        self._tasks = [
            self._pool.submit(self._compute, worker, params, versions, self._left)
            for worker in self._workers
        ]

    def _round_weights(self, params: ModelParams) -> None:
        """Round the weights whose parameters have changed, once for all threads."""
        for name, chosen in params.weights.items():
            if name not in self._weights or self._weights_of[name] != chosen:
                rounded = self.simulator.rounded_weights(name, params)
                self._weights[name] = _in_file(self.simulator, name, rounded)
                self._weights_of[name] = chosen

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
        worker: _Worker,
        params: ModelParams,
        versions: dict[str, int],
        batches: Iterator[int],
    ) -> None:
        ready: set[_Stage] = set()  # those that have the parameters
        for batch in batches:
            rows = slice(batch * BATCH, (batch + 1) * BATCH)
            stale = [
                name for name, version in versions.items() if self._held[name][batch] != version
            ]
            for stage in worker.stages(stale):
                if stage not in ready:
                    stage.set(params, self._weights)
                    ready.add(stage)
                for name in stage.names:
                    self._held[name][batch] = 0  # if the stage fails, the batch holds no version
                stage.run(self._raw, rows)
                for name in stage.names:
                    self._held[name][batch] = versions[name]


class _Worker:
    """The stages of one thread."""

    def __init__(self, simulator: Simulator) -> None:
        rest = [node for node in simulator.nodes if node.sources]
        self._stages = {
            node.name: _Stage(simulator, simulator.stages[node.name], [node]) for node in rest
        }
        self._whole = None
        if len(rest) > 1 and simulator.joined_stages:
            self._whole = _Stage(simulator, simulator.joined_stages, rest)

    def stages(self, names: Sequence[str]) -> list[_Stage]:
        """List the stages that compute the values of some nodes."""
        if self._whole and len(names) == len(self._stages):
            return [self._whole]
        return [self._stages[name] for name in names]


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
    """A stage, or all of them joined, with its current parameters, for one thread.

    Its interpreter is made when it is needed.
    """

    def __init__(self, simulator: Simulator, content: bytes, nodes: Sequence[Node]) -> None:
        self.names = [node.name for node in nodes]
        self._simulator, self._nodes = simulator, nodes
        self._content = bytearray(content)
        self._weights = {
            node.weights: _constant(self._content, simulator, node, len(nodes) > 1)
            for node in nodes
            if node.weights
        }
        self._weights_of: dict[str, Any] = {}
        self._interpreter: Any = None

    def set(self, params: ModelParams, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Set those of the new parameters that concern this stage."""
        chosen = {name: params.weights[name] for name in self._weights}
        if self._interpreter is None or chosen != self._weights_of:
            for name, view in self._weights.items():
                view[:] = weights[name]
            self._load()
            self._weights_of = chosen  # last, should loading fail
        for node in self._nodes:
            if node.constant:
                layer = self._simulator.model.get_layer(node.constant)
                self._set(node, "constant", layer.rounded_constant(bits_of(params, node)))
            for index, source in enumerate(self._simulator.sources(node)):
                averages = source.kind == "same"
                values = run_time_values(params.activations[source.name], averages)
                for name, value in zip(value_names(source, index), values, strict=True):
                    self._set(node, name, value.reshape(1))

    def run(self, raw: dict[str, NDArray[np.float32]], rows: slice) -> None:
        """Compute some rows of the nodes' values from those of their sources."""
        for index, source in self._sources:
            self._interpreter.set_tensor(index, raw[source][rows])
        self._interpreter.invoke()
        for name, index in self._outputs:
            raw[name][rows] = self._interpreter.tensor(index)()

    def _set(self, node: Node, name: str, values: NDArray[np.float32]) -> None:
        self._interpreter.set_tensor(self._inputs[node.name, name], values)

    def _load(self) -> None:
        self._interpreter = make_interpreter(self._content, threads=1)
        self._inputs: dict[tuple[str, str], int] = {}
        for details in self._interpreter.get_input_details():
            node, name = input_name(details["name"])
            self._inputs[node or self.names[0], name] = details["index"]
        self._sources = [
            (self._inputs[node.name, f"x_{index}"], source)
            for node in self._nodes
            for index, source in enumerate(node.sources)
            if (node.name, f"x_{index}") in self._inputs
        ]
        outputs = self._interpreter.get_output_details()
        self._outputs = [
            (name, details["index"]) for name, details in zip(self.names, outputs, strict=True)
        ]


def _constant(
    content: bytearray, simulator: Simulator, node: Node, joined: bool
) -> NDArray[np.float32]:
    """Return the weights of a node's stage in the bytes of a file, to be overwritten."""
    values = _in_file(simulator, node.weights, simulator.weights[node.weights])
    found = constant_view(content, values, prefix=f"{node.name}/" if joined else "")
    if found is None:
        raise ValueError(
            f"Layer {node.weights}: the converter has changed its weights, so that new weights "
            "cannot be put into its stage. Use simulate(), which builds the model anew for each "
            "scheme."
        )
    return found


def _in_file(simulator: Simulator, layer: str, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weights of a layer as a `.tflite` file has them, flat."""
    return models.litert_layout(simulator.model.get_layer(layer), weights).ravel()
