"""Measure what each rounding method achieves, and make the rounded models (lesson 11).

`python -m quant_tutorial.rounding.results` writes the accuracy of every run into `rounding.json`,
and the rounded models of the first draw beside it. Runs that are already in that file are not
repeated, so that it can be stopped and continued.

A draw is a random choice of training images. They are all that a method gets, for the ranges too,
and their labels are not used. The accuracy is that on all test images.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quant_tutorial import metrics, mnist, models, saving
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
SCHEMES = {"W4A8": (4, 8), "W3A8": (3, 8), "W2A8": (2, 8), "W4A4": (4, 4), "W3A3": (3, 3)}

_COMMAND = "python -m quant_tutorial.rounding.results"
_QAT = FOLDER.parent / "qat" / "qat.json"

Method = Callable[[keras.Model, QuantScheme, NDArray[np.float32], int], Rounded]


def scheme_of(name: str, calibrator: str | None = None) -> QuantScheme:
    """Return one of `SCHEMES`; the output of the last layer always has 8 bits (lesson 11)."""
    scheme = named_scheme(*SCHEMES[name], calibrator)
    last = TensorScheme(8, calibrator="min_max")
    return scheme.with_layer("logits", LayerScheme(scheme.weights, last))


def draw(images: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
    """Return the images of a draw as the model takes them (lesson 11)."""
    chosen = np.random.default_rng(seed).permutation(len(images))[:IMAGES]
    return mnist.to_float(images[np.sort(chosen)])


def _nearest(
    model: keras.Model, scheme: QuantScheme, images: NDArray[np.float32], seed: int
) -> Rounded:
    return nearest(Simulator(model, images), scheme)


def _equalized(
    model: keras.Model, scheme: QuantScheme, images: NDArray[np.float32], seed: int
) -> Rounded:
    return nearest(Simulator(equalize(model), images), scheme)


def _corrected(
    model: keras.Model, scheme: QuantScheme, images: NDArray[np.float32], seed: int
) -> Rounded:
    simulator = Simulator(model, images)
    return correct_bias(simulator, nearest(simulator, scheme), images)


def _equalized_and_corrected(
    model: keras.Model, scheme: QuantScheme, images: NDArray[np.float32], seed: int
) -> Rounded:
    return _corrected(equalize(model), scheme, images, seed)


def _gptq(
    model: keras.Model, scheme: QuantScheme, images: NDArray[np.float32], seed: int
) -> Rounded:
    return gptq(Simulator(model, images), scheme, images, scales="gptq")


def _adaround(
    model: keras.Model, scheme: QuantScheme, images: NDArray[np.float32], seed: int
) -> Rounded:
    return adaround(Simulator(model, images), scheme, images, seed=seed)


def _best(
    model: keras.Model, scheme: QuantScheme, images: NDArray[np.float32], seed: int
) -> Rounded:
    simulator = Simulator(model, images)
    start = adaround(simulator, scheme, images, seed=seed)
    return refine(simulator, start, images, seed=seed)


METHODS: Mapping[str, Method] = {
    "nearest, min/max": _nearest,
    "nearest": _nearest,  # with the scales of the least mean squared error, as all that follow
    "equalization": _equalized,
    "bias correction": _corrected,
    "equalization, bias correction": _equalized_and_corrected,
    "gptq": _gptq,
    "adaround": _adaround,
    "best": _best,
}


def _run(scheme: str, method: str, seed: int, data: mnist.Mnist, folder: Path) -> dict[str, Any]:
    """Round the model with the images of one draw, and return the accuracy and the time.

    The models of the first draw are written to the folder, if they are shipped.
    """
    model, images = models.load_baseline(), draw(data.x_train, seed)
    chosen = scheme_of(scheme, "min_max" if method == "nearest, min/max" else None)
    start = time.process_time()
    rounded = METHODS[method](model, chosen, images, seed)
    seconds = time.process_time() - start
    outputs = models.predict(
        with_params(rounded.model, rounded.params), mnist.to_float(data.x_test)
    )
    if seed == DRAWS[0] and f"{scheme} {method}" in SHIPPED:
        save(rounded, shipped_path(f"{scheme} {method}", folder))
    accuracy = metrics.accuracy(outputs, data.y_test)
    return {"draw": seed, "accuracy": accuracy, "seconds": round(seconds, 1)}


def main() -> None:
    """Measure the methods of lesson 11, and write their results and the rounded models."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("schemes", nargs="*", help=f"all by default: {', '.join(SCHEMES)}")
    parser.add_argument("--folder", type=Path, default=FOLDER.parent)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--again", action="store_true", help="measure what is there once more")
    options = parser.parse_args()
    names = options.schemes or list(SCHEMES)
    if unknown := [name for name in names if name not in SCHEMES]:
        parser.error(f"schemes must be of {', '.join(SCHEMES)}; got {unknown[0]}")

    data, path = mnist.load(), options.folder / RESULTS.name
    found = json.loads(path.read_text())["schemes"] if path.exists() else {}
    for seed in DRAWS:
        for name in names:
            for method in options.methods:
                runs = found.setdefault(name, {}).setdefault(method, {"runs": []})["runs"]
                known = [run for run in runs if run["draw"] == seed]
                if known and not options.again:
                    continue
                run = _run(name, method, seed, data, options.folder / FOLDER.name)
                found[name][method] = _entry([*(r for r in runs if r["draw"] != seed), run])
                print(name, method, run, flush=True)
                _write(path, found)


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
