"""Train the quantized models that ship with the course (lesson 08).

`python -m quant_tutorial.qat.training` (or `make qat`) trains them all from their seeds. It writes
the model of each configuration's first seed into the package, and the accuracy of every run into
`qat.json`. Runs that are already in that file are not repeated, so that the training can be stopped
and continued. Each run that is finished is written at once. They are independent: `executor` runs
them, by default one on each core, and with `--scheduler` on a Dask cluster.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from quant_tutorial import executor, metrics, mnist, models, saving
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.qat.model import quantize_aware
from quant_tutorial.qat.shipped import FOLDER, RESULTS, SHIPPED, model_path
from quant_tutorial.scheme import named_scheme
from quant_tutorial.simulate import Simulator
from quant_tutorial.training import fit, training_batches

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
    options = {"epochs": epochs, "steps_per_epoch": steps, "callbacks": list(callbacks)}
    fit(model, batches, schedule, verbose=verbose, **options)
    return model


def _run(name: str, seed: int) -> dict[str, Any]:
    """Train one model from one seed, and return its results.

    "model" is the file of the first seed's model, if its ranges are learned.
    """
    tf.config.experimental.enable_op_determinism()
    data, config, start = mnist.load(), SHIPPED[name], time.monotonic()
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
    accuracy = metrics.accuracy(outputs, data.y_test)
    found = {"run": {"seed": seed, "accuracy": accuracy, "minutes": round(minutes, 1)}}
    kept = seed == config.seeds[0] and config.ranges == "learned"
    return {**found, "model": _as_file(model)} if kept else found


def _as_file(model: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        # A copy has no optimizer, whose state would be saved as well.
        models.copied(model).save(path)
        return path.read_bytes()


def _ptq(name: str) -> dict[str, Any]:
    """Measure the accuracy at the same bit widths without training, by calibrator."""
    data, config, found = mnist.load(), SHIPPED[name], {}
    simulator = _simulator()
    for calibrator in ("min_max", "mse"):
        scheme = named_scheme(config.weight_bits, config.activation_bits, calibrator)
        model = simulator.simulated(simulator.params(scheme))
        outputs = models.predict(model, mnist.to_float(data.x_test))
        found[calibrator] = metrics.accuracy(outputs, data.y_test)
    return {"ptq": found}


@cache
def _simulator() -> Simulator:
    calibration = mnist.to_float(mnist.load().x_train[:CALIBRATION])
    return Simulator(models.load_baseline(), calibration)


def main() -> None:
    """Train the models of lesson 08, and write the models and their accuracies."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", help=f"all by default: {', '.join(SHIPPED)}")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--again", action="store_true", help="train what is there once more")
    executor.add_options(parser)
    options = parser.parse_args()
    names = options.names or list(SHIPPED)
    if unknown := [name for name in names if name not in SHIPPED]:
        parser.error(f"names must be of {', '.join(SHIPPED)}; got {unknown[0]}")

    path = options.folder / RESULTS.name
    found = json.loads(path.read_text())["models"] if path.exists() else {}
    entries = {name: _entry(name, {} if options.again else found.get(name, {})) for name in names}
    with executor.from_options(options) as workers:
        for task, result in executor.run(_tasks(entries), workers):
            name = task.arguments[0]
            entry = found[name] = entries[name]
            entry["ptq"] = result.get("ptq", entry["ptq"])
            if "run" in result:
                entry["runs"].append(result["run"])
                entry["runs"].sort(key=lambda run: run["seed"])
                print(name, result["run"], flush=True)
            if content := result.get("model"):
                saving.write_bytes(model_path(name, options.folder), content)
            _write(path, {known: found[known] for known in SHIPPED if known in found})


def _entry(name: str, known: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a model and still holds, to be filled up."""
    entry = {"training": dataclasses.asdict(SHIPPED[name]), "ptq": {}, "runs": []}
    same = _settings(entry["training"]) == _settings(known.get("training", {}))
    return {**entry, "ptq": known["ptq"], "runs": list(known["runs"])} if same else entry


def _tasks(entries: dict[str, dict[str, Any]]) -> list[executor.Task]:
    """Return what is missing, in the order in which it is begun."""
    rounded = [
        executor.Task(f"{name} without training", _ptq, (name,))
        for name, entry in entries.items()
        if not entry["ptq"]
    ]
    trained = [
        executor.Task(f"{name} seed {seed}", _run, (name, seed))
        for name, entry in entries.items()
        for seed in SHIPPED[name].seeds
        if seed not in [run["seed"] for run in entry["runs"]]
    ]
    return rounded + trained


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
