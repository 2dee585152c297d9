"""The status as a document: what `recorder status --json` and `/status.json` say, key by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from recorder.capture.status import GapStatus, Space, Status
from recorder.capture.verdict import Problem, covered, without_accounts
from recorder.protocol.ledger import INFORMATION

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = 1_000_000


def judgement_document(found: Iterable[Problem], verdict: str) -> dict[str, Any]:
    """Write what was judged: the verdict, and the problems by name and text."""
    listed = [{"what": problem.what, "text": problem.text} for problem in found]
    return {"verdict": verdict, "healthy": not listed, "problems": listed}


def status_document(status: Status, *, now: int) -> dict[str, Any]:
    """Write a status at `now` (µs) as JSON-ready values: instants as text, ages and spans in seconds."""
    return {
        "recorder": status.recorder,
        "session": status.session,
        "pid": status.pid,
        "at": instant(status.at),
        "since": instant(status.since),
        "state": status.state,
        "connected": status.connected,
        "logged_in": status.logged_in,
        "connections": status.connections,
        "received": status.received,
        "rate": round(status.rate, 1),
        "last_frame_age": _age(status.last_frame, now),
        "topics": [
            {
                "topic": one.topic,
                "state": one.state,
                "last_frame_age": _age(one.last, now),
                "rate": round(one.rate, 2),
                "rows": one.rows,
            }
            for one in status.topics
        ],
        "contracts": [
            {
                "topic": one.topic,
                "key": without_accounts(one.key),
                "conid": one.conid,
                "state": one.state,
                "last_frame_age": _age(one.last, now),
            }
            for one in status.streams
        ],
        "unclaimed": status.unclaimed,
        "undecoded": status.undecoded,
        "journal": {
            "frames": status.unflushed_frames,
            "bytes": status.unflushed_bytes,
            "unwritten_bytes": status.unwritten_bytes,
            "lag": round(status.lag, 6),
        },
        "flushes": {
            "count": status.flushes,
            "last": None if status.last_flush is None else instant(status.last_flush),
            "took": None if status.flush_took is None else round(status.flush_took, 3),
        },
        "gaps": [gap_document(gap) for gap in status.gaps],
        "gaps_left_out": status.gaps_left_out,
        "missed": round(sum(end - start for start, end in covered(status.gaps, now=now)) / _SECOND, 3),
        "disk": space_document(status.space),
        "failed_alerts": status.failed_alerts,
        "wakes": None if status.wakes is None else instant(status.wakes),
        "ended": None if status.ended is None else without_accounts(status.ended),
    }


def gap_document(gap: GapStatus) -> dict[str, Any]:
    """Write a gap; `information` says that nothing was missed."""
    return {
        "topic": gap.topic,
        "conid": gap.conid,
        "start": instant(gap.start),
        "end": None if gap.end is None else instant(gap.end),
        "cause": gap.cause,
        "information": gap.cause in INFORMATION,
    }


def space_document(space: Space | None) -> Mapping[str, Any]:
    """Write the room on the disk; null: not known."""
    days = None if space is None else space.days
    return {
        "free_bytes": None if space is None else space.free,
        "bytes_per_day": None if space is None else space.per_day,
        "days_left": None if days is None else round(days, 1),
    }


def instant(micros: int) -> str:
    """Write an instant as `recorder replay` does."""
    moment = _EPOCH + timedelta(microseconds=micros)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z"


def _age(then: int | None, now: int) -> float | None:
    return None if then is None else round(max(0, now - then) / _SECOND, 3)
