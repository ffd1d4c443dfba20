"""Five networks of `keras.applications`: simulated, trained, and computed with integers.

`python tests/applications.py` measures them, all or those that are named, and writes the figures
beside this file. Of the parts `simulated` and `trained` it measures both, or the one that is
named; the other figures stay as they are. The networks have random weights, and batch norm with
the statistics of a few batches. The pictures are random smooth colours. Differences are counted in
steps of the output, the float logits before any softmax.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FIGURES = Path(__file__).with_name("networks") / "applications.json"
SIZE, CALIBRATION, IMAGES, CLASSES = 64, 40, 100, 10
# Training and the integer engine take smaller pictures, which they compute in less time.
SMALL, BATCH, COMPUTED, RATE = 32, 32, 4, 1e-3
SETTINGS: dict[str, dict[str, Any]] = {
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Small": {},
    "EfficientNetV2B0": {},
    "ResNet50V2": {},
    "DenseNet121": {},
}


def network(name: str, size: int = SIZE) -> Any:
    """Return a network with batch norm whose statistics are those of a few batches."""
    import keras

    keras.utils.set_random_seed(18)
    options = {"weights": None, "classes": CLASSES, "classifier_activation": None}
    shape = (size, size, 3)
    model = getattr(keras.applications, name)(input_shape=shape, **options, **SETTINGS[name])
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    for seed in range(12):
        model(pictures(16, seed, name, size), training=True)
    return model


def pictures(count: int, seed: int, name: str, size: int = SIZE) -> np.ndarray:
    """Draw smooth random pictures in the range that a network takes."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 1, (count, 8, 8, 3))
    fine = np.repeat(np.repeat(coarse, size // 8, axis=1), size // 8, axis=2)
    fine = np.clip(fine + random.normal(0, 0.1, fine.shape), 0, 1)
    scaled_inside = name in ("MobileNetV3Small", "EfficientNetV2B0")
    return (fine * 255 if scaled_inside else fine * 2 - 1).astype(np.float32)


def simulated(name: str) -> dict[str, float]:
    """Compare a network's simulation with its file, and its file's kernels with each other."""
    from quant_tutorial import flatbuffer, models, tflite
    from quant_tutorial.affine import dequantize, quantize
    from quant_tutorial.scheme import QuantScheme
    from quant_tutorial.simulate import Simulator

    model = network(name)
    calibration, images = pictures(CALIBRATION, 100, name), pictures(IMAGES, 101, name)
    simulator = Simulator(model, calibration)
    params = simulator.params(QuantScheme())
    floats = models.predict(model, images)
    prepared = models.predict(simulator.model, images)
    file = tflite.convert(model, "int8", calibration=calibration, input_range=None)
    graph = flatbuffer.graph(file)
    integers = quantize(images, graph.inputs[0].params).astype(np.int8)

    def of_file(kernels: str) -> np.ndarray:
        return dequantize(tflite.run(file, integers, kernels), graph.outputs[0].params)

    default, reference = of_file("default"), of_file("reference")
    ours = models.predict(simulator.simulated(params), images)
    scale = float(graph.outputs[0].scales[0])
    theirs = {
        (int(tensor.zero_points[0]), float(tensor.scales[0]))
        for tensor in graph.tensors
        if tensor.kind in flatbuffer.FLOWING and len(tensor.scales) == 1
    }
    found = [
        any(z == p.zero_point and abs(s / p.scale - 1) < 1e-3 for z, s in theirs)
        for p in params.activations.values()
    ]

    def steps(some: np.ndarray, others: np.ndarray, of: Callable[[np.ndarray], Any]) -> float:
        return round(float(of(np.abs(some - others))) / scale, 2)

    def same(some: np.ndarray, others: np.ndarray) -> int:
        return int(np.sum(some.argmax(axis=1) == others.argmax(axis=1)))

    return {
        "layers": len(model.layers),
        "nodes": len(simulator.nodes),
        "nodes_with_the_parameters_of_the_file": sum(found),
        "rewriting": float(np.abs(prepared - floats).max() / np.abs(floats).max()),
        "simulation_to_default_mean": steps(ours, default, np.mean),
        "simulation_to_default_largest": steps(ours, default, np.max),
        "reference_to_default_mean": steps(reference, default, np.mean),
        "reference_to_default_largest": steps(reference, default, np.max),
        "float_to_default_mean": steps(floats, default, np.mean),
        "images": IMAGES,
        "same_class_simulation_default": same(ours, default),
        "same_class_reference_default": same(reference, default),
        "same_class_float_default": same(floats, default),
    }


def trained(name: str) -> dict[str, float]:
    """Train a quantization-aware copy for a step, and compare the file made from it.

    The model is compared with the file's default kernels, and so are the file's reference kernels,
    because outputs as sensitive as these differ between any two ways to round. `integer` is
    compared with the reference kernels, tensor by tensor; half of its images are pictures, and the
    others are random integers, which reach further.
    """
    from quant_tutorial import flatbuffer, integer, models, qat, tflite
    from quant_tutorial.affine import dequantize, quantize
    from quant_tutorial.scheme import QuantScheme

    import keras

    model = network(name, SMALL)
    calibration = pictures(CALIBRATION, 100, name, SMALL)
    images = pictures(IMAGES, 101, name, SMALL)
    trainable = qat.quantize_aware(model, QuantScheme(), calibration)
    before = models.predict(trainable, images)
    start = [variable.numpy().copy() for variable in trainable.trainable_variables]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainable.compile(keras.optimizers.SGD(RATE), loss, run_eagerly=True)
    labels = np.random.default_rng(102).integers(0, CLASSES, BATCH)
    trainable.train_on_batch(calibration[:BATCH], labels)
    moved = [
        not np.array_equal(old, new.numpy())
        for old, new in zip(start, trainable.trainable_variables, strict=True)
    ]
    file = qat.int8_file(trainable)
    graph = flatbuffer.graph(file)
    integers = quantize(images, graph.inputs[0].params).astype(np.int8)
    default, reference = (
        dequantize(tflite.run(file, integers, which), graph.outputs[0].params)
        for which in ("default", "reference")
    )
    ours = models.predict(qat.frozen(trainable), images)
    scale = float(graph.outputs[0].scales[0])
    random = np.random.default_rng(103)
    noise = random.integers(-128, 128, integers[:COMPUTED].shape, np.int8)
    given = np.concatenate([integers[:COMPUTED], noise])
    computed = integer.run_all(integer.load(file), given)
    kernels = tflite.run_all(file, given, "reference")

    def steps(some: np.ndarray, others: np.ndarray, of: Callable[[np.ndarray], Any]) -> float:
        return round(float(of(np.abs(some - others))) / scale, 2)

    return {
        "trained_size": SMALL,
        "trained_variables": len(moved),
        "trained_variables_moved": sum(moved),
        "trained_output_levels": len(np.unique(default)),
        "trained_to_before_mean": steps(ours, before, np.mean),
        "trained_to_default_mean": steps(ours, default, np.mean),
        "trained_to_default_largest": steps(ours, default, np.max),
        "trained_to_reference_mean": steps(ours, reference, np.mean),
        "trained_to_reference_largest": steps(ours, reference, np.max),
        "trained_reference_to_default_mean": steps(reference, default, np.mean),
        "trained_reference_to_default_largest": steps(reference, default, np.max),
        "computed_images": len(given),
        "computed_tensors": len(computed),
        "computed_tensors_equal": sum(np.array_equal(computed[i], kernels[i]) for i in computed),
        "computed_values": sum(values.size for values in computed.values()),
        "computed_values_different": sum(int(np.sum(computed[i] != kernels[i])) for i in computed),
    }


PARTS = {"simulated": simulated, "trained": trained}

if __name__ == "__main__":
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    named = sys.argv[1:]
    for wanted in [name for name in named if name not in PARTS] or SETTINGS:
        for part in [name for name in named if name in PARTS] or PARTS:
            found = PARTS[part](wanted)
            print(wanted, found, flush=True)
            figures[wanted] = figures.get(wanted, {}) | found
            FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
