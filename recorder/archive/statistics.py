"""Statistics: what a part's footer says of its columns, held against the columns.

Programs that filter skip row groups by these figures, and no checksum covers them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recorder.archive.commit import damage
from recorder.archive.parts import check_schema, fingerprint_of
from recorder.errors import Damaged

_MAGIC: Final = b"PAR1"
_HINT: Final = "restore the file from a copy"


def checked_tables(path: Path, schema: pa.Schema, *, fingerprint: str | None = None) -> Iterator[pa.Table]:
    """Read a part of this schema by row groups; `Damaged` if it cannot be read, or its footer says wrong things.

    A typed part says the `fingerprint` of its schema.
    """
    with path.open("rb") as beginning:
        if beginning.read(len(_MAGIC)) != _MAGIC:
            raise Damaged("the part does not begin as Parquet does", path=path, offset=0, hint=_HINT)
    with damage(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        check_schema(file, schema, path)
        if fingerprint not in (None, fingerprint_of(file.schema_arrow)):
            raise Damaged("the part does not say which columns it has", path=path, offset=0, hint=_HINT)
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, use_threads=False)  # the caller has threads for parts
            odd = _misstated(table, file, number)
            if odd:
                what = f"the footer's statistics of {', '.join(odd)} are not those of the rows"
                raise Damaged(what, path=path, offset=0, hint=_HINT)
            yield table


def _misstated(table: pa.Table, file: pq.ParquetFile, number: int) -> list[str]:
    """Name the columns of a row group of which its metadata says something else than the rows."""
    group = file.metadata.row_group(number)
    odd = ["the row count"] if table.num_rows != group.num_rows else []
    for place in range(group.num_columns):
        column = group.column(place)
        name = column.path_in_schema
        if column.physical_type != file.schema.column(place).physical_type:
            odd.append(name)  # to ask for its statistics would end the process
            continue
        said = column.statistics
        if said is None or name not in table.column_names:  # of nested columns nobody skips any
            continue
        values = table[name]
        nulls = not said.has_null_count or said.null_count == values.null_count
        if not nulls or (said.has_min_max and (said.min_raw, said.max_raw) != _bounds(values)):
            odd.append(name)
    return odd


def _bounds(values: pa.ChunkedArray) -> tuple[object, object]:
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.int64())
    elif pa.types.is_string(values.type):
        values = values.cast(pa.binary())
    found = pc.min_max(values).as_py()
    return found["min"], found["max"]
