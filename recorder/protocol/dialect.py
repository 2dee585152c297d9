"""The broker's dialect: how values are written in its JSON.

1. A parser takes one value of untyped JSON and gives what it means, or None where nothing is meant: null, an empty
   text, and for numbers the text `NaN`.
2. What has no meaning for a parser raises `ValueError`. Nothing is guessed: `1,5` is no number, nor is `inf`.
3. Writers give the same dialect back; the synthetic gateway speaks with them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from recorder.protocol.topics import Parser

_DIGITS: Final = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_PRICE: Final = re.compile(rf"(?P<flag>[CH]?)(?P<number>[+-]?(?:{_DIGITS})(?:[eE][+-]?[0-9]+)?)")
_NUMBER: Final = re.compile(rf"(?P<number>[+-]?(?:{_DIGITS}))(?:(?P<exponent>[eE][+-]?[0-9]+)|(?P<suffix>[KMBT]))?")
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_TIME_TEXTS: Final = (
    (re.compile(r"[0-9]{8}-[0-9]{2}:[0-9]{2}:[0-9]{2}"), "%Y%m%d-%H:%M:%S"),
    (re.compile(r"[0-9]{12}"), "%y%m%d%H%M%S"),
)
_SUFFIXES: Final[Mapping[str | None, str]] = {None: "", "K": "e3", "M": "e6", "B": "e9", "T": "e12"}
_FLAGS: Final[Mapping[str, bool]] = {"0": False, "1": True, "false": False, "true": True}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_INT64: Final = 2**63


def parse_price(value: Any) -> float | None:
    """Read a price: `"189.52"`, `"+1.05"`, `"1,300.5"`, `"C188.10"`, `372`; one leading C or H is left out."""
    text = _text_or_number(value)
    if not isinstance(text, str):
        return text
    found = _PRICE.fullmatch(text)
    if found is None:
        raise ValueError(f"no price: {value!r}")
    return _finite(found["number"], value)


def parse_bare_price(value: Any) -> float | None:
    """Read a price that must have no letter before it, as nothing would keep it."""
    if parse_price_flag(value) is not None:
        raise ValueError(f"a letter before a price: {value!r}")
    return parse_price(value)


def parse_price_flag(value: Any) -> Literal["C", "H"] | None:
    """Read the letter before a price: C (the prior close: no trade yet today), H (halted), None without one."""
    found = _PRICE.fullmatch(value.strip()) if isinstance(value, str) else None
    flag = found["flag"] if found is not None else ""
    return "C" if flag == "C" else "H" if flag == "H" else None


def parse_at_price(value: Any) -> float | None:
    """Read the price of a ladder's row: `"189.58"`, or `"100 @ 189.56"` where the last trade was (the document)."""
    if not isinstance(value, str) or "@" not in value:
        return parse_bare_price(value)
    price = parse_bare_price(value.partition("@")[2])
    if price is None:
        raise ValueError(f"no price: {value!r}")
    return price


def parse_at_size(value: Any) -> float | None:
    """Read the size before the price of a ladder's row: 100 in `"100 @ 189.56"`, None in `"189.58"`."""
    if not isinstance(value, str) or "@" not in value:
        return None
    size = parse_number(value.partition("@")[0])
    if size is None:
        raise ValueError(f"no size: {value!r}")
    return size


def parse_number(value: Any) -> float | None:
    """Read a number: `0.56`, `"2.42E7"`, `"1,300"`, `"-5"`, and shortened ones, exactly: `"24.2M"` is 24200000.0."""
    text = _text_or_number(value)
    if not isinstance(text, str):
        return text
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ValueError(f"no number: {value!r}")
    return _finite(found["number"] + (found["exponent"] or _SUFFIXES[found["suffix"]]), value)


def parse_size(value: Any) -> float | None:
    """Read a size or a volume; written as any number is."""
    return parse_number(value)


def parse_percent(value: Any) -> float | None:
    """Read a percentage, in percent: `0.04`, `"42.0%"` and `"+0.56"` are 0.04, 42.0 and 0.56."""
    if isinstance(value, str):
        text = value.strip()
        if text.endswith("%"):
            text = text[:-1]
            if _PRICE.fullmatch(text) is None or text[0] in "CH":
                raise ValueError(f"no percentage: {value!r}")
        value = text
    return parse_number(value)


def parse_integer(value: Any) -> int | None:
    """Read a whole number of at most 64 bits: `265598`, `"265598"`, `1.0`; an id has no commas."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _int64(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str):
        raise ValueError(f"no whole number: {value!r}")  # noqa: TRY004  callers keep what raises ValueError
    text = value.strip()
    if text in ("", "NaN"):
        return None
    if _INTEGER.fullmatch(text) is None:
        raise ValueError(f"no whole number: {value!r}")
    return _int64(int(text))


def parse_text(value: Any) -> str | None:
    """Keep text as it is, spaces included; anything else becomes compact JSON text."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def parse_flag(value: Any) -> bool | None:
    """Read a yes or no: a boolean, `0`, `1`, `"0"`, `"1"`, `"true"`, `"false"`."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return value == 1
    if isinstance(value, str):
        text = value.strip()
        if text == "":
            return None
        if text in _FLAGS:
            return _FLAGS[text]
    raise ValueError(f"no flag: {value!r}")


def parse_time_us(value: Any) -> int | None:
    """Read a time in microseconds since the Unix epoch, as the recorder's own marks have it."""
    return _microseconds(value, 1)


def parse_time_ms(value: Any) -> int | None:
    """Read milliseconds since the Unix epoch; gives microseconds."""
    return _microseconds(value, 1000)


def parse_time_s(value: Any) -> int | None:
    """Read seconds since the Unix epoch; gives microseconds."""
    return _microseconds(value, 1_000_000)


def parse_time_text(value: Any) -> int | None:
    """Read `20260803-13:30:15` or `260803133015`, both UTC; gives microseconds since the Unix epoch."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"no time: {value!r}")  # noqa: TRY004  callers keep what raises ValueError
    text = value.strip()
    if text == "":
        return None
    for shape, layout in _TIME_TEXTS:
        if shape.fullmatch(text):
            return (datetime.strptime(text, layout).replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
    raise ValueError(f"no time: {value!r}")


PARSERS: Final[Mapping[Parser, Callable[[Any], Any]]] = {
    "price": parse_price,
    "price_flag": parse_price_flag,
    "at_price": parse_at_price,
    "at_size": parse_at_size,
    "size": parse_size,
    "number": parse_number,
    "percent": parse_percent,
    "integer": parse_integer,
    "text": parse_text,
    "flag": parse_flag,
    "time_us": parse_time_us,
    "time_ms": parse_time_ms,
    "time_s": parse_time_s,
    "time_text": parse_time_text,
}


def format_price(price: float, decimals: int) -> str:
    """Write a price: `189.52`; there is no negative zero."""
    text = f"{price:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def format_size(size: float) -> str:
    """Write a size: `1,300`, `0.5`."""
    return f"{int(size):,}" if float(size).is_integer() else f"{size:,}"


def format_short(size: float) -> str:
    """Write a size as displays do: `500`, `1.3K`, `24.2M`; one decimal, so digits are lost."""
    if round(size) < 1000:  # noqa: PLR2004  what a suffix begins with
        return f"{size:.0f}"
    for suffix in "KMB":
        size /= 1000
        if round(size, 1) < 1000:  # noqa: PLR2004  999,960 is 1.0M, not 1000.0K
            return f"{size:.1f}{suffix}"
    return f"{size / 1000:.1f}T"


def _text_or_number(value: Any) -> str | float | None:
    """Give what is no text as a finite float, text stripped, and what means nothing as None."""
    if isinstance(value, str):
        text = value.strip()
        return None if text in ("", "NaN") else text
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"no number: {value!r}")  # noqa: TRY004  callers keep what raises ValueError
    return _finite(value, value)


def _finite(number: str | float, value: Any) -> float:
    try:
        result = float(number.replace(",", "") if isinstance(number, str) else number)
    except OverflowError:
        result = math.inf
    if math.isinf(result):
        raise ValueError(f"too large a number: {value!r}")
    return result


def _int64(value: int) -> int:
    if not -_INT64 <= value < _INT64:
        raise ValueError(f"more than 64 bits: {value!r}")
    return value


def _microseconds(value: Any, unit: int) -> int | None:
    if isinstance(value, float) and math.isfinite(value * unit):
        return _int64(round(value * unit))
    whole = parse_integer(value)
    return None if whole is None else _int64(whole * unit)
