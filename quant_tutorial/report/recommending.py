"""Recommend one of the files of a report, with the reason (lesson 12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quant_tutorial.report.measuring import Row, decibels

TOLERANCE = 0.01  # of accuracy: a loss of one percentage point
CHANGED = 0.03  # of the classes, where there are no labels
ENOUGH_DB = 20.0  # of SQNR, where there are no classes: a tenth of the outputs' size
_ALIKE = 1.1  # files whose sizes differ by less are alike


@dataclass(frozen=True)
class Recommendation:
    """The file to begin with, and why (lesson 12)."""

    name: str
    reason: str  # whole sentences
    smallest: str  # the smallest file that is good enough; the same where that is so

    def __repr__(self) -> str:
        """Return the reason, which begins with the name."""
        return self.reason


def is_good(row: Row, tolerance: float = TOLERANCE) -> bool:
    """Return whether a file surely loses no more than is tolerated (lesson 12).

    With labels, that is the upper end of the loss of accuracy; without, that of the share of
    images whose class changes (`CHANGED`); without classes, an SQNR of at least `ENOUGH_DB`.
    """
    if row.refused is not None:
        return False
    if row.loss_limit is None:
        return row.sqnr_db is None or row.sqnr_db >= ENOUGH_DB
    return row.loss_limit <= (tolerance if row.right is not None else CHANGED)


def recommend(rows: Sequence[Row], tolerance: float = TOLERANCE) -> Recommendation:
    """Return the file to begin with (lesson 12).

    Of the files that are good enough, the smallest integer-only one is recommended, since
    integer-only hardware can run it too and its activations are narrow as well; without one, the
    smallest of all.
    Where sizes differ by less than a tenth, the order of the rows decides, which has plain int8
    before its relatives.

    Args:
        rows: What was measured; one of them is called "float32".
        tolerance: The loss of accuracy that is tolerated, 0 to 1.

    Raises:
        ValueError: when there is no row "float32", or it was refused.
    """
    start = next((row for row in rows if row.name == "float32"), None)
    if start is None or start.refused is not None:
        reason = "there is no such row" if start is None else start.refused
        raise ValueError(
            f"rows must hold a file 'float32', with which the others are compared: {reason}"
        )
    good = [row for row in rows if is_good(row, tolerance)]
    integer = [row for row in good if row.integer_only]
    smallest = _smallest(good) or start
    chosen = _smallest(integer) or smallest
    parts = [_what(chosen, start)]
    if not good:
        parts = [
            "No file is surely good enough: either all of them lose too much, or "
            f"{start.images:,} images are too few to show that one does not. Stay with float32 for "
            "the time being."
        ]
    elif not integer:
        parts.append("No integer-only file is good enough.")
    plain = next((row for row in rows if row.name == "int8"), None)
    if plain is not None and plain.refused is not None:
        parts.append(f"There is no plain int8 file: {plain.refused}")
    elif plain is not None and chosen is not plain and plain not in good:
        parts.append(f"The plain int8 file is not surely good enough: {plain.damage}.")
    if smallest is not chosen:
        parts.append(f"Where the size of the file alone counts: {_what(smallest, start)}")
    return Recommendation(chosen.name, " ".join(parts), smallest.name)


def _smallest(rows: Sequence[Row]) -> Row | None:
    if not rows:
        return None
    least = min(row.file for row in rows)
    return next(row for row in rows if row.file <= _ALIKE * least)


def _what(row: Row, start: Row) -> str:
    parts = [
        f"“{row.name}” takes {row.file / 1000:,.1f} kB, {row.file / start.file:.0%} of float32"
    ]
    parts.append("computes with integers alone" if row.integer_only else "has float ops")
    if row.right is not None:
        parts.append(
            f"gets {row.right:,} of {row.images:,} images right, where the float model gets "
            f"{row.float_right:,} (with 97.5% certainty it loses less than "
            f"{100 * max(row.loss_limit, 0):.1f} percentage points)"
        )
    elif row.same is not None:
        parts.append(
            f"predicts the float model's class for {row.same:,} of {row.images:,} images, with an "
            f"SQNR of {decibels(row.sqnr_db)} dB"
        )
    else:
        parts.append(f"has an SQNR of {decibels(row.sqnr_db)} dB")
    return f"{', '.join(parts[:-1])} and {parts[-1]}."
