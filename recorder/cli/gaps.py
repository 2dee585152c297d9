"""`recorder gaps`: list the holes in what was recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from recorder.cli.instants import format_instant
from recorder.cli.options import Config, Conid, Data, End, Json, Start, Topic, contracts, split
from recorder.cli.output import print_json, print_table
from recorder.cli.settings import data_folder
from recorder.protocol.instants import to_micros

if TYPE_CHECKING:
    from recorder.archive.gaps import GapRow

_COLUMNS: Final = ("start", "end", "lasted", "topic", "conid", "cause", "evidence")


def gaps(  # noqa: PLR0917  typer reads options from the signature
    data: Data = None,
    topic: Topic = None,
    conid: Conid = None,
    start: Start = None,
    end: End = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """List the holes in what was recorded: of which topic and contract, from when to when, and why.

    The time in which no capture ran is among them, and what only looks like a hole, such as a market that is closed.
    --start and --end choose the gaps that touch this time. What is still in the journal is included.

    For example:

      recorder gaps

      recorder gaps --topic market_data --conid 265598 --start 2026-11-20 --end 2026-11-21 --json
    """
    bounds = to_micros(start, what="--start"), to_micros(end, what="--end")
    conids = contracts(conid)
    folder = data_folder(data, config)
    from recorder.archive.gaps import read_gaps  # noqa: PLC0415  pyarrow takes a moment; errors above come before
    from recorder.archive.layout import open_layout  # noqa: PLC0415
    from recorder.archive.reading import Reader, Span  # noqa: PLC0415
    from recorder.protocol.topics import load_topics  # noqa: PLC0415

    reader = Reader(open_layout(folder), load_topics())
    topics = [reader.topics[name].name for name in split(topic)] or None
    rows = read_gaps(reader, topics=topics, conids=conids, span=Span(*bounds))
    if json:
        print_json([_document(row) for row in rows])
    elif rows:
        print_table(_COLUMNS, map(_cells, rows), right=("lasted", "conid"))
    else:
        print("no gaps")


def _document(row: GapRow) -> dict[str, Any]:
    times = {"start": format_instant(row.start), "end": None if row.end is None else format_instant(row.end)}
    return {**row._asdict(), **times, "information": row.information}


def _cells(row: GapRow) -> tuple[object, ...]:
    start, end = _second(row.start), "open" if row.end is None else _second(row.end)
    lasted = None if row.end is None else _lasted(row.end - row.start)
    cause = f"({row.cause})" if row.information else row.cause
    return start, end, lasted, row.topic, "all" if row.conid is None else row.conid, cause, row.evidence


def _second(micros: int) -> str:
    return str(format_instant(micros))[:19].replace("T", " ")


def _lasted(micros: int) -> str:
    """Write how long: `0.5s`, `59s`, `1h02m03s`, `2d01h00m`."""
    seconds = micros // 1_000_000
    if seconds < 10:  # noqa: PLR2004  below that, tenths matter
        return f"{micros / 1e6:.1f}s"
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02}h{minute:02}m"
    if hours:
        return f"{hours}h{minute:02}m{second:02}s"
    return f"{minutes}m{second:02}s" if minutes else f"{second}s"
