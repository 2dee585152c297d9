"""Space: how fast an archive grows, and how much room its disk has."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from recorder.archive.layout import FRAMES, Layout
from recorder.disk import disk_errors

_DATES: Final = 7


def free_space(layout: Layout) -> int:
    """Give the bytes that this user may still write to the archive's disk."""
    with disk_errors(layout.root):
        return shutil.disk_usage(layout.root).free


def daily_growth(layout: Layout, *, today: str) -> int | None:
    """Give the bytes of the biggest of the last seven dates that are over; None while none is.

    The biggest, because a date may be half a day, and what is asked is how long the disk lasts for sure.
    """
    dates = [date for date in layout.dates(FRAMES) if date < today][-_DATES:]
    sizes = [sum(_size(layout.root / topic / f"date={date}") for topic in (FRAMES, *layout.topics())) for date in dates]
    return max(sizes, default=None)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.parquet"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # a compaction has just replaced it
    return total
