"""A merge: the rows of several parts on their way into one, digested as they are written."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from recorder.archive.digest import TableDigest
from recorder.archive.parts import ROW_GROUP, RowWriter
from recorder.archive.values import ValueReader
from recorder.disk import sync_path
from recorder.faults import point


class Merge:
    """Takes a partition's rows as `reader` gives them; without a path it only digests them.

    Rows wait until they fill a row group: to digest and write many small tables costs far more than one large one.
    `digest` covers all that was added after `settle`.
    """

    def __init__(self, path: Path | None, reader: ValueReader) -> None:
        self.digest = TableDigest()
        self._path = path
        self._reader = reader
        self._writer: RowWriter | None = None
        self._pending: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Take the next rows."""
        self._pending.append(table)
        self._rows += table.num_rows
        if self._rows >= ROW_GROUP:
            self.settle()

    def settle(self) -> None:
        """Digest and write the rows that wait."""
        if not self._pending:
            return
        table = self._reader.complete(self._pending)
        self._pending, self._rows = [], 0
        self.digest.update(table)
        if self._path is not None:
            self._writer = self._writer or RowWriter(self._path, self._reader.schema)
            self._writer.add(table)

    def finish(self) -> None:
        """Finish the part, and sync it."""
        if self._writer is not None:
            self._writer.finish({})
            point("compaction.part_written")
            sync_path(self._writer.path)
            point("compaction.part")
