"""Measure what lesson 08 compares quantization-aware training with.

`python -m quant_tutorial.qat.control` writes `control.json`, beside `qat.json`. Its trainings are
those of `TRAINING`, whose rate was chosen on held-out training images. The file has three parts:

- "float": the same training without quantization. The float model is trained for as many further
  epochs, with the same images, rates and seed, and is then rounded by W2A2 with an 8-bit output.
  The gain of QAT over it comes from the rounding in its training, not from the additional epochs.
- "choices": which tensors of W2A2 keep 8 bits. "same": none, all weights and activations have 2
  bits. "output": the output of the last layer. "ends": that, and the weights of the first and of
  the last layer. Each is measured with quantization-aware training (by seeds), and with rounding
  after training (by draws of unlabelled training images; "output" is in lesson 11's results).
- "widths": W4A4 and W3A3 with an 8-bit output, the schemes of lesson 11, by quantization-aware
  training. It differs from that of W2A2 in the rate alone. "rates" has those that were tried, with
  the loss on training images that were held out (from this training, not from the float model's);
  the runs have the rate with the lowest.

Measurements that are already in the file are not repeated, so that it can be stopped and continued.
Each one that is finished is written at once. They are independent: `executor` runs them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from quant_tutorial import executor, metrics, mnist, models, rounding, saving
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.qat.model import quantize_aware
from quant_tutorial.qat.shipped import CONTROL, SEEDS, TrainingConfig
from quant_tutorial.qat.training import CALIBRATION, train
from quant_tutorial.rounding.results import DRAWS, IMAGES, draw, scheme_of
from quant_tutorial.scheme import IN_FLOAT, LayerScheme, QuantScheme, TensorScheme, named_scheme
from quant_tutorial.simulate import Simulator, with_params

import numpy as np

TRAINING = TrainingConfig(2, 2, epochs=4, rate=1e-2, moved=False)
CHOICES = ("same", "output", "ends")
WIDTHS = {
    "W4A4": dataclasses.replace(TRAINING, weight_bits=4, activation_bits=4, rate=1e-3),
    "W3A3": dataclasses.replace(TRAINING, weight_bits=3, activation_bits=3, rate=3e-3),
}
RATES = (1e-3, 3e-3, 1e-2)
HELD_OUT = 5000  # of the training images, the last, for the choice of a rate

_COMMAND = "python -m quant_tutorial.qat.control"
_EIGHT = TensorScheme(8, True, "channel-wise")


class Job(NamedTuple):
    """One measurement: its place in the file, what tells its runs apart, and how to make it."""

    place: tuple[str, ...]  # the keys that lead to the list of runs
    kind: str  # "draw", "seed" or "rate"
    number: float
    measure: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{'.'.join(self.place)} {self.kind} {self.number}"


def choice_scheme(choice: str) -> QuantScheme:
    """Return the W2A2 scheme in which one of `CHOICES` keeps 8 bits (lesson 08)."""
    if choice == "same":
        return named_scheme(2, 2)
    scheme = scheme_of("W2A2")
    if choice == "output":
        return scheme
    last = LayerScheme(_EIGHT, scheme.for_layer("logits").activations)
    first = LayerScheme(_EIGHT, scheme.activations)
    return scheme.with_layer("conv1", first).with_layer("logits", last)


def rounded_accuracies(
    model: keras.Model, scheme: QuantScheme, data: mnist.Mnist, seed: int
) -> dict[str, float]:
    """Round a float model in two ways, and return the accuracies on all test images (lesson 08).

    Both ways get the same draw of unlabelled training images, and nothing else. They are the first
    and the last of lesson 11's: "nearest", with ranges of the least squared error, and "best",
    which is AdaRound, improved by single changes.
    """
    images = draw(data.x_train, seed)
    simulator = Simulator(model, images)
    learned = rounding.adaround(simulator, scheme, images, seed=seed)
    found = {
        "nearest": rounding.nearest(simulator, scheme),
        "best": rounding.refine(simulator, learned, images, seed=seed),
    }
    return {
        name: _accuracy(with_params(rounded.model, rounded.params), data)
        for name, rounded in found.items()
    }


def _accuracy(model: keras.Model, data: mnist.Mnist) -> float:
    return metrics.accuracy(models.predict(model, mnist.to_float(data.x_test)), data.y_test)


def _trained(
    scheme: QuantScheme, seed: int, data: mnist.Mnist, config: TrainingConfig = TRAINING
) -> keras.Model:
    """Train the baseline under a scheme, as a configuration describes."""
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    calibration = mnist.to_float(data.x_train[:CALIBRATION])
    model = quantize_aware(models.load_baseline(), scheme, calibration)
    options = {"epochs": config.epochs, "rate": config.rate, "moved": config.moved}
    return models.copied(train(model, data.x_train, data.y_train, seed=seed, **options))


def _float_run(seed: int) -> dict[str, Any]:
    start, data = time.monotonic(), mnist.load()
    model = _trained(IN_FLOAT, seed, data)
    found = {"float": _accuracy(model, data), "minutes": _minutes_since(start)}
    return found | rounded_accuracies(model, choice_scheme("output"), data, DRAWS[seed - 1])


def _ptq_run(choice: str, draw: int) -> dict[str, Any]:
    return rounded_accuracies(models.load_baseline(), choice_scheme(choice), mnist.load(), draw)


def _qat_run(choice: str, seed: int) -> dict[str, Any]:
    start, data = time.monotonic(), mnist.load()
    model = _trained(choice_scheme(choice), seed, data)
    return {"accuracy": _accuracy(model, data), "minutes": _minutes_since(start)}


def _width_run(name: str, seed: int) -> dict[str, Any]:
    start, data = time.monotonic(), mnist.load()
    model = _trained(scheme_of(name), seed, data, WIDTHS[name])
    return {"accuracy": _accuracy(model, data), "minutes": _minutes_since(start)}


def _rate_run(name: str, rate: float) -> dict[str, Any]:
    """Train without the images that are held out, and measure the loss and accuracy on these."""
    data, seed = mnist.load(), SEEDS[0]
    rest = data._replace(x_train=data.x_train[:-HELD_OUT], y_train=data.y_train[:-HELD_OUT])
    config = dataclasses.replace(WIDTHS[name], rate=rate)
    model = _trained(scheme_of(name), seed, rest, config)
    labels = data.y_train[-HELD_OUT:]
    outputs = models.predict(model, mnist.to_float(data.x_train[-HELD_OUT:]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, outputs)
    return {"loss": round(float(loss), 6), "accuracy": metrics.accuracy(outputs, labels)}


def _minutes_since(start: float) -> float:
    return round((time.monotonic() - start) / 60, 1)


def jobs() -> Iterator[Job]:
    """Yield every measurement of the file (lesson 08)."""
    for choice in ("output", "same"):
        for seed in SEEDS:
            yield Job(("choices", choice, "qat"), "seed", seed, _qat_run, (choice, seed))
    for seed in SEEDS:
        yield Job(("float",), "seed", seed, _float_run, (seed,))
        for choice in ("same", "ends"):
            number = DRAWS[seed - 1]
            yield Job(("choices", choice, "ptq"), "draw", number, _ptq_run, (choice, number))
    for seed in SEEDS:
        yield Job(("choices", "ends", "qat"), "seed", seed, _qat_run, ("ends", seed))
    for name in WIDTHS:
        for rate in RATES:
            yield Job(("widths", name, "rates"), "rate", rate, _rate_run, (name, rate))
        for seed in SEEDS:
            yield Job(("widths", name, "qat"), "seed", seed, _width_run, (name, seed))


def main() -> None:
    """Measure what lesson 08 compares quantization-aware training with."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--file", type=Path, default=CONTROL)
    parser.add_argument(
        "--only", default="", help="the keys of a measurement, such as choices.output"
    )
    executor.add_options(parser)
    options = parser.parse_args()

    path = options.file
    content = json.loads(path.read_text()) if path.exists() else {}
    missing = {
        job.name: job
        for job in jobs()
        if ".".join(job.place).startswith(options.only)
        and all(run[job.kind] != job.number for run in _runs(content, job))
    }
    tasks = [executor.Task(name, job.measure, job.arguments) for name, job in missing.items()]
    with executor.from_options(options) as workers:
        for task, found in executor.run(tasks, workers):
            job = missing[task.name]
            runs = _runs(content, job)
            runs.append({job.kind: job.number, **found})
            runs.sort(key=lambda run: run[job.kind])
            print(task.name, found, flush=True)
            _write(path, content)


def _runs(content: dict[str, Any], job: Job) -> list[dict[str, Any]]:
    """Return the runs at a job's place in the file's content, where new ones can be added."""
    at = content
    for key in job.place:
        at = at.setdefault(key, {})
    return at.setdefault("runs", [])


def _write(path: Path, content: dict[str, Any]) -> None:
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__}
    header = {
        "command": _COMMAND,
        "images": 10_000,
        "calibration_images": IMAGES,
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), **versions},
        "training": dataclasses.asdict(TRAINING),
    }
    measured: dict[str, Any] = {"float": {}, "choices": {}, "widths": {}}
    for job in jobs():  # in this order, whichever was finished first
        if runs := _runs(content, job):
            _runs(measured, job)[:] = runs
    text = json.dumps({**header, **measured}, indent=2) + "\n"
    saving.write_whole(path, lambda part: part.write_text(text))


if __name__ == "__main__":
    main()
