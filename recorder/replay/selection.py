"""What is replayed: rows of which topics, contracts and times, and what holes in them come to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, get_args

from recorder.archive.gaps import GapRow, read_gaps, refuse, refuse_gaps
from recorder.archive.reading import Reader, Span
from recorder.errors import UsageError
from recorder.protocol.topics import Topic
from recorder.replay.blocks import Block
from recorder.replay.events import EventView, Records, event_blocks
from recorder.replay.following import Wait, follow
from recorder.replay.frames import FrameChoice, FrameView
from recorder.replay.gap_events import GapEdges, with_gaps

ReplayGaps = Literal["raise", "event", "ignore"]
"""What holes in the data come to when rows are replayed."""
Speed = float | Literal["max"] | None
"""How many seconds of a recording pass in one; None and `max` do not wait."""


class Selection(NamedTuple):
    """Rows of topics, of some contracts (None: all) and times, with some columns (None: all but `extra`)."""

    topics: Sequence[Topic]
    conids: Sequence[int] | None
    span: Span
    columns: Sequence[str] | None
    gaps: ReplayGaps

    @property
    def names(self) -> list[str]:
        """The topics' names."""
        return [topic.name for topic in self.topics]

    def records(self) -> Records:
        """Say what records are made of; `UsageError` for a column that no topic has."""
        return Records(self.topics, self.columns)

    def refuse_gaps(self, reader: Reader) -> None:
        """Raise `GapError` if there is a hole and there must be none."""
        if self.gaps == "raise":
            refuse_gaps(reader, topics=self.names, conids=self.conids, span=self.span)

    def blocks(self, reader: Reader) -> Iterator[Block]:
        """Give records, and gap events among them if holes come to that."""
        blocks = event_blocks(reader, self.records(), conids=self.conids, span=self.span)
        if self.gaps != "event":
            return blocks
        rows = read_gaps(reader, topics=self.names, conids=self.conids, span=self.span)
        return with_gaps(blocks, rows, self.span)

    def refused_or_blocks(self, reader: Reader, wait: Wait | None = None) -> Iterator[Block]:
        """Do both, once the first block is asked for; with something to wait with, what comes is followed."""
        self.refuse_gaps(reader)
        yield from self.blocks(reader) if wait is None else self.followed(reader, wait)

    def followed(self, reader: Reader, wait: Wait) -> Iterator[Block]:
        """Give what is recorded, then what comes; if holes must not be, `GapError` where one opens."""
        view = EventView(reader.topics, self.records(), self.conids, self.span)
        gaps = None if self.gaps == "ignore" else FollowedGaps(self, reader)
        return follow(reader, view, end=self.span.end, wait=wait, gaps=gaps)


class FollowedGaps(GapEdges):
    """The gaps of what is selected: those known at first, and those that become known."""

    def __init__(self, selection: Selection, reader: Reader) -> None:
        super().__init__(selection.span)
        self._selection = selection
        self.add(read_gaps(reader, span=selection.span))

    def add(self, rows: Iterable[GapRow]) -> None:
        """Take those that are of what is selected."""
        of = self._selection
        chosen = [row for row in rows if row.overlaps(of.span) and row.is_of(of.names, of.conids)]
        if of.gaps == "raise":
            refuse(chosen)
        else:
            super().add(chosen)


def followed_frames(
    reader: Reader, choice: FrameChoice, *, conids: Sequence[int] | None, wait: Wait
) -> Iterator[Block]:
    """Give recorded frames, then those that come."""
    return follow(reader, FrameView(reader.topics, choice, conids), end=choice.span.end, wait=wait)


def factor(speed: Speed) -> float | None:
    """Give a speed as a number, None for as fast as can be; `UsageError` for what is none."""
    if speed is None or speed == "max":
        return None
    if isinstance(speed, str) or not 0 < speed < float("inf"):
        raise UsageError(f"speed: {speed!r} is no speed", hint="give a number above 0, such as 1 or 20, or 'max'")
    return float(speed)


def check_gaps(gaps: str) -> None:
    """Raise `UsageError` for what is no choice."""
    if gaps not in get_args(ReplayGaps):
        raise UsageError(f"gaps: {gaps!r} is no choice", hint=f"use one of: {', '.join(get_args(ReplayGaps))}")
