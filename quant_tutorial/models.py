"""The course's float model: its architecture, its trained weights, its training (lesson 01).

`python -m quant_tutorial.models` (or `make baseline`) trains it again from its seed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from quant_tutorial import metrics, mnist, quiet

import numpy as np
from numpy.typing import NDArray

quiet.load_tensorflow()
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

WEIGHTS = Path(__file__).parent / "data" / "baseline.weights.h5"
FIGURES = WEIGHTS.with_name("baseline.json")

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
        ValueError: when the file is not that of this model.
    """
    way_out = (
        "Get them back with `git checkout -- quant_tutorial/data`, or train the model again: "
        f"{_COMMAND}"
    )
    if not path.exists():
        raise FileNotFoundError(f"The baseline's weights are missing: {path}. {way_out}")
    model = build_baseline()
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"The baseline's weights are damaged ({error}): {path}. {way_out}"
        ) from error
    return model


def predict(model: keras.Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a Keras model on images, shape (n, …), and give its outputs, without a progress bar."""
    return model.predict(x, batch_size=500, verbose=0)


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
    data = (
        tf.data.Dataset.from_tensor_slices((mnist.to_float(images), labels.astype(np.int32)))
        .shuffle(len(images), seed=seed)
        .batch(_BATCH, drop_remainder=True)
        .repeat(epochs)
        .enumerate()
        .map(lambda step, pair: (_moved(pair[0], seed, step), pair[1]), tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    model.fit(data, epochs=epochs, steps_per_epoch=steps // epochs, verbose=verbose)
    return model


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


def _write(path: Path, save: Callable[[Path], object]) -> None:
    """Let `save` write a file, and put it in place only when it is complete."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        save(part)
        part.replace(path)


def main() -> None:
    """Train the baseline and write its weights and the measured figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=_EPOCHS)
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="a file *.weights.h5")
    options = parser.parse_args()

    tf.config.experimental.enable_op_determinism()
    data, start = mnist.load(), time.monotonic()
    model = train_baseline(data.x_train, data.y_train, epochs=options.epochs, seed=options.seed)
    seconds = time.monotonic() - start
    figures = {
        "command": f"{_COMMAND} --epochs {options.epochs} --seed {options.seed}",
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
    options.output.parent.mkdir(parents=True, exist_ok=True)
    _write(options.output, model.save_weights)
    text = json.dumps(figures, indent=2) + "\n"
    figures_path = options.output.with_name(options.output.name.replace(".weights.h5", ".json"))
    _write(figures_path, lambda part: part.write_text(text))
    print(text)


if __name__ == "__main__":
    main()
