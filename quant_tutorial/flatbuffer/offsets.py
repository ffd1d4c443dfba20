"""Follow every offset of a FlatBuffer before it is read (lesson 06).

The layout of each table comes from the generated code itself: its accessors are called with a
stand-in for the file that notes what they look for.
"""

from __future__ import annotations

import functools
import struct
from typing import Any, NamedTuple

from quant_tutorial.flatbuffer.parts import NOT_A_MODEL, code_names

from ai_edge_litert import schema_py_generated as schema

_UINT16, _UINT32, _INT32 = (struct.Struct(f"<{letter}") for letter in "HIi")
# What other files begin with, which are easily taken for a model.
_OTHER_FILES = {
    b"\x89PNG": "a PNG picture",
    b"PK\x03\x04": "a zip archive, as .keras files are",
    b"\x89HDF": "an HDF5 file, as Keras weights are",
    b"\x1f\x8b": "a gzip archive",
}
# The tables that a union can point to, by the name of the field.
_UNIONS = {
    "BuiltinOptions": schema.BuiltinOptions,
    "BuiltinOptions2": schema.BuiltinOptions2,
    "Details": schema.QuantizationDetails,
    "ArraySegments": schema.SparseIndexVector,
    "ArrayIndices": schema.SparseIndexVector,
}


class _Field(NamedTuple):
    """Where a table has a field, and what stands there."""

    slot: int  # byte in the vtable
    size: int  # bytes in the table
    width: int  # bytes of one element of a vector or string, 0 for other fields
    table: type | None  # what an offset, or each one in a vector, leads to
    of_strings: bool  # a vector of strings
    union: type | None  # what gives the numbers of a union's tables their names


class _Probe:
    """Stands in for a table, and notes what an accessor of the generated code asks for."""

    Bytes, Pos = b"", 0

    def __init__(self) -> None:
        self.slot, self.width = 0, 0
        self.vector = self.string = self.union = False

    def Offset(self, slot: int) -> int:  # noqa: N802
        self.slot = slot
        return 1  # not 0: the field is there

    def Get(self, flags: Any, _: int) -> int:  # noqa: N802
        self.width = flags.bytewidth
        return 0

    def Vector(self, _: int) -> int:  # noqa: N802
        self.vector = True
        return 0

    def String(self, _: int) -> bytes:  # noqa: N802
        self.string = True
        return b""

    def Indirect(self, _: int) -> int:  # noqa: N802
        return 0

    def Union(self, *_: Any) -> None:  # noqa: N802
        self.union = True


@functools.cache
def _layout(table: type) -> tuple[_Field, ...]:
    """Return the fields of a table of the schema."""
    members = vars(table)
    names = [
        name
        for name, member in members.items()
        if callable(member)
        and not name.startswith("_")
        and name != "Init"
        and not any(
            name.removesuffix(end) in members
            for end in ("AsNumpy", "Length", "IsNone")
            if name.endswith(end)
        )
    ]
    return tuple(_field(table, name, f"{name}Length" in members) for name in names)


def _field(table: type, name: str, is_vector: bool) -> _Field:
    reader, probe = table(), _Probe()
    reader._tab = probe
    found = getattr(reader, name)(*([0] if is_vector else []))
    leads_to = type(found) if hasattr(found, "_tab") else None
    offset = is_vector or probe.string or probe.union or leads_to is not None
    return _Field(
        slot=probe.slot,
        size=4 if offset else probe.width,
        width=(probe.width or 4) if is_vector else int(probe.string),
        table=leads_to,
        of_strings=is_vector and probe.string,
        union=_UNIONS[name] if probe.union else None,
    )


def checked_content(model_bytes: Any) -> bytes:
    """Return what a caller hands over as bytes, or raise a ValueError that says what it is."""
    if not isinstance(model_bytes, (bytes, bytearray, memoryview)):
        raise ValueError(
            f"model_bytes must be the content of a .tflite file, got {type(model_bytes).__name__}: "
            "read it with Path(…).read_bytes()."
        )
    return bytes(model_bytes)


def check_head(content: bytes) -> None:
    """Raise a ValueError for a file of another kind, named as far as its first bytes tell."""
    if not content:
        raise ValueError(f"{NOT_A_MODEL}: it is empty.")
    for head, kind in _OTHER_FILES.items():
        if content.startswith(head):
            raise ValueError(f"{NOT_A_MODEL}: it is {kind}.")
    if content[4:8] != b"TFL3":
        raise ValueError(f"{NOT_A_MODEL}: bytes 4 to 7 are not TFL3, the mark of such files.")


def check_offsets(content: bytes) -> None:
    """Follow every offset of the file, and refuse one that leads out of it."""
    walk = _Walk(content)
    try:
        walk.run()
    except struct.error:  # a read beyond the end
        raise walk.refuse("lies beyond its end") from None


class _Walk:
    """A walk along all tables of a file."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._todo: list[tuple[int, type]] = []  # tables to look at
        self._at, self._table = 0, schema.Model
        # Each table takes 4 bytes, and so does each offset to one: more can only be found when
        # several offsets lead to the same table. Reading those could take forever.
        self._tables_left = len(content) // 8
        self._bytes_left = 4 * len(content)  # of vectors and strings

    def run(self) -> None:
        self._push(0, schema.Model)
        while self._todo:
            self._at, self._table = self._todo.pop()
            self._tables_left -= 1
            if self._tables_left < 0:
                raise self.refuse("is one of more tables than it has room for")
            self._look_at_table()

    def refuse(self, what: str) -> ValueError:
        return ValueError(
            f"{NOT_A_MODEL}: it is damaged or cut short. The {self._table.__name__} at byte "
            f"{self._at:,} {what}, and the file has {len(self._content):,} bytes."
        )

    def _push(self, at: int, table: type) -> None:
        """Note the table that the offset at this byte leads to."""
        self._todo.append((self._follow(at), table))

    def _follow(self, at: int) -> int:
        target = at + _UINT32.unpack_from(self._content, at)[0]
        # The tables of every writer stand on multiples of 4, and LiteRT's code relies on it.
        if target % 4 or target > len(self._content) - 4:
            raise self.refuse(f"points to byte {target:,}")
        return target

    def _look_at_table(self) -> None:
        content, at = self._content, self._at
        vtable = at - _INT32.unpack_from(content, at)[0]
        if vtable % 2 or not 0 <= vtable <= len(content) - 4:
            raise self.refuse(f"has its list of fields at byte {vtable:,}")
        length, size = struct.unpack_from("<HH", content, vtable)
        if length < 4 or length % 2 or vtable + length > len(content):
            raise self.refuse(f"has a list of fields of {length} bytes")
        if size < 4 or at + size > len(content):
            raise self.refuse(f"is {size} bytes long")
        slots = struct.unpack_from(f"<{length // 2}H", content, vtable)
        for entry in _layout(self._table):
            place = slots[entry.slot // 2] if entry.slot < length else 0
            if not place:
                continue  # the field has its default
            if place < 4 or place + entry.size > size or (at + place) % entry.size:
                raise self.refuse(f"has a field at its byte {place} of {size}")
            if entry.union is not None:
                number_place = slots[entry.slot // 2 - 1]
                self._look_at_union(at + place, entry, number_place and content[at + number_place])
            elif entry.width:
                self._look_at_vector(at + place, entry)
            elif entry.table is not None:
                self._push(at + place, entry.table)

    def _look_at_union(self, at: int, entry: _Field, number: int) -> None:
        names = code_names(entry.union)
        if number not in names:
            raise self.refuse(f"has options of the unknown kind {number}")
        if number:
            self._push(at, getattr(schema, names[number]))

    def _look_at_vector(self, at: int, entry: _Field) -> None:
        start = self._follow(at)
        (count,) = _UINT32.unpack_from(self._content, start)
        end = start + 4 + count * entry.width
        self._bytes_left -= count * entry.width
        if end > len(self._content) or self._bytes_left < 0:
            raise self.refuse(f"has a list of {count:,} elements at byte {start:,}")
        if entry.table is None and not entry.of_strings:
            return
        for position in range(start + 4, end, 4):
            if entry.of_strings:
                self._look_at_vector(position, entry._replace(width=1, of_strings=False))
            else:
                self._push(position, entry.table)
