"""Five networks of `keras.applications`, simulated and as int8 files.

`python tests/applications.py` measures them, all or those that are named, and writes the figures
beside this file. The networks have random weights, and batch norm with the statistics of a few
batches. The pictures are random smooth colours. Differences are counted in steps of the output,
the float logits before any softmax.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FIGURES = Path(__file__).with_name("networks") / "applications.json"
SIZE, CALIBRATION, IMAGES, CLASSES = 64, 40, 100, 10
SETTINGS: dict[str, dict[str, Any]] = {
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Small": {},
    "EfficientNetV2B0": {},
    "ResNet50V2": {},
    "DenseNet121": {},
}


def network(name: str) -> Any:
    """Return a network with batch norm whose statistics are those of a few batches."""
    import keras

    keras.utils.set_random_seed(18)
    options = {"weights": None, "classes": CLASSES, "classifier_activation": None}
    shape = (SIZE, SIZE, 3)
    model = getattr(keras.applications, name)(input_shape=shape, **options, **SETTINGS[name])
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    for seed in range(12):
        model(pictures(16, seed, name), training=True)
    return model


def pictures(count: int, seed: int, name: str) -> np.ndarray:
    """Draw smooth random pictures in the range that a network takes."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 1, (count, 8, 8, 3))
    fine = np.repeat(np.repeat(coarse, SIZE // 8, axis=1), SIZE // 8, axis=2)
    fine = np.clip(fine + random.normal(0, 0.1, fine.shape), 0, 1)
    scaled_inside = name in ("MobileNetV3Small", "EfficientNetV2B0")
    return (fine * 255 if scaled_inside else fine * 2 - 1).astype(np.float32)


def measured(name: str) -> dict[str, float]:
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


if __name__ == "__main__":
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for wanted in sys.argv[1:] or SETTINGS:
        figures[wanted] = measured(wanted)
        print(wanted, figures[wanted], flush=True)
        FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
