"""Holes: frames that are known to be lost, and why, so that they can be told from frames that are missing in silence.

`holes.jsonl` stands in the archive's folder and is written by `recorder verify --repair` alone. Whoever meets missing
frames looks here: the archiver and readers go on behind a known hole, `verify` notes it, the ledger has a row for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from recorder.archive.layout import Layout
from recorder.disk import make_folder, sync_folder, sync_path
from recorder.errors import Damaged
from recorder.faults import point

NAME: Final = "holes.jsonl"
REPAIR: Final = ".repair"
"""The folder in `.tmp/` for what a repair has not finished; no recorder has such a name."""


class Hole(msgspec.Struct, frozen=True, kw_only=True):
    """Frames `first` to `last` of a session, which are lost.

    `start` is the ts_recv of the frame before them and `end` that of the frame behind (None: there is none);
    `acknowledged` is when the repair noted the hole. All are microseconds since the Unix epoch. `why` says how it came,
    `kept` names the file below the archive's folder that was set aside (None: there was none).
    """

    recorder: str
    session: str
    first: int
    last: int
    start: int | None
    end: int | None
    why: str
    kept: str | None
    acknowledged: int

    def __str__(self) -> str:
        kept = f"; what is left of them is in {self.kept}" if self.kept else ""
        return f"frames {self.first} to {self.last} of session {self.session} are lost: {self.why}{kept}"


def read_holes(layout: Layout) -> list[Hole]:
    """Read the known holes, in the order in which they were noted; `Damaged` if the file cannot be read."""
    path = layout.root / NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    holes, offset = [], 0
    for line in content.splitlines(keepends=True):
        try:
            holes.append(msgspec.json.decode(line, type=Hole))
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise Damaged(
                f"it cannot be read ({exc})", path=path, offset=offset, hint="restore it from a copy, or mend the line"
            ) from None
        offset += len(line)
    return holes


def add_holes(layout: Layout, holes: Iterable[Hole]) -> list[Hole]:
    """Note holes, but for those that are noted already; give the new ones. They survive a power loss."""
    known = read_holes(layout)
    ranges = {(one.recorder, one.session, one.first, one.last) for one in known}
    new = [one for one in holes if (one.recorder, one.session, one.first, one.last) not in ranges]
    if not new:
        return []
    tmp = layout.root / ".tmp" / REPAIR / NAME
    make_folder(tmp.parent, below=layout.root)
    with open(os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
        file.writelines(msgspec.json.encode(one) + b"\n" for one in [*known, *new])
    sync_path(tmp)
    point("holes.written")
    tmp.replace(layout.root / NAME)
    point("holes.published")
    sync_folder(layout.root)
    return new


def known_from(holes: Iterable[Hole], session: str, first: int) -> int:
    """Give the frame from which on all frames before `first` are known to be lost; `first` itself if none is."""
    for one in sorted(holes, key=lambda one: -one.last):
        if one.session == session and one.first < first <= one.last + 1:
            first = one.first
    return first


def known_to(holes: Iterable[Hole], session: str, following: int) -> int:
    """Give the first frame at or behind `following` that is not known to be lost."""
    for one in sorted(holes, key=lambda one: one.first):
        if one.session == session and one.first <= following <= one.last:
            following = one.last + 1
    return following


def kept_name(layout: Layout, path: Path) -> str:
    """Give a path as a hole names it: from the archive's folder."""
    return str(path.relative_to(layout.root))
