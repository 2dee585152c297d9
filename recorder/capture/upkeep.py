"""Upkeep: compaction of finished dates, in a process of its own, some time after each day boundary."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from recorder.protocol.days import DayBoundary

_log = logging.getLogger(__name__)
_NICE: Final = 10  # it has a night's time; capture and archiver have not


class Upkeep:
    """Runs `recorder compact` once a day.

    A run that fails is reported and tried again the next day: nothing waits for it, and what it did not replace is
    whole.
    """

    def __init__(self, data: Path, boundary: DayBoundary, *, after: float, scheduler: AsyncIOScheduler) -> None:
        self._data = data
        self._boundary = boundary
        self._after = after
        self._scheduler = scheduler

    def plan(self, now: datetime) -> None:
        """Plan the next run: `after` seconds behind the end of the day that was current as many seconds ago."""
        day = self._boundary.day_of(int((now.timestamp() - self._after) * 1e6))
        when = datetime.fromtimestamp(day.end / 1e6 + self._after, UTC)
        self._scheduler.add_job(self._run, "date", run_date=when, id="compact", replace_existing=True)

    async def _run(self) -> None:
        self.plan(datetime.now(UTC))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "recorder.cli.main", "compact", "--data", str(self._data)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=_be_nice,  # one system call, which takes no lock
            start_new_session=True,  # Ctrl-C is for the capture; a compaction may end whenever it likes
        )
        said, _ = await process.communicate()
        text = " · ".join(said.decode("utf-8", "replace").split("\n")).strip(" ·")
        if process.returncode == 0:
            _log.info("%s", text)
        else:
            _log.warning("compaction failed with code %s: %s", process.returncode, text)


def _be_nice() -> None:
    os.nice(_NICE)
