"""The observer: makes a status of what a capture knows at one instant."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from recorder.capture.diary import Diary
from recorder.capture.journal import Journal
from recorder.capture.status import Counters, Status, StreamStatus, TopicStatus
from recorder.protocol.health import TopicHealth

Health = Callable[[], Iterable[TopicHealth]]
"""Gives the health of the topics that are subscribed to."""

_SECOND: Final = 1_000_000
_WINDOW: Final = 10 * _SECOND  # over which rates are taken


class Observer:
    """Looks at a capture; `flush_every` and `recorder` are its settings."""

    def __init__(
        self,
        counters: Counters,
        journal: Journal,
        diary: Diary,
        *,
        recorder: str,
        session: str,
        flush_every: float,
        health: Health,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._counters = counters
        self._journal = journal
        self._diary = diary
        self._recorder = recorder
        self._session = session
        self._flush_every = flush_every
        self._health = health
        self._now = now
        self._since = now() // 1000
        self._unready: int | None = self._since
        self._pulse = _Pulse()
        self._row_pulse: dict[str, _Pulse] = {}

    def look(self) -> Status:
        """Look at everything."""
        now = self._now() // 1000
        counters, journal, diary = self._counters, self._journal, self._diary
        if counters.state == "recording":
            self._unready = None
        elif self._unready is None:
            self._unready = now
        rows = counters.rows
        health = tuple(self._health())
        return Status(
            recorder=self._recorder,
            session=self._session,
            pid=os.getpid(),
            at=now,
            since=self._since,
            state=counters.state,
            unready=self._unready,
            connected=diary.connected,
            logged_in=diary.logged_in,
            connections=diary.connections,
            received=counters.received,
            rate=self._pulse.rate(counters.received, now),
            last_frame=journal.last_received_ts,
            rows=dict(rows),
            topics=self._topics(health, rows, now),
            streams=_streams(health, now),
            unclaimed=counters.unclaimed,
            undecoded=counters.undecoded.total(),
            journaled_bytes=journal.total_bytes,
            unflushed_frames=max(0, journal.seq - counters.archived_frames),
            unflushed_bytes=journal.bytes_after_flushed,
            unwritten_bytes=journal.unwritten,
            lag=journal.lag(),
            flushes=counters.flushes,
            last_flush=counters.last_flush,
            flush_took=journal.flush_took,
            flush_every=self._flush_every,
            gaps=diary.gaps(now),
            gaps_left_out=diary.gaps_left_out,
            space=counters.space,
            failed_alerts=counters.failed_alerts,
            wakes=counters.wakes,
            problem=counters.problem,
            ended=counters.ended,
        )

    def _topics(self, health: Iterable[TopicHealth], rows: Mapping[str, int], now: int) -> tuple[TopicStatus, ...]:
        subscribed = [
            TopicStatus(one.topic, one.state, one.rate, rows.get(one.topic, 0), _instant(one.age, now))
            for one in health
        ]
        names = {one.topic for one in subscribed}
        others = []
        for topic in sorted(rows.keys() - names):
            pulse = self._row_pulse.setdefault(topic, _Pulse())
            others.append(TopicStatus(topic, None, pulse.rate(rows[topic], now), rows[topic], pulse.risen))
        return (*subscribed, *others)


class _Pulse:
    """How fast a count rises, over the last ten seconds; `risen` is when it was last seen to have risen."""

    def __init__(self) -> None:
        self.risen: int | None = None
        self._seen: deque[tuple[int, int]] = deque()

    def rate(self, count: int, now: int) -> float:
        """Take in the count at an instant, and give its rise a second."""
        seen = self._seen
        if seen and now <= seen[-1][0]:
            return self._slope()  # asked twice in an instant, or the clock stepped back
        if count > (seen[-1][1] if seen else 0):
            self.risen = now
        seen.append((now, count))
        while len(seen) > 2 and seen[1][0] <= now - _WINDOW:  # noqa: PLR2004  a slope has two ends
            seen.popleft()
        return self._slope()

    def _slope(self) -> float:
        (begin, low), (end, high) = self._seen[0], self._seen[-1]
        return max(0, high - low) * _SECOND / (end - begin) if end > begin else 0.0


def _streams(health: Iterable[TopicHealth], now: int) -> tuple[StreamStatus, ...]:
    return tuple(
        StreamStatus(one.topic, stream.key, stream.conid, stream.state, _instant(stream.age, now))
        for one in health
        for stream in one.streams
        if stream.conid is not None
    )


def _instant(age: float | None, now: int) -> int | None:
    return None if age is None else now - round(age * _SECOND)
