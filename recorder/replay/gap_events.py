"""Gap events: where a replay comes to a hole in the data, and where it is over."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
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
    edges = deque(sorted(_edges(rows, span), key=lambda edge: edge[0]))
    for block in blocks:
        rest = block
        while edges and edges[0][0][0] <= rest.latest[-1]:
            (ts, side, _), gap = edges[0]
            count = int(np.searchsorted(rest.latest, ts, "left" if side == _BEFORE else "right"))
            if count == len(rest.latest):
                break  # what follows may have the same T
            edges.popleft()
            if count:
                yield rest.part(count)
            yield one_gap(ts, gap)
            rest = rest.rest(count)
        yield rest
    for (ts, _, _), gap in edges:
        yield one_gap(ts, gap)


def one_gap(ts: int, gap: Gap) -> Block:
    """Give an edge as a block."""
    return Block(np.array([ts], np.int64), iter([gap]))


_BEFORE, _BEHIND = range(2)  # where an edge stands: before or behind the elements of its time
Place = tuple[int, int, int]


def _edges(rows: Iterable[GapRow], span: Span) -> Iterator[tuple[Place, Gap]]:
    for number, row in enumerate(rows):
        begin = row.start if span.start is None else max(row.start, span.start)
        clipped = begin > row.start or row.end == row.start
        place = begin, (_BEFORE if clipped else _BEHIND), 2 * number
        yield place, _gap(row, "start", begin)
        if row.end is not None and (span.end is None or row.end < span.end):
            yield (row.end, _BEFORE, 2 * number + 1), _gap(row, "end", row.end)


def _gap(row: GapRow, edge: Any, ts: int) -> Gap:
    return Gap(ts, edge, row.recorder, row.topic, row.conid, row.start, row.end, row.cause, row.evidence)
