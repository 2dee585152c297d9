"""Repair of the journal: of a damaged segment everything whole is kept archivable, and what is lost is a known hole.

1. The damaged segment is linked into `quarantine/`; nothing is deleted.
2. What is lost is noted, before anything changes.
3. What is whole behind the damage becomes segments of its own, the last one first.
4. What is whole before it takes the place of the segment, with an end record. Its bytes are those that were there, so
   that an archiver amid the segment reads on as if nothing had happened.

Killed anywhere, the next repair does the same again. A capture may run meanwhile: the segment that it writes is left
alone, and an archiver does not pass a damaged segment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from recorder.archive.continuity import Missing, check_continuity
from recorder.archive.holes import REPAIR, Hole, add_holes, kept_name
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import FRAMES, Layout, parse_part_name
from recorder.archive.names import publish
from recorder.archive.pieces import Piece, list_pieces
from recorder.archive.repair import free_name
from recorder.archive.verify import Problem
from recorder.disk import make_folder, sync_folder
from recorder.errors import Damaged, LockHeld
from recorder.faults import point
from recorder.lock import CAPTURE, RecorderLock
from recorder.protocol.salvage import Run, salvage
from recorder.protocol.segment import Header, Scan, encode_end, encode_header, segment_name


class Repaired(NamedTuple):
    """Segments that were set aside, by where they are now, and holes that were noted."""

    moved: list[Path]
    holes: list[Hole]


def repair_journal(layout: Layout) -> Repaired:
    """Repair the journals of all recorders; the caller keeps other maintenance away."""
    repaired = Repaired([], [])
    for recorder in layout.recorders():
        lock = RecorderLock(layout.journal(recorder), CAPTURE, root=layout.root)
        try:
            alone = _take(lock)
            while not _repair_recorder(layout, recorder, repaired, alone=alone):
                pass
        finally:
            lock.release()
    return repaired


def _repair_recorder(layout: Layout, recorder: str, repaired: Repaired, *, alone: bool) -> bool:
    """Repair a recorder's journal; False if a file vanished that was listed, so that it has to be listed again.

    An archiver that runs makes parts of segments meanwhile. What vanishes and becomes no part is missing in the next
    list, and `note_missing` finds it.
    """
    pieces = list_pieces(layout, damaged=[]).get(recorder, [])
    try:
        for piece in pieces if alone else pieces[:-1]:
            if _is_damaged(piece):
                work = _Work(layout, piece, pieces)
                repaired.holes.extend(work.repair())
                repaired.moved.append(work.kept)
    except FileNotFoundError:
        if all(piece.path.exists() for piece in pieces):
            raise
        return False
    return True


def note_missing(layout: Layout, moved: Iterable[Path], *, told: Iterable[Problem]) -> tuple[list[Hole], list[Problem]]:
    """Note what else is missing, such as frames whose part was `moved` to quarantine; give the new holes.

    What nobody has `told` yet, and no file that was moved explains, is a problem: a file vanished meanwhile.
    """
    holes, problems, known = [], [], {(one.path, one.what) for one in told}
    for found in check_continuity(layout).breaks:
        if (one := found.missing) is None:
            continue
        kept = next((path for path in moved if _holds(path, one)), None)
        why = "their part was damaged" if kept is not None else "they are missing on disk"
        name = kept_name(layout, kept) if kept is not None else None
        holes.append(Hole(**one._asdict(), why=why, kept=name, acknowledged=time.time_ns() // 1000))
        if kept is None and (found.path, found.what) not in known:
            problems.append(Problem(found.kind, found.path, found.what))
    return add_holes(layout, holes), problems


def _holds(path: Path, missing: Missing) -> bool:
    name = parse_part_name(path.name) if FRAMES in path.parts else None
    return name is not None and name.session == missing.session and missing.first <= name.first <= missing.last


def _take(lock: RecorderLock) -> bool:
    """Keep captures and flushes from starting; False if one runs, and may write the last segment."""
    try:
        lock.acquire()
    except LockHeld:
        return False
    return True


def _is_damaged(piece: Piece) -> bool:
    """Say whether a piece is a damaged segment of our format."""
    if piece.commit is not None:
        return False
    reader = SegmentReader(piece.path)
    try:
        for _ in reader.batches():
            pass
    except Damaged:
        return True
    return not reader.foreign and not reader.finished and (piece.following is not None or reader.followed())


class _Work:
    """The repair of one segment. `kept` is where the segment as it was can be found."""

    def __init__(self, layout: Layout, piece: Piece, pieces: list[Piece]) -> None:
        self._layout = layout
        self._piece = piece
        self._content = piece.path.read_bytes()
        found = salvage(self._content)
        self._header = found.header
        end = -1 if found.last_seq is None else found.last_seq
        self._following = end + 1 if piece.following is None else piece.following
        self._runs = [run for run in found.runs if piece.first <= run.first]
        if piece.following is not None:  # an earlier repair that was killed has made segments of these
            self._runs = [run for run in self._runs if run.first < piece.following]
        place = pieces.index(piece)
        self._before = _stamp(pieces[place - 1], -1) if place else None
        self._behind = _stamp(pieces[place + 1], 0) if place + 1 < len(pieces) else None
        self.kept = _kept(layout, piece.path)

    def repair(self) -> list[Hole]:
        """Do it; give the holes that are new."""
        make_folder(self.kept.parent, below=self._layout.root)
        if not self.kept.exists():
            os.link(self._piece.path, self.kept)
        sync_folder(self.kept.parent)
        point("repair.kept")
        holes = add_holes(self._layout, self._holes())
        point("repair.noted")
        tmp = self._layout.root / ".tmp" / REPAIR
        make_folder(tmp, below=self._layout.root)
        for run in reversed(self._runs):
            self._write(run, tmp / self._piece.path.name)
            point("repair.published")
        if not any(run.first == self._piece.first for run in self._runs):
            self._piece.path.unlink(missing_ok=True)
        sync_folder(self._piece.path.parent)
        point("repair.done")
        return holes

    def _write(self, run: Run, tmp: Path) -> None:
        """Make a segment of a run."""
        begin = self._content[: run.begin]
        if run.first != self._piece.first or not self._is_beginning(begin):
            date = self._layout.boundary.day_of(run.ts_first).date.isoformat()
            given = Header(recorder=self._piece.recorder, session=self._piece.session, first_seq=run.first, date=date)
            begin = encode_header(given)
        tmp.write_bytes(b"".join([begin, *run.records, encode_end(run.last)]))
        path = self._piece.path.with_name(segment_name(self._piece.session, run.first))
        publish(self._layout, tmp, path)
        sync_folder(path.parent)

    def _is_beginning(self, begin: bytes) -> bool:
        """Say whether bytes are magic and header as they were written."""
        scan = Scan(begin)
        return not list(scan) and scan.bad is None and scan.header is not None

    def _holes(self) -> list[Hole]:
        """List what is lost: before, between and behind the runs."""
        following, offset, stamp = self._piece.first, 0, self._before
        holes = []
        for run in self._runs:
            if run.first > following:
                holes.append(self._hole(following, run.first - 1, stamp, run.ts_first, (offset, run.begin)))
            following, offset, stamp = run.last + 1, run.end, run.ts_last
        end = self._following - self._piece.lost_behind
        if end > following:
            holes.append(self._hole(following, end - 1, stamp, self._behind, (offset, len(self._content))))
        return holes

    def _hole(self, first: int, last: int, start: int | None, end: int | None, lost: tuple[int, int]) -> Hole:
        where = f"bytes {lost[0]} to {lost[1]}" if lost[1] > lost[0] else f"the file at byte {lost[0]}"
        return Hole(
            recorder=self._piece.recorder,
            session=self._piece.session,
            first=first,
            last=last,
            start=start,
            end=end,
            why=f"{where} of segment {self._piece.path.name} hold no whole record",
            kept=kept_name(self._layout, self.kept),
            acknowledged=time.time_ns() // 1000,
        )


def _kept(layout: Layout, path: Path) -> Path:
    """Give where a segment is set aside: where an earlier repair that was killed has linked it, or a free name."""
    target = layout.quarantine / path.relative_to(layout.root)
    found = (one for one in target.parent.glob(f"{target.name}*") if one.samefile(path))
    return next(found, free_name(target))


def _stamp(piece: Piece, place: int) -> int | None:
    """Give a piece's first (0) or last (-1) ts_recv, or near it."""
    if piece.commit is not None:
        return (piece.commit.ts_min, piece.commit.ts_max)[place]
    runs = salvage(piece.path.read_bytes()).runs
    return (runs[0].ts_first, runs[-1].ts_last)[place] if runs else None
