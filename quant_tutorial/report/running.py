"""Make and measure the files of a report one by one, and keep what is finished (lesson 12).

Each file is a task of its own, so that an executor can compute several at the same time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

from quant_tutorial import deployment
from quant_tutorial.executor import Task
from quant_tutorial.executor import run as run_tasks
from quant_tutorial.report import keeping, measuring, mending
from quant_tutorial.report.diagnosing import Diagnosis, Suspect, diagnose
from quant_tutorial.report.measuring import Row
from quant_tutorial.report.subject import Subject
from quant_tutorial.report.variants import VARIANTS, Variant

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[int, int, str], object]  # how many of how many are done, and what is next
_DEBUGGED = 20  # images
_RUNS = 50  # timed runs of each file


class Made(NamedTuple):
    """A file and what was measured on it; no bytes where none could be made (lesson 12)."""

    row: Row
    content: bytes | None


def measure_all(
    subject: Subject,
    folder: str | Path | None = None,
    variants: Sequence[Variant] = VARIANTS,
    *,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> list[Made]:
    """Make and measure a file of each variant, in their order (lesson 12).

    Args:
        subject: The model with its data.
        folder: Where finished files are kept and found again; None keeps nothing.
        variants: What to make.
        progress: Is called before each file with how many are done, how many there are, and the
            name of the next one, and once at the end.
        executor: Where several variants are computed at the same time, from the module `executor`.
            By default here, one after another. Only this process writes into the folder.

    Raises:
        OSError: when the folder cannot be written.
        TasksFailedError: for an executor, after the results of all others have been written, if
            one of its workers died or could not read the model.
    """
    place = _path(folder)
    marks = {one: _mark(f"{subject.fingerprint} {one!r}".encode()) for one in variants}
    kept = {one: keeping.read(place, one.name, mark) for one, mark in marks.items()}
    found = {one: result for one, result in kept.items() if result is not None}
    missing = [one for one in marks if one not in found]

    def show() -> None:
        if progress is not None:
            left = [one.name for one in variants if one not in found]
            progress(len(variants) - len(left), len(variants), next(iter(left), ""))

    show()
    for task, result in run_tasks(_tasks(subject, missing, executor), executor):
        variant = task.arguments[1]
        found[variant] = keeping.write(place, variant.name, marks[variant], result)
        show()
    return [Made(Row(**found[one][0]), found[one][1]) for one in variants]


def _tasks(subject: Subject, variants: Sequence[Variant], executor: Executor | None) -> list[Task]:
    if executor is None:
        return [Task(one.name, _made, (subject, one)) for one in variants]
    # Saving a model takes a while: it is done once. An array, which no task that waits copies.
    packed = np.frombuffer(pickle.dumps(subject) if variants else b"", np.uint8)
    return [Task(one.name, _made_elsewhere, (packed, one)) for one in variants]


def _made_elsewhere(packed: NDArray[np.uint8], variant: Variant) -> keeping.Result:
    return _made(pickle.loads(packed), variant)


def _made(subject: Subject, variant: Variant) -> keeping.Result:
    """Make and measure the file of one variant; without a file, the row says why."""
    try:
        content = mending.make(subject, variant)
        places = slice(None, None, variant.part)
        labels = None if subject.labels is None else subject.labels[places]
        data = (subject.images[places], labels, subject.outputs[places])
        row = measuring.measure(variant.name, variant.how, content, *data)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        return dataclasses.asdict(Row(variant.name, variant.how, refused=reason)), None
    return dataclasses.asdict(row), content


def diagnose_int8(
    subject: Subject, found: Sequence[Made], folder: str | Path | None = None
) -> Diagnosis | None:
    """Return how the error grows in the int8 file, or None without one (lesson 12).

    Where there is no full-integer file, the one with float fallback takes its place.
    """
    files = {one.row.name: one.content for one in found if one.content is not None}
    integer = files.get("int8", files.get("int8 with float fallback"))
    if integer is None or "float32" not in files:
        return None

    def work() -> keeping.Result:
        try:
            seen = diagnose(files["float32"], integer, subject.images[:_DEBUGGED])
        except ValueError as error:
            return {"refused": str(error)}, None
        return {"suspects": [one._asdict() for one in seen.suspects]}, None

    mark = _mark(subject.fingerprint.encode() + integer)
    result, _ = keeping.kept(_path(folder), "diagnosis", mark, work)
    if "refused" in result:
        return None
    return Diagnosis(tuple(Suspect(**entry) for entry in result["suspects"]))


def mend(
    subject: Subject,
    diagnosis: Diagnosis | None,
    folder: str | Path | None = None,
    *,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> list[Made]:
    """Try what may mend a model, and measure each attempt like any other file (lesson 12).

    The arguments are those of `measure_all`.
    """
    attempts = mending.repairs(subject, diagnosis or Diagnosis(()))
    return measure_all(subject, folder, attempts, progress=progress, executor=executor)


def latencies(
    subject: Subject, found: Sequence[Made], folder: str | Path | None = None
) -> dict[str, deployment.Latency]:
    """Measure how long LiteRT takes for one image with each file, on this machine (lesson 12)."""
    files = {one.row.name: one.content for one in found if one.content is not None}

    def work() -> keeping.Result:
        image = subject.images[:1]
        times = deployment.latencies(files, image, runs=_RUNS, warm_up=2, rounds=5)
        return {name: dataclasses.asdict(each) for name, each in times.items()}, None

    mark = hashlib.sha256(subject.fingerprint.encode())
    for content in files.values():
        mark.update(hashlib.sha256(content).digest())
    result, _ = keeping.kept(_path(folder), "latencies", mark.hexdigest(), work)
    return {name: deployment.Latency(**each) for name, each in result.items()}


def _mark(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _path(folder: str | Path | None) -> Path | None:
    return None if folder is None else Path(folder)


def contents(found: Iterable[Made]) -> dict[str, Any]:
    """Return the files that could be made, by name (lesson 12)."""
    return {one.row.name: one.content for one in found if one.content is not None}
