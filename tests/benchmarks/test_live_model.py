"""The live explorer of lesson 05 in Chromium, against LiteRT.js on the float model beside it."""

import base64
import statistics
from pathlib import Path
from typing import Any

from quant_tutorial import quiet
from quant_tutorial.explorers.post_training import PostTrainingExplorer
from quant_tutorial.frameworks import keras, tf
from quant_tutorial.simulate.stages import BATCH
from quant_tutorial.web import bundling, model_assets

import live_page
from measuring import Report
from playwright.sync_api import Browser

ROUNDS = 20
# Makes the workers for the float model: as many as the explorer has.
START = """async ([encoded, batch]) => {
  const bytes = Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
  const files = await (await fetch("_static/live/assets.json")).json();
  const packed = (await fetch(`_static/live/${files["litert.wasm"].file}`)).body;
  const wasm = new Response(packed.pipeThrough(new DecompressionStream("gzip")));
  const module = await WebAssembly.compile(await wasm.arrayBuffer());
  const script = new URL(`_static/live/${files["litert.js"].file}`, location.href).href;
  const workers = Math.min(navigator.hardwareConcurrency, 2);
  window.floats = Array.from({ length: workers }, () => new Worker("_static/live/float_worker.js"));
  window.all = (message) => Promise.all(window.floats.map((worker) => new Promise((resolve) => {
    worker.onmessage = resolve;
    worker.postMessage(message);
  })));
  const count = 10000 / batch / workers;
  await window.all({ kind: "start", module, script, bytes, batch, count });
}"""
# One move of which every stage takes part, then the float model; milliseconds of each.
MEASURE = """async (bits) => {
  const { live } = document.querySelector("figure.explorer");
  const caption = document.querySelector("figcaption");
  let estimated;
  const observer = new MutationObserver(() => {
    if (caption.textContent.includes("estimated on")) estimated ??= performance.now();
  });
  observer.observe(caption, { childList: true, characterData: true, subtree: true });
  const begun = performance.now();
  const whole = live.whole();
  live.set({ weights: bits });
  await whole;
  const ended = performance.now();
  observer.disconnect();
  const floats = performance.now();
  await window.all({ kind: "run" });
  return [estimated - begun, ended - begun, performance.now() - floats];
}"""


def float_file(model: Any) -> bytes:
    """Convert a model for batches of the size of the stages'."""
    constants = [(variable, tf.constant(variable)) for variable in model.variables]

    def compute(x: Any) -> Any:
        with keras.StatelessScope(state_mapping=constants):
            return model(x, training=False)

    shape = tf.TensorSpec((BATCH, *model.input_shape[1:]), name="x")
    concrete = tf.function(compute).get_concrete_function(shape)
    with quiet.all_output():
        return tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert()


def test_a_move_on_the_whole_test_set(
    staged: Any, data: Any, browser: Browser, tmp_path: Path, report: Report
) -> None:
    explorer = PostTrainingExplorer(staged, data.y_test)
    bundling.bundle(tmp_path)
    model_assets.write(tmp_path, sources=())
    here = Path(__file__).parent / "float_worker.js"
    bundling.bundle_script(here, tmp_path / here.name)
    with live_page.opened(explorer, browser, tmp_path) as live:
        live.page.evaluate("() => document.querySelector('figure.explorer').live.load()")
        encoded = base64.b64encode(float_file(staged.simulator.model)).decode()
        live.page.evaluate(START, [encoded, BATCH])
        times = [live.page.evaluate(MEASURE, 3 + turn % 2) for turn in range(2 + ROUNDS)]
    estimate, whole, floats = (statistics.median(each) for each in zip(*times[2:], strict=True))
    report("live explorer of 05, move to estimate", estimate, "ms", 100)
    report("the float model in LiteRT.js, 10,000 images", floats, "ms")
    report("live explorer of 05, move to all images", whole, "ms", 1.5 * floats)
