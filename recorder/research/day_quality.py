"""Day quality: the checks of everything that was recorded on a date."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.archive.covered import covering_parts
from recorder.archive.gaps import GapRow, read_gaps
from recorder.archive.pieces import Piece
from recorder.archive.reading import Reader, Span
from recorder.errors import Damaged, UsageError
from recorder.protocol.topics import Topic
from recorder.research.contracts import contract_symbols
from recorder.research.day_rows import DayPieces, Rows, day_pieces, last_date, rows_of
from recorder.research.delays import Delays
from recorder.research.quality import DayQuality, Judge, LatencyLine, StreamQuality, bins_of, summary
from recorder.research.spans import Stretch, common
from recorder.research.stream_check import QUOTED, StreamCheck
from recorder.research.trading import trading_hours

_TRIES: Final = 20
_HEARTBEATS: Final = "system"

Watch = Callable[[float], None]
Id = tuple[str, str, int]
"""A recorder, a topic, a contract."""


def day_quality(
    reader: Reader,
    date: str | None = None,
    *,
    calendar: str | None = None,
    silence: float = 60.0,
    now: int | None = None,
    watch: Watch = lambda _frames: None,
) -> DayQuality:
    """Judge what was recorded on a date (`2026-11-20`; default: the last one there is), the journal included.

    With a `calendar` (`XNYS`; exchange_calendars' codes) the hours are those of its trading, as far as they are before
    `now`. `silence` is how many seconds without a row of market data count as one. `watch` hears how many frames were
    read. `UsageError` if nothing was recorded, `Damaged` for a file that is not what was written.
    """
    chosen = last_date(reader) if date is None else date
    for _ in range(_TRIES):
        try:
            days = day_pieces(reader, chosen) if chosen is not None else []
            if not days:
                raise UsageError(
                    f"nothing was recorded on {chosen}" if chosen else "nothing was recorded",
                    hint="`recorder inspect` lists the dates",
                )
            assert chosen is not None, "there are days only of a date"
            return _Day(reader, chosen, days, silence=round(silence * 1e6), watch=watch).quality(calendar, now)
        except FileNotFoundError as exc:
            gone = Path(exc.filename) if exc.filename else reader.layout.root  # it became another file meanwhile
    raise Damaged("the file is missing", path=gone, offset=0, hint="restore it from a copy")


class _Day:
    """One attempt at a date."""

    def __init__(self, reader: Reader, date: str, days: Sequence[DayPieces], *, silence: int, watch: Watch) -> None:
        self._reader = reader
        self._date = date
        self._days = days
        self._silence = silence
        self._watch = watch
        self._checks: dict[Id, tuple[Topic, StreamCheck]] = {}
        self._sizes: dict[Id, int] = {}
        self._clock = Delays()
        self._frames = 0

    def quality(self, calendar: str | None, now: int | None) -> DayQuality:
        first, last = min(day.first for day in self._days), max(day.last for day in self._days)
        hours = self._hours(calendar, now)
        bins = bins_of(min([first, *(begin for begin, _ in hours)]), max([last, *(end for _, end in hours)]))
        line = LatencyLine(bins)
        for day in self._days:
            for piece in day.pieces:
                self._read(piece, bins, line)
        if calendar is None:
            hours = self._span_of_rows()
        gaps = read_gaps(self._reader, span=Span(int(bins[0]), int(bins[-1])))
        return DayQuality(
            date=self._date,
            calendar=calendar,
            silence=self._silence / 1e6,
            hours=tuple(hours),
            streams=tuple(self._streams(hours, gaps, scheduled=calendar is not None)),
            gaps=tuple(gaps),
            clock=summary(self._clock),
            bins=tuple(bins.tolist()),
            latency=line.shares(),
        )

    def _hours(self, calendar: str | None, now: int | None) -> list[Stretch]:
        if calendar is None:
            return []
        noon = (self._days[0].first + self._days[0].last) // 2
        start, end = self._reader.layout.boundary.day_of(noon)[1:]
        hours = trading_hours(calendar, start, end)
        known = end if now is None else min(end, max(now, *(day.last for day in self._days)))
        return common(zip(hours.begin.tolist(), hours.end.tolist(), strict=True), [(start, known)])

    def _span_of_rows(self) -> list[Stretch]:
        asked = [check for topic, check in self._checks.values() if topic.subscription is not None]
        firsts = [check.first for check in asked if check.first is not None]
        lasts = [check.last for check in asked if check.last is not None]
        return [(min(firsts), max(lasts))] if firsts and min(firsts) < max(lasts) else []

    def _read(self, piece: Piece, bins: npt.NDArray[np.int64], line: LatencyLine) -> None:
        for rows in rows_of(self._reader, piece):
            if rows.topic.mark is not None:
                continue
            key = piece.recorder, rows.topic.name, rows.conid
            if key not in self._checks:
                self._checks[key] = rows.topic, StreamCheck(rows.topic, silence=self._silence, bins=bins)
            self._checks[key][1].add(rows.table, rows.session)
            self._compare_clocks(rows, line)
        if piece.commit is None:
            return
        self._frames += piece.commit.last - piece.commit.first + 1
        self._watch(self._frames)
        for name in piece.commit.partitions:
            topic, _, conid = name.split("/")
            key = piece.recorder, topic, int(conid.removeprefix("conid="))
            if topic in piece.commit.topics:
                parts = covering_parts(self._reader.layout, piece.commit, self._reader.topics[topic], key[2])
                self._sizes[key] = self._sizes.get(key, 0) + sum(path.stat().st_size for path, _ in parts)

    def _compare_clocks(self, rows: Rows, line: LatencyLine) -> None:
        if rows.topic.name not in (QUOTED, _HEARTBEATS):
            return
        known = np.asarray(rows.table["ts_event"].is_valid())
        stamps = rows.table["ts_recv"].cast(pa.int64()).to_numpy()[known]
        delays = stamps - rows.table["ts_event"].drop_null().cast(pa.int64()).to_numpy()
        if rows.topic.name == _HEARTBEATS:
            self._clock.add(delays)
        else:
            line.add(stamps, delays)

    def _streams(self, hours: Sequence[Stretch], gaps: Sequence[GapRow], *, scheduled: bool) -> list[StreamQuality]:
        symbols = contract_symbols(self._reader)
        judges = {
            day.recorder: Judge(day, hours, gaps, scheduled=scheduled, silence=self._silence) for day in self._days
        }
        return [
            judges[recorder].quality(
                topic, conid, check, symbol=symbols.get(conid), size=self._sizes.get((recorder, name, conid), 0)
            )
            for (recorder, name, conid), (topic, check) in sorted(self._checks.items(), key=lambda pair: pair[0])
        ]
