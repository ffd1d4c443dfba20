"""Measure how long LiteRT takes for one image (lesson 09)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from quant_tutorial import flatbuffer, saving, tflite
from quant_tutorial.arguments import checked_whole
from quant_tutorial.tflite.running import FileInputs, batch_size, file_inputs, input_options

import numpy as np

RECORDED = Path(__file__).parents[1] / "data" / "latency.json"


@dataclass(frozen=True)
class Latency:
    """The time that LiteRT takes for one image on this machine, over many runs (lesson 09)."""

    median: float  # seconds, like the quartiles
    lower_quartile: float
    upper_quartile: float
    runs: int
    threads: int

    @property
    def spread(self) -> float:
        """The distance between the quartiles in seconds: the middle half of the runs lies in it."""
        return self.upper_quartile - self.lower_quartile

    def __str__(self) -> str:
        """Return the median with its unit, and the quartiles."""
        unit, factor = next(
            (pair for pair in (("s", 1.0), ("ms", 1e3)) if self.median * pair[1] >= 1), ("µs", 1e6)
        )
        median, low, high = (
            f"{float(f'{seconds * factor:.3g}'):,g}"  # three digits, and never an exponent
            for seconds in (self.median, self.lower_quartile, self.upper_quartile)
        )
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return f"{median} {unit} (quartiles {low} to {high} {unit}, {self.runs} runs, {threads})"


def latency(
    model_bytes: bytes,
    image: Any,
    *,
    threads: int = 1,
    runs: int = 500,
    warm_up: int = 10,
) -> Latency:
    """Measure how long LiteRT takes for one image with one file (lesson 09).

    The arguments, the errors and the measurement are those of `latencies`, which compares several
    files.
    """
    return latencies({"": model_bytes}, image, threads=threads, runs=runs, warm_up=warm_up)[""]


def latencies(
    files: Mapping[str, bytes],
    image: Any,
    *,
    threads: int = 1,
    runs: int = 500,
    warm_up: int = 10,
    rounds: int = 20,
) -> dict[str, Latency]:
    """Measure how long LiteRT takes for one image, with several files in turn (lesson 09).

    Only `invoke` is timed. Setting the input and getting the output, which copy the arrays from and
    to Python, are left out; a program on a device has other means to fill the input.

    In each round, every file is loaded, warmed up, and run for its share of the runs. Other work on
    the machine, or a change of its clock rate, thus affects all files equally. Only one file is
    loaded at a time, because files that stay loaded with two threads each wait for one another, up
    to milliseconds.

    Args:
        files: The content of `.tflite` files by name.
        image: One image as the float model takes it, shape (1, …); for several inputs as for
            `tflite.predict`. It is quantized before the timing.
        threads: How many threads LiteRT may use.
        runs: How many times each file is timed.
        warm_up: How many untimed runs precede the timed ones in each round.
        rounds: How many times each file is loaded, at most once for each run.

    Raises:
        ValueError: when there are no files, for a count that is not a whole number of at least 1
            (`warm_up`: 0), and for a file or an image that `tflite.predict` refuses.
    """
    if not files:
        raise ValueError("files must hold at least one file, got none.")
    counts = {"threads": threads, "runs": runs, "warm_up": warm_up, "rounds": rounds}
    for name, count in counts.items():
        checked_whole(name, count, 0 if name == "warm_up" else 1)
    inputs = {name: _input_of(name, content, image) for name, content in files.items()}
    seconds: dict[str, list[float]] = {name: [] for name in files}
    rounds = min(rounds, runs)
    for number in range(rounds):
        share = runs // rounds + (number < runs % rounds)
        for name, content in files.items():
            seconds[name] += _timed(content, inputs[name], threads, share, warm_up)
    return {
        name: Latency(
            median=float(np.median(times)),
            lower_quartile=float(np.percentile(times, 25)),
            upper_quartile=float(np.percentile(times, 75)),
            runs=int(runs),
            threads=int(threads),
        )
        for name, times in seconds.items()
    }


class Machine(NamedTuple):
    """A machine on which the course's files were timed with one thread (lesson 09)."""

    name: str
    processor: str
    microseconds: dict[str, float]  # the median for one image, by variant


def recorded_latencies(path: str | Path = RECORDED) -> tuple[Machine, ...]:
    """Load the latencies that ship with the course, measured on other machines (lesson 09).

    They were measured with `latencies` and one thread, on files of lesson 09.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it is damaged.
    """
    file = saving.read_json(Path(path), "The recorded latencies", "Install again.")
    try:
        return tuple(Machine(**machine) for machine in file["machines"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"The recorded latencies are damaged ({error!r}): {path}. Install again."
        ) from None


def _input_of(name: str, model_bytes: bytes, image: Any) -> FileInputs:
    """Return the image in the form of the file's input.

    Raises:
        ValueError: for a file or an image that `tflite.predict` refuses.
    """
    if not isinstance(image, Mapping | list | tuple):  # they may hold several inputs
        _require_one(image)
    try:
        # The time of a file that LiteRT computes wrongly would mean nothing.
        tflite.predict(model_bytes, image)
        graph = flatbuffer.graph(model_bytes)
        size = batch_size(graph)
        if size > 1:
            raise ValueError(
                f"The file takes {size} images at a time, and the time of one is measured: convert "
                "the model for one image at a time, as tflite.convert does."
            )
    except ValueError as error:
        if name:
            error.add_note(f"This is about the file {name!r}.")
        raise
    found = file_inputs("image", image, graph)
    for values in found.values():
        _require_one(values)
    return found


def _require_one(image: Any) -> None:
    images = np.asarray(image)
    if images.ndim == 0 or len(images) != 1:
        raise ValueError(f"image must have the shape (1, …), got {images.shape}.")


def _timed(
    model_bytes: bytes, images: FileInputs, threads: int, runs: int, warm_up: int
) -> list[float]:
    options = input_options(flatbuffer.graph(model_bytes), images)
    interpreter = tflite.make_interpreter(model_bytes, threads=threads, **options)
    seconds = []
    for _ in range(warm_up + runs):
        for index, image in images.items():
            interpreter.set_tensor(index, image)  # a run may reuse the input's memory
        start = time.perf_counter()
        interpreter.invoke()
        seconds.append(time.perf_counter() - start)
    return seconds[warm_up:]
