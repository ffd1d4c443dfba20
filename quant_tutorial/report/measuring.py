"""Measure a file of a reader's model against the float model (lesson 12)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from quant_tutorial import deployment, metrics, tflite
from quant_tutorial.table import Table

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Row:
    """What was measured on one file, or why there is none (lesson 12)."""

    name: str
    how: str
    refused: str | None = None  # why no file could be made
    file: int = 0  # bytes
    weights: int = 0  # bytes
    arena: int = 0  # bytes, at least
    integer_only: bool = False
    reason: str = ""  # why it is integer only, or not
    images: int = 0  # on which the rest was measured
    sqnr_db: float | None = None  # of the outputs against the float model's; infinite: None
    same: int | None = None  # images with the float model's class; None without classes
    right: int | None = None  # None without labels
    float_right: int | None = None  # of the float model on the same images
    only_float: int | None = None  # images that only the float model gets right
    only_file: int | None = None  # images that only the file gets right
    micro: str | None = None  # why LiteRT for Microcontrollers cannot run it
    sha256: str = ""

    @property
    def loss(self) -> float | None:
        """How much accuracy the file loses against the float model, 0 to 1; None without labels."""
        if self.right is None:
            return None
        return (self.float_right - self.right) / self.images

    @property
    def loss_limit(self) -> float | None:
        """The upper end of the loss: at 97.5% confidence, the file does not lose more.

        It is computed from the images that only one of the two models gets right, b and c of n:
        (b − c) / n + 1.96 · √(b + c − (b − c)² / n) / n. One image is added to each, and two
        to n, so that no difference among few images is not taken for certainty. Without labels it
        is the end of Wilson's interval for the share of images whose class changes. Source: Bonett
        and Price, Journal of Educational and Behavioral Statistics 37 (2012), pages 479 to 488.
        """
        if self.refused is not None or self.same is None:
            return None
        if self.right is None:
            return 1 - metrics.accuracy_interval(self.same, self.images)[0]
        worse, better, count = self.only_float + 1, self.only_file + 1, self.images + 2
        change = worse - better
        deviation = math.sqrt(worse + better - change**2 / count)
        return (change + 1.96 * deviation) / count

    @property
    def damage(self) -> str:
        """How the file compares with the float model, in words."""
        if self.refused is not None:
            return self.refused
        if self.right is not None:
            low, high = metrics.accuracy_interval(self.right, self.images)
            return (
                f"{self.right:,} of {self.images:,} right ({100 * low:.1f}% to {100 * high:.1f}%)"
            )
        if self.same is not None:
            return f"{self.same:,} of {self.images:,} as the float model"
        return f"SQNR {decibels(self.sqnr_db)} dB"


def measure(
    name: str,
    how: str,
    content: bytes,
    images: NDArray[Any],
    labels: NDArray[np.integer] | None,
    float_outputs: NDArray[np.float32],
) -> Row:
    """Measure one file on images (lesson 12).

    Args:
        name: The name of the file's variant.
        how: How it was made, as a sentence.
        content: The file.
        images: Images as the float model takes them, shape (n, …).
        labels: Their classes, shape (n,), or None.
        float_outputs: What the float model gives for them.

    Raises:
        ValueError: for a file that LiteRT does not run correctly.
    """
    found = tflite.inspect(content)
    outputs = tflite.predict(content, images)
    ours, theirs = predicted(outputs, float_outputs), predicted(float_outputs)
    figures: dict[str, Any] = {}
    if theirs is not None:
        figures["same"] = int(np.sum(ours == theirs))
    if theirs is not None and labels is not None:
        right, float_right = ours == labels, theirs == labels
        figures |= {
            "right": int(right.sum()),
            "float_right": int(float_right.sum()),
            "only_float": int(np.sum(float_right & ~right)),
            "only_file": int(np.sum(right & ~float_right)),
        }
    sqnr = metrics.sqnr_db(float_outputs, outputs) if np.any(float_outputs) else math.inf
    return Row(
        name,
        how,
        file=len(content),
        weights=deployment.weight_bytes(content),
        arena=deployment.arena_bytes(content),
        integer_only=found.integer_only,
        reason=found.reason,
        images=len(images),
        sqnr_db=sqnr if math.isfinite(sqnr) else None,
        micro=deployment.micro_refusal(content),
        **figures,
    )


def predicted(
    outputs: NDArray[np.float32], like: NDArray[np.float32] | None = None
) -> NDArray[np.int64] | None:
    """Return the predicted classes, shape (n,), or None for outputs that are none (lesson 12).

    One number for each image counts as class 1 above 0.5 where it can be a probability, as after a
    sigmoid, and above 0 where it is a logit.

    Args:
        outputs: What a model gives, shape (n, …).
        like: The outputs that decide whether numbers can be probabilities; None takes `outputs`.
    """
    if outputs.ndim != 2:
        return None
    if outputs.shape[1] > 1:
        return outputs.argmax(axis=1)
    like = outputs if like is None else like
    threshold = 0.5 if like.min() >= 0 and like.max() <= 1 else 0.0
    return (outputs[:, 0] > threshold).astype(np.int64)


def table(rows: Iterable[Row], latencies: Mapping[str, deployment.Latency] | None = None) -> Table:
    """Return a table with one row for each file that could be made (lesson 12)."""
    made = [row for row in rows if row.refused is None]
    labelled = any(row.right is not None for row in made)
    classes = any(row.same is not None for row in made)
    header = ["file", "kB", "integer only"]
    header += ["right", "95% interval"] * labelled + ["as the float model"] * classes
    header += ["SQNR in dB"] + ["one image"] * bool(latencies)
    lines = []
    for row in made:
        line = [row.name, f"{row.file / 1000:,.1f}", "yes" if row.integer_only else "no"]
        if labelled:
            low, high = metrics.accuracy_interval(row.right, row.images)
            line += [_share(row.right, row.images), f"{100 * low:.1f}% to {100 * high:.1f}%"]
        if classes:
            line.append(_share(row.same, row.images))
        line.append(decibels(row.sqnr_db))
        if latencies:
            line.append(_time(latencies.get(row.name)))
        lines.append(line)
    return Table(header, lines)


def refusals(rows: Iterable[Row]) -> str:
    """Return a line for each reason why files could not be made, with their names (lesson 12)."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.refused is not None:
            found.setdefault(row.refused, []).append(row.name)
    lines = [f"{'; '.join(names)}: {reason}" for reason, names in found.items()]
    return "\n".join(lines) or "Every file could be made."


def decibels(value: float | None) -> str:
    """Return an SQNR as text; None is an infinite one (lesson 12)."""
    return "∞" if value is None else f"{value:.1f}"


def to_json(row: Row) -> dict[str, Any]:
    """Return a row as what JSON can hold (lesson 12)."""
    return dataclasses.asdict(row)


def from_json(content: Mapping[str, Any]) -> Row:
    """Return the row that `to_json` was given (lesson 12).

    Raises:
        TypeError: for anything else.
    """
    return Row(**content)


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"


def _time(latency: deployment.Latency | None) -> str:
    return "–" if latency is None else str(latency).split(" (")[0]
