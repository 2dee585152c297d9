"""The capture: one session of recording, from the first REST call to the last row in Parquet.

1. What comes in is journaled first, and looked at after that.
2. It goes on until it is told to stop, whatever the gateway does once it was reached (`connection`).
3. A failing archiver is reported and started again; a failing journal ends the capture at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from apscheduler.events import EVENT_JOB_ERROR
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from recorder.capture.archiver_process import ArchiverProcess, trouble
from recorder.capture.connection import Connection
from recorder.capture.diary import Diary
from recorder.capture.journal import Journal, Limits
from recorder.capture.oversight import Oversight, oversee, overseen
from recorder.capture.place import Place
from recorder.capture.settings import CaptureSettings
from recorder.capture.shifts import Shifts
from recorder.capture.status import Counters, GapStatus, Space, Status
from recorder.capture.upkeep import Upkeep
from recorder.errors import DiskError, RecorderError
from recorder.protocol.health import TopicHealth
from recorder.protocol.ledger import Ledger, begin_session
from recorder.protocol.marks import Event, encode_mark
from recorder.protocol.masking import Masker
from recorder.protocol.stream_plan import Stream

if TYPE_CHECKING:
    from recorder.capture.trading_hours import TradingHours

_log = logging.getLogger(__name__)
_ARCHIVE_WITHIN: Final = 15.0


class Outcome(NamedTuple):
    """What a finished capture leaves: received frames, rows and content digests by topic, and how often it flushed."""

    session: str
    received: int
    rows: Mapping[str, int]
    digests: Mapping[str, Mapping[str, Any]]
    flushes: int


class Capture:
    """Records one session. `run` does it all; `stop` may be called at any time, from the event loop."""

    def __init__(self, settings: CaptureSettings, place: Place, streams: list[Stream]) -> None:
        self.counters = Counters()
        self.ledger = Ledger(() if place.ending is None else place.ending.open_gaps)
        self._settings = settings
        self._place = place
        self.streams = streams
        self._masker = Masker()
        self._stop = asyncio.Event()
        self._why = "stopped"
        self._fatal: RecorderError | None = None
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(settings, masker=self._masker, counters=self.counters, stop=self._stop)
        self._journal: Journal
        self._archiver: ArchiverProcess
        self._oversight: Oversight
        self._diary = Diary()
        self._hours = _trading_hours(settings)

    def stop(self, why: str) -> None:
        """Stop cleanly; `why` goes into the journal."""
        if not self._stop.is_set():
            self._why = self.counters.ended = why
            self.counters.state = "stopping"
            self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def health(self) -> tuple[TopicHealth, ...]:
        """Say how each topic and each stream is."""
        return self._connection.health()

    def change_streams(self, streams: list[Stream]) -> None:
        """Record these streams from now on, without a new connection."""
        self.streams = streams
        self._connection.change_streams(streams)

    def status(self) -> Status:
        """Give the last look at it, which is at most a second old."""
        return self._oversight.latest

    async def run(self, *, stop_at: datetime | None = None, watch: Callable[[Status], None] | None = None) -> Outcome:
        """Record until stopped, or until `stop_at`; `watch` is shown the status once a second.

        A `GatewayError` means that the first connection failed, a `DiskError` that the journal did.
        """
        try:
            await self._connection.prime()  # before anything is written: a gateway that is away leaves no trace
            await self._record(stop_at, watch)
        finally:
            await self._connection.close()
        counters = self.counters
        return Outcome(
            self._place.session, counters.received, dict(counters.archived), counters.digests, counters.flushes
        )

    async def _record(self, stop_at: datetime | None, watch: Callable[[Status], None] | None) -> None:
        self._archiver = ArchiverProcess(
            self._place.data, self._settings.recorder_name, self._place.session, hear=self._hear
        )
        self._journal = self._open_journal()
        self._begin_session()
        self._connection.begin(self._journal, self.streams, self.ledger)
        self._oversight = oversee(
            self._settings,
            self._place,
            self._journal,
            self.counters,
            diary=self._diary,
            health=self.health,
            watch=watch,
        )
        async with overseen(self._oversight):
            await self._archiver.start()
            scheduler = self._schedule(stop_at)
            try:
                await self._oversight.start(scheduler)
                if self._hours is not None:
                    await Shifts(self._hours, self._connection, scheduler=scheduler).plan()
                await self._connection.stay()
                if self._fatal is not None:
                    raise self._fatal
            finally:
                scheduler.shutdown(wait=False)
                await self._wind_down()

    def _begin_session(self) -> None:
        """Note who was before, and what is missing since: together, so that nobody ever sees only half of it."""
        place = self._place
        marks = [encode_mark("session_started", predecessor=place.predecessor_note, streams=len(self.streams))]
        if place.ending is not None:
            marks += begin_session(self.ledger, [stream.topic for stream in self.streams], ending=place.ending)
        self._journal.note_together(marks)

    def _open_journal(self) -> Journal:
        settings = self._settings
        return Journal(
            self._place.journal,
            recorder=settings.recorder_name,
            session=self._place.session,
            boundary=self._place.boundary,
            limits=Limits(
                settings.write_within,
                settings.sync_every,
                settings.flush_frames,
                settings.flush_bytes,
                settings.journal_memory,
            ),
            on_failure=self._on_journal_failure,
            on_pressure=self._on_pressure,
            masker=self._masker,
            on_mark=self._diary.follow,
            on_much=self._archiver.nudge,
        )

    def _schedule(self, stop_at: datetime | None) -> AsyncIOScheduler:
        scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
        )
        scheduler.add_listener(lambda event: _log.error("a scheduled job failed: %s", event.exception), EVENT_JOB_ERROR)
        scheduler.add_job(_on_loop(self._journal.rotate), "interval", seconds=self._settings.flush_every, id="flush")
        scheduler.add_job(self._connection.tickle, "interval", seconds=self._settings.tickle_every, id="tickle")
        scheduler.add_job(_on_loop(self._connection.look), "interval", seconds=1, id="look")
        if stop_at is not None:
            scheduler.add_job(_on_loop(self.stop), "date", run_date=stop_at, args=["the time is up"], id="stop")
        if self._settings.compact_after is not None:
            upkeep = Upkeep(
                self._place.data, self._place.boundary, after=self._settings.compact_after, scheduler=scheduler
            )
            upkeep.plan(datetime.now(UTC))
        scheduler.start()
        return scheduler

    def _hear(self, said: dict[str, Any]) -> None:
        """Take in what the archiver says."""
        counters, event = self.counters, said["event"]
        if event == "progress":
            counters.building = said["rows"]
        elif event == "archived":
            counters.archived.update(said["rows"])
            counters.undecoded.update(said["undecoded"])
            counters.unclaimed += said["unclaimed"]
            counters.building = {}
            counters.flushes += 1
            counters.last_flush = time.time_ns() // 1000
            counters.problem = None
            if said["session"] == self._place.session:
                counters.archived_frames = max(counters.archived_frames, said["last"] + 1)
                self._journal.flushed_to(said["last"])
            _log.info("flushed %s frames into %s parts", f"{said['last'] - said['first'] + 1:,}", said["parts"])
        elif event == "space":
            counters.space = Space(said["free"], said["per_day"])
        elif event == "gaps":
            self._diary.recall(GapStatus(*gap) for gap in said["gaps"])
        elif event == "done":
            counters.digests = said["digests"]
        else:
            text = trouble(said)
            counters.problem = text
            _log.warning("%s", text)

    def _on_journal_failure(self, failure: DiskError) -> None:
        self._fatal = failure
        self.stop(str(failure))

    def _on_pressure(self, high: bool) -> None:  # noqa: FBT001  the journal's callback
        self._mark("backpressure", high=high, unwritten=self._journal.unwritten)
        _log.warning("the disk is too slow: reading %s", "pauses" if high else "goes on")
        self._connection.press(high)

    def _mark(self, event: Event, **details: Any) -> None:
        self._journal.note(encode_mark(event, **details))

    async def _wind_down(self) -> None:
        self._connection.end()
        self._mark("session_stopped", reason=self._why)
        try:
            await self._journal.close()
        except DiskError as exc:
            self._fatal = exc
        try:
            await self._archiver.stop(within=_ARCHIVE_WITHIN)
        except RecorderError as exc:
            if self._fatal is None:
                raise
            _log.warning("%s", exc)  # what ended the capture says more
        if self._fatal is not None:
            raise self._fatal


def stop_on_signals(capture: Capture) -> None:
    """Stop the capture cleanly at the first SIGINT or SIGTERM, at once at the second: the journal keeps what came."""

    def handle(number: int) -> None:
        if capture.stopping:
            os._exit(1)
        capture.stop(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, handle, number)


def _trading_hours(settings: CaptureSettings) -> TradingHours | None:
    if not settings.calendar:
        return None
    from recorder.capture.trading_hours import TradingHours  # noqa: PLC0415  its library imports pandas

    return TradingHours(settings.calendar, before=settings.wake_before, after=settings.stay_after)


def _on_loop(job: Callable[..., None]) -> Callable[..., Coroutine[Any, Any, None]]:
    """Let a scheduled function run on the event loop: a plain one would run in a thread, beside what it changes."""

    async def run(*args: Any) -> None:
        job(*args)

    return run
