"""Keep what is finished, so that a report resumes where it was stopped (lesson 12)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quant_tutorial import saving

Result = tuple[dict[str, Any], bytes | None]  # what JSON can hold, and a file


def kept(folder: Path | None, name: str, fingerprint: str, make: Callable[[], Result]) -> Result:
    """Return a result from a folder, or make it and write it there (lesson 12).

    Args:
        folder: Where results are kept; None keeps nothing.
        name: The name of the result, from which those of its files are made.
        fingerprint: A digest of all that the result depends on.
        make: What makes the result.

    Raises:
        OSError: when the folder cannot be written.
    """
    return read(folder, name, fingerprint) or write(folder, name, fingerprint, make())


def read(folder: Path | None, name: str, fingerprint: str) -> Result | None:
    """Return a result that `write` was given, or None (lesson 12).

    A record of another fingerprint, a damaged one, and one whose file has changed count as none.
    The arguments are those of `kept`.
    """
    if folder is None:
        return None
    record, file = _paths(folder, name)
    try:
        entry = json.loads(record.read_text(encoding="utf-8"))
        if entry["fingerprint"] != fingerprint:
            return None
        content = None if entry["sha256"] is None else file.read_bytes()
        if _digest(content) != entry["sha256"]:
            return None
        return dict(entry["result"]), content
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(folder: Path | None, name: str, fingerprint: str, result: Result) -> Result:
    """Write a result into a folder, and return it (lesson 12).

    The file is written first and its record after it, each whole or not at all. The arguments are
    those of `kept`.

    Raises:
        OSError: when the folder cannot be written.
    """
    if folder is None:
        return result
    figures, content = result
    record, file = _paths(folder, name)
    if content is not None:
        saving.write_whole(file, lambda part: part.write_bytes(content))
    entry = {"fingerprint": fingerprint, "sha256": _digest(content), "result": figures}
    text = json.dumps(entry, indent=1, ensure_ascii=False)
    saving.write_whole(record, lambda part: part.write_text(text, encoding="utf-8"))
    return result


def file_name(name: str) -> str:
    """Return a name as that of a file: words of letters and digits, joined by underscores."""
    words = "".join(c if c.isalnum() else " " for c in name).split()
    return "_".join(words)


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Return where a result's record and its file are kept."""
    stem = file_name(name)
    return folder / "parts" / f"{stem}.json", folder / "files" / f"{stem}.tflite"


def _digest(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()
