"""Write a file whole or not at all (lessons 06 and 09)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` make a file under another name, put it in place when it is complete; give `path`.

    Missing folders are made. Whatever goes wrong on the way, an older file of that name stays as it
    was, and no part of a new one is left.

    Raises:
        OSError: when the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        part = Path(folder) / path.name
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())  # on the disk before it takes the old file's place
        part.replace(path)
    return path
