"""Gaps beside rows: the ledger as a table, and which rows come first after a hole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from recorder.archive.gaps import GapRow
from recorder.archive.pieces import list_pieces
from recorder.archive.reading import Reader
from recorder.protocol.tables import TIME

AFTER_GAP: Final = "after_gap"
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


def mark_after_gaps(table: pa.Table, rows: Sequence[GapRow], reader: Reader) -> pa.Table:
    """Append the column `after_gap`: true for a contract's first row behind a hole, of the recorder that has the hole.

    `table` holds rows in order, with `conid`, `ts_recv` and `session`.
    """
    marked = np.zeros(table.num_rows, bool)
    holes = [row for row in rows if not row.information and row.end is not None]
    if holes and table.num_rows:
        recorders = _recorders(table, reader)
        stamps = table["ts_recv"].cast(pa.int64()).to_numpy()
        conids = table["conid"].to_numpy()
        for recorder in {row.recorder for row in holes}:
            own = np.flatnonzero(recorders == recorder)
            _mark(marked, own, stamps[own], conids[own], [row for row in holes if row.recorder == recorder])
    return table.append_column(AFTER_GAP, pa.array(marked))


def _mark(
    marked: npt.NDArray[np.bool_],
    places: npt.NDArray[np.int64],
    stamps: npt.NDArray[np.int64],
    conids: npt.NDArray[np.int64],
    holes: list[GapRow],
) -> None:
    """Mark a recorder's rows, which stand at these places of the table."""
    order = np.argsort(conids, kind="stable")
    begins = np.flatnonzero(np.append(True, np.diff(conids[order]) != 0)) if len(order) else np.empty(0, np.int64)
    for own in np.split(order, begins[1:]):
        ends = [row.end for row in holes if row.conid in (None, int(conids[own[0]]))] if len(own) else []
        latest = np.maximum.accumulate(stamps[own])
        first = np.searchsorted(latest, np.array(ends, np.int64))
        marked[places[own[first[first < len(own)]]]] = True


def _recorders(table: pa.Table, reader: Reader) -> npt.NDArray[np.object_]:
    """Give the recorder of each row, by its session."""
    known = {piece.session: name for name, pieces in list_pieces(reader.layout).items() for piece in pieces}
    sessions = table["session"].combine_chunks().dictionary_encode()
    names = np.array([known[session] for session in sessions.dictionary.to_pylist()], object)
    recorders: npt.NDArray[np.object_] = names[sessions.indices.to_numpy()]
    return recorders
