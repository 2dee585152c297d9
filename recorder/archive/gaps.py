"""The gap ledger, read: the gaps that are over, and those that are open."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, NamedTuple

import pyarrow as pa

from recorder.archive.holes import read_holes
from recorder.archive.pieces import Piece, frame_batches, list_pieces
from recorder.archive.reading import Reader, Span, begin
from recorder.errors import GapError
from recorder.protocol.ledger import INFORMATION, Closed, Gap, Ledger, read_gap

GAPS: Final = "gaps"
"""The topic's name."""


class GapRow(NamedTuple):
    """One gap: `start` and `end` in microseconds since the Unix epoch, UTC.

    `conid` is None for the whole topic, `end` while it is open. `session` is that whose mark says it.
    """

    recorder: str
    session: str
    topic: str
    conid: int | None
    start: int
    end: int | None
    cause: str
    evidence: str | None

    @property
    def information(self) -> bool:
        """Whether nothing was missed."""
        return self.cause in INFORMATION

    def overlaps(self, span: Span) -> bool:
        """Say whether the gap touches a range of times; an empty one lies where it starts."""
        begins = span.end is None or self.start < span.end
        ends = span.start is None or self.end is None or self.end > span.start or self.start >= span.start
        return begins and ends

    def is_of(self, topics: Collection[str] | None, conids: Collection[int] | None) -> bool:
        """Say whether it is in one of these topics and contracts (None: any); that of a whole topic is in each."""
        of_conid = conids is None or self.conid is None or self.conid in conids
        return of_conid and (topics is None or self.topic in topics)

    def __str__(self) -> str:
        of = self.topic if self.conid is None else f"{self.topic} of contract {self.conid}"
        until = "is open" if self.end is None else f"to {_text(self.end)}"
        return f"{of} has a gap from {_text(self.start)} {until} ({self.cause}: {self.evidence or 'no evidence'})"


def read_gaps(
    reader: Reader, *, topics: Collection[str] | None = None, conids: Collection[int] | None = None, span: Span
) -> list[GapRow]:
    """Read the gaps that touch a range of times, in the order of their starts.

    `topics` and `conids` narrow them; a gap of a whole topic is one of each of its contracts.
    """
    chosen = [
        row
        for recorder in reader.recorders()
        for row in _of_recorder(reader, recorder, conids, span)
        if row.overlaps(span) and row.is_of(topics, conids)
    ]
    return sorted(chosen, key=lambda row: (row.start, row.recorder, row.topic, row.conid or 0))


def refuse_gaps(reader: Reader, *, topics: Collection[str], conids: Collection[int] | None, span: Span) -> None:
    """Raise `GapError` if there is a hole; what is only information is none."""
    refuse(read_gaps(reader, topics=topics, conids=conids, span=span))


def refuse(rows: Iterable[GapRow]) -> None:
    """Raise `GapError` if one of these gaps is a hole."""
    holes = [row for row in rows if not row.information]
    if holes:
        first = holes[0]
        more = f", and {len(holes) - 1:,} more gaps" if len(holes) > 1 else ""
        raise GapError(f"{first}{more}", topic=first.topic, conid=first.conid, start=first.start, end=first.end)


def told_by(data: bytes, *, recorder: str, session: str) -> GapRow | None:
    """Read the gap that a mark of a session tells of, open or over; None if it tells of none."""
    said = read_gap(data)
    if said is None:
        return None
    gap, end = (said.gap, said.end) if isinstance(said, Closed) else (said, None)
    return GapRow(recorder, session, gap.topic, gap.conid, gap.start, end, gap.cause, gap.evidence)


def _of_recorder(reader: Reader, recorder: str, conids: Collection[int] | None, span: Span) -> list[GapRow]:
    """Give a recorder's rows and what is open, as they were at one moment: one may be closed while this reads."""
    while True:
        still_open = list(_open(reader, recorder))
        closed = list(_closed(reader, recorder, conids, span))
        if still_open == list(_open(reader, recorder)):
            return [*closed, *still_open, *_of_holes(reader, recorder)]


def _closed(reader: Reader, recorder: str, conids: Collection[int] | None, span: Span) -> Iterator[GapRow]:
    """Give a recorder's rows. A gap's mark comes when it is over, so none before `span` matters."""
    wanted = ["session", *(column.name for column in reader.topics[GAPS].columns)]
    tables = reader.tables(
        recorder,
        reader.topics[GAPS],
        conids=None if conids is None else [0, *conids],
        span=Span(span.start, None),
        columns=wanted,
    )
    for table in tables:
        columns = {name: table[name] for name in ("conid", *wanted)}
        for name in ("start", "end"):
            columns[name] = columns[name].cast(pa.int64())
        for row in pa.table(columns).to_pylist():
            values = (row[name] for name in ("start", "end", "cause", "evidence"))
            yield GapRow(recorder, row["session"], row["of_topic"], row["conid"] or None, *values)


def _open(reader: Reader, recorder: str) -> Iterator[GapRow]:
    """Give the gaps that are open behind all that is recorded. A session closes what the one before it left open."""
    while True:
        pieces = list_pieces(reader.layout).get(recorder, [])
        own = [piece for piece in pieces if piece.session == pieces[-1].session]
        try:
            gaps = open_gaps(own)
        except FileNotFoundError:
            continue  # a segment became a part meanwhile
        break
    for gap in gaps:
        yield GapRow(recorder, own[-1].session, gap.topic, gap.conid, gap.start, None, gap.cause, gap.evidence)


def _of_holes(reader: Reader, recorder: str) -> Iterator[GapRow]:
    """Give the gaps that damage made: of every hole that a repair noted, one for each topic that was recorded.

    They are in no mark: what was lost was found long after. One whose frames are there again is none.
    """
    holes = [hole for hole in read_holes(reader.layout) if hole.recorder == recorder]
    if not holes:
        return
    while True:
        pieces = list_pieces(reader.layout).get(recorder, [])
        with suppress(FileNotFoundError):  # a segment became a part meanwhile
            later = [(piece.session, begin(piece)) for piece in pieces]
            break
    commits = [piece.commit for piece in pieces if piece.commit is not None]
    claimed = {name for commit in commits for name, count in commit.claimed.items() if count}
    topics = [topic.name for topic in reader.topics if topic.subscription is not None and topic.name in claimed]
    for hole in holes:
        if any(one.session == hole.session and one.first <= hole.first and hole.last <= one.last for one in commits):
            continue
        following = min((stamp for session, stamp in later if session > hole.session), default=hole.acknowledged)
        end = following if hole.end is None else hole.end
        start = end if hole.start is None else hole.start
        for topic in topics:
            yield GapRow(recorder, hole.session, topic, None, start, max(start, end), "journal_damaged", str(hole))


def open_gaps(pieces: list[Piece]) -> tuple[Gap, ...]:
    """Find the gaps that are open behind a session's pieces: by its last commit, then by the marks in the journal."""
    ledger = Ledger()
    for piece in pieces:
        if piece.commit is not None:
            ledger = Ledger(piece.commit.open_gaps)
            continue
        for batch in frame_batches(piece):
            for _, data in batch.marks():
                ledger.follow(data)
    return ledger.open_gaps


def _text(micros: int) -> str:
    return f"{datetime.fromtimestamp(micros / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
