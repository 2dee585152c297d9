"""`recorder flush`: archive what a capture left in the journal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recorder.cli.options import Config, Data, Json
from recorder.cli.output import print_json, progress
from recorder.cli.settings import data_folder
from recorder.errors import UsageError

if TYPE_CHECKING:
    from recorder.archive.archiver import News, Torn
    from recorder.archive.commit import Commit
    from recorder.archive.starting_state import Unread


def flush(
    data: Data = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only this recorder's journal.")] = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """Archive what a capture left in the journal.

    The next capture does the same by itself; a capture that runs needs no help. A session that broke off may end in
    bytes that are no whole record: they are kept in quarantine/, and that is said.

    For example:

      recorder flush

      recorder flush --data data --json
    """
    folder = data_folder(data, config)
    from recorder.archive.archiver import Torn  # noqa: PLC0415  pyarrow takes a moment to import
    from recorder.archive.layout import open_layout  # noqa: PLC0415
    from recorder.archive.starting_state import Unread  # noqa: PLC0415
    from recorder.recording import flush as flush_journal  # noqa: PLC0415

    layout = open_layout(folder)
    names = layout.recorders()
    if name is not None and name not in names:
        raise UsageError(f"--name: there is no recorder {name!r}", hint=f"use one of: {', '.join(names)}")
    waiting = sum(len(layout.segments(one)) for one in names if name in (None, one))
    commits: list[Commit] = []
    torn: list[Torn] = []
    unread: list[Unread] = []

    try:
        with progress("archiving", total=waiting) as done:

            def tell(news: News) -> None:
                if isinstance(news, Torn):
                    torn.append(news)
                elif isinstance(news, Unread):
                    unread.append(news)
                else:
                    commits.append(news)
                    done(len(commits))

            flush_journal(layout, tell=tell, recorder=name)
    finally:  # what was done is said, whatever stands in the way of the rest
        if json:
            said = [{"part": str(one.part), "what": one.what} for one in unread]
            print_json({"sessions": _sessions(commits), "torn": [_torn(one) for one in torn], "unread": said})
        else:
            for one in unread:
                print(f"warning: {one.what}; `recorder verify` says what that means", file=sys.stderr)
            _print(commits, torn, waiting=waiting)


def _sessions(commits: list[Commit]) -> list[dict[str, Any]]:
    """Add up the commits of each session."""
    sessions: dict[str, dict[str, Any]] = {}
    for commit in commits:
        said = sessions.setdefault(
            commit.session,
            {
                "recorder": commit.recorder,
                "session": commit.session,
                "segments": 0,
                "frames": 0,
                "parts": 0,
                "rows": {},
                "underived": {},
            },
        )
        said["segments"] += 1
        said["frames"] += commit.last - commit.first + 1
        said["parts"] += len(commit.partitions) + 1
        for topic, rows in commit.rows.items():
            said["rows"][topic] = said["rows"].get(topic, 0) + rows
        for topic, frames in commit.claimed.items():
            if topic not in commit.topics:
                said["underived"][topic] = said["underived"].get(topic, 0) + frames
    return list(sessions.values())


def _torn(one: Torn) -> dict[str, Any]:
    return {"segment": str(one.segment), "what": one.what, "kept": _path(one.kept)}


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _print(commits: list[Commit], torn: list[Torn], *, waiting: int) -> None:
    for said in _sessions(commits):
        rows = ", ".join(f"{topic} {count:,}" for topic, count in sorted(said["rows"].items()))
        print(
            f"session {said['session']} of {said['recorder']}: {said['frames']:,} frames into {said['parts']:,} parts"
            f" (rows: {rows or 'none'})"
        )
        for topic, frames in sorted(said["underived"].items()):
            print(f"warning: {frames:,} frames of {topic} have no rows: its parts have another schema", file=sys.stderr)
    for one in torn:
        rest = f"the rest is kept in {one.kept}" if one.kept else "nothing was cut off"
        print(f"warning: {one.segment} broke off ({one.what}); {rest}", file=sys.stderr)
    if not waiting:
        print("nothing to archive: the journal is empty")
