"""One run of a lesson for all that looks at it.

nbval executes a lesson in a kernel of the JupyterLab that the browser tests drive. The page then
finds the kernel at work, with all that the lesson has computed, and has to run no cell but those of
the explorers. Where there are no browser tests, nbval starts a kernel of its own.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client import BlockingKernelClient
from nbval.kernel import RunningKernel

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
# As the course's own set-up writes them; whoever has installed with pip would see a notice.
NOTICES = '{"fetchNews": "false", "checkForUpdates": false}'
STARTING, IDLE = 120, 1200  # seconds
FRAMES = 3  # of an explorer, for the web edition that the tests build
# Whatever proxy the environment names: the server is on this machine.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of this run share, for what one of them makes for all."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@contextlib.contextmanager
def running(
    command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen]:
    """Run a Jupyter server in a folder, which has its settings and its log; end it afterwards."""
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }
    own = {name: str(folder / place) for name, place in places.items()}
    # This Python's kernel, whatever others are installed.
    own["JUPYTER_PREFER_ENV_PATH"] = "1"
    with (folder / "log.txt").open("wb") as log:
        # In a session of its own: Ctrl+C is for pytest, which then ends the server.
        server = subprocess.Popen(
            command,
            env={**os.environ, **own, **environment},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield server
    finally:
        end(server)


def end(process: subprocess.Popen) -> None:
    """Ask a process to end, and kill it where it does not."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class JupyterLab:
    """A JupyterLab on a copy of the notebooks, on loopback; it starts when it is first used."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._at: dict[str, Any] = {}
        self._folder = Path()
        self._problem: Exception | None = None
        self._kernels: dict[str, LessonKernel] = {}

    def address(self, path: str) -> str:
        """The page of a notebook, named relative to the folder of the notebooks."""
        self._start()
        # A workspace for each notebook: JupyterLab opens all that its workspace had open.
        workspace = path.replace("/", "-").removesuffix(".ipynb")
        return f"{self._at['url']}lab/workspaces/{workspace}/tree/{path}?token={self._at['token']}"

    def notebook(self, path: str) -> Path:
        """The copy of a notebook that the page shows."""
        self._start()
        return self._folder / "notebooks" / path

    def kernel(self, path: str) -> "LessonKernel":
        """Start a notebook's kernel; the page that shows the notebook later will use it."""
        self._start()
        session = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
        identity = self.request("POST", "sessions", session)["kernel"]["id"]
        connection = self._folder / f"runtime/kernel-{identity}.json"
        self._kernels[path] = LessonKernel(self, identity, connection)
        return self._kernels[path]

    def executed(self, path: str, cells: int) -> bool:
        """Tell whether nbval has executed all cells of a notebook; if only some, end its kernel."""
        kernel = self._kernels.get(path)
        if kernel is None or kernel.cells == cells:
            return kernel is not None
        self.end_kernel(path)
        return False

    def end_kernel(self, path: str) -> None:
        """End the kernel of a notebook, if it has one."""
        self._kernels.pop(path, None)
        for session in self.request("GET", "sessions"):
            if session["path"] == path:
                self.request("DELETE", f"sessions/{session['id']}")

    def request(self, method: str, what: str, content: Any = None) -> Any:
        """Send a request to the server's API, and return the answer."""
        request = urllib.request.Request(
            f"{self._at['url']}api/{what}",
            data=None if content is None else json.dumps(content).encode(),
            headers={"Authorization": f"token {self._at['token']}"},
            method=method,
        )
        with _DIRECTLY.open(request, timeout=STARTING) as answer:
            return json.loads(answer.read() or "null")

    def close(self) -> None:
        """End the server and its kernels."""
        self._open.close()

    def _start(self) -> None:
        if self._at:
            return
        if self._problem:  # once is enough: each further lesson would wait as long
            raise self._problem
        self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        unwanted = shutil.ignore_patterns("saved", ".ipynb_checkpoints")
        shutil.copytree(NOTEBOOKS, self._folder / "notebooks", ignore=unwanted)
        settings = self._folder / "settings/@jupyterlab/apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text(NOTICES)
        environment = {
            "JUPYTERLAB_SETTINGS_DIR": str(self._folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self._folder / "workspaces"),
        }
        command = [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            "--ServerApp.ip=127.0.0.1",
            "--ServerApp.port=0",
            f"--ServerApp.root_dir={self._folder / 'notebooks'}",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.extension_manager=readonly",  # the other one asks PyPI
            # A kernel that has died has to be missed, not to be replaced by an empty one.
            "--KernelManager.autorestart=False",
            # A worker that is killed cannot end its server: it ends by itself.
            f"--ServerApp.shutdown_no_activity_timeout={IDLE}",
            f"--MappingKernelManager.cull_idle_timeout={IDLE}",
        ]
        server = self._open.enter_context(running(command, self._folder, environment))
        try:
            self._at = self._started(server)
        except RuntimeError as error:
            self._problem = error
            self._open.close()
            raise

    def _started(self, server: subprocess.Popen) -> dict[str, Any]:
        """Wait until the server listens where it says, and return what it says.

        It says so before it listens, on a busy machine by seconds.
        """
        said = self._folder / f"runtime/jpserver-{server.pid}.json"
        until = time.monotonic() + STARTING
        while time.monotonic() < until and server.poll() is None:
            with contextlib.suppress(OSError, json.JSONDecodeError):
                at = json.loads(said.read_text(encoding="utf-8"))
                with socket.create_connection(("127.0.0.1", at["port"]), 1):
                    return at
            time.sleep(0.1)
        log = (self._folder / "log.txt").read_text(errors="replace")
        raise RuntimeError(f"JupyterLab did not start: {log[-2000:]}")


class LessonKernel(RunningKernel):
    """A kernel that a JupyterLab has started, for nbval to execute the cells in.

    Attributes:
        cells: How many cells have been executed.
    """

    def __init__(self, lab: JupyterLab, identity: str, connection: Path) -> None:
        self._lab, self._identity, self.cells = lab, identity, 0
        self.kc = BlockingKernelClient()
        self.kc.load_connection_file(str(connection))
        self.kc.start_channels()
        until = time.monotonic() + STARTING
        while True:
            try:
                self.kc.wait_for_ready(timeout=STARTING)
                break
            except RuntimeError:
                # On a busy machine a kernel misses a heartbeat while it starts, and counts as dead.
                if time.monotonic() > until or not self.is_alive():
                    raise
                time.sleep(1)
        self._ensure_iopub_up()

    def execute_cell_input(self, cell_input: str, allow_stdin: bool | None = None) -> str:
        """Execute a cell, and count it."""
        self.cells += 1
        return super().execute_cell_input(cell_input, allow_stdin)

    def is_alive(self) -> bool:
        """Tell whether the server still has the kernel."""
        try:
            state = self._lab.request("GET", f"kernels/{self._identity}")["execution_state"]
        except urllib.error.URLError:
            return False
        return state != "dead"

    def interrupt(self) -> None:
        """Interrupt the running cell, as nbval does when it takes too long."""
        self._lab.request("POST", f"kernels/{self._identity}/interrupt")

    def stop(self) -> None:
        """Leave the kernel to the page."""
        self.kc.stop_channels()
