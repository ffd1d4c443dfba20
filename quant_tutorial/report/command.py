"""The command `python -m quant_tutorial report` (lesson 12)."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TextIO

from quant_tutorial import executor
from quant_tutorial.report import cards, running, writing
from quant_tutorial.report.findings import check
from quant_tutorial.report.recommending import recommend
from quant_tutorial.report.running import Progress
from quant_tutorial.report.subject import load

_WIDTH = 24  # of the progress bar, in characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser (lesson 12)."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a .keras or .h5 file")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DATA.npz",
        help="inputs, as the model takes them",
    )
    parser.add_argument("--labels", metavar="KEY", help="the array with the class of each input")
    parser.add_argument("--images", metavar="KEY", help="the inputs to measure on (x_test)")
    parser.add_argument(
        "--calibration", metavar="KEY", help="the inputs to calibrate with (x_train)"
    )
    parser.add_argument(
        "--input-range", type=input_range, metavar="LOW,HIGH", help="of the model's input: 0,1"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (MODEL_report)")
    executor.add_options(parser, workers=0)


def input_range(text: str) -> tuple[float, float]:
    """Return two numbers that are written as "0,1" (lesson 12).

    Raises:
        argparse.ArgumentTypeError: for any other text.
    """
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise argparse.ArgumentTypeError(f"it must be two numbers such as 0,1, got {text!r}")
    return low, high


def run(arguments: argparse.Namespace) -> Path:
    """Make a report as the command's arguments ask for it, and return its page (lesson 12).

    Raises:
        OSError: for files that are missing or cannot be written.
        ValueError: for a model or data that no report can be made of; see `subject.load`.
        RuntimeError: when the page cannot be made, or a worker dies.
        ImportError: for a cluster, where Dask is not installed.
    """
    options = {
        name: value
        for name in ("labels", "images", "calibration", "input_range")
        if (value := getattr(arguments, name)) is not None
    }
    out = arguments.out or Path(f"{arguments.model.stem}_report")
    with executor.from_options(arguments) as workers:
        return make_report(arguments.model, arguments.data, options, out, workers=workers)


def make_report(
    model_file: Path,
    data_file: Path,
    options: dict[str, Any],
    out: Path,
    stream: TextIO | None = None,
    *,
    workers: Executor | None = None,
) -> Path:
    """Write a report into a folder and return the path of its page (lesson 12).

    The folder gets `report.html`, `report.ipynb`, `report.json`, `model_card.md` and the files in
    `files`. What an earlier run has finished there is taken over.

    Args:
        model_file: The model.
        data_file: The `.npz` file with its data.
        options: The further arguments of `report.load`.
        out: The folder.
        stream: Where progress is shown; None takes standard error.
        workers: Where files are made and measured; see `running.measure_all`.

    Raises:
        OSError: for files that are missing or cannot be written.
        ValueError: for a model or data that no report can be made of.
        RuntimeError: when the page cannot be made, or a worker dies.
    """
    stream = sys.stderr if stream is None else stream
    subject = load(model_file, data_file, **options)
    findings = check(subject)
    findings.stop()
    out.mkdir(parents=True, exist_ok=True)
    found = running.measure_all(subject, out, progress=bar("files", stream), executor=workers)
    diagnosis = running.diagnose_int8(subject, found, out)
    show = bar("repairs", stream)
    found += running.mend(subject, diagnosis, out, progress=show, executor=workers)
    times = running.latencies(subject, found, out)
    rows = [one.row for one in found]
    choice = recommend(rows)
    figures = writing.figures(subject, findings, rows, diagnosis, times, choice)
    writing.write_json(out / "report.json", figures)
    chosen = next(one for one in found if one.row.name == choice.name)
    card = cards.card(subject, chosen.row, chosen.content, times=[times[choice.name]])
    writing.write_text(out / "model_card.md", card)
    show = bar("page", stream)
    show(0, 1, "report.html")
    summary = f"**Recommended:** {choice.reason}"
    cells = writing.notebook(model_file, data_file, options, out, summary)
    executed = writing.execute(cells, out)
    writing.write_json(out / "report.ipynb", executed)
    title = f"Quantization report: {subject.name}"
    path = writing.write_text(out / "report.html", writing.page(executed, title))
    show(1, 1, "")
    return path


def bar(what: str, stream: TextIO) -> Progress:
    """Return a function that shows progress: a bar in a terminal, lines elsewhere (lesson 12)."""

    def line(done: int, total: int, name: str) -> None:
        if name:
            print(f"{what} {done + 1}/{total}: {name}", file=stream, flush=True)

    def show(done: int, total: int, name: str) -> None:
        filled = _WIDTH * done // max(total, 1)
        text = f"{what} [{'#' * filled}{'-' * (_WIDTH - filled)}] {done}/{total} {name}"
        print(f"\r\033[K{text[:100]}", end="" if name else "\n", file=stream, flush=True)

    return show if stream.isatty() else line
