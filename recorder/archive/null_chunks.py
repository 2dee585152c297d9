"""Null chunks: the bytes of column chunks that are known to hold nothing but nulls.

A part has a chunk for each column of its topic, and many of them hold nothing; such chunks of as many rows are the same
bytes. Those of one that was read, with its checksums, and gave nulls need not be read again: whatever is another byte
is not among them, and is read.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

_KEPT: Final = 100_000
_LARGEST: Final = 65_536  # bytes; a million nulls take a few hundred


class Chunks(NamedTuple):
    """The columns of a row group that hold nothing, as its metadata says: what their chunks are, by column."""

    by_column: dict[str, list[tuple[Any, ...]]]


class NullChunks:
    """Learns chunks while parts are read, in several threads."""

    def __init__(self) -> None:
        self._known: set[tuple[Any, ...]] = set()
        self._leaves: list[tuple[pq.ParquetSchema, list[tuple[str, str]]]] = []

    def leaves(self, schema: pq.ParquetSchema) -> list[tuple[str, str]]:
        """Give path and physical type of each column of a Parquet schema; a topic's parts have but one."""
        for known, leaves in self._leaves:
            if known.equals(schema):
                return leaves
        columns = [schema.column(place) for place in range(len(schema.names))]
        leaves = [(column.path, column.physical_type) for column in columns]
        self._leaves.append((schema, leaves))
        return leaves

    def claimed(self, source: pa.NativeFile, group: pq.RowGroupMetaData, leaves: list[tuple[str, str]]) -> Chunks:
        """Find the columns without a value, by the metadata, with all that their reading depends on."""
        rows = group.num_rows
        found: dict[str, list[tuple[Any, ...]]] = {}
        valued = set()
        for place, (path, physical_type) in enumerate(leaves):
            name = path.partition(".")[0]
            column = group.column(place)
            if column.physical_type != physical_type or column.path_in_schema != path:
                valued.add(name)
                continue
            said = column.statistics
            if said is None or said.null_count != rows or column.num_values != rows:
                valued.add(name)
            elif name not in valued:
                found.setdefault(name, []).append(_chunk(source, column, path, rows))
        return Chunks({name: chunks for name, chunks in found.items() if name not in valued})

    def proven(self, claimed: Chunks) -> set[str]:
        """Name the columns all of whose chunks were read as nulls before."""
        return {name for name, chunks in claimed.by_column.items() if self._known.issuperset(chunks)}

    def learn(self, claimed: Chunks, table: pa.Table) -> None:
        """Take note of the chunks that this table shows to hold nulls."""
        for name in claimed.by_column.keys() & set(table.column_names):
            if table[name].null_count == table.num_rows and len(self._known) < _KEPT:
                self._known.update(claimed.by_column[name])


def _chunk(source: pa.NativeFile, column: pq.ColumnChunkMetaData, path: str, rows: int) -> tuple[Any, ...]:
    begin, first, size = column.data_page_offset, column.dictionary_page_offset, column.total_compressed_size
    start = begin if first is None else min(begin, first)
    nested = path if "." in path else ""
    data = source.read_at(size, start) if 0 < size < _LARGEST and start > 0 else object()  # which is like no other
    return (
        rows,
        nested,
        column.physical_type,
        column.compression,
        column.encodings,
        column.total_uncompressed_size,
        first is None,
        begin - start,
        data,
    )
