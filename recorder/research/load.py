"""Loading: rows as Arrow and pandas tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from recorder.archive.commit import Commit
from recorder.archive.covered import covered_files, covered_partitions
from recorder.archive.pieces import check_holes, list_pieces
from recorder.archive.reading import LATEST, Reader, Span, empty_table
from recorder.protocol.cells import Cells, to_column
from recorder.protocol.tables import topic_schema
from recorder.protocol.topics import Column, Topic

_PANDAS: Final = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
_PLAIN: Final = ("conid", "seq", "item")


def load_table(
    reader: Reader, topic: Topic, *, conids: Sequence[int] | None, span: Span, columns: Sequence[str] | None
) -> pa.Table:
    """Read a topic's rows in order: `date`, `conid`, then the schema's columns, or `ts_recv` and those asked for.

    A known field that is no column is taken out of `extra` and given typed.
    """
    names = topic_schema(topic).names
    wanted: list[str] = names
    fields: list[Column] = []
    if columns is not None:
        own = [name for name in columns if name in names]
        others = [topic.field(name) for name in columns if name not in names and name not in ("date", "conid")]
        fields = [field for field in others if field in topic.fields]
        own += [column.name for column in others if column not in fields]
        wanted = [name for name in names if name in {"ts_recv", *own} or (fields and name == "extra")]
    read = sorted({*wanted, "session", "seq", "item", "ts_recv"}, key=names.index)
    recorders, empty = reader.recorders(), empty_table(topic, read)
    exact = len(recorders) > 1
    tables = [
        table
        for recorder in recorders
        for table in reader.tables(recorder, topic, conids=conids, span=span, columns=read, exact=exact)
        if table.num_rows
    ]
    table = pa.concat_tables(tables) if tables else empty
    if exact and tables:
        table = _merged(table)
    for field in fields:
        table = table.append_column(field.name, _from_extra(table, field))
    if columns is None:
        return table.select(["date", "conid", *wanted])
    asked = [name if name in names else topic.field(name).name for name in columns if name not in ("date", "conid")]
    return table.select(list(dict.fromkeys(["date", "conid", "ts_recv", *asked])))


def _merged(table: pa.Table) -> pa.Table:
    """Merge the rows of recorders, one behind another by name, in the order of T; within one they are in order."""
    order = np.argsort(table[LATEST].to_numpy(), kind="stable")
    return table.drop_columns(LATEST).take(pa.array(order))


def _from_extra(table: pa.Table, field: Column) -> pa.Array:
    extra = table["extra"].combine_chunks()
    texts = pc.map_lookup(extra, field.key, "first")
    rows = np.flatnonzero(np.asarray(texts.is_valid()))
    return to_column(
        Cells(rows, texts.drop_null().to_pylist()) if len(rows) else None,
        field.parser,
        table.num_rows,
        lambda _row, _value: None,  # it stays in `extra`, where it was found
    )


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Make a pandas table with `ts_recv` as the index; ids that may be missing are `Int64`."""
    plain = [name for name in _PLAIN if name in table.column_names]
    rest = table.drop_columns([*plain, "date"])
    frame: pd.DataFrame = rest.to_pandas(types_mapper=_PANDAS.get)
    for name in reversed(plain):
        frame.insert(0, name, table[name].to_numpy())
    return frame.set_index("ts_recv")


def scan(reader: Reader, topic: Topic) -> ds.Dataset:
    """Give a topic as a lazy Arrow dataset with `date` and `conid`: parts on disk, the journal's rows in memory.

    Parts are opened when it is read; `FileNotFoundError` if a compaction replaced them by then: scan again.
    """
    while True:
        try:
            return _dataset(reader, topic)
        except FileNotFoundError:
            continue  # a segment became a part meanwhile, or parts were merged


def _dataset(reader: Reader, topic: Topic) -> ds.Dataset:
    whole = pa.schema([*topic_schema(topic), pa.field("date", pa.date32()), pa.field("conid", pa.int64())])
    paths, tables = _parts_and_rows(reader, topic)
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
    return ds.dataset(children)


def _parts_and_rows(reader: Reader, topic: Topic) -> tuple[set[str], list[pa.Table]]:
    """Find the typed parts of a topic, and decode what is in none."""
    tables: list[pa.Table] = []
    commits: dict[tuple[str, str, int], list[Commit]] = {}
    for pieces in list_pieces(reader.layout).values():
        check_holes(pieces, None, None)
        for piece in pieces:
            commit = piece.commit
            if commit is not None and commit.topics.get(topic.name) == topic.fingerprint:
                for conid in covered_partitions(commit, topic.name):
                    commits.setdefault((commit.session, commit.date, conid), []).append(commit)
            else:
                tables.append(reader.decode(piece, topic))
    files = [covered_files(reader.layout, own, topic, conid) for (_, _, conid), own in commits.items()]
    return {str(path) for found in files for path in found}, tables
