"""What several tests need: the data, the trained model and its converted files, made once."""

import os
import shutil
from typing import Any

from quant_tutorial import mnist

import architectures
import hypothesis
import numpy as np
import pytest

# A developer's machine tries new examples at each run. CI tries the same ones for the same code, so
# that it says something about the change and not about luck.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


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
def files(baseline: Any, calibration: np.ndarray) -> dict[str, bytes]:
    """The baseline as `.tflite`: float32, and full-integer int8 with each type of input."""
    from quant_tutorial import tflite

    int8 = {
        io: tflite.convert(baseline, "int8", calibration=calibration, io=io)
        for io in ("int8", "uint8", "float32")
    }
    return {
        "float32": tflite.convert(baseline, "float32"),
        **{f"int8, {io} input": content for io, content in int8.items()},
    }


@pytest.fixture(scope="session")
def further(data: mnist.Mnist) -> dict[str, Any]:
    """The networks of `architectures`, by name, trained for a few seconds each."""
    images = mnist.to_float(data.x_train[:12_000])
    return {
        model.name: architectures.trained(model, images, data.y_train[:12_000])
        for model in (architectures.separable(), architectures.residual())
    }


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
def ladder(files: dict[str, bytes], baseline: Any, calibration: np.ndarray) -> dict[str, bytes]:
    """The baseline as `.tflite` in every mode of the converter, each with its usual input type."""
    from quant_tutorial import tflite

    integer = ("int8_fallback", "int16x8")
    return {
        "float32": files["float32"],
        **{mode: tflite.convert(baseline, mode) for mode in ("dynamic", "float16")},
        **{mode: tflite.convert(baseline, mode, calibration=calibration) for mode in integer},
        "int8": files["int8, int8 input"],
    }
