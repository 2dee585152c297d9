"""Instants: the ways in which people write a moment, as microseconds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from recorder.errors import UsageError

Instant = str | date | datetime | int
"""A moment: an ISO date or time, a `datetime`, a `date`, a pandas `Timestamp` (naive means UTC), or microseconds."""

_FIRST: Final = 10**14
"""Fewer microseconds are no time of ours (they lie before 1974), but a date written as a number."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_micros(value: Instant | None, *, what: str) -> int | None:
    """Give a moment as microseconds since the Unix epoch, None for None; a `UsageError` names `what` was no moment."""
    if value is None or (isinstance(value, int) and value >= _FIRST):
        return value
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as exc:
            raise UsageError(
                f"{what}: {value!r} is not a time", hint="write 2026-11-20, 2026-11-20T14:30 or 2026-11-20T14:30-05:00"
            ) from exc
    if not isinstance(value, date) or value != value:  # noqa: PLR0124  pandas' NaT is a datetime unlike itself
        raise UsageError(f"{what}: {value!r} is not a time", hint="give a text, a datetime or a pandas Timestamp")
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
