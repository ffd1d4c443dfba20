"""Five networks of `keras.applications`: simulated, trained, and computed with integers.

`python tests/applications.py` measures them, all or those that are named, and writes the figures
beside this file. It measures all `PARTS`, or those that are named; the other figures stay as they
are. Differences are counted in steps of the output, the float logits before any softmax.

In most parts the networks have random weights, and batch norm with the statistics of a few batches;
the pictures are random smooth colours. In the part `digits` the networks have learned MNIST.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FIGURES = Path(__file__).with_name("networks") / "applications.json"
SIZE, CALIBRATION, IMAGES, CLASSES, DRAWS = 64, 40, 100, 10, 5
# Training and the integer engine take smaller pictures, which they compute in less time.
SMALL, BATCH, COMPUTED, COMPARED, RATE = 32, 32, 4, 10, 1e-3
# Training on digits: images at a time, learning rate, images for the ranges, test images.
TOGETHER, LEARNING, CALIBRATED, TESTED = 128, 2e-3, 500, 2000
SETTINGS: dict[str, dict[str, Any]] = {
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Small": {},
    "EfficientNetV2B0": {},
    "ResNet50V2": {},
    "DenseNet121": {},
}
EPOCHS = dict.fromkeys(SETTINGS, 3) | {"MobileNetV2": 6}  # which learns more slowly
SCALED_INSIDE = ("MobileNetV3Small", "EfficientNetV2B0")  # these take pixels from 0 to 255


def network(name: str, size: int = SIZE) -> Any:
    """Return a network with batch norm whose statistics are those of a few batches."""
    import keras

    keras.utils.set_random_seed(18)
    model = plain(name, size)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    for seed in range(12):
        model(pictures(16, seed, name, size), training=True)
    return model


def plain(name: str, size: int) -> Any:
    """Return a network as Keras initializes it, with logits as its outputs."""
    import keras

    options = {"weights": None, "classes": CLASSES, "classifier_activation": None}
    shape = (size, size, 3)
    return getattr(keras.applications, name)(input_shape=shape, **options, **SETTINGS[name])


def pictures(count: int, seed: int, name: str, size: int = SIZE) -> np.ndarray:
    """Draw smooth random pictures in the range that a network takes."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 1, (count, 8, 8, 3))
    fine = np.repeat(np.repeat(coarse, size // 8, axis=1), size // 8, axis=2)
    fine = np.clip(fine + random.normal(0, 0.1, fine.shape), 0, 1)
    return (fine * 255 if name in SCALED_INSIDE else fine * 2 - 1).astype(np.float32)


def simulated(name: str) -> dict[str, float]:
    """Compare a network's simulation with its file, and its file's kernels with each other."""
    from quant_tutorial import flatbuffer, models, tflite
    from quant_tutorial.scheme import QuantScheme
    from quant_tutorial.simulate import Simulator

    model = network(name)
    calibration, images = pictures(CALIBRATION, 100, name), pictures(IMAGES, 101, name)
    simulator = Simulator(model, calibration)
    params = simulator.params(QuantScheme())
    floats = models.predict(model, images)
    prepared = models.predict(simulator.model, images)
    file = tflite.convert(model, "int8", calibration=calibration, input_range=None)
    default, reference, scale = of_kernels(file, images)
    ours = models.predict(simulator.simulated(params), images)
    graph = flatbuffer.graph(file)
    theirs = {
        (int(tensor.zero_points[0]), float(tensor.scales[0]))
        for tensor in graph.tensors
        if tensor.kind in flatbuffer.FLOWING and len(tensor.scales) == 1
    }
    found = [
        any(z == p.zero_point and abs(s / p.scale - 1) < 1e-3 for z, s in theirs)
        for p in params.activations.values()
    ]

    return {
        "layers": len(model.layers),
        "nodes": len(simulator.nodes),
        "nodes_with_the_parameters_of_the_file": sum(found),
        "rewriting": float(np.abs(prepared - floats).max() / np.abs(floats).max()),
        "simulation_to_default_mean": steps(ours, default, np.mean, scale),
        "simulation_to_default_largest": steps(ours, default, np.max, scale),
        "reference_to_default_mean": steps(reference, default, np.mean, scale),
        "reference_to_default_largest": steps(reference, default, np.max, scale),
        "float_to_default_mean": steps(floats, default, np.mean, scale),
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
    from quant_tutorial.affine import quantize
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
    default, reference, scale = of_kernels(file, images)
    ours = models.predict(qat.frozen(trainable), images)
    random = np.random.default_rng(103)
    some = quantize(images[:COMPUTED], flatbuffer.graph(file).inputs[0].params).astype(np.int8)
    given = np.concatenate([some, random.integers(-128, 128, some.shape, np.int8)])
    computed = integer.run_all(integer.load(file), given)
    kernels = tflite.run_all(file, given, "reference")

    return {
        "trained_size": SMALL,
        "trained_variables": len(moved),
        "trained_variables_moved": sum(moved),
        "trained_output_levels": len(np.unique(default)),
        "trained_to_before_mean": steps(ours, before, np.mean, scale),
        "trained_to_default_mean": steps(ours, default, np.mean, scale),
        "trained_to_default_largest": steps(ours, default, np.max, scale),
        "trained_to_reference_mean": steps(ours, reference, np.mean, scale),
        "trained_to_reference_largest": steps(ours, reference, np.max, scale),
        "trained_reference_to_default_mean": steps(reference, default, np.mean, scale),
        "trained_reference_to_default_largest": steps(reference, default, np.max, scale),
        "computed_images": len(given),
        "computed_tensors": len(computed),
        "computed_tensors_equal": sum(np.array_equal(computed[i], kernels[i]) for i in computed),
        "computed_values": sum(values.size for values in computed.values()),
        "computed_values_different": sum(int(np.sum(computed[i] != kernels[i])) for i in computed),
    }


def draws(name: str) -> dict[str, Any]:
    """Compare a network's simulation with its file again, on several draws of pictures.

    The largest difference is that of one output of one picture, and so depends on the draw.
    """
    from quant_tutorial import models, tflite
    from quant_tutorial.scheme import QuantScheme
    from quant_tutorial.simulate import simulate

    model, calibration = network(name), pictures(CALIBRATION, 100, name)
    rounded = simulate(model, QuantScheme(), calibration)
    file = tflite.convert(model, "int8", calibration=calibration, input_range=None)
    found: dict[str, Any] = {}
    for seed in range(101, 101 + DRAWS):
        images = pictures(IMAGES, seed, name)
        default, reference, scale = of_kernels(file, images)
        for kind, outputs in (
            ("simulation", models.predict(rounded, images)),
            ("reference", reference),
        ):
            for which, of in (("mean", np.mean), ("largest", np.max)):
                figures = found.setdefault(f"draws_{kind}_to_default_{which}", [])
                figures.append(steps(outputs, default, of, scale))
    return found


def digits(name: str) -> dict[str, float]:
    """Train a network on MNIST, and compare its simulation with its file on test images."""
    from quant_tutorial import mnist, models, tflite
    from quant_tutorial.scheme import QuantScheme
    from quant_tutorial.simulate import simulate

    data = mnist.load()
    model = learned(name)
    images, labels = as_pictures(data.x_test[:TESTED], name), data.y_test[:TESTED]
    calibration = as_pictures(data.x_train[-CALIBRATED:], name)
    file = tflite.convert(model, "int8", calibration=calibration, input_range=None)
    default, reference, scale = of_kernels(file, images)
    outputs = {
        "float": models.predict(model, images),
        "simulation": models.predict(simulate(model, QuantScheme(), calibration), images),
        "reference": reference,
    }
    found: dict[str, float] = {
        "digits_epochs": EPOCHS[name],
        "digits_images": TESTED,
        "digits_default_right": int(np.sum(default.argmax(axis=1) == labels)),
    }
    for kind, ours in outputs.items():
        found[f"digits_{kind}_right"] = int(np.sum(ours.argmax(axis=1) == labels))
        found[f"digits_{kind}_to_default_mean"] = steps(ours, default, np.mean, scale)
        found[f"digits_{kind}_to_default_largest"] = steps(ours, default, np.max, scale)
        found[f"digits_same_class_{kind}_default"] = same(ours, default)
    return found


def ops(name: str) -> dict[str, Any]:
    """Compare a network's simulation with its file op by op, on a few pictures."""
    import application_ops

    model, calibration = network(name), pictures(CALIBRATION, 100, name)
    return {"ops": application_ops.compared(model, calibration, pictures(COMPARED, 101, name))}


def learned(name: str) -> Any:
    """Return a network that has learned MNIST's digits for some epochs."""
    from quant_tutorial import mnist

    import keras

    keras.utils.set_random_seed(18)
    model = plain(name, SMALL)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # with some networks' 0.999 it would take thousands of steps
    data = mnist.load()
    images = as_pictures(data.x_train[:-CALIBRATED], name)
    total = EPOCHS[name] * -(-len(images) // TOGETHER)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING, total)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
    labels = data.y_train[:-CALIBRATED]
    model.fit(images, labels, batch_size=TOGETHER, epochs=EPOCHS[name], verbose=0)
    return model


def as_pictures(images: np.ndarray, name: str) -> np.ndarray:
    """Pad digits and repeat them as three colours, in the range that a network takes."""
    edge = (SMALL - images.shape[1]) // 2
    padded = np.pad(images, ((0, 0), (edge, edge), (edge, edge)))[..., np.newaxis]
    colours = np.repeat(padded, 3, axis=3).astype(np.float32)
    return colours if name in SCALED_INSIDE else colours / 127.5 - 1


def of_kernels(file: bytes, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return a file's outputs with the default and the reference kernels, and their scale."""
    from quant_tutorial import flatbuffer, tflite
    from quant_tutorial.affine import dequantize, quantize

    graph = flatbuffer.graph(file)
    integers = quantize(images, graph.inputs[0].params).astype(np.int8)
    default, reference = (
        dequantize(tflite.run(file, integers, kernels), graph.outputs[0].params)
        for kernels in ("default", "reference")
    )
    return default, reference, float(graph.outputs[0].scales[0])


def steps(
    some: np.ndarray, others: np.ndarray, of: Callable[[np.ndarray], Any], scale: float
) -> float:
    """Return the mean or the largest difference of outputs in steps of their scale."""
    return round(float(of(np.abs(some - others))) / scale, 2)


def same(some: np.ndarray, others: np.ndarray) -> int:
    """Count the images whose largest output is the same."""
    return int(np.sum(some.argmax(axis=1) == others.argmax(axis=1)))


PARTS = {
    "simulated": simulated,
    "draws": draws,
    "ops": ops,
    "trained": trained,
    "digits": digits,
}

if __name__ == "__main__":
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    named = sys.argv[1:]
    for wanted in [name for name in named if name not in PARTS] or SETTINGS:
        for part in [name for name in named if name in PARTS] or PARTS:
            found = PARTS[part](wanted)
            print(wanted, found, flush=True)
            figures[wanted] = figures.get(wanted, {}) | found
            FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
