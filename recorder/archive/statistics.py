"""Statistics: what a part's footer says of its columns, held against the columns.

Programs that filter skip row groups by these figures, and no checksum covers them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recorder.archive.commit import damage
from recorder.archive.digest import Content, lay_out_table
from recorder.archive.parts import check_columns, fingerprint_of
from recorder.archive.values import open_source, texts_of
from recorder.errors import Damaged

_CODES: Final = {pa.float64(): "<f8", pa.int64(): "<i8", pa.int32(): "<i4"}
_MAGIC: Final = b"PAR1"
_HINT: Final = "restore the file from a copy"


class Checked(NamedTuple):
    """A row group's rows, and what is hashed of them, by column."""

    table: pa.Table
    laid_out: dict[str, list[Content]]


def checked_tables(path: Path, schema: pa.Schema, *, fingerprint: str | None = None) -> Iterator[Checked]:
    """Read a part of this schema by row groups; `Damaged` if it cannot be read, or its footer says wrong things.

    A typed part says the `fingerprint` of its schema. Texts come as dictionaries.
    """
    with damage(path), open_source(path) as source:
        if source.read_at(len(_MAGIC), 0) != _MAGIC:
            raise Damaged("the part does not begin as Parquet does", path=path, offset=0, hint=_HINT)
        file = pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=texts_of(schema))
        found = file.schema.to_arrow_schema()
        check_columns(found, schema, path)
        if fingerprint not in (None, fingerprint_of(found)):
            raise Damaged("the part does not say which columns it has", path=path, offset=0, hint=_HINT)
        types = [file.schema.column(place).physical_type for place in range(len(file.schema.names))]
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, use_threads=False)  # the caller has threads for parts
            checked = Checked(table, lay_out_table(table))
            odd = _misstated(checked, file.metadata.row_group(number), types)
            if odd:
                what = f"the footer's statistics of {', '.join(odd)} are not those of the rows"
                raise Damaged(what, path=path, offset=0, hint=_HINT)
            yield checked


def _misstated(checked: Checked, group: pq.RowGroupMetaData, types: list[str]) -> list[str]:
    """Name the columns of a row group of which its metadata says something else than the rows."""
    table = checked.table
    odd = ["the row count"] if table.num_rows != group.num_rows else []
    columns = dict(zip(table.column_names, table.itercolumns(), strict=True))
    for place in range(group.num_columns):
        column = group.column(place)
        name = column.path_in_schema
        if column.physical_type != types[place]:
            odd.append(name)  # to ask for its statistics would end the process
            continue
        said, values = column.statistics, columns.get(name)
        if said is None or values is None:  # of nested columns nobody skips any
            continue
        nulls = not said.has_null_count or said.null_count == values.null_count
        if not nulls or (
            said.has_min_max and (said.min_raw, said.max_raw) != _bounds(values, checked.laid_out.get(name))
        ):
            odd.append(name)
    return odd


def _bounds(values: pa.ChunkedArray, laid_out: Sequence[Content] | None) -> tuple[object, object]:
    """Find a column's least and greatest value, as Parquet compares and stores them."""
    kind = values.type
    numeric = pa.types.is_timestamp(kind) or kind in _CODES
    if numeric and laid_out is not None and len(laid_out) == 1 and laid_out[0].values is not None:
        numbers = np.frombuffer(laid_out[0].values, _CODES.get(kind, "<i8"))
        low, high = numbers.min().item(), numbers.max().item()
        if low == low:  # noqa: PLR0124  NaN is no bound
            return low, high
    if pa.types.is_dictionary(kind):
        if values.num_chunks == 1 and len(values.chunk(0).dictionary) == 1 and laid_out is not None:
            only = values.chunk(0).dictionary[0].as_buffer().to_pybytes()
            return only, only
        used = [chunk.dictionary.take(pc.unique(chunk.indices).drop_null()) for chunk in values.chunks]
        values = pa.chunked_array(used, kind.value_type).cast(pa.binary())
    elif pa.types.is_timestamp(kind):
        values = values.cast(pa.int64())
    elif pa.types.is_string(kind):
        values = values.cast(pa.binary())
    found = pc.min_max(values)
    return found["min"].as_py(), found["max"].as_py()
