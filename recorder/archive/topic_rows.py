"""Topic rows: the rows of several topics of one recorder, in the order of its frames, some thousand at a time.

The topics of a piece are read side by side: a segment is decoded once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.pieces import Piece
from recorder.archive.reading import Reader, Span
from recorder.archive.row_decoder import RowDecoder


@dataclass(frozen=True, slots=True)
class TopicRows:
    """Rows that follow one another: a table for each topic that has any, in the order of its rows.

    `turns` says whose row is next, as places in `names` and `tables`; None where there is but one table. No frame's
    rows are in two of them.
    """

    session: str
    names: list[str]
    tables: list[pa.Table]
    turns: npt.NDArray[np.int64] | None

    def column(self, name: str) -> npt.NDArray[np.int64]:
        """Give a column of integers or times (microseconds) of all rows, in their order."""
        found: list[npt.NDArray[np.int64]] = [table[name].cast(pa.int64()).to_numpy() for table in self.tables]
        if self.turns is None:
            return found[0]
        merged = np.empty(len(self.turns), np.int64)
        for place, values in enumerate(found):
            merged[self.turns == place] = values
        return merged


def topic_rows(
    reader: Reader,
    recorder: str,
    chosen: Mapping[str, Sequence[str]],
    *,
    conids: Sequence[int] | None,
    span: Span,
    exact: bool,
) -> Iterator[TopicRows]:
    """Give a recorder's rows of topics, `chosen` with the columns of each, as `Reader.tables` gives those of one.

    Columns include `ts_recv`, `seq` and `item`.
    """

    def read(piece: Piece, behind: int) -> Iterator[tuple[int, TopicRows]]:
        for last_seq, tables in _piece_tables(reader, piece, chosen, conids=conids, exact=exact):
            fresh = {name: cut(table, behind, span) for name, table in tables.items()}
            if rows := in_order(piece.session, fresh):
                yield last_seq, rows

    yield from reader.stream(recorder, read, span)


def cut(table: pa.Table, behind: int, span: Span) -> pa.Table:
    """Give the rows of frames behind one, inside a span."""
    if table.num_rows and table["seq"][0].as_py() <= behind:
        table = table.filter(pc.greater(table["seq"], behind))
    return span.cut(table)


def in_order(session: str, tables: Mapping[str, pa.Table]) -> TopicRows | None:
    """Say how rows of topics, each in order, follow one another; None if there are none."""
    names = [name for name, table in tables.items() if table.num_rows]
    found = [tables[name] for name in names]
    if len(names) < 2:  # noqa: PLR2004  nothing to be ordered
        return TopicRows(session, names, found, None) if names else None
    seq = np.concatenate([table["seq"].to_numpy() for table in found])
    item = np.concatenate([table["item"].to_numpy() for table in found])
    of = np.repeat(np.arange(len(found)), [table.num_rows for table in found])
    return TopicRows(session, names, found, of[np.lexsort((item, seq))])


def _piece_tables(
    reader: Reader, piece: Piece, chosen: Mapping[str, Sequence[str]], *, conids: Sequence[int] | None, exact: bool
) -> Iterator[tuple[int, dict[str, pa.Table]]]:
    if piece.commit is not None:
        streams = {
            name: reader.rows(piece, reader.topics[name], conids, columns, exact=exact)
            for name, columns in chosen.items()
        }
        return _side_by_side(streams)
    decoder = RowDecoder(
        reader.topics,
        chosen,
        session=piece.session,
        state=reader.state_before(piece) if any(reader.topics[name].conid.join for name in chosen) else None,
        conids=conids,
        exact=exact,
    )
    return ((batch.last_seq, decoder.tables(batch, highest)) for batch, highest in reader.stamped(piece, exact=exact))


class _Cursor:
    """One topic's rows of a piece, taken frame by frame."""

    def __init__(self, rows: Iterator[tuple[int, pa.Table]]) -> None:
        self._rows = rows
        self.table: pa.Table | None = None
        self.last_seq = 0
        self.more()

    def more(self) -> None:
        """Read on, once what was read is taken; without a table it has ended."""
        self.last_seq, self.table = next(((seq, table) for seq, table in self._rows if table.num_rows), (0, None))

    def take(self, last_seq: int) -> pa.Table:
        """Take the rows of frames up to one."""
        table = self.table
        assert table is not None, "those that have ended are taken from no more"
        if last_seq >= self.last_seq:
            self.more()
            return table
        count = int(np.searchsorted(table["seq"].to_numpy(), last_seq, side="right"))
        self.table = table.slice(count)
        return table.slice(0, count)


def _side_by_side(
    streams: Mapping[str, Iterator[tuple[int, pa.Table]]],
) -> Iterator[tuple[int, dict[str, pa.Table]]]:
    """Give tables of several topics that end with the same frame, and that frame."""
    cursors = {name: _Cursor(rows) for name, rows in streams.items()}
    while cursors := {name: cursor for name, cursor in cursors.items() if cursor.table is not None}:
        bound = min(cursor.last_seq for cursor in cursors.values())
        yield bound, {name: cursor.take(bound) for name, cursor in cursors.items()}
