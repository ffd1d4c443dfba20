"""What several tests need: the data, the trained model and its converted files, made once.

It also arranges the tests for several workers (`make test`), and lets nbval and the browser tests
share one run of each lesson.
"""

import contextlib
import gc
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from quant_tutorial import mnist

import architectures
import forked_kernels
import hypothesis
import numpy as np
import pytest
from lesson_page import Window
from lesson_run import FRAMES, NOTEBOOKS, JupyterLab, shared_folder
from nbval.plugin import IPyNbCell, IPyNbFile
from playwright.sync_api import Browser, Page, sync_playwright
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

# A developer's machine tries new examples at each run. CI tries the same ones for the same code, so
# that it says something about the change and not about luck.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


# Workers share the cores as it is. TensorFlow's threads would only get in each other's way: with
# one, a lesson takes as long, and a tenth less of the processor's time.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

# The lessons whose tests take longest start first: then no worker waits long for the other.
LONGEST = ("08", "11", "12", "05", "06", "10", "07", "03", "09", "04")
# The files that come right after the lessons. The site uses the frames of all lessons, so that the
# worker that builds it must not be there while the other one is still at work on a lesson.
FIRST = ("test_checks.py", "test_lab.py", "test_site.py")
# In this lesson the page itself runs all cells, as a reader does.
RUN_BY_THE_PAGE = "02_affine_quantization.ipynb"
# Bytes for the kernel of a notebook: Binder has 2 GB, and JupyterLab needs some of that.
MEMORY = 1.5e9
MAXRSS = "__import__('resource').getrusage(0).ru_maxrss"
LAB = pytest.StashKey[JupyterLab]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LAB] = JupyterLab()
    if sys.platform == "linux":
        # One server of kernels for all workers, which find it by their environment.
        if "PYTEST_XDIST_WORKER" not in os.environ:
            kernels = contextlib.ExitStack()
            os.environ.update(kernels.enter_context(forked_kernels.serving()))
            config.add_cleanup(kernels.close)
        config.option.nbval_current_env = False  # such a kernel imports all by itself


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[LAB].close()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """For `make quick`, leave out files whose tests are all slow: importing them takes seconds."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    return bool(re.search(r"^pytestmark = .*\bmark\.slow\b", text, re.M)) or None


def keep_what_stays() -> None:
    """Look for garbage once more, and never again in what is there now.

    Each conversion has the converter look through all objects. In a worker that has run thousands
    of tests, that took longer than the conversion.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    keep_what_stays()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put together what shares a lesson's kernel, and begin with what takes longest."""
    lessons: dict[str, list[pytest.Item]] = {}
    others = []
    for item in items:
        path = lesson_of(item)
        (lessons.setdefault(path, []) if path else others).append(item)
    for path, found in lessons.items():
        cells = [item for item in found if isinstance(item, IPyNbCell)]
        in_the_page = [item for item in found if item not in cells]
        if cells:
            notebook = cells[0].parent
            if in_the_page and path != RUN_BY_THE_PAGE and shutil.which("chromium"):
                share(notebook, path, config.stash[LAB])
            if len(cells) == sum(cell.cell_type == "code" for cell in notebook.nb.cells):
                cells.append(PeakMemory.from_parent(notebook, name="peak memory"))
                if in_the_page:
                    cells.append(Frames.from_parent(notebook, name="frames"))
            found[:] = [*cells, *in_the_page]

    def rank(path: str) -> int:
        number = Path(path).stem[:2]
        return [*LONGEST, number].index(number)

    others.sort(key=lambda item: [*FIRST, item.path.name].index(item.path.name))
    items[:] = [item for path in sorted(lessons, key=rank) for item in lessons[path]] + others


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[bool]:
    result = yield
    if nextitem is None or nextitem.path != item.path:
        keep_what_stays()
    return result


class ByLesson(LoadFileScheduling):
    """Gives a worker all tests of a file or, what needs its kernel, all tests of a lesson."""

    def _split_scope(self, nodeid: str) -> str:
        in_the_page = re.fullmatch(r"tests/browser/test_explorers\.py::\w+\[(.+)\]", nodeid)
        return f"notebooks/{in_the_page[1]}.ipynb" if in_the_page else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByLesson:
    return ByLesson(config, log)


class PeakMemory(pytest.Item):
    """The memory that a notebook's kernel has taken at most, after nbval has run the cells."""

    def runtest(self) -> None:
        # On Linux `ru_maxrss` begins with the size of the process that has started the kernel.
        linux = sys.platform == "linux"
        source = "open('/proc/self/status').read()" if linux else MAXRSS
        reply = self.parent.kernel.kc.execute(
            "", silent=True, user_expressions={"peak": source}, reply=True, timeout=60
        )
        found = reply["content"]["user_expressions"]["peak"]["data"]["text/plain"]
        peak = int(re.search(r"VmHWM:\D+(\d+) kB", found)[1]) * 1024 if linux else int(found)
        assert peak < MEMORY, f"{peak / 1e9:.2f} GB"

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}: peak memory"


class Frames(pytest.Item):
    """The frames of a notebook's explorers for the web edition, from the kernel that has run it.

    The explorers must say what they said when the notebook was committed, see `web.frames`. Where
    `tests/test_site.py` does not find these frames, the site makes its own.
    """

    def runtest(self) -> None:
        kept = shared_folder(self.config._tmp_path_factory) / "frames"
        source = (
            "from pathlib import Path as _Path\n"
            "from quant_tutorial.web.build import make_frames as _make_frames\n"
            f"_make_frames(_Path({str(self.path)!r}), _Path({str(kept)!r}), {FRAMES}, globals())"
        )
        kernel = self.parent.kernel.kc
        content = kernel.execute(source, silent=True, reply=True, timeout=600)["content"]
        assert content["status"] == "ok", "\n".join(content["traceback"])

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}: frames"


def lesson_of(item: pytest.Item) -> str | None:
    """Return the notebook that a test runs, or needs in the browser; None for other tests."""
    if isinstance(item.parent, IPyNbFile) and item.path.is_relative_to(NOTEBOOKS):
        return item.path.relative_to(NOTEBOOKS).as_posix()
    return item.callspec.params.get("lesson") if hasattr(item, "callspec") else None


def share(notebook: IPyNbFile, path: str, lab: JupyterLab) -> None:
    """Let nbval execute a notebook in a kernel that the browser tests find afterwards."""

    def setup() -> None:
        notebook.kernel = lab.kernel(path)
        notebook.setup_sanitize_files()

    notebook.setup = setup


@pytest.fixture(scope="session")
def jupyterlab(chromium: str, request: pytest.FixtureRequest) -> JupyterLab:
    """The JupyterLab for the browser to drive."""
    return request.config.stash[LAB]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path. A reader's machine may have none, and skips these tests; CI may not."""
    path = shutil.which("chromium")
    if path is None:
        missing = "there is no `chromium` on the PATH, which this test drives"
        if os.environ.get("CI"):
            pytest.fail(f"{missing}; in CI it has to be there", pytrace=False)
        pytest.skip(missing)
    return path


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """The browser, for one module: while Playwright runs, other tests can start no asyncio loop."""
    with sync_playwright() as playwright:
        # Without a GPU a process of its own would only imitate one.
        started = playwright.chromium.launch(executable_path=chromium, args=["--disable-gpu"])
        try:
            yield started
        finally:
            started.close()


@pytest.fixture(scope="session")
def window(chromium: str) -> Iterator[Window]:
    """A Chromium that stays open for JupyterLab."""
    window = Window(chromium)
    yield window
    window.close()


@pytest.fixture(scope="module")
def lab_page(window: Window) -> Iterator[Page]:
    """The page in which JupyterLab shows one notebook after another; see `show`."""
    with window.page() as page:
        yield page


@pytest.fixture(scope="session")
def data() -> mnist.Mnist:
    return mnist.load()


@pytest.fixture(scope="session")
def x_test(data: mnist.Mnist) -> np.ndarray:
    return mnist.to_float(data.x_test)


@pytest.fixture(scope="session")
def calibration(data: mnist.Mnist) -> np.ndarray:
    return mnist.to_float(data.x_train[:500])


@pytest.fixture(scope="session")
def baseline() -> Any:
    from quant_tutorial import models

    return models.load_baseline()


@pytest.fixture(scope="session")
def converted(
    baseline: Any, calibration: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., bytes]:
    """Convert the baseline in a mode, with a type of input; one worker does it for all."""
    from quant_tutorial import tflite

    folder = shared_folder(tmp_path_factory)

    def convert(mode: str, io: str | None = None) -> bytes:
        images = calibration if mode.startswith("int") else None
        return made_once(
            folder / f"baseline-{mode}-{io}.tflite",
            lambda: tflite.convert(baseline, mode, calibration=images, io=io),
        )

    return convert


@pytest.fixture(scope="session")
def exported(baseline: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The baseline as `export_litert` writes it; one worker does it for all."""
    from quant_tutorial import tflite

    path = shared_folder(tmp_path_factory) / "baseline-exported.tflite"
    return made_once(path, lambda: tflite.export_litert(baseline))


@pytest.fixture(scope="session")
def files(converted: Callable[..., bytes]) -> dict[str, bytes]:
    """The baseline as `.tflite`: float32, and full-integer int8 with each type of input."""
    int8 = {f"int8, {io} input": converted("int8", io) for io in ("int8", "uint8", "float32")}
    return {"float32": converted("float32"), **int8}


@pytest.fixture(scope="session")
def further() -> Mapping[str, Any]:
    """The networks of `architectures`, by name."""
    return {name: architectures.load(name) for name in ("separable", "residual")}


@pytest.fixture
def unencoded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the PNG of an explorer's update, which takes most of the time.

    `pictures.picture` draws what a test looks at.
    """
    from quant_tutorial.explorers.base import Explorer

    if "encoded" not in request.keywords:
        monkeypatch.setattr(Explorer, "_image_tag", lambda e: setattr(e, "drawn", None) or "<img>")


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Let one process after another into a block."""
    try:
        import fcntl
    except ImportError:  # Windows, where `make test` does not run
        yield
        return
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return what one of the workers makes and leaves in a file for the others."""
    with alone(path.with_suffix(".lock")):
        if not path.exists():
            path.write_bytes(make())
    return path.read_bytes()


@pytest.fixture(scope="session")
def simulator(baseline: Any, calibration: np.ndarray) -> Any:
    from quant_tutorial.simulate import Simulator

    return Simulator(baseline, calibration)


@pytest.fixture(scope="session")
def staged(simulator: Any, x_test: np.ndarray) -> Any:
    """The simulated baseline on all test images."""
    from quant_tutorial.simulate import StagedRun

    return StagedRun(simulator, x_test)


@pytest.fixture(scope="session")
def ladder(files: dict[str, bytes], converted: Callable[..., bytes]) -> dict[str, bytes]:
    """The baseline as `.tflite` in every mode of the converter, each with its usual input type."""
    others = ("dynamic", "float16", "int8_fallback", "int16x8")
    return {
        "float32": files["float32"],
        **{mode: converted(mode) for mode in others},
        "int8": files["int8, int8 input"],
    }
