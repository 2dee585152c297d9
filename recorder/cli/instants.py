"""Instants, as commands print them: `2026-11-22T14:30:00.000125Z`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = 1_000_000


def format_instant(micros: int) -> str | int:
    """Write microseconds since the Unix epoch as ISO 8601, UTC, always with six decimals.

    A broker's clock that is past the year 9999 has no such text; it stays a number.
    """
    seconds, rest = divmod(micros, _SECOND)
    text = _second(seconds)
    return micros if text is None else f"{text}.{rest:06d}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str | None:
    try:
        return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"
    except OverflowError:
        return None
