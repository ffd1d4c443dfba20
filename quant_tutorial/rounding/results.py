"""Measure what each rounding method achieves, and make the rounded models (lesson 11).

`python -m quant_tutorial.rounding.results` writes the accuracy of every run into `rounding.json`,
and the rounded models of the first draw beside it. Runs that are already in that file are not
repeated, so that it can be stopped and continued. Each one that is finished is written at once.
They are independent: `executor` runs them.

A draw is a random choice of training images. They are all that a method gets, for the ranges too,
and their labels are not used. The accuracy is that on all test images.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from quant_tutorial import executor, metrics, mnist, models, saving
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.rounding.equalization import equalize
from quant_tutorial.rounding.learned import adaround, refine
from quant_tutorial.rounding.rounded import Rounded
from quant_tutorial.rounding.second_order import correct_bias, gptq, nearest
from quant_tutorial.rounding.shipped import FOLDER, RESULTS, SHIPPED, save, shipped_path
from quant_tutorial.scheme import LayerScheme, QuantScheme, TensorScheme, named_scheme
from quant_tutorial.simulate import Simulator, with_params

import numpy as np
from numpy.typing import NDArray

DRAWS = (0, 1, 2)
IMAGES = 2000  # in each draw
SCHEMES = {
    **{"W4A8": (4, 8), "W3A8": (3, 8), "W2A8": (2, 8)},
    **{"W4A4": (4, 4), "W3A3": (3, 3), "W2A2": (2, 2)},
}

METHODS = (
    *("nearest, min/max", "nearest", "equalization", "bias correction"),
    *("equalization, bias correction", "gptq", "adaround", "best"),
)

# The methods of a task: "best" begins with the result of "adaround".
_TOGETHER = [(method,) for method in METHODS[:-2]] + [METHODS[-2:]]
_COMMAND = "python -m quant_tutorial.rounding.results"
_QAT = FOLDER.parent / "qat" / "qat.json"


def scheme_of(name: str, calibrator: str | None = None) -> QuantScheme:
    """Return one of `SCHEMES`; the output of the last layer always has 8 bits (lesson 11)."""
    scheme = named_scheme(*SCHEMES[name], calibrator)
    last = TensorScheme(8, calibrator="min_max")
    return scheme.with_layer("logits", LayerScheme(scheme.weights, last))


def draw(images: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
    """Return the images of a draw as the model takes them (lesson 11)."""
    chosen = np.random.default_rng(seed).permutation(len(images))[:IMAGES]
    return mnist.to_float(images[np.sort(chosen)])


class _Draw:
    """The methods with the images of one draw."""

    def __init__(self, images: NDArray[np.uint8], seed: int) -> None:
        self._images, self._seed = draw(images, seed), seed
        self._model = models.load_baseline()
        self._simulator = Simulator(self._model, self._images)
        self._learned = lru_cache(1)(partial(_timed, self._adaround))  # "best" begins with it

    def rounded(self, scheme: str, method: str) -> tuple[Rounded, float]:
        """Return the model rounded by one of `METHODS`, and the processor time in seconds."""
        if method in ("adaround", "best"):
            learned, seconds = self._learned(scheme)
            if method == "adaround":
                return learned, seconds
            best, more = _timed(self._refine, learned)
            return best, seconds + more
        methods: Mapping[str, Callable[[str], Rounded]] = {
            "nearest, min/max": self._min_max,
            "nearest": partial(self._nearest, self._simulator),
            "equalization": lambda name: self._nearest(self._equal, name),
            "bias correction": partial(self._corrected, self._simulator),
            "equalization, bias correction": lambda name: self._corrected(self._equal, name),
            "gptq": self._gptq,
        }
        return _timed(methods[method], scheme)

    @cached_property
    def _equal(self) -> Simulator:
        return Simulator(equalize(self._model), self._images)

    def _min_max(self, name: str) -> Rounded:
        return nearest(self._simulator, scheme_of(name, "min_max"))

    def _nearest(self, simulator: Simulator, name: str) -> Rounded:
        """Round with the scales of the least mean squared error."""
        return nearest(simulator, scheme_of(name))

    def _corrected(self, simulator: Simulator, name: str) -> Rounded:
        return correct_bias(simulator, self._nearest(simulator, name), self._images)

    def _gptq(self, name: str) -> Rounded:
        return gptq(self._simulator, scheme_of(name), self._images, scales="gptq")

    def _adaround(self, name: str) -> Rounded:
        return adaround(self._simulator, scheme_of(name), self._images, seed=self._seed)

    def _refine(self, learned: Rounded) -> Rounded:
        return refine(self._simulator, learned, self._images, seed=self._seed)


def _timed(function: Callable[..., Rounded], *args: object) -> tuple[Rounded, float]:
    """Return a function's result, and the processor time in seconds."""
    start = time.process_time()
    result = function(*args)
    return result, time.process_time() - start


def _accuracy(rounded: Rounded) -> float:
    """Return the accuracy of a rounded model on all test images."""
    data = mnist.load()
    model, images = with_params(rounded.model, rounded.params), mnist.to_float(data.x_test)
    run = tf.function(lambda batch: model(batch, training=False))  # half the time of predict
    batches = range(0, len(images), 500)
    outputs = np.concatenate([run(images[start : start + 500]).numpy() for start in batches])
    return metrics.accuracy(outputs, data.y_test)


@lru_cache(1)
def _methods(seed: int) -> _Draw:
    """Return the methods with a draw, which a worker's next tasks use again."""
    return _Draw(mnist.load().x_train, seed)


def _measure(name: str, seed: int, methods: Sequence[str]) -> list[tuple[str, dict, bytes | None]]:
    """Measure some methods with a scheme and a draw.

    Return the method, its run, and the file of the model, if it ships with the course.
    """
    found = []
    for method in methods:
        rounded, seconds = _methods(seed).rounded(name, method)
        run = {"draw": seed, "accuracy": _accuracy(rounded), "seconds": round(seconds, 1)}
        kept = seed == DRAWS[0] and f"{name} {method}" in SHIPPED
        found.append((method, run, _as_file(rounded) if kept else None))
    return found


def _as_file(rounded: Rounded) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save(rounded, Path(folder) / "rounded.npz").read_bytes()


def main() -> None:
    """Measure the methods of lesson 11, and write their results and the rounded models."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("schemes", nargs="*", help=f"all by default: {', '.join(SCHEMES)}")
    parser.add_argument("--folder", type=Path, default=FOLDER.parent)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--again", action="store_true", help="measure what is there once more")
    executor.add_options(parser)
    options = parser.parse_args()
    names = options.schemes or list(SCHEMES)
    if unknown := [name for name in names if name not in SCHEMES]:
        parser.error(f"schemes must be of {', '.join(SCHEMES)}; got {unknown[0]}")

    path = options.folder / RESULTS.name
    found = json.loads(path.read_text())["schemes"] if path.exists() else {}
    known = {} if options.again else found
    tasks = [
        executor.Task(
            f"{name} draw {seed} {' and '.join(missing)}", _measure, (name, seed, missing)
        )
        for seed in DRAWS
        for name in names
        for together in _TOGETHER
        if (
            missing := _missing(
                known.get(name, {}), seed, [m for m in together if m in options.methods]
            )
        )
    ]
    with executor.from_options(options) as workers:
        for task, measured in executor.run(tasks, workers):
            name = task.arguments[0]
            for method, run, content in measured:
                if content:
                    place = shipped_path(f"{name} {method}", options.folder / FOLDER.name)
                    saving.write_bytes(place, content)
                of_method = found.setdefault(name, {}).get(method, {"runs": []})
                others = [r for r in of_method["runs"] if r["draw"] != run["draw"]]
                found[name][method] = _entry([*others, run])
                print(name, method, run, flush=True)
            _write(path, found)


def _missing(known: dict[str, Any], seed: int, methods: Sequence[str]) -> tuple[str, ...]:
    """Return those methods that have no run with a draw, in the order of `METHODS`."""
    done = {method for method, of in known.items() if seed in [run["draw"] for run in of["runs"]]}
    return tuple(method for method in METHODS if method in methods and method not in done)


def _entry(runs: list[dict[str, Any]]) -> dict[str, Any]:
    accuracies = [run["accuracy"] for run in runs]
    return {
        "mean": round(float(np.mean(accuracies)), 6),
        "spread": round(float(np.ptp(accuracies)), 6),
        "seconds": round(float(np.mean([run["seconds"] for run in runs])), 1),
        "runs": sorted(runs, key=lambda run: run["draw"]),
    }


def _write(path: Path, found: dict[str, Any]) -> None:
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__}
    trained = saving.read_json(_QAT, "The results of lesson 08", "Make them with make qat.")
    accuracies = {
        name: [run["accuracy"] for run in trained["models"][name]["runs"]]
        for name in SCHEMES
        if name in trained["models"]
    }
    content = {
        "command": _COMMAND,
        "images": 10_000,
        "calibration_images": IMAGES,
        "seconds": "processor time for all layers, the sum of all cores",
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), **versions},
        "qat": {name: round(float(np.mean(found)), 6) for name, found in accuracies.items()},
        "schemes": {
            name: {method: found[name][method] for method in METHODS if method in found[name]}
            for name in SCHEMES
            if name in found
        },
    }
    text = json.dumps(content, indent=2) + "\n"
    saving.write_whole(path, lambda part: part.write_text(text))


if __name__ == "__main__":
    main()
