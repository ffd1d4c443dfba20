"""Read a reader's model and data, and refuse what no report can be made of (lesson 12)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant_tutorial import models, quiet
from quant_tutorial.arguments import checked_calibration, checked_classes
from quant_tutorial.frameworks import keras
from quant_tutorial.report.measuring import predicted
from quant_tutorial.table import Table
from quant_tutorial.tflite.saved_model import model_input

import numpy as np
from numpy.typing import NDArray

# Under these names the arrays of a data file are found without being told, in this order.
IMAGES = ("x_test", "images", "x")
CALIBRATION = ("calibration", "x_train")
LABELS = ("y_test", "labels", "y")
MOST_IMAGES, MOST_CALIBRATION = 1000, 300
_PACKAGES = ("quant_tutorial", "tensorflow", "keras", "ai-edge-litert", "litert-quantizer")


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with the data on which it is quantized and measured (lesson 12).

    Attributes:
        name: The model's file name without its ending.
        model: The float model, with one input and one output.
        calibration: Images as the model takes them, shape (n, …), from which ranges are measured.
        images: Other such images, on which everything is measured.
        labels: The class of each of `images`, shape (n,), or None where there are none.
        outputs: What the float model gives for `images`, shape (n, …).
        input_range: The range of the model's input, told or taken from `calibration`.
        told_range: Whether the range was told.
        notes: What was chosen while reading, in whole sentences.
        fingerprint: A digest of model, data, range and versions: equal ones give equal reports.
    """

    name: str
    model: keras.Model
    calibration: NDArray[Any]
    images: NDArray[Any]
    labels: NDArray[np.integer] | None
    outputs: NDArray[np.float32]
    input_range: tuple[float, float]
    told_range: bool
    notes: tuple[str, ...]
    fingerprint: str

    @property
    def table(self) -> Table:
        """A table of what was read."""
        low, high = self.input_range
        labels = "none" if self.labels is None else f"{len(np.unique(self.labels))} classes"
        return Table(
            ["what", "value"],
            [
                ["model", self.name],
                ["parameters", f"{self.model.count_params():,}"],
                ["input", f"{self.images.dtype}, shape {('n', *self.images.shape[1:])}"],
                ["input range", f"{low:.4g} to {high:.4g}, {_source(self.told_range)}"],
                ["calibration images", f"{len(self.calibration):,}"],
                ["images to measure on", f"{len(self.images):,}"],
                ["labels", labels],
            ],
        )

    def __repr__(self) -> str:
        """Return the table and the notes as text."""
        return "\n".join([repr(self.table), *self.notes])

    def _repr_html_(self) -> str:
        return self.table._repr_html_() + "".join(f"<p>{note}</p>" for note in self.notes)


def load(
    model_file: str | Path,
    data_file: str | Path,
    *,
    labels: str | None = None,
    input_range: tuple[float, float] | None = None,
    images: str | None = None,
    calibration: str | None = None,
) -> Subject:
    """Read a Keras model and an .npz file with its data (lesson 12).

    At most 1,000 images are measured on and at most 300 calibrate, spread evenly over the file.
    Without calibration images in the file, a part of the images calibrates and is then not
    measured on.

    Args:
        model_file: A `.keras` or `.h5` file.
        data_file: An `.npz` file with arrays of images as the model takes them.
        labels: The name of the array of classes, one whole number for each image.
        input_range: The range of the model's input; None takes it from the calibration images.
        images: The name of the images; None takes the first of `IMAGES` that is there.
        calibration: The name of the calibration images; None takes the first of `CALIBRATION`
            that is there.

    Raises:
        FileNotFoundError: when one of the files is missing.
        ValueError: for files of another kind, a name that the data file lacks, images that the
            model cannot take, labels that do not match the images, and images in another range
            than the model was trained on, as far as range and labels show it.
    """
    model = _model(Path(model_file))
    arrays = _arrays(Path(data_file))
    entry = model_input(model)
    key = _chosen("images", images, IMAGES, arrays)
    found = _images(key, arrays[key], entry.shape[1:])
    classes = None if labels is None else _labels(labels, arrays, found, key)
    notes = _unused_labels(labels, arrays, len(found))
    other = _optional("calibration", calibration, CALIBRATION, arrays)
    if other is None:
        chosen = _spread(len(found), min(MOST_CALIBRATION, max(1, len(found) // 4)))
        rest = np.setdiff1d(np.arange(len(found)), chosen)
        if not len(rest):
            raise ValueError(f"{key} must hold at least two images, got {len(found)}.")
        some = found[chosen]
        notes.append(
            f"The file has no calibration images ({' or '.join(CALIBRATION)}): "
            f"{len(chosen):,} of {key} calibrate, and the measurements use the others."
        )
    else:
        some = _images(other, arrays[other], entry.shape[1:])
        some, rest = some[_spread(len(some), MOST_CALIBRATION)], np.arange(len(found))
    rest = rest[_spread(len(rest), MOST_IMAGES)]
    found, classes = found[rest], None if classes is None else classes[rest]
    some, found = (
        checked_calibration(values, entry.shape, input_range, entry.dtype)
        for values in (some, found)
    )
    told = input_range is not None
    if input_range is None:
        input_range = _measured_range(some)
    outputs = models.predict(model, found)
    if classes is not None:
        _require_classes(labels, classes, outputs)
    digest = _fingerprint(Path(model_file), (some, found, classes), input_range)
    return Subject(
        *(Path(model_file).stem, model, some, found, classes),
        outputs=outputs,
        input_range=input_range,
        told_range=told,
        notes=tuple(notes),
        fingerprint=digest,
    )


def _source(told: bool) -> str:
    return "as told" if told else "as the calibration images have it"


def _model(path: Path) -> keras.Model:
    if not path.exists():
        raise FileNotFoundError(f"model: there is no file {path}.")
    if path.suffix not in (".keras", ".h5"):
        raise ValueError(
            f"model must be a .keras or .h5 file, got {path}: save the model with "
            "model.save('model.keras')."
        )
    try:
        with quiet.all_output():
            model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"model: Keras cannot read {path} ({first}). Save it with this Keras "
            f"({keras.__version__}), and give classes of your own @keras.saving."
            "register_keras_serializable()."
        ) from error
    model_input(model)
    if len(model.outputs) != 1:
        raise ValueError(
            f"model must have one output, it has {len(model.outputs)}: make a model for each, "
            "keras.Model(model.input, model.outputs[0])."
        )
    models.require_float32(model)
    models.require_finite_weights(model)
    return models.single_ended(model)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.exists():
        raise FileNotFoundError(f"data: there is no file {path}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, AttributeError, TypeError) as error:
        raise ValueError(
            f"data must be an .npz file of arrays, got {path} ({error}): write one with "
            "np.savez('data.npz', x_train=…, x_test=…, y_test=…)."
        ) from None


def _optional(
    what: str, name: str | None, known: tuple[str, ...], arrays: Mapping[str, Any]
) -> str | None:
    if name is not None and name not in arrays:
        raise ValueError(f"{what}: the data file has no array {name!r}; it has {_names(arrays)}.")
    return name or next((key for key in known if key in arrays), None)


def _chosen(what: str, name: str | None, known: tuple[str, ...], arrays: Mapping[str, Any]) -> str:
    found = _optional(what, name, known, arrays)
    if found is None:
        raise ValueError(
            f"{what}: the data file has none of the arrays {', '.join(known)}; it has "
            f"{_names(arrays)}. Say which one holds the images (--images KEY)."
        )
    return found


def _names(arrays: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "none"


def _images(name: str, array: NDArray[Any], shape: tuple[int | None, ...]) -> NDArray[Any]:
    if array.shape[1:] != tuple(shape) or not len(array):
        hint = ""
        if (*array.shape[1:], 1) == tuple(shape):
            hint = f" Give it the last axis: {name}[..., np.newaxis]."
        raise ValueError(f"{name} must have the shape {('n', *shape)}, got {array.shape}.{hint}")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must hold numbers, got {array.dtype}.")
    return array


def _labels(
    name: str, arrays: Mapping[str, NDArray[Any]], images: NDArray[Any], key: str
) -> NDArray[np.integer]:
    if name not in arrays:
        raise ValueError(f"labels: the data file has no array {name!r}; it has {_names(arrays)}.")
    found = arrays[name]
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim == 2:
        raise ValueError(
            f"{name} must hold one class for each image, got {found.shape}: one-hot labels need "
            f"{name}.argmax(axis=1)."
        )
    if found.shape != (len(images),):
        raise ValueError(
            f"{name} must hold one class for each of the {len(images):,} images of {key}, got "
            f"{found.shape}."
        )
    return checked_classes(name, found)


def _require_classes(
    name: str | None, classes: NDArray[np.integer], outputs: NDArray[np.float32]
) -> None:
    """Raise a ValueError for classes that the model's outputs do not have."""
    if predicted(outputs) is None:
        raise ValueError(
            f"{name}: the model's output has the shape {('n', *outputs.shape[1:])}, which is "
            "not one score for each class. Leave the labels out: the outputs of each file are then "
            "compared with the float model's."
        )
    count = max(outputs.shape[1], 2)
    if classes.min() < 0 or classes.max() >= count:
        raise ValueError(
            f"{name} must hold classes from 0 to {count - 1}, as the model's output has, got "
            f"{classes.min()} to {classes.max()}."
        )


def _unused_labels(
    labels: str | None, arrays: Mapping[str, NDArray[Any]], images: int
) -> list[str]:
    if labels is not None:
        return []
    known = [name for name in LABELS if name in arrays and len(arrays[name]) == images]
    return [
        f"No labels were given, so that accuracy cannot be measured. The file has {name}: "
        f"say labels={name!r} (--labels {name})."
        for name in known[:1]
    ]


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """Return so many of the indices, spread evenly: files are often sorted by class."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.intp))


def _measured_range(values: NDArray[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low, low + 1)


def _fingerprint(model_file: Path, arrays: tuple[Any, ...], input_range: Any) -> str:
    versions = [importlib.metadata.version(name) for name in _PACKAGES]
    found = hashlib.sha256(repr((tuple(map(float, input_range)), versions)).encode())
    found.update(model_file.read_bytes())
    for array in arrays:
        if array is not None:
            found.update(repr((array.shape, array.dtype.str)).encode())
            found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
