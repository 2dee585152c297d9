"""The journal: every frame, stamped, numbered and on disk before anything looks into it.

1. The event loop appends and never waits. One thread writes; batches reach it in order, through one queue.
2. Frames wait in memory until `MANY` are there or two fifths of `write_within` have gone since the last were handed
   over, so that the writer is not woken for each; a lone one waits for nothing. The rest of it is the disk's.
3. Tokens are masked by the writer, before anything is written.
4. A segment holds one date. It also ends on size, on schedule and on stop; its end record tells it from a torn one.
5. The first failing write or sync ends the journal, and with it the capture. Nothing is retried: after a failed sync
   the kernel may have dropped the pages.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from recorder.capture.journal_writer import CLOSE, ROTATE, Batch, Writer
from recorder.errors import DiskError
from recorder.protocol.days import DayBoundary
from recorder.protocol.masking import Masker
from recorder.protocol.segment import IN_BINARY, IN_TEXT, MARK, code_of
from recorder.protocol.socket_frames import Stamped
from recorder.types import Kind, Op

MANY: Final = 32
"""Frames that are handed to the writer at once, so that at 10,000 a second none waits longer than some milliseconds."""


class Limits(NamedTuple):
    """When a segment ends and how far memory and disk may lag: seconds, frames, bytes."""

    write_within: float
    sync_every: float
    flush_frames: int
    flush_bytes: int
    journal_memory: int


class Journal:
    """Writes one session's frames to `folder`.

    `on_failure` is called on the event loop with a `DiskError` when the disk fails. `on_pressure` is called on the
    event loop with True when more than `journal_memory` bytes are unwritten, and with False when half of it is gone.
    `on_mark` is shown each mark when it was taken. `on_much` is called on the event loop when a segment has ended, or
    another `CHUNK` of frames is written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        recorder: str,
        session: str,
        boundary: DayBoundary,
        limits: Limits,
        on_failure: Callable[[DiskError], None],
        on_pressure: Callable[[bool], None],
        masker: Masker,
        on_mark: Callable[[bytes], None] = lambda _mark: None,
        on_much: Callable[[], None] = lambda: None,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.seq = 0
        self.conn = 0
        self.last_received_ts: int | None = None
        self.failure: DiskError | None = None
        self.flush_took: float | None = None
        self._boundary = boundary
        self._limits = limits
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._on_failure = on_failure
        self._on_pressure = on_pressure
        self._on_mark = on_mark
        self.under_pressure = False
        self._handed = 0
        self._flushed = 0
        self._ends: deque[tuple[int, int, float]] = deque()
        self._day = boundary.day_of(now() // 1000)
        self._segment_frames = 0
        self._segment_bytes = 0
        self._scheduled = False
        self._gather = limits.write_within * 2 / 5
        self._handed_at = -math.inf
        self._frames: list[Stamped] = []
        self._writer = Writer(folder, recorder=recorder, session=session, sync_every=limits.sync_every, masker=masker)
        self._writer.notify = partial(self._loop.call_soon_threadsafe, self._look_at_writer)
        self._writer.notify_much = partial(self._loop.call_soon_threadsafe, on_much)
        self._writer.start()

    @property
    def total_bytes(self) -> int:
        """Bytes of all frames so far."""
        return self._handed

    @property
    def unwritten(self) -> int:
        """Bytes received and not yet handed to the operating system."""
        return self._handed - self._writer.written

    @property
    def bytes_after_flushed(self) -> int:
        """Bytes of frames that are in the journal and not yet in Parquet."""
        return self._handed - self._flushed

    def flushed_to(self, last_seq: int) -> None:
        """Learn that all frames up to `last_seq` are in Parquet."""
        while self._ends and self._ends[0][0] <= last_seq:
            _, self._flushed, ended = self._ends.popleft()
            self.flush_took = self._loop.time() - ended

    def lag(self) -> float:
        """Give the seconds that the slowest frame since the last call took from receipt to the operating system."""
        slowest, self._writer.slowest = self._writer.slowest, [0]
        return slowest[0] / 1e6

    def stamp(self) -> int:
        """Give the receive stamp of what is received now: microseconds since the epoch."""
        return self._now() // 1000

    def extend(self, frames: Sequence[Stamped]) -> None:
        """Take frames with one stamp, in order."""
        ts = frames[0][0]
        if not self._day.start <= ts < self._day.end:
            self.rotate()
            self._day = self._boundary.day_of(ts)
        self._frames += frames
        if len(self._frames) >= MANY:
            self._hand_over()
        elif not self._scheduled:
            self._scheduled = True
            wait = self._handed_at + self._gather - self._loop.time()
            self._loop.call_later(max(0.0, wait), self._hand_over_rest)

    def begin_connection(self) -> None:
        """Count the frames from now on to the session's next connection."""
        self._hand_over()
        self.conn += 1

    def note(self, data: bytes, kind: Kind = "mark", op: Op = "text") -> None:
        """Take a frame that was not received: a mark, a sent text, a recorded REST answer."""
        self.extend([(self.stamp(), code_of(kind, op), data)])
        if kind == "mark":
            self._on_mark(data)

    def note_together(self, marks: Sequence[bytes]) -> None:
        """Take marks that reach the disk together or not at all: in one batch, with one stamp."""
        self._hand_over()
        ts = self.stamp()
        self.extend([(ts, MARK, mark) for mark in marks])
        for mark in marks:
            self._on_mark(mark)

    def rotate(self) -> None:
        """End the open segment; the next frame begins another. Does nothing while the segment is empty."""
        self._hand_over()
        if self._segment_frames:
            self._segment_frames = self._segment_bytes = 0
            self._ends.append((self.seq - 1, self._handed, self._loop.time()))
            self._writer.jobs.put(ROTATE)

    async def close(self) -> None:
        """Write and sync what is left and end the segment; a `DiskError` says what could not be written."""
        self.rotate()
        self._writer.jobs.put(CLOSE)
        await asyncio.to_thread(self._writer.join)
        if self._writer.failure is not None:
            raise self._writer.failure

    def _hand_over_rest(self) -> None:
        self._scheduled = False
        self._hand_over()

    def _hand_over(self) -> None:
        frames = self._frames
        if not frames:
            return
        self._frames, self._handed_at = [], self._loop.time()
        size = sum(len(data) for _, _, data in frames)
        self._writer.jobs.put(Batch(self.seq, self._day.date.isoformat(), self.conn, frames, size))
        self.seq += len(frames)
        if frames[-1][1] in (IN_TEXT, IN_BINARY):
            self.last_received_ts = frames[-1][0]
        self._handed += size
        self._segment_frames += len(frames)
        self._segment_bytes += size
        if self._segment_frames >= self._limits.flush_frames or self._segment_bytes >= self._limits.flush_bytes:
            self.rotate()
        if not self.under_pressure and self.unwritten > self._limits.journal_memory:
            self.under_pressure = self._writer.wants_notice = True
            self._loop.call_soon(self._look_at_writer)  # it may have written all before it knew
            self._on_pressure(True)

    def _look_at_writer(self) -> None:
        if self._writer.failure is not None and self.failure is None:
            self.failure = self._writer.failure
            self._on_failure(self.failure)
        if self.under_pressure and self.unwritten < self._limits.journal_memory // 2:
            self.under_pressure = self._writer.wants_notice = False
            self._on_pressure(False)
