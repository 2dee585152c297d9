"""Trading hours: when an exchange is open, in stretches between open, breaks and close."""

from __future__ import annotations

import warnings
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from recorder.errors import UsageError

_MARGIN: Final = pd.Timedelta(days=10)  # a calendar of no session is refused


class Hours(NamedTuple):
    """Stretches of trading, in order: begin (inclusive) and end (exclusive), microseconds since the Unix epoch."""

    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    zone: ZoneInfo | None


def trading_hours(name: str, first: int, last: int) -> Hours:
    """Give an exchange's hours around two moments (microseconds), with early closes and breaks, by its MIC: `XNYS`.

    The hours are those of `exchange_calendars`; `UsageError` for a calendar that it does not know.
    """
    import exchange_calendars  # noqa: PLC0415  it takes a while, and few ask

    begin, end = (pd.Timestamp(moment, unit="us").normalize() for moment in (first, last))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # its calls of what pandas 3.1 renamed are not the user's
            calendar = exchange_calendars.get_calendar(name, start=begin - _MARGIN, end=end + _MARGIN)
    except exchange_calendars.errors.InvalidCalendarName:
        known = exchange_calendars.get_calendar_names()
        close = [other for other in known if other.lower() == name.lower()]
        hint = f"did you mean {close[0]}?" if close else "give a market's code, such as XNYS, XLON, XHKG, CMES"
        raise UsageError(f"calendar: {name!r} is unknown", hint=hint) from None
    table = calendar.schedule
    opens, closes = _micros(table["open"]), _micros(table["close"])
    breaks = table["break_start"].notna().to_numpy()
    begins = np.concatenate([opens, _micros(table["break_end"][breaks])])
    ends = np.concatenate(
        [np.where(breaks, _micros(table["break_start"].fillna(table["close"])), closes), closes[breaks]]
    )
    order = np.argsort(begins)
    return Hours(begins[order], ends[order], calendar.tz)


def _micros(column: pd.Series) -> npt.NDArray[np.int64]:
    stamps: npt.NDArray[np.int64] = (
        column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    )
    return stamps
