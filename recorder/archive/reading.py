"""Reading: what is recorded, archived or still in the journal, each frame and row once and in order.

1. The journal is listed before the parts: what becomes Parquet in between is then seen twice, never missed, and a
   segment whose frames part exists is left out.
2. A file that vanishes while it is read has become something else; the reader lists again and goes on behind the last
   frame that it gave.
3. Rows come from typed parts where a commit lists them under our schema, else they are decoded from the frames.
4. Order is (T, recorder, session, seq, item), T being the highest ts_recv of the recorder so far. Within a recorder
   that is the order of its frames, whatever its clock did.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.catalog import frames_parts
from recorder.archive.commit import Commit
from recorder.archive.covered import covered_partitions, covered_tables
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import Layout
from recorder.archive.parts import read_tables
from recorder.archive.windows import merged
from recorder.protocol.decode import Decoder, Orders
from recorder.protocol.segment import CHUNK, CODES, FrameBatch, gathered, tail
from recorder.protocol.tables import FRAMES, complete, topic_schema
from recorder.protocol.topics import Topic, Topics


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


class Piece(NamedTuple):
    """A run of one session's frames on disk: a committed part, or a segment of the journal."""

    recorder: str
    session: str
    first: int
    path: Path
    commit: Commit | None

    def touches(self, span: Span) -> bool:
        """Say whether any frame may lie in the span; of a segment that is not known before it is read."""
        if self.commit is None:
            return True
        return (span.start is None or self.commit.ts_max >= span.start) and (
            span.end is None or self.commit.ts_min < span.end
        )


class Position(NamedTuple):
    """Behind which frame to go on."""

    session: str = ""
    seq: int = -1


def list_pieces(layout: Layout, *, without: Collection[Path] = ()) -> dict[str, list[Piece]]:
    """List what is on disk by recorder, in order, `without` some parts; lists again when a file vanishes meanwhile."""
    while True:
        try:
            return _list_pieces(layout, without)
        except FileNotFoundError:
            continue


def _list_pieces(layout: Layout, without: Collection[Path]) -> dict[str, list[Piece]]:
    segments = {recorder: layout.segments(recorder) for recorder in layout.recorders()}
    pieces: dict[str, list[Piece]] = {}
    covered = set()
    for part in frames_parts(layout):
        if part.path in without:
            continue
        commit = part.commit()
        covered.add((commit.session, commit.first))
        pieces.setdefault(commit.recorder, []).append(
            Piece(commit.recorder, commit.session, commit.first, part.path, commit)
        )
    for recorder, paths in segments.items():
        for path in paths:
            reader = SegmentReader(path)
            if (reader.session, reader.first_seq) not in covered:
                piece = Piece(recorder, reader.session, reader.first_seq, path, None)
                pieces.setdefault(recorder, []).append(piece)
    return {
        recorder: sorted(found, key=lambda piece: (piece.session, piece.first)) for recorder, found in pieces.items()
    }


def frame_batches(piece: Piece) -> Iterator[FrameBatch]:
    """Give a piece's frames in batches of some ten thousand; `Damaged` if it cannot be read."""
    if piece.commit is None:
        yield from gathered(SegmentReader(piece.path).batches())
        return
    columns = ["ts_recv", "seq", "conn", "kind", "op", "data"]
    for table in read_tables(piece.path, schema=FRAMES, columns=columns, rows=CHUNK):
        yield _batch_of(table.to_batches()[0])


def _batch_of(batch: pa.RecordBatch) -> FrameBatch:
    """Make a batch of frames of a frames part's rows, which follow one another."""
    count = batch.num_rows
    codes = pc.index_in(pc.binary_join_element_wise(batch["kind"], batch["op"], " "), pa.array(list(CODES)))
    data = batch["data"].cast(pa.large_binary())
    _, edges, blob = data.buffers()
    offsets = np.frombuffer(edges, np.int64)[data.offset : data.offset + count + 1]
    values = np.array(list(CODES.values()), np.uint8)
    return FrameBatch(
        int(batch["seq"][0].as_py()),
        batch["ts_recv"].cast(pa.int64()).to_numpy(),
        batch["conn"].to_numpy(),
        values[codes.to_numpy()],
        offsets - offsets[0],
        memoryview(blob if blob is not None else b"")[int(offsets[0]) : int(offsets[-1])],
    )


class Reader:
    """Reads one archive. `topics` are those of this recorder's version."""

    def __init__(self, layout: Layout, topics: Topics) -> None:
        self.layout = layout
        self.topics = topics

    def recorders(self) -> list[str]:
        """List the recorders that recorded anything."""
        return sorted(list_pieces(self.layout))

    def archived_frames(self) -> int:
        """Count the frames in parts, by their names."""
        return sum(part.name.last - part.name.first + 1 for part in frames_parts(self.layout))

    def session_start(self, moment: int) -> int:
        """Find when the earliest session that ran at a moment began (microseconds); the moment itself if none did."""
        starts = [moment]
        for pieces in list_pieces(self.layout).values():
            before = [piece for piece in pieces if _begin(piece) < moment]
            if before:
                session = before[-1].session
                starts.append(min(_begin(piece) for piece in before if piece.session == session))
        return min(starts)

    def _stream(
        self, recorder: str, read: Callable[[Piece, int], Iterator[tuple[int, Any]]], span: Span
    ) -> Iterator[Any]:
        """Give what `read` gives of each piece of a recorder, in order and each once.

        `read` takes the piece and the frame behind which to begin; it gives pairs of the last sequence number that an
        output covers, and the output.
        """
        position = Position()
        while True:
            vanished = False
            for piece in list_pieces(self.layout).get(recorder, []):
                if _is_behind(piece, position) or not piece.touches(span):
                    continue
                try:
                    for last_seq, output in read(piece, position.seq if piece.session == position.session else -1):
                        reached = Position(piece.session, last_seq)
                        if reached > position:  # a segment that was read before may be listed again
                            position = reached
                            yield output
                except FileNotFoundError:
                    vanished = True
                    break
            if not vanished:
                return

    def batches(self, recorder: str, span: Span) -> Iterator[tuple[Piece, FrameBatch]]:
        """Give a recorder's frames in order; batches may reach beyond the span."""

        def read(piece: Piece, behind: int) -> Iterator[tuple[int, tuple[Piece, FrameBatch]]]:
            for batch in frame_batches(piece):
                if batch.last_seq > behind:
                    yield batch.last_seq, (piece, tail(batch, behind + 1))

        yield from self._stream(recorder, read, span)

    def tables(
        self, recorder: str, topic: Topic, *, conids: Sequence[int] | None, span: Span, columns: Sequence[str]
    ) -> Iterator[pa.Table]:
        """Give a recorder's rows of a topic in order, in tables of bounded size, with `date` and `conid` in front."""
        wanted = [name for name in topic_schema(topic).names if name in {"ts_recv", "seq", "item", *columns}]

        def read(piece: Piece, behind: int) -> Iterator[tuple[int, pa.Table]]:
            for last_seq, table in self._rows(piece, topic, conids, wanted):
                if last_seq > behind:
                    fresh = table if piece.first > behind else table.filter(pc.greater(table["seq"], behind))
                    yield last_seq, span.cut(fresh)

        yield from self._stream(recorder, read, span)

    def decode(self, piece: Piece, topic: Topic) -> pa.Table:
        """Decode all rows of a topic in a piece, with `date` and `conid`."""
        columns = topic_schema(topic).names
        tables = [table for _, table in self._decoded(piece, topic, None, columns)]
        return pa.concat_tables([empty_table(topic, columns), *tables])

    def _rows(
        self, piece: Piece, topic: Topic, conids: Sequence[int] | None, columns: Sequence[str]
    ) -> Iterator[tuple[int, pa.Table]]:
        """Give a piece's rows in order, in tables of bounded size, each with the last frame that it covers."""
        commit = piece.commit
        if commit is None or commit.topics.get(topic.name) != topic.fingerprint:
            yield from self._decoded(piece, topic, conids, columns)
            return
        chosen = [conid for conid in covered_partitions(commit, topic.name) if conids is None or conid in conids]
        for table in merged([partial(self._partition, commit, topic, columns, conid) for conid in chosen]):
            yield int(table["seq"][-1].as_py()), table

    def _partition(
        self, commit: Commit, topic: Topic, columns: Sequence[str], conid: int, rows: int
    ) -> Iterator[pa.Table]:
        for table in covered_tables(self.layout, commit, topic, conid, columns=columns, rows=rows):
            yield _with_partition(table, commit.date, conid)

    def _decoded(
        self, piece: Piece, topic: Topic, conids: Sequence[int] | None, columns: Sequence[str]
    ) -> Iterator[tuple[int, pa.Table]]:
        """Decode a topic's rows from frames: of the journal, or of a part that was archived under another schema."""
        decoder = Decoder(self.topics, self._orders_before(piece) if topic.conid.join else {})
        schema, date = topic_schema(topic), self.date_of(piece)
        for batch in frame_batches(piece):
            rows = decoder.decode(batch).rows.get(topic.name)
            if rows is None:
                continue
            table = complete(rows.table, schema, session=piece.session).select(list(columns))
            table = _with_partition(table, date, rows.conid)
            if conids is not None:
                table = table.filter(pc.is_in(table["conid"], pa.array(conids, pa.int64())))
            yield batch.last_seq, table

    def date_of(self, piece: Piece) -> str:
        """Give the date of a piece's frames."""
        if piece.commit is not None:
            return piece.commit.date
        reader = SegmentReader(piece.path)
        for _ in reader.batches():
            break
        return reader.header.date if reader.header is not None else "1970-01-01"

    def _orders_before(self, piece: Piece) -> Orders:
        """Find the decoder's state before a piece: the piece before has it in its commit, or its frames give it."""
        before = [
            other
            for other in list_pieces(self.layout).get(piece.recorder, [])
            if other.session == piece.session and other.first < piece.first
        ]
        committed = [number for number, other in enumerate(before) if other.commit is not None]
        orders: Orders = {}
        start = 0
        if committed:
            last = before[committed[-1]].commit
            assert last is not None, "it was chosen for having one"
            orders, start = last.orders, committed[-1] + 1
        if start == len(before):
            return orders
        decoder = Decoder(self.topics, orders)
        for other in before[start:]:
            for batch in frame_batches(other):
                decoder.decode(batch)
        return decoder.orders


def _begin(piece: Piece) -> int:
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


def _with_partition(table: pa.Table, date: str, conid: int | npt.NDArray[np.int64]) -> pa.Table:
    count = table.num_rows
    conids = pa.repeat(pa.scalar(conid, pa.int64()), count) if isinstance(conid, int) else pa.array(conid)
    dates = pa.repeat(pa.scalar(date).cast(pa.date32()), count)
    return table.add_column(0, "conid", conids).add_column(0, "date", dates)


def empty_table(topic: Topic, columns: Sequence[str]) -> pa.Table:
    """Give a table without rows, as `tables` would."""
    table = topic_schema(topic).empty_table().select(list(columns))
    return _with_partition(table, "1970-01-01", 0)
