"""The status of a running capture: what its counters say at one instant."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from recorder.protocol.health import StreamState

_SECOND: Final = 1_000_000  # microseconds


class TopicStatus(msgspec.Struct, frozen=True):
    """A topic: how it is (`health.StreamState`; None: it comes by itself), frames a second, its rows so far.

    `last` is when its last frame came (µs; None: none came yet). What comes by itself has rows a second as its rate.
    """

    topic: str
    state: StreamState | None
    rate: float
    rows: int
    last: int | None


class StreamStatus(msgspec.Struct, frozen=True):
    """One subscription of a contract: its wire topic, how it is, and when its last frame came (µs)."""

    topic: str
    key: str
    conid: int
    state: StreamState
    last: int | None


class GapStatus(msgspec.Struct, frozen=True):
    """A hole in the data, of a whole topic or (`conid`) of a contract; `start` and `end` in µs, `end` None: open."""

    topic: str
    conid: int | None
    start: int
    end: int | None
    cause: str


class Space(msgspec.Struct, frozen=True):
    """The archive's disk: bytes that are free, and bytes that a day takes (None: not known yet)."""

    free: int
    per_day: int | None

    @property
    def days(self) -> float | None:
        """How many days the free bytes last; None where nobody knows."""
        return None if not self.per_day else self.free / self.per_day


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a capture. Instants are microseconds since the epoch, UTC, by this machine's clock.

    `at` is the look's own, `since` the session's start, `unready` since when it does not record (None: it does).
    `received` counts received frames, `rate` those a second, `rows` rows by topic, `connections` the connections.
    `journaled_bytes` counts the bytes of frames of all kinds, `unflushed_frames` and `unflushed_bytes` what of them is
    in the journal and not yet in Parquet, `unwritten_bytes` what is not even there. `lag` is the longest a frame took
    from its receipt to the operating system since the look before, in seconds, `flush_took` what the last flush took.
    `gaps` are those of the last day, oldest first, `gaps_left_out` how many more there were. `wakes` is when a sleeping
    capture goes on. `problem` is what is wrong now, in words, `ended` why it stopped.
    """

    recorder: str
    session: str
    pid: int
    at: int
    since: int
    state: str
    unready: int | None
    connected: bool
    logged_in: bool
    connections: int
    received: int
    rate: float
    last_frame: int | None
    rows: dict[str, int]
    topics: tuple[TopicStatus, ...]
    streams: tuple[StreamStatus, ...]
    unclaimed: int
    undecoded: int
    journaled_bytes: int
    unflushed_frames: int
    unflushed_bytes: int
    unwritten_bytes: int
    lag: float
    flushes: int
    last_flush: int | None
    flush_took: float | None
    flush_every: float
    gaps: tuple[GapStatus, ...]
    gaps_left_out: int = 0
    space: Space | None = None
    failed_alerts: int = 0
    wakes: int | None = None
    problem: str | None = None
    ended: str | None = None

    @property
    def age(self) -> float | None:
        """Seconds since the last received frame."""
        return None if self.last_frame is None else max(0.0, (self.at - self.last_frame) / _SECOND)

    @property
    def flushed(self) -> float | None:
        """Seconds since the last flush (None: none yet)."""
        return None if self.last_flush is None else max(0.0, (self.at - self.last_flush) / _SECOND)

    @property
    def open_gaps(self) -> tuple[GapStatus, ...]:
        """The gaps that nothing has closed yet."""
        return tuple(gap for gap in self.gaps if gap.end is None)


@dataclass(slots=True)
class Counters:
    """What a capture counts while it runs."""

    state: str = "starting"
    received: int = 0
    archived: Counter[str] = field(default_factory=Counter)
    building: dict[str, int] = field(default_factory=dict)
    archived_frames: int = 0
    unclaimed: int = 0
    undecoded: Counter[str] = field(default_factory=Counter)
    flushes: int = 0
    last_flush: int | None = None
    problem: str | None = None
    ended: str | None = None
    wakes: int | None = None
    failed_alerts: int = 0
    space: Space | None = None
    digests: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def rows(self) -> Counter[str]:
        """Rows so far by topic, in Parquet or on the way there."""
        return self.archived + Counter(self.building)
