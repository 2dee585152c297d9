"""Stream checks: what the rows of one contract's stream say about their own quality, as they pass.

1. Rows come in order, some at a time; what is kept between them does not grow with their number, but for the silences,
   of which a day has few.
2. An absent value is unchanged, as everywhere, and nothing is carried from one session to the next.
3. The broker's time is that of sending only in some topics: a bar's, say, is long past when it comes. Only of `SENT`
   are delay, order and repetition judged by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recorder.protocol.tables import topic_schema
from recorder.protocol.topics import Topic
from recorder.research.delays import Delays
from recorder.research.quotes import BOOK
from recorder.research.spans import Stretch

SENT: Final = frozenset({"market_data", "system"})
"""Topics whose `ts_event` is when the broker sent the row."""
QUOTED: Final = "market_data"
NOT_LIVE: Final = frozenset("DZYN")
"""Letters of field 6509 (the broker's document): delayed, frozen, both, not subscribed."""
_AVAILABILITY: Final = "market_data_availability"
_STREAM: Final = "wire_topic"
_UNCOMPARED: Final = frozenset({"date", "conid", "ts_recv", "session", "seq"})

Mask = npt.NDArray[np.bool_]


def checked_columns(topic: Topic) -> list[str]:
    """Name the columns that a check of a topic looks at: all where repetition is judged."""
    if topic.name == QUOTED:
        return list(topic_schema(topic).names)
    return ["ts_recv", "seq", *(["ts_event"] if topic.name in SENT else [])]


class StreamCheck:
    """Checks the rows of one topic and contract that one recorder recorded.

    `silence` is how long (microseconds) nothing may come before it counts; `bins` the moments that cut the time into
    stretches whose rows are counted.
    """

    def __init__(self, topic: Topic, *, silence: int, bins: npt.NDArray[np.int64]) -> None:
        self.rows = 0
        self.first: int | None = None
        self.last: int | None = None
        self.silences: list[Stretch] = []
        self.activity = np.zeros(len(bins) - 1, np.int64)
        self.latency = Delays()
        self.backwards = 0
        self.repeated = 0
        self.quotes = 0
        self.crossed = 0
        self.locked = 0
        self.availability: dict[str, int] = {}
        self._topic = topic
        self._silence = silence
        self._bins = bins
        self._session = ""
        self._sent = 0
        self._before: dict[str | None, pa.Table] = {}
        self._state: dict[tuple[str | None, str], Any] = {}

    def add(self, table: pa.Table, session: str) -> None:
        """Take the next rows, of one session, with the `checked_columns`."""
        if not table.num_rows:
            return
        if session != self._session:
            self._session, self._sent = session, 0
            self._before, self._state = {}, {}
        stamps = table["ts_recv"].cast(pa.int64()).to_numpy()
        self._count(stamps)
        if self._topic.name in SENT:
            self._check_times(table["ts_event"], stamps)
        if self._topic.name == QUOTED:
            for stream, own in _streams(table):
                self._check_book(stream, own)
                self._check_availability(stream, own)
                self._check_repetition(stream, own)

    def _count(self, stamps: npt.NDArray[np.int64]) -> None:
        before = stamps[0] if self.last is None else self.last
        latest = np.maximum.accumulate(np.maximum(stamps, before))
        steps = np.diff(latest, prepend=before)
        for place in np.flatnonzero(steps > self._silence):
            self.silences.append((int(latest[place] - steps[place]), int(latest[place])))
        self.rows += len(stamps)
        self.first = int(stamps.min()) if self.first is None else min(self.first, int(stamps.min()))
        self.last = int(latest[-1])
        self.activity += np.histogram(stamps, self._bins)[0]

    def _check_times(self, sent: pa.ChunkedArray, stamps: npt.NDArray[np.int64]) -> None:
        known = np.asarray(sent.is_valid())
        if not known.any():
            return
        events = sent.drop_null().cast(pa.int64()).to_numpy()
        self.latency.add(stamps[known] - events)
        self.backwards += int((np.diff(events, prepend=self._sent) < 0).sum())
        self._sent = int(events[-1])

    def _check_book(self, stream: str | None, table: pa.Table) -> None:
        """Count the quotes with both sides, and those in which they cross or meet; a side of size 0 is none."""
        values = {name: self._carried(stream, name, table[name]) for name in BOOK}
        changed = np.zeros(table.num_rows, np.bool_)
        for name in BOOK:
            changed |= np.asarray(table[name].is_valid())
        bid, bid_size, ask, ask_size = values.values()
        quoted = changed & ~np.isnan(bid) & ~np.isnan(ask) & (bid_size != 0) & (ask_size != 0)
        self.quotes += int(quoted.sum())
        self.crossed += int((quoted & (bid > ask)).sum())
        self.locked += int((quoted & (bid == ask)).sum())

    def _carried(self, stream: str | None, name: str, column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
        before = self._state.get((stream, name))
        filled = pc.fill_null_forward(column)
        if before is not None and filled.null_count:
            filled = filled.fill_null(before)
        last = filled[len(filled) - 1].as_py()
        if last is not None:
            self._state[stream, name] = last
        values: npt.NDArray[np.float64] = filled.to_numpy()
        return values

    def _check_availability(self, stream: str | None, table: pa.Table) -> None:
        """Count rows by what field 6509 says of them: it comes now and then, and holds until it comes again."""
        key = stream, _AVAILABILITY
        column = table[_AVAILABILITY]
        if column.null_count < len(column):
            told = np.flatnonzero(np.asarray(column.is_valid()))
            ends = np.append(told[1:], len(column))
            letters = column.take(pa.array(told)).to_pylist()
        else:
            told, ends, letters = np.array([], np.int64), np.array([], np.int64), []
        begin = int(told[0]) if len(told) else len(column)
        self._count_letters(self._state.get(key), begin)
        for text, start, end in zip(letters, told.tolist(), ends.tolist(), strict=True):
            self._count_letters(text, end - start)
        if letters:
            self._state[key] = letters[-1]

    def _count_letters(self, letters: str | None, rows: int) -> None:
        if rows:
            known = letters or ""
            self.availability[known] = self.availability.get(known, 0) + rows

    def _check_repetition(self, stream: str | None, table: pa.Table) -> None:
        """Count the rows that say what the one before said, at the same time of the broker's."""
        before = self._before.get(stream)
        rows = table if before is None else pa.concat_tables([before, table])
        self._before[stream] = rows.take([rows.num_rows - 1])  # a slice would keep all of them in memory
        sent = rows["ts_event"].cast(pa.int64())
        same = np.asarray(pc.equal(sent.slice(1), sent.slice(0, len(sent) - 1)).fill_null(False))
        places = np.flatnonzero(same) + 1
        if not len(places):
            return
        these, those = rows.take(pa.array(places)), rows.take(pa.array(places - 1))
        alike = np.ones(len(places), np.bool_)
        for name in rows.column_names:
            if name not in _UNCOMPARED:
                alike &= _equal(these[name], those[name])
        self.repeated += int(alike.sum())


def _streams(table: pa.Table) -> Iterator[tuple[str | None, pa.Table]]:
    """Give the rows of each stream of a contract: `265598`, `265598@NYSE`."""
    names = pc.unique(table[_STREAM]).to_pylist()
    if len(names) == 1:
        yield names[0], table
        return
    for name in names:
        same = table[_STREAM].is_null() if name is None else pc.equal(table[_STREAM], name).fill_null(False)
        yield name, table.filter(same)


def _equal(these: pa.ChunkedArray, those: pa.ChunkedArray) -> Mask:
    """Say where two columns say the same; two absent values do."""
    if these.null_count == len(these) and those.null_count == len(those):
        return np.ones(len(these), np.bool_)
    if pa.types.is_map(these.type):
        return np.array([one == other for one, other in zip(these.to_pylist(), those.to_pylist(), strict=True)])
    absent = pc.and_(these.is_null(), those.is_null())
    return np.asarray(pc.or_(pc.equal(these, those).fill_null(False), absent))
