"""The archiver: makes Parquet of a recorder's segments, in order, whether they are live or left by a dead session.

1. Segments of a session are taken strictly in order; a session's own order is the only one that matters.
2. A segment whose frames part exists is committed: it is removed, nothing else.
3. A torn end is normal in the last segment of a dead session and nowhere else. What follows the last whole record is
   kept in `quarantine/`. Bytes with whole records behind them are damage: that session waits for a repair, others do
   not.
4. A build that fails leaves the segment, and the state before it. Trying again is always safe.
5. A segment that was put back fills its hole: it starts from the state before the hole, and must end before what is
   archived behind it. No frame is ever archived twice.
6. A commit of an earlier session that cannot be read holds nobody up; it is told once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from recorder.archive.build import Build, SessionState
from recorder.archive.catalog import FramesPart, foreign_schema, frames_parts, segment_session
from recorder.archive.commit import Commit
from recorder.archive.holes import known_to, read_holes
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import Layout
from recorder.archive.leftovers import clear_leftovers
from recorder.archive.starting_state import MOVE, Unread, state_after, state_before
from recorder.disk import make_folder, sync_folder, sync_path
from recorder.errors import Damaged
from recorder.faults import point
from recorder.protocol.topics import Topic, Topics


class Torn(NamedTuple):
    """A dead session's last segment that broke off: what was cut, and where it is kept (None: nothing followed)."""

    segment: Path
    what: str
    kept: Path | None


News = Commit | Torn | Unread


class Archiver:
    """Archives one recorder's segments. The caller holds the recorder's archiver lock.

    `tell` hears of each commit and torn end, and once of a part of an earlier session that cannot be read. `underived`
    names, by topic, a part whose schema is another than ours: of such topics only the frames are archived until
    `recorder rebuild`.
    """

    def __init__(self, layout: Layout, topics: Topics, recorder: str, *, tell: Callable[[News], None]) -> None:
        self.underived: dict[str, Path] = {}
        self._layout = layout
        self._topics = topics
        self._recorder = recorder
        self._tell = tell
        self._states: dict[str, SessionState] = {}
        self._derived = self._find_derived()
        self._build: Build | None = None
        self._unread: set[Path] = set()
        self._clear_tmp()

    def _find_derived(self) -> list[Topic]:
        """Choose the topics whose rows can be stored: those without parts of another schema."""
        derived = []
        for topic in self._topics:
            foreign = foreign_schema(self._layout, topic)
            if foreign is None:
                derived.append(topic)
            else:
                self.underived[topic.name] = foreign
        return derived

    def _clear_tmp(self) -> None:
        for path in self._layout.tmp(self._recorder).glob("*"):
            path.unlink()
            point("archiver.tmp_cleared")
        clear_leftovers(self._layout)

    def archive_dead(self, *, live: str | None) -> list[Commit]:
        """Archive all segments of sessions other than the live one.

        A segment that cannot be archived holds up its own session: the others are done before `Damaged` is raised. It
        names the first such segment.
        """
        paths = [path for path in self._layout.segments(self._recorder) if segment_session(path) != live]
        commits: list[Commit] = []
        damaged: list[Damaged] = []
        for _, own in groupby(paths, key=segment_session):
            try:
                commits += self._archive_session(list(own))
            except Damaged as exc:
                damaged.append(exc)
        if damaged:
            raise damaged[0]
        return commits

    def _archive_session(self, paths: list[Path]) -> list[Commit]:
        found = (self._archive(path, last=path == paths[-1]) for path in paths)
        return [commit for commit in found if commit is not None]

    def follow(self, live: str, *, everything: bool) -> bool:
        """Take what the live session's first segment has; commit it if it is finished. True if it was committed.

        `everything` decodes the last few frames too, so that `rows_in_build` is up to date.
        """
        paths = [path for path in self._layout.segments(self._recorder) if segment_session(path) == live]
        if not paths:
            return False
        if self._build is None or self._build.reader.path != paths[0]:
            if self._build is not None:  # a repair has removed its segment, or one before it was put back
                self._build.abandon()
                self._build = None
            if (part := self._committed(paths[0])) is not None:
                self._remove(paths[0], part)
                return True
            self._build = self._begin(paths[0])
        with self._attempt(self._build) as build:
            build.take(everything=everything)
            if not build.reader.finished and (len(paths) > 1 or build.behind is not None):
                build.take(everything=True)  # it may have been finished since
                if not build.reader.finished:
                    raise build.reader.damage()
            if build.reader.finished:
                self._finish(build)
                return True
        return False

    def check_end(self) -> None:
        """Raise `Damaged` if the session that has stopped has a segment that is damaged, and no torn end."""
        if self._build is not None and self._build.reader.followed():
            raise self._build.reader.damage()

    @property
    def building(self) -> Build | None:
        """The build that `follow` is at."""
        return self._build

    def state(self, session: str) -> SessionState:
        """Give a session's state after its last archived segment."""
        known = self._states.get(session)
        if known is None:
            known = self._states[session] = state_after(self._layout, self._recorder, session, tell=self._tell_unread)
        return known

    def _tell_unread(self, unread: Unread) -> None:
        if unread.part not in self._unread:
            self._unread.add(unread.part)
            self._tell(unread)

    def _archive(self, path: Path, *, last: bool) -> Commit | None:
        if (part := self._committed(path)) is not None:
            return self._remove(path, part)
        with self._attempt(self._begin(path)) as build:
            build.take(everything=True)
            if build.reader.finished:
                return self._finish(build)
            if not last or build.behind is not None or build.reader.foreign or build.reader.followed():
                raise build.reader.damage()
            return self._finish(build, torn=self._keep_torn(build.reader))

    def _begin(self, path: Path) -> Build:
        reader, behind = SegmentReader(path), None
        session, state = reader.session, self.state(reader.session)
        if reader.first_seq < state.next_seq:
            state, behind = state_before(self._layout, self._recorder, path, reader.first_seq, tell=self._tell_unread)
        if reader.first_seq > state.next_seq and reader.first_seq > known_to(
            read_holes(self._layout), session, state.next_seq
        ):
            raise Damaged(
                f"frames {state.next_seq} to {reader.first_seq - 1} of session {session} are missing before it:"
                " the segment does not follow what is archived",
                path=path,
                offset=0,
                hint="restore the missing segment beside it, or let `recorder verify --repair` note the hole",
            )
        return Build(self._layout, reader, topics=self._topics, derived=self._derived, state=state, behind=behind)

    def _finish(self, build: Build, *, torn: str | None = None) -> Commit | None:
        session, following = build.reader.session, build.state.next_seq
        if build.behind is not None and following > build.behind:
            raise Damaged(
                f"frames {build.behind} to {following - 1} of session {session}, with which it ends, are archived"
                " already; the segment was put back, or is a copy,",
                path=build.reader.path,
                offset=build.reader.offset,
                hint=MOVE,
            )
        self._states.pop(session, None)  # if the commit breaks off, the disk says how far it came
        commit = build.commit(torn=torn)
        if build.behind is None:  # else the session's last commit says what its next segment starts from
            self._states[session] = build.state
        self._build = None
        if commit is not None:
            self._tell(commit)
        return commit

    @contextmanager
    def _attempt(self, build: Build) -> Iterator[Build]:
        """Give the build up if anything goes wrong: the next try begins anew, from the state before it."""
        try:
            yield build
        except BaseException:
            self._build = None  # first: if to abandon it fails too, nobody goes on with half a build
            build.abandon()
            raise

    def _keep_torn(self, reader: SegmentReader) -> str | None:
        """Set aside what follows the last whole record of a segment that broke off."""
        with reader.path.open("rb") as file:
            file.seek(reader.offset)
            rest = file.read()
        what = f"{reader.bad.what} at byte {reader.bad.offset}" if reader.bad is not None else "no end record"
        kept = None
        if rest:
            kept = self._layout.quarantine / f"{reader.path.name}.{reader.offset}"
            make_folder(kept.parent, below=self._layout.root)
            point("archiver.torn")
            kept.write_bytes(rest)
            point("archiver.torn_written")
            kept.chmod(0o600)
            sync_path(kept)
            sync_folder(kept.parent)
            point("archiver.torn_kept")
        self._tell(Torn(reader.path, what, kept))
        return what

    def _committed(self, path: Path) -> FramesPart | None:
        reader = SegmentReader(path)
        parts = frames_parts(self._layout, session=reader.session)
        return next((part for part in parts if part.name.first == reader.first_seq), None)

    def _remove(self, path: Path, part: FramesPart) -> Commit:
        """Remove a segment whose commit was broken off behind the rename, so that nobody has heard of it yet.

        `Damaged`, and the segment stays, if the commit cannot be read: then the segment is all there is of the frames.
        """
        commit = part.commit()
        sync_folder(part.path.parent)
        point("archiver.remove")
        path.unlink()
        point("archiver.unlinked")
        sync_folder(path.parent)
        point("archiver.removed")
        self._tell(commit)
        return commit
