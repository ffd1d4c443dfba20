"""Measure what a second worker brings, for lesson 08.

`python -m quant_tutorial.qat.workers` starts a Dask cluster on this machine, with one worker and
then with two, and gives it short trainings like those of `control`. It writes how long they took
into `workers.json`, beside `qat.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from quant_tutorial import executor, mnist, models, saving
from quant_tutorial.frameworks import keras
from quant_tutorial.qat.model import quantize_aware
from quant_tutorial.qat.shipped import WORKERS
from quant_tutorial.qat.training import CALIBRATION, train
from quant_tutorial.scheme import named_scheme

import numpy as np

TASKS, IMAGES = 8, 6_400

_COMMAND = "python -m quant_tutorial.qat.workers"


def ready() -> float:
    """Return the processor time in seconds until a worker could begin with a training.

    Lesson 08.
    """
    mnist.load()
    return time.process_time()


def short_run(seed: int) -> tuple[float, str]:
    """Train W2A2 for one epoch of few images, and return the processor time and the result.

    The time is in seconds, and the result is a sum over all weights, as text. Lesson 08.
    """
    start, data = time.process_time(), mnist.load()
    keras.utils.set_random_seed(seed)
    calibration = mnist.to_float(data.x_train[:CALIBRATION])
    model = quantize_aware(models.load_baseline(), named_scheme(2, 2), calibration)
    options = {"epochs": 1, "rate": 1e-2, "moved": False}
    train(model, data.x_train[:IMAGES], data.y_train[:IMAGES], seed=seed, **options)
    total = sum(float(np.sum(weights, dtype=np.float64)) for weights in model.get_weights())
    return time.process_time() - start, total.hex()


def measure(workers: int, tasks: int = TASKS) -> tuple[dict[str, Any], dict[str, str]]:
    """Run the trainings on some workers, and return the times and the results by name.

    Lesson 08.

    Raises:
        ImportError: where Dask is not installed.
    """
    from distributed.deploy.subprocess import SubprocessCluster

    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with (
        SubprocessCluster(host="127.0.0.1", **options) as cluster,
        executor.cluster(cluster.scheduler_address) as pool,
    ):
        before = [executor.Task(f"start {n}", ready) for n in range(workers)]
        seconds = [found for _, found in executor.run(before, pool)]
        start = time.monotonic()
        runs = [executor.Task(f"seed {n}", short_run, (n,)) for n in range(1, tasks + 1)]
        found = {task.name: result for task, result in executor.run(runs, pool)}
        elapsed = time.monotonic() - start
    times = {
        "workers": workers,
        "seconds": round(elapsed, 1),
        "processor_seconds": round(sum(seconds for seconds, _ in found.values()), 1),
        "start_processor_seconds": round(max(seconds), 1),
        "load": round(os.getloadavg()[0], 1),
    }
    return times, {name: result for name, (_, result) in found.items()}


def main() -> None:
    """Measure how long short trainings take on one and on two workers of a Dask cluster."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--file", type=Path, default=WORKERS)
    options = parser.parse_args()
    runs, results = zip(*[measure(workers) for workers in (1, 2)], strict=True)
    content = {
        "command": _COMMAND,
        "cores": os.cpu_count(),
        "tasks": TASKS,
        "images": IMAGES,
        "load": "of the machine in the minute before the end: how many processes wanted a core",
        "same_results": results[0] == results[1],
        "runs": runs,
    }
    text = json.dumps(content, indent=2) + "\n"
    saving.write_whole(options.file, lambda part: part.write_text(text))
    print(text)


if __name__ == "__main__":
    main()
