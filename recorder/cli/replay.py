"""`recorder replay`: print what was recorded as JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from recorder.cli.instants import format_instant
from recorder.cli.options import Config, Conid, Data, End, Start, Topic, parse_time, split
from recorder.cli.output import progress
from recorder.cli.settings import data_folder
from recorder.errors import UsageError
from recorder.types import KINDS, Frame, Kind

if TYPE_CHECKING:
    from recorder.library import Archive
    from recorder.protocol.digest import ContentDigest

_BATCH: Final = 1000  # lines written at once, where nothing paces them
_encode: Final = msgspec.json.Encoder().encode_lines


def replay(  # noqa: PLR0917  typer reads options from the signature
    data: Data = None,
    topic: Topic = None,
    conid: Conid = None,
    start: Start = None,
    end: End = None,
    speed: Annotated[
        str, typer.Option(metavar="max|N", help="max: as fast as can be; 1: as it was received; 20: 20 times as fast.")
    ] = "max",
    raw: Annotated[bool, typer.Option("--raw", help="Frames as they were received, instead of rows.")] = False,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND,…", help=f"With --raw: only frames of these: {', '.join(KINDS)}.")
    ] = None,
    config: Config = None,
) -> None:
    """Print what was recorded as JSON lines, in order.

    A line is a row of a topic's table: its topic, then every value that is not absent. With --raw it is a frame, and
    at the end the content digests of the received frames are printed on standard error. What is still in the journal
    is included.

    For example:

      recorder replay --topic market_data --conid 265598 --start 2026-11-20 --end 2026-11-21

      recorder replay --raw --speed 20 | head
    """
    if kind and not raw:
        raise UsageError("--kind goes with --raw only", hint="choose rows with --topic, or add --raw")
    parse_time(start, option="--start"), parse_time(end, option="--end")  # an error names the option
    chosen: dict[str, Any] = {
        "conids": _conids(conid),
        "start": start,
        "end": end,
        "speed": _speed(speed),
    }
    kinds = _kinds(kind)
    from recorder.library import Archive  # noqa: PLC0415  pyarrow takes a moment to import; errors above come before

    archive = Archive(data_folder(data, config))
    topics = split(topic) or None
    write = _Lines(paced=chosen["speed"] is not None, bounds=archive.bounds(start=start, end=end)).write
    if raw:
        tally = _Tally(archive)
        found = archive.frames(topics=topics, kinds=kinds, **chosen)
        write(map(_frame_line, found if conid else tally.counting(found)))
        tally.print()
    else:
        write(_row_lines(archive, topics, chosen))
