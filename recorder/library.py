"""The library: an archive, opened for reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from operator import index
from pathlib import Path
from typing import Literal, get_args

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from recorder.archive.gaps import read_gaps, refuse_gaps
from recorder.archive.layout import open_layout
from recorder.archive.reading import Reader, Span
from recorder.errors import UsageError
from recorder.protocol.digest import ContentDigest
from recorder.protocol.instants import Instant, to_micros
from recorder.protocol.topics import load_topics
from recorder.replay.events import Event, replay
from recorder.replay.frames import frames, topic_digests
from recorder.replay.gap_events import with_gaps
from recorder.replay.pace import paced
from recorder.research.fill import load_filled
from recorder.research.gaps import gaps_frame, mark_after_gaps
from recorder.research.load import load_table, scan, to_frame
from recorder.types import KINDS, Frame, Kind

Gaps = Literal["raise", "mark", "ignore"]
"""What holes in the data come to when rows are loaded."""
ReplayGaps = Literal["raise", "event", "ignore"]
"""What holes in the data come to when rows are replayed."""


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
    ) -> pd.DataFrame:
        """Read a topic as a pandas table in the order of recording, indexed by `ts_recv`.

        `columns` narrows it, and may name known fields that are no columns. `fill` carries the values of sparse deltas
        forward. Ids that may be missing are `Int64`; `conid` is a plain integer. `gaps` says what holes in the data,
        which `gaps()` lists, come to: `raise` a `GapError`, `mark` them with a column `after_gap`, true for a
        contract's first row behind one, or `ignore` them.
        """
        return to_frame(self.table(topic, conid=conid, start=start, end=end, columns=columns, fill=fill, gaps=gaps))

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
    ) -> pa.Table:
        """Read a topic as an Arrow table, as `load` does, with `date`."""
        _check_choice("gaps", gaps, get_args(Gaps))
        reader, conids, span = self._reader, _conids(conid), _span(start, end)
        file = reader.topics[topic]
        if gaps == "raise":
            refuse_gaps(reader, topics=[topic], conids=conids, span=span)
        read = partial(load_filled if fill else load_table, reader, file, conids=conids, span=span)
        if gaps != "mark":
            return read(columns=columns)
        table = read(columns=None if columns is None else [*columns, "session"])
        marked = mark_after_gaps(table, read_gaps(reader, topics=[topic], conids=conids, span=span), reader)
        return marked.drop_columns([] if columns is None or "session" in columns else ["session"])

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

    def scan(self, topic: str) -> ds.Dataset:
        """Give a topic as a lazy Arrow dataset, to be filtered and narrowed before anything is read; not in order."""
        return scan(self._reader, self._reader.topics[topic])

    def replay(
        self,
        topics: str | Iterable[str] = ("market_data", "orders", "pnl"),
        *,
        conids: int | Iterable[int] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        columns: Sequence[str] | None = None,
        speed: float | None = None,
        gaps: ReplayGaps = "raise",
    ) -> Iterator[Event]:
        """Give recorded rows as records, in the order of recording: `event.topic`, `event.conid`, `event.bid_price`.

        Times are integer microseconds, UTC; absent numbers are NaN, absent integers and texts None. `speed` paces them:
        1 as recorded, 20 twenty times as fast; None does not wait.

        `gaps` says what holes in these topics come to, so that a backtest crosses none unknowingly: `raise` a
        `GapError` before anything is given, or an `event` where one begins and where it is over, of the topic `gaps`
        (`event.edge`, `event.of_topic`, `event.conid`, `event.start`, `event.end`, `event.cause`), or `ignore` them.
        """
        _check_choice("gaps", gaps, get_args(ReplayGaps))
        names = [topics] if isinstance(topics, str) else list(topics)
        files, chosen, span = [self._reader.topics[name] for name in names], _conids(conids), _span(start, end)
        if gaps == "raise":
            refuse_gaps(self._reader, topics=names, conids=chosen, span=span)
        stamped = replay(self._reader, files, conids=chosen, span=span, columns=columns)
        if gaps == "event":
            stamped = with_gaps(stamped, read_gaps(self._reader, topics=names, conids=chosen, span=span), span)
        return (event for _, event in stamped) if speed is None else paced(stamped, speed=speed)

    def frames(
        self,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        kinds: Iterable[Kind] = KINDS,
        topics: str | Iterable[str] | None = None,
        conids: int | Iterable[int] | None = None,
        speed: float | None = None,
    ) -> Iterator[Frame]:
        """Give recorded frames byte for byte, in order.

        `topics` keeps those that one of them claims, `conids` those that a row of these contracts came from.
        """
        names = [topics] if isinstance(topics, str) else topics
        stamped = frames(
            self._reader,
            span=_span(start, end),
            kinds=frozenset(kinds),
            topics=None if names is None else [self._reader.topics[name] for name in names],
            conids=_conids(conids),
        )
        return (frame for _, frame in stamped) if speed is None else paced(stamped, speed=speed)

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
