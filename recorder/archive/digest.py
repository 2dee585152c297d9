"""Digests of tables: the same for the same rows, however they are cut into batches, encoded or compressed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_NO_BYTES: Final = memoryview(b"")
_LENGTHS: Final = np.dtype("<u4")


class TableDigest:
    """A running digest of rows in order.

    For each column: SHA-256 of the validities (a byte a row), of the lengths (text, bytes, maps; 32 bits each) and of
    the values that are not null. A column without any value is skipped, so that a new column changes no old digest.
    Dictionaries count as the values that they stand for.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._columns: dict[str, _ColumnDigest] = {}

    def update(self, table: pa.Table) -> None:
        """Take the next rows in."""
        self.take(lay_out_table(table), table.num_rows)

    def take(self, laid_out: Mapping[str, Sequence[Content]], rows: int) -> None:
        """Take the next rows in, as `lay_out_table` gives them."""
        for name, contents in laid_out.items():
            running = self.column(name)
            for content in contents:
                running.update(content)
        self.rows += rows

    def column(self, name: str) -> _ColumnDigest:
        """Give the running digest of a column, up to the rows so far."""
        running = self._columns.get(name)
        if running is None:
            running = self._columns[name] = _ColumnDigest()
        running.skip_to(self.rows)
        return running

    def copy(self) -> TableDigest:
        """Copy the digest, so that rows can be taken in on trial."""
        other = TableDigest()
        other.rows = self.rows
        other._columns = {name: column.copy() for name, column in self._columns.items()}
        return other

    def hexdigest(self) -> str:
        """Give the digest of what was taken in so far, 64 hex digits."""
        lines = [f"rows {self.rows}"]
        for name in sorted(self._columns):
            self._columns[name].skip_to(self.rows)
            lines.append(f"{name} {self._columns[name].hexdigest()}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def update_all(digests: Sequence[TableDigest], table: pa.Table) -> None:
    """Take the next rows into several digests; what is hashed is laid out once."""
    laid_out = lay_out_table(table)
    for digest in digests:
        digest.take(laid_out, table.num_rows)


class Content(NamedTuple):
    """What is hashed of an array: of a map, instead of values, what is hashed of its keys and its items."""

    rows: int
    validity: memoryview | bytes
    lengths: memoryview | None
    values: memoryview | bytes | None
    entries: tuple[Content, Content] | None = None


class _ColumnDigest:
    """Three running hashes, and for a map two columns more: its keys and its values.

    Rows that are null come in by `skip_to`, at no cost until a value follows.
    """

    __slots__ = ("_entries", "_lengths", "_rows", "_validity", "_values")

    def __init__(self) -> None:
        self._rows = 0
        self._validity = hashlib.sha256()
        self._lengths = hashlib.sha256()
        self._values = hashlib.sha256()
        self._entries: tuple[_ColumnDigest, _ColumnDigest] | None = None

    def skip_to(self, rows: int) -> None:
        """Count rows up to `rows` as null."""
        if rows != self._rows:
            self._validity.update(bytes(rows - self._rows))
            self._rows = rows

    def update(self, content: Content) -> None:
        self._validity.update(content.validity)
        self._rows += content.rows
        if content.lengths is not None:
            self._lengths.update(content.lengths)
        if content.values is not None:
            self._values.update(content.values)
        if content.entries is not None:
            self._entries = self._entries or (_ColumnDigest(), _ColumnDigest())
            for running, entries in zip(self._entries, content.entries, strict=True):
                running.update(entries)

    def copy(self) -> _ColumnDigest:
        other = _ColumnDigest()
        other._rows = self._rows
        other._validity, other._lengths = self._validity.copy(), self._lengths.copy()
        other._values = self._values.copy()
        if self._entries is not None:
            other._entries = self._entries[0].copy(), self._entries[1].copy()
        return other

    def hexdigest(self) -> str:
        whole = hashlib.sha256(self._validity.digest() + self._lengths.digest() + self._values.digest())
        for entries in self._entries or ():
            whole.update(entries.hexdigest().encode())
        return whole.hexdigest()


def lay_out_table(table: pa.Table) -> dict[str, list[Content]]:
    """Lay out what is hashed of a table: the chunks of each column that has any value."""
    columns = zip(table.column_names, table.itercolumns(), strict=True)
    return {
        name: [lay_out(chunk) for chunk in column.chunks]
        for name, column in columns
        if column.null_count != table.num_rows
    }


def lay_out(array: pa.Array) -> Content:
    """Lay out what is hashed of an array, without a copy where there is no null."""
    rows, kind = len(array), array.type
    valid = None if array.null_count == 0 else _validity(array)
    validity = b"\1" * rows if valid is None else valid.data
    if pa.types.is_map(kind):
        return _map_content(array, validity)
    if pa.types.is_dictionary(kind):
        if valid is None and len(array.dictionary) == 1:
            return _repeated(array.dictionary, rows)
        array = array.dictionary_decode()
    if kind in (pa.string(), pa.binary()) or pa.types.is_dictionary(kind):
        return Content(rows, validity, *_texts(array, valid))
    if pa.types.is_boolean(kind):
        return Content(rows, validity, None, np.asarray(array if valid is None else array.drop_null()).tobytes())
    return Content(rows, validity, None, _fixed(array, valid))


def _validity(array: pa.Array) -> npt.NDArray[Any]:
    """Give a byte for each row, 0 where it is null."""
    bits = array.buffers()[0]
    if bits is None:  # an array of nulls has none
        return np.zeros(len(array), np.uint8)
    begin = array.offset // 8
    packed = np.frombuffer(bits, np.uint8)[begin : (array.offset + len(array) + 7) // 8]
    skipped = array.offset - begin * 8
    return np.unpackbits(packed, count=skipped + len(array), bitorder="little")[skipped:]


def _map_content(array: pa.Array, validity: memoryview | bytes) -> Content:
    edges = np.asarray(array.offsets)
    lengths = np.diff(edges)[np.frombuffer(validity, bool)]  # a null map has no entries
    begin, count = int(edges[0]), int(edges[-1] - edges[0])
    keys, items = (lay_out(entries.slice(begin, count)) for entries in (array.keys, array.items))
    return Content(len(array), validity, lengths.astype(_LENGTHS).data, None, (keys, items))


def _repeated(value: pa.Array, rows: int) -> Content:
    """Lay out one text that all rows have."""
    text = bytes(text_bytes(value))
    return Content(rows, b"\1" * rows, np.full(rows, len(text), _LENGTHS).data, text * rows)


def _texts(array: pa.Array, valid: npt.NDArray[Any] | None) -> tuple[memoryview, memoryview]:
    edges = text_edges(array)
    lengths = np.diff(edges)
    if valid is not None:
        lengths = lengths[valid.view(bool)]
        if int(lengths.sum()) != int(edges[-1]) - int(edges[0]):  # bytes below a null, which Arrow allows
            array = array.drop_null()
    return lengths.astype(_LENGTHS, copy=False).data, text_bytes(array)


def _fixed(array: pa.Array, valid: npt.NDArray[Any] | None) -> memoryview:
    """Give numbers and times that are not null."""
    width = array.type.bit_width // 8
    values = np.frombuffer(array.buffers()[1] or b"", f"<u{width}")[array.offset : array.offset + len(array)]
    return (values if valid is None else values[valid.view(bool)]).data


def text_edges(array: pa.Array) -> npt.NDArray[np.int32]:
    """Give where each text or byte string (32-bit offsets) begins and ends."""
    if len(array) == 0:
        return np.zeros(1, np.int32)
    return np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]


def text_bytes(array: pa.Array) -> memoryview:
    """Give the bytes of texts or byte strings (32-bit offsets, no nulls) behind one another, without a copy."""
    data = array.buffers()[2] if len(array) else None
    if data is None:
        return _NO_BYTES
    edges = text_edges(array)
    return memoryview(data)[int(edges[0]) : int(edges[-1])]


def column_digest(array: pa.Array) -> str:
    """Give the digest of a whole column."""
    digest = _ColumnDigest()
    digest.update(lay_out(array))
    return digest.hexdigest()


def table_digest(table: pa.Table) -> str:
    """Give the digest of a whole table."""
    digest = TableDigest()
    digest.update(table)
    return digest.hexdigest()
