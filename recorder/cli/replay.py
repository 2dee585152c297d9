"""`recorder replay`: print what was recorded as JSON lines, or serve it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import msgspec
import typer

from recorder.cli.instants import format_instant
from recorder.cli.options import Config, Conid, Data, End, Start, Topic, contracts, split
from recorder.cli.output import progress
from recorder.cli.settings import data_folder
from recorder.errors import UsageError
from recorder.protocol.instants import to_micros
from recorder.types import KINDS, Frame, Kind

if TYPE_CHECKING:
    from recorder.archive.reading import Reader, Span
    from recorder.protocol.topics import Topic as TopicFile
    from recorder.protocol.topics import Topics
    from recorder.replay.events import Event
    from recorder.replay.gap_events import Gap

_BATCH: Final = 1000  # lines written at once, unless they are paced
_EXTRA: Final = "extra"
GAPS: Final = ("event", "raise", "ignore")
_GAP_TIMES: Final = ("ts_recv", "start", "end")
_encode: Final = msgspec.json.Encoder().encode_lines

Line = dict[str, Any]
Stamped = Iterator[tuple[int, Any]]


class _Choice(NamedTuple):
    """What is asked for: topics (None: all, and frames of none too), contracts (None: all), times, kinds, gaps."""

    topics: list[TopicFile] | None
    conids: list[int] | None
    span: Span
    kinds: frozenset[Kind]
    gaps: str


def replay(  # noqa: PLR0917  typer reads options from the signature
    data: Data = None,
    topic: Topic = None,
    conid: Conid = None,
    start: Start = None,
    end: End = None,
    speed: Annotated[
        str | None,
        typer.Option(
            metavar="max|N",
            help="max: as fast as can be; 1: as it was received; 20: 20 times as fast.",
            show_default="max; 1 with --serve",
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Frames, byte for byte, instead of rows.")] = False,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND,…", help=f"With --raw: only frames of these: {', '.join(KINDS)}.")
    ] = None,
    gaps: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(GAPS),
            help="What a hole in the data comes to: a line where it begins and where it ends, an error, or nothing.",
            show_default="event",
        ),
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve it as the broker's gateway would."),
    ] = None,
    start_at_once: Annotated[
        bool, typer.Option("--start-at-once", help="With --serve: do not wait for a client's first subscription.")
    ] = False,
    loop: Annotated[bool, typer.Option("--loop", help="With --serve: begin again at the end.")] = False,
    skip_gaps: Annotated[
        bool, typer.Option("--skip-gaps", help="With --serve: leap over holes in the data instead of living them.")
    ] = False,
    expire_after: Annotated[
        str,
        typer.Option(metavar="DURATION|never", help="With --serve: market data ends unless renewed, in replay time."),
    ] = "10m",
    recorder: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --serve: whose recording, if several recorders recorded.")
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="With --serve: https, with a certificate made for it.")] = False,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="With --serve: https, by this certificate.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="The key of --cert.")] = None,
    control: Annotated[
        bool, typer.Option("--control", help="With --serve: POST /replay/pause, resume, seek and speed.")
    ] = False,
    faults: Annotated[
        str | None, typer.Option(metavar="SCRIPT", help="With --serve: what goes wrong besides, as in simulate.")
    ] = None,
    seed: Annotated[int, typer.Option(help="With --faults: the same seed gives the same faults.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="With --serve: print JSON lines, as simulate does.")] = False,
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

      recorder replay --serve 127.0.0.1:5000 --start 2026-11-20T14:30
    """
    if serve is not None:
        if topic or conid or raw or kind or gaps:
            raise UsageError(
                "--serve serves all frames", hint="clients choose what they subscribe to; use --start and --end"
            )
        from recorder.cli.replay_server import Serving, serve_archive  # noqa: PLC0415  aiohttp takes a moment

        serve_archive(
            data_folder(data, config),
            Serving(
                address=serve,
                start=start,
                end=end,
                speed=_speed(speed) if speed is not None else 1.0,
                at_once=start_at_once,
                loop=loop,
                skip_gaps=skip_gaps,
                expire_after=expire_after,
                recorder=recorder,
                tls=tls,
                cert=cert,
                key=key,
                control=control,
                faults=faults,
                seed=seed,
                json=json,
            ),
        )
        return
    if start_at_once or loop or skip_gaps or tls or cert or key or control or faults or recorder or json:
        raise UsageError("that option is about a gateway", hint="add --serve HOST:PORT")
    if kind and not raw:
        raise UsageError("--kind chooses frames", hint="add --raw, or choose rows with --topic")
    if gaps and raw:
        raise UsageError("--gaps is about rows", hint="frames have the marks of gaps among them: --kind mark")
    if gaps is not None and gaps not in GAPS:
        raise UsageError(f"--gaps: {gaps!r} is no choice", hint=f"use one of: {', '.join(GAPS)}")
    bounds = to_micros(start, what="--start"), to_micros(end, what="--end")
    conids, kinds, factor = contracts(conid), _kinds(kind), _speed(speed)
    folder = data_folder(data, config)
    from recorder.archive.layout import open_layout  # noqa: PLC0415  pyarrow takes a moment; errors above come before
    from recorder.archive.reading import Reader, Span  # noqa: PLC0415
    from recorder.protocol.topics import load_topics  # noqa: PLC0415

    reader = Reader(open_layout(folder), load_topics())
    topics = [reader.topics[name] for name in split(topic)] or None
    choice = _Choice(topics, conids, Span(*bounds), kinds, gaps or GAPS[0])
    (_print_frames if raw else _print_rows)(reader, choice, factor)


def _kinds(given: list[str] | None) -> frozenset[Kind]:
    texts = split(given)
    for text in texts:
        if text not in KINDS:
            raise UsageError(f"--kind: {text!r} is no kind of frame", hint=f"use one of: {', '.join(KINDS)}")
    return frozenset(kind for kind in KINDS if kind in texts or not texts)


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


def _print_rows(reader: Reader, choice: _Choice, speed: float | None) -> None:
    from recorder.archive.gaps import read_gaps, refuse_gaps  # noqa: PLC0415  as in `replay`
    from recorder.replay.events import replay as rows_of  # noqa: PLC0415  as in `replay`
    from recorder.replay.gap_events import with_gaps  # noqa: PLC0415

    topics = [topic for topic in reader.topics if topic.mark is None] if choice.topics is None else choice.topics
    names = [topic.name for topic in topics]
    if choice.gaps == "raise":
        refuse_gaps(reader, topics=names, conids=choice.conids, span=choice.span)
    columns = [column.name for topic in topics for column in topic.columns]
    stamped = rows_of(reader, topics, conids=choice.conids, span=choice.span, columns=[*columns, _EXTRA])
    if choice.gaps == "event":
        rows = read_gaps(reader, topics=names, conids=choice.conids, span=choice.span)
        stamped = with_gaps(stamped, rows, choice.span)
    lines = _row_lines({topic.name: topic for topic in topics})
    _print(stamped, lines, reader, choice.span, speed=speed)


def _row_lines(topics: dict[str, TopicFile]) -> Callable[[Event], Line]:
    """Make what turns rows into lines; of each topic's record class it is worked out once how."""
    from recorder.replay.gap_events import Gap  # noqa: PLC0415  as in `replay`

    plans: dict[type[Any], _Plan] = {}

    def line(event: Event) -> Line:
        if isinstance(event, Gap):
            return _gap_line(event)
        plan = plans.get(type(event))
        if plan is None:
            plan = plans[type(event)] = _plan(type(event), topics[event.topic])
        values = zip(plan.names, plan.values(event), strict=True)
        row = {name: value for name, value in values if value is not None and value == value}  # noqa: PLR0124  NaN
        for name in plan.times:
            if name in row:
                row[name] = format_instant(row[name])
        if _EXTRA in row:
            row[_EXTRA] = dict(row[_EXTRA])
        return {"topic": event.topic, **row}

    return line


def _gap_line(gap: Gap) -> Line:
    line = {name: value for name, value in gap._asdict().items() if value is not None}
    return {"topic": gap.topic, **line, **{name: format_instant(line[name]) for name in _GAP_TIMES if name in line}}


class _Plan(NamedTuple):
    """How a record becomes a line: its names in the table's order, what takes their values, which are times."""

    names: list[str]
    values: Callable[[Any], tuple[Any, ...]]
    times: list[str]


def _plan(record: type[Any], topic: TopicFile) -> _Plan:
    fields: tuple[str, ...] = record._fields  # a named tuple's; nothing private
    own = [column.name for column in topic.columns]
    names = [*(name for name in fields if name not in own and name != _EXTRA), *own, _EXTRA]
    times = ["ts_recv", "ts_event", *(column.name for column in topic.columns if column.type == "timestamp")]
    return _Plan(names, itemgetter(*map(fields.index, names)), times)


def _print_frames(reader: Reader, choice: _Choice, speed: float | None) -> None:
    from recorder.replay.frames import frames  # noqa: PLC0415  as in `replay`

    stamped = frames(reader, span=choice.span, kinds=choice.kinds, topics=choice.topics, conids=choice.conids)
    if choice.conids is not None:  # of some contracts there is nothing to compare a digest with
        _print(stamped, _frame_line, reader, choice.span, speed=speed)
        return
    tally = _Tally(reader.topics)
    _print(tally.counting(stamped), _frame_line, reader, choice.span, speed=speed)
    tally.print()


def _frame_line(frame: Frame) -> Line:
    line: Line = frame._asdict()
    line["ts_recv"] = format_instant(frame.ts_recv)
    try:
        line["data"] = frame.data.decode()
    except UnicodeDecodeError:
        line["data_base64"] = line.pop("data")  # bytes are written as base64
    return line


class _Tally:
    """Counts and digests the received frames that pass, by topic."""

    def __init__(self, topics: Topics) -> None:
        from recorder.protocol.digest import ContentDigest  # noqa: PLC0415  as in `replay`

        self._topics = topics
        self._make = ContentDigest
        self._digests: dict[str, ContentDigest] = {}

    def counting(self, stamped: Iterator[tuple[int, Frame]]) -> Iterator[tuple[int, Frame]]:
        """Give what is given, counted."""
        from recorder.protocol.envelope import wire_topic  # noqa: PLC0415  as in `replay`

        for pair in stamped:
            frame = pair[1]
            topic = self._topics.claiming(wire_topic(frame.data)) if frame.kind == "in" else None
            if topic is not None:
                digest = self._digests.get(topic.name)
                if digest is None:
                    digest = self._digests[topic.name] = self._make(topic.name)
                digest.add(frame.data)
            yield pair

    def print(self) -> None:
        """Print count and digest of each topic on standard error."""
        for name, digest in sorted(self._digests.items()):
            print(f"  {name:<16} {digest.count:>12,} frames  {digest.hexdigest()}", file=sys.stderr)


def _print(stamped: Stamped, line: Callable[[Any], Line], reader: Reader, span: Span, *, speed: float | None) -> None:
    """Print each element as a line, when it is due."""
    from recorder.replay.pace import paced  # noqa: PLC0415  as in `replay`

    seconds = _seconds(reader, span)
    on_terminal = sys.stdout.isatty()  # a bar would stand among the lines
    with nullcontext(None) if on_terminal else progress("replay", total=seconds) as done:
        watched = stamped if done is None else _watched(stamped, done)
        elements = (element for _, element in watched) if speed is None else paced(watched, speed=speed)
        _write(map(line, elements), at_once=_BATCH if speed is None else 1)


def _write(lines: Iterator[Line], *, at_once: int) -> None:
    out = sys.stdout.buffer
    while batch := list(islice(lines, at_once)):
        out.write(_encode(batch))
        if at_once == 1:
            out.flush()  # whoever reads wants it when it is due


def _watched(stamped: Stamped, done: Callable[[float], None]) -> Stamped:
    """Give what is given, and tell now and then how many seconds of the recording that is."""
    first: int | None = None
    for number, pair in enumerate(stamped):
        if first is None:
            first = pair[0]
        if number % _BATCH == 0:
            done((pair[0] - first) / 1e6)
        yield pair


def _seconds(reader: Reader, span: Span) -> float | None:
    """Estimate how many seconds are to be replayed; None where only the journal knows."""
    from recorder.archive.pieces import list_pieces  # noqa: PLC0415  as in `replay`

    pieces = (piece for found in list_pieces(reader.layout).values() for piece in found if piece.touches(*span))
    commits = [piece.commit for piece in pieces if piece.commit is not None]
    if not commits:
        return None
    first, last = min(commit.ts_min for commit in commits), max(commit.ts_max for commit in commits)
    begin = first if span.start is None else max(first, span.start)
    return ((last if span.end is None else min(last, span.end)) - begin) / 1e6
