"""Restart and Run All, for every notebook or the ones named: `make notebooks`.

Each notebook runs in a fresh kernel and is written back with its outputs, in JupyterLab's format,
without what would make the next diff unreadable: timestamps, widget state, random widget ids.
Printed for each: how long it took, and the most memory that its kernel had.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).parent.parent
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def rerun(path: Path) -> tuple[float, float]:
    """Execute a notebook in the folder it stands in, and write it back whole.

    Returns:
        Seconds, and the largest memory of a process started from this one, in gigabytes.
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
    ).execute()
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
    """Leave only what a reader or a test uses, in place."""
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        # JupyterLab writes text as lists of lines; that is also what a diff shows best.
        cell.source = cell.source.splitlines(keepends=True)
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = output.text.splitlines(keepends=True)
            if "data" in output:
                # The explorer's picture and sentence stand in its place where there is no kernel.
                output.data.pop(WIDGET_VIEW, None)
                for kind, value in output.data.items():
                    if kind.startswith("text/"):
                        output.data[kind] = value.splitlines(keepends=True)


def main() -> None:
    """Re-run the notebooks given on the command line, all of them without any."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path)
    folders = (ROOT / "notebooks", ROOT / "notebooks" / "solutions")
    every = [path for folder in folders for path in sorted(folder.glob("[0-9]*.ipynb"))]
    paths = parser.parse_args().notebooks or every
    # The kernel must be this Python's, whatever kernels the reader has installed elsewhere.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    for number, path in enumerate(paths, start=1):
        print(f"[{number}/{len(paths)}] {path}", end=": ", flush=True)
        # In a process of its own, which knows the memory of its children and not of all before.
        with ProcessPoolExecutor(1) as process:
            seconds, memory = process.submit(rerun, path.resolve()).result()
        print(f"{seconds:.0f} s, {memory:.1f} GB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
