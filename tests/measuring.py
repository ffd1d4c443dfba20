"""How the benchmarks take the time."""

import statistics
import time
from collections.abc import Callable

# What a benchmark says: `report(what, value, unit, promised)`; see benchmarks/conftest.py.
Report = Callable[..., None]


def in_turn(*functions: Callable[[], object], rounds: int = 30) -> list[float]:
    """Run the functions in turn, after two rounds that do not count; return median seconds."""
    seconds: list[list[float]] = [[] for _ in functions]
    for count in range(2 + rounds):
        for function, found in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            if count >= 2:
                found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in seconds]
