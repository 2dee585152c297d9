"""The gap ledger: which holes in the data are open, and the marks that say so.

1. At most one gap is open per key: a topic and a contract, or a topic as a whole. What goes wrong while it is open
   joins its evidence; its start and its first cause stay.
2. A close mark carries the whole row, so that one row comes from one mark, whatever was archived before it.
3. A gap never ends before it starts: a clock that stepped back gives an empty one. Nor does it start before the one
   before it ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from recorder.protocol.marks import encode_mark

Cause = Literal[
    "process_down",
    "disconnected",
    "not_authenticated",
    "competing",
    "heartbeat_lost",
    "session_rollover",
    "stale",
    "subscription_refused",
    "subscription_expired",
    "backpressure",
    "journal_damaged",
    "disk_full",
    "clock_step",
    "market_closed",
]
INFORMATION: Final = frozenset[str]({"market_closed"})
"""Causes by which nothing was missed."""
Key = tuple[str, int | None]


class Gap(msgspec.Struct, frozen=True):
    """An open gap: of a topic's contract, or of the whole topic (None); `start` is microseconds since the epoch, UTC.

    `evidence` says in words what showed it.
    """

    topic: str
    conid: int | None
    start: int
    cause: Cause
    evidence: str

    @property
    def key(self) -> Key:
        """What the gap is in."""
        return self.topic, self.conid


class Closed(msgspec.Struct, frozen=True):
    """A gap that is over; `end` is when the data went on, microseconds."""

    gap: Gap
    end: int


class Ending(msgspec.Struct, frozen=True):
    """How a recorder's last session ended: T of its last frame (microseconds), what was open, and why it is down."""

    last: int
    open_gaps: tuple[Gap, ...]
    cause: Cause
    evidence: str


class _Note(msgspec.Struct, tag_field="event", frozen=True):
    of: str
    contract: int | None
    start: int
    cause: Cause
    evidence: str

    @property
    def gap(self) -> Gap:
        return Gap(self.of, self.contract, self.start, self.cause, self.evidence)


class _Opened(_Note, tag="gap_opened", frozen=True):
    pass


class _ClosedNote(_Note, tag="gap_closed", frozen=True):
    end: int


class Ledger:
    """The open gaps of one recorder. What changes them gives the mark to journal, or None where nothing changes."""

    def __init__(self, open_gaps: Iterable[Gap] = ()) -> None:
        self._open = {gap.key: gap for gap in open_gaps}
        self._ends: dict[Key, int] = {}

    @property
    def open_gaps(self) -> tuple[Gap, ...]:
        """List the open gaps."""
        return tuple(self._open.values())

    def is_open(self, topic: str, conid: int | None = None) -> bool:
        """Say whether a gap is open for just this key."""
        return (topic, conid) in self._open

    def open(self, topic: str, conid: int | None = None, *, start: int, cause: Cause, evidence: str) -> bytes | None:
        """Open a gap; if one is open for the key, the cause joins its evidence, once per cause."""
        assert cause not in INFORMATION, "what is no hole has a known end: note it"
        return self._add(Gap(topic, conid, start, cause, evidence))

    def _add(self, gap: Gap) -> bytes | None:
        before = self._open.get(gap.key)
        if before is None:
            start = max(gap.start, self._ends.get(gap.key, gap.start))
            after = msgspec.structs.replace(gap, start=start)
        else:
            after = _joined(before, gap.cause, gap.evidence)
        if after == before:
            return None
        self._open[gap.key] = after
        return opened_mark(after)

    def close(self, topic: str, conid: int | None = None, *, end: int) -> bytes | None:
        """Close the key's gap: the data went on at `end`."""
        gap = self._open.get((topic, conid))
        return None if gap is None else self._close(gap, end)

    def open_all(self, gaps: Iterable[Gap]) -> list[bytes]:
        """Open several gaps."""
        return [mark for mark in map(self._add, gaps) if mark is not None]

    def close_all(self, *, end: int) -> list[bytes]:
        """Close every gap."""
        return [self._close(gap, end) for gap in self.open_gaps]

    def _close(self, gap: Gap, end: int) -> bytes:
        del self._open[gap.key]
        self._ends[gap.key] = max(gap.start, end)
        return closed_mark(gap, end=end)

    def note(
        self, topic: str, conid: int | None = None, *, start: int, end: int, cause: Cause, evidence: str
    ) -> bytes | None:
        """Note a gap that is over; it has a row of its own, also while another is open for the key.

        Only where one is open from the same moment on does the cause join that one's evidence: one start, one row.
        """
        gap = Gap(topic, conid, start, cause, evidence)
        open_gap = self._open.get(gap.key)
        if open_gap is None or open_gap.start != start:
            return closed_mark(gap, end=end)
        return None if cause in INFORMATION else self._add(gap)  # the open gap says more

    def follow(self, data: bytes) -> None:
        """Take in a mark that was journaled; a mark about something else changes nothing."""
        read = read_gap(data)
        if isinstance(read, Gap):
            self._open[read.key] = read
        elif read is not None and (gap := self._open.get(read.gap.key)) is not None and gap.start == read.gap.start:
            del self._open[gap.key]


def begin_session(ledger: Ledger, topics: Iterable[str], *, ending: Ending) -> list[bytes]:
    """Give the marks that a session begins with; `ledger` holds the gaps that were open at the ending of the last one.

    They are closed there, and each topic that the new session subscribes has a gap from there on.
    """
    closed = ledger.close_all(end=ending.last)
    gaps = [Gap(topic, None, ending.last, ending.cause, ending.evidence) for topic in dict.fromkeys(topics)]
    return [*closed, *ledger.open_all(gaps)]


def opened_mark(gap: Gap) -> bytes:
    """Write the mark of an open gap."""
    return encode_mark(
        "gap_opened", of=gap.topic, contract=gap.conid, start=gap.start, cause=gap.cause, evidence=gap.evidence
    )


def closed_mark(gap: Gap, *, end: int) -> bytes:
    """Write the mark of a gap that is over."""
    return encode_mark(
        "gap_closed",
        of=gap.topic,
        contract=gap.conid,
        start=gap.start,
        end=max(gap.start, end),
        cause=gap.cause,
        evidence=gap.evidence,
    )


def read_gap(data: bytes) -> Gap | Closed | None:
    """Read a mark; None if it is about no gap."""
    if b'"gap_' not in data:
        return None
    try:
        note = msgspec.json.decode(data, type=_Opened | _ClosedNote)
    except msgspec.ValidationError:
        return None
    return Closed(note.gap, note.end) if isinstance(note, _ClosedNote) else note.gap


def _joined(gap: Gap, cause: Cause, evidence: str) -> Gap:
    named = {part.partition(": ")[0] for part in gap.evidence.split("; ")[1:]}
    if cause == gap.cause or cause in named:
        return gap
    return msgspec.structs.replace(gap, evidence=f"{gap.evidence}; {cause}: {evidence}")
