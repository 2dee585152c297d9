"""Statistics: what a part's footer says of its columns, held against the columns.

Programs that filter skip row groups by these figures, and no checksum covers them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recorder.archive.commit import damage
from recorder.archive.null_chunks import NullChunks
from recorder.archive.parts import check_columns, fingerprint_of
from recorder.archive.values import texts_of
from recorder.errors import Damaged

_CODES: Final = {pa.float64(): "<f8", pa.int64(): "<i8", pa.int32(): "<i4"}
_MAGIC: Final = b"PAR1"
_HINT: Final = "restore the file from a copy"


def checked_tables(
    path: Path, schema: pa.Schema, *, nulls: NullChunks, fingerprint: str | None = None
) -> Iterator[pa.Table]:
    """Read a part of this schema by row groups; `Damaged` if it cannot be read, or its footer says wrong things.

    A typed part says the `fingerprint` of its schema. Texts come as dictionaries. A column that has no value in a row
    group may be left out of its table: then `nulls` has seen the very same bytes read as nulls.
    """
    with damage(path), pa.OSFile(str(path)) as source:
        if source.read_at(len(_MAGIC), 0) != _MAGIC:
            raise Damaged("the part does not begin as Parquet does", path=path, offset=0, hint=_HINT)
        file = pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=texts_of(schema))
        found = file.schema.to_arrow_schema()
        check_columns(found, schema, path)
        if fingerprint not in (None, fingerprint_of(found)):
            raise Damaged("the part does not say which columns it has", path=path, offset=0, hint=_HINT)
        leaves = nulls.leaves(file.schema)
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            chunks = nulls.claimed(source, group, leaves)
            proven = nulls.proven(chunks)
            names = [name for name in schema.names if name not in proven or not _may_lack(schema.field(name))]
            table = file.read_row_group(number, columns=names, use_threads=False)  # the caller has threads for parts
            odd = _misstated(table, group, leaves, schema)
            if odd:
                what = f"the footer's statistics of {', '.join(odd)} are not those of the rows"
                raise Damaged(what, path=path, offset=0, hint=_HINT)
            nulls.learn(chunks, table)
            yield table


def _may_lack(field: pa.Field) -> bool:
    return bool(field.nullable) and field.name != "seq"


def _misstated(
    table: pa.Table, group: pq.RowGroupMetaData, leaves: list[tuple[str, str]], schema: pa.Schema
) -> list[str]:
    """Name the columns of a row group of which its metadata says something else than the rows.

    A column that the table lacks is one of nulls.
    """
    odd = ["the row count"] if table.num_rows != group.num_rows else []
    columns = dict(zip(table.column_names, table.itercolumns(), strict=True))
    whole = set(schema.names)
    for place, (_, physical_type) in enumerate(leaves):
        column = group.column(place)
        name = column.path_in_schema
        if column.physical_type != physical_type:
            odd.append(name)  # to ask for its statistics would end the process
            continue
        said = column.statistics
        if said is None or name not in whole:  # of nested columns nobody skips any
            continue
        values = columns.get(name)
        null_count = table.num_rows if values is None else values.null_count
        right = not said.has_null_count or said.null_count == null_count
        if right and said.has_min_max:
            right = values is not None and (said.min_raw, said.max_raw) == _bounds(values)
        if not right:
            odd.append(name)
    return odd


def _bounds(values: pa.ChunkedArray) -> tuple[object, object]:
    kind = values.type
    if pa.types.is_dictionary(kind):
        used = [chunk.dictionary.take(pc.unique(chunk.indices).drop_null()) for chunk in values.chunks]
        values = pa.chunked_array(used, kind.value_type).cast(pa.binary())
    elif values.null_count == 0 and values.num_chunks == 1 and (pa.types.is_timestamp(kind) or kind in _CODES):
        numbers = np.frombuffer(values.chunk(0).buffers()[1], _CODES.get(kind, "<i8"))
        numbers = numbers[values.chunk(0).offset :][: len(values)]
        low, high = numbers.min().item(), numbers.max().item()
        if low == low:  # noqa: PLR0124  NaN is no bound
            return low, high
    elif pa.types.is_timestamp(kind):
        values = values.cast(pa.int64())
    elif pa.types.is_string(kind):
        values = values.cast(pa.binary())
    found = pc.min_max(values)
    return found["min"].as_py(), found["max"].as_py()
