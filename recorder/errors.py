"""The errors a user of the recorder can meet.

RecorderError                what failed; `hint` says what the user can do
├── UsageError               the command or the call was wrong (exit code 2)
│   └── SettingError         a bad flag, variable or key in recorder.toml
├── TopicFileError           a file in schemas/ does not say what a topic file must say
├── GatewayError             the gateway is away, refuses, or answers what no gateway answers
│   └── GatewayAway          nobody answers at its address
├── LockHeld                 another process works on the same recorder's journal
├── ArchiveError             the archive cannot be read or written as asked
│   ├── NotAnArchive         the folder holds no archive
│   ├── GapError             the data asked for has a hole; carries topic, conid, start and end
│   ├── DiskError            the operating system refused a write (full, read-only, not permitted)
│   └── Damaged              bytes on disk are not what was written; carries path and offset
└── ReplayError              a replay cannot be served as asked
"""

from __future__ import annotations

from pathlib import Path


class RecorderError(Exception):
    """Say what failed in one line; `hint`, where the user can act, says what to do."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(RecorderError):
    """The command or the call was wrong."""


class SettingError(UsageError):
    """A flag, variable or key of the configuration file has no meaning or a bad value."""


class TopicFileError(RecorderError):
    """A topic file is not one."""


class GatewayError(RecorderError):
    """The gateway cannot be reached or does not behave as one."""


class GatewayAway(GatewayError):
    """Nobody answers at the gateway's address."""


class LockHeld(RecorderError):
    """Another process holds the recorder's lock."""


class ArchiveError(RecorderError):
    """The archive cannot be read or written as asked."""


class NotAnArchive(ArchiveError):
    """The folder holds no archive."""


class GapError(ArchiveError):
    """The data asked for has a hole.

    `topic` and `conid` (None: the whole topic) say in what, `start` and `end` (None: it is open) from when to when, in
    microseconds since the Unix epoch, UTC.
    """

    def __init__(self, message: str, *, topic: str, conid: int | None, start: int, end: int | None) -> None:
        super().__init__(
            message, hint="see `recorder gaps`, or archive.gaps(); the option `gaps` says how to go on over them"
        )
        self.topic = topic
        self.conid = conid
        self.start = start
        self.end = end


class DiskError(ArchiveError):
    """The operating system refused a write; `full` says that there was no room for it."""

    def __init__(self, message: str, *, hint: str | None = None, full: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.full = full


class Damaged(ArchiveError):
    """Bytes on disk are not what was written.

    `path` is the file, `offset` the byte at which the damage shows.
    """

    def __init__(self, what: str, *, path: Path, offset: int, hint: str | None = None) -> None:
        super().__init__(f"{path}: {what} at byte {offset}", hint=hint)
        self.path = path
        self.offset = offset


class ReplayError(RecorderError):
    """A replay cannot be served as asked."""
