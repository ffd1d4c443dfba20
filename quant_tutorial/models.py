"""The course's float model: its architecture, its trained weights, its training (lesson 01).

`python -m quant_tutorial.models` (or `make baseline`) trains it again from its seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant_tutorial import metrics, mnist, quiet, saving

import numpy as np
from numpy.typing import NDArray

quiet.load_tensorflow()
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

WEIGHTS = Path(__file__).parent / "data" / "baseline.weights.h5"
INT8 = Path(__file__).parent / "data" / "baseline_int8.tflite"

_COMMAND = "python -m quant_tutorial.models"
_EPOCHS, _BATCH, _SEED = 30, 128, 2026
# How far training images are moved at random: they are to look like other people's writing.
_SHIFT_PIXELS, _TURN_DEGREES, _ZOOM = 2.0, 10.0, 0.1


def build_baseline() -> keras.Model:
    """Build the untrained float model (lesson 01).

    Three convolutions, each with batch norm and ReLU, two max poolings, one dense head. Input:
    float images in [0, 1], shape (n, 28, 28, 1). Output: logits, shape (n, 10), before any softmax.
    """
    layers = keras.layers
    image = keras.Input((28, 28, 1), name="image")
    x = image
    for number, (filters, padding) in enumerate(
        ((8, "same"), (16, "same"), (32, "valid")), start=1
    ):
        # Batch norm has its own offset, so that a bias before it would do nothing.
        x = layers.Conv2D(filters, 3, padding=padding, use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(name=f"bn{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        if number < 3:
            x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="baseline")


def load_baseline(path: Path = WEIGHTS) -> keras.Model:
    """Load the trained float model that ships with the course (lesson 01).

    Raises:
        FileNotFoundError: when the weights are missing.
        ValueError: when the file is damaged or that of another model.
    """
    way_out = (
        "Get them back with `git checkout -- quant_tutorial/data`, or train the model again: "
        f"{_COMMAND}"
    )
    if not path.exists():
        raise FileNotFoundError(f"The baseline's weights are missing: {path}. {way_out}")
    model = build_baseline()
    try:
        # Keras loads most damaged files without a word, so their digest is compared first.
        figures = _figures_path(path)
        if figures.exists() and json.loads(figures.read_text())["sha256"] != _digest(path):
            raise ValueError(f"its digest is not the one in {figures.name}")
        model.load_weights(path)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"The baseline's weights are damaged ({error}): {path}. {way_out}"
        ) from error
    return model


def load_int8_baseline(path: Path = INT8) -> bytes:
    """Load the baseline as a full-integer int8 `.tflite` file, which ships as well (lesson 07).

    It is `tflite.convert(load_baseline(), "int8", calibration=…)` with the first 500 training
    images. The converter measures the ranges in float arithmetic, whose last digits depend on the
    processor; with this file the integers are the same everywhere.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it is damaged.
    """
    way_out = (
        f"Get it back with `git checkout -- quant_tutorial/data`, or make it: {_COMMAND} --int8"
    )
    if not path.exists():
        raise FileNotFoundError(f"The int8 baseline is missing: {path}. {way_out}")
    figures = _figures_path(WEIGHTS)
    if figures.exists() and json.loads(figures.read_text())["int8_sha256"] != _digest(path):
        raise ValueError(f"The int8 baseline is damaged, or of other weights: {path}. {way_out}")
    return path.read_bytes()


def predict(model: keras.Model, x: NDArray[np.float32]) -> Any:
    """Run a Keras model on images, shape (n, …), and give its outputs as NumPy arrays (lesson 01).

    A model with several outputs gives them as it is built, as a list or a dictionary. No progress
    bar, and no function is compiled, so that new models may follow one another quickly.
    """
    batches = [model(x[start : start + 500], training=False) for start in range(0, len(x), 500)]
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)


def multiply_adds(model: keras.Model) -> int:
    """Count the multiplications (each with its addition) that one image costs (lesson 01).

    Counts convolutions and dense layers; biases, batch norm and pooling are left out.

    Raises:
        ValueError: for a layer with weights that is none of these.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            total += int(np.prod(layer.output.shape[1:])) * int(np.prod(layer.kernel.shape[:2]))
        elif isinstance(layer, keras.layers.Conv2D):
            total += int(np.prod(layer.output.shape[1:])) * int(np.prod(layer.kernel.shape[:3]))
        elif isinstance(layer, keras.layers.Dense):
            total += int(np.prod(layer.output.shape[1:])) * layer.kernel.shape[0]
        elif layer.weights and not isinstance(layer, keras.layers.BatchNormalization):
            raise ValueError(f"Layer {layer.name} ({type(layer).__name__}) cannot be counted.")
    return total


def kernels(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    """Give the kernels of all convolutions and dense layers by layer name (lesson 04).

    The output channels are the last axis; that of a depthwise convolution, (height, width, input
    channels, multiplier), becomes (height, width, output channels).
    """
    return {
        layer.name: _by_output_channel(layer, layer.kernel.numpy())
        for layer in model.layers
        if hasattr(layer, "kernel")
    }


def set_kernels(model: keras.Model, new: Mapping[str, NDArray[np.floating]]) -> None:
    """Put kernels in the form of `kernels` into a model (lesson 04)."""
    for name, kernel in new.items():
        variable = model.get_layer(name).kernel
        variable.assign(np.reshape(kernel, variable.shape))


def litert_layout(layer: keras.Layer, kernel: NDArray[np.generic]) -> NDArray[np.generic]:
    """Give a kernel in the form of `kernels` with its axes as in a `.tflite` file (lesson 08).

    LiteRT has the output channels first, but last for depthwise convolutions, after an axis of 1.
    """
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return kernel[np.newaxis]
    return np.ascontiguousarray(np.moveaxis(kernel, -1, 0))


def _by_output_channel(layer: keras.Layer, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return kernel.reshape(*kernel.shape[:2], -1)
    return kernel


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Merge each batch norm into the layer before it, and give the new model (lesson 04).

    After training, batch norm multiplies each channel by γ/√(variance + ε) and adds an offset. The
    convolution, depthwise convolution or dense layer before it can do that with its own weights and
    bias. The outputs stay the same up to float rounding; the given model is not changed. Source:
    Jacob et al., CVPR 2018, section 3.2.

    Args:
        model: A built Sequential or functional model.

    Raises:
        ValueError: for a batch norm that does not directly follow such a layer, or whose layer has
            an activation of its own, is used elsewhere too, or has other channels.
    """
    graph = model
    if isinstance(model, keras.Sequential):
        graph = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    folds = {
        _layer_before(layer, graph).name: layer
        for layer in graph.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if layer.name in folds:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.layers.BatchNormalization):
            return args[0]
        return layer(*args, **kwargs)

    folded = keras.models.clone_model(graph, clone_function=clone, call_function=call)
    for layer in folded.layers:
        if layer.weights:
            original = graph.get_layer(layer.name)
            norm = folds.get(layer.name)
            layer.set_weights(_folded_weights(original, norm) if norm else original.get_weights())
    return folded


def _layer_before(norm: keras.layers.BatchNormalization, model: keras.Model) -> keras.Layer:
    """Find the layer that a batch norm can be folded into, or say why there is none."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    before = norm.input._keras_history.operation

    def refuse(reason: str) -> ValueError:
        return ValueError(f"Batch norm {norm.name} cannot be folded: {reason}.")

    if not isinstance(before, kinds) or before not in model.layers:
        raise refuse(
            f"it follows {before.name} ({type(before).__name__}), and only a convolution, "
            "depthwise convolution or dense layer takes it in"
        )
    if before.activation is not keras.activations.linear:
        raise refuse(f"layer {before.name} has an activation between the two")
    users = [
        layer.name
        for layer in model.layers
        for node in layer._inbound_nodes
        for tensor in node.input_tensors
        if tensor is before.output
    ]
    if len(set(users)) > 1 or any(output is before.output for output in model.outputs):
        raise refuse(f"the output of {before.name} is used elsewhere too")
    if norm.axis not in (-1, before.output.ndim - 1):
        raise refuse(f"it works along axis {norm.axis}, which is not that of the channels")
    return before


def _folded_weights(
    layer: keras.Layer, norm: keras.layers.BatchNormalization
) -> list[NDArray[np.float32]]:
    """Give the kernel and bias that do the work of a layer and the batch norm after it."""
    weights = layer.get_weights()
    kernel, bias = weights if layer.use_bias else (weights[0], 0.0)
    gain = 1 / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    gain = gain * norm.gamma.numpy() if norm.scale else gain
    offset = norm.beta.numpy() if norm.center else 0.0
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        kernel = kernel * gain.reshape(kernel.shape[2:])  # (input channels, multiplier)
    else:
        kernel = kernel * gain  # the output channels are the last axis
    return [kernel, (bias - norm.moving_mean.numpy()) * gain + offset]


def train_baseline(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    epochs: int = _EPOCHS,
    seed: int = _SEED,
    verbose: int = 1,
) -> keras.Model:
    """Train the baseline with Adam, a cosine schedule and randomly moved images (lesson 01).

    Args:
        images: Training images, shape (n, 28, 28), uint8.
        labels: Their classes, shape (n,).
        epochs: How often each image is seen.
        seed: Fixes initial weights, order and movements.
        verbose: 1 shows Keras' progress bar, 0 nothing.

    Raises:
        ValueError: when there are fewer images than one batch.
    """
    if len(images) < _BATCH:
        raise ValueError(f"images must hold at least {_BATCH} images, got {len(images)}.")
    keras.utils.set_random_seed(seed)
    steps = epochs * (len(images) // _BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 10, warmup_target=4e-3, warmup_steps=steps // 10
    )
    model = build_baseline()
    model.compile(
        optimizer=keras.optimizers.Adam(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    data = training_batches(images, labels, epochs=epochs, seed=seed)
    model.fit(data, epochs=epochs, steps_per_epoch=steps // epochs, verbose=verbose)
    return model


def training_batches(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    epochs: int,
    seed: int,
    batch: int = _BATCH,
    moved: bool = True,
) -> tf.data.Dataset:
    """Give training batches in random order for `fit` (lessons 01 and 08).

    Order and movements depend on the seed alone. Each epoch has len(images) // batch batches.

    Args:
        images: Training images, shape (n, 28, 28), uint8.
        labels: Their classes, shape (n,).
        epochs: For how many epochs batches are given.
        seed: Fixes order and movements.
        batch: How many images a batch has.
        moved: Whether each image is shifted, turned and zoomed a little at random.

    Raises:
        ValueError: when there are fewer images than one batch.
    """
    if len(images) < batch:
        raise ValueError(f"images must hold at least {batch} images, got {len(images)}.")
    batches = (
        tf.data.Dataset.from_tensor_slices((mnist.to_float(images), labels.astype(np.int32)))
        .shuffle(len(images), seed=seed)
        .batch(batch, drop_remainder=True)
        .repeat(epochs)
    )
    if moved:
        batches = batches.enumerate().map(
            lambda step, pair: (_moved(pair[0], seed, step), pair[1]), tf.data.AUTOTUNE
        )
    return batches.prefetch(tf.data.AUTOTUNE)


def _moved(images: tf.Tensor, seed: int, step: tf.Tensor) -> tf.Tensor:
    """Shift, turn and zoom each image of a batch at random; the same step moves the same way."""
    # Stateless numbers, so that threads working side by side cannot change their order.
    key = tf.stack([tf.constant(seed, tf.int64), step])
    shift_x, shift_y, turn, zoom = tf.unstack(
        tf.random.stateless_uniform([4, tf.shape(images)[0]], key, -1.0, 1.0)
    )
    angle = turn * (_TURN_DEGREES * np.pi / 180)
    cos, sin = tf.cos(angle) * (1 + zoom * _ZOOM), tf.sin(angle) * (1 + zoom * _ZOOM)
    # Where each output pixel comes from; turning and zooming keep the image's middle in place.
    middle, zero = 13.5, tf.zeros_like(angle)
    from_x = middle - cos * middle + sin * middle + shift_x * _SHIFT_PIXELS
    from_y = middle - sin * middle - cos * middle + shift_y * _SHIFT_PIXELS
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([cos, -sin, from_x, sin, cos, from_y, zero, zero], axis=1),
        output_shape=[28, 28],
        fill_value=0.0,
        interpolation="BILINEAR",
    )


def _figures_path(weights: Path) -> Path:
    return weights.with_name(weights.name.replace(".weights.h5", ".json"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_int8(model: keras.Model, path: Path) -> None:
    from quant_tutorial import tflite  # which imports LiteRT; only this command needs it here

    calibration = mnist.to_float(mnist.load().x_train[:500])
    tflite.save(tflite.convert(model, "int8", calibration=calibration), path)


def main() -> None:
    """Train the baseline and write its weights, its int8 file and the measured figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=_EPOCHS)
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="a file *.weights.h5")
    parser.add_argument("--int8", action="store_true", help="convert the weights that are there")
    options = parser.parse_args()
    if not options.output.name.endswith(".weights.h5"):
        parser.error(f"--output must end in .weights.h5, got {options.output}")
    if options.epochs < 1:
        parser.error(f"--epochs must be at least 1, got {options.epochs}")

    int8 = options.output.with_name(options.output.name.replace(".weights.h5", "_int8.tflite"))
    if options.int8:
        figures = json.loads(_figures_path(options.output).read_text())
        model = load_baseline(options.output)
    else:
        model, figures = _trained(options)
    _write_int8(model, int8)
    figures["int8_sha256"] = _digest(int8)
    text = json.dumps(figures, indent=2) + "\n"
    saving.write_whole(_figures_path(options.output), lambda part: part.write_text(text))
    print(text)


def _trained(options: argparse.Namespace) -> tuple[keras.Model, dict[str, Any]]:
    """Train the baseline, write its weights, and give it with the figures."""
    tf.config.experimental.enable_op_determinism()
    data, start = mnist.load(), time.monotonic()
    model = train_baseline(data.x_train, data.y_train, epochs=options.epochs, seed=options.seed)
    seconds = time.monotonic() - start
    saving.write_whole(options.output, model.save_weights)
    return model, {
        "command": f"{_COMMAND} --epochs {options.epochs} --seed {options.seed}",
        "sha256": _digest(options.output),
        "test_accuracy": metrics.accuracy(predict(model, mnist.to_float(data.x_test)), data.y_test),
        "parameters": model.count_params(),
        "multiply_adds": multiply_adds(model),
        "training_minutes": round(seconds / 60, 1),
        "cores": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    }


if __name__ == "__main__":
    main()
