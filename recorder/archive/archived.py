"""The archived past: what was in parts when it was looked at first, and where it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from recorder.archive.commit import Commit
from recorder.archive.layout import Layout
from recorder.archive.pieces import Piece, list_pieces
from recorder.archive.reading import Position, Reader, Span
from recorder.protocol.topics import Topics


class End(NamedTuple):
    """Where a recorder's past ends: behind a frame, and the commit that holds it; None if nothing is archived."""

    position: Position = Position()
    commit: Commit | None = None


class ArchivedReader(Reader):
    """Reads a recorder's parts up to the first segment that was in its journal at the beginning.

    `end` is where what was read so far has ended, which is later than that if parts were merged meanwhile.
    """

    def __init__(self, layout: Layout, topics: Topics) -> None:
        super().__init__(layout, topics)
        self._ends = {recorder: _end(pieces) for recorder, pieces in list_pieces(layout).items()}

    def end(self, recorder: str) -> End:
        """Say where a recorder's past ends."""
        return self._ends.get(recorder, End())

    def stream(
        self, recorder: str, read: Callable[[Piece, int], Iterator[tuple[int, Any]]], span: Span
    ) -> Iterator[Any]:
        """Give what `read` gives of each piece of the past."""

        def limited(piece: Piece, behind: int) -> Iterator[tuple[int, Any]]:
            known = self.end(recorder)
            if piece.commit is None or (piece.session, piece.first) > known.position:
                return
            yield from read(piece, behind)
            reached = Position(piece.session, piece.commit.last)
            if reached > known.position:
                self._ends[recorder] = End(reached, piece.commit)

        return super().stream(recorder, limited, span)


def _end(pieces: list[Piece]) -> End:
    end = End()
    for piece in pieces:
        if piece.commit is None:
            break
        end = End(Position(piece.session, piece.commit.last), piece.commit)
    return end
