"""Trading hours: when a capture has something to record, by an exchange's calendar.

1. Holidays, early closes and summer time are the library's (`exchange_calendars`); what is made of them is pure.
2. Hours that touch, with the time before and after them, are one: futures that trade around the clock are left alone
   only at the weekend. A break at noon is no close.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import exchange_calendars

from recorder.errors import SettingError
from recorder.protocol.topics import nearest

_BACK: Final = timedelta(days=10)  # longer than any session, and than any row of holidays
_AHEAD: Final = timedelta(days=30)


class Hours(NamedTuple):
    """A stretch of time in which to be connected: from `begin` to `end`; the market opens at `opens`."""

    begin: datetime
    opens: datetime
    end: datetime


class TradingHours:
    """An exchange's sessions, `XNYS` or `CMES`, each with some seconds `before` and `after` it.

    `SettingError` if there is no such calendar.
    """

    def __init__(self, code: str, *, before: float, after: float) -> None:
        known = exchange_calendars.get_calendar_names()
        if code not in known:
            raise SettingError(f"calendar: no exchange {code!r}", hint=nearest(code, known))
        self._code = code
        self._before = timedelta(seconds=before)
        self._after = timedelta(seconds=after)

    @property
    def zone(self) -> ZoneInfo:
        """The exchange's time zone."""
        return ZoneInfo(str(self._calendar(datetime.now(UTC)).tz))

    def at(self, now: datetime) -> Hours:
        """Give the hours that `now` lies in, or else the next. It takes some tenths of a second."""
        calendar = self._calendar(now)
        sessions = [
            (opens.to_pydatetime(), closes.to_pydatetime())
            for opens, closes in calendar.schedule[["open", "close"]].itertuples(index=False)
        ]
        return current_or_next(merge(sessions, before=self._before, after=self._after), now)

    def _calendar(self, now: datetime) -> exchange_calendars.ExchangeCalendar:
        day = now.astimezone(UTC).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the library's own use of pandas
            return exchange_calendars.get_calendar(self._code, start=day - _BACK, end=day + _AHEAD)


def merge(sessions: Iterable[tuple[datetime, datetime]], *, before: timedelta, after: timedelta) -> list[Hours]:
    """Make hours of sessions, each an opening and a close, in order."""
    merged: list[Hours] = []
    for opens, closes in sessions:
        begin, end = opens - before, closes + after
        if merged and begin <= merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(end, merged[-1].end))
        else:
            merged.append(Hours(begin, opens, end))
    return merged


def current_or_next(hours: Iterable[Hours], now: datetime) -> Hours:
    """Pick the first hours that are not over."""
    for one in hours:
        if now < one.end:
            return one
    raise AssertionError("a calendar that reaches a month ahead has a session in it")
