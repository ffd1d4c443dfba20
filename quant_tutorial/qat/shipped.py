"""Load the quantized models that ship with the course, and list how each was trained (lesson 08).

They are trained by `training`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from quant_tutorial import saving
from quant_tutorial.arguments import checked_choice
from quant_tutorial.frameworks import keras
from quant_tutorial.qat import layers
from quant_tutorial.scheme import QuantScheme, named_scheme

import numpy as np

FOLDER = Path(__file__).parents[1] / "data" / "qat"
RESULTS = FOLDER / "qat.json"
CONTROL = FOLDER / "control.json"
WORKERS = FOLDER / "workers.json"
SEEDS = (1, 2, 3)

_COMMAND = "python -m quant_tutorial.qat.training"
_CONTROL_COMMAND = "python -m quant_tutorial.qat.control"


@dataclass(frozen=True)
class TrainingConfig:
    """How one of the shipped models is trained (lesson 08).

    The optimizer is Adam, with a learning rate that falls from `rate` to 0 along a cosine. With
    `moved`, each image is moved a little at random, as in the float training; at 2 and 3 bits the
    network learned less well that way.
    """

    weight_bits: int
    activation_bits: int
    epochs: int
    rate: float
    moved: bool = True
    ranges: layers.Ranges = "learned"
    seeds: tuple[int, ...] = SEEDS

    @property
    def scheme(self) -> QuantScheme:
        """The scheme: symmetric channel-wise weights, activations with one scale, 8-bit input."""
        return named_scheme(self.weight_bits, self.activation_bits)


# Lesson 08's table shows the models with three seeds. The other widths, with one seed each, are for
# its slider.
SHIPPED: dict[str, TrainingConfig] = {
    "W2A2": TrainingConfig(2, 2, epochs=12, rate=2e-3, moved=False),
    "W4A4": TrainingConfig(4, 4, epochs=12, rate=1e-3),
    "W3A3": TrainingConfig(3, 3, epochs=12, rate=1e-3, moved=False),
    "W2A8": TrainingConfig(2, 8, epochs=8, rate=2e-3, moved=False),
    "W8A8": TrainingConfig(8, 8, epochs=3, rate=1e-4),
    "W4A8": TrainingConfig(4, 8, epochs=3, rate=1e-4, seeds=SEEDS[:1]),
    "W5A5": TrainingConfig(5, 5, epochs=6, rate=5e-4, seeds=SEEDS[:1]),
    "W6A6": TrainingConfig(6, 6, epochs=4, rate=2e-4, seeds=SEEDS[:1]),
    "W7A7": TrainingConfig(7, 7, epochs=3, rate=1e-4, seeds=SEEDS[:1]),
    "W2A2 moving_average": TrainingConfig(
        2, 2, 12, 2e-3, moved=False, ranges="moving_average", seeds=SEEDS[:1]
    ),
    "W2A2 fixed": TrainingConfig(2, 2, 12, 2e-3, moved=False, ranges="fixed", seeds=SEEDS[:1]),
}


class Result(NamedTuple):
    """Accuracies of a model on all 10,000 test images, 0 to 1, from `qat.json` (lesson 08)."""

    name: str  # one of `SHIPPED`
    ptq: dict[str, float]  # by calibrator, the same bit widths without training
    qat: tuple[float, ...]  # one for each seed

    @property
    def mean(self) -> float:
        """The mean accuracy over the seeds."""
        return float(np.mean(self.qat))

    @property
    def spread(self) -> float:
        """The largest minus the smallest accuracy over the seeds."""
        return max(self.qat) - min(self.qat)


def load_trained(name: str) -> keras.Model:
    """Load a model of `quantize_aware` that ships with the course (lesson 08).

    Args:
        name: One of `SHIPPED`: "W4A4" has 4-bit weights and activations.

    Raises:
        ValueError: for another name, or a damaged file.
        FileNotFoundError: when the file is missing.
    """
    path = model_path(checked_choice("name", name, SHIPPED))
    way_out = f"Get it back with `git checkout -- quant_tutorial/data`, or train it: {_COMMAND}"
    if not path.exists():
        raise FileNotFoundError(f"The trained model {name} is missing: {path}. {way_out}")
    try:
        return keras.models.load_model(path)
    except Exception as error:  # the zip file and the JSON and HDF5 in it raise different errors
        raise ValueError(f"The trained model {name} is damaged: {path}. {way_out}") from error


def load_results(path: Path = RESULTS) -> dict[str, Result]:
    """Load the accuracies of all runs, by the name of the model (lesson 08).

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it is damaged.
    """

    def parse(file: Any) -> dict[str, Result]:
        return {
            name: Result(name, found["ptq"], tuple(run["accuracy"] for run in found["runs"]))
            for name, found in file["models"].items()
        }

    return saving.read_results(path, _COMMAND, parse)


class Control(NamedTuple):
    """What QAT is compared with: accuracies on all 10,000 test images, 0 to 1 (lesson 08).

    A way is "float" (not quantized), "accuracy" (of QAT), or one of lesson 11's ways to round:
    "nearest" and "best". Each has one accuracy for each run. The trainings are `training`.
    """

    further: dict[str, tuple[float, ...]]  # after further float epochs: by way
    # Of W2A2, by the choice of what keeps 8 bits (see `qat.control`), by "ptq" or "qat", by way.
    choices: dict[str, dict[str, dict[str, tuple[float, ...]]]]
    widths: dict[str, tuple[float, ...]]  # of QAT with an 8-bit output, by the scheme's name
    training: dict[str, Any]  # the settings of all its trainings, as in `TrainingConfig`


def load_control(path: Path = CONTROL) -> Control:
    """Load the accuracies that `qat.control` has measured (lesson 08).

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it is damaged.
    """
    way_out = f"Make it with {_CONTROL_COMMAND}"
    file = saving.read_json(path, "The control's figures", way_out)
    try:
        return Control(
            _by_way(file["float"]["runs"]),
            {
                choice: {kind: _by_way(found["runs"]) for kind, found in kinds.items()}
                for choice, kinds in file["choices"].items()
            },
            {
                name: _by_way(kinds["qat"]["runs"])["accuracy"]
                for name, kinds in file["widths"].items()
            },
            dict(file["training"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The control's figures are damaged ({error!r}): {path}. {way_out}"
        ) from None


def _by_way(runs: list[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    ways = [key for key in runs[0] if key not in ("seed", "draw", "minutes")] if runs else []
    return {way: tuple(float(run[way]) for run in runs) for way in ways}


def model_path(name: str, folder: Path = FOLDER) -> Path:
    """Return the path of a shipped model's file."""
    return folder / f"{name.replace(' ', '_')}.keras"
