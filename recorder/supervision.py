"""The supervision of recorders from outside their processes: status files, locks, gaps and the disk put together."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from recorder.archive.gaps import read_gaps
from recorder.archive.layout import Layout
from recorder.archive.reading import Reader, Span
from recorder.archive.space import daily_growth, free_space
from recorder.capture.status import GapStatus, Space, Status
from recorder.capture.status_file import read_status
from recorder.capture.verdict import Problem, problems, span, verdict
from recorder.errors import UsageError
from recorder.lock import CAPTURE, is_held, read_holder
from recorder.protocol.topics import load_topics

_SECOND: Final = 1_000_000
_SPEECHLESS: Final = 15 * _SECOND  # a capture that starts may take so long until it says something


class Standing(NamedTuple):
    """How one recorder stands. `status` is what its capture said last; None: none has said anything yet.

    `running` says whether its process is alive, by its lock. `waiting` counts the segments that nobody archives while
    it is not. `gaps` are today's.
    """

    recorder: str
    running: bool
    status: Status | None
    gaps: tuple[GapStatus, ...]
    waiting: int
    problems: tuple[Problem, ...]
    verdict: str


def archive_space(layout: Layout, *, now: int) -> Space:
    """Say how much room the archive's disk has, and what a day takes."""
    today = layout.boundary.day_of(now).date.isoformat()
    return Space(free_space(layout), daily_growth(layout, today=today))


def standings(layout: Layout, *, now: int, recorder: str | None = None) -> list[Standing]:
    """Say how each recorder of an archive stands at `now` (µs), or the one that is named.

    `UsageError` if there is none of that name, `ArchiveError` if a status file is none.
    """
    names = layout.recorders()
    if recorder is not None and recorder not in names:
        raise UsageError(
            f"no recorder {recorder!r} has recorded into {layout.root}",
            hint=f"use one of: {', '.join(names)}" if names else "start `recorder capture` first",
        )
    return [_standing(layout, name, now) for name in (names if recorder is None else [recorder])]


def _standing(layout: Layout, recorder: str, now: int) -> Standing:
    folder = layout.journal(recorder)
    running = is_held(folder / CAPTURE)  # first: what it says after that is at least as new
    status = read_status(folder)
    waiting = 0 if running else len(layout.segments(recorder))
    found, said = _judge(folder, status, running=running, now=now)
    if waiting and not running:
        left = "1 segment waits" if waiting == 1 else f"{waiting} segments wait"
        found = (*found, Problem("not_archived", f"{left} in the journal for the next capture, or `recorder flush`"))
        said = f"Attention: {'; '.join(problem.text for problem in found)}."
    gaps = _today(layout, recorder, status if running else None, start=layout.boundary.day_of(now).start)
    return Standing(recorder, running, status, gaps, waiting, found, said)


def _judge(folder: Path, status: Status | None, *, running: bool, now: int) -> tuple[tuple[Problem, ...], str]:
    if running:
        holder = read_holder(folder / CAPTURE)
        if status is not None and holder is not None and holder.session == status.session:
            return problems(status, now), verdict(status, now)
        if now - (folder / CAPTURE).stat().st_mtime_ns // 1000 <= _SPEECHLESS:
            return (), "The capture is starting."
        problem = Problem("silent", "a capture runs, and has not said anything yet")
    elif status is None:
        problem = Problem("not_running", "no capture runs")
    elif status.state in ("stopped", "failed"):
        return problems(status, now), verdict(status, now)
    else:
        ago = span(now - status.at)
        problem = Problem("died", f"the capture died {ago} ago, without a word: its process is gone")
    return (problem,), f"Attention: {problem.text}."


def _today(layout: Layout, recorder: str, live: Status | None, *, start: int) -> tuple[GapStatus, ...]:
    """List the gaps since `start`: as the capture that runs tells them, else as the archive does.

    The archive does not know of the hole that a capture that is gone leaves now: the next one notes it.
    """
    if live is not None:
        return tuple(gap for gap in live.gaps if gap.end is None or gap.end >= start)
    rows = read_gaps(Reader(layout, load_topics()), span=Span(start, None))
    return tuple(
        GapStatus(row.topic, row.conid, row.start, row.end, row.cause) for row in rows if row.recorder == recorder
    )
