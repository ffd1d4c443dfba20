"""Running an explorer's cell again adds no thread and next to no memory to the kernel."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupyter_client import BlockingKernelClient, KernelManager

pytestmark = pytest.mark.slow

LESSONS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*.ipynb"))
RUNS, MEGABYTES = 3, 9  # for all three together; lesson 05's once took 216 for each

# What the cells need, with fewer images than in the lessons.
SETUP = """
import gc, threading
import psutil
from quant_tutorial import affine, integer, mnist, models, qat, rounding, tflite
from quant_tutorial.calibration import Statistics
from quant_tutorial.explorers.affine import AffineExplorer
from quant_tutorial.explorers.calibration import RangeExplorer
from quant_tutorial.explorers.comparison import ComparisonExplorer
from quant_tutorial.explorers.granularity import GranularityExplorer
from quant_tutorial.explorers.lab import QuantizationLab
from quant_tutorial.explorers.live_training import LiveTraining
from quant_tutorial.explorers.multiplier import MultiplierExplorer
from quant_tutorial.explorers.post_training import PostTrainingExplorer
from quant_tutorial.explorers.rounding import RoundingExplorer
from quant_tutorial.explorers.tensors import TensorExplorer
from quant_tutorial.lab import Lab
from quant_tutorial.simulate import Simulator, StagedRun
import numpy as np

data = mnist.load()
baseline, calibration = models.load_baseline(), mnist.to_float(data.x_train[:100])
x_test, y_test = mnist.to_float(data.x_test[:1000]), data.y_test[:1000]
statistics = {"relu2": Statistics()}
statistics["relu2"].observe(calibration)
weights = models.weights(models.fold_batch_norm(baseline))
run = StagedRun(Simulator(baseline, calibration), x_test)
int8_file = models.load_int8_baseline()
pixels = affine.quantize(x_test[:200], tflite.input_output(int8_file)[0].params)
ratios = np.array([0.0123, 0.0047, 0.00071])
multiplier, shift = np.array([integer.fixed_point(ratio) for ratio in ratios]).T
output = integer.Output(multiplier, shift, -10, -128, 127, np.dtype(np.int8))
sums = np.random.default_rng(0).normal(0, 60 / ratios, (40, 5, 3)).astype(np.int32)
trainable = qat.quantize_aware(baseline, qat.named_scheme(2, 2), calibration)
lab = Lab(baseline, calibration, x_test, y_test)
rounded = {("nearest", 2): rounding.nearest(run.simulator, qat.named_scheme(2, 8))}
noise = {("nearest", 2): dict.fromkeys(weights, 9.0)}
"""
MEASURE = """
gc.collect()
print(psutil.Process().memory_info().rss / 1e6, threading.active_count())
"""
CELLS = {
    "AffineExplorer": "AffineExplorer(bits=4, value_range=(0, 10), x=7.8)",
    "RangeExplorer": 'RangeExplorer(statistics, "relu2", bits=4)',
    "GranularityExplorer": "GranularityExplorer(weights, {}, bits=4)",
    "PostTrainingExplorer": "PostTrainingExplorer(run, y_test, bits=4)",
    "RoundingExplorer": 'RoundingExplorer(weights, rounded, noise, {("nearest", 2): 0.5}, 0.99)',
    "TensorExplorer": "TensorExplorer(int8_file, pixels)",
    "MultiplierExplorer": "MultiplierExplorer(sums, ratios, output, bits=6)",
    "LiveTraining": """\
live = LiveTraining(trainable, x_test, y_test, epochs=1, steps_per_epoch=2, reference=0.99)
view = display(live, display_id=True)
live.add(1, {"loss": 0.5, "accuracy": 0.9})
view.update(live)""",
    "ComparisonExplorer": "ComparisonExplorer(run.simulator, x_test, y_test, bits=2)",
    "QuantizationLab": "QuantizationLab(lab)",
}


@pytest.fixture(scope="module")
def execute() -> Iterator[Callable[[str, str], str]]:
    """What runs code in a kernel as JupyterLab does, with the cell's id; gives what it prints."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client: BlockingKernelClient = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=120)

    def run(code: str, cell: str) -> str:
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        request = client.session.msg("execute_request", content, metadata={"cellId": cell})
        client.shell_channel.send(request)
        printed = ""
        while True:
            message = client.get_iopub_msg(timeout=300)
            if message["parent_header"].get("msg_id") != request["header"]["msg_id"]:
                continue
            kind, content = message["msg_type"], message["content"]
            assert kind != "error", content["traceback"]
            printed += content.get("text", "") if kind == "stream" else ""
            if kind == "status" and content["execution_state"] == "idle":
                return printed

    try:
        run(SETUP, "setup")
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_that_is_run_again(execute: Callable[[str, str], str], name: str) -> None:
    measured = []
    for _ in range(2 + RUNS):  # the first two also fill caches
        execute(CELLS[name], name)
        measured.append(tuple(map(float, execute(MEASURE, "measure").split())))
    (before, threads), (after, more) = measured[1], measured[-1]
    assert more == threads
    assert after - before < MEGABYTES, measured


def test_an_explorer_with_a_name_is_not_closed(execute: Callable[[str, str], str]) -> None:
    execute("first, others = AffineExplorer(4), [AffineExplorer(8)]", "made")
    for shown in ("first", "others[0]", "first"):
        execute(shown, "shown")
    assert execute("first.bits.value = 5; print(first.text[:6], others[0].text[:6])", "moved") == (
        "5 bits 8 bits\n"
    )
    execute("del first", "gone")
    execute("kept = Out", "kept")  # IPython's own names do not count
    execute("AffineExplorer(3)", "shown")
    closed = "print([repr(e) for e in kept.values() if repr(e).startswith('AffineExplorer')])"
    assert "AffineExplorer, closed: run its cell again." in execute(closed, "closed")


def test_every_explorer_of_the_lessons_is_here() -> None:
    used = set()
    for path in LESSONS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            used |= set(re.findall(r"^(?:\w+ = )?(\w+)\(", source, re.M)) & {
                imported
                for line in re.findall(r"quant_tutorial\.explorers\.\w+ import (.+)", source)
                for imported in line.split(", ")
            }
            used |= set(re.findall(r"quant_tutorial\.explorers\.\w+ import (\w+)", source))
    assert used == set(CELLS)
