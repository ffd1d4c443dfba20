"""The quantization lab without its widgets: a setting, what it comes to, its file (lesson 10).

A `Setting` holds where the controls stand. A `Lab` measures one on the test images and on a
drawing, and makes its file where LiteRT has one. It is about the course's model: its layers, and
the trained versions of it that ship with the course.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from quant_tutorial import metrics, models, qat, qat_export, qat_training, quiet, tflite
from quant_tutorial.affine import QuantParams, fake_quantize
from quant_tutorial.graph import Node, rebuild
from quant_tutorial.scheme import FLOAT, LayerScheme, QuantScheme, TensorScheme
from quant_tutorial.simulate import ModelParams, Simulator, rounded, run_time_values
from quant_tutorial.stages import StagedRun

import numpy as np
from numpy.typing import NDArray

quiet.load_tensorflow()
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

PTQ = "PTQ"  # the weights of the float baseline, rounded after training
TRAINED = tuple(name for name, r in qat_training.RECIPES.items() if r.ranges == "learned")
LAYERS = ("conv1", "conv2", "conv3", "logits")
WEIGHT_CALIBRATORS = ("min_max", "mse")  # the others need values that come in batches
LOW_PERCENT, HIGH_PERCENT = 25, 200  # of a range, as far as the sliders go
SAMPLE = 1000  # images of a first estimate

_SQNR_IMAGES = 250
_NOTHING = QuantScheme(FLOAT, FLOAT, FLOAT)


def _by_layer(name: str, value: Any, usual: int) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        return MappingProxyType(dict.fromkeys(LAYERS, value))
    if unknown := [layer for layer in value if layer not in LAYERS]:
        raise ValueError(
            f"{name}[{unknown[0]!r}] is for no layer of the model: it has {', '.join(LAYERS)}."
        )
    return MappingProxyType({layer: value.get(layer, usual) for layer in LAYERS})


@dataclass(frozen=True)
class Setting:
    """Where the lab's controls stand (lesson 10).

    Args:
        weights: Bits of the weights by layer, None for float; one number stands for all layers, and
            a layer that is not named has 8.
        activations: The same for the activation that each layer gives.
        image: Bits of the input.
        ranges: Ranges of the activations in percent of the calibrated or trained ones, by layer or
            for all; 100 where a layer is not named.
        source: "PTQ" for the float baseline's weights, or one of `TRAINED`.
        granularity: Of the weights, one of `scheme.GRANULARITIES`.
        weight_calibrator: "min_max" or "mse".
        calibrator: Of the activations, one of `scheme.CALIBRATORS`.
        trained_ranges: With trained weights: take the trained ranges for all that has the bits it
            was trained with.

    Raises:
        ValueError: for an unknown source or layer, bits outside 2 to 16 (weights 2 to 8), or a
            range that is not positive.
    """

    weights: Any = 8
    activations: Any = 8
    image: int | None = 8
    ranges: Any = 100
    source: str = PTQ
    granularity: str = "channel-wise"
    weight_calibrator: str = "min_max"
    calibrator: str = "min_max"
    trained_ranges: bool = True

    def __post_init__(self) -> None:
        """Give every layer its own entry, and check all fields."""
        if self.source not in (PTQ, *TRAINED):
            known = ", ".join((PTQ, *TRAINED))
            raise ValueError(f"source must be one of {known}, got {self.source!r}.")
        for name, usual in (("weights", 8), ("activations", 8), ("ranges", 100)):
            object.__setattr__(self, name, _by_layer(name, getattr(self, name), usual))
        for layer, percent in self.ranges.items():
            if not (isinstance(percent, Real) and percent > 0):
                raise ValueError(
                    f"ranges must be positive percentages, got {percent!r} for {layer}."
                )
        if self.weight_calibrator not in WEIGHT_CALIBRATORS:
            raise ValueError(
                f"weight_calibrator must be {' or '.join(WEIGHT_CALIBRATORS)}, got "
                f"{self.weight_calibrator!r}."
            )
        scheme(self)  # checks the rest
        if wide := [n for n, bits in self.weights.items() if bits is not None and bits > 8]:
            raise ValueError(
                f"weights must have at most 8 bits, got {self.weights[wide[0]]} for {wide[0]}: "
                "LiteRT has no wider integer weights."
            )

    @property
    def name(self) -> str:
        """A name for a file, another one for each setting: PTQ_w8_a8, QAT_W2A2_w2_a8_ranges50."""
        origin = self.source if self.source == PTQ else f"QAT_{self.source}"
        parts = [origin, f"w{_short(self.weights)}", f"a{_short(self.activations)}"]
        if any(bits != self.image for bits in self.activations.values()):
            parts.append(f"image{_short({'image': self.image})}")
        if any(percent != 100 for percent in self.ranges.values()):
            parts.append(f"ranges{_short(self.ranges)}")
        if self.granularity != "channel-wise":
            parts.append(self.granularity)
        if self.weight_calibrator != "min_max":
            parts.append(f"w-{self.weight_calibrator}")
        if self.calibrator != "min_max" and {*self.activations.values(), self.image} != {None}:
            parts.append(f"a-{self.calibrator}")
        if self.source != PTQ and not self.trained_ranges:
            parts.append("calibrated")
        return "_".join(parts)


def scheme(setting: Setting) -> QuantScheme:
    """Give the scheme that a setting stands for, before its ranges are scaled (lesson 10).

    Weights are symmetric. Activations are asymmetric, but symmetric at 16 bits, as LiteRT's are.

    Raises:
        ValueError: for bits, a granularity or a calibrator that `TensorScheme` does not take.
    """

    def weights(bits: int | None) -> TensorScheme:
        chosen = TensorScheme(bits, True, setting.granularity, setting.weight_calibrator)
        return FLOAT if bits is None else chosen

    def activations(bits: int | None) -> TensorScheme:
        chosen = TensorScheme(bits, symmetric=bits == 16, calibrator=setting.calibrator)
        return FLOAT if bits is None else chosen

    layers = {
        name: LayerScheme(weights(setting.weights[name]), activations(setting.activations[name]))
        for name in LAYERS
    }
    return QuantScheme(input=activations(setting.image), overrides=layers)


PRESETS: dict[str, Setting] = {
    "float": Setting(weights=None, activations=None, image=None),
    "8-bit deploy": Setting(),
    "4-bit weights": Setting(
        weights=4, activations=None, image=None, weight_calibrator="mse", calibrator="mse"
    ),
    "where PTQ breaks": Setting(
        weights=2, activations=2, weight_calibrator="mse", calibrator="mse"
    ),
    "rescued by QAT": Setting(
        weights=2, activations=2, source="W2A2", weight_calibrator="mse", calibrator="mse"
    ),
}


def model_params(
    simulator: Simulator, setting: Setting, trained: ModelParams | None = None
) -> ModelParams:
    """Choose the maps of a setting: calibrated or trained, the activations' ranges scaled.

    Scaling both ends of a range by one factor scales its step and leaves its zero point. Lesson 10.

    Args:
        simulator: The model.
        setting: What to choose.
        trained: The maps that the weights were trained with, if they were.
    """
    chosen = simulator.params(scheme(setting))
    weights, activations = dict(chosen.weights), dict(chosen.activations)
    if trained is not None and setting.trained_ranges:
        for found, kept in ((weights, trained.weights), (activations, trained.activations)):
            found |= {name: kept[name] for name in _alike(found, kept)}
    for node in simulator.nodes:
        percent, params = setting.ranges.get(node.layer, 100), activations[node.name]
        if params is not None and percent != 100:
            scaled = dataclasses.replace(params, scale=params.scale * percent / 100)
            activations[node.name] = scaled
    return ModelParams(weights, activations)


# --- The file ------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """What LiteRT has for a model with certain maps (lesson 10).

    `make` gives the bytes of the file, from images to calibrate with; it is None where LiteRT has
    no such file, and `reason` says why. Else `reason` says what the file is.
    """

    reason: str
    make: Callable[[NDArray[np.float32]], bytes] | None


def plan(simulator: Simulator, params: ModelParams) -> Plan:
    """Say whether there is a `.tflite` file that computes with these maps, and how to make it.

    The file computes what the simulation does: where a tool would choose other maps than these, it
    is not used. Lesson 10.
    """
    owners = {node.name: node.layer for node in simulator.nodes}
    widths = {name: p and p.bits for name, p in params.activations.items()}
    spared = [name for name, p in params.weights.items() if p is None]
    if all(bits is None for bits in widths.values()):
        return _with_float_activations(simulator, params, spared)
    for name, bits in widths.items():
        if bits not in (None, 8, 16):
            return Plan(
                f"{_said(owners[name], params.activations[name])}: LiteRT's kernels take integer "
                "activations of 8 bits, or of 16 beside 8-bit weights.",
                None,
            )
    if 16 in widths.values():
        return _sixteen(simulator, params)
    if spared or None in widths.values():
        return _with_float_layers(simulator, params, spared, owners)
    for per_channel, granularity in ((True, "channel-wise"), (False, "layer-wise")):
        if params == _converters_choice(simulator, 8, granularity):
            options = {"mode": "int8", "per_channel": per_channel}
            return Plan(
                f"full-integer int8 with {granularity} weights, made by the TFLite converter.",
                partial(_converted, simulator, options),
            )
    narrow = any(p.bits < 8 for p in params.weights.values())
    room = " Its weights take 8 bits each in the file." if narrow else ""
    return Plan(
        f"full-integer int8, with these ranges written into the model.{room}",
        lambda _: qat_export.int8_file(pinned(simulator, params)),
    )


def pinned(simulator: Simulator, params: ModelParams) -> keras.Model:
    """Give the model as one of `qat.quantize_aware` whose maps are these and do not move.

    `qat_export` makes files of it. What stays in float in `params` gets 8 bits. Lesson 10.
    """
    images = np.zeros((1, *simulator.model.input_shape[1:]), np.float32)  # their ranges go unused
    # A copy: the stages of a `StagedRun` use the layers a second time.
    copy = rebuild(simulator.model, lambda _, x: x)
    model = qat.quantize_aware(copy, QuantScheme(), images, ranges="fixed")
    ends = {f"{node.end}_quant": params.activations[node.name] for node in simulator.nodes}
    for layer in model.layers:
        if isinstance(layer, qat.QuantizedLayer):
            layer.quantizer.start = params.weights[layer.name] or layer.quantizer.start
        elif isinstance(layer, qat.QuantizeActivation):
            layer.start = ends[layer.name] or layer.start
    return model


def _with_float_activations(simulator: Simulator, params: ModelParams, spared: list[str]) -> Plan:
    if len(spared) == len(params.weights):
        return Plan(
            "float32: nothing is rounded.", lambda _: tflite.convert(simulator.model, "float32")
        )
    if spared:
        return Plan(
            f"The weights of {spared[0]} are floats beside integer ones. A LiteRT file may mix "
            "them, but litert-quantizer's recipes treat all layers alike: round the weights of all "
            "layers, or of none.",
            None,
        )
    widest = max(p.bits for p in params.weights.values())
    bits = next(bits for bits in (2, 4, 8) if bits >= widest)
    recipe = f"weight_only_wi{bits}_afp32"
    return Plan(
        f"weights only: {bits} bits each in the file, unpacked to floats when it runs.",
        lambda _: qat_export.low_bit_file(pinned(simulator, params), recipe),
    )


def _sixteen(simulator: Simulator, params: ModelParams) -> Plan:
    if any(p is None or p.bits != 16 for p in params.activations.values()):
        return Plan(
            "Only some activations have 16 bits: LiteRT's 16x8 kernels take 16 bits for all of "
            "them and for the input.",
            None,
        )
    for name, chosen in params.weights.items():
        if chosen is None or chosen.bits != 8:
            bits = "are floats" if chosen is None else f"have {chosen.bits} bits"
            return Plan(
                f"The weights of {name} {bits}: beside 16-bit activations LiteRT takes 8-bit "
                "weights.",
                None,
            )
    if params != _converters_choice(simulator, 16, "channel-wise"):
        return Plan(
            "16x8 files come from the TFLite converter alone, which chooses the ranges itself: "
            "minimum and maximum, at 100 %, and a scale for each channel of the weights.",
            None,
        )
    return Plan(
        "16x8: 16-bit activations and 8-bit weights, made by the TFLite converter.",
        partial(_converted, simulator, {"mode": "int16x8"}),
    )


def _with_float_layers(
    simulator: Simulator, params: ModelParams, spared: list[str], owners: Mapping[str, str]
) -> Plan:
    """Plan a file whose ops are each either in float or in integers."""
    wanted = _converters_choice(simulator, 8, "channel-wise", spared)
    readers = {s: node.layer for node in simulator.nodes for s in node.sources}
    for name, found in params.activations.items():
        if found is None and wanted.activations[name] is not None:
            layer = owners[name]
            integer = layer if layer in params.weights and layer not in spared else readers[name]
            return Plan(
                f"{_said(layer, None)}, but {integer} has integer weights: LiteRT's integer "
                "kernels take integers in and give integers out.",
                None,
            )
        if found is not None and wanted.activations[name] is None:
            return Plan(
                f"{_said(owners[name], found)}, but no layer that gives or reads it has integer "
                "weights: LiteRT's float kernels round nothing.",
                None,
            )
    if params != wanted:
        return Plan(
            "Files with some layers in float come from the TFLite converter alone, which chooses "
            "the ranges itself: 8 bits for the rest, minimum and maximum, at 100 %, and a scale "
            "for each channel of the weights.",
            None,
        )
    return Plan(
        f"int8 with {', '.join(spared)} in float, made by the TFLite converter.",
        partial(_converted, simulator, {"mode": "int8_fallback", "float_layers": spared}),
    )


def _converted(
    simulator: Simulator, options: Mapping[str, Any], images: NDArray[np.float32]
) -> bytes:
    return tflite.convert(simulator.model, calibration=images, **options)


def _converters_choice(
    simulator: Simulator, bits: int, granularity: str, spared: list[str] | None = None
) -> ModelParams:
    """Give the maps that the TFLite converter chooses, with some layers left in float."""
    spared = spared or []
    activations = TensorScheme(bits, symmetric=bits == 16)
    chosen = simulator.params(
        QuantScheme(TensorScheme(8, True, granularity), activations, activations)
    )
    integer: set[str] = set()  # what an integer op reads or gives
    for node in simulator.nodes:
        if node.weights and node.weights not in spared:
            integer |= {node.name, *node.sources}
    return ModelParams(
        {name: None if name in spared else p for name, p in chosen.weights.items()},
        {name: p if name in integer else None for name, p in chosen.activations.items()},
    )


# --- The measurements ----------------------------------------------------------------------------


class Reading(NamedTuple):
    """What was measured of a setting (lesson 10)."""

    accuracy: float  # 0 to 1
    answers: NDArray[np.int64]  # predicted classes, (images,)
    weight_bytes: int  # kernels at their bit widths, and the biases
    sqnr: dict[str, float]  # of each activation in dB, by its layer, against the same in float


class Exported(NamedTuple):
    """A file that was written, and what LiteRT makes of it (lesson 10)."""

    path: Path
    content: bytes
    accuracy: float  # of the file in LiteRT, 0 to 1
    agreement: float  # share of images that the simulation answers alike, 0 to 1


class Lab:
    """Measures settings on test images and on drawings, and makes their files (lesson 10).

    The images are taken in a random order, the same each time, so that the first thousand are a
    fair sample. Of the trained models one is kept at a time: each needs 16 kB an image.

    Attributes:
        images, labels: The test images in that order.
        float_answers: What the float baseline answers, (images,).
        float_accuracy: Its accuracy, 0 to 1.
        float_bytes: Its weights in bytes.

    Args:
        model: The float baseline.
        calibration: Images as the model gets them, shape (n, 28, 28, 1), to measure ranges on.
        images: Test images, of the same form.
        labels: Their true digits, shape (n,).
    """

    def __init__(
        self,
        model: keras.Model,
        calibration: NDArray[np.float32],
        images: NDArray[np.float32],
        labels: NDArray[np.integer],
    ) -> None:
        order = np.random.default_rng(0).permutation(len(images))
        self.images, self.labels = images[order], labels[order]
        self._calibration = calibration
        self._baseline = _Bench(Simulator(model, calibration), self.images)
        self._float = _Single(self._baseline.simulator)
        self._trained: tuple[str, _Bench] | None = None
        nothing = self._baseline.simulator.params(_NOTHING)
        outputs = self._baseline.run.outputs(nothing)
        self.float_answers = outputs.argmax(axis=1)
        self.float_accuracy = metrics.accuracy(outputs, self.labels)
        self.float_bytes = self._baseline.simulator.weight_bytes(nothing)

    def is_ready(self, source: str) -> bool:
        """Tell whether the weights are at hand; else the next use takes a few seconds."""
        return source == PTQ or (self._trained is not None and self._trained[0] == source)

    def measure(self, setting: Setting, images: int | None = None) -> Reading:
        """Measure a setting on the first so many test images, or on all."""
        bench = self._bench(setting.source)
        params = bench.params(setting)
        outputs = bench.run.outputs(params, images)
        return Reading(
            metrics.accuracy(outputs, self.labels[: len(outputs)]),
            outputs.argmax(axis=1),
            bench.simulator.weight_bytes(params),
            bench.sqnr(params, len(outputs)),
        )

    def logits(
        self, setting: Setting, image: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give what the float baseline and the setting's model answer to an image (28, 28, 1)."""
        bench = self._bench(setting.source)
        before = self._float.logits(image, self._baseline.simulator.params(_NOTHING))
        return before, bench.single.logits(image, bench.params(setting))

    def params(self, setting: Setting) -> ModelParams:
        """Give the maps of a setting."""
        return self._bench(setting.source).params(setting)

    def ranges(self, setting: Setting) -> dict[str, QuantParams | None]:
        """Give the maps of the input and of each layer's activation."""
        nodes, params = self._bench(setting.source).simulator.nodes, self.params(setting)
        return {node.layer: params.activations[node.name] for node in nodes}

    def as_trained(self, setting: Setting) -> tuple[int, int]:
        """Count the tensors whose ranges are as trained, and all that are quantized."""
        trained, params = self._bench(setting.source).trained, self.params(setting)
        quantized = [
            (kind, name)
            for kind in ("weights", "activations")
            for name, chosen in getattr(params, kind).items()
            if chosen is not None
        ]
        if trained is None or not setting.trained_ranges:
            return 0, len(quantized)
        same = [getattr(params, kind)[n] == getattr(trained, kind)[n] for kind, n in quantized]
        return sum(same), len(quantized)

    def plan(self, setting: Setting) -> Plan:
        """Say what LiteRT has for a setting; see `plan`."""
        return plan(self._bench(setting.source).simulator, self.params(setting))

    def export(self, setting: Setting, folder: str | Path = "saved") -> Exported:
        """Write the file of a setting into a folder, and measure it with LiteRT on all images.

        Raises:
            ValueError: with the plan's reason, where LiteRT has no such file.
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
        if self._trained is None or self._trained[0] != source:
            if self._trained is not None:
                self._trained[1].run.close()
                self._trained = None  # its memory goes before the next one's comes
            model = qat_training.load_trained(source)
            simulator = Simulator(qat.float_model(model), self._calibration)
            bench = _Bench(simulator, self.images, qat.trained_params(model))
            self._trained = source, bench
        return self._trained[1]


class _Bench:
    """One model's float weights on the test images, to be rounded in any way."""

    def __init__(
        self,
        simulator: Simulator,
        images: NDArray[np.float32],
        trained: ModelParams | None = None,
    ) -> None:
        self.simulator, self.trained = simulator, trained
        self.run = StagedRun(simulator, images)
        self.single = _Single(simulator)
        count = min(_SQNR_IMAGES, len(images))
        self.run.outputs(simulator.params(_NOTHING), count)
        # Copies: the run writes the next setting's values in the same place.
        self._float = {n.name: self.run.values(n.name)[:count].copy() for n in simulator.nodes}

    def params(self, setting: Setting) -> ModelParams:
        """Choose the maps of a setting."""
        return model_params(self.simulator, setting, self.trained)

    def sqnr(self, params: ModelParams, images: int) -> dict[str, float]:
        """Compare what the layers read with the float values.

        The run has just computed so many images with the maps; later rows are of an earlier call.
        """
        found = {}
        for node in self.simulator.nodes:
            reference, chosen = self._float[node.name][:images], params.activations[node.name]
            values = self.run.values(node.name)[: len(reference)]
            values = values if chosen is None else fake_quantize(values, chosen)
            found[node.layer] = metrics.sqnr_db(reference, values)
        return found


class _Single:
    """The simulated model on one image, with ever other maps: they are variables of a Keras model.

    `with_params` would build a model for each move of a slider, which takes longer than the rest of
    the move.
    """

    def __init__(self, simulator: Simulator) -> None:
        self._simulator, self._params = simulator, None
        self._model = rebuild(simulator.model, lambda node, x: _Rounding(node)(x))
        # Traced here: called untraced, it makes TensorFlow warn from the fifth model on.
        compute = tf.function(lambda image: self._model(image, training=False))
        image = tf.TensorSpec((1, *simulator.model.input_shape[1:]), tf.float32)
        self._compute = compute.get_concrete_function(image)

    def logits(self, image: NDArray[np.float32], params: ModelParams) -> NDArray[np.float32]:
        """Give the outputs for an image of the model's input shape, as shape (classes,)."""
        if params != self._params:
            names = self._simulator.kernels
            models.set_kernels(
                self._model, {name: self._simulator.kernel(name, params) for name in names}
            )
            for layer in self._model.layers:
                if isinstance(layer, _Rounding):
                    layer.set(params.activations[layer.node.name])
            self._params = params
        return self._compute(tf.constant(image[np.newaxis]))[0].numpy()


class _Rounding(keras.layers.Layer):
    """Rounds the values of a node with a map that may be set anew."""

    def __init__(self, node: Node) -> None:
        super().__init__(name=f"{node.end}_rounding")
        self.node = node
        self._averages = node.kind == "same"

    def build(self, *_: Any) -> None:
        count = len(run_time_values(None, self._averages))
        self._values = self.add_weight((count,), "zeros", trainable=False)
        self.set(None)
        self.built = True

    def set(self, params: Any) -> None:
        self._values.assign(run_time_values(params, self._averages))

    def call(self, x: Any) -> Any:
        return rounded(x, *keras.ops.unstack(self._values))


def _alike(found: Mapping[str, Any], trained: Mapping[str, Any]) -> list[str]:
    """Name the quantized tensors that have the bits they were trained with."""
    return [n for n, p in found.items() if p and trained[n] and p.bits == trained[n].bits]


def _short(bits: Mapping[str, int | None]) -> str:
    values = ["float" if value is None else str(value) for value in bits.values()]
    return values[0] if len(set(values)) == 1 else "-".join(values)


def _said(layer: str, params: QuantParams | None) -> str:
    """Say what an activation is: "The activations of conv1 have 4 bits"."""
    if layer == "image":
        return "The input is in float" if params is None else f"The input has {params.bits} bits"
    bits = "are floats" if params is None else f"have {params.bits} bits"
    return f"The activations of {layer} {bits}"
