"""The catalog: which frames are archived, by what the parts' names and footers say."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from recorder.archive.commit import Commit, read_commit
from recorder.archive.layout import Layout, PartName, parse_part_name
from recorder.archive.parts import read_fingerprint
from recorder.errors import Damaged
from recorder.lock import CAPTURE, read_holder
from recorder.protocol.salvage import salvage
from recorder.protocol.segment import parse_segment_name
from recorder.protocol.topics import Topic


class FramesPart(NamedTuple):
    """A frames part, and thereby a committed segment."""

    path: Path
    date: str
    name: PartName

    def commit(self) -> Commit:
        """Read the footer, once a process for as long as it is the same file. `Damaged` if it cannot be read."""
        found = self.path.stat()
        return _commit(self.path, found.st_ino, found.st_mtime_ns)


@lru_cache(maxsize=4096)
def _commit(path: Path, _inode: int, _changed: int) -> Commit:
    return read_commit(path)


def frames_parts(layout: Layout, *, session: str | None = None, ignoring: Collection[Path] = ()) -> list[FramesPart]:
    """List the frames parts in the order of sessions and frames, but for superseded ones."""
    found = []
    for date in layout.dates("frames"):
        for path in layout.frames(date).glob(f"{session or ''}*.parquet"):
            name = parse_part_name(path.name)
            if name is not None and session in (None, name.session) and path not in ignoring:
                found.append(FramesPart(path, date, name))
    gone = superseded(part.name for part in found)
    return sorted((part for part in found if part.name not in gone), key=lambda part: part.name)


def superseded(names: Iterable[PartName]) -> set[PartName]:
    """Give those of a folder's parts whose frames another part of it has, and more.

    That other part was merged of them by a compaction that was killed before it had removed them all; it can only come
    to that where the file system cannot exchange folders.
    """
    gone: set[PartName] = set()
    widest: PartName | None = None
    for name in sorted(names, key=lambda name: (name.session, name.first, -name.last)):
        if widest is not None and widest.session == name.session and name.last <= widest.last and name != widest:
            gone.add(name)
        else:
            widest = name
    return gone


def last_part(layout: Layout, session: str) -> FramesPart | None:
    """Find the part with a session's last archived frames."""
    parts = frames_parts(layout, session=session)
    return parts[-1] if parts else None


def last_frame(layout: Layout, recorder: str, *, noted: str | None = None) -> tuple[str, int] | None:
    """Find a recorder's last session and the last frame of it that is on disk; None if it never recorded.

    Damage stops nobody from recording: it is for the archiver and `verify` to report. A segment counts as far as its
    whole records go, or its end record says; a part that cannot be read counts if it is of the session that the
    recorder's lock `noted`. The journal is looked at first: while this looks, a segment may become a part, never the
    other way round.
    """
    while True:
        try:
            return _last_frame(layout, recorder, noted)
        except FileNotFoundError:
            continue  # what vanished has become something else


def _last_frame(layout: Layout, recorder: str, noted: str | None) -> tuple[str, int] | None:
    last: tuple[str, int] | None = None
    for path in reversed(layout.segments(recorder)):
        named = parse_segment_name(path.name)
        assert named is not None, "segments are listed by their names"
        found = salvage(path.read_bytes())
        seq = max([named[1] - 1, *(run.last for run in found.runs), -1 if found.last_seq is None else found.last_seq])
        if seq >= 0:  # else its capture was killed before the first frame: there is no such session
            last = (named[0], seq)
            break
    for part in reversed(frames_parts(layout)):
        if last is not None and part.name.session < last[0]:
            break
        if _is_of(part, recorder, noted):
            return max(last or ("", -1), (part.name.session, part.name.last))
    return last


def _is_of(part: FramesPart, recorder: str, noted: str | None) -> bool:
    try:
        return part.commit().recorder == recorder
    except Damaged:
        return part.name.session == noted


def is_taken(layout: Layout, session: str) -> bool:
    """Say whether some recorder has given a session this name; names of parts have no room for the recorder's."""
    for recorder in layout.recorders():
        noted = read_holder(layout.journal(recorder) / CAPTURE)
        if noted is not None and noted.session == session:
            return True
        if any(segment_session(path) == session for path in layout.segments(recorder)):
            return True
    return bool(frames_parts(layout, session=session))


def typed_parts(layout: Layout, topic: str, date: str, conid: int) -> Iterator[tuple[Path, PartName]]:
    """List a partition's parts in the order of sessions and frames, whether or not a frames part covers them."""
    folder = layout.partition(topic, date, conid)
    with suppress(FileNotFoundError):
        named = {entry: parse_part_name(entry) for entry in os.listdir(folder)}  # noqa: PTH208  paths cost ten times more
        for name, entry in sorted((name, entry) for entry, name in named.items() if name is not None):
            yield folder / entry, name


def foreign_schema(layout: Layout, topic: Topic) -> Path | None:
    """Find a part of the topic whose schema is not ours; all its parts have one schema, so one look is enough.

    A part that cannot be read is passed over here: it is for `verify` to report, and must not stop the archiver.
    """
    for date in reversed(layout.dates(topic.name)):
        for conid in layout.conids(topic.name, date):
            for path, _ in typed_parts(layout, topic.name, date, conid):
                try:
                    return None if read_fingerprint(path) == topic.fingerprint else path
                except Damaged:
                    continue
    return None


def segment_session(path: Path) -> str:
    """Give the session of a segment that was listed by its name."""
    named = parse_segment_name(path.name)
    assert named is not None, "segments are listed by their names"
    return named[0]
