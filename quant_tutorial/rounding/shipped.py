"""Save rounded models, and load those that ship with the course and their results (lesson 11).

They are made by `results`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from quant_tutorial import models, saving
from quant_tutorial.affine import QuantParams
from quant_tutorial.arguments import checked_choice
from quant_tutorial.frameworks import keras
from quant_tutorial.rounding.rounded import Rounded
from quant_tutorial.simulate import ModelParams, prepare

import numpy as np

FOLDER = Path(__file__).parents[1] / "data" / "rounding"
RESULTS = FOLDER.with_suffix(".json")
SHIPPED = tuple(
    f"W{bits}A8 {method}"
    for bits in (4, 3, 2)
    for method in ("nearest", "gptq", "adaround", "best")
)

_COMMAND = "python -m quant_tutorial.rounding.results"
_FIELDS = ("bits", "scale", "zero_point", "signed", "narrow_range", "axis")


class Figures(NamedTuple):
    """What a method achieves with a scheme, over several draws of images (lesson 11)."""

    accuracies: tuple[float, ...]  # on all 10,000 test images, 0 to 1, one for each draw
    seconds: float  # of processor time for all layers, the mean over the draws

    @property
    def mean(self) -> float:
        """The mean accuracy over the draws."""
        return float(np.mean(self.accuracies))

    @property
    def spread(self) -> float:
        """The largest minus the smallest accuracy over the draws."""
        return max(self.accuracies) - min(self.accuracies)


def save(rounded: Rounded, path: Path) -> Path:
    """Write integers, parameters and biases to a compressed NumPy file, and return its path.

    The float model is not in it. Lesson 11.

    Raises:
        OSError: when the file cannot be written.
    """
    params = {
        kind: {name: _as_json(chosen) for name, chosen in getattr(rounded.params, kind).items()}
        for kind in ("weights", "activations")
    }
    arrays = {
        "params": np.array(json.dumps(params)),
        **{f"integers {name}": values for name, values in rounded.integers.items()},
        **{f"bias {name}": values for name, values in rounded.biases.items()},
    }

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)

    return saving.write_whole(path, write)


def restore(path: Path, model: keras.Model) -> Rounded:
    """Return a rounded model from a file of `save`, and the float model that was rounded.

    Lesson 11.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it is damaged or belongs to another model.
    """
    return _restored(path, prepare(model))


def load(name: str) -> Rounded:
    """Load a rounded model that ships with the course (lesson 11).

    Args:
        name: One of `SHIPPED`: "W2A8 gptq" has 2-bit weights rounded by GPTQ, and 8-bit
            activations. "nearest" has the scales with the least mean squared error. "best" is
            AdaRound and then `refine`, the combination with the least error of the logits on other
            training images at W2A8; its accuracy differs little from that of "adaround".

    Raises:
        ValueError: for another name, or a damaged file.
        FileNotFoundError: when the file is missing.
    """
    path = shipped_path(checked_choice("name", name, SHIPPED))
    try:
        return _restored(path, _baseline())
    except (FileNotFoundError, ValueError) as error:
        way_out = f"Get it back with `git checkout -- quant_tutorial/data`, or make it: {_COMMAND}"
        raise type(error)(f"{error} {way_out}") from error


def load_results(path: Path = RESULTS) -> dict[str, dict[str, Figures]]:
    """Load what each method achieves: by scheme ("W2A8"), then by method (lesson 11).

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it is damaged.
    """

    def parse(file: Any) -> dict[str, dict[str, Figures]]:
        return {
            scheme: {
                method: Figures(tuple(run["accuracy"] for run in runs), float(found["seconds"]))
                for method, found in methods.items()
                if (runs := found["runs"])
            }
            for scheme, methods in file["schemes"].items()
        }

    return saving.read_results(path, _COMMAND, parse)


def shipped_path(name: str, folder: Path = FOLDER) -> Path:
    """Return the path of a shipped model's file."""
    return folder / f"{name.replace(' ', '_')}.npz"


@cache
def _baseline() -> keras.Model:
    """Return the course's float model, prepared once for all rounded models that are loaded."""
    return prepare(models.load_baseline())


def _restored(path: Path, base: keras.Model) -> Rounded:
    if not path.exists():
        raise FileNotFoundError(f"The rounded model is missing: {path}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        params = json.loads(str(arrays.pop("params")))
        found = ModelParams(
            *({n: _from_json(p) for n, p in part.items()} for part in params.values())
        )
        by_kind: dict[str, dict[str, Any]] = {"integers": {}, "bias": {}}
        for key, values in arrays.items():
            kind, name = key.split(" ", 1)
            by_kind[kind][name] = values
        weights = {name: w.shape for name, w in models.weights(base).items()}
        if {name: weights.get(name) for name in by_kind["integers"]} != {
            name: q.shape for name, q in by_kind["integers"].items()
        }:
            raise ValueError(f"its layers are not those of model {base.name}")
    except Exception as error:  # NumPy, zip and JSON raise different errors for each damage
        raise ValueError(f"The rounded model is damaged ({error}): {path}.") from error
    return Rounded(found, by_kind["integers"], by_kind["bias"], base)


def _as_json(params: QuantParams | None) -> Mapping[str, Any] | None:
    if params is None:
        return None
    values = {name: getattr(params, name) for name in _FIELDS}
    return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in values.items()}


def _from_json(values: Mapping[str, Any] | None) -> QuantParams | None:
    return None if values is None else QuantParams(**values)
