"""The archiver process: follows a capture's journal and archives it, apart from the process that receives.

It is started as `python -m recorder.archive.follower DATA RECORDER SESSION`, tells its parent what it did as JSON lines
on standard output, and ends when standard input does: after the line `stop` with everything archived, without it (the
capture died) at once, which is safe at any moment. It looks at the journal once a second, and at each line.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from recorder.archive.archiver import Archiver, News, Torn
from recorder.archive.gaps import read_gaps
from recorder.archive.layout import open_layout
from recorder.archive.reading import Reader, Span
from recorder.archive.space import daily_growth, free_space
from recorder.archive.starting_state import Unread
from recorder.errors import Damaged, RecorderError
from recorder.faults import point
from recorder.lock import ARCHIVER, RecorderLock
from recorder.pauses import shorten_pauses
from recorder.protocol.topics import load_topics

_LOOK_EVERY: Final = 1.0
_SPACE_EVERY: Final = 60.0
_DAY: Final = 86_400_000_000  # microseconds
_LOCK_WAIT: Final = 60.0
_RETRY: Final = (1.0, 2.0, 5.0, 15.0, 60.0)
_LAST_TRIES: Final = 3
_NICE: Final = 5  # receiving comes first: what is not archived yet is safe, what is not received is not


class Parent:
    """The capture at the other end of standard input and output."""

    def __init__(self) -> None:
        self.stopping = False
        self._buffer = b""
        self._unread: set[str] = set()

    def tell(self, event: str, **details: Any) -> None:
        """Send one line; ends the process when the parent is gone."""
        try:
            sys.stdout.buffer.write(msgspec.json.encode({"event": event, **details}) + b"\n")
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            os._exit(0)  # the capture died; its successor archives what is left

    def tell_unread(self, path: str, what: str) -> None:
        """Tell, once, of a file of an earlier session that cannot be read."""
        if path not in self._unread:
            self._unread.add(path)
            self.tell("unread", what=what)

    def wait(self, seconds: float) -> None:
        """Sleep, unless the parent says something; ends the process when the parent is gone."""
        if self.stopping:
            time.sleep(seconds)
            return
        ready, _, _ = select.select([0], [], [], seconds)
        if ready:
            data = os.read(0, 4096)
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            self.stopping = b"stop" in lines
            if not data and not self.stopping:
                os._exit(0)  # the capture died; its successor archives what is left


class Follower:
    """Follows one session of a recorder until it stops; tells gaps and disk of the archive that `reader` reads."""

    def __init__(self, archiver: Archiver, session: str, parent: Parent, *, recorder: str, reader: Reader) -> None:
        self._archiver = archiver
        self._session = session
        self._parent = parent
        self._failures = 0
        self._reported = 0.0
        self._recorder = recorder
        self._reader = reader
        self._space_at = 0.0
        self._recalled = False
        self._dead_due = 0.0
        self._dead_failures = 0

    def run(self) -> int:
        """Archive what dead sessions left, then the live one as it grows; give the exit code."""
        while True:
            try:
                if time.monotonic() >= self._dead_due:
                    self._archive_dead()
                if self._turn():
                    return 0
                self._failures = 0
            except (RecorderError, OSError) as exc:
                if self._fail(exc):
                    return 1

    def _archive_dead(self) -> None:
        """Archive what dead sessions left. One that is damaged is told again and again, and holds up no other."""
        try:
            self._archiver.archive_dead(live=self._session)
        except Damaged as exc:
            self._parent.tell("problem", what=str(exc), hint=exc.hint)
            self._dead_due = time.monotonic() + _RETRY[min(self._dead_failures, len(_RETRY) - 1)]
            self._dead_failures += 1
        else:
            self._dead_due, self._dead_failures = math.inf, 0  # no other session can die while this one lives

    def _turn(self) -> bool:
        """Do what there is to do; True when all is archived and the capture has stopped."""
        stopping = self._parent.stopping  # asked before looking, so that nothing can come in between
        due = time.monotonic() - self._reported >= _LOOK_EVERY
        if self._archiver.follow(self._session, everything=due):
            if self._dead_failures:
                self._dead_due = 0.0  # the capture takes a commit for a sign that all is well
            return False
        if due:
            self._report()
        if stopping:
            self._archiver.check_end()
            contents = self._archiver.state(self._session).contents.values()
            self._parent.tell(
                "done", digests={each.topic: {"frames": each.count, "digest": each.hexdigest()} for each in contents}
            )
            return True
        self._parent.wait(_LOOK_EVERY)
        return False

    def _report(self) -> None:
        self._reported = time.monotonic()
        build = self._archiver.building
        self._parent.tell("progress", rows=build.rows if build else {}, frames=build.frames if build else 0)
        if not self._recalled:
            self._recalled = True
            try:
                self._parent.tell("gaps", gaps=self._earlier_gaps())
            except Damaged as exc:
                self._parent.tell_unread(str(exc.path), str(exc))
        if self._reported >= self._space_at:
            self._space_at = self._reported + _SPACE_EVERY
            layout = self._reader.layout
            today = layout.boundary.day_of(time.time_ns() // 1000).date.isoformat()
            self._parent.tell("space", free=free_space(layout), per_day=daily_growth(layout, today=today))

    def _earlier_gaps(self) -> list[tuple[str, int | None, int, int, str]]:
        """List the gaps of the last day that the recorder's earlier sessions noted: the capture knows its own."""
        rows = read_gaps(self._reader, span=Span(time.time_ns() // 1000 - _DAY, None))
        return [
            (row.topic, row.conid, row.start, row.end, row.cause)
            for row in rows
            if row.recorder == self._recorder and row.session != self._session and row.end is not None
        ]

    def _fail(self, exc: Exception) -> bool:
        """Report a failure and wait before the next try; True when there is to be none."""
        hint = exc.hint if isinstance(exc, RecorderError) else None
        self._parent.tell("problem", what=str(exc), hint=hint)
        self._failures += 1
        if self._parent.stopping and self._failures >= _LAST_TRIES:
            return True
        self._parent.wait(_RETRY[min(self._failures, len(_RETRY)) - 1])
        return False


def tell_parent(parent: Parent, lock: RecorderLock, news: News) -> None:
    """Note and send what the archiver did."""
    if isinstance(news, Torn):
        parent.tell("torn", segment=str(news.segment), what=news.what, kept=str(news.kept) if news.kept else None)
        return
    if isinstance(news, Unread):
        parent.tell_unread(str(news.part), news.what)
        return
    point("archiver.note")
    lock.note(news.session, news.last)
    point("archiver.noted")
    parent.tell(
        "archived",
        session=news.session,
        first=news.first,
        last=news.last,
        rows=news.rows,
        unclaimed=news.unclaimed,
        undecoded=news.undecoded,
        parts=len(news.partitions) + 1,
    )


def main(arguments: list[str]) -> int:
    """Run the archiver process."""
    data, recorder, session = arguments
    os.nice(_NICE)
    shorten_pauses()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the capture says when to stop
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = Parent()
    try:
        layout, topics = open_layout(Path(data)), load_topics()
        lock = RecorderLock(layout.journal(recorder), ARCHIVER, root=layout.root)
        lock.acquire(wait=_LOCK_WAIT)
        lock.take_over()
        archiver = Archiver(layout, topics, recorder, tell=partial(tell_parent, parent, lock))
    except RecorderError as exc:
        parent.tell("problem", what=str(exc), hint=exc.hint)
        return 1
    for topic, path in archiver.underived.items():
        parent.tell("underived", topic=topic, path=str(path))
    return Follower(archiver, session, parent, recorder=recorder, reader=Reader(layout, topics)).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
