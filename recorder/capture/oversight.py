"""The oversight of a capture: looks at it once a second, and shows what it sees to whom it may concern.

1. Nothing here may disturb the capture: a look is a few microseconds, files are written by another thread, alerts run
   beside it, and whatever fails is logged, counted, and tried again with the next look.
2. There is one look a second, and all see the same one: the live line, the status file, the web server, the alerts.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from recorder.capture.alert_delivery import deliver
from recorder.capture.alert_policy import Alert, AlertPolicy
from recorder.capture.diary import Diary
from recorder.capture.history import History
from recorder.capture.journal import Journal
from recorder.capture.observer import Health, Observer
from recorder.capture.place import Place
from recorder.capture.settings import CaptureSettings, http_address
from recorder.capture.status import Counters, Status
from recorder.capture.status_document import instant
from recorder.capture.status_file import write_status
from recorder.capture.verdict import problems
from recorder.capture.web import Web
from recorder.errors import DiskError, RecorderError

_log = logging.getLogger(__name__)
_FILE_EVERY: Final = 2.0
_LAST_ALERT: Final = 25.0  # longer than a delivery may take

Watch = Callable[[Status], None]


class Oversight:
    """Watches one capture from its start to its end. `folder` is the recorder's journal folder."""

    def __init__(
        self, settings: CaptureSettings, observer: Observer, counters: Counters, *, folder: Path, watch: Watch | None
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._counters = counters
        self._folder = folder
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._policy = AlertPolicy(every=settings.alert_every)
        self._telling: asyncio.Task[None] | None = None
        self._written = True
        self._file_lock = threading.Lock()
        self.latest = observer.look()
        self.history = History()
        self.web = Web(status=lambda: self.latest, history=self.history, now=_now)

    async def start(self, scheduler: AsyncIOScheduler) -> None:
        """Begin to look; `RecorderError` if the address of the web server cannot be had."""
        if self._settings.http:
            host, port = http_address(self._settings.http)
            await self.web.start(host, port)
            _log.info("the page is at http://%s:%s/", f"[{host}]" if ":" in host else host, self.web.port)
        await self._write()
        scheduler.add_job(self._look, "interval", seconds=1, id="oversight")
        scheduler.add_job(self._write, "interval", seconds=_FILE_EVERY, id="status_file")

    async def stop(self, *, failure: BaseException | None) -> None:
        """Write and tell the last words: how the capture ended."""
        counters = self._counters
        counters.state = "stopped" if failure is None else "failed"
        if failure is not None:
            counters.ended = str(failure) or type(failure).__name__
        self.latest = self._observer.look()
        await self._write()
        await self.web.stop()
        if self._telling is not None:
            await asyncio.wait([self._telling], timeout=_LAST_ALERT)
        if self._alerts and (failure is not None or self._policy.owes):
            alert = self._policy.last(problems(self.latest, self.latest.at))
            if alert is not None:
                await self._tell(alert)

    @property
    def _alerts(self) -> bool:
        return bool(self._settings.alert_command or self._settings.alert_url)

    async def _look(self) -> None:  # a coroutine, for APScheduler runs plain functions in a thread
        self.latest = self._observer.look()
        self.history.add(self.latest)
        if self._watch is not None:
            self._watch(self.latest)
        if self._alerts:
            self._alert()

    def _alert(self) -> None:
        found = problems(self.latest, _now())
        if self._telling is not None and not self._telling.done():
            self._policy.note(found)  # the alert before is still on its way
            return
        alert = self._policy.step(found, self._loop.time())
        if alert is not None:
            self._telling = asyncio.create_task(self._tell(alert))

    async def _write(self) -> None:
        """Write the status file; that it fails is said once, and the capture goes on."""
        try:
            await asyncio.to_thread(self._write_latest)
        except DiskError as exc:
            if self._written:
                _log.warning("the status file is not up to date: %s", exc)
            self._written = False
        else:
            self._written = True

    def _write_latest(self) -> None:
        """Write the look that is the latest once it is this thread's turn: an older one never replaces a newer."""
        with self._file_lock:
            write_status(self._folder, self.latest)

    async def _tell(self, alert: Alert) -> None:
        text = f"recorder {self._settings.recorder_name}: {alert.text}"
        _log.log(logging.INFO if alert.healthy else logging.WARNING, "alert: %s", text)
        try:
            await deliver(
                self._document(alert, text), command=self._settings.alert_command, url=self._settings.alert_url
            )
        except RecorderError as exc:
            self._counters.failed_alerts += 1
            self._policy.failed(alert)
            _log.warning("the alert was not delivered, and is tried again later: %s", exc)

    def _document(self, alert: Alert, text: str) -> dict[str, Any]:
        return {
            "text": text,
            "healthy": alert.healthy,
            "recorder": self._settings.recorder_name,
            "session": self.latest.session,
            "at": instant(self.latest.at),
            "problems": [{"what": problem.what, "text": problem.text} for problem in alert.problems],
            "held_back": [{"what": one.what, "text": one.text, "count": one.count} for one in alert.held],
        }


def oversee(
    settings: CaptureSettings,
    place: Place,
    journal: Journal,
    counters: Counters,
    *,
    diary: Diary,
    health: Health,
    watch: Watch | None,
) -> Oversight:
    """Make the oversight of a session that begins; `watch` is shown each look."""
    observer = Observer(
        counters,
        journal,
        diary,
        recorder=settings.recorder_name,
        session=place.session,
        flush_every=settings.flush_every,
        health=health,
    )
    return Oversight(settings, observer, counters, folder=place.journal, watch=watch)


@asynccontextmanager
async def overseen(oversight: Oversight) -> AsyncIterator[Oversight]:
    """Let the oversight have the last word on whatever happens inside."""
    failure: BaseException | None = None
    try:
        yield oversight
    except BaseException as exc:
        failure = exc
        raise
    finally:
        await oversight.stop(failure=failure)


def _now() -> int:
    return time.time_ns() // 1000
