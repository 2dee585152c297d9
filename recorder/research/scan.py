"""Scanning: a topic as a lazy dataset, for Arrow, polars and DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from recorder.archive.commit import Commit
from recorder.archive.covered import covered_files, covered_partitions
from recorder.archive.pieces import check_holes, list_pieces
from recorder.archive.reading import Reader, Span
from recorder.errors import UsageError
from recorder.protocol.tables import TIME, topic_schema
from recorder.protocol.topics import Topic
from recorder.research.load import select

if TYPE_CHECKING:
    import duckdb
    import polars as pl


class Scan(ds.UnionDataset):  # type: ignore[misc]  # pyarrow has no types
    """A lazy Arrow dataset of a topic, limited to a range of time: parts on disk, and the journal's rows in memory.

    It is what `pyarrow.dataset` gives, so whatever takes one takes it; rows are not in order. Parts are opened when it
    is read; `FileNotFoundError` if a compaction replaced them by then: scan again.
    """

    def __init__(self, schema: pa.Schema, children: list[ds.Dataset], *, span: Span) -> None:
        super().__init__(schema, children)
        self._limit = _within(span)

    def scanner(self, columns: Any = None, filter: Any = None, **options: Any) -> ds.Scanner:  # noqa: A002
        """Make a scanner, as `pyarrow.dataset.Dataset.scanner` does; the range of time is added to the filter."""
        limits = [limit for limit in (self._limit, filter) if limit is not None]
        both = None if not limits else limits[0] if len(limits) == 1 else limits[0] & limits[1]
        return super().scanner(columns=columns, filter=both, **options)

    def polars(self) -> pl.LazyFrame:
        """Give a lazy polars frame, which reads only the columns and rows that it is asked for; needs `polars`."""
        import polars as pl  # noqa: PLC0415  an extra

        return pl.scan_pyarrow_dataset(self)

    def duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """Give a DuckDB relation, which reads only what a query needs; needs `duckdb`.

        Without a connection it is one of DuckDB's default connection.
        """
        import duckdb  # noqa: PLC0415  an extra

        return (duckdb.default_connection() if connection is None else connection).from_arrow(self)


def _within(span: Span) -> pc.Expression | None:
    stamp = ds.field("ts_recv")
    limits = []
    if span.start is not None:
        limits.append(stamp >= pa.scalar(span.start, pa.int64()).cast(TIME))
    if span.end is not None:
        limits.append(stamp < pa.scalar(span.end, pa.int64()).cast(TIME))
    return None if not limits else limits[0] if len(limits) == 1 else limits[0] & limits[1]


def scan(
    reader: Reader, topic: Topic, *, conids: Sequence[int] | None, span: Span, columns: Sequence[str] | None
) -> Scan:
    """Give a topic as a lazy dataset with `date` and `conid`, narrowed to contracts, a range of time and columns."""
    selection = select(topic, columns)
    if selection.fields:
        raise UsageError(
            f"{selection.fields[0].name} is no column of {topic.name}: it is kept in extra",
            hint="ask load or table for it, or scan the column extra",
        )
    while True:
        try:
            return _dataset(reader, topic, conids=conids, span=span, names=selection.read)
        except FileNotFoundError:
            continue  # a segment became a part meanwhile, or parts were merged


def _dataset(reader: Reader, topic: Topic, *, conids: Sequence[int] | None, span: Span, names: Sequence[str]) -> Scan:
    own = [field for field in topic_schema(topic) if field.name in names]
    whole = pa.schema([*own, pa.field("date", pa.date32()), pa.field("conid", pa.int64())])
    paths, tables = _parts_and_rows(reader, topic, conids=conids, span=span)
    rows = [table.select(whole.names).cast(whole) for table in tables]
    children = [ds.dataset(pa.concat_tables(rows) if rows else pa.Table.from_batches([], whole))]
    if paths:
        partitioning = ds.partitioning(pa.schema([whole.field("date"), whole.field("conid")]), flavor="hive")
        base = str(reader.layout.root / topic.name)
        checked = ds.ParquetFileFormat(page_checksum_verification=True)
        children.insert(
            0,
            ds.dataset(sorted(paths), schema=whole, format=checked, partitioning=partitioning, partition_base_dir=base),
        )
    return Scan(whole, children, span=span)


def _parts_and_rows(
    reader: Reader, topic: Topic, *, conids: Sequence[int] | None, span: Span
) -> tuple[set[str], list[pa.Table]]:
    """Find the typed parts of a topic, and decode what is in none."""
    tables: list[pa.Table] = []
    commits: dict[tuple[str, str, int], list[Commit]] = {}
    for pieces in list_pieces(reader.layout).values():
        check_holes(pieces, *span)
        for piece in pieces:
            commit = piece.commit
            if not piece.touches(*span):
                continue
            if commit is not None and reader.is_typed(piece, topic):
                for conid in covered_partitions(commit, topic.name):
                    if conids is None or conid in conids:
                        commits.setdefault((commit.session, commit.date, conid), []).append(commit)
            else:
                table = reader.decode(piece, topic)
                chosen = None if conids is None else pc.is_in(table["conid"], pa.array(conids, pa.int64()))
                tables.append(table if chosen is None else table.filter(chosen))
    files = [covered_files(reader.layout, own, topic, conid) for (_, _, conid), own in commits.items()]
    return {str(path) for found in files for path in found}, tables
