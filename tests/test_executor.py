"""Independent tasks: on this machine's cores and on a cluster, with workers that die."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

from quant_tutorial import executor, report, rounding
from quant_tutorial.executor import Task, TasksFailedError
from quant_tutorial.report.variants import FLOAT32, INT8
from quant_tutorial.rounding import results

import executor_tasks
import keras
import numpy as np
import pytest

SQUARES = [Task(f"the square of {n}", executor_tasks.square, (n,)) for n in range(6)]


def found_by(tasks: list[Task], where: Executor | None) -> tuple[dict[str, int], str]:
    """The results by name, and the message at the end if there was one."""
    found: dict[str, int] = {}
    try:
        for task, result in executor.run(tasks, where):
            found[task.name] = result
    except TasksFailedError as error:
        return found, str(error)
    return found, ""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


class TestHere:
    def test_one_after_another(self) -> None:
        done = []
        tasks = [Task(f"{n}", done.append, (n,)) for n in range(3)]
        runs = executor.run(tasks)
        assert done == []
        next(runs)
        assert done == [0]  # its result can be written before the next one begins
        assert [task.name for task, _ in runs] == ["1", "2"]

    def test_the_first_error_ends_it(self) -> None:
        with pytest.raises(ValueError, match="no luck with 1"):
            list(executor.run([Task("bad", executor_tasks.fails, (1,)), *SQUARES]))


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with executor.processes(2) as found:
        yield found


class TestProcesses:
    def test_the_same_results(self, pool: Executor) -> None:
        found, message = found_by(SQUARES, pool)
        assert found == found_by(SQUARES, None)[0]
        assert message == ""

    def test_tasks_that_wait_share_arrays(self, pool: Executor) -> None:
        class Keeping(Executor):
            def submit(self, *arguments: object) -> Future[None]:
                self.arrays = arguments[3]
                found: Future[None] = Future()
                found.set_result(None)
                return found

        for values in (np.arange(6.0), np.arange(6.0)[::2], np.zeros((0, 2))):
            tasks = [Task("squares", executor_tasks.square, (values,))]
            ((_, found),) = executor.run(tasks, pool)
            assert np.array_equal(found, values**2)
        tasks = [Task("squares", executor_tasks.square, (np.arange(6.0),))] * 2
        list(executor.run(tasks, keeping := Keeping()))
        assert np.shares_memory(keeping.arrays[0], tasks[0].arguments[0])

    def test_an_error_stops_no_other_task(self, pool: Executor) -> None:
        bad = [Task(f"bad {n}", executor_tasks.fails, (n,)) for n in (7, 8)]
        found, message = found_by([*bad, *SQUARES], pool)
        assert len(found) == len(SQUARES)
        assert message.startswith("2 of 8 tasks were not finished (bad ")
        assert "ValueError: no luck with" in message
        assert "computes only the rest when it is started again" in message

    def test_tensorflow_has_one_thread(self, pool: Executor) -> None:
        before = os.environ.get("TF_NUM_INTRAOP_THREADS")
        tasks = [Task("it", executor_tasks.about_the_worker)]
        ((_, (pid, threads, loaded)),) = executor.run(tasks, pool)
        assert pid != os.getpid()
        assert threads == "1"
        assert not loaded  # it comes with a task that needs it
        assert os.environ.get("TF_NUM_INTRAOP_THREADS") == before

    def test_a_function_that_cannot_be_imported(self, pool: Executor) -> None:
        tasks = [Task("local", lambda: 1)]
        with pytest.raises(ValueError, match=r"<lambda> of the task local cannot be imported"):
            list(executor.run(tasks, pool))

    def test_a_worker_with_other_packages(
        self, pool: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(executor, "version", lambda name: "0.1")
        _, message = found_by(SQUARES[:1], pool)
        assert "This worker has numpy 2" in message
        assert "and the command numpy 0.1" in message

    def test_a_worker_in_which_tensorflow_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
        monkeypatch.setitem(sys.modules, "tensorflow", os)
        with ThreadPoolExecutor(1) as threads:
            _, message = found_by(SQUARES[:1], threads)
        assert "TensorFlow was started in this worker before its first task" in message

    def test_a_worker_that_is_killed(self) -> None:
        with executor.processes(1) as one:
            assert found_by(SQUARES[:2], one)[1] == ""
            found, message = found_by([Task("deadly", executor_tasks.dies, (1,))], one)
        assert found == {}
        assert "1 of 1 tasks were not finished (deadly)" in message
        assert "a worker process was killed" in message
        assert "--workers 1" in message

    def test_an_interruption_ends_the_workers(self, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        tasks = [*SQUARES[:1], Task("long", executor_tasks.sleeps, (600, mark))]

        def interrupted() -> None:
            with executor.processes(2) as two:
                for _ in executor.run(tasks, two):
                    wait_for(mark.exists)
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        wait_for(lambda: not is_alive(int(mark.read_text())))

    def test_they_end_with_a_command_that_is_killed(self, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        code = (
            "import pathlib, executor_tasks as t; from quant_tutorial import executor as e\n"
            f"task = e.Task('long', t.sleeps, (600, pathlib.Path({str(mark)!r})))\n"
            "with e.processes(1) as one: list(e.run([task], one))"
        )
        paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
        environment = {**os.environ, "PYTHONPATH": paths}
        command = subprocess.Popen([sys.executable, "-c", code], env=environment)
        wait_for(lambda: mark.exists() and mark.read_text())
        worker = int(mark.read_text())
        assert is_alive(worker)
        command.kill()
        command.wait()
        wait_for(lambda: not is_alive(worker))

    @pytest.mark.parametrize("workers", [0, -1, 1.5])
    def test_their_number(self, workers: float) -> None:
        with pytest.raises(ValueError, match=f"workers must be .*{workers}"):
            executor.processes(workers)


def test_the_options_of_a_command() -> None:
    parser = argparse.ArgumentParser()
    executor.add_options(parser)
    with executor.from_options(parser.parse_args(["--workers", "0"])) as where:
        assert where is None
    with executor.from_options(parser.parse_args([])) as where:
        assert where._max_workers == executor._cores() >= 1
    other = argparse.ArgumentParser()
    executor.add_options(other, workers=0)
    with executor.from_options(other.parse_args([])) as where:
        assert where is None
    with pytest.raises(SystemExit):
        parser.parse_args(["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"])


class Cluster:
    """A scheduler and a worker on loopback, as a reader starts them; a second one on demand."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._file, self._log = folder / "scheduler.json", (folder / "log").open("w")
        self._options = options
        tests = Path(__file__).parent
        paths = os.pathsep.join([str(tests), str(tests.parent)])
        self._environment = {**os.environ, "PYTHONPATH": paths}
        self._environment.pop("TF_NUM_INTRAOP_THREADS", None)
        self._started: list[subprocess.Popen[bytes]] = []
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
        self._start_worker()
        wait_for(self._file.exists)
        self.address = json.loads(self._file.read_text())["address"]

    def _start(self, *words: str) -> None:
        command = [sys.executable, "-m", "dask", *words, "--no-dashboard"]
        command += ["--scheduler-file", str(self._file)]
        self._started.append(
            subprocess.Popen(
                command,
                env=self._environment,
                cwd=self._file.parent,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,  # a nanny and its worker are killed together
            )
        )

    def _start_worker(self) -> None:
        self._start("worker", "--nthreads", "1", *self._options)

    def start_second(self) -> None:
        """Start a second worker, if that was not done before."""
        if len(self._started) == 2:
            self._start_worker()

    def kill_scheduler(self) -> None:
        os.killpg(self._started[0].pid, signal.SIGKILL)

    def close(self) -> None:
        for process in self._started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._log.close()


@pytest.mark.slow
class TestCluster:
    @pytest.fixture(scope="class", params=["--no-nanny", "--nanny"])
    @classmethod
    def started(
        cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Cluster]:
        found = Cluster(tmp_path_factory.mktemp("cluster"), request.param)
        try:
            yield found
        finally:
            found.close()

    @pytest.fixture
    def address(self, started: Cluster) -> str:
        """One worker is enough: it imports TensorFlow once for the first tests, which need it."""
        return started.address

    @pytest.fixture
    def address_of_two(self, started: Cluster) -> str:
        started.start_second()
        return started.address

    def test_a_command(
        self,
        address: str,
        request: pytest.FixtureRequest,
        baseline: keras.Model,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Its results are those that ship with the course, which were made without a cluster."""
        if "--nanny" in request.node.name:
            pytest.skip("a nanny makes no difference here")
        monkeypatch.setattr(results, "DRAWS", (0,))
        command = ["results", "--folder", str(tmp_path), "W2A8", "--methods", "nearest"]
        monkeypatch.setattr("sys.argv", [*command, "--scheduler", address])
        results.main()
        figures = rounding.load_results(tmp_path / "rounding.json")["W2A8"]["nearest"]
        shipped = rounding.load_results()["W2A8"]["nearest"]
        # Sums in another order, on another processor, can move a few values over an edge.
        assert figures.accuracies[0] == pytest.approx(shipped.accuracies[0], abs=0.0003)
        made = rounding.restore(tmp_path / "rounding" / "W2A8_nearest.npz", baseline)
        for layer, integers in rounding.load("W2A8 nearest").integers.items():
            assert np.array_equal(made.integers[layer], integers)

    def test_a_report(self, address: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        if "--nanny" in request.node.name:
            pytest.skip("a nanny makes no difference here")
        keras.utils.set_random_seed(1)
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(tmp_path / "m.keras")
        x = np.random.default_rng(0).uniform(0, 1, (40, 4)).astype(np.float32)
        np.savez(tmp_path / "d.npz", x_test=x)
        subject = report.load(tmp_path / "m.keras", tmp_path / "d.npz")
        with executor.cluster(address) as workers:
            found = report.measure_all(subject, None, (FLOAT32, INT8), executor=workers)
        assert found == report.measure_all(subject, None, (FLOAT32, INT8))

    def test_the_same_results(self, address_of_two: str) -> None:
        with executor.cluster(address_of_two) as workers:
            found, message = found_by(SQUARES, workers)
            assert found == found_by(SQUARES, None)[0]
            assert message == ""
            _, message = found_by([Task("bad", executor_tasks.fails, (7,))], workers)
            assert "ValueError: no luck with 7" in message

    def test_a_worker_killed_in_the_middle_loses_nothing(
        self, address_of_two: str, tmp_path: Path
    ) -> None:
        mark = tmp_path / "mark"
        deadly = Task("deadly", executor_tasks.dies, (9, mark))
        with executor.cluster(address_of_two) as workers:
            found, message = found_by([deadly, *SQUARES], workers)
        assert mark.exists()
        assert message == ""
        assert found == {"deadly": 81, **found_by(SQUARES, None)[0]}

    def test_a_scheduler_that_is_killed(self, started: Cluster, tmp_path: Path) -> None:
        """It takes its cluster with it, so that this test is the last."""
        mark = tmp_path / "mark"
        tasks = [*SQUARES[:1], Task("long", executor_tasks.sleeps, (600, mark))]
        with executor.cluster(started.address) as workers:
            runs = executor.run(tasks, workers)
            assert next(runs)[1] == 0
            wait_for(mark.exists)
            started.kill_scheduler()
            with pytest.raises(TasksFailedError, match=r"1 of 2 .*\(long\).*the scheduler is gone"):
                next(runs)


def test_a_result_that_a_lost_scheduler_owes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(Executor):
        is_lost = True

        def submit(self, *_: object) -> Future[int]:
            return Future()

    monkeypatch.setattr(executor, "_PATIENCE", 0.01)
    assert "the scheduler is gone" in found_by(SQUARES, Lost())[1]


@pytest.mark.slow
def test_a_cluster_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ConnectionError, match=r"'tcp://127\.0\.0\.1:1' does not answer.*dask sched"),
        executor.cluster("tcp://127.0.0.1:1", seconds=0.5),
    ):
        pass
    with (
        pytest.raises(ConnectionError, match="does not answer"),
        executor.cluster("tcp:", seconds=1),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ImportError, match=r"A cluster needs Dask.*make tools"),
        executor.cluster("tcp://127.0.0.1:1"),
    ):
        pass
