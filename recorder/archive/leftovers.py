"""Leftovers: what a compaction, rebuild or repair that was killed has left in `.tmp/`."""

from __future__ import annotations

import shutil

from recorder.archive.layout import Layout
from recorder.errors import LockHeld
from recorder.lock import MAINTENANCE, RecorderLock


def clear_leftovers(layout: Layout) -> None:
    """Remove them, unless such work goes on; never waits."""
    left = list((layout.root / ".tmp").glob(".*"))  # no recorder has such a name
    if not left:
        return
    lock = RecorderLock(layout.root / "journal", MAINTENANCE, root=layout.root)
    try:
        lock.acquire()
        for path in left:
            shutil.rmtree(path)
    except (LockHeld, FileNotFoundError):
        return  # it is at work, or its end has removed them
    finally:
        lock.release()
