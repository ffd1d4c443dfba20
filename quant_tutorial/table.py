"""Show small tables in a notebook or in a terminal (all lessons)."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

# A number, perhaps with a sign or a unit, or the ends of a range: "−3", "99.4%", "0.0 to 6.3".
_ONE = r"[-+−±]?\d[\d.,]*(?: ?(?:%|×|dB|bits?|bytes|kB|MB|ms|µs|s))?"
_NUMBER = re.compile(rf"{_ONE}(?: (?:to|…) {_ONE})*")


class Table:
    """A small table, shown as HTML in a notebook and as aligned text elsewhere.

    Columns of numbers are aligned to the right, others to the left.

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
        marks = [">" if right else "<" for right in self._to_the_right()]
        lines = [
            "  ".join(
                f"{entry:{mark}{width}}"
                for entry, mark, width in zip(line, marks, widths, strict=True)
            ).rstrip()
            for line in self.lines
        ]
        return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])

    def _repr_html_(self) -> str:
        sides = ["right" if right else "left" for right in self._to_the_right()]
        head, *body = (
            "".join(
                f"<{tag} style='text-align: {side}'>{html.escape(entry)}</{tag}>"
                for entry, side in zip(line, sides, strict=True)
            )
            for tag, line in zip(["th", *["td"] * len(self.lines)], self.lines, strict=False)
        )
        rows = "".join(f"<tr>{line}</tr>" for line in body)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _to_the_right(self) -> list[bool]:
        """Return for each column whether its entries, empty ones and dashes aside, are numbers."""
        columns = [
            [entry for entry in column if entry not in ("", "–", "float")]
            for column in zip(*self.lines[1:], strict=True)
        ] or [[]] * len(self.lines[0])
        return [bool(column) and all(map(_NUMBER.fullmatch, column)) for column in columns]
