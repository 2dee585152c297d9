"""Records Interactive Brokers' streaming Web API to Parquet and replays it.

archive = recorder.open("data")
day = archive.load("market_data", conid=265598, start="2026-11-20", end="2026-11-21")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.errors import RecorderError
from recorder.types import Frame

if TYPE_CHECKING:
    from recorder.library import Archive

__all__ = ["Archive", "Frame", "RecorderError", "open"]


def open(path: str | Path = "data") -> Archive:  # noqa: A001  recorder.open reads as what it does
    """Open an archive for reading; a `NotAnArchive` error says what the folder is instead."""
    from recorder.library import Archive  # noqa: PLC0415  commands that read nothing must not wait for pandas

    return Archive(path)


def __getattr__(name: str) -> Any:
    if name == "Archive":
        from recorder.library import Archive  # noqa: PLC0415  see `open`

        return Archive
    raise AttributeError(f"module 'recorder' has no attribute {name!r}")
