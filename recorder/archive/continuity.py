"""Continuity: whether a recorder's sessions follow one another without a hole, in parts and journal together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from recorder.archive.holes import Hole, known_to, read_holes
from recorder.archive.journal import has_end
from recorder.archive.layout import Layout
from recorder.archive.pieces import Piece, frame_batches, hole, list_pieces
from recorder.errors import Damaged
from recorder.lock import ARCHIVER, Holder, read_holder
from recorder.protocol.marks import decode_mark
from recorder.protocol.salvage import salvage
from recorder.protocol.segment import kind_and_op

_TRIES: Final = 100


class Missing(NamedTuple):
    """Frames `first` to `last` of a session, between the ts_recv `start` and `end` of their neighbours (None: none)."""

    recorder: str
    session: str
    first: int
    last: int
    start: int | None
    end: int | None


class Break(NamedTuple):
    """A place where frames that were once on disk are missing or doubled, or (`journal`) a segment that is damaged."""

    kind: str
    path: Path
    what: str
    missing: Missing | None = None


class Continuity(NamedTuple):
    """What is wrong; notes on what is normal after a crash; and the known holes, which a repair noted."""

    breaks: list[Break]
    notes: list[str]
    holes: list[Hole]


class _Session(NamedTuple):
    """A session on disk: its first piece, its predecessor as its first mark names it, and its last frame.

    `ts_last` is the ts_recv of that frame, or near it.
    """

    name: str
    first: Piece
    predecessor: tuple[str, int] | None
    last: int
    ts_first: int | None
    ts_last: int | None


def check_continuity(layout: Layout) -> Continuity:
    """Check every recorder. Frames parts that cannot be read count as missing; to say why is not its business."""
    for _ in range(_TRIES):
        try:
            return _check(layout)
        except FileNotFoundError:  # it became something else meanwhile
            continue
    return Continuity([Break("continuity", layout.root, "it changes faster than it can be read")], [], [])


def _check(layout: Layout) -> Continuity:
    breaks: list[Break] = []
    notes: list[str] = []
    noted = {recorder: read_holder(layout.journal(recorder) / ARCHIVER) for recorder in layout.recorders()}
    pieces = list_pieces(layout, damaged=[])
    holes = read_holes(layout)
    for recorder in sorted({*pieces, *noted}):
        own = [one for one in holes if one.recorder == recorder]
        sessions = list(_sessions(pieces.get(recorder, []), breaks, notes))
        ends: dict[str, _Session] = {}
        for session in sessions:
            breaks += _check_predecessor(recorder, session, ends, own)
            ends[session.name] = session
        if (holder := noted.get(recorder)) is not None:
            breaks += _check_last(layout.journal(recorder) / ARCHIVER, holder, ends, own)
    return Continuity(breaks, notes, [one for one in holes if not _is_filled(one, pieces.get(one.recorder, []))])


def _is_filled(known: Hole, pieces: list[Piece]) -> bool:
    """Say whether the frames of a known hole are all there again, because somebody put a file back."""
    following = known.first
    for piece in (piece for piece in pieces if piece.session == known.session):
        if piece.commit is not None:
            runs = [(piece.first, piece.commit.last)]
        else:
            runs = [(run.first, run.last) for run in salvage(piece.path.read_bytes()).runs]
        for first, last in runs:
            if first <= following <= last:
                following = last + 1
    return following > known.last


def _sessions(pieces: list[Piece], breaks: list[Break], notes: list[str]) -> Iterator[_Session]:
    sessions: dict[str, list[Piece]] = {}
    for piece in pieces:
        sessions.setdefault(piece.session, []).append(piece)
    for name, own in sessions.items():
        yield _read_session(name, own, breaks, notes, last=name == max(sessions))


def _read_session(name: str, pieces: list[Piece], breaks: list[Break], notes: list[str], *, last: bool) -> _Session:
    """Walk through a session's pieces."""
    following, stamps = 0, list[int]()
    for piece in pieces:
        walk = _Walk(piece)
        if (what := hole(following, piece)) is not None:
            before = stamps[-1] if stamps else None
            missing = Missing(piece.recorder, name, following, piece.first - 1, before, walk.ts_first)
            breaks.append(Break("continuity", piece.path, what, missing if piece.first > following else None))
        if walk.damage is not None:
            breaks.append(Break("journal", walk.damage.path, str(walk.damage)))
        elif not walk.finished:
            state = "is being written, or its capture was killed" if last else "was killed"
            notes.append(f"session {name} {state}: {piece.path.name} has no end record; `recorder flush` archives it")
        following = walk.following
        stamps += [stamp for stamp in (walk.ts_first, walk.ts_last) if stamp is not None]
    first, final = (stamps[0], stamps[-1]) if stamps else (None, None)
    return _Session(name, pieces[0], _predecessor(pieces[0]), following - 1, first, final)


class _Walk:
    """Reads a piece through: the frame that follows it, its first and last ts_recv, and whether it is whole."""

    def __init__(self, piece: Piece) -> None:
        self.following = piece.first
        self.ts_first: int | None = None
        self.ts_last: int | None = None
        self.finished = True
        self.damage: Damaged | None = None
        if piece.commit is None:
            self._read(piece)
        else:
            self.following = piece.commit.last + 1
            self.ts_first, self.ts_last = piece.commit.ts_min, piece.commit.ts_max

    def _read(self, piece: Piece) -> None:
        self.finished = has_end(piece.path)
        try:
            for batch in frame_batches(piece._replace(following=None) if self.finished else piece):
                self.following = batch.last_seq + 1
                self.ts_first = int(batch.ts_recv[0]) if self.ts_first is None else self.ts_first
                self.ts_last = int(batch.ts_recv[-1])
        except Damaged as exc:
            self.damage = exc
            if piece.following is not None:
                self.following = piece.following - piece.lost_behind


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


def _check_predecessor(
    recorder: str, session: _Session, ends: dict[str, _Session], holes: list[Hole]
) -> Iterator[Break]:
    """Hold what a session says of its predecessor against what is there of it, and what is known to be lost."""
    if session.predecessor is None:
        return
    name, last = session.predecessor
    before = ends.get(name)
    found = before.last if before is not None else -1
    if found == last or (found < last < known_to(holes, name, found + 1)):
        return
    if before is None:
        what = f"session {name}, which came before it, is missing: frames 0 to {last}"
    else:
        what = f"session {name}, which came before it, ended with frame {last}; here it ends with {found}"
    start = before.ts_last if before is not None else None
    missing = Missing(recorder, name, found + 1, last, start, session.ts_first) if found < last else None
    yield Break("continuity", session.first.path, what, missing)


def _check_last(path: Path, noted: Holder, ends: dict[str, _Session], holes: list[Hole]) -> Iterator[Break]:
    """Hold the last session against what the archiver noted before the pieces were listed."""
    if noted.session is None or noted.last is None:
        return
    session = ends.get(noted.session)
    found = session.last if session is not None else -1
    if known_to(holes, noted.session, found + 1) > noted.last:
        return
    here = f"it ends with {found}" if found >= 0 else "nothing is left of it"
    what = f"session {noted.session} was archived up to frame {noted.last}; here {here}"
    start = session.ts_last if session is not None else None
    missing = Missing(path.parent.name, noted.session, found + 1, noted.last, start, None)
    yield Break("continuity", path, what, missing)
