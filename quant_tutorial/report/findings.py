"""Check a model with its data before anything is converted (lesson 12)."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from quant_tutorial import metrics, models
from quant_tutorial.frameworks import keras
from quant_tutorial.report.measuring import predicted
from quant_tutorial.report.subject import Subject
from quant_tutorial.table import Table

import numpy as np
from numpy.typing import NDArray

_SCALING = (keras.layers.Rescaling, keras.layers.Normalization)
_ENOUGH = 100  # calibration images
_FEW = 500  # images to measure on: an accuracy of 97% is then known to about ±1.5 points
_SOME = 300  # images on which other preprocessings are tried
_BETTER = 0.2  # by how much another preprocessing has to be better


class Finding(NamedTuple):
    """One thing that was checked (lesson 12)."""

    state: str  # "good", "look" or "stop"
    what: str
    sentence: str


@dataclass(frozen=True)
class Findings:
    """What the checks of a model and its data have found (lesson 12)."""

    found: tuple[Finding, ...]

    @property
    def table(self) -> Table:
        """A table with one row for each check."""
        return Table(["", "check", "result"], [list(finding) for finding in self.found])

    def stop(self) -> None:
        """Do nothing, or raise a ValueError for a finding that makes all measurements worthless."""
        for finding in self.found:
            if finding.state == "stop":
                raise ValueError(f"{finding.what}: {finding.sentence}")

    def __repr__(self) -> str:
        """Return one line for each check."""
        return "\n".join(f"{f.state:5} {f.what}: {f.sentence}" for f in self.found)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><strong>{html.escape(f.state)}</strong></td>"
            f"<td style='text-align: left'>{html.escape(f.what)}</td>"
            f"<td style='text-align: left; white-space: normal'>{html.escape(f.sentence)}</td></tr>"
            for f in self.found
        )
        return f"<table><tbody>{rows}</tbody></table>"


def check(subject: Subject) -> Findings:
    """Check range, preprocessing, balance and output of a model with its data (lesson 12).

    A finding "stop" means that measuring is worthless before it is mended.
    """
    return Findings(
        (
            *_about_preprocessing(subject),
            *_about_calibration(subject),
            *_about_output(subject.outputs, subject.labels is not None),
            *_about_count(subject),
        )
    )


def scaling_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers that preprocess inside a model, those of nested models too (lesson 12)."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, _SCALING)]


def preprocessings(values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return images as other programs might have preprocessed them, by what was done (lesson 12).

    Pixels have three usual ranges: 0 to 255, 0 to 1 and −1 to 1. Images of each are converted to
    the two others.
    """
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high > 1.5:
        unit = values / np.float32(255)
        return {"divided by 255": unit, "scaled to −1 to 1": 2 * unit - 1}
    if low >= 0:
        return {"times 255": 255 * values, "scaled to −1 to 1": 2 * values - 1}
    if low >= -1 and high <= 1:
        unit = (values + 1) / 2
        return {"scaled to 0 to 1": unit, "scaled to 0 to 255": 255 * unit}
    return {}


def _about_preprocessing(subject: Subject) -> Iterator[Finding]:
    inside = scaling_layers(subject.model)
    names = ", ".join(_named(layer) for layer in inside)
    sentence = (
        f"The model preprocesses its input itself ({names}): calibrate it and feed it with inputs "
        "as they are before this layer."
        if inside
        else "The model has no layer that rescales its input: images have to be preprocessed as "
        "for its training, for calibration as well as on the device."
    )
    yield Finding("look" if inside else "good", "preprocessing", sentence)
    if subject.images.dtype.kind != "f":
        return
    low, high = subject.input_range
    yield from _about_scale(subject)
    outside = np.mean((subject.images < low) | (subject.images > high))
    yield Finding(
        "look" if outside > 0.001 else "good",
        "range",
        f"The calibration images lie from {subject.calibration.min():.4g} to "
        f"{subject.calibration.max():.4g}; {outside:.1%} of the values of the other images lie "
        f"outside {low:.4g} to {high:.4g}.",
    )


def _about_scale(subject: Subject) -> Iterator[Finding]:
    if subject.labels is None:
        return
    labels = subject.labels[:_SOME]
    own = _accuracy(subject.outputs[:_SOME], labels)
    if own is None:
        return
    shares = {
        way: _accuracy(models.predict(subject.model, images), labels)
        for way, images in preprocessings(subject.images[:_SOME]).items()
    }
    best = max(shares, key=lambda way: shares[way] or 0, default=None)
    if best is not None and shares[best] > own + _BETTER:
        yield Finding(
            "stop",
            "scale of the images",
            f"Of {len(labels)} images the float model gets {own:.0%} right as they are, and "
            f"{shares[best]:.0%} {best}. Save them preprocessed as for the model's training.",
        )
    else:
        if best is None:
            others = ". Their range is none of the usual ones of pixels: no other was tried."
        elif shares[best] > own:
            others = f", and {shares[best]:.0%} {best}."
        else:
            others = ", and no more with another usual scaling."
        yield Finding(
            "good",
            "scale of the images",
            f"The float model gets {own:.0%} of {len(labels)} images right as they are{others}",
        )


def _about_calibration(subject: Subject) -> Iterator[Finding]:
    count = len(subject.calibration)
    different = len({image.tobytes() for image in subject.calibration})
    predictions = predicted(models.predict(subject.model, subject.calibration))
    few = count < _ENOUGH or different < 0.9 * count
    yield Finding(
        "look" if few else "good",
        "calibration images",
        f"{count:,} images, {different:,} of them different"
        + ("; a few hundred different ones make the ranges more certain." if few else "."),
    )
    if predictions is not None:
        classes, counts = np.unique(predictions, return_counts=True)
        share = counts.max() / count
        one_sided = len(classes) > 1 and share > max(0.5, 3 / len(classes))
        alone = len(classes) == 1
        yield Finding(
            "look" if one_sided or alone else "good",
            "balance",
            f"The float model sees {len(classes)} classes in them; the most frequent one has "
            f"{share:.0%}"
            + (": ranges of rarer classes may be missing." if one_sided or alone else "."),
        )


def _about_output(outputs: NDArray[np.float32], labelled: bool) -> Iterator[Finding]:
    flat = outputs.reshape(len(outputs), -1)
    sums = flat.sum(axis=1)
    if flat.shape[1] > 1 and flat.min() >= 0 and np.allclose(sums, 1, atol=1e-3):
        yield Finding(
            "good",
            "output",
            "The outputs are probabilities (a softmax). In an int8 file they have steps of "
            "1/256: where small probabilities count, take the logits before it.",
        )
        return
    sentence = f"The outputs lie from {flat.min():.3g} to {flat.max():.3g}."
    unsure = not labelled and predicted(outputs) is not None
    if unsure:  # a regression has outputs like these, too
        sentence += (
            " Without labels, the report takes them for the scores of classes. If the model "
            "predicts quantities, ignore what it says of classes, and go by the SQNR."
        )
    yield Finding("look" if unsure else "good", "output", sentence)


def _about_count(subject: Subject) -> Iterator[Finding]:
    count = len(subject.images)
    few = count < _FEW
    yield Finding(
        "look" if few else "good",
        "images to measure on",
        f"{count:,}"
        + (": small differences between files cannot be told from chance." if few else "."),
    )


def _accuracy(outputs: NDArray[np.float32], labels: NDArray[np.integer]) -> float | None:
    predictions = predicted(outputs)
    return None if predictions is None else metrics.agreement(predictions, labels)


def _named(layer: Any) -> str:
    if isinstance(layer, keras.layers.Rescaling):
        scale, offset = (np.asarray(value).ravel() for value in (layer.scale, layer.offset))
        if len(scale) == len(offset) == 1:
            return f"{layer.name}: x · {scale[0]:.4g} + {offset[0]:.4g}".replace("+ -", "− ")
    return f"{layer.name} ({type(layer).__name__})"
