"""The status of a running capture: what its counters say at one instant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Status(NamedTuple):
    """One look at a capture.

    `received` counts received frames, `rows` rows by topic, `unflushed_frames` and `unflushed_bytes` what is in the
    journal and not yet in Parquet. `age` is the seconds since the last received frame, `flushed` the seconds since
    the last flush (None: none yet). `problem` is what is wrong now, in words.
    """

    state: str
    received: int
    rows: Mapping[str, int]
    unflushed_frames: int
    unflushed_bytes: int
    age: float | None
    flushed: float | None
    flushes: int
    problem: str | None


@dataclass(slots=True)
class Counters:
    """What a capture counts while it runs; times are of a clock that never steps."""

    state: str = "starting"
    received: int = 0
    archived: Counter[str] = field(default_factory=Counter)
    building: dict[str, int] = field(default_factory=dict)
    archived_frames: int = 0
    unclaimed: int = 0
    undecoded: Counter[str] = field(default_factory=Counter)
    flushes: int = 0
    last_flush: float | None = None
    problem: str | None = None
    digests: dict[str, dict[str, Any]] = field(default_factory=dict)

    def look(self, now: float, *, age: float | None, journaled: int, unflushed_bytes: int) -> Status:
        """Give the status; `age` is the last frame's in seconds, `journaled` counts the frames of all kinds."""
        return Status(
            state=self.state,
            received=self.received,
            rows=self.archived + Counter(self.building),
            unflushed_frames=journaled - self.archived_frames,
            unflushed_bytes=unflushed_bytes,
            age=age,
            flushed=None if self.last_flush is None else now - self.last_flush,
            flushes=self.flushes,
            problem=self.problem,
        )
