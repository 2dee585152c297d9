"""Digests of tables: the same for the same rows, however they are cut into batches, encoded or compressed."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class TableDigest:
    """A running digest of rows in order.

    For each column: SHA-256 of the validities (a byte a row), of the lengths (text, bytes, maps; 32 bits each) and of
    the values that are not null. A column without any value is skipped, so that a new column changes no old digest.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._columns: dict[str, _ColumnDigest] = {}

    def update(self, table: pa.Table) -> None:
        """Take the next rows in."""
        for name in table.column_names:
            column = table[name]
            if column.null_count == len(column):
                continue
            running = self._columns.get(name)
            if running is None:
                running = self._columns[name] = _ColumnDigest()
            running.skip_to(self.rows)
            for chunk in column.chunks:
                running.update(chunk)
        self.rows += table.num_rows

    def hexdigest(self) -> str:
        """Give the digest of what was taken in so far, 64 hex digits."""
        lines = [f"rows {self.rows}"]
        for name in sorted(self._columns):
            self._columns[name].skip_to(self.rows)
            lines.append(f"{name} {self._columns[name].hexdigest()}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class _ColumnDigest:
    """Three running hashes, and for a map two columns more: its keys and its values.

    Rows that are null come in by `skip_to`, at no cost until a value follows.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._validity = hashlib.sha256()
        self._lengths = hashlib.sha256()
        self._values = hashlib.sha256()
        self._entries: tuple[_ColumnDigest, _ColumnDigest] | None = None

    def skip_to(self, rows: int) -> None:
        """Count rows up to `rows` as null."""
        self._validity.update(bytes(rows - self._rows))
        self._rows = rows

    def update(self, array: pa.Array) -> None:
        whole = array.null_count == 0
        self._validity.update(b"\1" * len(array) if whole else np.asarray(array.is_valid()).tobytes())
        self._rows += len(array)
        if pa.types.is_map(array.type):
            self._add_map(array)
        else:
            self._add(array if whole else array.drop_null())

    def _add_map(self, array: pa.Array) -> None:
        edges = np.asarray(array.offsets)
        lengths = np.diff(edges)[np.asarray(array.is_valid())]  # a null map has no entries
        self._lengths.update(lengths.astype("<u4").tobytes())
        self._entries = self._entries or (_ColumnDigest(), _ColumnDigest())
        for entries, running in zip((array.keys, array.items), self._entries, strict=True):
            running.update(entries.slice(int(edges[0]), int(edges[-1] - edges[0])))

    def _add(self, array: pa.Array) -> None:
        """Take values in, none of them null."""
        kind = array.type
        if pa.types.is_string(kind) or pa.types.is_binary(kind):
            edges = text_edges(array)
            self._lengths.update(np.diff(edges).astype("<u4").tobytes())
            self._values.update(text_bytes(array))
        elif pa.types.is_boolean(kind):
            self._values.update(np.asarray(array).tobytes())
        else:
            self._values.update(_fixed_bytes(array))

    def hexdigest(self) -> str:
        whole = hashlib.sha256(self._validity.digest() + self._lengths.digest() + self._values.digest())
        for entries in self._entries or ():
            whole.update(entries.hexdigest().encode())
        return whole.hexdigest()


def _fixed_bytes(array: pa.Array) -> memoryview:
    """Give the bytes of numbers and times, without a copy."""
    width = array.type.bit_width // 8
    data = array.buffers()[1]
    return (
        memoryview(data)[array.offset * width : (array.offset + len(array)) * width] if len(array) else memoryview(b"")
    )


def text_edges(array: pa.Array) -> npt.NDArray[np.int32]:
    """Give where each text or byte string (32-bit offsets) begins and ends."""
    if len(array) == 0:
        return np.zeros(1, np.int32)
    return np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]


def text_bytes(array: pa.Array) -> memoryview:
    """Give the bytes of texts or byte strings (32-bit offsets, no nulls) behind one another, without a copy."""
    data = array.buffers()[2] if len(array) else None
    if data is None:
        return memoryview(b"")
    edges = text_edges(array)
    return memoryview(data)[int(edges[0]) : int(edges[-1])]


def table_digest(table: pa.Table) -> str:
    """Give the digest of a whole table."""
    digest = TableDigest()
    digest.update(table)
    return digest.hexdigest()
