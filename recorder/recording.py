"""A recording: a capture and its archive put together."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime

from recorder.archive.archiver import Archiver, Torn
from recorder.archive.catalog import last_frame
from recorder.archive.commit import Commit
from recorder.archive.layout import Layout, make_layout
from recorder.capture.capture import Capture, Outcome, stop_on_signals
from recorder.capture.place import Place, new_session
from recorder.capture.plan import plan_streams
from recorder.capture.settings import CaptureSettings
from recorder.capture.status import Status
from recorder.lock import ARCHIVER, CAPTURE, Holder, RecorderLock
from recorder.protocol.days import DayBoundary
from recorder.protocol.topics import load_topics


async def record(
    settings: CaptureSettings,
    *,
    stop_at: datetime | None = None,
    watch: Callable[[Status], None] | None = None,
    ready: Callable[[Capture], None] = stop_on_signals,
) -> Outcome:
    """Record one session into the archive at `settings.data`, made if need be, until stopped or until `stop_at`.

    `ready` is given the capture before it connects; by default that lets SIGINT and SIGTERM stop it. `watch` is shown
    the status once a second. Raises `GatewayError` (the first connection failed), `DiskError`, `LockHeld` (another
    capture has this recorder name), `NotAnArchive`, `UsageError`.
    """
    os.umask(0o077)  # account ids are personal
    topics = load_topics()
    streams = plan_streams(settings, topics)
    layout = make_layout(settings.data, DayBoundary(settings.day_boundary))
    name = settings.recorder_name
    lock = RecorderLock(layout.journal(name), CAPTURE, root=layout.root)
    try:
        lock.acquire()
        last = last_frame(layout, name)
        noted = lock.previous.session if lock.previous is not None else None
        known = [session for session in (noted, last and last[0]) if session]
        session = new_session(datetime.now(UTC), after=max(known, default=None))
        lock.write(Holder(os.getpid(), session))
        place = Place(layout.root, layout.boundary, layout.journal(name), session, last)
        capture = Capture(settings, place, streams)
        ready(capture)
        return await capture.run(stop_at=stop_at, watch=watch)
    finally:
        lock.release()


def flush(layout: Layout, *, tell: Callable[[Commit | Torn], None]) -> list[Commit]:
    """Archive what captures that are gone left in the journal; `LockHeld` if a capture runs: it flushes by itself."""
    os.umask(0o077)
    topics = load_topics()
    commits: list[Commit] = []
    for recorder in layout.recorders():
        locks = [RecorderLock(layout.journal(recorder), name, root=layout.root) for name in (CAPTURE, ARCHIVER)]
        try:
            for lock in locks:
                lock.acquire()
            locks[1].write(Holder(os.getpid()))
            commits += Archiver(layout, topics, recorder, tell=tell).archive_dead(live=None)
        finally:
            for lock in locks:
                lock.release()
    return commits
