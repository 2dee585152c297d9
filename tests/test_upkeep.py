"""Upkeep: when a running capture has finished dates compacted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from recorder.capture.upkeep import Upkeep
from recorder.protocol.days import DayBoundary


@pytest.mark.parametrize(
    ("boundary", "now", "expected"),
    [
        ("00:00 UTC", "2026-11-20T12:00", "2026-11-21T01:00"),
        ("00:00 UTC", "2026-11-21T00:30", "2026-11-21T01:00"),
        ("00:00 UTC", "2026-11-21T01:00", "2026-11-22T01:00"),
        ("17:00 America/Chicago", "2026-10-31T12:00", "2026-10-31T23:00"),
        ("17:00 America/Chicago", "2026-11-01T12:00", "2026-11-02T00:00"),
    ],
)
def test_a_run_is_planned_an_hour_behind_the_end_of_the_day(boundary: str, now: str, expected: str) -> None:
    """Also on the day on which summer time ends, and when the hour has begun already."""

    async def planned() -> datetime:
        scheduler = AsyncIOScheduler(timezone=UTC)
        upkeep = Upkeep(Path("data"), DayBoundary(boundary), after=3600, scheduler=scheduler)
        upkeep.plan(datetime.fromisoformat(now).replace(tzinfo=UTC))
        (job,) = scheduler.get_jobs()
        when: datetime = job.trigger.run_date
        return when

    assert datetime.fromisoformat(expected).replace(tzinfo=UTC) == asyncio.run(planned())
