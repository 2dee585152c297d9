"""Quotes and ticks: the top of book and the trades that conflated level-1 frames tell of, for one contract.

1. The broker sends what changed, at most about twice a second. What happened between two frames shows in neither: of
   several trades the last one's price and size, and the sum of all in the day's volume.
2. A session's first frame of a contract is its state, not a change: it is no tick, and what was traded before is not
   known.
3. What is computed of a row needs rows of the same session only, and is the same whatever `start` is.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.reading import Reader, Span
from recorder.errors import UsageError
from recorder.research.load import filled_sessions, select

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BOOK: Final = ("bid_price", "bid_size", "ask_price", "ask_size")
TRADE: Final = ("last_price", "last_size", "volume_long", "last_price_flag")


class Source(NamedTuple):
    """Which stream of a contract: of all exchanges or of one (`265598@NYSE`), and whose, if several recorded it."""

    conid: int
    span: Span
    exchange: str | None = None
    recorder: str | None = None


class Stream(NamedTuple):
    """The rows of one stream in order, filled: their times (microseconds), sessions (numbered) and values.

    Rows from before `span` are there as far as they were needed.
    """

    ts: npt.NDArray[np.int64]
    session: npt.NDArray[np.int64]
    columns: dict[str, Floats]
    closed: Mask
    """Whether `last_price` is the prior close, nothing having been traded yet (its letter is C)."""

    def inside(self, span: Span) -> Mask:
        """Say which rows lie in a span."""
        mask = np.ones(len(self.ts), np.bool_)
        if span.start is not None:
            mask &= self.ts >= span.start
        if span.end is not None:
            mask &= self.ts < span.end
        return mask

    def changed(self, *names: str) -> Mask:
        """Say where one of these values is not what it was in the row before; of a session's first row it is not."""
        found = np.zeros(len(self.ts), np.bool_)
        for name in names:
            value = self.columns[name]
            found[1:] |= (value[1:] != value[:-1]) & ~(np.isnan(value[1:]) & np.isnan(value[:-1]))
        return found & ~self.first

    @property
    def first(self) -> Mask:
        """Say which rows are a session's first."""
        begins: Mask = np.diff(self.session, prepend=-1) != 0
        return begins

    @property
    def traded(self) -> Floats:
        """What was traded since the row before: the growth of the day's volume; NaN where it is not known."""
        total = self.columns["volume_long"]
        grown = np.diff(total, prepend=np.nan)
        grown[self.first | (grown < 0)] = np.nan
        return grown

    @property
    def is_tick(self) -> Mask:
        """Say which rows tell of a trade."""
        return self.changed("last_price", "last_size", "volume_long") & ~self.closed


def load_stream(reader: Reader, source: Source, columns: tuple[str, ...]) -> Stream:
    """Read a stream's rows with these columns.

    `UsageError` if the contract was recorded of other exchanges only, or by several recorders, whose trades would count
    twice.
    """
    selection = select(reader.topics["market_data"], columns)
    found: dict[str, list[pa.Table]] = {}
    for recorder in _recorders(reader, source):
        tables = filled_sessions(reader, selection, conids=[source.conid], span=source.span, recorders=[recorder])
        if tables:
            found[recorder] = tables
    if len(found) > 1:
        raise UsageError(
            f"{source.conid} was recorded by {' and '.join(found)}: what was traded would count twice",
            hint=f"give as recorder one of them: recorder={next(iter(found))!r}",
        )
    return _stream(_of_exchange([table for tables in found.values() for table in tables], source), columns)


def _recorders(reader: Reader, source: Source) -> list[str]:
    known = reader.recorders()
    if source.recorder is None:
        return known
    if source.recorder not in known:
        raise UsageError(f"there is no recorder {source.recorder!r}", hint=f"recorders are: {', '.join(known)}")
    return [source.recorder]


def _of_exchange(tables: list[pa.Table], source: Source) -> list[pa.Table]:
    """Leave the rows of one stream of a contract."""
    chosen, streams = [], set()
    for table in tables:
        names = pc.unique(table["wire_topic"].unify_dictionaries()).to_pylist() if table.num_rows else []
        streams |= set(names)
        own = [name for name in names if _exchange(name) == source.exchange]
        if len(own) == len(names):
            chosen.append(table)
        elif own:
            chosen.append(table.filter(pc.is_in(table["wire_topic"].cast(pa.string()), pa.array(own))))
    if streams and not chosen:
        raise UsageError(
            f"{source.conid} was not recorded " + (f"at {source.exchange}" if source.exchange else "of all exchanges"),
            hint=f"give as exchange one of: {', '.join(sorted(_exchange(name) or 'None' for name in streams))}",
        )
    return chosen


def _exchange(wire_topic: str | None) -> str | None:
    return (wire_topic or "").partition("@")[2] or None


def _stream(tables: list[pa.Table], columns: tuple[str, ...]) -> Stream:
    numbers = [name for name in columns if name != "last_price_flag"]
    sessions = [np.full(table.num_rows, number) for number, table in enumerate(tables)]
    stamps = [table["ts_recv"].cast(pa.int64()).to_numpy() for table in tables]
    closed = [
        np.asarray(pc.equal(table["last_price_flag"], "C").fill_null(False))
        if "last_price_flag" in columns and table["last_price_flag"].null_count < table.num_rows
        else np.zeros(table.num_rows, np.bool_)
        for table in tables
    ]
    return Stream(
        np.concatenate([np.array([], np.int64), *stamps]),
        np.concatenate([np.array([], np.int64), *sessions]),
        {name: np.concatenate([np.array([]), *(_numbers(table[name]) for table in tables)]) for name in numbers},
        np.concatenate([np.array([], np.bool_), *closed]),
    )


def _numbers(column: pa.ChunkedArray) -> Floats:
    """Give a column as numbers, NaN where it is absent; times in microseconds, which a float holds exactly."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64()).cast(pa.float64())
    values: Floats = column.to_numpy()
    return values


def quotes(reader: Reader, source: Source) -> pd.DataFrame:
    """Give the top of book whenever it changed: bid, bid_size, ask, ask_size, mid, spread; indexed by `ts_recv`."""
    stream = load_stream(reader, source, BOOK)
    kept = np.flatnonzero(stream.inside(source.span) & (stream.first | stream.changed(*BOOK)))
    bid, bid_size, ask, ask_size = (stream.columns[name][kept] for name in BOOK)
    columns = {"bid": bid, "bid_size": bid_size, "ask": ask, "ask_size": ask_size}
    columns |= {"mid": (bid + ask) / 2, "spread": ask - bid}
    return pd.DataFrame(columns, index=times(stream.ts[kept], "ts_recv"), copy=False)


def ticks(reader: Reader, source: Source) -> pd.DataFrame:
    """Give the trades that frames tell of: price, size and volume, the growth of the day's; indexed by `ts_recv`."""
    stream = load_stream(reader, source, TRADE)
    kept = np.flatnonzero(stream.inside(source.span) & stream.is_tick)
    columns = {
        "price": stream.columns["last_price"][kept],
        "size": stream.columns["last_size"][kept],
        "volume": stream.traded[kept],
    }
    return pd.DataFrame(columns, index=times(stream.ts[kept], "ts_recv"), copy=False)


def times(stamps: npt.NDArray[np.int64], name: str) -> pd.DatetimeIndex:
    """Make an index of microseconds since the Unix epoch, UTC."""
    return pd.DatetimeIndex(stamps.astype("datetime64[us]"), name=name).tz_localize("UTC")
