"""The library: an archive, opened for reading."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from operator import index
from pathlib import Path
from typing import get_args

import pandas as pd
import pyarrow as pa

from recorder.archive.gaps import read_gaps
from recorder.archive.layout import open_layout
from recorder.archive.reading import Reader, Span
from recorder.errors import UsageError
from recorder.protocol.digest import ContentDigest
from recorder.protocol.instants import Instant, to_micros
from recorder.protocol.topics import load_topics
from recorder.replay.ahead import paced_ahead
from recorder.replay.blocks import elements_of
from recorder.replay.events import Event
from recorder.replay.frames import FrameChoice, frame_blocks, topic_digests
from recorder.replay.pace import paced
from recorder.replay.selection import ReplayGaps, Selection, Speed, check_gaps, factor, followed_frames
from recorder.research.bars import Of, bars
from recorder.research.frame import Backend, to_frame
from recorder.research.gaps import gaps_frame
from recorder.research.load import load_state
from recorder.research.orders import load_order
from recorder.research.quotes import Source, quotes, ticks
from recorder.research.scan import Scan, scan
from recorder.research.view import Gaps, View, view_table
from recorder.types import KINDS, Frame, Kind


class Archive:
    """What one or more captures recorded into a folder; frames that are still in the journal are part of it.

    Times (`start`, inclusive, and `end`, exclusive) are texts, datetimes or Timestamps and filter `ts_recv`; naive
    means UTC. `conid` and `conids` take one contract or several. Every method raises `Damaged` when a file on disk is
    not what was written, and `UsageError` for unknown names.
    """

    def __init__(self, path: str | Path) -> None:
        self._reader = Reader(open_layout(Path(path)), load_topics())

    def load(
        self,
        topic: str,
        *,
        conid: int | Iterable[int] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        columns: Sequence[str] | None = None,
        fill: bool = False,
        gaps: Gaps = "ignore",
        revisions: bool = False,
        symbols: bool = False,
        dtype_backend: Backend | None = None,
    ) -> pd.DataFrame:
        """Read a topic as a pandas table in the order of recording, indexed by `ts_recv`.

        `columns` narrows it, and may name known fields that are no columns; a price among them brings `<name>_flag`,
        the letter before it (C: the prior close, H: halted). `fill` carries the values of sparse deltas forward: each
        row is the whole state of its contract, order or account since its session began, also from before `start`.
        `gaps` says what holes in the data, which `gaps()` lists, come to: `raise` a `GapError` for one from `start` to
        `end`, `mark` them with a column `after_gap`, true for a contract's first row behind one (also one that was over
        before `start`), or `ignore` them. The broker tells an execution several times: its last revision is given, or
        with `revisions` each that differs. `symbols` adds the column `symbol`, from what a capture looked up.

        Ids that may be missing are `Int64`; `conid` is a plain integer. `dtype_backend` is pandas' own.
        """
        table = self.table(
            topic,
            conid=conid,
            start=start,
            end=end,
            columns=columns,
            fill=fill,
            gaps=gaps,
            revisions=revisions,
            symbols=symbols,
        )
        return to_frame(table, dtype_backend)

    def table(
        self,
        topic: str,
        *,
        conid: int | Iterable[int] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        columns: Sequence[str] | None = None,
        fill: bool = False,
        gaps: Gaps = "ignore",
        revisions: bool = False,
        symbols: bool = False,
    ) -> pa.Table:
        """Read a topic as an Arrow table, as `load` does, with `date`."""
        _check_choice("gaps", gaps, get_args(Gaps))
        return view_table(
            self._reader,
            self._reader.topics[topic],
            View(fill, gaps, revisions, symbols),
            conids=_conids(conid),
            span=_span(start, end),
            columns=columns,
        )

    def gaps(
        self,
        topic: str | Iterable[str] | None = None,
        *,
        conid: int | Iterable[int] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
    ) -> pd.DataFrame:
        """List the gap ledger: a row for each hole in the data, and for what only looks like one (`information`).

        Columns: `recorder`, `session`, `topic`, `conid` (missing: the whole topic), `start`, `end` (missing: it is
        open), `cause`, `evidence`, `information`. A gap is listed if it touches the time from `start` to `end`, and for
        a contract also if it is its whole topic's. In the order of starts.
        """
        names = [topic] if isinstance(topic, str) else topic
        topics = None if names is None else [self._reader.topics[name].name for name in names]
        return gaps_frame(read_gaps(self._reader, topics=topics, conids=_conids(conid), span=_span(start, end)))

    def scan(
        self,
        topic: str,
        *,
        conid: int | Iterable[int] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        columns: Sequence[str] | None = None,
    ) -> Scan:
        """Give a topic as a lazy Arrow dataset, to be filtered and narrowed before anything is read; not in order.

        Its `polars()` and `duckdb()` give the same to polars and DuckDB, without a copy.
        """
        return scan(
            self._reader, self._reader.topics[topic], conids=_conids(conid), span=_span(start, end), columns=columns
        )

    def state(
        self,
        topic: str,
        *,
        at: Instant,
        conid: int | Iterable[int] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Give all that was known at a moment: one row for each contract's stream, order or account of a topic.

        Rows received at `at` count. It is what the session that ran then had told, or the last one before it. A row's
        index, `seq` and `ts_event` are those of the last row that spoke of it; `extra` has the last value of each key.
        """
        moment = to_micros(at, what="at")
        if moment is None:
            raise UsageError("at: a moment is needed", hint="give a text, a datetime or a pandas Timestamp")
        topic_ = self._reader.topics[topic]
        return to_frame(load_state(self._reader, topic_, moment, conids=_conids(conid), columns=columns))

    def order(self, order_id: int, *, start: Instant | None = None, end: Instant | None = None) -> pd.DataFrame:
        """Give an order's life: its whole state at each change, in order; `UsageError` if it was not recorded."""
        return to_frame(load_order(self._reader, order_id, span=_span(start, end)))

    def quotes(
        self,
        conid: int,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        exchange: str | None = None,
        recorder: str | None = None,
    ) -> pd.DataFrame:
        """Give a contract's top of book whenever it changed: bid, bid_size, ask, ask_size, mid, spread.

        Prices are in contract currency, sizes in shares or contracts; NaN is what was not told yet. The broker
        conflates quotes (about two a second): what stood for less than that may be missing. `exchange` is that of a
        stream which was asked for by exchange (`265598@NYSE`); `recorder` is needed if several recorded the contract.
        """
        return quotes(self._reader, Source(conid, _span(start, end), exchange, recorder))

    def ticks(
        self,
        conid: int,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        exchange: str | None = None,
        recorder: str | None = None,
    ) -> pd.DataFrame:
        """Give the trades that a contract's frames tell of: price, size, volume.

        A row is a frame in which the last price, its size or the day's volume changed. The broker conflates: of several
        trades between two frames only the last one's price and size are seen, and prices between are lost. `volume` is
        the growth of `volume_long` and so counts all of them; NaN where that was not recorded, or fell (a new day, or a
        correction). Trades before a session's first frame, and during a gap, are in no row, or in the first one after.
        """
        return ticks(self._reader, Source(conid, _span(start, end), exchange, recorder))

    def bars(
        self,
        conid: int,
        every: str | pd.Timedelta = "1min",
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        of: Of = "last",
        calendar: str | None = None,
        exchange: str | None = None,
        recorder: str | None = None,
    ) -> pd.DataFrame:
        """Give bars of the last price, the mid, the bid or the ask: open, high, low, close, volume, count.

        A bar holds what came from its label on, before the next. With a `calendar` (`XNYS`; exchange_calendars' codes)
        only trading hours count, bars begin at the open, and labels are in the exchange's zone. Quotes stand until the
        next one; a bar without a trade has no prices. `volume` is the growth of `volume_long`, NaN where that is not
        known; `count` counts ticks or changes of the quote. As the broker conflates, highs and lows are those of what
        was sent: a bar's true range may be wider.
        """
        source = Source(conid, _span(start, end), exchange, recorder)
        return bars(self._reader, source, every=every, of=of, calendar=calendar)

    def replay(
        self,
        topics: str | Iterable[str] = ("market_data", "orders", "pnl"),
        *,
        conids: int | Iterable[int] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        columns: Sequence[str] | None = None,
        speed: Speed = None,
        gaps: ReplayGaps = "raise",
        follow: bool = False,
    ) -> Iterator[Event]:
        """Give recorded rows as records, in the order of recording: `event.topic`, `event.conid`, `event.bid_price`.

        Times are integer microseconds, UTC; absent numbers are NaN, absent integers and texts None. `speed` paces them:
        1 as recorded, 20 twenty times as fast; None, or `max`, does not wait.

        `gaps` says what holes in these topics come to, so that a backtest crosses none unknowingly: `raise` a
        `GapError` before anything is given, or an `event` where one begins and where it is over, of the topic `gaps`
        (`event.edge`, `event.of_topic`, `event.conid`, `event.start`, `event.end`, `event.cause`), or `ignore` them.

        `follow` goes on with what running captures record, each event once and in the same order, until `end`, or for
        ever: close the iterator. It waits for what comes; a hole that opens meanwhile is treated as `gaps` says.
        """
        selection, pace = self._selection(topics, conids, _span(start, end), columns, gaps), factor(speed)
        selection.refuse_gaps(self._reader)
        blocks = selection.followed(self._reader, time.sleep) if follow else selection.blocks(self._reader)
        return elements_of(blocks) if pace is None else paced(blocks, speed=pace)

    def replay_async(
        self,
        topics: str | Iterable[str] = ("market_data", "orders", "pnl"),
        *,
        conids: int | Iterable[int] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        columns: Sequence[str] | None = None,
        speed: Speed = None,
        gaps: ReplayGaps = "raise",
        follow: bool = False,
    ) -> AsyncIterator[Event]:
        """Give what `replay` gives, in the same order, to `async for`: a thread reads ahead, the loop is not held up.

        What goes wrong while reading is raised where the events are taken; so is a `GapError`, before the first. The
        thread ends with the iteration: at its end, or when the task is cancelled or the iterator closed (`aclose`, or
        `contextlib.aclosing`).
        """
        selection, pace = self._selection(topics, conids, _span(start, end), columns, gaps), factor(speed)
        selection.records()  # unknown columns are told here
        stop = threading.Event()
        blocks = selection.refused_or_blocks(self._reader, stop.wait if follow else None)
        return paced_ahead(blocks, speed=pace, stop=stop)

    def _selection(
        self,
        topics: str | Iterable[str],
        conids: int | Iterable[int] | None,
        span: Span,
        columns: Sequence[str] | None,
        gaps: ReplayGaps,
    ) -> Selection:
        check_gaps(gaps)
        names = [topics] if isinstance(topics, str) else topics
        return Selection([self._reader.topics[name] for name in names], _conids(conids), span, columns, gaps)

    def frames(
        self,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        kinds: Iterable[Kind] = KINDS,
        topics: str | Iterable[str] | None = None,
        conids: int | Iterable[int] | None = None,
        speed: Speed = None,
        follow: bool = False,
    ) -> Iterator[Frame]:
        """Give recorded frames byte for byte, in order; `follow` goes on with what running captures record.

        `topics` keeps those that one of them claims, `conids` those that a row of these contracts came from.
        """
        names = [topics] if isinstance(topics, str) else topics
        chosen = None if names is None else frozenset(self._reader.topics[name].name for name in names)
        choice, pace = FrameChoice(_span(start, end), frozenset(kinds), chosen), factor(speed)
        if follow:
            blocks = followed_frames(self._reader, choice, conids=_conids(conids), wait=time.sleep)
        else:
            blocks = frame_blocks(self._reader, choice, conids=_conids(conids))
        return elements_of(blocks) if pace is None else paced(blocks, speed=pace)

    def digests(self, *, start: Instant | None = None, end: Instant | None = None) -> dict[str, ContentDigest]:
        """Compute the content digest of each topic's received frames, in the order of replay."""
        return topic_digests(self._reader, span=_span(start, end))


def _check_choice(option: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise UsageError(f"{option}: {given!r} is no choice", hint=f"use one of: {', '.join(allowed)}")


def _conids(given: int | Iterable[int] | None) -> list[int] | None:
    if given is None:
        return None
    try:
        return [index(conid) for conid in (given if isinstance(given, Iterable) else [given])]
    except TypeError:
        raise UsageError(f"conid: {given!r} is not a contract id", hint="give integers, such as 265598") from None


def _span(start: Instant | None, end: Instant | None) -> Span:
    return Span(to_micros(start, what="start"), to_micros(end, what="end"))
