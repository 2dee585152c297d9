"""Values: the rows of parts, read without the columns that have no value in them.

For callers that hold a digest against what they read. Which columns of a small part have none is not asked of its
footer, which would take longer than to read them, but guessed from the parts before it: only the digest can tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from recorder.archive.chunks import chunks
from recorder.archive.commit import damage
from recorder.archive.parts import coded_schema
from recorder.errors import Damaged

SMALL: Final = 16_384
"""Rows of a part that is read at once."""
_WHOLE: Final = 1 << 20  # bytes


class ValueReader:
    """Reads parts of one schema, that of the first part, which `schema` gives with dictionaries for texts.

    Texts come as dictionaries, as they stand in the file: that halves the time.
    """

    def __init__(self, path: Path) -> None:
        with damage(path):
            schema: pa.Schema = pq.read_schema(path)
        self._texts = texts_of(schema)
        self.schema = coded_schema(schema, self._texts).with_metadata(schema.metadata)
        self._stored: pq.ParquetSchema | None = None
        self._valued: dict[str, None] = {}

    def open(self, path: Path) -> pq.ParquetFile:
        """Open a part, to be read with page checksums; `Damaged` if it has another schema than the first."""
        with damage(path):
            file = pq.ParquetFile(open_source(path), page_checksum_verification=True, read_dictionary=self._texts)
            stored = file.schema
            if self._stored is None or not stored.equals(self._stored):
                if not file.schema_arrow.equals(self.schema):
                    what = "the part has other columns than the parts that it belongs with"
                    raise Damaged(what, path=path, offset=0, hint="run `recorder verify`")
                self._stored = stored
        return file

    def small(self, path: Path, file: pq.ParquetFile, *, guess: bool) -> pa.Table:
        """Read a part of a single row group; with `guess` the columns that had values before, else those that have."""
        with damage(path):
            columns = [*self._valued] if guess and self._valued else None
            table = file.read_row_group(0, columns=columns, use_threads=False)
        if columns is None:
            names = zip(table.column_names, table.itercolumns(), strict=True)
            found = [name for name, column in names if column.null_count < len(column)]
            self._valued |= dict.fromkeys(found)
            return table.select(found)
        return table

    def large(self, path: Path, file: pq.ParquetFile) -> Iterator[pa.Table]:
        """Read a part by row groups; a column without any value, says the footer, is left out."""
        with damage(path):
            for number in range(file.num_row_groups):
                yield file.read_row_group(number, columns=valued_columns(file, number), use_threads=False)

    def complete(self, tables: list[pa.Table]) -> pa.Table:
        """Join tables that were read into one of the whole schema, in one chunk; what has no value is null."""
        joined = pa.concat_tables(tables, promote_options="default").combine_chunks()
        present, count = {*joined.column_names}, joined.num_rows
        columns = [
            joined.column(field.name) if field.name in present else pa.nulls(count, field.type) for field in self.schema
        ]
        return pa.Table.from_arrays(columns, schema=self.schema)


def open_source(path: Path) -> pa.NativeFile:
    """Open a file; one that is not large is read at once, as each of its columns has a place of its own in it."""
    return pa.BufferReader(path.read_bytes()) if path.stat().st_size <= _WHOLE else pa.OSFile(str(path))


def is_small(file: pq.ParquetFile) -> bool:
    """Say whether a part is read at once."""
    return bool(file.num_row_groups == 1 and file.metadata.num_rows <= SMALL)


def texts_of(schema: pa.Schema) -> list[str]:
    """Name the columns that hold text."""
    return [field.name for field in schema if field.type == pa.string()]


def valued_columns(file: pq.ParquetFile, number: int) -> list[str]:
    """Name the columns of a row group that have any value, by its metadata."""
    empty: set[str] = set()
    for chunk in chunks(file, number):
        said = chunk.statistics
        if said is not None and said.has_null_count and said.null_count == chunk.num_values:
            empty.add(chunk.path_in_schema)
    paths = [file.schema.column(place).path for place in range(len(file.schema.names))]
    return list(dict.fromkeys(path.partition(".")[0] for path in paths if path not in empty))
