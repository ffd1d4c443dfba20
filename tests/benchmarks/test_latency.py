"""LiteRT's latency with each kind of file, and our timing beside LiteRT's own benchmark."""

import json
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quant_tutorial import deployment, mnist, models, tflite
from quant_tutorial.tflite.interpreter import make_interpreter

import numpy as np
import pytest
from measuring import Report, in_turn

MODES = ("float32", "dynamic", "float16", "int8", "int16x8")


@pytest.fixture(scope="module")
def ladder() -> dict[str, bytes]:
    data, baseline = mnist.load(), models.load_baseline()
    calibration = mnist.to_float(data.x_train[:500])
    return {
        mode: tflite.convert(
            baseline, mode, calibration=calibration if mode.startswith("int") else None
        )
        for mode in MODES
    }


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return mnist.to_float(mnist.load().x_test[:1])


@pytest.mark.parametrize("threads", [1, 2])
def test_all_files_in_turn(
    ladder: dict[str, bytes], image: np.ndarray, threads: int, report: Report
) -> None:
    found = deployment.latencies(ladder, image, threads=threads)
    for mode, latency in found.items():
        report(f"LiteRT, one image, {threads} threads, {mode}", 1e6 * latency.median, "µs")
    # 16x8 with biases of 64 bits, for which there are reference kernels only.
    ratio = found["int8"].median / found["int16x8"].median
    report(f"LiteRT, one image, {threads} threads, int8 to int16x8", ratio, "×", 1 / 3)


def test_without_xnnpack(ladder: dict[str, bytes], image: np.ndarray, report: Report) -> None:
    kernels = ("default", "optimized")
    with_it, without = in_turn(*(hundred_runs(ladder["float32"], image, each) for each in kernels))
    report("LiteRT float32, XNNPACK's time to that without it", with_it / without, "×", 1 / 1.5)


def hundred_runs(content: bytes, image: np.ndarray, kernels: str) -> Callable[[], None]:
    interpreter = make_interpreter(content, kernels=kernels, threads=1)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)

    def run() -> None:
        for _ in range(100):
            interpreter.invoke()

    return run


def test_against_the_benchmark_of_litert(image: np.ndarray, tmp_path: Path, report: Report) -> None:
    # It gives hundredths of a millisecond, enough for 16x8 alone, and writes no int16 input.
    calibration = mnist.to_float(mnist.load().x_train[:100])
    content = tflite.convert(
        models.load_baseline(), "int16x8", calibration=calibration, io="float32"
    )
    path, result = tflite.save(content, tmp_path / "model.tflite"), tmp_path / "result"
    tool = Path(sysconfig.get_path("scripts")) / "litert-benchmark"
    command: list[Any] = [tool, "--model", path, "--num_runs", "300", "--num_threads", "1"]
    subprocess.run([*command, "--result_json", result], check=True, capture_output=True)
    theirs = json.loads(result.read_text())["latency"]["median_ms"] / 1000
    ours = deployment.latency(content, image).median
    # Either may be the slower one, because the machine may get other work between the two.
    difference = max(ours / theirs, theirs / ours)
    report("our latency and that of LiteRT's own benchmark, larger to smaller", difference, "×", 3)
