"""Run all cells of every notebook, or of the notebooks named, and save them: `make notebooks`.

Each notebook runs in a fresh kernel, and is written back with its outputs in JupyterLab's format.
Timestamps, widget state and random widget ids are left out, because they would make the next diff
unreadable. For each notebook the script prints its time and the peak memory of its kernel.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nbclient
import nbformat

ROOT = Path(__file__).parent.parent
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
COLLAPSED = "hide-output"  # this tag's name is myst-nb's, which makes the web edition
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def rerun(path: Path) -> tuple[float, float]:
    """Execute a notebook in its own folder, and write it back completely or not at all.

    Returns:
        The time in seconds, and the peak memory of the largest child process in gigabytes.
    """
    start = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute(stderr=subprocess.DEVNULL)  # where the kernel logs, and no cell may write
    clean(notebook)
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
    unit = 1 if sys.platform == "darwin" else 1024
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return time.monotonic() - start, memory / 1e9


def clean(notebook: nbformat.NotebookNode) -> None:
    """Remove from a notebook, in place, everything that no reader and no test uses."""
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        # JupyterLab writes text as lists of lines, which are also the easiest to read in a diff.
        cell.source = cell.source.splitlines(keepends=True)
        cell.metadata = kept(cell.metadata)
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = output.text.splitlines(keepends=True)
            if "data" in output:
                # Without a kernel, the explorer's picture and sentence are shown instead.
                output.data.pop(WIDGET_VIEW, None)
                for kind, value in output.data.items():
                    if kind.startswith("text/"):
                        output.data[kind] = value.splitlines(keepends=True)
        if "jupyter" in cell.metadata:
            # In place of a collapsed output JupyterLab shows the first line of the first one, which
            # may give the answer away; of an empty one it shows nothing. nbval ignores it.
            cell.outputs.insert(0, nbformat.v4.new_output("display_data"))


def kept(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a cell that readers and tests use: tags, questions, if it collapses.

    The output of a cell with the tag `COLLAPSED`, or with the metadata by which JupyterLab knows
    it, starts collapsed; such a cell gets both. JupyterLab drops its own when the cell is run.
    """
    tags = list(metadata.get("tags", []))
    collapsed = metadata.get("jupyter", {}).get("outputs_hidden", False)
    if collapsed and COLLAPSED not in tags:
        tags.append(COLLAPSED)
    found: dict[str, Any] = {"tags": tags} if tags else {}
    if "predict" in metadata:  # how the web edition asks the cell's questions
        found["predict"] = metadata["predict"]
    if COLLAPSED in tags:
        found["jupyter"] = {"outputs_hidden": True}
    return found


def main() -> None:
    """Run the notebooks named on the command line again, or all notebooks if none is named."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path)
    folders = (ROOT / "notebooks", ROOT / "notebooks" / "solutions")
    every = [path for folder in folders for path in sorted(folder.glob("[0-9]*.ipynb"))]
    paths = parser.parse_args().notebooks or every
    # The kernel must be that of this Python, even if other kernels are installed elsewhere.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    for number, path in enumerate(paths, start=1):
        print(f"[{number}/{len(paths)}] {path}", end=": ", flush=True)
        # A new process measures the memory of its own children only, not of earlier notebooks.
        with ProcessPoolExecutor(1) as process:
            seconds, memory = process.submit(rerun, path.resolve()).result()
        print(f"{seconds:.0f} s, {memory:.1f} GB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
