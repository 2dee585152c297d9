"""The disk: making folders and names that are private to the user and survive a power loss."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recorder.errors import DiskError


def sync_file(handle: int) -> None:
    """Make a file's content survive a power loss."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync stops at the disk's own cache
        fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(handle)


def sync_path(path: Path) -> None:
    """Make the content of a finished file survive a power loss."""
    handle = os.open(path, os.O_RDONLY)
    try:
        sync_file(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make names created in or removed from a folder survive a power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path, *, below: Path) -> None:
    """Make a folder and those above it, up to `below`, private to the user and surviving a power loss."""
    missing = []
    while folder != below and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True, mode=0o700)
        sync_folder(path.parent)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a `DiskError` that names the path."""
    try:
        yield
    except OSError as exc:
        where = exc.filename or path
        raise DiskError(
            f"{where} cannot be written: {exc.strerror or exc}", hint="free the disk or give the folder to this user"
        ) from exc
