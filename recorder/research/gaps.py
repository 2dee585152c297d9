"""Gaps beside rows: the ledger as a table, and which rows come first after a hole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from recorder.archive.gaps import GapRow, read_gaps
from recorder.archive.pieces import list_pieces
from recorder.archive.reading import Reader, Span
from recorder.protocol.tables import TIME
from recorder.protocol.topics import Topic
from recorder.research.load import load_table

Thing = tuple[str, int]
"""A recorder and a contract."""
Hole = tuple[GapRow, int]
"""A gap in which something was missed, and its end."""

AFTER_GAP: Final = "after_gap"
_NEVER: Final = -(2**63)
_LOOK: Final = 60_000_000
"""How far back the first look for a row goes, microseconds."""
_SCHEMA: Final = pa.schema(
    [
        ("recorder", pa.string()),
        ("session", pa.string()),
        ("topic", pa.string()),
        ("conid", pa.int64()),
        ("start", TIME),
        ("end", TIME),
        ("cause", pa.string()),
        ("evidence", pa.string()),
        ("information", pa.bool_()),
    ]
)


def gaps_frame(rows: Iterable[GapRow]) -> pd.DataFrame:
    """Make a pandas table of gaps; `conid` is `Int64`, and a gap that is open has no `end`."""
    records = [row._asdict() | {"information": row.information} for row in rows]
    frame: pd.DataFrame = pa.Table.from_pylist(records, _SCHEMA).to_pandas(
        types_mapper={pa.int64(): pd.Int64Dtype()}.get
    )
    return frame


def mark_after_gaps(
    table: pa.Table, topic: Topic, reader: Reader, *, conids: Sequence[int] | None, span: Span
) -> pa.Table:
    """Append the column `after_gap`: true for a contract's first row behind a hole, of the recorder that has the hole.

    `table` holds a span's rows in order, with `conid`, `ts_recv` and `session`. A row has the same mark wherever the
    span begins: a hole that was over before it counts if no row came between.
    """
    marked = np.zeros(table.num_rows, bool)
    around = Span(None if span.start is None else reader.sessions_start(span.start), span.end)
    rows = read_gaps(reader, topics=[topic.name], conids=conids, span=around)
    holes = [(row, row.end) for row in rows if not row.information and row.end is not None]
    if holes and table.num_rows:
        recorders = _recorders(table, reader)
        stamps = table["ts_recv"].cast(pa.int64()).to_numpy()
        numbers = table["conid"].to_numpy()
        before = {} if span.start is None else _last_before(span.start, table, topic, reader, holes)
        for recorder in {row.recorder for row, _ in holes}:
            own = np.flatnonzero(recorders == recorder)
            of_recorder = [pair for pair in holes if pair[0].recorder == recorder]
            _mark(marked, own, stamps[own], numbers[own], holes=of_recorder, before=before)
    return table.append_column(AFTER_GAP, pa.array(marked))


def _mark(
    marked: npt.NDArray[np.bool_],
    places: npt.NDArray[np.int64],
    stamps: npt.NDArray[np.int64],
    conids: npt.NDArray[np.int64],
    *,
    holes: list[Hole],
    before: Mapping[Thing, int],
) -> None:
    """Mark a recorder's rows, which stand at these places of the table; `before` are the last ones before them."""
    order = np.argsort(conids, kind="stable")
    begins = np.flatnonzero(np.append(True, np.diff(conids[order]) != 0)) if len(order) else np.empty(0, np.int64)
    for own in np.split(order, begins[1:]):
        thing = (holes[0][0].recorder, int(conids[own[0]])) if len(own) else ("", 0)
        ends = [end for row, end in holes if row.conid in {None, thing[1]} and end > before.get(thing, _NEVER)]
        latest = np.maximum.accumulate(stamps[own])
        first = np.searchsorted(latest, np.array(ends, np.int64))
        marked[places[own[first[first < len(own)]]]] = True


def _last_before(start: int, table: pa.Table, topic: Topic, reader: Reader, holes: Sequence[Hole]) -> dict[Thing, int]:
    """Find when the last row before a moment came, by recorder and contract, of those of which some hole was over then.

    It looks back step by step, and no further than to a contract's last hole: what came before that does not matter.
    """
    over: dict[Thing, int] = {}
    for thing in _stamps(table, reader):
        ends = [
            end for row, end in holes if row.recorder == thing[0] and row.conid in {None, thing[1]} and end <= start
        ]
        if ends:
            over[thing] = max(ends)
    found: dict[Thing, int] = {}
    behind, width = start, _LOOK
    while over:
        begin = max(behind - width, min(over.values()))
        conids = sorted({conid for _, conid in over})
        rows = load_table(reader, topic, conids=conids, span=Span(begin, behind), columns=["session"])
        found |= {thing: stamp for thing, stamp in _stamps(rows, reader).items() if thing in over}
        over = {thing: end for thing, end in over.items() if thing not in found and end < begin}
        behind, width = begin, width * 8
    return found


def _stamps(table: pa.Table, reader: Reader) -> dict[Thing, int]:
    """Give the highest ts_recv of each contract's rows, by recorder."""
    if not table.num_rows:
        return {}
    stamps = table["ts_recv"].cast(pa.int64())
    rows = pa.table({"recorder": _recorders(table, reader).tolist(), "conid": table["conid"], "ts_recv": stamps})
    highest = rows.group_by(["recorder", "conid"]).aggregate([("ts_recv", "max")])
    return {(row["recorder"], row["conid"]): row["ts_recv_max"] for row in highest.to_pylist()}


def _recorders(table: pa.Table, reader: Reader) -> npt.NDArray[np.object_]:
    """Give the recorder of each row, by its session."""
    known = {piece.session: name for name, pieces in list_pieces(reader.layout).items() for piece in pieces}
    sessions = table["session"].combine_chunks().dictionary_encode()
    names = np.array([known[session] for session in sessions.dictionary.to_pylist()], object)
    recorders: npt.NDArray[np.object_] = names[sessions.indices.to_numpy()]
    return recorders
