"""Measure what lesson 08 compares quantization-aware training with.

`python -m quant_tutorial.qat.control` writes `control.json`, beside `qat.json`. Its trainings are
those of `TRAINING`, whose rate was chosen on held-out training images. The file has two parts:

- "float": the same training without quantization. The float model is trained for as many further
  epochs, with the same images, rates and seed, and is then rounded by W2A2 with an 8-bit output.
  The gain of QAT over it comes from the rounding in its training, not from the additional epochs.
- "choices": which tensors of W2A2 keep 8 bits. "same": none, all weights and activations have 2
  bits. "output": the output of the last layer. "ends": that, and the weights of the first and of
  the last layer. Each is measured with quantization-aware training (by seeds), and with rounding
  after training (by draws of unlabelled training images; "output" is in lesson 11's results).

Measurements that are already in the file are not repeated, so that it can be stopped and continued.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from quant_tutorial import metrics, mnist, models, rounding, saving
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

_COMMAND = "python -m quant_tutorial.qat.control"
_EIGHT = TensorScheme(8, True, "channel-wise")


class Job(NamedTuple):
    """One measurement: its place in the file, its draw or seed, and how to make it."""

    place: tuple[str, ...]  # the keys that lead to the list of runs
    kind: str  # "draw" or "seed"
    number: int
    measure: Callable[[], dict[str, Any]]


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


def _trained(scheme: QuantScheme, seed: int, data: mnist.Mnist) -> keras.Model:
    """Train the baseline under a scheme, as `TRAINING` describes."""
    config, calibration = TRAINING, mnist.to_float(data.x_train[:CALIBRATION])
    keras.utils.set_random_seed(seed)
    model = quantize_aware(models.load_baseline(), scheme, calibration)
    options = {"epochs": config.epochs, "rate": config.rate, "moved": config.moved}
    return models.copied(train(model, data.x_train, data.y_train, seed=seed, **options))


def _float_run(seed: int, data: mnist.Mnist) -> dict[str, Any]:
    start = time.monotonic()
    model = _trained(IN_FLOAT, seed, data)
    found = {"float": _accuracy(model, data), "minutes": _minutes_since(start)}
    return found | rounded_accuracies(model, choice_scheme("output"), data, DRAWS[seed - 1])


def _qat_run(choice: str, seed: int, data: mnist.Mnist) -> dict[str, Any]:
    start = time.monotonic()
    model = _trained(choice_scheme(choice), seed, data)
    return {"accuracy": _accuracy(model, data), "minutes": _minutes_since(start)}


def _minutes_since(start: float) -> float:
    return round((time.monotonic() - start) / 60, 1)


def jobs(data: mnist.Mnist) -> Iterator[Job]:
    """Yield every measurement of the file (lesson 08)."""
    baseline = models.load_baseline()
    for choice in ("output", "same"):
        for seed in SEEDS:
            train_it = partial(_qat_run, choice, seed, data)
            yield Job(("choices", choice, "qat"), "seed", seed, train_it)
    for seed in SEEDS:
        yield Job(("float",), "seed", seed, partial(_float_run, seed, data))
        for choice in ("same", "ends"):
            number, scheme = DRAWS[seed - 1], choice_scheme(choice)
            round_it = partial(rounded_accuracies, baseline, scheme, data, number)
            yield Job(("choices", choice, "ptq"), "draw", number, round_it)
    for seed in SEEDS:
        yield Job(("choices", "ends", "qat"), "seed", seed, partial(_qat_run, "ends", seed, data))


def main() -> None:
    """Measure what lesson 08 compares quantization-aware training with."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--file", type=Path, default=CONTROL)
    parser.add_argument(
        "--only", default="", help="the keys of a measurement, such as choices.output"
    )
    options = parser.parse_args()

    data, path = mnist.load(), options.file
    content = json.loads(path.read_text()) if path.exists() else {}
    for job in jobs(data):
        if not ".".join(job.place).startswith(options.only):
            continue
        at = content
        for key in job.place:
            at = at.setdefault(key, {})
        runs = at.setdefault("runs", [])
        if any(run[job.kind] == job.number for run in runs):
            continue
        runs.append({job.kind: job.number, **job.measure()})
        runs.sort(key=lambda run: run[job.kind])
        print(".".join(job.place), runs[-1], flush=True)
        _write(path, content)


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
    measured = {part: content[part] for part in ("float", "choices") if part in content}
    text = json.dumps({**header, **measured}, indent=2) + "\n"
    saving.write_whole(path, lambda part: part.write_text(text))


if __name__ == "__main__":
    main()
