"""The kernels in which the tests execute the notebooks: as a reader's, but ready at once."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked_kernels import SETTINGS
from jupyter_client import BlockingKernelClient, KernelManager

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Jupyter starts its own kernels"),
]

LONG = 60  # seconds
Kernel = tuple[KernelManager, BlockingKernelClient]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Kernel]]:
    """Start kernels in a folder of their own, and end those that are still there."""
    with contextlib.ExitStack() as opened:

        def started(*arguments: str, **environment: str) -> Kernel:
            manager = KernelManager(kernel_name="python3")
            own = {name: v for name, v in os.environ.items() if name not in SETTINGS}
            manager.start_kernel(
                extra_arguments=[*arguments], cwd=str(tmp_path), env={**own, **environment}
            )
            opened.callback(manager.shutdown_kernel, now=True)
            client = manager.client()
            client.start_channels()
            opened.callback(client.stop_channels)
            client.wait_for_ready(LONG)
            return manager, client

        yield started


def run(client: BlockingKernelClient, source: str) -> list[dict[str, Any]]:
    """Return the contents of all that a cell puts out."""
    found: list[dict[str, Any]] = []
    client.execute_interactive(
        source, timeout=LONG, output_hook=lambda message: found.append(message["content"])
    )
    return [content for content in found if content.keys() & {"text", "data", "ename"}]


def printed(client: BlockingKernelClient, expression: str) -> str:
    (output,) = run(client, f"print({expression})")
    return output["text"].strip()


def is_there(process: int) -> bool:
    """Tell whether a process is alive; nobody may have asked yet how it has ended."""
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False


def is_gone(process: int) -> bool:
    until = time.monotonic() + LONG
    while is_there(process) and time.monotonic() < until:
        time.sleep(0.05)
    return not is_there(process)


def test_it_has_what_takes_long_and_is_fresh_otherwise(
    start: Callable[..., Kernel], tmp_path: Path
) -> None:
    _, client = start("--HistoryManager.hist_file=:memory:", NAME="of its own")
    run(client, "import os, sys; before = set(sys.modules)")
    assert printed(client, "{'keras', 'tensorflow', 'matplotlib.pyplot'} <= before") == "True"
    assert (
        printed(client, "'quant_tutorial.models' in before or 'test_checks' in before") == "False"
    )
    # A thread of TensorFlow's would be lost in a fork: there is none before it computes.
    threads = "[open(f'/proc/self/task/{t}/comm').read() for t in os.listdir('/proc/self/task')]"
    assert "tf_" not in printed(client, threads)
    assert printed(client, "get_ipython().history_manager.hist_file") == ":memory:"
    assert printed(client, "os.getcwd()") == str(tmp_path)
    assert printed(client, "os.environ['NAME']") == "of its own"
    for name in SETTINGS.keys() - {"MPLBACKEND"}:  # which ipykernel sets itself
        assert printed(client, f"os.environ.get({name!r})") == "None"
    assert str(Path(__file__).parent) not in printed(client, "sys.path")
    assert printed(client, "'serve' in vars(sys.modules['__main__'])") == "False"


def test_it_computes_and_draws(start: Callable[..., Kernel]) -> None:
    source = """import tensorflow as tf, matplotlib.pyplot as plt
print(float(tf.reduce_sum(tf.linalg.matmul(tf.ones((300, 300)), tf.ones((300, 300))))))
plt.plot([1, 2])
plt.show()"""
    for _ in range(2):
        _, client = start()
        outputs = run(client, source)
        text = "".join(output.get("text", "") for output in outputs)
        assert float(text) == 300**3
        assert "image/png" in outputs[-1]["data"]


def test_it_can_be_interrupted(start: Callable[..., Kernel]) -> None:
    manager, client = start()
    said: list[str] = []

    def interrupt(message: dict[str, Any]) -> None:
        said.append(message["content"].get("text") or message["content"].get("ename", ""))
        if "waiting" in said[-1]:
            manager.interrupt_kernel()

    source = "import time; print('waiting', flush=True); time.sleep(600)"
    client.execute_interactive(source, timeout=LONG, output_hook=interrupt)
    assert "KeyboardInterrupt" in said
    assert printed(client, "1 + 1") == "2"


def test_it_ends_when_it_is_asked_to(start: Callable[..., Kernel]) -> None:
    manager, client = start()
    process = int(printed(client, "__import__('os').getpid()"))
    run(client, "import atexit, pathlib; atexit.register(pathlib.Path('ended').touch)")
    client.shutdown()
    assert manager.provisioner.process.wait(LONG) == 0
    assert is_gone(process)


@pytest.mark.parametrize("what", ["client", "kernel"])
def test_kernel_and_client_end_together(what: str, start: Callable[..., Kernel]) -> None:
    manager, client = start()
    process = int(printed(client, "__import__('os').getpid()"))
    asking = manager.provisioner.process
    if what == "client":
        asking.kill()
        assert is_gone(process)
    else:
        os.kill(process, 9)
        assert asking.wait(LONG) != 0
