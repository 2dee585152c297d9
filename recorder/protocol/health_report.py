"""The report of a session's health: what its streams, rates and gaps say at one instant."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from recorder.protocol.coverage import SETTLED, Coverage
from recorder.protocol.health import StreamHealth, StreamState, TopicHealth
from recorder.protocol.subscriptions import Line, Subscriptions

WINDOW: Final = 20.0
"""Seconds over which a rate forgets: after a minute little of what was is left in it."""
_BEST: Final[tuple[StreamState, ...]] = ("flowing", "suspected", "asked", "refused", "waiting")


class Rates:
    """Frames a second by topic, smoothed."""

    def __init__(self, now: float) -> None:
        self._counts: Counter[str] = Counter()
        self._rates: dict[str, float] = {}
        self._looked = now

    def count(self, topic: str, frames: int = 1) -> None:
        """Count frames."""
        self._counts[topic] += frames

    def look(self, now: float) -> None:
        """Take what was counted since the last look into the rates."""
        past = now - self._looked
        if past <= 0:
            return
        weight = 1 - math.exp(-past / WINDOW)
        for topic in self._counts.keys() | self._rates.keys():
            before = self._rates.get(topic, 0.0)
            self._rates[topic] = before + (self._counts[topic] / past - before) * weight
        self._counts.clear()
        self._looked = now

    def rate(self, topic: str) -> float:
        """Give a topic's frames a second."""
        return self._rates.get(topic, 0.0)


def report(subscriptions: Subscriptions, coverage: Coverage, rates: Rates, now: float) -> tuple[TopicHealth, ...]:
    """Say how each topic and each stream is."""
    return tuple(_topic(topic, subscriptions, coverage, rates, now) for topic in subscriptions.topics)


def _topic(topic: str, subscriptions: Subscriptions, coverage: Coverage, rates: Rates, now: float) -> TopicHealth:
    lines = subscriptions.of_topic(topic)
    streams = tuple(_stream(line, coverage, now) for line in lines)
    ages = [stream.age for stream in streams if stream.age is not None]
    return TopicHealth(
        topic=topic,
        state=min((stream.state for stream in streams), key=_BEST.index),
        age=min(ages, default=None),
        rate=rates.rate(topic),
        gap=coverage.gap(topic),
        streams=streams,
    )


def _stream(line: Line, coverage: Coverage, now: float) -> StreamHealth:
    stream = line.stream
    quiet = line.state == "asked" and not stream.answered and now - (line.asked_at or now) >= SETTLED
    return StreamHealth(
        key=stream.key,
        conid=stream.conid,
        state="flowing" if quiet else line.state,  # its silence is as it should be
        age=None if line.heard_at is None else max(0.0, now - line.heard_at),
        gap=None if stream.conid is None else coverage.gap(stream.topic, stream.conid),
    )
