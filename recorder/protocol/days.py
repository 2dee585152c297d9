"""Days: which date an instant belongs to, for a day that may begin at any hour of any zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from recorder.errors import SettingError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Day(NamedTuple):
    """A date with its bounds in microseconds since the Unix epoch; `end` is the next day's `start`."""

    date: date
    start: int
    end: int


class DayBoundary:
    """Where one day ends and the next begins: `00:00 UTC`, `17:00 America/Chicago`.

    A day that begins at 00:00 carries its own date. One that begins later carries the date on which it ends, as
    futures exchanges count: from 17:00 on Sunday it is Monday's day.
    """

    def __init__(self, text: str) -> None:
        clock, _, zone = text.strip().partition(" ")
        try:
            self._time = datetime.strptime(clock, "%H:%M").time()  # noqa: DTZ007  the zone comes next
            self._zone = ZoneInfo(zone.strip() or "UTC")
        except (ValueError, OSError, ZoneInfoNotFoundError) as exc:  # OSError: `America` is a folder
            raise SettingError(
                f"day_boundary {text!r} is not a time and a zone",
                hint="write it as '00:00 UTC' or '17:00 America/Chicago'",
            ) from exc
        self._shift = timedelta(days=0 if self._time == time(0) else 1)

    def __str__(self) -> str:
        return f"{self._time:%H:%M} {self._zone.key}"

    def day_of(self, ts: int) -> Day:
        """Find the day of an instant (microseconds since the Unix epoch)."""
        local = (_EPOCH + ts * _MICROSECOND).astimezone(self._zone)
        guess = local.date() + self._shift
        day = self.day(guess)
        if ts < day.start:
            return self.day(guess - timedelta(days=1))
        return day if ts < day.end else self.day(guess + timedelta(days=1))

    def day(self, on: date) -> Day:
        """Give a date's bounds."""
        return Day(on, self._start(on), self._start(on + timedelta(days=1)))

    def _start(self, on: date) -> int:
        local = datetime.combine(on - self._shift, self._time, tzinfo=self._zone)
        return (local.astimezone(UTC) - _EPOCH) // _MICROSECOND
