"""Tasks for the tests of `executor`, which other processes can import."""

import os
import signal
import sys
import time
from pathlib import Path


def square(number: int) -> int:
    return number**2


def fails(number: int) -> int:
    raise ValueError(f"no luck with {number}")


def sleeps(seconds: float, mark: Path) -> None:
    mark.write_text(str(os.getpid()))
    time.sleep(seconds)


def dies(number: int, mark: Path | None = None) -> int:
    """Die like a process that is killed: each time, or only where there is no mark yet."""
    if mark is None or not mark.exists():
        if mark is not None:
            mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def about_the_worker() -> tuple[int, str | None, bool]:
    """Its process, TensorFlow's number of threads, and whether that is already loaded."""
    return os.getpid(), os.environ.get("TF_NUM_INTRAOP_THREADS"), "tensorflow" in sys.modules
