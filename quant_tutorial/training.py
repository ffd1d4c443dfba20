"""Train the course's float model (lesson 01).

`python -m quant_tutorial.training` (or `make baseline`) trains it from its seed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from quant_tutorial import metrics, mnist, models, saving, tflite
from quant_tutorial.frameworks import keras, tf

import numpy as np
from numpy.typing import NDArray

_COMMAND = "python -m quant_tutorial.training"
_EPOCHS, _BATCH, _SEED = 30, 128, 2026
# How far training images are moved at random, to imitate the handwriting of other people.
_SHIFT_PIXELS, _TURN_DEGREES, _ZOOM = 2.0, 10.0, 0.1


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
        epochs: How many times the model sees the training images.
        seed: The random seed, which fixes the initial weights, the order and the movements.
        verbose: 1 shows Keras' progress bar, 0 shows nothing.

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
    model = models.build_baseline()
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
    """Return training batches in random order for `fit` (lessons 01 and 08).

    The order and the movements depend on the seed alone. Each epoch has len(images) // batch
    batches.

    Args:
        images: Training images, shape (n, 28, 28), uint8.
        labels: Their classes, shape (n,).
        epochs: How many epochs the batches are for.
        seed: The random seed, which fixes the order and the movements.
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
    """Shift, turn and zoom each image of a batch at random, as the seed and the step determine."""
    # Stateless random numbers do not depend on the order in which parallel threads run.
    key = tf.stack([tf.constant(seed, tf.int64), step])
    shift_x, shift_y, turn, zoom = tf.unstack(
        tf.random.stateless_uniform([4, tf.shape(images)[0]], key, -1.0, 1.0)
    )
    angle = turn * (_TURN_DEGREES * np.pi / 180)
    cos, sin = tf.cos(angle) * (1 + zoom * _ZOOM), tf.sin(angle) * (1 + zoom * _ZOOM)
    # The source of each output pixel; turning and zooming leave the middle of the image in place.
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


def _write_int8(model: keras.Model, path: Path) -> None:
    calibration = mnist.to_float(mnist.load().x_train[:500])
    tflite.save(tflite.convert(model, "int8", calibration=calibration), path)


def main() -> None:
    """Train the baseline and write its weights, its int8 file and the measured figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=_EPOCHS)
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--output", type=Path, default=models.WEIGHTS, help="a file *.weights.h5")
    parser.add_argument("--int8", action="store_true", help="convert the weights that are there")
    options = parser.parse_args()
    if not options.output.name.endswith(".weights.h5"):
        parser.error(f"--output must end in .weights.h5, got {options.output}")
    if options.epochs < 1:
        parser.error(f"--epochs must be at least 1, got {options.epochs}")

    int8 = options.output.with_name(options.output.name.replace(".weights.h5", "_int8.tflite"))
    if options.int8:
        figures = json.loads(models.figures_path(options.output).read_text())
        model = models.load_baseline(options.output)
    else:
        model, figures = _trained(options)
    _write_int8(model, int8)
    figures["int8_sha256"] = models.digest(int8)
    text = json.dumps(figures, indent=2) + "\n"
    saving.write_whole(models.figures_path(options.output), lambda part: part.write_text(text))
    print(text)


def _trained(options: argparse.Namespace) -> tuple[keras.Model, dict[str, Any]]:
    """Train the baseline, write its weights, and return it with the measured figures."""
    tf.config.experimental.enable_op_determinism()
    data, start = mnist.load(), time.monotonic()
    model = train_baseline(data.x_train, data.y_train, epochs=options.epochs, seed=options.seed)
    seconds = time.monotonic() - start
    saving.write_whole(options.output, model.save_weights)
    outputs = models.predict(model, mnist.to_float(data.x_test))
    return model, {
        "command": f"{_COMMAND} --epochs {options.epochs} --seed {options.seed}",
        "sha256": models.digest(options.output),
        "test_accuracy": metrics.accuracy(outputs, data.y_test),
        "parameters": model.count_params(),
        "multiply_adds": models.multiply_adds(model),
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
