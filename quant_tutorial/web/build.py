"""Build the web edition: static pages of all notebooks, with stepped explorers (`make site`).

The build makes the frames of the explorers, prepares the sources, runs Sphinx, bundles the scripts
of the live explorers and checks the links. Only if all of this succeeds, it replaces the output
folder, as a whole. Frames are kept beside the output and made again when the notebook, the package,
`frames.py` or requirements.lock has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from quant_tutorial.saving import replace_folder
from quant_tutorial.web import bundling, frames, links, sources
from quant_tutorial.web.sources import ROOT

HERE = Path(__file__).resolve().parent
FRAMES = 240  # at most, for each explorer: some megabytes
LIMIT = 1200  # seconds for a notebook's frames; generous, for slow machines


def make_frames(
    path: Path, kept: Path, count: int, namespace: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Make the frames of a notebook's explorers, or load those that were kept.

    Args:
        path: The notebook.
        kept: The folder in which frames are kept.
        count: The largest number of frames for an explorer.
        namespace: The names of the notebook, where this process has run it. Otherwise another
            process runs as much of it as the explorers need.

    Returns:
        The fields of `frames.Stepped` by cell id, and the folder of the pictures as "folder". Empty
        when the notebook has no explorer to step, or takes longer than `LIMIT`, which is reported
        on stderr.

    Raises:
        RuntimeError: when a cell fails.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in frames.explorer_cells(notebook) if not frames.stands_still(cell)]
    if not cells:
        return {}
    key = _fingerprint(notebook, cells[-1], count)
    name = f"{path.parent.name}-{path.stem}"
    folder = kept / f"{name}-{key}"
    if not folder.exists():
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as scratch:
            part = Path(scratch) / "frames"
            part.mkdir()
            if namespace is not None:
                frames.write(path, part, count, namespace)
            elif not _write_elsewhere(path, part, count):
                return {}
            for old in kept.glob(f"{name}-*"):
                shutil.rmtree(old)
            part.rename(folder)
    made = json.loads((folder / "frames.json").read_text(encoding="utf-8"))
    return {"folder": folder, **made}


def _write_elsewhere(path: Path, folder: Path, count: int) -> bool:
    """Write the frames in a process of their own, and return whether there was time enough."""
    command = [sys.executable, "-m", "quant_tutorial.web.frames", path, folder, str(count)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        print(f"{path.name}: no frames after {LIMIT} s, static pictures", file=sys.stderr)
        return False
    if run.returncode:
        raise RuntimeError(f"The explorer of {path} cannot be made:\n{run.stderr}")
    return True


def _fingerprint(notebook: dict[str, Any], last: dict[str, Any], count: int) -> str:
    """Return a digest of everything on which the frames of a notebook depend."""
    digest = hashlib.sha256(f"{count} {sys.version}".encode())
    for cell in notebook["cells"][: notebook["cells"].index(last) + 1]:
        if cell["cell_type"] == "code":
            digest.update(json.dumps(cell, sort_keys=True).encode())
    _update(digest, HERE / "frames.py")
    return digest.hexdigest()[:16]


def _update(digest: Any, *more: Path) -> None:
    """Let a digest depend on the package without `web`, on what is installed, and on more files."""
    # Not what Python caches: while it writes such a file, the name has another ending than .pyc.
    package = sorted(p for p in HERE.parent.rglob("*") if "__pycache__" not in p.parts)
    used = [path for path in package if HERE not in path.parents]
    for path in [*used, *more, ROOT / "requirements.lock"]:
        if path.is_file():
            digest.update(path.read_bytes())


def make_assets(kept: Path, sources: Collection[str] = ()) -> Path:
    """Write what pages need to run the model themselves, unless it is kept, and return its folder.

    Args:
        kept: The folder in which it is kept.
        sources: The weights of lesson 10's menu that the page can show; all if empty.

    Raises:
        RuntimeError: when it cannot be written.
    """
    digest = hashlib.sha256(" ".join([sys.version, *sources]).encode())
    _update(digest, HERE / "model_assets.py", HERE / "bundling.py", bundling.LOCK)
    folder = kept / f"model-{digest.hexdigest()[:16]}"
    if not folder.exists():
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as scratch:
            part = Path(scratch) / "model"
            # In a process of its own, as TensorFlow takes time to start and memory to keep.
            command = [sys.executable, "-m", "quant_tutorial.web.model_assets", part, *sources]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode:
                raise RuntimeError(f"The model cannot be written for the pages:\n{run.stderr}")
            for old in kept.glob("model-*"):
                shutil.rmtree(old)
            part.rename(folder)
    return folder


def build(output: Path, count: int = FRAMES, weights: Collection[str] = ()) -> None:
    """Build the site into `output`.

    Args:
        output: The folder; it is replaced.
        count: The largest number of frames for an explorer.
        weights: Those of lesson 10's menu that the page can show; all if empty.

    Raises:
        ValueError: when `output` is a file or a folder with other content, or `count` is below 2.
        RuntimeError: when an explorer cannot be made, Sphinx warns, or a link leads nowhere; the
            output then stays as it was.
    """
    if count < 2:
        raise ValueError(f"frames must be 2 or more, got {count}.")
    if output.is_file():
        raise ValueError(f"output must be a folder, and {output} is a file.")
    if output.exists() and any(output.iterdir()) and not (output / "searchindex.js").exists():
        raise ValueError(f"output would replace {output}, which is no site: name another folder.")
    if not sources.notebooks():
        raise ValueError(f"{ROOT} has no notebooks: run this in a checkout of the project.")
    output.parent.mkdir(parents=True, exist_ok=True)
    kept = output.parent / "frames"
    paths = sources.notebooks()
    # Two notebooks at a time: TensorFlow uses both cores, but loading and drawing only one.
    with ThreadPoolExecutor(2) as pool:
        assets = pool.submit(make_assets, kept, weights)
        made = list(pool.map(lambda path: make_frames(path, kept, count), paths))
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        texts, extra, site = (Path(folder) / name for name in ("texts", "extra", "site"))
        for steps in made:
            if steps:
                pictures = extra / sources.FIGURES
                shutil.copytree(steps.pop("folder"), pictures, dirs_exist_ok=True)
                (pictures / "frames.json").unlink()
        sources.prepare(texts, extra, dict(zip(paths, made, strict=True)))
        settings = ["-c", HERE, "-d", Path(folder) / "doctrees", "-D", f"html_extra_path={extra}"]
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", *settings]
        run = subprocess.run([*command, texts, site], capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(f"Sphinx:\n{run.stderr.replace(str(texts) + os.sep, '')}")
        scripts = site / "_static" / bundling.FOLDER
        bundling.bundle(scripts)
        shutil.copytree(assets.result(), scripts, dirs_exist_ok=True)
        wrong = links.problems(site)
        if wrong:
            raise RuntimeError("\n".join(["Links:", *wrong]))
        replace_folder(site, output)


def main() -> None:
    """Build the site and print where it is."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "site")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of an explorer, at most")
    few = "those of lesson 10's menu that the page can show; all, which takes longest"
    parser.add_argument("--weights", nargs="+", default=(), help=few)
    arguments = parser.parse_args()
    try:
        build(arguments.output.resolve(), arguments.frames, arguments.weights)
    except (RuntimeError, ValueError) as error:
        sys.exit(str(error))
    print(f"The pages are in {arguments.output}. `make read` serves them on this machine.")


if __name__ == "__main__":
    main()
