"""Durations: how a stretch of time is written: `200ms`, `3s`, `15m`, `8h`, `1d`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from recorder.errors import UsageError

HOW: Final = "write a number with its unit, such as 200ms, 3s, 15m, 8h or 1d"

_UNITS: Final = {
    "d": Decimal(86_400),
    "h": Decimal(3_600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_PATTERN: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|[smhd])", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)


def parse_duration(text: str) -> float:
    """Read a duration as seconds; a `UsageError` says what is wrong with it."""
    text = text.strip()
    match = _PATTERN.fullmatch(text)
    if match is None:
        fault = "has no unit" if _NUMBER.fullmatch(text) else "is not a duration"
        raise UsageError(f"{text!r} {fault}", hint=HOW)
    return float(Decimal(match[1]) * _UNITS[match[2]])


def format_duration(seconds: float) -> str:
    """Write seconds (0 or more, finite) in the largest unit that needs no fraction: 5400.0 is `90m`."""
    exact = Decimal(repr(float(seconds)))
    for unit, length in _UNITS.items():
        count = exact / length
        if exact and count == count.to_integral_value():
            return f"{count:.0f}{unit}"
    return f"{exact.normalize():f}s"
