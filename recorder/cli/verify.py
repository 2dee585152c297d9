"""`recorder verify`: check that an archive is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from recorder.cli.options import Config, Data, Json
from recorder.cli.output import print_json, progress
from recorder.cli.settings import data_folder

if TYPE_CHECKING:
    from recorder.archive.journal_repair import Repaired
    from recorder.archive.verify import Report

_FAILED = 1


def verify(
    data: Data = None,
    rederive: Annotated[
        bool, typer.Option("--rederive", help="Decode every frame again and compare the rows, too.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Move what is damaged or foreign to quarantine/, and note what is lost; nothing is deleted.",
        ),
    ] = False,
    json: Json = False,
    config: Config = None,
) -> None:
    """Check that an archive is whole.

    Everything is read: checksums, digests, and row counts are held against the commits, every frame against its rows,
    every session against its predecessor. Exit code 1, with the list of what is wrong, if anything is.

    For example:

      recorder verify

      recorder verify --rederive --json

      recorder verify --repair
    """
    folder = data_folder(data, config)
    from recorder.archive.layout import open_layout  # noqa: PLC0415  pyarrow takes a moment to import
    from recorder.archive.reading import Reader  # noqa: PLC0415
    from recorder.protocol.topics import load_topics  # noqa: PLC0415
    from recorder.recording import verify_archive  # noqa: PLC0415

    layout, topics = open_layout(folder), load_topics()
    frames = Reader(layout, topics).archived_frames()
    with progress("verifying", total=frames) as done:
        report, repaired = verify_archive(layout, topics, rederive=rederive, repair=repair, done=done)
    if json:
        print_json(_document(report, repaired))
    else:
        _print(report)
        for path in repaired.moved:
            print(f"moved to {path}")
        for hole in repaired.holes:
            print(f"noted: {hole}")
    if report.problems:
        raise typer.Exit(_FAILED)


def _document(report: Report, repaired: Repaired) -> dict[str, Any]:
    return {
        "whole": not report.problems,
        "parts": report.commits,
        "frames": report.frames,
        "rows": report.rows,
        "problems": [{"kind": one.kind, "path": str(one.path), "what": one.what} for one in report.problems],
        "notes": report.notes,
        "holes": report.holes,
        "moved": [str(path) for path in repaired.moved],
        "noted": repaired.holes,
    }


def _print(report: Report) -> None:
    for note in report.notes:
        print(f"note: {note}")
    for hole in report.holes:
        print(f"known hole: {hole}")
    for problem in report.problems:
        print(f"{problem.kind}: {problem.path}: {problem.what}")
    checked = f"{report.frames:,} frames and {report.rows:,} rows in {report.commits:,} frames parts"
    if report.problems:
        problems = "1 problem" if len(report.problems) == 1 else f"{len(report.problems)} problems"
        print(f"{problems}; checked {checked}")
    else:
        lost = sum(hole.last - hole.first + 1 for hole in report.holes)
        print(f"whole, but for {lost:,} frames that are known to be lost: {checked}" if lost else f"whole: {checked}")
