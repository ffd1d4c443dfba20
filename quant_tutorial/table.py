"""Show small tables in a notebook or in a terminal (all lessons)."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any


class Table:
    """A small table, shown as HTML in a notebook and as aligned text elsewhere.

    Args:
        header: One heading for each column.
        rows: The rows, with one entry for each column. The caller formats the numbers.

    Raises:
        ValueError: when a row has more or fewer entries than the header.
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.lines = [[str(entry) for entry in line] for line in (header, *rows)]
        for line in self.lines:
            if len(line) != len(header):
                raise ValueError(f"rows must have {len(header)} entries each, got {line}.")

    def __repr__(self) -> str:
        """Return the table as aligned text."""
        widths = [max(map(len, column)) for column in zip(*self.lines, strict=True)]
        lines = [
            "  ".join(
                f"{entry:<{width}}" for entry, width in zip(line, widths, strict=True)
            ).rstrip()
            for line in self.lines
        ]
        return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])

    def _repr_html_(self) -> str:
        head, *body = (
            "".join(f"<{tag} style='text-align: left'>{html.escape(e)}</{tag}>" for e in line)
            for tag, line in zip(["th", *["td"] * len(self.lines)], self.lines, strict=False)
        )
        rows = "".join(f"<tr>{line}</tr>" for line in body)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
