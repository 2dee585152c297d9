"""Quality: what a date's recording is worth, contract by contract, in figures.

1. Covered is a moment of the session's hours that no gap of the ledger touches, of a contract that was recorded by
   then: from its first row on, or all the time if it was recorded on earlier dates.
2. The hours are those of a trading calendar; without one, from the first row of what was subscribed to the last, for a
   contract that was not recorded before from its own first row.
3. Times of broker and recorder are compared as they are. How far their clocks differ, heartbeats say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from recorder.archive.gaps import GapRow
from recorder.protocol.topics import Topic
from recorder.research.day_rows import DayPieces
from recorder.research.delays import Delays
from recorder.research.spans import Stretch, common, length, union
from recorder.research.stream_check import NOT_LIVE, QUOTED, SENT, StreamCheck

BINS: Final = 144
"""Into how many stretches a day is cut where something is drawn over time."""
_EVER: Final = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class DelaySummary:
    """A distribution of delays in seconds; `p50` and `p99` are right to 1%."""

    count: int
    low: float
    p50: float
    p99: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseSum:
    """The gaps of one cause within the hours: how many, how many seconds, the longest; `information`: none missed."""

    cause: str
    information: bool
    count: int
    seconds: float
    longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamQuality:
    """What one recorder's rows of one topic and contract are worth; conid 0 is not about one contract.

    `coverage` is a share of the hours, None for topics that come unasked. `quotes` are rows that gave or changed a
    quote with both sides, `crossed` and `locked` those of them whose bid was above or at the ask. `silences` are
    stretches without a row, within the hours and outside of gaps, that were longer than asked. `repeated` rows say
    what the one before said at the same time of the broker's; `backwards` rows have a broker's time before that of the
    row before. `availability` counts rows by the letters of field 6509, of which those `not_live` are delayed, frozen
    or not subscribed. None is what cannot be said of the topic. Times are microseconds.
    """

    recorder: str
    topic: str
    conid: int
    symbol: str | None
    rows: int
    first: int
    last: int
    coverage: float | None
    gaps: tuple[CauseSum, ...]
    quotes: int | None
    crossed: int | None
    locked: int | None
    silences: int | None
    longest_silence: float | None
    repeated: int | None
    backwards: int | None
    latency: DelaySummary | None
    availability: dict[str, int] | None
    not_live: int | None
    bytes: int
    activity: tuple[int, ...]

    @property
    def longest_gap(self) -> float:
        """The longest time in which something was missed, seconds."""
        return max((gap.longest for gap in self.gaps if not gap.information), default=0.0)

    @property
    def gap_count(self) -> int:
        """How many gaps there were."""
        return sum(gap.count for gap in self.gaps if not gap.information)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayQuality:
    """What was recorded on a date: its hours, its streams, its gaps, and how far the broker's clock differs.

    `clock` is the recorder's time at the receipt of heartbeats less the broker's time in them. `bins` are the bounds of
    the stretches for which `activity` of the streams counts rows, and `latency` gives median and 99th percentile.
    """

    date: str
    calendar: str | None
    silence: float
    hours: tuple[Stretch, ...]
    streams: tuple[StreamQuality, ...]
    gaps: tuple[GapRow, ...]
    clock: DelaySummary | None
    bins: tuple[int, ...]
    latency: tuple[tuple[float, float] | None, ...]


def summary(delays: Delays) -> DelaySummary | None:
    """Give a distribution in seconds, None of nothing."""
    p50, p99 = delays.at(0.5), delays.at(0.99)
    if p50 is None or p99 is None:
        return None
    return DelaySummary(count=delays.count, low=delays.low / 1e6, p50=p50 / 1e6, p99=p99 / 1e6, high=delays.high / 1e6)


class Judge:
    """Makes figures of checks: of one recorder's streams on one date, by its hours and its gaps.

    `scheduled` hours are a calendar's.
    """

    def __init__(
        self, day: DayPieces, hours: Sequence[Stretch], gaps: Sequence[GapRow], *, scheduled: bool, silence: int
    ) -> None:
        self._day = day
        self._scheduled = scheduled
        self._hours = union(hours)
        self._gaps = [gap for gap in gaps if gap.recorder == day.recorder]
        self._silence = silence

    def quality(self, topic: Topic, conid: int, check: StreamCheck, *, symbol: str | None, size: int) -> StreamQuality:
        """Give the figures of a stream."""
        assert check.first is not None, "a stream is one that has rows"
        assert check.last is not None, "as above"
        gaps = [gap for gap in self._gaps if gap.topic == topic.name and gap.conid in (None, conid or None)]
        recorded = self._recorded(topic, conid, check.first)
        silences = self._silences(check, gaps, recorded)
        quoted, sent = topic.name == QUOTED, topic.name in SENT
        return StreamQuality(
            recorder=self._day.recorder,
            topic=topic.name,
            conid=conid,
            symbol=symbol,
            rows=check.rows,
            first=check.first,
            last=check.last,
            coverage=None if topic.subscription is None else self._coverage(gaps, recorded),
            gaps=tuple(self._causes(gaps)),
            quotes=check.quotes if quoted else None,
            crossed=check.crossed if quoted else None,
            locked=check.locked if quoted else None,
            silences=len(silences) if quoted else None,
            longest_silence=max(silences, default=0) / 1e6 if quoted else None,
            repeated=check.repeated if quoted else None,
            backwards=check.backwards if sent else None,
            latency=summary(check.latency),
            availability=check.availability if quoted else None,
            not_live=_not_live(check.availability) if quoted else None,
            bytes=size,
            activity=tuple(check.activity.tolist()),
        )

    def _recorded(self, topic: Topic, conid: int, first: int) -> Stretch:
        """Find from when to when a stream can have been recorded, gaps apart."""
        day = self._day
        by_contract = topic.subscription is not None and topic.subscription.per == "contract"
        if by_contract:
            begin = -_EVER if day.before is not None and (topic.name, conid) in day.before else first
        else:
            begin = day.first if day.before is None else -_EVER
        return begin, (_EVER if day.goes_on else day.last)

    def _coverage(self, gaps: Sequence[GapRow], recorded: Stretch) -> float | None:
        hours = self._hours if self._scheduled else common(self._hours, [recorded])
        whole = length(hours)
        if not whole:
            return None
        missed = [_stretch(gap, self._day.last) for gap in gaps if not gap.information]
        missed += [(-_EVER, recorded[0]), (recorded[1], _EVER)]
        return 1 - length(common(hours, missed)) / whole

    def _causes(self, gaps: Sequence[GapRow]) -> list[CauseSum]:
        found: dict[tuple[str, bool], list[int]] = {}
        for gap in gaps:
            inside = length(common(self._hours, [_stretch(gap, self._day.last)]))
            if inside or gap.start == gap.end:
                found.setdefault((gap.cause, gap.information), []).append(inside)
        return [
            CauseSum(
                cause=cause,
                information=information,
                count=len(lengths),
                seconds=sum(lengths) / 1e6,
                longest=max(lengths) / 1e6,
            )
            for (cause, information), lengths in sorted(found.items())
        ]

    def _silences(self, check: StreamCheck, gaps: Sequence[GapRow], recorded: Stretch) -> list[int]:
        """Measure the stretches without a row that are longer than asked once gaps are taken out."""
        assert check.first is not None, "as in `quality`"
        assert check.last is not None, "as in `quality`"
        known = [_stretch(gap, self._day.last) for gap in gaps]
        edges = [(recorded[0], check.first), (check.last, recorded[1])]
        found = []
        for silence in [*check.silences, *edges]:
            within = common(self._hours, [silence])
            left = length(within) - length(common(within, known))
            if left > self._silence:
                found.append(left)
        return found


def _stretch(gap: GapRow, last: int) -> Stretch:
    """Give a gap's time; one that is open lasts at least as long as anything was recorded."""
    return gap.start, max(gap.start, last) if gap.end is None else gap.end


def _not_live(availability: dict[str, int]) -> int:
    return sum(rows for letters, rows in availability.items() if NOT_LIVE & set(letters))


def bins_of(first: int, last: int) -> npt.NDArray[np.int64]:
    """Cut the time between two moments into stretches, the last moment included."""
    return np.linspace(first, max(last + 1, first + BINS), BINS + 1).astype(np.int64)


class LatencyLine:
    """Delays over time: those of all contracts together, for each stretch."""

    def __init__(self, bins: npt.NDArray[np.int64]) -> None:
        self._bins = bins
        self._delays = [Delays() for _ in pairwise(bins)]

    def add(self, stamps: npt.NDArray[np.int64], delays: npt.NDArray[np.int64]) -> None:
        """Count delays of rows that came at these moments."""
        places = np.clip(np.searchsorted(self._bins, stamps, side="right") - 1, 0, len(self._delays) - 1)
        order = np.argsort(places, kind="stable")
        cuts = np.flatnonzero(np.diff(places[order])) + 1
        for own in np.split(order, cuts) if len(order) else []:
            self._delays[int(places[own[0]])].add(delays[own])

    def shares(self) -> tuple[tuple[float, float] | None, ...]:
        """Give median and 99th percentile of each stretch, seconds; None where nothing came."""
        pairs = [(one.at(0.5), one.at(0.99)) for one in self._delays]
        return tuple(None if low is None or high is None else (low / 1e6, high / 1e6) for low, high in pairs)
