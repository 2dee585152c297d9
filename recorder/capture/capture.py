"""The capture: one session of recording, from the first REST call to the last row in Parquet.

1. What comes in is journaled first, and looked at after that.
2. The first connection must succeed, so that a mistake shows at once; after it, the capture goes on until it is told
   to stop, whatever the gateway does.
3. A failing archiver is reported and started again; a failing journal ends the capture at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from apscheduler.events import EVENT_JOB_ERROR
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from recorder.capture.archiver_process import ArchiverProcess
from recorder.capture.contracts import conids_of, look_up
from recorder.capture.conversation import Conversation, Errand
from recorder.capture.journal import Journal, Limits
from recorder.capture.place import Place
from recorder.capture.rest import Rest, tls_context
from recorder.capture.settings import CaptureSettings
from recorder.capture.status import Counters, Status
from recorder.capture.upkeep import Upkeep
from recorder.errors import DiskError, GatewayError, RecorderError
from recorder.protocol.client_session import ClientSession, News, Timing
from recorder.protocol.marks import Event, encode_mark
from recorder.protocol.masking import Masker
from recorder.protocol.streams import Stream

_log = logging.getLogger(__name__)
_BACKOFF_MOST: Final = 60.0
_PRIME_AGAIN: Final = 5.0  # the broker's pacing rule for orders: one call in 5 s
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
        self._settings = settings
        self._place = place
        self._streams = streams
        self._masker = Masker()
        self._tls = tls_context(settings.gateway, ca=settings.ca, insecure=settings.insecure)
        self._stop = asyncio.Event()
        self._why = "stopped"
        self._fatal: RecorderError | None = None
        self._conversation: Conversation | None = None
        self._was_connected = False
        self._was_ready = False
        self._contracts = conids_of((*settings.conid, *settings.depth_conid))
        self._loop = asyncio.get_running_loop()
        self._rest: Rest
        self._journal: Journal
        self._archiver: ArchiverProcess

    def stop(self, why: str) -> None:
        """Stop cleanly; `why` goes into the journal."""
        if not self._stop.is_set():
            self._why = why
            self.counters.state = "stopping"
            self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def status(self) -> Status:
        """Look at the counters."""
        journal = self._journal
        last = journal.last_received_ts
        return self.counters.look(
            self._loop.time(),
            age=None if last is None else max(0.0, time.time() - last / 1e6),
            journaled=journal.seq,
            unflushed_bytes=journal.bytes_after_flushed,
        )

    async def run(self, *, stop_at: datetime | None = None, watch: Callable[[Status], None] | None = None) -> Outcome:
        """Record until stopped, or until `stop_at`; `watch` is shown the status once a second.

        A `GatewayError` means that the first connection failed, a `DiskError` that the journal did.
        """
        self._rest = Rest(self._settings.gateway, tls=self._tls)
        try:
            await self._prime()  # before anything is written: a gateway that is away leaves no trace
            await self._record(stop_at, watch)
        finally:
            await self._rest.close()
        counters = self.counters
        return Outcome(
            self._place.session, counters.received, dict(counters.archived), counters.digests, counters.flushes
        )

    async def _record(self, stop_at: datetime | None, watch: Callable[[Status], None] | None) -> None:
        self._journal = self._open_journal()
        self._archiver = ArchiverProcess(
            self._place.data, self._settings.recorder_name, self._place.session, hear=self._hear
        )
        self._mark("session_started", predecessor=self._place.predecessor_note, streams=len(self._streams))
        await self._archiver.start()
        scheduler = self._schedule(stop_at, watch)
        try:
            await self._stay_connected()
        finally:
            scheduler.shutdown(wait=False)
            await self._wind_down()

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
        )

    def _schedule(self, stop_at: datetime | None, watch: Callable[[Status], None] | None) -> AsyncIOScheduler:
        scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
        )
        scheduler.add_listener(lambda event: _log.error("a scheduled job failed: %s", event.exception), EVENT_JOB_ERROR)
        scheduler.add_job(self._journal.rotate, "interval", seconds=self._settings.flush_every, id="flush")
        scheduler.add_job(self._tickle, "interval", seconds=self._settings.tickle_every, id="tickle")
        if stop_at is not None:
            scheduler.add_job(self.stop, "date", run_date=stop_at, args=["the time is up"], id="stop")
        if self._settings.compact_after is not None:
            upkeep = Upkeep(
                self._place.data, self._place.boundary, after=self._settings.compact_after, scheduler=scheduler
            )
            upkeep.plan(datetime.now(UTC))
        if watch is not None:
            scheduler.add_job(lambda: watch(self.status()), "interval", seconds=1, id="watch")
        scheduler.start()
        return scheduler

    async def _stay_connected(self) -> None:
        failures = 0
        while not self._stop.is_set():
            self._was_ready = False
            try:
                if self._was_connected:
                    await self._prime()
                await self._converse()
            except GatewayError as exc:
                if not self._was_connected:
                    raise
                _log.warning("%s", exc)
                self.counters.problem = str(exc)
            failures = 0 if self._was_ready else failures + 1
            if not self._stop.is_set():
                self.counters.state = "reconnecting"
                pause = min(self._settings.reconnect_delay * 2 ** min(failures, 10), _BACKOFF_MOST)
                await _wait(self._stop, pause * random.uniform(0.8, 1.2))
        if self._fatal is not None:
            raise self._fatal

    async def _prime(self) -> None:
        """Do by REST what the gateway wants before a socket is opened."""
        tickle = await self._rest.tickle()
        self._masker.learn(tickle.session)
        if tickle.authenticated is False and self._settings.login:
            await self._rest.log_in(compete=self._settings.compete)
        elif tickle.authenticated is False and not self._was_connected:
            raise GatewayError(
                f"the gateway at {self._settings.gateway} has no brokerage session",
                hint="log in at its page in a browser, or let the recorder open the session with --login",
            )
        self._token = tickle.session
        await self._rest.accounts()

    async def _converse(self) -> None:
        """Hold one connection until it ends, for whatever reason."""
        settings = self._settings
        timing = Timing(
            settings.renew_every, settings.tickle_every, settings.heartbeat_timeout, settings.reconnect_delay
        )
        session = ClientSession(self._streams, timing=timing, token=self._token, now=self._loop.time())
        cookies = {**self._rest.cookies(), "api": msgspec.json.encode({"session": self._token}).decode()}
        for value in cookies.values():
            self._masker.learn(value)
        self._conversation = Conversation(session, self._journal, on_frame=self._count, on_news=self._on_news)
        await self._conversation.open(settings.gateway, cookies=cookies, tls=self._tls)
        self._was_connected = True
        self.counters.problem = None
        if not self.stopping:
            self.counters.state = "connected"
        if self._journal.under_pressure:
            self._conversation.pause()
        await self._conversation.hold(self._stop)

    def _count(self) -> None:
        self.counters.received += 1

    def _on_news(self, news: News) -> Errand | None:
        if news.what == "welcomed":
            return self._note_contracts() if self._contracts else None
        if news.what == "ready":
            self._was_ready = True
            self.counters.state = "recording"
            self._mark("logged_in")
            return self._snapshot_orders() if "orders" in self._settings.topic else None
        return self._tickle() if news.what == "refused" else None

    async def _snapshot_orders(self) -> None:
        """Record today's orders: the stream tells changes only."""
        for _ in range(2):
            try:
                answer = await self._rest.orders()
            except GatewayError as exc:
                _log.warning("no snapshot of the orders: %s", exc)
                return
            self._journal.note(answer, "rest")
            if b'"snapshot":false' not in answer.replace(b" ", b""):
                return
            await asyncio.sleep(_PRIME_AGAIN)

    async def _note_contracts(self) -> None:
        """Record what the contracts are, once a session."""
        for answer in await look_up(self._rest, self._contracts):
            self._journal.note(answer, "rest")
        self._contracts = []

    async def _tickle(self) -> None:
        """Keep the login alive; a failure shows in the log, and the heartbeat decides about the connection."""
        try:
            tickle = await self._rest.tickle()
            await self._rest.accounts()
        except GatewayError as exc:
            _log.warning("%s", exc)
            return
        self._masker.learn(tickle.session)

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
            counters.last_flush = self._loop.time()
            counters.problem = None
            if said["session"] == self._place.session:
                counters.archived_frames = said["last"] + 1
                self._journal.flushed_to(said["last"])
            _log.info("flushed %s frames into %s parts", f"{said['last'] - said['first'] + 1:,}", said["parts"])
        elif event == "done":
            counters.digests = said["digests"]
        else:
            text = _archiver_trouble(said)
            counters.problem = text
            _log.warning("%s", text)

    def _on_journal_failure(self, failure: DiskError) -> None:
        self._fatal = failure
        self.stop(str(failure))

    def _on_pressure(self, high: bool) -> None:  # noqa: FBT001  the journal's callback
        self._mark("backpressure", high=high, unwritten=self._journal.unwritten)
        _log.warning("the disk is too slow: reading %s", "pauses" if high else "goes on")
        if self._conversation is not None:
            (self._conversation.pause if high else self._conversation.resume)()

    def _mark(self, event: Event, **details: Any) -> None:
        self._journal.note(encode_mark(event, **details))

    async def _wind_down(self) -> None:
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


def _archiver_trouble(said: dict[str, Any]) -> str:
    if said["event"] == "problem":
        return f"archiving failed and is tried again: {said['what']}"
    if said["event"] == "died":
        return f"the archiver ended with code {said['code']}; it is started again in {said['pause']:g} s"
    if said["event"] == "torn":
        kept = f"; what follows is kept in {said['kept']}" if said["kept"] else ""
        return f"{said['segment']} of an earlier session breaks off: {said['what']}{kept}"
    return f"{said['topic']}: {said['path']} has another schema; frames are archived, rows wait for a rebuild"


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
