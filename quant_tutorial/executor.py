"""Run independent tasks on this machine's cores or on a Dask cluster (lesson 08).

    with from_options(options) as executor:
        for task, found in run(tasks, executor):
            ...  # write what was found

The commands that take minutes (`make qat`, `make rounding`, `make report`) hand their work over in
this way. The process that calls `run` is the only one that writes files. It gets each result as
soon as there is one, so that a stop loses no more than the tasks that were being computed.

Each task has a process to itself while it runs, in which TensorFlow has one thread. Sums of floats
depend on the number of threads, so that in this way the results do not depend on the machine's
cores, nor on the number of workers.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Any

from quant_tutorial.arguments import checked_whole

import numpy as np
from numpy.typing import NDArray

_THREADS = "TF_NUM_INTRAOP_THREADS"
_PACKAGES = ("numpy", "keras", "tensorflow", "ai-edge-litert")  # on them the figures depend
_PATIENCE = 5  # seconds until a look whether the cluster is still there
_WAIT = 60  # seconds for a cluster's scheduler and for its first worker

# Keras' random seed belongs to the whole process: a worker with several threads takes turns.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Task:
    """One independent piece of work (lesson 08).

    Attributes:
        name: What messages call it.
        function: Computes the result. For other processes it must be a function of a module that
            they can import, it must find by itself all that it does not get as an argument, and it
            must return what it finds instead of writing it: another machine has another disk.
        arguments: What it is called with; for other processes, objects that can be pickled.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


class TasksFailedError(RuntimeError):
    """Some tasks ended with an error; `run` has returned the results of all others (lesson 08)."""


def run(tasks: Iterable[Task], executor: Executor | None = None) -> Iterator[tuple[Task, Any]]:
    """Yield each task with its result, in the order in which they are finished (lesson 08).

    Args:
        tasks: The tasks.
        executor: Where they run: `processes`, `cluster`, or any other executor. By default in this
            process one after another, as a loop would; the first error then ends it.

    Raises:
        TasksFailedError: after all other results, if a task raised an error or its worker died.
        ValueError: for an executor, if the function of a task cannot be imported elsewhere.
    """
    if executor is None:
        for task in tasks:
            yield task, task.function(*task.arguments)
        return
    futures = {_submitted(task, executor): task for task in tasks}
    failed: list[tuple[Task, BaseException]] = []
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, _PATIENCE, FIRST_COMPLETED)
        if not done and getattr(executor, "is_lost", False):
            failed += [(futures[future], CancelledError()) for future in waiting]
            break
        for future in done:
            error = CancelledError() if future.cancelled() else future.exception()
            if error is None:
                yield futures[future], future.result()
            else:
                failed.append((futures[future], error))
    if failed:
        raise TasksFailedError(_explained(failed, len(futures))) from failed[0][1]


def processes(workers: int | None = None) -> contextlib.AbstractContextManager[Executor]:
    """Return an executor of processes on this machine, to be used in a `with` block (lesson 08).

    The processes end with the block and with this process, even if that is killed.

    Args:
        workers: How many processes, by default one for each core. One that trains the course's
            model takes about 1.2 GB of memory.

    Raises:
        ValueError: for fewer than one.
    """
    return _processes(_cores() if workers is None else checked_whole("workers", workers, 1))


def cluster(
    scheduler: str, *, seconds: float = _WAIT
) -> contextlib.AbstractContextManager[Executor]:
    """Return an executor of a Dask cluster's workers, to be used in a `with` block (lesson 08).

    A task whose worker dies is given to another one. More workers may join at any time. Each needs
    this package, with the same versions of the packages that the figures depend on.

    Args:
        scheduler: The address of the scheduler, such as tcp://10.0.0.5:8786.
        seconds: How long to wait for the scheduler, and then for a first worker.

    Raises:
        ImportError: where Dask is not installed.
        ConnectionError: when no scheduler answers.
        TimeoutError: when it has no worker.
    """
    return _cluster(scheduler, seconds)


def add_options(parser: argparse.ArgumentParser, workers: int | None = None) -> None:
    """Add the options `--workers` and `--scheduler` to a command (lesson 08).

    Args:
        parser: The command's.
        workers: How many there are by default, as for `--workers`; None: one for each core.
    """
    usual = "one for each core" if workers is None else str(workers)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        *("--workers", "-j"),
        type=int,
        default=workers,
        help=f"processes on this machine, by default {usual}; 0: in this process, one task after "
        "another",
    )
    where.add_argument("--scheduler", help="the address of a Dask cluster, as tcp://HOST:8786")


def from_options(
    options: argparse.Namespace,
) -> contextlib.AbstractContextManager[Executor | None]:
    """Return the executor that the options of `add_options` ask for, for a `with` block.

    Lesson 08.

    Raises:
        ValueError: for a negative number of workers.
        ImportError, ConnectionError, TimeoutError: as `cluster`.
    """
    if options.scheduler:
        return cluster(options.scheduler)
    return contextlib.nullcontext() if options.workers == 0 else processes(options.workers)


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # on Linux, where a container may have fewer
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[Executor]:
    # TensorFlow does not survive a fork.
    context = multiprocessing.get_context("spawn")
    ended, alive = context.Pipe(duplex=False)
    with ended, alive, _environment(_THREADS, "1"):
        pool = ProcessPoolExecutor(workers, context, _end_with, (ended,))
        try:
            yield pool
        except BaseException:
            alive.close()  # ends the workers in the middle of their tasks
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with(alive: Connection) -> None:
    """Let a worker end when the other end of a pipe is closed, by a command or by a death."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the workers, too

    def follow() -> None:
        with contextlib.suppress(EOFError, OSError):
            alive.recv()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable that the processes started in the block inherit."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class _Workers(Executor):
    """The workers of a cluster; it knows when the scheduler is gone."""

    def __init__(self, client: Any) -> None:
        self._client = client
        # Two tasks with the same arguments are two tasks.
        self._pool = client.get_executor(pure=False)

    def submit(self, function: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        return self._pool.submit(function, *args, **named)

    @property
    def is_lost(self) -> bool:
        # Dask cancels what was waiting then, but never finishes what it was just about to fetch.
        return self._client.status != "running"


@contextlib.contextmanager
def _cluster(scheduler: str, seconds: float) -> Iterator[Executor]:
    try:
        import distributed
    except ImportError:
        raise ImportError(
            "A cluster needs Dask, which the course does not install by itself: "
            'pip install "quant_tutorial[cluster]", or in a checkout make tools.'
        ) from None
    try:
        client = distributed.Client(scheduler, timeout=seconds, set_as_default=False)
    except (OSError, ValueError) as error:  # no answer; no address
        raise ConnectionError(
            f"scheduler {scheduler!r} does not answer ({error}): start one with `dask scheduler`, "
            "which prints its address, such as tcp://10.0.0.5:8786."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=seconds)
        except TimeoutError:
            raise TimeoutError(
                f"scheduler {scheduler!r} has no worker after {seconds:g} seconds: start some on "
                f"any machine that has the course, with `dask worker {scheduler} --nthreads 1`."
            ) from None
        yield _Workers(client)


def _submitted(task: Task, executor: Executor) -> Future[Any]:
    module = task.function.__module__
    if module == "__main__":  # a command's own module, which only here has that name
        spec = sys.modules["__main__"].__spec__
        module = spec.name if spec else module
    place = f"{module}:{task.function.__qualname__}"
    if module == "__main__" or "<" in place:
        raise ValueError(
            f"function {place} of the task {task.name} cannot be imported by other processes: "
            "define it at the top of a module, or run the tasks without an executor."
        )
    packages = {name: version(name) for name in _PACKAGES}
    # Arrays stay beside the other arguments: tasks that wait then share them, and copy none.
    found: list[pickle.PickleBuffer] = []
    arguments = pickle.dumps(task.arguments, protocol=5, buffer_callback=found.append)
    arrays = [np.asarray(one.raw()) for one in found]
    return executor.submit(_call, place, arguments, arrays, packages)


def _call(
    place: str, arguments: bytes, arrays: list[NDArray[np.uint8]], packages: dict[str, str]
) -> Any:
    """Call a function of a module in a worker, with pickled arguments.

    Both come as text and bytes, because TensorFlow, which either of them may load, has to find its
    number of threads in the environment.
    """
    here = {name: version(name) for name in packages}
    if here != packages:
        raise RuntimeError(
            f"This worker has {_listed(here)}, and the command {_listed(packages)}: their figures "
            "could differ. Install the same versions on both."
        )
    if "tensorflow" in sys.modules and os.environ.get(_THREADS) != "1":
        raise RuntimeError(
            "TensorFlow was started in this worker before its first task, with several threads: "
            f"its figures could differ. Start the worker without it, or with {_THREADS}=1."
        )
    os.environ[_THREADS] = "1"
    with _ONE_AT_A_TIME:
        module, name = place.split(":")
        return getattr(importlib.import_module(module), name)(
            *pickle.loads(arguments, buffers=arrays)
        )


def _listed(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in packages.items())


def _explained(failed: list[tuple[Task, BaseException]], count: int) -> str:
    task, error = failed[0]
    if isinstance(error, BrokenProcessPool):
        reason = (
            "a worker process was killed, perhaps because the memory was used up: each worker "
            "takes about 1.2 GB, and --workers 1 starts only one"
        )
    elif isinstance(error, CancelledError):
        reason = "the scheduler is gone"
    else:
        reason = f"{task.name}: {type(error).__name__}: {error}".removesuffix(".")
    names = ", ".join(task.name for task, _ in failed[:3]) + (", …" if len(failed) > 3 else "")
    return (
        f"{len(failed)} of {count} tasks were not finished ({names}). First reason: {reason}. "
        "The others are finished. A command of the course has written their results, and computes "
        "only the rest when it is started again."
    )
