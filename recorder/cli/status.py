"""`recorder status`: say how a recorder is doing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from recorder.cli.options import Config, Data, Json
from recorder.cli.output import print_json, print_table
from recorder.cli.settings import data_folder

if TYPE_CHECKING:
    from recorder.capture.status import GapStatus, Space, Status
    from recorder.supervision import Standing

_FAILED: Final = 1
_SECOND: Final = 1_000_000
_SHOWN: Final = 10  # gaps, for people


def status(
    data: Data = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only this recorder.")] = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """Say how a recorder is doing.

    Whether it runs, is connected and logged in; by topic how old the last frame is; what is not in Parquet yet; today's
    gaps; how long the disk lasts. Works beside a running capture and after one that died. Exit code 1 if anything is
    wrong, and if no capture runs: fit for cron.

    For example:

      recorder status

      recorder status --name main --json
    """
    folder = data_folder(data, config)
    from recorder.archive.layout import open_layout  # noqa: PLC0415  pyarrow takes a moment to import
    from recorder.supervision import archive_space, standings  # noqa: PLC0415

    layout, now = open_layout(folder), time.time_ns() // 1000
    found = standings(layout, now=now, recorder=name)
    space = archive_space(layout, now=now)
    if json:
        print_json(_document(str(layout.root), found, space, now))
    else:
        _print(found, space, now)
    if not found or any(one.problems for one in found):
        raise typer.Exit(_FAILED)


def _document(root: str, found: list[Standing], space: Space, now: int) -> dict[str, Any]:
    from recorder.capture.status_document import space_document  # noqa: PLC0415  as in `status`

    return {
        "data": root,
        "healthy": bool(found) and not any(one.problems for one in found),
        "disk": space_document(space),
        "recorders": [_recorder(one, now) for one in found],
    }


def _recorder(one: Standing, now: int) -> dict[str, Any]:
    from recorder.capture import status_document as documents  # noqa: PLC0415  as in `status`

    said = {"recorder": one.recorder} if one.status is None else documents.status_document(one.status, now=now)
    return {
        "running": one.running,
        **documents.judgement_document(one.problems, one.verdict),
        "gaps_today": [documents.gap_document(gap) for gap in one.gaps],
        "segments_waiting": one.waiting,
        **said,
    }


def _print(found: list[Standing], space: Space, now: int) -> None:
    if not found:
        print("nothing is recorded, and no capture runs")
    for one in found:
        print(f"{one.recorder}: {one.verdict}")
        if one.status is not None:
            _print_status(one.status, now, running=one.running)
        _print_gaps(one.gaps, now)
        print()
    days = "how long that lasts is unknown: no day is finished yet"
    if space.days is not None and space.per_day is not None:
        days = f"enough for {space.days:,.1f} days at {space.per_day / 1e6:,.1f} MB a day"
    print(f"disk         {space.free / 1e9:,.1f} GB free, {days}")


def _print_status(status: Status, now: int, *, running: bool) -> None:
    ways = [
        "connected" if status.connected else "not connected",
        "logged in" if status.logged_in else "not logged in",
        f"{max(0, status.connections - 1)} reconnects",
    ]
    state = status.state if running or status.state in ("stopped", "failed") else f"dead, was {status.state}"
    print(f"session      {status.session}, since {_second(status.since)}, process {status.pid}")
    print(f"state        {state}, {', '.join(ways) if running else f'last heard of {_second(status.at)}'}")
    flushed = "no flush yet" if status.last_flush is None else f"last flush {_ago(status.last_flush, now)}"
    print(f"journal      {status.unflushed_frames:,} frames not in Parquet, {flushed}")
    rows = [
        (one.topic, one.state, _ago(one.last, now), f"{one.rate:,.1f}" if running else "", f"{one.rows:,}")
        for one in status.topics
    ]
    if rows:
        print()
        print_table(
            ["topic", "state", "last frame", "frames/s", "rows"], rows, right=["last frame", "frames/s", "rows"]
        )


def _print_gaps(gaps: tuple[GapStatus, ...], now: int) -> None:
    from recorder.capture.verdict import span  # noqa: PLC0415  as in `status`

    print(f"gaps today   {len(gaps):,}")
    for gap in gaps[-_SHOWN:]:
        which = gap.topic if gap.conid is None else f"{gap.topic} {gap.conid}"
        end = "now, still open" if gap.end is None else _second(gap.end)[11:]
        lasted = span((now if gap.end is None else gap.end) - gap.start)
        print(f"  {_second(gap.start)} to {end}  {lasted:>10}  {gap.cause.replace('_', ' ')}  {which}")
    if len(gaps) > _SHOWN:
        print(f"  and {len(gaps) - _SHOWN:,} before these")


def _ago(then: int | None, now: int) -> str:
    from recorder.capture.verdict import span  # noqa: PLC0415  as in `status`

    return "never" if then is None else f"{span(max(0, now - then))} ago"


def _second(micros: int) -> str:
    return f"{datetime.fromtimestamp(micros / _SECOND, UTC):%Y-%m-%d %H:%M:%S}"
