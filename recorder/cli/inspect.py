"""`recorder inspect`: show what an archive holds."""

from __future__ import annotations

from datetime import date as Date  # noqa: N812  the option is called date
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from recorder.cli.instants import format_instant
from recorder.cli.options import Config, Data, Json
from recorder.cli.output import print_json, print_table, progress
from recorder.cli.settings import data_folder
from recorder.errors import UsageError

if TYPE_CHECKING:
    from recorder.archive.inventory import Inventory, Session, TopicCount
    from recorder.archive.layout import Layout
    from recorder.types import Frame

_HEAD: Final = 200  # bytes of a sample that are shown


def inspect(
    data: Data = None,
    session: Annotated[str | None, typer.Option(metavar="NAME", help="Only this session.")] = None,
    date: Annotated[str | None, typer.Option(metavar="DATE", help="Only this date of the archive.")] = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """Show what an archive holds.

    Sessions and how they ended, rows and bytes by topic, what is still in the journal, and what no topic claims or
    could not be decoded. A capture that runs is not disturbed.

    For example:

      recorder inspect

      recorder inspect --date 2026-11-20 --json
    """
    if date is not None:
        _check_date(date)
    folder = data_folder(data, config)
    from recorder.archive.inventory import take_inventory  # noqa: PLC0415  pyarrow takes a moment to import
    from recorder.archive.layout import open_layout  # noqa: PLC0415
    from recorder.protocol.topics import load_topics  # noqa: PLC0415

    layout = open_layout(folder)
    waiting = sum(path.stat().st_size for name in layout.recorders() for path in layout.segments(name))
    with progress("reading the journal", total=waiting) as done:
        found = take_inventory(layout, load_topics(), session=session, date=date, watch=done)
    if session is not None and not found.sessions:
        raise UsageError(f"--session: no session {session!r} is recorded", hint="`recorder inspect` lists them")
    if json:
        print_json(_document(layout, found))
    else:
        _print(layout, found)


def _check_date(text: str) -> None:
    try:
        fine = Date.fromisoformat(text).isoformat() == text
    except ValueError:
        fine = False
    if not fine:
        raise UsageError(f"--date: {text!r} is not a date", hint="write it as 2026-11-20")


def _document(layout: Layout, found: Inventory) -> dict[str, Any]:
    from recorder.archive.layout import FORMAT  # noqa: PLC0415  as in `inspect`

    return {
        "data": str(layout.root),
        "format_version": FORMAT,
        "day_boundary": str(layout.boundary),
        "sessions": [_session(one) for one in found.sessions],
        "topics": [_topic(found.topics[name]) for name in sorted(found.topics)],
        "frames": {"archived": found.archived, "parts": found.parts, "bytes": found.part_bytes},
        "journal": {"frames": found.in_journal, "segments": found.segments, "bytes": found.segment_bytes},
        "unclaimed": {"frames": found.unclaimed, "samples": [_sample(one) for one in found.samples]},
        "quarantine": [str(path) for path in found.quarantined],
    }


def _session(one: Session) -> dict[str, Any]:
    return {
        "recorder": one.recorder,
        "session": one.session,
        "first": _instant(one.first),
        "last": _instant(one.last),
        "frames": one.frames,
        "kinds": one.kinds,
        "end": one.end,
        "torn": one.torn,
    }


def _topic(count: TopicCount) -> dict[str, Any]:
    return {
        "topic": count.topic,
        "dates": sorted(count.dates),
        "conids": sorted(count.conids),
        "rows_archived": count.rows,
        "rows_in_journal": count.journal_rows,
        "first": _instant(count.first),
        "last": _instant(count.last),
        "parts": count.parts,
        "bytes": count.bytes,
        "undecoded": count.undecoded,
        "underived": count.underived,
        "differs": None if count.differs is None else str(count.differs),
    }


def _sample(one: Frame) -> dict[str, Any]:
    return {
        "recorder": one.recorder,
        "session": one.session,
        "seq": one.seq,
        "ts_recv": format_instant(one.ts_recv),
        "bytes": len(one.data),
        "data": _head(one),
    }


def _head(one: Frame) -> str:
    return one.data[:_HEAD].decode("utf-8", "replace")


def _instant(micros: int | None) -> str | int | None:
    return None if micros is None else format_instant(micros)


def _print(layout: Layout, found: Inventory) -> None:
    print(f"{layout.root}: a day begins at {layout.boundary}")
    if not found.sessions:
        print("nothing is recorded")
        return
    print()
    _print_sessions(found)
    print()
    _print_topics(found)
    print()
    archived, waiting = _some(found.parts, "part"), _some(found.segments, "segment")
    print(f"archived     {_some(found.archived, 'frame')} in {archived}, {_size(found.part_bytes)}")
    print(f"in journal   {_some(found.in_journal, 'frame')} in {waiting}, {_size(found.segment_bytes)}")
    _print_troubles(found)


def _print_sessions(found: Inventory) -> None:
    rows = [
        (one.recorder, one.session, _second(one.first), _second(one.last), *map(_number, one.kinds.values()), one.end)
        for one in found.sessions
    ]
    kinds = list(found.sessions[0].kinds)
    print_table(["recorder", "session", "first frame", "last frame", *kinds, "end"], rows, right=kinds)


def _print_topics(found: Inventory) -> None:
    rows = [
        (
            count.topic,
            _dates(sorted(count.dates)),
            _number(len(count.conids - {0})),
            _number(count.rows),
            _number(count.journal_rows),
            _second(count.first),
            _second(count.last),
            _number(count.parts),
            _size(count.bytes),
        )
        for _, count in sorted(found.topics.items())
    ]
    numbers = ["contracts", "rows", "in journal", "parts", "size"]
    columns = ["topic", "dates", "contracts", "rows", "in journal", "first row", "last row", "parts", "size"]
    print_table(columns, rows, right=numbers)


def _print_troubles(found: Inventory) -> None:
    print(f"unclaimed    {_some(found.unclaimed, 'frame')} of no known topic")
    for sample in found.samples:
        cut = " …" if len(sample.data) > _HEAD else ""
        print(f"  {sample.session} {sample.seq}  {_head(sample)!r}{cut}")
    for name, count in sorted(found.topics.items()):
        if count.undecoded:
            print(f"undecoded    {name}: {count.undecoded:,} (frames, or items of them, that gave no row)")
        if count.differs is not None:
            print(f"schema       {name}: parts have another schema than this recorder's, such as {count.differs}")
        if count.underived:
            print(f"underived    {name}: {_some(count.underived, 'archived frame')} to be decoded at each reading")
    for one in found.sessions:
        if one.torn is not None:
            print(f"torn         session {one.session} of {one.recorder}: {one.torn}")
    for path in found.quarantined:
        print(f"quarantine   {path}")


def _dates(dates: list[str]) -> str:
    if len(dates) <= 1:
        return "".join(dates)
    return f"{dates[0]} … {dates[-1]} ({len(dates)})"


def _second(micros: int | None) -> str | None:
    """Write an instant for people: to the second."""
    return None if micros is None else str(format_instant(micros)).partition(".")[0].replace("T", " ")


def _some(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _number(number: int) -> str:
    return f"{number:,}"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
