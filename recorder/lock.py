"""Locks: one capture and one archiver a recorder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

import msgspec

from recorder.disk import disk_errors, make_folder
from recorder.errors import LockHeld

CAPTURE: Final = "lock"
ARCHIVER: Final = "archiver.lock"
MAINTENANCE: Final = "maintenance.lock"
MOMENT: Final = 0.5
"""Seconds to wait for a lock that somebody may only be looking at."""
_WHAT: Final = {CAPTURE: "capture", ARCHIVER: "archiver", MAINTENANCE: "compaction or rebuild"}


class Failure(msgspec.Struct, frozen=True):
    """What a session's capture died of, so that the next one can say it: its journal could not be written any more."""

    session: str
    what: str
    disk_full: bool = False


class Holder(msgspec.Struct, frozen=True):
    """What a lock file says of who holds it, or held it last: a process, its session, the last frame it archived.

    `failure` is the last one of a capture. It stands in the few bytes that a lock file has anyway, so that a full disk
    takes it.
    """

    pid: int
    session: str | None = None
    last: int | None = None
    failure: Failure | None = None


def is_held(path: Path) -> bool:
    """Say whether a process holds a lock: whether it is alive, whatever its file says.

    For an instant this shares the lock, so who wants it for itself waits a moment before it gives up.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


class RecorderLock:
    """A lock of a recorder's journal folder. The operating system lets it go when its process ends, however it ends.

    `previous` is what the last holder wrote.
    """

    def __init__(self, folder: Path, name: str, *, root: Path) -> None:
        self.path = folder / name
        self.previous: Holder | None = None
        with disk_errors(self.path):
            make_folder(folder, below=root)
            self._file: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)

    def acquire(self, *, wait: float = 0.0) -> None:
        """Take the lock, trying for `wait` seconds; `LockHeld` names who has it."""
        assert self._file is not None, "a released lock is not taken again"
        give_up = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    raise self._held() from None
                time.sleep(0.05)
            else:
                self.previous = self._read()
                return

    def write(self, holder: Holder) -> None:
        """Say who holds it."""
        assert self._file is not None, "only a lock that is held is written"
        with disk_errors(self.path):
            data = msgspec.json.encode(holder) + b"\n"  # killed before it is cut, the file has more lines
            os.pwrite(self._file, data, 0)
            os.ftruncate(self._file, len(data))
            os.fsync(self._file)

    def take_over(self) -> None:
        """Say that this process holds it; what the last holder had archived stays noted."""
        before = self.previous or Holder(0)
        self.write(Holder(os.getpid(), before.session, before.last))

    def note(self, session: str, last: int) -> None:
        """Say up to which frame a session is archived; one before that which is noted changes nothing."""
        noted = self._read()
        if noted is None or (session, last) > (noted.session or "", -1 if noted.last is None else noted.last):
            self.write(Holder(os.getpid(), session, last))

    def release(self) -> None:
        """Let it go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self) -> Holder | None:
        assert self._file is not None, "only an open lock is read"
        return _decode(os.pread(self._file, 4096, 0))

    def _held(self) -> LockHeld:
        holder = self._read()
        who = f"process {holder.pid}" if holder is not None else "another process"
        session = f", session {holder.session}," if holder is not None and holder.session else ""
        what = _WHAT[self.path.name]
        if self.path.name == MAINTENANCE:
            return LockHeld(f"another {what} runs: {who} holds {self.path}", hint="wait until it is done")
        return LockHeld(
            f"recorder {self.path.parent.name!r} is in use: {who}{session} holds {self.path}",
            hint=f"stop that {what}, or give this one another name with --name",
        )


def read_holder(path: Path) -> Holder | None:
    """Read who holds a lock or held it last; None if nobody did, or the note was torn by a power loss."""
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        return None


def _decode(content: bytes) -> Holder | None:
    try:
        return msgspec.json.decode(content.partition(b"\n")[0], type=Holder)
    except (UnicodeDecodeError, msgspec.MsgspecError):
        return None  # new, or torn by a power loss: the journal itself says which session was last
