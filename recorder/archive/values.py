"""Values: the rows of parts, read without the columns that have no value in them.

For callers that hold a digest against what they read: which columns have none is taken from the footer, on trust.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recorder.archive.chunks import chunks
from recorder.archive.commit import damage
from recorder.errors import Damaged


class ValueReader:
    """Reads parts of one schema, that of the first part, which `schema` gives.

    Texts come as dictionaries, as they stand in the file: that halves the time.
    """

    def __init__(self, path: Path) -> None:
        with damage(path):
            self.schema: pa.Schema = pq.read_schema(path)
        self._texts = texts_of(self.schema)
        self._expected: pa.Schema | None = None

    def tables(self, path: Path) -> Iterator[pa.Table]:
        """Read a part by row groups, checking page checksums; a column without any value is left out.

        `Damaged` names the file that cannot be read, or that has another schema than the first.
        """
        with damage(path):
            file = pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=self._texts)
            found = file.schema_arrow
            self._expected = self._expected or found
            if not found.equals(self._expected):
                what = "the part has other columns than the parts that it belongs with"
                raise Damaged(what, path=path, offset=0, hint="run `recorder verify`")
            for number in range(file.num_row_groups):
                columns = valued_columns(file, number)
                yield file.read_row_group(number, columns=columns, use_threads=False)

    def complete(self, tables: list[pa.Table]) -> pa.Table:
        """Join tables that were read into one of the whole schema; what has no value is null."""
        parts = [
            pa.Table.from_arrays([self._column(table, field) for field in self.schema], schema=self.schema)
            for table in tables
        ]
        return pa.concat_tables(parts).combine_chunks()

    @staticmethod
    def _column(table: pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
        place = table.schema.get_field_index(field.name)
        if place < 0:
            return pa.nulls(table.num_rows, field.type)
        column = table.column(place)
        return column if column.type == field.type else column.cast(field.type)


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
