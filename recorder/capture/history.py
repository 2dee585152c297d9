"""The history of a capture: one point a minute for a day, for the charts of the page."""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from recorder.capture.status import Status

_MINUTE: Final = 60_000_000  # microseconds
_POINTS: Final = 24 * 60


class Point(msgspec.Struct, frozen=True, array_like=True):
    """A minute: its start (µs), received frames a second, the longest time from receipt to the system (seconds)."""

    minute: int
    rate: float
    lag: float


class History:
    """Gathers looks into minutes and keeps those of the last day; the present minute is the last point.

    A minute without a look has no point: nothing is filled in.
    """

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=_POINTS)
        self._minute = 0
        self._begun = (0, 0)  # instant and frames received
        self._last = (0, 0)
        self._lag = 0.0

    def add(self, status: Status) -> None:
        """Take in a look; looks come in order, but for a clock that steps back, whose looks join the present minute."""
        minute = status.at - status.at % _MINUTE
        if minute > self._minute:
            if self._minute:
                self._points.append(self._present())
            self._minute, self._lag = minute, 0.0
            self._begun = self._last if self._last[0] >= minute - _MINUTE else (status.at, status.received)
        self._last = (status.at, status.received)
        self._lag = max(self._lag, status.lag)

    def points(self) -> list[Point]:
        """List the minutes, oldest first."""
        return [*self._points, self._present()] if self._minute else []

    def _present(self) -> Point:
        (begin, low), (end, high) = self._begun, self._last
        rate = (high - low) * 1e6 / (end - begin) if end > begin else 0.0
        return Point(self._minute, rate, self._lag)
