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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant_tutorial import mnist, models
from quant_tutorial.explorers.exported import encoded
from quant_tutorial.flatbuffer import constant_view
from quant_tutorial.simulate import Node, Simulator, StagedRun
from quant_tutorial.simulate.stages import BATCH
from quant_tutorial.web import bundling

import numpy as np

LIST = "assets.json"
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
        "stages": {node.name: _stage(simulator, node) for node in simulator.nodes[1:]},
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


def write(folder: Path) -> None:
    """Write all files into a folder, and their list.

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
    (folder / LIST).write_bytes(as_json(listed))


def _packed(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    """Write a file, compressed, and return its name and its size."""
    return _written(folder, f"{name}.gz", gzip.compress(content, 9, mtime=0))


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
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
