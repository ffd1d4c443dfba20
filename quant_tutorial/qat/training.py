"""Train the quantized models that ship with the course (lesson 08).

`python -m quant_tutorial.qat.training` (or `make qat`) trains them all from their seeds. It writes
the model of each configuration's first seed into the package, and the accuracy of every run into
`qat.json`. Runs that are already in that file are not repeated, so that the training can be stopped
and continued.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quant_tutorial import metrics, mnist, models, saving
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.qat.model import quantize_aware
from quant_tutorial.qat.shipped import FOLDER, RESULTS, SHIPPED, model_path
from quant_tutorial.scheme import named_scheme
from quant_tutorial.simulate import Simulator
from quant_tutorial.training import training_batches

import numpy as np
from numpy.typing import NDArray

_COMMAND = "python -m quant_tutorial.qat.training"
_BATCH = 128
CALIBRATION = 500  # training images from which the initial ranges are chosen


def train(
    model: keras.Model,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    epochs: int,
    rate: float,
    seed: int,
    moved: bool = True,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> keras.Model:
    """Train a model of `quantize_aware` as `TrainingConfig` describes, and return it (lesson 08).

    Args:
        model: A model whose outputs are logits.
        images: Training images, shape (n, 28, 28), uint8.
        labels: Their classes, shape (n,).
        epochs: How often each image is seen.
        rate: Adam's initial learning rate.
        seed: Fixes the order of the images and how they are moved.
        moved: Whether each image is moved a little at random.
        callbacks: Keras callbacks for `fit`.
        verbose: 1 shows Keras' progress bar, 0 nothing.

    Raises:
        ValueError: when there are fewer images than one batch.
    """
    steps = len(images) // _BATCH
    batches = training_batches(images, labels, epochs=epochs, seed=seed, batch=_BATCH, moved=moved)
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * steps)
    model.compile(
        optimizer=keras.optimizers.Adam(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        batches, epochs=epochs, steps_per_epoch=steps, callbacks=list(callbacks), verbose=verbose
    )
    return model


def _run(name: str, seed: int, data: mnist.Mnist, folder: Path) -> dict[str, Any]:
    """Train one model from one seed, and return its results.

    The model of the first seed is written to the folder, if its ranges are learned.
    """
    config, start = SHIPPED[name], time.monotonic()
    calibration = mnist.to_float(data.x_train[:CALIBRATION])
    keras.utils.set_random_seed(seed)
    model = quantize_aware(models.load_baseline(), config.scheme, calibration, ranges=config.ranges)
    train(
        model,
        data.x_train,
        data.y_train,
        epochs=config.epochs,
        rate=config.rate,
        seed=seed,
        moved=config.moved,
    )
    minutes = (time.monotonic() - start) / 60
    outputs = models.predict(model, mnist.to_float(data.x_test))
    if seed == config.seeds[0] and config.ranges == "learned":
        # A copy has no optimizer, whose state would be saved as well.
        saving.write_whole(model_path(name, folder), models.copied(model).save)
    accuracy = metrics.accuracy(outputs, data.y_test)
    return {"seed": seed, "accuracy": accuracy, "minutes": round(minutes, 1)}


def _ptq(name: str, data: mnist.Mnist, simulator: Simulator) -> dict[str, float]:
    """Measure the accuracy at the same bit widths without training, by calibrator."""
    config, found = SHIPPED[name], {}
    for calibrator in ("min_max", "mse"):
        scheme = named_scheme(config.weight_bits, config.activation_bits, calibrator)
        model = simulator.simulated(simulator.params(scheme))
        outputs = models.predict(model, mnist.to_float(data.x_test))
        found[calibrator] = metrics.accuracy(outputs, data.y_test)
    return found


def main() -> None:
    """Train the models of lesson 08, and write the models and their accuracies."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", help=f"all by default: {', '.join(SHIPPED)}")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--again", action="store_true", help="train what is there once more")
    options = parser.parse_args()
    names = options.names or list(SHIPPED)
    if unknown := [name for name in names if name not in SHIPPED]:
        parser.error(f"names must be of {', '.join(SHIPPED)}; got {unknown[0]}")

    tf.config.experimental.enable_op_determinism()
    data, path = mnist.load(), options.folder / RESULTS.name
    simulator = Simulator(models.load_baseline(), mnist.to_float(data.x_train[:CALIBRATION]))
    found = json.loads(path.read_text())["models"] if path.exists() else {}
    for name in names:
        entry = {"training": dataclasses.asdict(SHIPPED[name]), "ptq": _ptq(name, data, simulator)}
        known = found.get(name, {})
        same = _settings(entry["training"]) == _settings(known.get("training", {}))
        entry["runs"] = known["runs"] if same and not options.again else []
        done = {run["seed"] for run in entry["runs"]}
        for seed in [seed for seed in SHIPPED[name].seeds if seed not in done]:
            entry["runs"].append(_run(name, seed, data, options.folder))
            found[name] = entry
            print(name, entry["runs"][-1], flush=True)
            _write(path, {known: found[known] for known in SHIPPED if known in found})


def _settings(training: dict[str, Any]) -> dict[str, Any]:
    """Return what a run depends on: all but which seeds are to be run."""
    return {name: value for name, value in training.items() if name != "seeds"}


def _write(path: Path, found: dict[str, Any]) -> None:
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    content = {
        "command": _COMMAND,
        "images": 10_000,
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), **versions},
        "models": found,
    }
    text = json.dumps(content, indent=2) + "\n"
    saving.write_whole(path, lambda part: part.write_text(text))


if __name__ == "__main__":
    main()
