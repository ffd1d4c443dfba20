"""Write files and folders whole or not at all, and read JSON with a clear error."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file with `write` and move it to `path` only when it is complete.

    `write` gets the path of a temporary file, and `path` is returned. Missing folders are created.
    If anything goes wrong, an older file of that name stays as it was, and no part of a new one is
    left behind.

    Raises:
        OSError: when the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        part = Path(folder) / path.name
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())  # it must be on the disk before it replaces the old file
        part.replace(path)
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """Write the content of a file as `write_whole` does, and return its path.

    Raises:
        OSError: when the file cannot be written.
    """
    return write_whole(path, lambda part: part.write_bytes(content))


def replace_folder(new: Path, place: Path) -> None:
    """Move a complete folder to `place`, whose old content is deleted.

    `new` must be on the same disk. If it cannot be moved, the old content stays.

    Raises:
        OSError: when one of the folders cannot be moved.
    """
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".") as scratch:
        old = Path(scratch) / "old"
        if place.exists():
            place.rename(old)
        try:
            new.rename(place)
        except OSError:
            if old.exists():
                old.rename(place)
            raise


def read_json(path: Path, what: str, way_out: str) -> Any:
    """Return the content of a JSON file.

    Args:
        path: The file.
        what: What messages call its content, in the plural.
        way_out: What a reader can do when the file is missing or damaged, as a sentence.

    Raises:
        FileNotFoundError: when it is missing.
        ValueError: when it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{what} are missing: {path}. {way_out}") from None
    except ValueError as error:  # of JSON and of its text's encoding
        raise ValueError(f"{what} are damaged ({error}): {path}. {way_out}") from None


def read_results(path: Path, command: str, parse: Callable[[Any], _T]) -> _T:
    """Return what `parse` makes of a file of results that `command` writes.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it is not JSON, or `parse` does not find in it what it looks for.
    """
    way_out = f"Make them with {command}"
    file = read_json(path, "The results", way_out)
    try:
        return parse(file)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"The results are damaged ({error!r}): {path}. {way_out}") from None
