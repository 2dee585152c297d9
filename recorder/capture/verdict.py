"""The verdict on a capture: what is wrong with it, in words.

1. Pure: a status and the present moment go in. Everything that judges a capture asks here: `recorder status`,
   `/healthz`, the page, the alerts and the live line.
2. A problem has a name that stays while its text changes, so that alerts can tell a new problem from an old one.
3. What mends itself within `GRACE` is no problem: it has its row in the gap ledger, and wakes nobody.
4. No text says more than this machine's owner may put on a screen: no account, no token, no evidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from recorder.capture.status import GapStatus, Status
from recorder.protocol.ledger import INFORMATION

GRACE: Final = 10.0
"""Seconds that a connection, a login or a topic may be away."""
SILENT: Final = 15.0
"""Seconds without a report after which a capture that should run does not answer."""
_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND
_SLOW: Final = 1.0  # seconds from receipt to the operating system; `write_within` is a twentieth of it
_DAYS: Final = 2.0
_FREE: Final = 1_000_000_000
_NAMED: Final = 3  # contracts named in one text
_ACCOUNT: Final = re.compile(r"\b(?:DU|DF|FA|[UFI])\d{4,}[A-Z]?\b")


class Problem(NamedTuple):
    """Something that is wrong: `what` is its name, `text` says it to people."""

    what: str
    text: str


def problems(status: Status, now: int) -> tuple[Problem, ...]:
    """List what is wrong with a capture at `now` (µs), the worst first; nothing: it is healthy."""
    if status.state in ("stopped", "failed"):
        return (Problem(status.state, f"the capture {status.state} {span(now - status.at)} ago: {_why(status)}"),)
    found = []
    if now - status.at > SILENT * _SECOND:
        found.append(Problem("silent", f"the capture has not reported for {span(now - status.at)}"))
    if status.state not in ("sleeping", "stopping"):
        found += _connection(status, now)
    found += [*_writing(status, now), *_disk(status)]
    return tuple(found)


def verdict(status: Status, now: int) -> str:
    """Sum a capture up in one sentence."""
    found = problems(status, now)
    if found:
        return f"Attention: {'; '.join(problem.text for problem in found)}."
    if status.state == "sleeping":
        wakes = "" if status.wakes is None else f", and wakes in {span(status.wakes - now)}"
        return f"All is well: the market is closed, the recorder sleeps{wakes}."
    if status.unready is not None or status.last_frame is None:
        return f"The capture is {status.state}."
    heard = f"the last frame came {span(max(0, now - status.last_frame))} ago"
    well = "All is well now" if covered(status.gaps, now=now) else "All is well"
    return f"{well}: recording, {heard}; {missed(status, now)}."


def missed(status: Status, now: int) -> str:
    """Say in one phrase how much the gaps of all topics and contracts cover, within the last day."""
    holes = covered(status.gaps, now=now)
    since = min([status.since, *(start for start, _ in holes)])
    window = span(min(_DAY, now - since))
    if not holes:
        return f"nothing was missed in the last {window}"
    longest = span(max(end - start for start, end in holes))
    if len(holes) == 1:
        return f"1 gap of {longest} in the last {window}"
    return f"{len(holes)} gaps in the last {window}, the longest {longest}"


def covered(gaps: Iterable[GapStatus], *, now: int) -> list[tuple[int, int]]:
    """Merge gaps into stretches of time (µs) in which anything was missing, in order; an open gap lasts until now."""
    spans = sorted(
        (gap.start, max(gap.start, now if gap.end is None else gap.end)) for gap in gaps if gap.cause not in INFORMATION
    )
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def without_accounts(text: str) -> str:
    """Take account ids out of a text: it may go to a screen, a metric or an alert."""
    return _ACCOUNT.sub("(account)", text)


def _why(status: Status) -> str:
    return without_accounts(status.ended or "no reason was given")


def _connection(status: Status, now: int) -> Iterator[Problem]:
    said = "" if status.problem is None else f" ({without_accounts(status.problem)})"
    if status.unready is not None:
        away = now - status.unready
        if away <= GRACE * _SECOND:
            return
        if not status.connected:
            yield Problem("disconnected", f"no connection to the gateway for {span(away)}{said}")
        elif not status.logged_in:
            yield Problem("not_authenticated", f"the gateway has had no brokerage session for {span(away)}{said}")
        else:
            yield Problem("not_recording", f"connected, but {status.state} for {span(away)}{said}")
        return
    if status.problem is not None:
        yield Problem("problem", without_accounts(status.problem))
    yield from _gaps(status, now)
    for topic in status.topics:
        refused = [one for one in status.streams if one.topic == topic.topic and one.state == "refused"]
        if topic.state == "refused":
            yield Problem(f"refused {topic.topic}", f"no {topic.topic}: the gateway refuses it, or sends nothing")
        elif refused:
            names = _names([str(one.conid) for one in refused])
            yield Problem(
                f"refused {topic.topic} contract",
                f"no {topic.topic} of {names}: the gateway refuses it, or sends nothing",
            )


def _gaps(status: Status, now: int) -> Iterator[Problem]:
    """Name what is missing now: whole topics first, then contracts, those of one cause together."""
    groups: dict[tuple[str, str, bool], list[GapStatus]] = {}
    for gap in status.open_gaps:
        if gap.cause not in INFORMATION and now - gap.start > GRACE * _SECOND:
            groups.setdefault((gap.topic, gap.cause, gap.conid is not None), []).append(gap)
    for (topic, cause, by_contract), gaps in sorted(groups.items(), key=lambda item: item[0][2]):
        since = span(now - min(gap.start for gap in gaps))
        names = f" of {_names([str(gap.conid) for gap in gaps])}" if by_contract else ""
        name = f"gap {topic} {cause}{' contract' if by_contract else ''}"
        yield Problem(name, f"no {topic}{names} for {since} ({cause.replace('_', ' ')})")


def _writing(status: Status, now: int) -> Iterator[Problem]:
    if status.lag > _SLOW:
        yield Problem("slow_disk", f"the disk is slow: a frame took {status.lag:.1f} s to be written")
    waited = now - max(status.since, status.last_flush or 0)
    if status.unflushed_frames and waited > (2 * status.flush_every + 60) * _SECOND:
        yield Problem(
            "not_flushed",
            f"nothing was written to Parquet for {span(waited)}: {status.unflushed_frames:,} frames wait",
        )


def _disk(status: Status) -> Iterator[Problem]:
    space = status.space
    if space is None:
        return
    if space.days is not None and space.days < _DAYS:
        yield Problem("disk", f"the disk is full in {space.days:.1f} days")
    elif space.free < _FREE:
        yield Problem("disk", f"the disk has only {space.free / 1e6:,.0f} MB left")


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def span(micros: float) -> str:
    """Write a stretch of time for people."""
    seconds = max(0, round(micros / _SECOND))
    if seconds < 60:  # noqa: PLR2004  seconds, minutes, hours, days
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if hours == 0:
        return f"{minutes} min"
    if days == 0:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"
