"""`recorder replay`: print what was recorded as JSON lines, or serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from recorder.cli.options import Config, Conid, Data, End, Start, Topic, contracts, split
from recorder.cli.serving_options import (
    Cert,
    Control,
    ExpireAfter,
    Faults,
    Json,
    Key,
    Loop,
    Recorder,
    Seed,
    Serve,
    Serving,
    SkipGaps,
    StartAtOnce,
    Tls,
)
from recorder.cli.settings import data_folder
from recorder.errors import UsageError
from recorder.protocol.instants import to_micros
from recorder.types import KINDS, Kind

if TYPE_CHECKING:
    from recorder.replay.selection import ReplayGaps

GAPS: Final[tuple[ReplayGaps, ...]] = ("event", "raise", "ignore")

_Speed = Annotated[
    str | None,
    typer.Option(
        metavar="max|N",
        help="max: as fast as can be; 1: as it was received; 20: 20 times as fast.",
        show_default="max; 1 with --serve",
    ),
]
_Raw = Annotated[bool, typer.Option("--raw", help="Frames, byte for byte, instead of rows.")]
_Kind = Annotated[
    list[str] | None, typer.Option(metavar="KIND,…", help=f"With --raw: only frames of these: {', '.join(KINDS)}.")
]
_Gaps = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(GAPS),
        help="What a hole in the data comes to: a line where it begins and where it ends, an error, or nothing.",
        show_default="event",
    ),
]
_Follow = Annotated[
    bool, typer.Option("--follow", help="Go on with what running captures record, until --end or Ctrl-C.")
]


def replay(  # noqa: PLR0917  typer reads options from the signature
    data: Data = None,
    topic: Topic = None,
    conid: Conid = None,
    start: Start = None,
    end: End = None,
    speed: _Speed = None,
    raw: _Raw = False,
    kind: _Kind = None,
    gaps: _Gaps = None,
    follow: _Follow = False,
    serve: Serve = None,
    start_at_once: StartAtOnce = False,
    loop: Loop = False,
    skip_gaps: SkipGaps = False,
    expire_after: ExpireAfter = "10m",
    recorder: Recorder = None,
    tls: Tls = False,
    cert: Cert = None,
    key: Key = None,
    control: Control = False,
    faults: Faults = None,
    seed: Seed = 0,
    json: Json = False,
    config: Config = None,
) -> None:
    """Print what was recorded as JSON lines, in order, or serve it as a gateway.

    A line is a row of a topic's table: the topic, then every value that is not absent. Where the data has a hole, a
    line of the topic gaps says so, and another where it is over. With --raw a line is a frame, and at the end the
    content digests of the received frames are printed on standard error. What is still in the journal is included.

    With --serve it is a gateway that clients connect to, unmodified: they log in, subscribe, and get full frames, then
    what was received, byte for byte, at the recorded pace (or --speed). Ctrl-C stops.

    For example:

      recorder replay --topic market_data --conid 265598 --start 2026-11-20 --end 2026-11-21

      recorder replay --raw --speed 20 | head

      recorder replay --follow --topic orders,pnl

      recorder replay --serve 127.0.0.1:5000 --start 2026-11-20T14:30
    """
    if serve is None:
        if start_at_once or loop or skip_gaps or tls or cert or key or control or faults or recorder or json:
            raise UsageError("that option is about a gateway", hint="add --serve HOST:PORT")
        _print(data, topic, conid, start, end, speed=speed, raw=raw, kind=kind, gaps=gaps, follow=follow, config=config)
        return
    if topic or conid or raw or kind or gaps or follow:
        raise UsageError(
            "--serve serves all frames", hint="clients choose what they subscribe to; use --start and --end"
        )
    pace = 1.0 if speed is None else _speed(speed)
    from recorder.cli.replay_server import serve_archive  # noqa: PLC0415  aiohttp and pyarrow take a moment

    options = Serving(
        serve, start, end, pace, start_at_once, loop, skip_gaps, expire_after, recorder, tls, cert, key, control,
        faults, seed, json,
    )  # fmt: skip
    serve_archive(data_folder(data, config), options)


def _print(
    data: Data,
    topic: Topic,
    conid: Conid,
    start: Start,
    end: End,
    *,
    speed: str | None,
    raw: bool,
    kind: list[str] | None,
    gaps: str | None,
    follow: bool,
    config: Config,
) -> None:
    if kind and not raw:
        raise UsageError("--kind chooses frames", hint="add --raw, or choose rows with --topic")
    if gaps and raw:
        raise UsageError("--gaps is about rows", hint="frames have the marks of gaps among them: --kind mark")
    holes = _gaps(gaps)
    bounds = to_micros(start, what="--start"), to_micros(end, what="--end")
    conids, kinds, factor = contracts(conid), _kinds(kind), _speed(speed)
    folder = data_folder(data, config)
    from recorder.archive.layout import open_layout  # noqa: PLC0415  pyarrow takes a moment; errors above come before
    from recorder.archive.reading import Reader, Span  # noqa: PLC0415
    from recorder.cli.replay_lines import Choice, print_frames, print_rows  # noqa: PLC0415
    from recorder.protocol.topics import load_topics  # noqa: PLC0415

    reader = Reader(open_layout(folder), load_topics())
    topics = [reader.topics[name] for name in split(topic)] or None
    choice = Choice(topics, conids, Span(*bounds), kinds, holes, follow)
    (print_frames if raw else print_rows)(reader, choice, factor)


def _kinds(given: list[str] | None) -> frozenset[Kind]:
    texts = split(given)
    for text in texts:
        if text not in KINDS:
            raise UsageError(f"--kind: {text!r} is no kind of frame", hint=f"use one of: {', '.join(KINDS)}")
    return frozenset(kind for kind in KINDS if kind in texts or not texts)


def _gaps(text: str | None) -> ReplayGaps:
    for choice in GAPS:
        if text in (None, choice):
            return choice
    raise UsageError(f"--gaps: {text!r} is no choice", hint=f"use one of: {', '.join(GAPS)}")


def _speed(text: str | None) -> float | None:
    """Read a speed; None is as fast as can be."""
    if text is None or text == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise UsageError(f"--speed: {text!r} is no speed", hint="write max, 1, or a number such as 20")
    return factor
