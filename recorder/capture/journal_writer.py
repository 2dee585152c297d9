"""The journal's writer: the one thread that writes and syncs segments.

Tokens are masked here, before anything is written. The first failing write or sync ends the thread.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from recorder.disk import sync_file, sync_folder
from recorder.errors import DiskError
from recorder.faults import point
from recorder.protocol.masking import Masker
from recorder.protocol.segment import CHUNK, Header, encode_batch, encode_end, encode_header, segment_name
from recorder.protocol.socket_frames import Stamped

ROTATE: Final = "rotate"
"""End the segment; the next batch begins another."""
CLOSE: Final = "close"
"""End the segment, and the thread."""
_TOGETHER: Final = 1_000_000
"""Bytes from which on a write waits for no more batches to join it."""


class Batch(NamedTuple):
    """Frames of one date and connection on their way to the writer."""

    first_seq: int
    date: str
    conn: int
    frames: list[Stamped]
    size: int


class Writer(threading.Thread):
    """Takes batches and orders through `jobs`. `written` counts payload bytes given to the operating system."""

    def __init__(self, folder: Path, *, recorder: str, session: str, sync_every: float, masker: Masker) -> None:
        super().__init__(name="journal", daemon=True)
        self.jobs: SimpleQueue[Batch | str] = SimpleQueue()
        self.written = 0
        self.slowest = [0]  # microseconds; `Journal.lag` replaces the list
        self.failure: DiskError | None = None
        self.wants_notice = False
        self.notify: Callable[[], object] = lambda: None
        self.notify_much: Callable[[], object] = lambda: None
        self._unnoticed = 0
        self._held: Batch | str | None = None
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
        """Write until told to stop, or until the disk fails."""
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
        job, self._held = self._held, None
        if job is None:
            try:
                job = self.jobs.get(timeout=timeout)
            except Empty:
                self._sync()
                return True
        if isinstance(job, Batch):
            self._write(self._joined(job))
            if self.wants_notice:
                self.notify()
            if self._sync_due is not None and time.monotonic() >= self._sync_due:
                self._sync()
            return True
        self._end_segment()
        return job != CLOSE

    def _joined(self, batch: Batch) -> Batch:
        """Join a batch with those that have come meanwhile: a write costs some turns of the interpreter's lock."""
        size = batch.size
        while size < _TOGETHER:
            try:
                following = self.jobs.get_nowait()
            except Empty:
                break
            if not isinstance(following, Batch) or (following.date, following.conn) != (batch.date, batch.conn):
                self._held = following
                break
            batch.frames.extend(following.frames)
            size += following.size
        return batch._replace(size=size)

    def _write(self, batch: Batch) -> None:
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
        self._unnoticed += len(masked)
        if self._unnoticed >= CHUNK:
            self._unnoticed = 0
            self.notify_much()
        if self._sync_due is None:
            # Start early by what the last sync took, so that it has ended when it is due.
            self._sync_due = time.monotonic() + max(0.0, self._sync_every - 2 * self._sync_took)

    def _begin_segment(self, batch: Batch) -> bytes:
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
        self.notify_much()

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
