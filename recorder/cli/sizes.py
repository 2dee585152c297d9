"""Sizes: how an amount of bytes is written: `500kB`, `256MB`, `2GiB`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from recorder.errors import UsageError

HOW: Final = "write a number with its unit, such as 500kB, 256MB, 2GB or 2GiB"

_UNITS: Final = {"gb": 10**9, "mb": 10**6, "kb": 10**3, "gib": 2**30, "mib": 2**20, "kib": 2**10, "b": 1}
_NAMES: Final = {"gb": "GB", "mb": "MB", "kb": "kB", "gib": "GiB", "mib": "MiB", "kib": "KiB", "b": "B"}
_PATTERN: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmg]i?b|b)", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)


def parse_size(text: str) -> int:
    """Read a size as bytes: MB are millions, MiB are 1,048,576; a `UsageError` says what is wrong with it."""
    text = text.strip()
    match = _PATTERN.fullmatch(text.lower())
    if match is None:
        fault = "has no unit" if _NUMBER.fullmatch(text) else "is not a size"
        raise UsageError(f"{text!r} {fault}", hint=HOW)
    return int(Decimal(match[1]) * _UNITS[match[2]])


def format_size(size: int) -> str:
    """Write bytes in the first unit, of GB, MB, kB, GiB, MiB, KiB and B, that needs no fraction."""
    unit = next(unit for unit, length in _UNITS.items() if size % length == 0 and (size or unit == "b"))
    return f"{size // _UNITS[unit]}{_NAMES[unit]}"
