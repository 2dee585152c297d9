"""Names: the lock under which names in an archive change, and how a finished file gets its own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recorder.archive.layout import Layout
from recorder.disk import make_folder, sync_path
from recorder.faults import point


@contextmanager
def names_lock(layout: Layout) -> Iterator[None]:
    """Hold the lock: a flush takes it to rename a part, a replacement to swap a folder."""
    handle = os.open(layout.root / "journal" / "names.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def publish(layout: Layout, tmp: Path, path: Path) -> None:
    """Sync a finished file and put it in its place; the caller syncs the folder of `path`."""
    sync_path(tmp)
    tmp.chmod(0o600)
    point("publish.synced")
    with names_lock(layout):
        make_folder(path.parent, below=layout.root)
        point("publish.folder_made")
        tmp.replace(path)
