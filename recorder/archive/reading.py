"""Reading: what is recorded, archived or still in the journal, each frame and row once and in order.

1. The journal is listed before the parts: what becomes Parquet in between is then seen twice, never missed, and a
   segment whose frames part exists is left out.
2. A file that vanishes while it is read has become something else; the reader lists again and goes on behind the last
   frame that it gave.
3. Rows come from typed parts where a commit lists them under our schema, else they are decoded from the frames.
4. Order is (T, recorder, session, seq, item), T being the highest ts_recv of the recorder so far. Within a recorder
   that is the order of its frames, whatever its clock did. Between recorders T counts all frames, not those that are
   asked for: commits note it (`late`, `latest`), for segments it is computed.
5. Nothing is left out silently: a hole in a session, or a part with fewer rows than its commit says, is `Damaged`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.catalog import frames_parts
from recorder.archive.commit import Commit
from recorder.archive.covered import covered_partitions, covered_tables
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import Layout
from recorder.archive.pieces import Piece, check_holes, frame_batches, list_pieces
from recorder.archive.windows import merged
from recorder.errors import Damaged
from recorder.protocol.decode import Decoder
from recorder.protocol.decoding_state import DecodingState
from recorder.protocol.segment import FrameBatch, tail
from recorder.protocol.tables import complete, topic_schema
from recorder.protocol.topics import Topic, Topics

LATEST: Final = "@latest"
"""The column of T, microseconds, in tables that are asked for it."""
_NEVER: Final = -(2**63)
_CONSTANT: Final = 131_072


class Span(NamedTuple):
    """A half-open range of ts_recv, microseconds since the Unix epoch; None is no bound."""

    start: int | None = None
    end: int | None = None

    def keep(self, ts_recv: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | None:
        """Give a mask of the rows inside, or None where all are."""
        ts = ts_recv.cast(pa.int64())
        masks = []
        if self.start is not None:
            masks.append(pc.greater_equal(ts, self.start))
        if self.end is not None:
            masks.append(pc.less(ts, self.end))
        return None if not masks else masks[0] if len(masks) == 1 else pc.and_(*masks)

    def cut(self, table: pa.Table) -> pa.Table:
        """Give the rows inside."""
        mask = self.keep(table["ts_recv"])
        return table if mask is None else table.filter(mask)


class Position(NamedTuple):
    """Behind which frame to go on."""

    session: str = ""
    seq: int = -1


class Reader:
    """Reads one archive. `topics` are those of this recorder's version."""

    def __init__(self, layout: Layout, topics: Topics) -> None:
        self.layout = layout
        self.topics = topics
        self._segment_latest: dict[Path, int] = {}

    def recorders(self) -> list[str]:
        """List the recorders that recorded anything."""
        return sorted(list_pieces(self.layout))

    def archived_frames(self) -> int:
        """Count the frames in parts, by their names."""
        return sum(part.name.last - part.name.first + 1 for part in frames_parts(self.layout))

    def sessions_start(self, moment: int) -> int:
        """Find when the earliest session began that has frames from a moment on (microseconds), or give the moment."""
        while True:
            found = [piece for pieces in list_pieces(self.layout).values() for piece in pieces]
            running = {piece.session for piece in found if piece.touches(moment, None)}
            with suppress(FileNotFoundError):  # a segment became a part meanwhile
                return min([moment, *(begin(piece) for piece in found if piece.session in running)])

    def stream(
        self, recorder: str, read: Callable[[Piece, int], Iterator[tuple[int, Any]]], span: Span
    ) -> Iterator[Any]:
        """Give what `read` gives of each piece of a recorder, in order and each once.

        `read` takes the piece and the frame behind which to begin; it gives pairs of the last sequence number that an
        output covers, and the output.
        """
        position = Position()
        while True:
            vanished = False
            pieces = list_pieces(self.layout).get(recorder, [])
            check_holes(pieces, *span)
            for piece in pieces:
                if _is_behind(piece, position) or not piece.touches(*span):
                    continue
                try:
                    for last_seq, output in read(piece, position.seq if piece.session == position.session else -1):
                        reached = Position(piece.session, last_seq)
                        if reached > position:  # a segment that was read before may be listed again
                            position = reached
                            yield output
                except (FileNotFoundError, Damaged) as exc:
                    if isinstance(exc, Damaged) and self.is_current(piece):
                        raise
                    vanished = True
                    break
            if not vanished:
                return

    def is_current(self, piece: Piece) -> bool:
        """Say whether a piece is what it was when it was listed; a rebuild may have put another in its place."""
        pieces = list_pieces(self.layout).get(piece.recorder, [])
        return any((other.path, other.commit) == (piece.path, piece.commit) for other in pieces)

    def batches(
        self, recorder: str, span: Span, *, exact: bool
    ) -> Iterator[tuple[Piece, FrameBatch, npt.NDArray[np.int64]]]:
        """Give a recorder's frames in order, with T of each; batches may reach beyond the span.

        T counts all frames of the recorder if it is to be `exact`, else those that are read.
        """
        latest = _NEVER

        def read(piece: Piece, behind: int) -> Iterator[tuple[int, tuple[Piece, FrameBatch, npt.NDArray[np.int64]]]]:
            nonlocal latest
            latest = self._latest_before(piece) if exact else latest
            for batch in frame_batches(piece):
                highest = _highest(batch, latest)
                latest = int(highest[-1])
                if batch.last_seq > behind:
                    fresh = tail(batch, behind + 1)
                    yield batch.last_seq, (piece, fresh, highest[len(batch) - len(fresh) :])

        yield from self.stream(recorder, read, span)

    def tables(
        self,
        recorder: str,
        topic: Topic,
        *,
        conids: Sequence[int] | None,
        span: Span,
        columns: Sequence[str],
        exact: bool = False,
    ) -> Iterator[pa.Table]:
        """Give a recorder's rows of a topic in order, in tables of bounded size, with `date` and `conid` in front.

        With `exact`, the column `LATEST` comes last: T of each row, which counts all frames of the recorder.
        """
        wanted = [name for name in topic_schema(topic).names if name in {"ts_recv", "seq", "item", *columns}]

        def read(piece: Piece, behind: int) -> Iterator[tuple[int, pa.Table]]:
            for last_seq, table in self.rows(piece, topic, conids, wanted, exact=exact):
                if last_seq > behind:
                    fresh = table if piece.first > behind else table.filter(pc.greater(table["seq"], behind))
                    yield last_seq, span.cut(fresh)

        yield from self.stream(recorder, read, span)

    def is_typed(self, piece: Piece, topic: Topic) -> bool:
        """Say whether a piece's rows of a topic are in typed parts, under our schema."""
        return piece.commit is not None and piece.commit.topics.get(topic.name) == topic.fingerprint

    def decode(self, piece: Piece, topic: Topic) -> pa.Table:
        """Decode all rows of a topic in a piece, with `date` and `conid`."""
        columns = topic_schema(topic).names
        tables = [table for _, table in self._decoded(piece, topic, None, columns)]
        return pa.concat_tables([empty_table(topic, columns), *tables])

    def rows(
        self, piece: Piece, topic: Topic, conids: Sequence[int] | None, columns: Sequence[str], *, exact: bool
    ) -> Iterator[tuple[int, pa.Table]]:
        """Give a piece's rows in order, in tables of bounded size, each with the last frame that it covers."""
        commit = piece.commit
        if commit is None or not self.is_typed(piece, topic):
            yield from self._decoded(piece, topic, conids, columns, exact=exact)
            return
        chosen = [conid for conid in covered_partitions(commit, topic.name) if conids is None or conid in conids]
        for table in merged([partial(self._partition, commit, topic, columns, conid) for conid in chosen]):
            last_seq = int(table["seq"][-1].as_py())
            yield last_seq, table.append_column(LATEST, pa.array(latest_of(table, commit))) if exact else table

    def _partition(
        self, commit: Commit, topic: Topic, columns: Sequence[str], conid: int, rows: int
    ) -> Iterator[pa.Table]:
        for table in covered_tables(self.layout, commit, topic, conid, columns=columns, rows=rows):
            yield with_partition(table, commit.date, conid)

    def _decoded(
        self, piece: Piece, topic: Topic, conids: Sequence[int] | None, columns: Sequence[str], *, exact: bool = False
    ) -> Iterator[tuple[int, pa.Table]]:
        """Decode a topic's rows from frames: of the journal, or of a part that was archived under another schema."""
        topics = self.topics if topic.mark is None else Topics([topic])  # of marks alone nothing else has to be read
        decoder = Decoder(topics, self.state_before(piece) if topic.conid.join else None)
        schema, date = topic_schema(topic), self.date_of(piece)
        latest = self._latest_before(piece) if exact else _NEVER
        for batch in frame_batches(piece):
            highest = _highest(batch, latest)
            latest = int(highest[-1])
            rows = decoder.decode(batch).rows.get(topic.name)
            if rows is None:
                continue
            table = complete(rows.table, schema, session=piece.session).select(list(columns))
            table = with_partition(table, date, rows.conid)
            if exact:
                table = table.append_column(LATEST, pa.array(highest[rows.table["seq"].to_numpy() - batch.first_seq]))
            if conids is not None:
                table = table.filter(pc.is_in(table["conid"], pa.array(conids, pa.int64())))
            yield batch.last_seq, table

    def _latest_before(self, piece: Piece) -> int:
        """Find the recorder's highest ts_recv before a piece; of a commit, as far as it matters within it."""
        if piece.commit is not None:
            late = piece.commit.late
            return late[0][2] if late and late[0][0] == piece.first else _NEVER
        latest = _NEVER
        for other in list_pieces(self.layout).get(piece.recorder, []):
            if (other.session, other.first) >= (piece.session, piece.first):
                break
            latest = max(latest, other.commit.latest if other.commit is not None else self._highest_of(other))
        return latest

    def _highest_of(self, segment: Piece) -> int:
        """Find a segment's highest ts_recv; it is followed by another, and read but once."""
        known = self._segment_latest.get(segment.path)
        if known is None:
            stamps = [int(batch.ts_recv.max()) for batch in frame_batches(segment)]
            known = self._segment_latest[segment.path] = max(stamps, default=_NEVER)
        return known

    def date_of(self, piece: Piece) -> str:
        """Give the date of a piece's frames."""
        if piece.commit is not None:
            return piece.commit.date
        reader = SegmentReader(piece.path)
        for _ in reader.batches():
            break
        return reader.header.date if reader.header is not None else "1970-01-01"

    def state_before(self, piece: Piece) -> DecodingState:
        """Find the decoder's state before a piece: the piece before has it in its commit, or its frames give it."""
        before = [
            other
            for other in list_pieces(self.layout).get(piece.recorder, [])
            if other.session == piece.session and other.first < piece.first
        ]
        committed = [number for number, other in enumerate(before) if other.commit is not None]
        state = DecodingState()
        start = 0
        if committed:
            last = before[committed[-1]].commit
            assert last is not None, "it was chosen for having one"
            state, start = last.state, committed[-1] + 1
        if start == len(before):
            return state
        decoder = Decoder(self.topics, state)
        for other in before[start:]:
            for batch in frame_batches(other):
                decoder.decode(batch)
        return decoder.state


def _highest(batch: FrameBatch, latest: int) -> npt.NDArray[np.int64]:
    """Give T of each frame of a batch, `latest` being the highest ts_recv before it."""
    highest: npt.NDArray[np.int64] = np.maximum.accumulate(np.maximum(batch.ts_recv, latest))
    return highest


def latest_of(table: pa.Table, commit: Commit) -> npt.NDArray[np.int64]:
    """Give T of each row of a commit: its own ts_recv, but for rows of frames that came late."""
    stamps: npt.NDArray[np.int64] = table["ts_recv"].cast(pa.int64()).to_numpy()
    if not commit.late:
        return stamps
    seq = table["seq"].to_numpy()
    first, last, highest = np.array(commit.late, np.int64).T
    run = np.searchsorted(first, seq, side="right") - 1
    return np.where((run >= 0) & (seq <= last[run]), highest[run], stamps)


def begin(piece: Piece) -> int:
    """Find a piece's lowest ts_recv; of a segment, that of its first frames."""
    if piece.commit is not None:
        return piece.commit.ts_min
    for batch in SegmentReader(piece.path).batches():
        return int(batch.ts_recv.min())
    return 2**63 - 1


def _is_behind(piece: Piece, position: Position) -> bool:
    """Say whether all of the piece was given; a segment may have grown since."""
    if piece.commit is None:
        return piece.session < position.session
    return (piece.session, piece.commit.last) <= position


def with_partition(table: pa.Table, date: str, conid: int | npt.NDArray[np.int64]) -> pa.Table:
    """Put `date` and `conid`, which stand in the path, in front of rows."""
    count = table.num_rows
    conids = _repeated(np.int64(conid), pa.int64(), count) if isinstance(conid, int) else pa.array(conid)
    dates = _repeated(np.datetime64(date, "D").astype(np.int32), pa.date32(), count)
    return table.add_column(0, "conid", conids).add_column(0, "date", dates)


def _repeated(value: np.integer, type_: pa.DataType, count: int) -> pa.ChunkedArray:
    """Give a column of one value; its chunks are all the same memory."""
    chunk = pa.array(np.full(min(count, _CONSTANT), value)).view(type_)
    rest = chunk.slice(0, count % _CONSTANT)
    return pa.chunked_array([*([chunk] * (count // _CONSTANT)), *([rest] if len(rest) else [])], type_)


def empty_table(topic: Topic, columns: Sequence[str]) -> pa.Table:
    """Give a table without rows, as `tables` would."""
    table = topic_schema(topic).empty_table().select(list(columns))
    return with_partition(table, "1970-01-01", 0)
