"""`recorder compact`: one part per partition and session, for finished dates."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from recorder.cli.options import Config, Data, Json
from recorder.cli.output import print_json, progress
from recorder.cli.settings import data_folder
from recorder.errors import UsageError


def compact(
    data: Data = None,
    before: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Only dates before this one.", show_default="the current date"),
    ] = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """Merge the parts of finished dates.

    Each partition then holds one part a session. While rows are copied, their digests are held against the commits: if
    one differs, nothing is replaced and the command fails. Safe beside a running capture and beside readers; killed at
    any moment, it leaves whole parts, and the next run goes on.

    For example:

      recorder compact

      recorder compact --before 2026-11-20
    """
    folder = data_folder(data, config)
    from recorder.archive.layout import open_layout  # noqa: PLC0415  pyarrow takes a moment to import
    from recorder.recording import compact_finished  # noqa: PLC0415

    layout = open_layout(folder)
    limit = None if before is None else _date(before)
    with progress("compacting") as done:
        compacted = compact_finished(layout, before=limit, done=done)
    if json:
        print_json({"dates": [one._asdict() for one in compacted]})
    elif not compacted:
        print("nothing to compact: every finished date is compact")
    for one in () if json else compacted:
        print(f"{one.date}: {one.before:,} parts are now {one.after:,}; {one.frames:,} frames, digests unchanged")


def _date(text: str) -> str:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date().isoformat()  # noqa: DTZ007  only the date is kept
    except ValueError:
        raise UsageError(f"--before: {text!r} is not a date", hint="write it as 2026-11-20") from None
