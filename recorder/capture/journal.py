"""The journal: every frame, stamped, numbered and on disk before anything looks into it.

1. The event loop appends and never waits. One thread writes; batches reach it in order, through one queue.
2. A frame waits in memory for a twentieth of `write_within`, so that a quiet stream does not wake the writer for each
   frame; the rest of `write_within` is the disk's.
3. Tokens are masked by the writer, before anything is written.
4. A segment holds one date. It also ends on size, on schedule and on stop; its end record tells it from a torn one.
5. The first failing write or sync ends the journal, and with it the capture. Nothing is retried: after a failed sync
   the kernel may have dropped the pages.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from recorder.disk import sync_file, sync_folder
from recorder.errors import DiskError
from recorder.faults import point
from recorder.protocol.days import DayBoundary
from recorder.protocol.masking import Masker
from recorder.protocol.segment import (
    IN_BINARY,
    IN_TEXT,
    MARK,
    Header,
    code_of,
    encode_batch,
    encode_end,
    encode_header,
    segment_name,
)
from recorder.protocol.socket_frames import Stamped
from recorder.types import Kind, Op


class Limits(NamedTuple):
    """When a segment ends and how far memory and disk may lag: seconds, frames, bytes."""

    write_within: float
    sync_every: float
    flush_frames: int
    flush_bytes: int
    journal_memory: int


class _Batch(NamedTuple):
    """Frames of one date and connection on their way to the writer."""

    first_seq: int
    date: str
    conn: int
    frames: list[Stamped]
    size: int


_ROTATE = "rotate"
_CLOSE = "close"


class Journal:
    """Writes one session's frames to `folder`.

    `on_failure` is called on the event loop with a `DiskError` when the disk fails. `on_pressure` is called on the
    event loop with True when more than `journal_memory` bytes are unwritten, and with False when half of it is gone.
    `on_mark` is shown each mark when it was taken.
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
        self._gather = limits.write_within / 20
        self._frames: list[Stamped] = []
        self._writer = _Writer(folder, recorder=recorder, session=session, sync_every=limits.sync_every, masker=masker)
        self._writer.notify = self._notified
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
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_later(self._gather, self._hand_over)

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
            self._writer.jobs.put(_ROTATE)

    async def close(self) -> None:
        """Write and sync what is left and end the segment; a `DiskError` says what could not be written."""
        self.rotate()
        self._writer.jobs.put(_CLOSE)
        await asyncio.to_thread(self._writer.join)
        if self._writer.failure is not None:
            raise self._writer.failure

    def _hand_over(self) -> None:
        self._scheduled = False
        frames = self._frames
        if not frames:
            return
        self._frames = []
        size = sum(len(data) for _, _, data in frames)
        self._writer.jobs.put(_Batch(self.seq, self._day.date.isoformat(), self.conn, frames, size))
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

    def _notified(self) -> None:
        """Run on the writer thread: it failed, or it wrote while the loop was under pressure."""
        self._loop.call_soon_threadsafe(self._look_at_writer)

    def _look_at_writer(self) -> None:
        if self._writer.failure is not None and self.failure is None:
            self.failure = self._writer.failure
            self._on_failure(self.failure)
        if self.under_pressure and self.unwritten < self._limits.journal_memory // 2:
            self.under_pressure = self._writer.wants_notice = False
            self._on_pressure(False)


class _Writer(threading.Thread):
    """The one thread that touches the disk. `written` counts payload bytes given to the operating system."""

    def __init__(self, folder: Path, *, recorder: str, session: str, sync_every: float, masker: Masker) -> None:
        super().__init__(name="journal", daemon=True)
        self.jobs: SimpleQueue[_Batch | str] = SimpleQueue()
        self.written = 0
        self.slowest = [0]  # microseconds; `Journal.lag` replaces the list
        self.failure: DiskError | None = None
        self.wants_notice = False
        self.notify: Callable[[], None] = lambda: None
        self._folder = folder
        self._recorder = recorder
        self._session = session
        self._sync_every = sync_every
        self._masker = masker
        self._file: int | None = None
        self._path = folder
        self._last_seq = -1
        self._sync_due: float | None = None
        self._sync_took = 0.0

    def run(self) -> None:
        try:
            while self._step():
                pass
        except OSError as exc:
            self._fail(exc.strerror or str(exc), full=exc.errno in (errno.ENOSPC, errno.EDQUOT))
        except BaseException as exc:
            self._fail(repr(exc))  # a defect; a journal that stands still must not look as if it wrote
            raise

    def _fail(self, why: str, *, full: bool = False) -> None:
        self.failure = DiskError(
            f"the journal cannot be written: {self._path}: {why}",
            hint="free or replace the disk, then start the capture again: what was written before is safe",
            full=full,
        )
        self.notify()

    def _step(self) -> bool:
        timeout = None if self._sync_due is None else max(0.0, self._sync_due - time.monotonic())
        try:
            job = self.jobs.get(timeout=timeout)
        except Empty:
            self._sync()
            return True
        if isinstance(job, _Batch):
            self._write(job)
            if self.wants_notice:
                self.notify()
            if self._sync_due is not None and time.monotonic() >= self._sync_due:
                self._sync()
            return True
        self._end_segment()
        return job != _CLOSE

    def _write(self, batch: _Batch) -> None:
        ts_recv, code, data = zip(*batch.frames, strict=True)
        masked = self._masker.mask_all(list(data))
        record = encode_batch(batch.first_seq, ts_recv, [batch.conn] * len(masked), code, masked)
        if self._file is None:
            record = self._begin_segment(batch) + record
        assert self._file is not None, "a segment was begun"
        point("journal.write")
        _write_all(self._file, record)
        point("journal.written")
        self.written += batch.size
        self.slowest[0] = max(self.slowest[0], time.time_ns() // 1000 - ts_recv[0])
        self._last_seq = batch.first_seq + len(masked) - 1
        if self._sync_due is None:
            # Start early by what the last sync took, so that it has ended when it is due.
            self._sync_due = time.monotonic() + max(0.0, self._sync_every - 2 * self._sync_took)

    def _begin_segment(self, batch: _Batch) -> bytes:
        self._path = self._folder / segment_name(self._session, batch.first_seq)
        point("journal.begin")
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        point("journal.created")
        sync_folder(self._folder)
        point("journal.begun")
        return encode_header(
            Header(recorder=self._recorder, session=self._session, first_seq=batch.first_seq, date=batch.date)
        )

    def _end_segment(self) -> None:
        if self._file is None:
            return
        point("journal.end")
        _write_all(self._file, encode_end(self._last_seq))
        point("journal.end_written")
        self._sync()
        os.close(self._file)
        point("journal.ended")
        self._file = None

    def _sync(self) -> None:
        assert self._file is not None, "only a written segment is synced"
        began = time.monotonic()
        point("journal.sync")
        sync_file(self._file)
        point("journal.synced")
        self._sync_took = time.monotonic() - began
        self._sync_due = None


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
