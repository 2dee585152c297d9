"""The check of the gap ledger: whether the marks of gaps, in the order of frames, make sense, and commits know them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.layout import Layout
from recorder.archive.pieces import Piece, frame_batches, list_pieces
from recorder.errors import Damaged
from recorder.protocol.ledger import Closed, Gap, Key, read_gap

Mark = tuple[int, bytes]
"""A mark about a gap: its frame's number, and its bytes."""


class Misfit(NamedTuple):
    """Something about gaps that does not fit: in which part or segment, and what."""

    path: Path
    what: str


def gap_marks(frames: pa.Table) -> list[Mark]:
    """Give the marks about gaps of a table of frames."""
    marks = frames.filter(pc.equal(frames["kind"], "mark"))
    pairs = zip(marks["seq"].to_pylist(), marks["data"].to_pylist(), strict=True)
    return [(seq, data) for seq, data in pairs if _is_about_gaps(data)]


def check_ledger(layout: Layout, known: Mapping[Path, Sequence[Mark]]) -> list[Misfit]:
    """Check every recorder; `known` holds the marks of the parts that were read already.

    Each gap that a session opened is closed by it or by the session that follows, or is still open; the gaps of one
    key follow one another; commits say what is open behind them. What cannot be read is told elsewhere.
    """
    misfits: list[Misfit] = []
    for pieces in list_pieces(layout, damaged=[]).values():
        left: dict[Key, Gap] | None = {}
        for session, own in groupby(pieces, key=lambda piece: piece.session):
            check = _Session(session, left)
            misfits += check.run(own, known)
            left = check.open if check.whole else None
    return misfits


class _Session:
    """Follows the marks of one session; `left` are the gaps that the one before it left open, None if not known.

    `open` are those that are open at its end. It is `whole` if all its pieces could be read.
    """

    def __init__(self, name: str, left: dict[Key, Gap] | None) -> None:
        self.open: dict[Key, Gap] = {}
        self.whole = True
        self._name = name
        self._left = {} if left is None else dict(left)
        self._ends: dict[Key, int] = {}

    def run(self, pieces: Iterable[Piece], known: Mapping[Path, Sequence[Mark]]) -> Iterator[Misfit]:
        """Check the session's pieces, in order."""
        following, first = 0, None
        for piece in pieces:
            first = first or piece.path
            marks = known.get(piece.path)
            marks = _read(piece) if marks is None else marks
            self.whole = self.whole and piece.first == following and marks is not None
            if piece.commit is not None:
                following = piece.commit.last + 1
            elif piece.following is not None:
                following = piece.following
            if not self.whole or marks is None:
                return
            for seq, data in marks:
                yield from (Misfit(piece.path, f"frame {seq}: {what}") for what in self._take(data))
            if piece.commit is not None and set(piece.commit.open_gaps) != set(self.open.values()):
                yield Misfit(piece.path, "the open gaps of its commit are not those that its marks tell")
        if first is not None:
            for gap in self._left.values():
                yield Misfit(first, f"{_of(gap)} was open when the session before ended, and {self._name} left it so")

    def _take(self, data: bytes) -> Iterator[str]:
        read = read_gap(data)
        if isinstance(read, Gap):
            yield from self._take_open(read)
        elif read is not None:
            yield from self._take_closed(read)
        else:
            yield "a mark of a gap cannot be read"

    def _take_open(self, gap: Gap) -> Iterator[str]:
        before = self.open.get(gap.key)
        if before is not None and (before.start, before.cause) != (gap.start, gap.cause):
            yield f"{_of(gap)} is opened while another is open"
        elif gap.start < self._ends.get(gap.key, gap.start):
            yield f"{_of(gap)} starts before the one before it ended"
        self.open[gap.key] = gap

    def _take_closed(self, closed: Closed) -> Iterator[str]:
        gap = closed.gap
        if closed.end < gap.start:
            yield f"{_of(gap)} ends before it starts"
        where = self._left if gap.key in self._left else self.open
        before = where.get(gap.key)
        if before is None or before.start != gap.start:
            return  # one that was known only when it was over
        if before != gap:
            yield f"{_of(gap)} is closed as another than was opened"
        del where[gap.key]
        self._ends[gap.key] = closed.end


def _read(piece: Piece) -> list[Mark] | None:
    """Read the marks of a piece; None if it cannot be read, or has become something else meanwhile."""
    try:
        return [
            (batch.first_seq + place, data)
            for batch in frame_batches(piece)
            for place, data in batch.marks()
            if _is_about_gaps(data)
        ]
    except (Damaged, FileNotFoundError):
        return None


def _is_about_gaps(data: bytes) -> bool:
    return b'"event":"gap_' in data


def _of(gap: Gap) -> str:
    of = gap.topic if gap.conid is None else f"{gap.topic} of contract {gap.conid}"
    return f"the gap of {of} ({gap.cause})"
