"""The shifts of a capture: it works in the exchange's hours and sleeps outside of them."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler

if TYPE_CHECKING:
    from recorder.capture.trading_hours import TradingHours  # its library imports pandas

_log = logging.getLogger(__name__)


class Worker(Protocol):
    """What can be sent to sleep, waked, and told that the market opens."""

    def doze(self, until: datetime) -> None:
        """Leave the gateway alone until then."""

    def rouse(self) -> None:
        """Go on."""

    def opening(self) -> None:
        """Expect data from now on: the market opens."""


class Shifts:
    """Plans one thing ahead, again and again: each plan asks the calendar, so that nothing is reckoned twice."""

    def __init__(self, hours: TradingHours, worker: Worker, *, scheduler: AsyncIOScheduler) -> None:
        self._hours = hours
        self._worker = worker
        self._scheduler = scheduler

    async def plan(self) -> None:
        """Sleep if the market is closed, and plan what comes next."""
        now = datetime.now(UTC)
        hours = await asyncio.to_thread(self._hours.at, now)
        if now < hours.begin:
            _log.info("the market is closed: sleeps until %s", f"{hours.begin.astimezone():%Y-%m-%d %H:%M:%S %Z}")
            self._worker.doze(hours.begin)
            self._at(hours.begin, self._begin, "shift")
            return
        if now < hours.opens:
            self._at(hours.opens, self._open, "opening")
        self._at(hours.end, self.plan, "shift")
        _log.info("records until %s", f"{hours.end.astimezone():%Y-%m-%d %H:%M:%S %Z}")

    async def _begin(self) -> None:
        self._worker.rouse()
        await self.plan()

    async def _open(self) -> None:
        self._worker.opening()

    def _at(self, when: datetime, job: object, name: str) -> None:
        self._scheduler.add_job(job, "date", run_date=when, id=name, replace_existing=True)
