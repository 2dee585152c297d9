"""Following: what is recorded, then what comes, while captures run; each element once, in the order of replay.

1. Each recorder's past is read from its parts, and what comes after it from the journal, or from parts if the archiver
   was faster. Where the one ends and the other begins is a frame's number, so nothing is lost or given twice.
2. Alone, a recorder's frames are given as soon as they are seen. With others, an element is given when no other
   recorder can have one before it: each is known up to its highest ts_recv so far, or up to `SETTLED_US` before it was
   looked at and had nothing new.
3. So a recorder whose clock is stepped back, that begins meanwhile, or that writes later than that, may come late: its
   frames are given when they are seen, in its own order, but behind those of others that they would precede.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from recorder.archive.archived import ArchivedReader
from recorder.archive.gaps import GapRow, told_by
from recorder.archive.reading import Reader, highest_so_far
from recorder.archive.tail import Tail
from recorder.protocol.decoding_state import DecodingState
from recorder.protocol.segment import FrameBatch
from recorder.replay.blocks import NEVER, Block, Source, merged_to
from recorder.replay.gap_events import GapEdges

POLL_S: Final = 0.05
SETTLED_US: Final = 2_000_000
"""Long enough for a frame to reach the journal: 50 ms, were it not for slow disks."""

Wait = Callable[[float], object]
"""Waits some seconds; true says that nothing more is wanted."""
Make = Callable[[str, FrameBatch, npt.NDArray[np.int64]], Block | None]
"""Makes elements of a session's frames, T of each given; None if there are none."""
Tell = Callable[[GapRow], None]


class View(Protocol):
    """What frames are turned into."""

    def past(self, reader: Reader, recorder: str) -> Iterator[Block]:
        """Give the elements of what a reader has of a recorder, with T as it is over all frames."""

    def coming(self, recorder: str, session: str, state: DecodingState) -> Make:
        """Make the elements of what comes; of that session a decoder begins from a state."""


def _wall_clock() -> int:
    return time.time_ns() // 1000


class Followed(Source):
    """One recorder: its past, then its tail."""

    def __init__(
        self, recorder: str, reader: ArchivedReader, view: View, *, tell: Tell | None, now: Callable[[], int]
    ) -> None:
        super().__init__(recorder, view.past(reader, recorder))
        self.known = NEVER
        self._view = view
        self._reader = reader
        self._tell = tell
        self._now = now
        self._latest = NEVER
        self._looked = NEVER
        self._tail: Tail | None = None
        self._fresh: Iterator[tuple[str, FrameBatch]] | None = None
        self._make: Make | None = None

    @property
    def horizon(self) -> tuple[float, str]:
        """Below which all is known."""
        return (self.known if self.block is None else int(self.block.latest[-1])), self.recorder

    def fill(self) -> None:
        """Have a block, if there is one by now."""
        if self._tail is None:
            super().fill()
            if self.block is not None:
                return
            self._tail = self._begin()
        if self.block is None:
            self.block = self._read(self._tail)

    def _begin(self) -> Tail:
        """Go over from the past to what comes."""
        position, commit = self._reader.end(self.recorder)
        state = DecodingState()
        if commit is not None:
            state, self._latest = commit.state, commit.latest
        self._make = self._view.coming(self.recorder, position.session, state)
        return Tail(self._reader, self.recorder, position)

    def _read(self, tail: Tail) -> Block | None:
        assert self._make is not None, "it begins with the tail"
        if self._fresh is None:
            self._looked, self._fresh = self._now(), tail.read()
        for session, batch in self._fresh:
            latest = highest_so_far(batch, self._latest)
            self._latest = int(latest[-1])
            if self._tell is not None:
                for _, data in batch.marks():
                    row = told_by(data, recorder=self.recorder, session=session)
                    if row is not None:
                        self._tell(row)
            block = self._make(session, batch, latest)
            if block is not None:
                return block
        self._fresh = None
        self.known = max(self.known, self._latest, self._looked - SETTLED_US)
        return None


class Followers:
    """All recorders of an archive, merged; `tell` hears of gaps, open or over, when they become known."""

    def __init__(
        self, reader: Reader, view: View, *, tell: Tell | None = None, now: Callable[[], int] = _wall_clock
    ) -> None:
        self._past = ArchivedReader(reader.layout, reader.topics)
        self._view = view
        self._tell = tell
        self._now = now
        self._sources: dict[str, Followed] = {}
        self._names = reader.recorders()

    def blocks(self) -> Iterator[Block]:
        """Give what can be given by now; nothing where nothing is new."""
        for name in {*self._names, *self._past.layout.recorders()} - self._sources.keys():
            self._sources[name] = Followed(name, self._past, self._view, tell=self._tell, now=self._now)
        sources = [source for _, source in sorted(self._sources.items())]
        for source in sources:
            source.fill()
        if len(sources) > 1:
            yield from merged_to(min(source.horizon for source in sources), sources)
        else:
            yield from (block for source in sources if (block := source.take((float("inf"), ""))) is not None)

    @property
    def idle(self) -> bool:
        """Whether nothing waits that could be given later."""
        return all(source.block is None for source in self._sources.values())

    @property
    def known(self) -> int:
        """Up to when everything was given, microseconds; of no recorder nothing is known."""
        return min((int(source.horizon[0]) for source in self._sources.values()), default=NEVER)


def follow(
    reader: Reader,
    view: View,
    *,
    end: int | None,
    wait: Wait,
    gaps: GapEdges | None = None,
    now: Callable[[], int] = _wall_clock,
) -> Iterator[Block]:
    """Give what is recorded, and then what comes, until `end` (microseconds) is reached or `wait` says so.

    `gaps` are given among it, and take what gaps become known.
    """
    followers = Followers(reader, view, tell=None if gaps is None else lambda row: gaps.add([row]), now=now)
    while not wait(0):
        given = False
        for block in followers.blocks():
            given = True
            yield from [block] if gaps is None else gaps.among(block)
        if given:
            continue
        if gaps is not None:
            yield from gaps.due(now() if followers.idle else followers.known)
        if end is not None and followers.known >= end:
            yield from () if gaps is None else gaps.due(float("inf"))
            return
        if wait(POLL_S):
            return
