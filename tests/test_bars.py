"""Quotes, ticks and bars of one contract, beside loops that are slow and obvious."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from conftest import AAPL, NOON, SESSION, Given, archive, quote, write_session
from hypothesis import given, settings
from hypothesis import strategies as st

import recorder
from recorder.archive.layout import Layout, make_layout
from recorder.errors import UsageError
from recorder.library import Archive
from recorder.protocol.days import DayBoundary

LATER = "20261120T120001bbbb"
NAN = math.nan
SECOND = 1_000_000


class Row(NamedTuple):
    """What is known behind a frame, whether it is its session's first, and when it came."""

    at: int
    session: int
    first: bool
    state: dict[str, Any]
    before: dict[str, Any]


KEYS = ("84", "88", "86", "85", "31", "7059", "7762")
NUMBERS = st.integers(1, 4).map(str)
CELLS = st.dictionaries(st.sampled_from(KEYS), NUMBERS, max_size=4).flatmap(
    lambda cells: (
        st.sampled_from([cells, cells | {"31": "C" + cells.get("31", "1")}]) if "31" in cells else st.just(cells)
    )
)
SENT = st.lists(st.tuples(st.integers(0, 3), CELLS), min_size=1, max_size=15)


def rows_of(sessions: list[list[tuple[int, dict[str, str]]]]) -> list[Row]:
    """Fold each session's frames; times are seconds that follow one another."""
    rows, now = [], 0
    for number, session in enumerate(sessions):
        state: dict[str, Any] = {}
        for place, (step, cells) in enumerate(session):
            now += step
            before, state = state, dict(state)
            for key, text in cells.items():
                state[key] = float(text.lstrip("C"))
            if "31" in cells:
                state["closed"] = cells["31"].startswith("C")
            rows.append(Row(now, number, place == 0, state, before))
    return rows


def differs(row: Row, *keys: str) -> bool:
    """Tell whether one of these is not what it was in the row before."""
    return not row.first and any(row.state.get(key) != row.before.get(key) for key in keys)


def traded(row: Row) -> float:
    """Give the growth of the day's volume."""
    grown: float = row.state.get("7762", NAN) - row.before.get("7762", NAN)
    return NAN if row.first or not grown >= 0 else grown


def is_tick(row: Row) -> bool:
    """Tell whether a row speaks of a trade."""
    return differs(row, "31", "7059", "7762") and not row.state.get("closed", False)


def price(row: Row, of: str) -> float:
    """Give the price that a bar is made of."""
    bid, ask = row.state.get("84", NAN), row.state.get("86", NAN)
    found: float = {"bid": bid, "ask": ask, "mid": (bid + ask) / 2, "last": row.state.get("31", NAN)}[of]
    return found


def bar(rows: list[Row], begin: int, end: int, of: str, start: int) -> list[float]:
    """Make one bar of the rows of a session or several; `start` is where rows begin to count."""
    own = [row for row in rows if begin <= row.at < end and row.at >= start]
    earlier = [row for row in rows if row.at < max(begin, start)]
    following = own or [row for row in rows if row.at >= end]
    stands = bool(earlier) and earlier[-1].session == following[0].session
    values = [price(row, of) for row in own if (of != "last" or is_tick(row)) and not math.isnan(price(row, of))]
    if of != "last" and stands and not (own and own[0].at == max(begin, start)):
        values = [value for value in [price(earlier[-1], of)] if not math.isnan(value)] + values
    prices = [values[0], max(values), min(values), values[-1]] if values else [NAN] * 4
    known = [traded(row) for row in own if not math.isnan(traded(row))]
    quiet = not own and stands and "7762" in earlier[-1].state
    volume = sum(known) if known or quiet else NAN
    if of == "last":
        count = sum(is_tick(row) and "31" in row.state for row in own)
    else:
        keys = ("84",) if of == "bid" else ("86",) if of == "ask" else ("84", "86")
        count = sum(
            not math.isnan(price(row, of))
            and (row.first or price(row, of) != price(Row(0, 0, first=True, state=row.before, before={}), of))
            for row in own
            if keys
        )
    return [begin, *prices, volume, count]


def same(expected: list[list[float]], actual: list[list[float]]) -> bool:
    """Compare numbers, NaN being itself."""
    return repr(expected) == repr(actual)


def opened_with(folder: str, sessions: list[list[tuple[int, dict[str, str]]]], *, archived: bool) -> Archive:
    """Write sessions behind one another."""
    layout = make_layout(Path(folder) / "data", DayBoundary("00:00 UTC"))
    rows = iter(rows_of(sessions))
    for name, session in zip((SESSION, LATER), sessions, strict=True):
        frames = [
            Given(NOON + next(rows).at * SECOND, quote(number, cells) if cells else quote(number, {"55": "A"}))
            for number, (_, cells) in enumerate(session)
        ]
        write_session(layout, frames, session=name, rotations=[3])
    if archived:
        archive(layout)
    return recorder.open(layout.root)


@settings(max_examples=25, database=None)
@given(
    first=SENT,
    second=SENT,
    width=st.integers(1, 4),
    start=st.integers(0, 20),
    archived=st.booleans(),
    of=st.sampled_from(["last", "mid", "bid", "ask"]),
)
def test_quotes_ticks_and_bars_are_what_naive_loops_give(
    *,
    first: list[tuple[int, dict[str, str]]],
    second: list[tuple[int, dict[str, str]]],
    width: int,
    start: int,
    archived: bool,
    of: Any,
) -> None:
    """From any start, with whatever was before it."""
    rows = rows_of([first, second])
    inside = [row for row in rows if row.at >= start]
    with tempfile.TemporaryDirectory() as folder:
        opened = opened_with(folder, [first, second], archived=archived)
        begin = NOON + start * SECOND
        book = opened.quotes(AAPL, start=begin)
        trades = opened.ticks(AAPL, start=begin)
        found = opened.bars(AAPL, f"{width}s", start=begin, of=of)

    stamps = [(stamp.value // 1000 - NOON) // SECOND for stamp in pd.DatetimeIndex(found.index).as_unit("ns")]
    kept = [row for row in inside if row.first or differs(row, "84", "88", "86", "85")]
    expected_book = [[row.state.get(key, NAN) for key in ("84", "88", "86", "85")] for row in kept]
    expected_trades = [
        [row.state.get("31", NAN), row.state.get("7059", NAN), traded(row)] for row in inside if is_tick(row)
    ]
    edges = range(inside[0].at // width * width, inside[-1].at + 1, width) if inside else range(0)
    origin = (NOON // SECOND) % width  # bars are whole multiples since the epoch, not since noon
    assert origin == 0
    expected = [bar(rows, edge, edge + width, of, start) for edge in edges]
    actual = [
        [stamp, *values[:-1], int(values[-1])] for stamp, values in zip(stamps, found.to_numpy().tolist(), strict=True)
    ]
    assert same(expected_book, book[["bid", "bid_size", "ask", "ask_size"]].to_numpy().tolist())
    assert same(expected_trades, trades.to_numpy().tolist())
    assert same([list(map(float, row)) for row in expected], [list(map(float, row)) for row in actual])


def test_a_quote_has_a_mid_and_a_spread(layout: Layout) -> None:
    """NaN where a side is not known yet; what did not change is no row."""
    cells = [{"84": "10", "88": "100"}, {"86": "10.5", "85": "200"}, {"31": "10.2"}, {"84": "10"}, {"84": "10.1"}]
    write_session(layout, [Given(NOON + number, quote(number, one)) for number, one in enumerate(cells)])
    found = recorder.open(layout.root).quotes(AAPL)

    assert ["bid", "bid_size", "ask", "ask_size", "mid", "spread"] == found.columns.tolist()
    assert "ts_recv" == found.index.name
    assert [10.25, 10.3] == found["mid"].tolist()[1:]
    assert math.isnan(found["spread"].iloc[0])
    assert [0.5, 0.4] == found["spread"].round(9).tolist()[1:]


def test_the_prior_close_is_no_trade(layout: Layout) -> None:
    """Nor is a session's first frame, which tells what was traded before it."""
    cells = [{"31": "C10", "7762": "0"}, {"31": "C10"}, {"31": "11", "7059": "5", "7762": "5"}, {"7762": "3"}]
    write_session(layout, [Given(NOON + number, quote(number, one)) for number, one in enumerate(cells)])
    found = recorder.open(layout.root).ticks(AAPL)

    assert same([[11.0, 5.0, 5.0], [11.0, 5.0, NAN]], found.to_numpy().tolist())


def test_streams_of_other_exchanges_are_kept_apart(layout: Layout) -> None:
    """One is chosen by name; what cannot be meant is an error that says what there is."""
    frames = [
        json.dumps({"topic": f"smd+{AAPL}{exchange}", "conid": AAPL, "84": bid}).encode()
        for exchange, bid in (("", "1"), ("@NYSE", "2"), ("", "3"))
    ]
    write_session(layout, [Given(NOON + number, data) for number, data in enumerate(frames)])
    opened = recorder.open(layout.root)

    assert [1.0, 3.0] == opened.quotes(AAPL)["bid"].tolist()
    assert [2.0] == opened.quotes(AAPL, exchange="NYSE")["bid"].tolist()
    with pytest.raises(UsageError, match="was not recorded at ARCA"):
        opened.quotes(AAPL, exchange="ARCA")


def test_two_recorders_are_not_counted_twice(layout: Layout) -> None:
    """One of them is to be named."""
    for name, session in (("a", SESSION), ("b", LATER)):
        write_session(layout, [Given(NOON, quote(0)), Given(NOON + 1, quote(1))], recorder=name, session=session)
    opened = recorder.open(layout.root)

    with pytest.raises(UsageError, match="was recorded by a and b"):
        opened.bars(AAPL)
    assert 2 == len(opened.quotes(AAPL, recorder="b"))
    with pytest.raises(UsageError, match="there is no recorder 'c'"):
        opened.quotes(AAPL, recorder="c")


def micros(text: str) -> int:
    """Give a moment in microseconds."""
    return pd.Timestamp(text).value // 1000


def test_bars_of_a_session_begin_at_its_open_before_and_after_the_clocks_change(layout: Layout) -> None:
    """New York ended summer time on 1 November 2026: 9:30 there is 13:30 UTC on Friday and 14:30 on Monday."""
    stamps = [
        "2026-10-30T13:29:59Z",  # before the open: it stands at it
        "2026-10-30T13:30:10Z",
        "2026-10-30T19:59:59Z",
        "2026-10-30T20:00:00Z",  # the close is not in the session
        "2026-10-31T15:00:00Z",  # Saturday
        "2026-11-02T13:30:10Z",  # an hour before the open
        "2026-11-02T14:30:00Z",
        "2026-11-02T20:59:59Z",
    ]
    frames = [Given(micros(stamp), quote(number, {"84": str(number + 1)})) for number, stamp in enumerate(stamps)]
    write_session(layout, frames)
    found = recorder.open(layout.root).bars(AAPL, "1h", of="bid", calendar="XNYS")
    labels = pd.DatetimeIndex(found.index)
    days = found.groupby(labels.date)

    assert "America/New_York" == str(labels.tz)
    assert ["09:30", "09:30"] == [str(day.index[0].time())[:5] for _, day in days]
    assert [7, 7] == [len(day) for _, day in days]
    assert [1.0, 7.0] == [day["open"].iloc[0] for _, day in days]
    assert [3.0, 8.0] == [day["high"].max() for _, day in days]
    assert [2.0, 2.0, 2.0] == found["close"].tolist()[:3]


def test_a_session_with_a_break_has_no_bars_in_it(layout: Layout) -> None:
    """Hong Kong rests from 12:00 to 13:00, which is 04:00 to 05:00 UTC."""
    stamps = ["2026-11-20T03:58:00Z", "2026-11-20T04:30:00Z", "2026-11-20T05:01:00Z"]
    frames = [Given(micros(stamp), quote(number, {"86": str(number + 1)})) for number, stamp in enumerate(stamps)]
    write_session(layout, frames)
    found = recorder.open(layout.root).bars(AAPL, "1min", of="ask", calendar="XHKG")

    assert ["11:58", "11:59", "13:00", "13:01"] == [str(stamp.time())[:5] for stamp in found.index]
    assert [1.0, 1.0, 2.0, 3.0] == found["close"].tolist()


def test_what_is_no_bar_is_an_error(layout: Layout) -> None:
    """One line that names it; without rows there are no bars."""
    write_session(layout, [Given(NOON, quote(0))])
    opened = recorder.open(layout.root)

    with pytest.raises(UsageError, match="every: 'soon' is no length"):
        opened.bars(AAPL, "soon")
    with pytest.raises(UsageError, match="of: 'bids' is unknown"):
        opened.bars(AAPL, of="bids")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="calendar: 'NYSE!' is unknown"):
        opened.bars(AAPL, calendar="NYSE!")
    assert ["open", "high", "low", "close", "volume", "count"] == opened.bars(1).columns.tolist()
    assert 0 == len(opened.bars(1))
