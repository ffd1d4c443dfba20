"""Train the course's quantized models, and load those that ship with it (lesson 08).

`python -m quant_tutorial.qat_training` (or `make qat`) trains them all from their seeds, writes the
model of each recipe's first seed into the package, and the accuracy of every run into `qat.json`.
What is there already is not trained again, so that it can be stopped and goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from quant_tutorial import metrics, mnist, models, qat, quiet, saving
from quant_tutorial.scheme import QuantScheme, TensorScheme
from quant_tutorial.simulate import Simulator

import numpy as np
from numpy.typing import NDArray

quiet.load_tensorflow()
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

FOLDER = Path(__file__).parent / "data" / "qat"
RESULTS = FOLDER / "qat.json"

_COMMAND = "python -m quant_tutorial.qat_training"
_BATCH = 128
_CALIBRATION = 500  # training images that the ranges start from
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Recipe:
    """How one of the shipped models is trained (lesson 08).

    Adam, with a rate that falls from `rate` to 0 along a cosine. `moved` shows each image moved a
    little at random, as the float training did; at 2 and 3 bits the network learned less well so.
    """

    weight_bits: int
    activation_bits: int
    epochs: int
    rate: float
    moved: bool = True
    ranges: qat.Ranges = "learned"
    seeds: tuple[int, ...] = SEEDS

    @property
    def scheme(self) -> QuantScheme:
        """Weights symmetric and channel-wise, activations with one scale, 8-bit input."""
        return named_scheme(self.weight_bits, self.activation_bits)


# Widths beside the table's, for lesson 08's slider: one seed each.
RECIPES: dict[str, Recipe] = {
    "W2A2": Recipe(2, 2, epochs=12, rate=2e-3, moved=False),
    "W4A4": Recipe(4, 4, epochs=12, rate=1e-3),
    "W3A3": Recipe(3, 3, epochs=12, rate=1e-3, moved=False),
    "W2A8": Recipe(2, 8, epochs=8, rate=2e-3, moved=False),
    "W8A8": Recipe(8, 8, epochs=3, rate=1e-4),
    "W4A8": Recipe(4, 8, epochs=3, rate=1e-4, seeds=SEEDS[:1]),
    "W5A5": Recipe(5, 5, epochs=6, rate=5e-4, seeds=SEEDS[:1]),
    "W6A6": Recipe(6, 6, epochs=4, rate=2e-4, seeds=SEEDS[:1]),
    "W7A7": Recipe(7, 7, epochs=3, rate=1e-4, seeds=SEEDS[:1]),
    "W2A2 moving_average": Recipe(
        2, 2, 12, 2e-3, moved=False, ranges="moving_average", seeds=SEEDS[:1]
    ),
    "W2A2 fixed": Recipe(2, 2, 12, 2e-3, moved=False, ranges="fixed", seeds=SEEDS[:1]),
}


class Result(NamedTuple):
    """Accuracies on all 10,000 test images, 0 to 1, as `qat.json` has them (lesson 08)."""

    name: str  # of `RECIPES`
    ptq: dict[str, float]  # by calibrator, the same bit widths without training
    qat: tuple[float, ...]  # one for each seed

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return float(np.mean(self.qat))

    @property
    def spread(self) -> float:
        """The largest less the smallest over the seeds."""
        return max(self.qat) - min(self.qat)


def named_scheme(
    weight_bits: int, activation_bits: int, calibrator: str | None = None
) -> QuantScheme:
    """Give the scheme that the course compares at all widths (lesson 08).

    Weights symmetric and channel-wise, activations with one scale, 8-bit input. Without a
    calibrator: "min_max" at 8 bits, "mse" below, where clipping pays.
    """
    one, other = (
        calibrator or ("min_max" if bits >= 8 else "mse") for bits in (weight_bits, activation_bits)
    )
    return QuantScheme(
        TensorScheme(weight_bits, True, "channel-wise", one),
        TensorScheme(activation_bits, calibrator=other),
    )


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
    """Train a model of `quantize_aware` as `Recipe` says, and give it (lesson 08).

    Args:
        model: A model whose outputs are logits.
        images: Training images, shape (n, 28, 28), uint8.
        labels: Their classes, shape (n,).
        epochs: How often each image is seen.
        rate: Adam's rate at the start.
        seed: Fixes the order of the images and how they are moved.
        moved: Whether images are moved at random.
        callbacks: For `fit`.
        verbose: 1 shows Keras' progress bar, 0 nothing.

    Raises:
        ValueError: when there are fewer images than one batch.
    """
    steps = len(images) // _BATCH
    batches = models.training_batches(
        images, labels, epochs=epochs, seed=seed, batch=_BATCH, moved=moved
    )
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


def load_trained(name: str) -> keras.Model:
    """Load a model of `quantize_aware` that ships with the course (lesson 08).

    Args:
        name: One of `RECIPES`: "W4A4" has 4-bit weights and activations.

    Raises:
        ValueError: for another name, or a damaged file.
        FileNotFoundError: when the file is missing.
    """
    if name not in RECIPES:
        raise ValueError(f"name must be one of {', '.join(RECIPES)}, got {name!r}.")
    path = _path(name)
    way_out = f"Get it back with `git checkout -- quant_tutorial/data`, or train it: {_COMMAND}"
    if not path.exists():
        raise FileNotFoundError(f"The trained model {name} is missing: {path}. {way_out}")
    try:
        return keras.models.load_model(path)
    except Exception as error:  # a zip file, JSON and HDF5 within: each has errors of its own
        raise ValueError(f"The trained model {name} is damaged: {path}. {way_out}") from error


def load_results(path: Path = RESULTS) -> dict[str, Result]:
    """Read the accuracies of all runs, by the name of the recipe (lesson 08).

    Raises:
        FileNotFoundError: when the file is missing.
    """
    if not path.exists():
        raise FileNotFoundError(f"The results are missing: {path}. Make them with {_COMMAND}")
    file = json.loads(path.read_text())
    return {
        name: Result(name, found["ptq"], tuple(run["accuracy"] for run in found["runs"]))
        for name, found in file["recipes"].items()
    }


def _path(name: str, folder: Path = FOLDER) -> Path:
    return folder / f"{name.replace(' ', '_')}.keras"


def _run(name: str, seed: int, data: mnist.Mnist, folder: Path) -> dict[str, Any]:
    """Train one recipe from one seed; give its figures, and write the model of the first seed."""
    recipe, start = RECIPES[name], time.monotonic()
    calibration = mnist.to_float(data.x_train[:_CALIBRATION])
    keras.utils.set_random_seed(seed)
    model = qat.quantize_aware(
        models.load_baseline(), recipe.scheme, calibration, ranges=recipe.ranges
    )
    train(
        model,
        data.x_train,
        data.y_train,
        epochs=recipe.epochs,
        rate=recipe.rate,
        seed=seed,
        moved=recipe.moved,
    )
    minutes = (time.monotonic() - start) / 60
    outputs = models.predict(model, mnist.to_float(data.x_test))
    if seed == recipe.seeds[0] and recipe.ranges == "learned":
        # A plain copy has no optimizer, whose state is twice the size of the weights.
        bare = keras.models.clone_model(model)
        bare.set_weights(model.get_weights())
        saving.write_whole(_path(name, folder), bare.save)
    accuracy = metrics.accuracy(outputs, data.y_test)
    return {"seed": seed, "accuracy": accuracy, "minutes": round(minutes, 1)}


def _ptq(name: str, data: mnist.Mnist, simulator: Simulator) -> dict[str, float]:
    """Measure the same bit widths without training."""
    recipe, found = RECIPES[name], {}
    for calibrator in ("min_max", "mse"):
        scheme = named_scheme(recipe.weight_bits, recipe.activation_bits, calibrator)
        model = simulator.simulated(simulator.params(scheme))
        outputs = models.predict(model, mnist.to_float(data.x_test))
        found[calibrator] = metrics.accuracy(outputs, data.y_test)
    return found


def main() -> None:
    """Train the models of lesson 08 and write them and their accuracies."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", help=f"all by default: {', '.join(RECIPES)}")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--again", action="store_true", help="train what is there once more")
    options = parser.parse_args()
    names = options.names or list(RECIPES)
    if unknown := [name for name in names if name not in RECIPES]:
        parser.error(f"names must be of {', '.join(RECIPES)}; got {unknown[0]}")

    tf.config.experimental.enable_op_determinism()
    data, path = mnist.load(), options.folder / RESULTS.name
    simulator = Simulator(models.load_baseline(), mnist.to_float(data.x_train[:_CALIBRATION]))
    found = json.loads(path.read_text())["recipes"] if path.exists() else {}
    for name in names:
        entry = {"recipe": dataclasses.asdict(RECIPES[name]), "ptq": _ptq(name, data, simulator)}
        known = found.get(name, {})
        same = json.loads(json.dumps(entry["recipe"])) == known.get("recipe")
        entry["runs"] = known["runs"] if same and not options.again else []
        for seed in RECIPES[name].seeds[len(entry["runs"]) :]:
            entry["runs"].append(_run(name, seed, data, options.folder))
            found[name] = entry
            print(name, entry["runs"][-1], flush=True)
            _write(path, {known: found[known] for known in RECIPES if known in found})


def _write(path: Path, found: dict[str, Any]) -> None:
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    content = {
        "command": _COMMAND,
        "images": 10_000,
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), **versions},
        "recipes": found,
    }
    text = json.dumps(content, indent=2) + "\n"
    saving.write_whole(path, lambda part: part.write_text(text))


if __name__ == "__main__":
    main()
