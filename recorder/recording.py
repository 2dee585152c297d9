"""A recording: a capture and its archive put together."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from recorder.archive.archiver import Archiver, News
from recorder.archive.catalog import is_taken, last_frame
from recorder.archive.commit import Commit
from recorder.archive.compaction import Compacted, compact, finished_dates
from recorder.archive.ending import find_ending
from recorder.archive.holes import REPAIR
from recorder.archive.journal_repair import Repaired, note_missing, repair_journal
from recorder.archive.layout import Layout, make_layout
from recorder.archive.names import names_lock
from recorder.archive.rebuild import Rebuilt, rebuild
from recorder.archive.repair import set_aside
from recorder.archive.verify import Report, verify
from recorder.capture.capture import Capture, Outcome, stop_on_signals
from recorder.capture.lookups import looked_up
from recorder.capture.place import Place, new_session
from recorder.capture.plan import plan_streams
from recorder.capture.settings import CaptureSettings
from recorder.capture.status import Status
from recorder.disk import disk_errors, sync_folder, sync_path
from recorder.errors import ArchiveError, DiskError, LockHeld, RecorderError
from recorder.faults import point
from recorder.lock import ARCHIVER, CAPTURE, MAINTENANCE, MOMENT, Failure, Holder, RecorderLock
from recorder.protocol.days import DayBoundary
from recorder.protocol.topics import Topic, Topics, load_topics

_log = logging.getLogger(__name__)
_ARCHIVER_WAIT: Final = 30.0  # the archiver of a capture that was killed ends by itself


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
    settings = await looked_up(settings, topics)
    streams = plan_streams(settings, topics)
    layout = make_layout(settings.data, DayBoundary(settings.day_boundary))
    point("record.archive_made")
    name = settings.recorder_name
    lock = RecorderLock(layout.journal(name), CAPTURE, root=layout.root)
    try:
        lock.acquire(wait=MOMENT)
        _sync_left(layout, name)
        point("record.synced")
        noted = lock.previous.session if lock.previous is not None else None
        last = last_frame(layout, name, noted=noted)
        known = [session for session in (noted, last and last[0]) if session]
        failure = lock.previous.failure if lock.previous is not None else None
        with names_lock(layout):  # so that no two recorders give their sessions one name
            session = new_session(datetime.now(UTC), after=max(known, default=None))
            while is_taken(layout, session):
                session = new_session(datetime.now(UTC), after=max(known, default=None))
            point("record.lock")
            lock.write(Holder(os.getpid(), session, failure=failure))
        point("record.locked")
        ending = None if last is None else find_ending(layout, name, last[0], failure=failure)
        place = Place(layout.root, layout.boundary, layout.journal(name), session, last, ending)
        capture = Capture(settings, place, streams)
        ready(capture)
        with _failure_noted(lock, session):
            return await capture.run(stop_at=stop_at, watch=watch)
    finally:
        lock.release()


@contextmanager
def _failure_noted(lock: RecorderLock, session: str) -> Iterator[None]:
    """Note in the lock file what the capture died of: the journal that could have told of it is what failed."""
    try:
        yield
    except DiskError as exc:
        with suppress(DiskError):  # then the next session says that this one broke off
            lock.write(Holder(os.getpid(), session, failure=Failure(session, str(exc), exc.full)))
        raise


def reload_on_hangup(capture: Capture, read: Callable[[], CaptureSettings]) -> None:
    """Record other contracts from SIGHUP on, without a new connection: those that `read` gives then.

    What is wrong with them is logged, and the capture goes on as it was.
    """

    def handle() -> None:
        try:
            streams = plan_streams(read(), load_topics())
        except RecorderError as exc:
            _log.warning("the contracts stay as they are: %s", exc)
            return
        capture.change_streams(streams)
        _log.info("records %s streams from now on", len(streams))

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, handle)


def _sync_left(layout: Layout, recorder: str) -> None:
    """Sync what a killed capture left, before the next one's first mark says that it is there."""
    with disk_errors(layout.root):
        for path in layout.segments(recorder):
            with suppress(FileNotFoundError):  # an archiver that has not ended yet may remove it
                sync_path(path)
        sync_folder(layout.journal(recorder))


def flush(layout: Layout, *, tell: Callable[[News], None], recorder: str | None = None) -> list[Commit]:
    """Archive what captures that are gone left in the journal, of all recorders or of one.

    What stands in the way of one recorder is raised when the others are done: `LockHeld` (its capture runs, and
    flushes by itself), `Damaged`, `DiskError`; an `ArchiveError` names several.
    """
    os.umask(0o077)
    topics = load_topics()
    commits: list[Commit] = []
    failures: list[RecorderError] = []
    for name in layout.recorders() if recorder is None else [recorder]:
        try:
            with disk_errors(layout.root):
                commits += _flush(layout, topics, name, tell)
        except LockHeld as exc:
            failures.append(LockHeld(str(exc), hint="let it be: a capture that runs flushes by itself"))
        except RecorderError as exc:
            failures.append(exc)
    if len(failures) > 1:
        raise ArchiveError("; ".join(map(str, failures)), hint=failures[0].hint)
    if failures:
        raise failures[0]
    return commits


def _flush(layout: Layout, topics: Topics, recorder: str, tell: Callable[[News], None]) -> list[Commit]:
    capture, archiver = (RecorderLock(layout.journal(recorder), lock, root=layout.root) for lock in (CAPTURE, ARCHIVER))
    try:
        capture.acquire(wait=MOMENT)
        archiver.acquire(wait=_ARCHIVER_WAIT)
        archiver.take_over()

        def note(news: News) -> None:
            if isinstance(news, Commit):
                point("archiver.note")
                archiver.note(news.session, news.last)
                point("archiver.noted")
            tell(news)

        return Archiver(layout, topics, recorder, tell=note).archive_dead(live=None)
    finally:
        capture.release()
        archiver.release()


def compact_finished(layout: Layout, *, before: str | None, done: Callable[[int], None]) -> list[Compacted]:
    """Compact the finished dates before a date (None: the current one); `LockHeld` if another maintenance runs."""
    today = layout.boundary.day_of(time.time_ns() // 1000).date.isoformat()
    limit = today if before is None else before
    with _maintenance(layout):
        return compact(layout, finished_dates(layout, before=limit), done=done)


def verify_archive(
    layout: Layout, topics: Topics, *, rederive: bool, repair: bool, done: Callable[[int], None]
) -> tuple[Report, Repaired]:
    """Verify an archive, and with `repair` set aside what is damaged or foreign; give where that is now.

    A repair also notes what is lost for good (`holes.jsonl`), so that archiving and reading go on behind it. Only a
    repair changes something, and no other maintenance may run: `LockHeld`. A capture may.
    """
    if not repair:
        return verify(layout, topics, rederive=rederive, done=done), Repaired([], [])
    with _maintenance(layout):
        report = verify(layout, topics, rederive=rederive, done=done)
        moved = set_aside(layout, report.problems)
        repaired = repair_journal(layout)
        missing, vanished = note_missing(layout, moved, told=report.problems)
        if (tmp := layout.root / ".tmp" / REPAIR).exists():
            shutil.rmtree(tmp)
        report = report._replace(problems=[*report.problems, *vanished])
        return report, Repaired([*moved, *repaired.moved], [*repaired.holes, *missing])


def rebuild_topic(layout: Layout, topics: Topics, topic: Topic, *, done: Callable[[int], None]) -> list[Rebuilt]:
    """Derive a topic's tables again; `LockHeld` if another maintenance runs."""
    with _maintenance(layout):
        return rebuild(layout, topics, topic, done=done)


@contextmanager
def _maintenance(layout: Layout) -> Iterator[None]:
    """Keep compactions, rebuilds and repairs apart: each replaces what it has read before."""
    os.umask(0o077)
    lock = RecorderLock(layout.root / "journal", MAINTENANCE, root=layout.root)
    try:
        lock.acquire(wait=MOMENT)  # an archiver that starts holds it for an instant
        lock.write(Holder(os.getpid()))
        with disk_errors(layout.root):
            yield
    finally:
        lock.release()
