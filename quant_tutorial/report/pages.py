"""Bring a report's results into the form that `plotting` takes (lesson 12)."""

from __future__ import annotations

from collections.abc import Sequence

from quant_tutorial import metrics
from quant_tutorial.plotting import FileMark
from quant_tutorial.report.diagnosing import Diagnosis
from quant_tutorial.report.measuring import Row

_MOST_DB = 60.0  # beyond it, a file is as good as the float model


def marks(rows: Sequence[Row]) -> tuple[dict[str, FileMark], str]:
    """Return the files as `plotting.plot_files` takes them, and what their quality is (lesson 12).

    It is the share of images classified correctly where there are labels, otherwise that of images
    with the float model's class, otherwise the SQNR, at most 60 dB.
    """
    made = [row for row in rows if row.refused is None]
    if all(row.right is not None for row in made):
        return {row.name: _share(row, row.right) for row in made}, "images right, in %"
    if all(row.same is not None for row in made):
        return {row.name: _share(row, row.same) for row in made}, "images as the float model, in %"
    found = {}
    for row in made:
        sqnr = _MOST_DB if row.sqnr_db is None else min(row.sqnr_db, _MOST_DB)
        found[row.name] = FileMark(row.file / 1000, sqnr, sqnr, sqnr, row.integer_only)
    return found, "SQNR in dB"


def path(diagnosis: Diagnosis) -> tuple[list[str], list[float], list[float]]:
    """Return layers, SQNR and spreads as `plotting.plot_error_path` takes them (lesson 12)."""
    known = [one for one in diagnosis.suspects if one.sqnr_db is not None]
    return (
        [one.layer or one.op.lower() for one in known],
        [one.sqnr_db for one in known if one.sqnr_db is not None],
        [one.spread for one in known],
    )


def _share(row: Row, part: int) -> FileMark:
    low, high = metrics.accuracy_interval(part, row.images)
    share = 100 * part / row.images
    return FileMark(row.file / 1000, share, 100 * low, 100 * high, row.integer_only)
