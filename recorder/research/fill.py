"""Filling: the sparse rows of a delta stream carried forward, so that each row is the whole state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.reading import Reader, Span
from recorder.protocol.topics import Topic
from recorder.research.load import load_table

_KEEP: Final = ("date", "conid", "ts_recv", "ts_event", "session", "seq", "item", "extra")


def load_filled(
    reader: Reader, topic: Topic, *, conids: Sequence[int] | None, span: Span, columns: Sequence[str] | None
) -> pa.Table:
    """Read rows as `load_table`, with each absent value replaced by the contract's last one before it.

    Values from before `start` count; what was never sent stays null. Only the topic's columns are filled.
    """
    table = load_table(reader, topic, conids=conids, span=span, columns=columns)
    filled = [name for name in table.column_names if name not in _KEEP]
    if not filled or not table.num_rows:
        return table
    before: dict[int, dict[str, pa.Scalar]] = {}
    if span.start is not None:
        earlier = load_table(reader, topic, conids=conids, span=Span(None, span.start), columns=columns)
        before = {conid: _last(rows, filled) for conid, rows in _by_conid(earlier)}
    order = pa.array(range(table.num_rows))
    pieces = []
    for conid, rows in _by_conid(table.append_column("_row", order)):
        pieces.append(_carry(rows, filled, before.get(conid, {})))
    return pa.concat_tables(pieces).sort_by("_row").drop_columns("_row")


def _by_conid(table: pa.Table) -> Iterable[tuple[int, pa.Table]]:
    for conid in pc.unique(table["conid"]).to_pylist():
        yield conid, table.filter(pc.equal(table["conid"], conid))


def _last(rows: pa.Table, names: Iterable[str]) -> dict[str, pa.Scalar]:
    last = {}
    for name in names:
        values = rows[name].drop_null()
        if len(values):
            last[name] = values[-1]
    return last


def _carry(rows: pa.Table, names: Iterable[str], before: dict[str, pa.Scalar]) -> pa.Table:
    for name in names:
        column = rows[name].combine_chunks()
        if column.null_count:
            filled = pc.fill_null_forward(column)
            if name in before and filled.null_count:
                filled = filled.fill_null(before[name])
            rows = rows.set_column(rows.column_names.index(name), name, filled)
    return rows
