"""A browser, and a JupyterLab for it to drive: on loopback, in a folder of its own.

The tests here need Chromium on the PATH (Debian's package `chromium`). Where there is none they are
skipped, except with CI set in the environment, as `.ci/run` sets it: there they fail.

Fixtures last for one module: while Playwright runs, asyncio takes its loop for the thread's own,
and other tests could start none.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, sync_playwright

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
# As the course's own set-up writes them; whoever has installed with pip would see a notice.
NOTICES = '{"fetchNews": "false", "checkForUpdates": false}'
_MEDIANS = pytest.StashKey[list[str]]()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium)
        try:
            yield started.new_context(viewport={"width": 1500, "height": 1100})
        finally:
            started.close()


@contextlib.contextmanager
def _running(
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
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="session")
def running() -> Callable[..., contextlib.AbstractContextManager[subprocess.Popen]]:
    """What runs a server: `with running(command, folder, environment)`."""
    return _running


@pytest.fixture(scope="module")
def jupyterlab(
    chromium: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """A JupyterLab on a copy of the notebooks; gives the address at which it shows one of them."""
    folder = tmp_path_factory.mktemp("jupyterlab")
    unwanted = shutil.ignore_patterns("saved", ".ipynb_checkpoints")
    shutil.copytree(NOTEBOOKS, folder / "notebooks", ignore=unwanted)
    notices = folder / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    notices.parent.mkdir(parents=True)
    notices.write_text(NOTICES)
    environment = {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        f"--ServerApp.root_dir={folder / 'notebooks'}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",  # the other one asks PyPI
    ]
    with _running(command, folder, environment) as server:
        at = _started(server, folder / "runtime", folder / "log.txt")

        def address(path: str) -> str:
            # A workspace for each notebook: JupyterLab opens all that its workspace had open.
            workspace = path.replace("/", "-").removesuffix(".ipynb")
            return f"{at['url']}lab/workspaces/{workspace}/tree/{path}?token={at['token']}"

        yield address


def _started(server: subprocess.Popen, runtime: Path, log: Path) -> dict[str, Any]:
    """Wait until the server says where it listens, and give what it says."""
    said = runtime / f"jpserver-{server.pid}.json"
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        try:
            return json.loads(said.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> list[str]:
    """A list for what was measured; its lines stand at the end of pytest's report."""
    return request.config.stash.setdefault(_MEDIANS, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if lines := config.stash.get(_MEDIANS, []):
        terminalreporter.section("key press to changed read-out in Chromium")
        for line in lines:
            terminalreporter.write_line(line)
