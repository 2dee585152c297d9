"""Bars: open, high, low, close and volume of one contract in equal stretches of time.

1. A bar holds what came from its label on and before the next one's.
2. A quote stands until the next one: a bar of quotes opens with the one that stands at its beginning, and a bar in
   which none came repeats it. A trade is an event: a bar without one has no prices.
3. Nothing stands while nobody listened: between two sessions of the recorder, bars without rows have neither prices nor
   volume.
4. Bars go from that of the first row to that of the last.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from recorder.archive.reading import Reader, Span
from recorder.errors import UsageError
from recorder.research.quotes import TRADE, Floats, Source, Stream, load_stream, times
from recorder.research.trading import Hours, trading_hours

Of = Literal["last", "mid", "bid", "ask"]
Places = npt.NDArray[np.int64]

_PRICES: Final = ("open", "high", "low", "close")
_SIDES: Final = {"bid": ("bid_price",), "ask": ("ask_price",), "mid": ("bid_price", "ask_price")}


def bars(reader: Reader, source: Source, *, every: str | pd.Timedelta, of: Of, calendar: str | None) -> pd.DataFrame:
    """Give bars: open, high, low, close, volume and count (of trades, or of changes of the quote)."""
    width = _width(every)
    if of != "last" and of not in _SIDES:
        raise UsageError(f"of: {of!r} is unknown", hint="use last, mid, bid or ask")
    own = TRADE if of == "last" else (*_SIDES[of], "volume_long")
    stream = _by_time(load_stream(reader, source, own))
    inside = np.flatnonzero(stream.inside(source.span))
    if not len(inside):
        return _frame(np.array([], np.int64), {name: np.array([]) for name in (*_PRICES, "volume", "count")}, None)
    first, last = int(stream.ts[inside[0]]), int(stream.ts[inside[-1]])
    hours = trading_hours(calendar, first, last) if calendar else _always(first, last, width)
    grid = _grid(stream, hours, width, source.span)
    columns = _of_trades(stream, grid) if of == "last" else _of_quotes(stream, grid, _SIDES[of])
    return _frame(grid.labels, columns | {"volume": _volume(stream, grid)}, hours)


def _width(every: str | pd.Timedelta) -> int:
    try:
        width = pd.Timedelta(every) // pd.Timedelta(microseconds=1)
    except ValueError:
        width = 0
    if width <= 0:
        raise UsageError(f"every: {every!r} is no length of a bar", hint="give one such as 5s, 1min, 1h")
    return int(width)


def _always(first: int, last: int, width: int) -> Hours:
    begin = first // width * width
    return Hours(np.array([begin]), np.array([last // width * width + width]), None)


def _by_time(stream: Stream) -> Stream:
    """Give rows in the order of their times; a clock that stepped back had put some elsewhere."""
    if (np.diff(stream.ts) >= 0).all():
        return stream
    order = np.argsort(stream.ts, kind="stable")
    values = {name: value[order] for name, value in stream.columns.items()}
    return Stream(stream.ts[order], stream.session[order], values, stream.closed[order])


class _Grid(NamedTuple):
    """Bars in order: their labels, and the rows of each, `begin` to `end`.

    `opens` is the moment from which a bar's rows count. `stands` says whether what the row before a bar's first says
    holds there: the two are of the same session.
    """

    labels: Places
    opens: Places
    begin: Places
    end: Places
    stands: npt.NDArray[np.bool_]


def _grid(stream: Stream, hours: Hours, width: int, span: Span) -> _Grid:
    counts = -(-(hours.end - hours.begin) // width)
    stretch = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(stretch)) - np.repeat(np.cumsum(counts) - counts, counts)
    labels = hours.begin[stretch] + number * width
    closes = np.minimum(labels + width, hours.end[stretch])
    low = -(2**63) if span.start is None else span.start
    high = 2**63 - 1 if span.end is None else span.end
    opens = np.maximum(labels, low)
    begin = np.searchsorted(stream.ts, opens)
    end = np.maximum(np.searchsorted(stream.ts, np.minimum(closes, high)), begin)
    having = np.flatnonzero(end > begin)
    if not len(having):
        nothing = np.array([], np.int64)
        return _Grid(nothing, nothing, nothing, nothing, np.array([], np.bool_))
    chosen = slice(int(having[0]), int(having[-1]) + 1)
    labels, opens, begin, end = labels[chosen], opens[chosen], begin[chosen], end[chosen]
    session = stream.session
    stands = (begin > 0) & (session[begin - 1] == session[begin])
    return _Grid(labels, opens, begin, end, stands)


def _of_quotes(stream: Stream, grid: _Grid, sides: tuple[str, ...]) -> dict[str, Floats]:
    values = [stream.columns[side] for side in sides]
    value = values[0] if len(values) == 1 else (values[0] + values[1]) / 2
    changed = ((np.diff(value, prepend=np.nan) != 0) | stream.first) & ~np.isnan(value)
    stands = grid.stands & ((grid.begin == grid.end) | (stream.ts[grid.begin] > grid.opens))
    standing = np.where(stands, value[grid.begin - 1], np.nan)
    found = _reduced(value, grid.begin, grid.end)
    opened = np.where(np.isnan(standing), found["open"], standing)
    return {
        "open": opened,
        "high": np.fmax(found["high"], standing),
        "low": np.fmin(found["low"], standing),
        "close": np.where(np.isnan(found["close"]), standing, found["close"]),
        "count": _sums(changed.astype(np.float64), grid),
    }


def _of_trades(stream: Stream, grid: _Grid) -> dict[str, Floats]:
    tick = stream.is_tick & ~np.isnan(stream.columns["last_price"])
    before = np.concatenate([[0], np.cumsum(tick)])
    found = _reduced(stream.columns["last_price"][tick], before[grid.begin], before[grid.end])
    return found | {"count": _sums(tick.astype(np.float64), grid)}


def _reduced(value: Floats, begin: Places, end: Places) -> dict[str, Floats]:
    """Give the first, highest, lowest and last value of each bar's rows, NaN where there are none."""
    columns = {name: np.full(len(begin), np.nan) for name in _PRICES}
    full = np.flatnonzero(end > begin)
    if len(full):
        edges = np.stack([begin[full], end[full]], axis=1).reshape(-1)
        padded = np.append(value, np.nan)  # reduceat wants every edge to be a row
        known = np.flatnonzero(~np.isnan(value))  # a session may begin with one side of the book
        first, behind = np.searchsorted(known, begin[full]), np.searchsorted(known, end[full])
        columns["open"][full] = _known(value, known, np.where(first < behind, first, -1))
        columns["high"][full] = np.fmax.reduceat(padded, edges)[::2]
        columns["low"][full] = np.fmin.reduceat(padded, edges)[::2]
        columns["close"][full] = _known(value, known, np.where(first < behind, behind - 1, -1))
    return columns


def _known(value: Floats, known: Places, places: Places) -> Floats:
    """Give the values at some places of `known`, NaN for -1."""
    found: Floats = np.append(value, np.nan)[np.append(known, len(value))[places]]
    return found


def _sums(value: Floats, grid: _Grid) -> Floats:
    total = np.concatenate([[0.0], np.cumsum(value)])
    sums: Floats = total[grid.end] - total[grid.begin]
    return sums


def _volume(stream: Stream, grid: _Grid) -> Floats:
    """Sum what was traded in each bar; NaN where it is not known."""
    traded = stream.traded
    known = ~np.isnan(traded)
    sums, counts = _sums(np.where(known, traded, 0.0), grid), _sums(known.astype(np.float64), grid)
    recorded = ~np.isnan(stream.columns["volume_long"])
    quiet = (grid.end == grid.begin) & grid.stands & recorded[grid.begin - 1]
    return np.where((counts > 0) | quiet, sums, np.nan)


def _frame(labels: Places, columns: dict[str, Floats], hours: Hours | None) -> pd.DataFrame:
    index = times(labels, "ts_recv")
    if hours is not None and hours.zone is not None:
        index = index.tz_convert(hours.zone)
    frame = pd.DataFrame({name: columns[name] for name in (*_PRICES, "volume", "count")}, index=index)
    return frame.astype({"count": np.int64})
