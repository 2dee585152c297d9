"""The tail: a recorder's frames as they come, from journal or parts, each once and in order.

1. What was given is a position, (session, seq), and nothing else: a segment that became a part, or parts that were
   merged, are read on behind it.
2. Pieces are listed before the last of them is read. So where a later piece is listed, an earlier segment is read to
   its end: it must be whole if its session goes on, and may be torn if another session has begun.
3. While one segment grows, only it and the journal's folder are looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from recorder.archive.journal import SegmentReader
from recorder.archive.pieces import Piece, frame_batches, hole, list_pieces, read_on
from recorder.archive.reading import Position, Reader
from recorder.errors import Damaged
from recorder.protocol.segment import FrameBatch, tail

_LIST_EVERY: Final = 1.0  # seconds; the time of the journal's folder is coarse, and may hide a change


class Tail:
    """Reads on, each time it is asked, behind what it gave before; at first behind `position`."""

    def __init__(
        self, reader: Reader, recorder: str, position: Position, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.position = position
        self._reader = reader
        self._recorder = recorder
        self._growing: tuple[Piece, SegmentReader] | None = None
        self._folder = reader.layout.journal(recorder)
        self._seen: int | None = None
        self._listed = 0.0
        self._now = now

    def read(self) -> Iterator[tuple[str, FrameBatch]]:
        """Give what is there by now: sessions, and batches of frames. To be taken to the end, then asked for again.

        `Damaged` for frames that are missing, or a segment that is broken and not the last of a dead session.
        """
        while True:
            try:
                if self._is_due():
                    yield from self._read_pieces()
                elif self._growing is not None:
                    piece, reader = self._growing
                    yield from self._fresh(piece.session, read_on(piece, reader))
            except FileNotFoundError:  # it became another one
                self._seen = self._growing = None
            else:
                return

    def _is_due(self) -> bool:
        """Say whether to list all pieces: the journal's folder has changed, or it was looked at some time ago."""
        try:
            changed = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            changed = 0
        now = self._now()
        if changed == self._seen and now - self._listed < _LIST_EVERY:
            return False
        self._seen, self._listed = changed, now
        return True

    def _read_pieces(self) -> Iterator[tuple[str, FrameBatch]]:
        pieces = list_pieces(self._reader.layout).get(self._recorder, [])
        for piece in pieces:
            if self._is_behind(piece):
                continue
            try:
                self._check(piece)
                yield from self._fresh(piece.session, self._batches(piece, last=piece is pieces[-1]))
            except Damaged as exc:
                if self._reader.is_current(piece):
                    raise
                raise FileNotFoundError(piece.path) from exc

    def _check(self, piece: Piece) -> None:
        """Raise `Damaged` if frames are missing before a piece, and not known to be lost."""
        expected = self.position.seq + 1 if piece.session == self.position.session else 0
        what = hole(expected, piece) if piece.first > expected else None
        if what is not None:
            hint = "restore the file, or let `recorder verify --repair` note the hole"
            raise Damaged(what, path=piece.path, offset=0, hint=hint)

    def _is_behind(self, piece: Piece) -> bool:
        """Say whether all of a piece was given."""
        if piece.commit is not None:
            return (piece.session, piece.commit.last) <= self.position
        if piece.following is not None:
            return (piece.session, piece.following - piece.lost_behind - 1) <= self.position
        return piece.session < self.position.session

    def _batches(self, piece: Piece, *, last: bool) -> Iterator[FrameBatch]:
        if piece.commit is not None:
            return frame_batches(piece)
        reader = SegmentReader(piece.path)
        if self._growing is not None and self._growing[0].path == piece.path:
            reader = self._growing[1]
        self._growing = (piece, reader) if last else None
        return read_on(piece, reader)

    def _fresh(self, session: str, batches: Iterator[FrameBatch]) -> Iterator[tuple[str, FrameBatch]]:
        """Give what was not given yet."""
        for batch in batches:
            reached = Position(session, batch.last_seq)
            if reached > self.position:
                behind = self.position.seq if session == self.position.session else -1
                self.position = reached
                yield session, tail(batch, behind + 1)
