"""Train the course's float models (lessons 01 and 11).

`python -m quant_tutorial.training` (or `make baseline`) trains the baseline from its seed, and
`python -m quant_tutorial.training colour_digits` (or `make colour`) the colour model.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from quant_tutorial import colour_digits, metrics, mnist, models, saving, tflite
from quant_tutorial.frameworks import keras, tf

import numpy as np
from numpy.typing import NDArray

_COMMAND = "python -m quant_tutorial.training"
_EPOCHS, _BATCH, _SEED = 30, 128, 2026
_COLOUR_EPOCHS = 8
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
    _check_count(images, _BATCH)
    keras.utils.set_random_seed(seed)
    model = models.build_baseline()
    data = training_batches(images, labels, epochs=epochs, seed=seed)
    _fit(model, data, epochs, len(images) // _BATCH, verbose)
    return model


def train_colour_digits(
    digits: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    epochs: int = _COLOUR_EPOCHS,
    seed: int = _SEED,
    verbose: int = 1,
) -> keras.Model:
    """Train the colour model on digits that are painted anew in each epoch (lesson 11).

    The optimizer and its schedule are those of `train_baseline`.

    Args:
        digits: MNIST's training images, shape (n, 28, 28), uint8.
        labels: Their classes, shape (n,).
        epochs: How many times the model sees the digits.
        seed: The random seed, which fixes the initial weights, the order and the colours.
        verbose: 1 shows Keras' progress bar, 0 shows nothing.

    Raises:
        ValueError: when there are fewer digits than one batch.
    """
    _check_count(digits, _BATCH)
    keras.utils.set_random_seed(seed)
    model = models.build_colour_digits()
    data = _painted_batches(digits, labels, epochs=epochs, seed=seed)
    _fit(model, data, epochs, len(digits) // _BATCH, verbose)
    return models.copied(model)  # Keras would save the optimizer's state as well


def _painted_batches(
    digits: NDArray[np.uint8], labels: NDArray[np.uint8], *, epochs: int, seed: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Yield the batches of all epochs, in random order and with new colours in each epoch."""
    steps = len(digits) // _BATCH
    for epoch in range(epochs):
        images = colour_digits.paint(digits, (seed, epoch))
        order = np.random.default_rng((seed, epoch)).permutation(len(digits))
        for rows in order[: steps * _BATCH].reshape(steps, _BATCH):
            yield colour_digits.to_float(images[rows]), labels[rows].astype(np.int32)


def _fit(model: keras.Model, data: Iterable[Any], epochs: int, steps: int, verbose: int) -> None:
    """Train a model with a cosine schedule that begins with 0; an epoch has `steps` batches."""
    total = epochs * steps
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, total - total // 10, warmup_target=4e-3, warmup_steps=total // 10
    )
    fit(model, data, schedule, epochs=epochs, steps_per_epoch=steps, verbose=verbose)


def fit(model: keras.Model, batches: Iterable[Any], schedule: Any, **options: Any) -> None:
    """Train a model whose outputs are logits with Adam, on batches in random order (lesson 08).

    Args:
        model: The model.
        batches: Images and labels, a batch at a time.
        schedule: The learning rate, a number or a schedule of Keras'.
        **options: Further options of Keras' `fit`.
    """
    model.compile(
        optimizer=keras.optimizers.Adam(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    # An optimizer that first makes its variables in a step has TensorFlow trace that step twice.
    model.optimizer.build(model.trainable_variables)
    # The batches come in random order already, which Keras cannot know.
    model.fit(batches, shuffle=False, **options)


def _check_count(images: NDArray[np.uint8], batch: int) -> None:
    if len(images) < batch:
        raise ValueError(f"images must hold at least {batch} images, got {len(images)}.")


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
    _check_count(images, batch)
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
    """Train a float model and write its weights and the measured figures.

    For the baseline, its int8 file is written, too.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", nargs="?", choices=("baseline", "colour_digits"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--output", type=Path, help="a file *.weights.h5")
    parser.add_argument("--int8", action="store_true", help="convert the weights that are there")
    options = parser.parse_args()
    colour = options.model == "colour_digits"
    if options.epochs is None:
        options.epochs = _COLOUR_EPOCHS if colour else _EPOCHS
    if options.output is None:
        options.output = models.COLOUR_WEIGHTS if colour else models.WEIGHTS
    if not options.output.name.endswith(".weights.h5"):
        parser.error(f"--output must end in .weights.h5, got {options.output}")
    if options.epochs < 1:
        parser.error(f"--epochs must be at least 1, got {options.epochs}")
    if options.int8 and colour:
        parser.error("--int8 goes with the baseline only")

    if options.int8:
        figures = json.loads(models.figures_path(options.output).read_text())
        model = models.load_baseline(options.output)
    else:
        model, figures = _trained(options)
    if not colour:
        int8 = options.output.with_name(options.output.name.replace(".weights.h5", "_int8.tflite"))
        _write_int8(model, int8)
        figures["int8_sha256"] = models.digest(int8)
    text = json.dumps(figures, indent=2) + "\n"
    saving.write_whole(models.figures_path(options.output), lambda part: part.write_text(text))
    print(text)


def _trained(options: argparse.Namespace) -> tuple[keras.Model, dict[str, Any]]:
    """Train a model, write its weights, and return it with the measured figures."""
    tf.config.experimental.enable_op_determinism()
    train, data = train_baseline, mnist.load()
    test = mnist.to_float(data.x_test)
    if options.model == "colour_digits":
        train, test = train_colour_digits, colour_digits.to_float(colour_digits.load().x_test)
    start = time.monotonic()
    model = train(data.x_train, data.y_train, epochs=options.epochs, seed=options.seed)
    seconds = time.monotonic() - start
    saving.write_whole(options.output, model.save_weights)
    named = f" {options.model}" if options.model else ""
    return model, {
        "command": f"{_COMMAND}{named} --epochs {options.epochs} --seed {options.seed}",
        "sha256": models.digest(options.output),
        "test_accuracy": metrics.accuracy(models.predict(model, test), data.y_test),
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
