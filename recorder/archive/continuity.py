"""Continuity: whether a recorder's sessions follow one another without a hole, in parts and journal together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from recorder.archive.layout import Layout
from recorder.archive.pieces import Piece, frame_batches, has_end, hole, list_pieces
from recorder.errors import Damaged
from recorder.lock import ARCHIVER, Holder
from recorder.protocol.marks import decode_mark
from recorder.protocol.segment import kind_and_op

_TRIES: Final = 100


class Break(NamedTuple):
    """A place where frames that were once on disk are missing or doubled, or (`journal`) a segment that is damaged."""

    kind: str
    path: Path
    what: str


class _Session(NamedTuple):
    """A session on disk: its first piece, its predecessor as its first mark names it, and its last frame."""

    name: str
    first: Piece
    predecessor: tuple[str, int] | None
    last: int


def check_continuity(layout: Layout) -> tuple[list[Break], list[str]]:
    """Check every recorder; give what is wrong, and notes on what is normal after a crash.

    Frames parts that cannot be read count as missing; to say why is not its business.
    """
    for _ in range(_TRIES):
        try:
            return _check(layout)
        except FileNotFoundError:  # it became something else meanwhile
            continue
    return [Break("continuity", layout.root, "it changes faster than it can be read")], []


def _check(layout: Layout) -> tuple[list[Break], list[str]]:
    breaks: list[Break] = []
    notes: list[str] = []
    noted = {recorder: _noted(layout.journal(recorder) / ARCHIVER) for recorder in layout.recorders()}
    pieces = list_pieces(layout, damaged=[])
    for recorder in sorted({*pieces, *noted}):
        sessions: dict[str, list[Piece]] = {}
        for piece in pieces.get(recorder, []):
            sessions.setdefault(piece.session, []).append(piece)
        ends: dict[str, int] = {}
        for name, own in sessions.items():
            session = _read_session(name, own, breaks, notes, last=name == max(sessions))
            breaks += _check_predecessor(session, ends)
            ends[name] = session.last
        if (holder := noted.get(recorder)) is not None:
            breaks += _check_last(layout.journal(recorder) / ARCHIVER, holder, ends)
    return breaks, notes


def _read_session(name: str, pieces: list[Piece], breaks: list[Break], notes: list[str], *, last: bool) -> _Session:
    """Walk through a session's pieces."""
    following = 0
    for piece in pieces:
        if (what := hole(following, piece)) is not None:
            breaks.append(Break("continuity", piece.path, what))
        following = piece.first
        if piece.commit is not None:
            following = piece.commit.last + 1
            continue
        try:
            whole = has_end(piece.path)
            for batch in frame_batches(piece._replace(following=None) if whole else piece):
                following = batch.last_seq + 1
        except Damaged as exc:
            breaks.append(Break("journal", exc.path, str(exc)))
            following = following if piece.following is None else piece.following
            continue
        if not whole:
            state = "is being written, or its capture was killed" if last else "was killed"
            notes.append(f"session {name} {state}: {piece.path.name} has no end record; `recorder flush` archives it")
    return _Session(name, pieces[0], _predecessor(pieces[0]), following - 1)


def _predecessor(piece: Piece) -> tuple[str, int] | None:
    """Read the predecessor that a session's first mark names."""
    try:
        batch = next(frame_batches(piece), None) if piece.first == 0 else None
    except Damaged:
        return None  # told elsewhere
    if batch is None or kind_and_op(int(batch.code[0]))[0] != "mark":
        return None
    said: Any = decode_mark(batch.payloads()[0]).get("predecessor")
    return None if said is None else (said["session"], said["last_seq"])


def _check_predecessor(session: _Session, ends: dict[str, int]) -> list[Break]:
    """Hold what a session says of its predecessor against what is there of it."""
    if session.predecessor is None:
        return []
    name, last = session.predecessor
    found = ends.get(name)
    if found is None:
        what = f"session {name}, which came before it, is missing: frames 0 to {last}"
    elif found != last:
        what = f"session {name}, which came before it, ended with frame {last}; here it ends with {found}"
    else:
        return []
    return [Break("continuity", session.first.path, what)]


def _noted(path: Path) -> Holder | None:
    """Read what the archiver noted when it last committed."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Holder)
    except (FileNotFoundError, UnicodeDecodeError, msgspec.MsgspecError):
        return None  # none yet, or torn by a power loss


def _check_last(path: Path, noted: Holder, ends: dict[str, int]) -> list[Break]:
    """Hold the last session against what the archiver noted before the pieces were listed."""
    if noted.session is None or noted.last is None:
        return []
    found = ends.get(noted.session, -1)
    if found >= noted.last:
        return []
    here = f"it ends with {found}" if found >= 0 else "nothing is left of it"
    what = f"session {noted.session} was archived up to frame {noted.last}; here {here}"
    return [Break("continuity", path, what)]
