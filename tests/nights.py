"""A bad night, judged: the simulator's log of faults against what the recorder has of it.

1. What was sent on a connection is in the archive, byte for byte and in order; where a connection was broken off, the
   beginning of it is, and nothing else.
2. A fault that a recorder can notice has its row in the gap ledger, with its cause, and what was not received of market
   data lies within rows.
3. A row of the ledger has a fault behind it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd

from recorder.library import Archive
from recorder.protocol.digest import ContentDigest
from recorder.protocol.envelope import wire_topic
from recorder.protocol.staleness import ANEW, ANSWER, INTERVALS
from recorder.protocol.stream_watch import SAMPLE
from recorder.replay.batch import topic_of
from recorder.replay.trail import SHORT, short_digest
from recorder.types import Frame

SECOND: Final = 1_000_000
SLACK: Final = SECOND // 4
"""How far a row may be from what the log and the frames say: two processes, one clock."""
GRACE_S: Final = ANSWER + ANEW + 2.0
"""Seconds after which a stream that is asked for again, twice, counts as stale; and how late that is looked at."""
BROKEN_OFF: Final = frozenset({"lost", "aborted", "cut"})
BY_ITSELF: Final = frozenset({"process_down", "market_closed"})
"""Causes that need no fault: the start of a process, and information."""

CAUSES: Final[Mapping[str, frozenset[str]]] = {
    "disconnect": frozenset({"disconnected"}),
    "silence": frozenset({"stale"}),
    "freeze": frozenset({"heartbeat_lost"}),
    "rollover": frozenset({"session_rollover"}),
    "deauth": frozenset({"not_authenticated"}),
    "competing": frozenset({"competing"}),
    "refuse": frozenset({"disconnected"}),
    "expire": frozenset({"subscription_expired", "stale"}),
    "away": frozenset({"disconnected"}),
}
"""What the row of a fault may give as its cause, first or joined."""
BESIDES: Final[Mapping[str, frozenset[str]]] = {
    "silence": frozenset({"disconnected", "subscription_expired"}),
    "freeze": frozenset({"stale", "disconnected"}),
    "rollover": frozenset({"stale", "disconnected"}),
    "competing": frozenset({"not_authenticated"}),
    "refuse": frozenset({"subscription_refused"}),
    "expire": frozenset({"disconnected"}),
    "burst": frozenset({"backpressure"}),
    "large": frozenset({"backpressure"}),
}
"""What else a recorder may say about it, because it shows first or is what it does about it."""


class Row(NamedTuple):
    """A row of the ledger; `end` None: still open. Times are microseconds."""

    topic: str
    conid: int | None
    start: int
    end: int | None
    cause: str
    evidence: str

    def names(self, causes: Iterable[str]) -> bool:
        """Say whether one of these causes is its own, or joined it."""
        return any(cause == self.cause or cause in self.evidence for cause in causes)

    def __str__(self) -> str:
        about = self.topic if self.conid is None else f"{self.topic} of {self.conid}"
        lasted = "open" if self.end is None else f"{(self.end - self.start) / SECOND:.2f} s"
        return f"{self.cause} in {about} from {self.start} ({lasted}): {self.evidence}"


class Fault(NamedTuple):
    """A fault as the simulator logged it; `began` and `ended` in microseconds."""

    number: int
    kind: str
    option: str | None
    began: int
    ended: int
    topics: tuple[str, ...]
    conids: tuple[int, ...]
    withheld: int

    @property
    def name(self) -> str:
        """How a script writes it."""
        return self.kind if self.option is None else f"{self.kind}={self.option}"

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.ended - self.began) / SECOND


class Patience(NamedTuple):
    """How long a recorder takes to notice, by its settings; seconds."""

    stale_after: float
    heartbeat_timeout: float
    tickle_every: float
    grace: float = GRACE_S
    sample: float = SAMPLE

    @property
    def knowable(self) -> float:
        """A silence shorter than this cannot be told from a quiet market."""
        return self.stale_after + self.grace

    @property
    def knowable_of_one(self) -> float:
        """A silence of one contract shorter than this cannot: it is measured by its own, sampled, intervals."""
        return max(self.stale_after, 1.2 * INTERVALS * self.sample) + self.grace

    @property
    def settled(self) -> float:
        """After this, all that a fault led to has begun."""
        return max(self.knowable_of_one, self.heartbeat_timeout, self.tickle_every) + 3.0

    def must_notice(self, fault: Fault) -> bool:
        """Say whether a recorder can know of a fault."""
        match fault.kind:
            case "silence":
                return fault.seconds > (self.knowable if fault.option == "all" else self.knowable_of_one)
            case "freeze":
                return fault.seconds > self.heartbeat_timeout + 0.5
            case "expire":
                return False  # a renewal may come before anybody can know; what is silent for long is looked at below
            case _:
                return fault.kind in CAUSES


class Log(NamedTuple):
    """The simulator's log: its faults, and what each connection that has ended was sent."""

    faults: list[Fault]
    sent: list[dict[str, Any]]


def read_log(path: Path) -> Log:
    """Read a log."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    began = {line["number"]: line for line in lines if line["event"] == "fault_began"}
    faults = [
        Fault(
            line["number"], line["fault"], line["option"], began[line["number"]]["ts"], line["ts"],
            tuple(line["topics"]), tuple(line["conids"]), line["withheld"],
        )
        for line in lines
        if line["event"] == "fault_ended"
    ]  # fmt: skip
    sent = sorted((line for line in lines if line["event"] == "left"), key=lambda line: int(line["connection"]))
    return Log(sorted(faults, key=lambda fault: fault.began), sent)


def rows_of(archive: Archive) -> list[Row]:
    """Read the gap ledger."""
    rows: list[dict[str, Any]] = archive.gaps().to_dict("records")  # type: ignore[assignment]
    return [
        Row(
            row["topic"], None if pd.isna(row["conid"]) else int(row["conid"]), row["start"].value // 1000,
            None if pd.isna(row["end"]) else row["end"].value // 1000, row["cause"], row["evidence"],
        )
        for row in rows
    ]  # fmt: skip


# ------------------------------------------------------------------ 1. what was sent


class Arrived(NamedTuple):
    """What arrived on one connection."""

    topics: dict[str, ContentDigest]
    digests: list[bytes]
    """One digest a frame."""
    early: Mapping[str, Any]
    """By topic, of the frames before the trail's first."""


def connections_of(archive: Archive, firsts: Iterator[int]) -> list[Arrived]:
    """Gather what arrived, by connection; `firsts` gives where each one's trail begins."""
    found: list[Arrived] = []
    last: tuple[str, int] | None = None
    for frame in archive.frames(kinds=["in"]):
        if (frame.session, frame.conn) != last:
            last, first = (frame.session, frame.conn), next(firsts, 0)
            found.append(Arrived({}, [], {}))
        one = found[-1]
        topic = topic_of((wire_topic(frame.data) or "").partition("+")[0])
        one.topics.setdefault(topic, ContentDigest(topic)).add(frame.data)
        one.digests.append(short_digest(frame.data))
        if len(one.digests) == first:
            found[-1] = one._replace(early=_plain(one.topics))
    return found


def _plain(topics: Mapping[str, ContentDigest]) -> dict[str, Any]:
    return {name: {"frames": one.count, "digest": one.hexdigest()} for name, one in topics.items()}


def what_is_missing(archive: Archive, log: Log) -> list[str]:
    """Compare each connection's frames with what it was sent (1)."""
    sent = [one for one in log.sent if one["frames"]]
    firsts = iter([one.get("trail", {}).get("first", 0) for one in sent])
    arrived = connections_of(archive, firsts)
    found = [problem for one, got in zip(sent, arrived, strict=False) if (problem := _compared(one, got)) is not None]
    if len(sent) != len(arrived):
        found.append(f"{len(sent)} connections were sent frames, {len(arrived)} are in the archive")
    return found


def _compared(sent: Mapping[str, Any], got: Arrived) -> str | None:
    count, name = len(got.digests), f"connection {sent['connection']} ({sent['parting']})"
    if count == sent["frames"]:
        return None if _plain(got.topics) == sent["topics"] else f"{name}: other frames than were sent"
    if count > sent["frames"] or sent["parting"] not in BROKEN_OFF:
        return f"{name}: {sent['frames']} frames sent, {count} in the archive"
    trail = sent["trail"]
    first = trail["first"]
    if count < first:
        return f"{name}: broken off, and {sent['frames'] - count} of its frames are missing: more than the trail shows"
    whole = bytes.fromhex(trail["frames"])
    each = [whole[start : start + SHORT] for start in range(0, len(whole), SHORT)]
    same = got.digests[first:] == each[: count - first] and (first == 0 or got.early == trail["topics"])
    return None if same else f"{name}: what arrived before it was broken off is not the beginning of what was sent"


def lost_under_way(archive: Archive, log: Log) -> int:
    """Count the frames that were under way when connections were broken off."""
    arrived = sum(1 for _ in archive.frames(kinds=["in"]))
    return int(sum(one["frames"] for one in log.sent)) - arrived


# ------------------------------------------------------------------ 2. every hole has a row


def unrecorded(log: Log, rows: list[Row], patience: Patience) -> list[str]:
    """Name the faults that have no row although they could be noticed (2)."""
    found = []
    for fault, limit in _windows(log, patience):
        near = [row for row in rows if row.start <= limit and (row.end or limit) >= fault.began - SLACK]
        for topic in fault.topics if patience.must_notice(fault) else ():
            own = [row for row in near if row.topic == topic and row.names(CAUSES[fault.kind]) and _about(row, fault)]
            if not own:
                found.append(f"{_told(fault)}: no row for {topic}; there are {[str(row) for row in near]}")
            elif min(row.start for row in own) > fault.began + SLACK:
                found.append(f"{_told(fault)}: the row of {topic} begins late: {own[0]}")
        refused = [row for row in near if row.topic == "orders" and row.names({"subscription_refused"})]
        if fault.kind == "refuse" and "orders" in fault.topics and fault.seconds > 3 and not refused:
            found.append(f"{_told(fault)}: no row says that orders were refused")
    return found


def _about(row: Row, fault: Fault) -> bool:
    one = fault.kind == "silence" and fault.option != "all"
    return row.conid is None or not one or row.conid in fault.conids


def _told(fault: Fault) -> str:
    return f"fault {fault.number} {fault.name} from {fault.began} for {fault.seconds:.2f} s"


def _windows(log: Log, patience: Patience) -> Iterator[tuple[Fault, int]]:
    for fault in log.faults:
        yield fault, fault.ended + int(patience.settled * SECOND)


def uncovered(archive: Archive, log: Log, rows: list[Row], patience: Patience) -> list[str]:
    """Name the silences of market data that a recorder could know of and that no row covers (2)."""
    times: dict[int | None, list[int]] = {None: []}
    hushed = {
        conid for fault in log.faults if fault.kind == "silence" and fault.option != "all" for conid in fault.conids
    }
    for frame in archive.frames(kinds=["in"]):
        conid = market_conid(frame)
        if conid is None:
            continue
        times[None].append(frame.ts_recv)
        if conid in hushed:
            times.setdefault(conid, []).append(frame.ts_recv)
    found = []
    for conid, stamps in times.items():
        covers = [row for row in rows if row.topic == "market_data" and row.conid in {None, conid}]
        noticed = [fault for fault in log.faults if patience.must_notice(fault) and _hits(fault, conid)]
        for before, after in pairwise(stamps):
            limit = patience.knowable if conid is None else patience.knowable_of_one
            if not _is_hole(before, after, noticed, limit) or _covered(before + SLACK, after - SLACK, covers):
                continue
            about = "market data" if conid is None else f"market data of {conid}"
            found.append(
                f"{about}: silent from {before} to {after} ({(after - before) / SECOND:.1f} s), no rows cover it"
            )
    return found


def _hits(fault: Fault, conid: int | None) -> bool:
    one = fault.kind == "silence" and fault.option != "all"
    return "market_data" in fault.topics and (conid in fault.conids if one else conid is None)


def _is_hole(before: int, after: int, noticed: list[Fault], limit: float) -> bool:
    """Say whether nothing for so long must be explained: it is long, or a fault that can be noticed lies in it."""
    if after - before > limit * SECOND:
        return True
    long = after - before > 2 * SLACK
    return long and any(before < fault.ended and after > fault.began for fault in noticed)


def market_conid(frame: Frame) -> int | None:
    """Give the contract of a frame of market data; None for other frames."""
    topic = wire_topic(frame.data) if b'"smd+' in frame.data else None
    target = topic[4:].partition("@")[0] if topic is not None and topic.startswith("smd+") else ""
    return int(target) if target.isdecimal() else None


def _covered(start: int, end: int, rows: list[Row]) -> bool:
    at = start
    for row in sorted(rows, key=lambda row: row.start):
        if row.start > at:
            break
        at = max(at, end if row.end is None else row.end)
    return at >= end


# ------------------------------------------------------------------ 3. every row has a fault


def unfounded(log: Log, rows: list[Row], patience: Patience) -> list[str]:
    """Name the rows that no fault explains (3)."""
    return [f"no fault behind the row: {row}" for row in rows if not _founded(row, log, patience)]


def _founded(row: Row, log: Log, patience: Patience) -> bool:
    if row.cause in BY_ITSELF:
        return True
    return any(
        row.start <= limit
        and (row.end is None or row.end >= fault.began - SLACK)
        and row.cause in CAUSES.get(fault.kind, frozenset()) | BESIDES.get(fault.kind, frozenset())
        for fault, limit in _windows(log, patience)
    )


# ------------------------------------------------------------------ all of it


def judged(archive: Archive, log: Log, patience: Patience) -> list[str]:
    """Give everything in which the log and the archive disagree."""
    rows = rows_of(archive)
    return [
        *what_is_missing(archive, log),
        *unrecorded(log, rows, patience),
        *uncovered(archive, log, rows, patience),
        *unfounded(log, rows, patience),
    ]
