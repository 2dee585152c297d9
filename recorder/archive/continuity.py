"""Continuity: whether a recorder's sessions follow one another without a hole, in parts and journal together."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import msgspec

from recorder.archive.journal import SegmentReader
from recorder.archive.layout import Layout
from recorder.archive.reading import Piece, frame_batches, list_pieces
from recorder.errors import Damaged
from recorder.lock import ARCHIVER, Holder
from recorder.protocol.marks import decode_mark


class Break(NamedTuple):
    """A place where frames that were once on disk are missing or doubled."""

    path: Path
    what: str


class _Session(NamedTuple):
    """A session on disk: its pieces in order, its first mark, and its last frame."""

    name: str
    pieces: list[Piece]
    predecessor: tuple[str, int] | None
    last: int


def check_continuity(layout: Layout, *, unreadable: Collection[Path]) -> tuple[list[Break], list[str]]:
    """Check every recorder; give what is wrong, and notes on what is normal after a crash.

    `unreadable` parts count as missing.
    """
    breaks: list[Break] = []
    notes: list[str] = []
    for recorder, pieces in list_pieces(layout, without=unreadable).items():
        sessions: dict[str, list[Piece]] = {}
        for piece in pieces:
            sessions.setdefault(piece.session, []).append(piece)
        ends: dict[str, int] = {}
        for number, (name, own) in enumerate(sessions.items()):
            try:
                session = _read_session(name, own, breaks, notes, last=number + 1 == len(sessions))
            except Damaged as exc:
                breaks.append(Break(exc.path, str(exc)))
                continue
            breaks += _check_predecessor(session, ends)
            ends[name] = session.last
        breaks += _check_last(layout, recorder, ends)
    return breaks, notes


def _read_session(name: str, pieces: list[Piece], breaks: list[Break], notes: list[str], *, last: bool) -> _Session:
    """Walk through a session's pieces."""
    following = 0
    for number, piece in enumerate(pieces):
        if piece.first != following:
            what = "are missing" if piece.first > following else "are there twice"
            first, end = sorted((following, piece.first))
            breaks.append(Break(piece.path, f"frames {first} to {end - 1} of session {name} {what} before it"))
        if piece.commit is not None:
            following = piece.commit.last + 1
            continue
        reader = SegmentReader(piece.path)
        for _ in reader.batches():
            pass
        following = reader.next_seq
        if not reader.finished:
            if number + 1 < len(pieces):
                breaks.append(Break(piece.path, str(reader.damage())))
            else:
                state = (
                    "is being written, or its capture was killed"
                    if last
                    else "was killed; `recorder flush` archives it"
                )
                notes.append(f"session {name} {state}: {piece.path.name} has no end record yet")
    return _Session(name, pieces, _predecessor(pieces[0]), following - 1)


def _predecessor(piece: Piece) -> tuple[str, int] | None:
    """Read the predecessor that a session's first mark names."""
    if piece.first != 0:
        return None
    for batch in frame_batches(piece):
        first = decode_mark(batch.payloads()[0])
        said = first.get("predecessor")
        return None if said is None else (said["session"], said["last_seq"])
    return None


def _check_predecessor(session: _Session, ends: dict[str, int]) -> list[Break]:
    """Hold what a session says of its predecessor against what is there of it."""
    if session.predecessor is None:
        return []
    name, last = session.predecessor
    path = session.pieces[0].path
    found = ends.get(name)
    if found is None:
        return [Break(path, f"session {name}, which came before it, is missing: frames 0 to {last}")]
    if found != last:
        return [
            Break(path, f"session {name}, which came before it, ended with frame {last}; here it ends with {found}")
        ]
    return []


def _check_last(layout: Layout, recorder: str, ends: dict[str, int]) -> list[Break]:
    """Hold the last session against what the archiver noted when it last committed."""
    path = layout.journal(recorder) / ARCHIVER
    try:
        noted = msgspec.json.decode(path.read_bytes(), type=Holder)
    except (FileNotFoundError, msgspec.MsgspecError):
        return []
    if noted.session is None or noted.last is None:
        return []
    found = ends.get(noted.session, -1)
    if found < noted.last:
        what = f"session {noted.session} was archived up to frame {noted.last}; here it ends with {found}"
        return [Break(path, what)]
    return []
