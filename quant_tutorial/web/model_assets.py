"""Write what a page needs to run the course's model itself: LiteRT.js, the model and the test set.

Run as `python -m quant_tutorial.web.model_assets FOLDER`. The page runs the stages of
`simulate.stages` in LiteRT.js, with the place of each kernel and bias in their bytes, so that it
can write other weights there. The parameters are part of each explorer's own data: Python remains
the only place where ranges are measured and chosen.

What is large is compressed, since not every host does that. The files are named after their
content, so that a browser may keep them. `assets.json` lists them.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from quant_tutorial import lab, mnist, models, qat, rounding
from quant_tutorial.explorers.exported import encoded
from quant_tutorial.explorers.exported_model import (
    activations_as_data,
    tables,
    weights_as_data,
)
from quant_tutorial.flatbuffer import constant_view
from quant_tutorial.lab import PRESETS, PTQ, ROUNDED, TRAINED, Setting
from quant_tutorial.simulate import ModelParams, Node, Simulator, StagedRun
from quant_tutorial.simulate.stages import BATCH
from quant_tutorial.web import bundling

import numpy as np
from numpy.typing import NDArray

LIST = "assets.json"
SOURCES = (*ROUNDED, *TRAINED)  # the weights of lesson 10's menu besides those of the baseline
LITERT = "@litertjs/core"
# The page takes the second where the browser has no relaxed SIMD.
RUNTIMES = {"litert": "litert_wasm_internal", "litert_compat": "litert_wasm_compat_internal"}


def network(simulator: Simulator) -> dict[str, Any]:
    """Return the nodes of a model, and its stages with the place of the weights in their bytes.

    A place is an offset in bytes and a length in float32 values. Lesson 05.

    Raises:
        ValueError: when the converter has changed the weights of a layer, or a node has none.
    """
    return {
        "batch": BATCH,
        "nodes": [
            {
                "name": node.name,
                "layer": node.layer,
                "sources": list(node.sources),
                "weights": node.weights,
                "shape": list(simulator.model.get_layer(node.end).output.shape[1:]),
            }
            for node in simulator.nodes
        ],
        "stages": {node.name: _stage(simulator, node) for node in simulator.nodes if node.sources},
    }


def _stage(simulator: Simulator, node: Node) -> dict[str, Any]:
    if node.weights is None or node.kind != "range":
        raise ValueError(f"Node {node.name} has no weights or no range of its own.")
    content = bytearray(simulator.stages[node.name])
    begin = np.frombuffer(content, np.uint8).ctypes.data
    places = {}
    for part, values in weights_of(simulator, node.weights).items():
        view = constant_view(content, values)
        if view is None:
            raise ValueError(f"Layer {node.weights}: its {part} is not in its stage's bytes.")
        places[part] = {"offset": view.ctypes.data - begin, "length": view.size}
    return {"bytes": encoded(np.frombuffer(bytes(content), np.uint8)), **places}


def weights_of(simulator: Simulator, name: str) -> dict[str, np.ndarray]:
    """Return kernel and bias of a layer, flat, as a `.tflite` file has them: channels first."""
    layer = simulator.model.get_layer(name)
    kernel = models.litert_layout(layer, simulator.weights[name])
    return {"kernel": kernel.ravel(), "bias": np.asarray(layer.bias)}


def layers(simulator: Simulator) -> dict[str, Any]:
    """Return kernel, bias and number of output channels of each layer of a model."""
    return {
        name: {part: encoded(values) for part, values in weights_of(simulator, name).items()}
        | {"channels": kernel.shape[-1]}
        for name, kernel in simulator.weights.items()
    }


def baseline() -> dict[str, Any]:
    """Return the course's model, and labels and order of the test images, as the page reads them.

    The images are computed in the order of `StagedRun`, so that the page estimates from the same
    sample.
    """
    data = mnist.load()
    images = mnist.to_float(data.x_test)
    simulator = Simulator(models.load_baseline(), images[:1])  # its ranges are not used
    run = StagedRun(simulator, images, threads=1)
    order = run.sample(run.count)
    run.close()
    return {
        **network(simulator),
        "layers": layers(simulator),
        "order": encoded(order.astype(np.uint16)),
        "labels": encoded(data.y_test),
    }


def source(name: str) -> tuple[dict[str, Any], Simulator, ModelParams]:
    """Return weights of lesson 10's menu as the page reads them, with what they are made from.

    `name` is one of `lab.ROUNDED` or `lab.TRAINED`. The last two are the simulated model and the
    parameters that its weights were rounded or trained with.
    """
    if name in ROUNDED:
        rounded = rounding.load(name)
        model, own = rounded.model, rounded.params
    else:
        trained = qat.load_trained(name)
        model, own = qat.floats_and_params(trained)
    simulator = Simulator(model, calibration())
    own_data = {
        "weights": {layer: weights_as_data(params) for layer, params in own.weights.items()},
        "activations": activations_as_data(own.activations),
    }
    data = {"layers": layers(simulator), "tables": tables(simulator), "own": own_data}
    return data, simulator, own


def calibration() -> NDArray[np.float32]:
    """Return the images on which lesson 10 measures ranges."""
    return mnist.to_float(mnist.load().x_train[:1000])


def preset_file(setting: Setting, simulator: Simulator, own: ModelParams | None) -> bytes | None:
    """Return the `.tflite` file of one of lesson 10's presets; None if LiteRT has none."""
    plan = lab.plan(simulator, lab.model_params(simulator, setting, own))
    return None if plan.make is None else plan.make(calibration())


def write(folder: Path, sources: Collection[str] = SOURCES) -> None:
    """Write all files into a folder, and their list.

    Args:
        folder: The folder; it is made if it is missing.
        sources: The weights of lesson 10's menu that the page can show, of `SOURCES`.

    Raises:
        RuntimeError: when Deno is missing, or the package is not the one in its lock file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listed = {
        "images.bin": _packed(folder, "images.bin", mnist.load().x_test.tobytes()),
        "baseline.json": _packed(folder, "baseline.json", as_json(baseline())),
    }
    for name, stem in RUNTIMES.items():
        for ending, put in (("wasm", _packed), ("js", _written)):
            (path,) = bundling.copy_files(LITERT, f"wasm/{stem}.{ending}", folder)
            content = path.read_bytes()
            path.unlink()
            listed[f"{name}.{ending}"] = put(folder, f"{name}.{ending}", content)
    of_source: dict[str, tuple[Simulator, ModelParams | None]] = {
        PTQ: (Simulator(models.load_baseline(), calibration()), None)
    }
    for name in sources:
        data, *rest = source(name)
        of_source[name] = tuple(rest)
        file = f"{name.replace(' ', '_')}.json"
        listed[file] = _packed(folder, file, as_json(data))
    for name, setting in PRESETS.items():
        if setting.source in of_source:
            content = preset_file(setting, *of_source[setting.source])
            if content is not None:
                file = f"lab_{setting.name}.tflite"
                listed[f"{name}.tflite"] = _written(folder, file, content)
    (folder / LIST).write_bytes(as_json(listed))


def _packed(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    """Write a file, compressed, and return its name and its size.

    The levels 8 and 9 take up to ten times as long, and make it less than 1% smaller.
    """
    return _written(folder, f"{name}.gz", gzip.compress(content, 7, mtime=0))


def _written(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    stem, _, ending = name.partition(".")
    path = folder / f"{stem}-{hashlib.sha256(content).hexdigest()[:12]}.{ending}"
    path.write_bytes(content)
    return {"file": path.name, "bytes": len(content)}


def as_json(data: Mapping[str, Any]) -> bytes:
    """Return data as compact JSON; its floats are exactly those of Python."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode()


def main() -> None:
    """Write all files into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sources", nargs="*", help="of the weights in lesson 10's menu; all")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.sources if name not in SOURCES]:
        parser.error(f"sources: there are no weights {unknown[0]!r}; choose from {list(SOURCES)}")
    write(arguments.folder, arguments.sources or SOURCES)


if __name__ == "__main__":
    main()
