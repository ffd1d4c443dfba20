"""Measure settings of the lab on test images and drawings, and write their files (lesson 10)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from quant_tutorial import metrics, qat, rounding, tflite
from quant_tutorial.affine import QuantParams, fake_quantize
from quant_tutorial.frameworks import keras
from quant_tutorial.lab.files import Plan, plan
from quant_tutorial.lab.setting import PTQ, ROUNDED, Setting, model_params
from quant_tutorial.scheme import IN_FLOAT
from quant_tutorial.simulate import ModelParams, Simulator, StagedRun

import numpy as np
from numpy.typing import NDArray

_SQNR_IMAGES = 250


class Reading(NamedTuple):
    """The measurements of a setting (lesson 10)."""

    accuracy: float  # 0 to 1
    answers: NDArray[np.int64]  # predicted classes, (images,)
    weight_bytes: int  # weights at their bit widths, and biases
    sqnr: dict[str, float]  # of each activation against its float values, in dB, by layer


class Exported(NamedTuple):
    """A file that was written, and its results in LiteRT (lesson 10)."""

    path: Path
    content: bytes
    accuracy: float  # of the file in LiteRT, 0 to 1
    agreement: float  # share of images with the same class as in the simulation, 0 to 1


class Lab:
    """Measures settings on test images and on drawings, and makes their files (lesson 10).

    The images are taken in a random order, the same each time, so that the first thousand are a
    fair sample. Every model is loaded once. Besides the float baseline, the values of only one are
    kept in memory at a time, because they need 16 kB an image.

    Attributes:
        images, labels: The test images in that order.
        float_answers: The classes that the float baseline predicts, shape (images,).
        float_accuracy: Its accuracy, 0 to 1.
        float_bytes: The size of its weights and biases in bytes.

    Args:
        model: The float baseline.
        calibration: Images as the model takes them, shape (n, 28, 28, 1), to measure ranges on.
        images: Test images in the same form.
        labels: The true digits of the test images, shape (n,).
    """

    def __init__(
        self,
        model: keras.Model,
        calibration: NDArray[np.float32],
        images: NDArray[np.float32],
        labels: NDArray[np.integer],
    ) -> None:
        self._calibration, self._given = calibration, images
        self._baseline = _Bench(Simulator(model, calibration), None, images)
        self._float = StagedRun(self._baseline.simulator, images[:1], threads=1)
        self._other: tuple[str, _Bench] | None = None
        self._loaded: dict[str, tuple[Simulator, ModelParams]] = {}
        order = self._baseline.run.sample(len(images))
        self.images, self.labels = images[order], labels[order]
        self._in_float = self._baseline.simulator.params(IN_FLOAT)
        outputs = self._baseline.outputs(self._in_float)
        self.float_answers = outputs.argmax(axis=1)
        self.float_accuracy = metrics.accuracy(outputs, self.labels)
        self.float_bytes = self._baseline.simulator.weight_bytes(self._in_float)

    @property
    def simulator(self) -> Simulator:
        """The float baseline, calibrated."""
        return self._baseline.simulator

    def is_ready(self, source: str) -> bool:
        """Return whether the weights are loaded; if not, the next use takes a few seconds."""
        return source == PTQ or (self._other is not None and self._other[0] == source)

    def measure(self, setting: Setting, images: int | None = None) -> Reading:
        """Measure a setting on the first `images` test images, or on all of them.

        Raises:
            ValueError: for a number of images outside 1 to all, or a damaged file of a model.
            FileNotFoundError: when the file of the trained or rounded model is missing.
        """
        bench = self._bench(setting.source)
        params = bench.params(setting)
        outputs = bench.outputs(params, images)
        return Reading(
            metrics.accuracy(outputs, self.labels[: len(outputs)]),
            outputs.argmax(axis=1),
            bench.simulator.weight_bytes(params),
            bench.sqnr(params),
        )

    def outputs(self, setting: Setting, images: int | None = None) -> NDArray[np.float32]:
        """Return the logits of a setting's model, shape (images, 10), for images as in `measure`.

        Raises:
            ValueError, FileNotFoundError: as for `measure`.
        """
        bench = self._bench(setting.source)
        return bench.outputs(bench.params(setting), images)

    def logits(
        self, setting: Setting, image: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the logits of the float baseline and of the setting's model for one image.

        Args:
            setting: The setting of the second model.
            image: The image as the model takes it, shape (28, 28, 1).
        """
        bench = self._bench(setting.source)
        before = _logits(self._float, image, self._in_float)
        return before, _logits(bench.single, image, bench.params(setting))

    def params(self, setting: Setting) -> ModelParams:
        """Return the quantization parameters of a setting."""
        return self._bench(setting.source).params(setting)

    def ranges(self, setting: Setting) -> dict[str, QuantParams | None]:
        """Return the parameters of the input and of each layer's activation, by layer."""
        nodes, params = self._bench(setting.source).simulator.nodes, self.params(setting)
        return {node.layer: params.activations[node.name] for node in nodes}

    def unchanged(self, setting: Setting) -> tuple[int, int]:
        """Count the tensors with their own parameters, and all quantized tensors.

        These are the parameters with which the weights were trained, or rounded better.
        """
        own, params = self._bench(setting.source).own, self.params(setting)
        quantized = [
            (kind, name)
            for kind in ("weights", "activations")
            for name, chosen in getattr(params, kind).items()
            if chosen is not None
        ]
        if own is None or not setting.own_ranges:
            return 0, len(quantized)
        same = [getattr(params, kind)[n] == getattr(own, kind)[n] for kind, n in quantized]
        return sum(same), len(quantized)

    def rounded_again(self, setting: Setting) -> list[str]:
        """List the layers whose weights were trained or rounded better for other parameters.

        Their weights are rounded to the nearest level, from the values in the source's model.
        """
        own, chosen = self._bench(setting.source).own, self.params(setting).weights
        if own is None:
            return []
        return [name for name, p in chosen.items() if p is not None and p != own.weights[name]]

    def plan(self, setting: Setting) -> Plan:
        """Plan the `.tflite` file of a setting; see `files.plan`."""
        return plan(self._bench(setting.source).simulator, self.params(setting))

    def export(self, setting: Setting, folder: str | Path = "saved") -> Exported:
        """Write the file of a setting into a folder, and measure it with LiteRT on all images.

        Raises:
            ValueError: if LiteRT has no such file; the message has the reason from the plan.
            OSError: when the file cannot be written.
        """
        plan = self.plan(setting)
        if plan.make is None:
            raise ValueError(f"LiteRT has no such file. {plan.reason}")
        content = plan.make(self._calibration)
        found = tflite.evaluate(content, self.images, self.labels)
        path = tflite.save(content, Path(folder) / f"lab_{setting.name}.tflite")
        agreement = metrics.agreement(found.predictions, self.measure(setting).answers)
        return Exported(path, content, found.accuracy, agreement)

    def _bench(self, source: str) -> _Bench:
        if source == PTQ:
            return self._baseline
        if self._other is None or self._other[0] != source:
            if self._other is not None:
                self._other[1].close()
                self._other = None  # frees its memory before the next model is loaded
            if source not in self._loaded:
                self._loaded[source] = self._load(source)
            floats = self._baseline.floats if source in ROUNDED else None
            self._other = source, _Bench(*self._loaded[source], self._given, floats)
        return self._other[1]

    def _load(self, source: str) -> tuple[Simulator, ModelParams]:
        """Load a trained or rounded model, calibrate it, and return it with its own parameters."""
        if source in ROUNDED:
            rounded = rounding.load(source)
            return Simulator(rounded.model, self._calibration), rounded.params
        model = qat.load_trained(source)
        floats, params = qat.floats_and_params(model)
        return Simulator(floats, self._calibration), params


class _Bench:
    """One model on the test images, to measure it with any quantization parameters.

    Args:
        simulator: The model.
        own: The parameters with which its weights were trained, or rounded better.
        images: The test images.
        floats: The values of each node on the sample in the float model that this one stands for,
            by name. By default the model itself is that model.
    """

    def __init__(
        self,
        simulator: Simulator,
        own: ModelParams | None,
        images: NDArray[np.float32],
        floats: dict[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.simulator, self.own = simulator, own
        self.run = StagedRun(simulator, images)
        self.single = StagedRun(simulator, images[:1], threads=1)
        self._sample = min(_SQNR_IMAGES, len(images))
        if floats is None:
            self.run.outputs(simulator.params(IN_FLOAT), self._sample)
            floats = {n.name: self.run.values(n.name, self._sample) for n in simulator.nodes}
        self.floats = floats

    def params(self, setting: Setting) -> ModelParams:
        """Choose the quantization parameters of a setting."""
        return model_params(self.simulator, setting, self.own)

    def outputs(self, params: ModelParams, images: int | None = None) -> NDArray[np.float32]:
        """Return the outputs for the first `images` of the lab's images, or for all of them."""
        return self.run.outputs(params, self.run.count if images is None else images)

    def sqnr(self, params: ModelParams) -> dict[str, float]:
        """Compute each activation's SQNR against its float values, in dB, on a sample of images."""
        with self.run.lock:
            self.run.outputs(params, self._sample)
            raw = {n.name: self.run.values(n.name, self._sample) for n in self.simulator.nodes}
        found = {}
        for node in self.simulator.nodes:
            values, chosen = raw[node.name], params.activations[node.name]
            values = values if chosen is None else fake_quantize(values, chosen)
            found[node.layer] = metrics.sqnr_db(self.floats[node.name], values)
        return found

    def close(self) -> None:
        """Stop the threads."""
        self.run.close()
        self.single.close()


def _logits(run: StagedRun, image: NDArray[np.float32], params: ModelParams) -> NDArray[np.float32]:
    """Return the outputs for one image of the model's input shape, shape (classes,)."""
    with run.lock:
        run.set_images(image[np.newaxis])
        return run.outputs(params)[0]
