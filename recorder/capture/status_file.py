"""The status file: what a capture last said of itself, for other processes to read.

It is `status.json` in the recorder's journal folder, private to the user, and replaced as a whole, so that a reader
never sees half of it. It is not synced: after a power loss the archive, not this file, says what was recorded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from recorder.capture.status import Status
from recorder.disk import disk_errors
from recorder.errors import ArchiveError

NAME: Final = "status.json"
UNFINISHED: Final = "status.json.tmp"


def write_status(folder: Path, status: Status) -> None:
    """Replace a recorder's status file; `DiskError` if that fails."""
    unfinished = folder / UNFINISHED
    with disk_errors(unfinished):
        file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            view = memoryview(msgspec.json.encode(status))
            while view:
                view = view[os.write(file, view) :]
        finally:
            os.close(file)
        unfinished.replace(folder / NAME)


def read_status(folder: Path) -> Status | None:
    """Read a recorder's status file; None if no capture has written one, `ArchiveError` if it is none."""
    path = folder / NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ArchiveError(f"{path} cannot be read: {exc.strerror}") from exc
    except msgspec.MsgspecError as exc:
        raise ArchiveError(
            f"{path} is not what this recorder writes: {exc}", hint="start the capture again with this recorder"
        ) from exc
