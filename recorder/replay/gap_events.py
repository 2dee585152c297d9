"""Gap events: where a replay comes to a hole in the data, and where it is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Any, Literal, NamedTuple

import numpy as np

from recorder.archive.gaps import GAPS, GapRow
from recorder.archive.reading import Span
from recorder.replay.blocks import Block


class Gap(NamedTuple):
    """A gap begins or is over: `edge` is `start` or `end`, `ts_recv` the time of that edge in microseconds, UTC.

    `of_topic` is the topic that has the gap, `conid` the contract, None for the whole topic. `end` is None for a gap
    that is open; a strategy that must not know the future looks at it at the edge `end` only.
    """

    ts_recv: int
    edge: Literal["start", "end"]
    recorder: str
    of_topic: str
    conid: int | None
    start: int
    end: int | None
    cause: str
    evidence: str | None

    @property
    def topic(self) -> str:
        """The topic, as every event has it."""
        return GAPS


def with_gaps(blocks: Iterable[Block], rows: Iterable[GapRow], span: Span) -> Iterator[Block]:
    """Give what is given, and gap events among it.

    A gap begins behind the elements that have its start as their T, since the last of them came before it, and is over
    before those of its end. One that began before `span` begins with it; one that ends behind it does not end.
    """
    gaps = GapEdges(span)
    gaps.add(rows)
    for block in blocks:
        yield from gaps.among(block)
    yield from gaps.due(float("inf"))


class GapEdges:
    """Where gaps begin and are over, to be given among elements in their order; each edge once, however often added."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._waiting: list[tuple[Place, Gap]] = []
        self._known: set[tuple[object, ...]] = set()

    def add(self, rows: Iterable[GapRow]) -> None:
        """Take gaps; one that was open may come again when it is over."""
        for row in rows:
            for ts, side, gap in _edges(row, self._span):
                key = gap._replace(end=None, evidence=None)  # what becomes known later
                if key not in self._known:
                    self._known.add(key)
                    heappush(self._waiting, ((ts, side, len(self._known)), gap))

    def among(self, block: Block) -> Iterator[Block]:
        """Give a block, and the edges that come before its last element."""
        rest = block
        while self._waiting and self._waiting[0][0][0] <= rest.latest[-1]:
            ts, side, _ = self._waiting[0][0]
            count = int(np.searchsorted(rest.latest, ts, "left" if side == _BEFORE else "right"))
            if count == len(rest.latest):
                break  # what follows may have the same T
            if count:
                yield rest.part(count)
                rest = rest.rest(count)
            yield self._next()
        yield rest

    def due(self, moment: float) -> Iterator[Block]:
        """Give the edges up to a moment, behind which everything else will come."""
        while self._waiting and self._waiting[0][0][0] <= moment:
            yield self._next()

    def _next(self) -> Block:
        (ts, _, _), gap = heappop(self._waiting)
        return Block(np.array([ts], np.int64), iter([gap]))


_BEFORE, _BEHIND = range(2)  # where an edge stands: before or behind the elements of its time
Place = tuple[int, int, int]


def _edges(row: GapRow, span: Span) -> Iterator[tuple[int, int, Gap]]:
    begin = row.start if span.start is None else max(row.start, span.start)
    clipped = begin > row.start or row.end == row.start
    yield begin, (_BEFORE if clipped else _BEHIND), _gap(row, "start", begin)
    if row.end is not None and (span.end is None or row.end < span.end):
        yield row.end, _BEFORE, _gap(row, "end", row.end)


def _gap(row: GapRow, edge: Any, ts: int) -> Gap:
    return Gap(ts, edge, row.recorder, row.topic, row.conid, row.start, row.end, row.cause, row.evidence)
