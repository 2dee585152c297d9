"""The lines of `recorder replay`: rows and frames as JSON, written when they are due."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from recorder.cli.instants import format_instant
from recorder.cli.output import progress
from recorder.types import Frame, Kind

if TYPE_CHECKING:
    from recorder.archive.reading import Reader, Span
    from recorder.protocol.topics import Topic as TopicFile
    from recorder.protocol.topics import Topics
    from recorder.replay.blocks import Block
    from recorder.replay.events import Event as Record
    from recorder.replay.gap_events import Gap
    from recorder.replay.selection import ReplayGaps

_BATCH: Final = 1000  # lines written at once, unless they are paced
_LOOK_EVERY: Final = 0.05  # seconds between two looks at what signals said
_EXTRA: Final = "extra"
_GAP_TIMES: Final = ("ts_recv", "start", "end")
_encode: Final = msgspec.json.Encoder().encode_lines

Line = dict[str, Any]
Blocks = Iterator["Block"]


class Choice(NamedTuple):
    """What is asked for: topics (None: all, and frames of none too), contracts (None: all), times, kinds, gaps.

    `follow` goes on with what comes.
    """

    topics: list[TopicFile] | None
    conids: list[int] | None
    span: Span
    kinds: frozenset[Kind]
    gaps: ReplayGaps
    follow: bool = False


def print_rows(reader: Reader, choice: Choice, speed: float | None) -> None:
    """Print rows, when they are due."""
    from recorder.replay.selection import Selection  # noqa: PLC0415  pyarrow takes a moment

    topics = [topic for topic in reader.topics if topic.mark is None] if choice.topics is None else choice.topics
    columns = [column.name for topic in topics for column in topic.columns]
    selection = Selection(topics, choice.conids, choice.span, [*columns, _EXTRA], choice.gaps)
    lines = _row_lines({topic.name: topic for topic in topics})
    with until_told(choice.follow) as wait:
        _print(selection.refused_or_blocks(reader, wait), lines, reader, choice, speed=speed, wait=wait)


def _row_lines(topics: dict[str, TopicFile]) -> Callable[[Record], Line]:
    """Make what turns rows into lines; of each topic's record class it is worked out once how."""
    from recorder.replay.gap_events import Gap  # noqa: PLC0415  pyarrow takes a moment

    plans: dict[type[Any], _Plan] = {}

    def line(event: Record) -> Line:
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


def print_frames(reader: Reader, choice: Choice, speed: float | None) -> None:
    """Print frames, when they are due, and at the end their digests."""
    from recorder.replay.frames import FrameChoice, frame_blocks  # noqa: PLC0415  pyarrow takes a moment
    from recorder.replay.selection import followed_frames  # noqa: PLC0415

    names = None if choice.topics is None else frozenset(topic.name for topic in choice.topics)
    frames, tally = FrameChoice(choice.span, choice.kinds, names), _Tally(reader.topics)
    with until_told(choice.follow) as wait:
        if wait is None:
            blocks = frame_blocks(reader, frames, conids=choice.conids)
        else:
            blocks = followed_frames(reader, frames, conids=choice.conids, wait=wait)
        _print(blocks, tally.counted(_frame_line), reader, choice, speed=speed, wait=wait)
    if choice.conids is None:  # of some contracts there is nothing to compare a digest with
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
        from recorder.protocol.digest import ContentDigest  # noqa: PLC0415  pyarrow takes a moment

        self._topics = topics
        self._make = ContentDigest
        self._digests: dict[str, ContentDigest] = {}

    def counted(self, line: Callable[[Frame], Line]) -> Callable[[Frame], Line]:
        """Make what turns frames into lines count them too."""
        from recorder.protocol.envelope import wire_topic  # noqa: PLC0415  pyarrow takes a moment

        def counted_line(frame: Frame) -> Line:
            topic = self._topics.claiming(wire_topic(frame.data)) if frame.kind == "in" else None
            if topic is not None:
                digest = self._digests.get(topic.name)
                if digest is None:
                    digest = self._digests[topic.name] = self._make(topic.name)
                digest.add(frame.data)
            return line(frame)

        return counted_line

    def print(self) -> None:
        """Print count and digest of each topic on standard error."""
        for name, digest in sorted(self._digests.items()):
            print(f"  {name:<16} {digest.count:>12,} frames  {digest.hexdigest()}", file=sys.stderr)


def _print(
    blocks: Blocks,
    line: Callable[[Any], Line],
    reader: Reader,
    choice: Choice,
    *,
    speed: float | None,
    wait: Callable[[float], bool] | None,
) -> None:
    """Print each element as a line, when it is due."""
    from recorder.replay.pace import paced  # noqa: PLC0415  pyarrow takes a moment

    on_terminal = sys.stdout.isatty()  # a bar would stand among the lines
    silent = on_terminal or wait is not None
    with nullcontext(None) if silent else progress("replay", total=_seconds(reader, choice.span)) as done:
        watched = blocks if done is None else _watched(blocks, done)
        if speed is not None:
            _write(map(line, paced(watched, speed=speed, sleep=wait or time.sleep)), at_once=1)
            return
        for block in watched:
            _write(map(line, block.elements), at_once=_BATCH)
            if wait is not None:
                sys.stdout.buffer.flush()


@contextmanager
def until_told(follow: bool) -> Iterator[Callable[[float], bool] | None]:
    """Give what waits some seconds, and is true once Ctrl-C or SIGTERM came; None where nothing is followed."""
    if not follow:
        yield None
        return
    told: list[int] = []

    def note(number: int, _frame: object) -> None:
        if told:
            raise KeyboardInterrupt  # whoever says it twice does not want to wait
        told.append(number)

    def wait(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not told and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_EVERY))
        return bool(told)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(lines: Iterator[Line], *, at_once: int) -> None:
    out = sys.stdout.buffer
    while batch := list(islice(lines, at_once)):
        out.write(_encode(batch))
        if at_once == 1:
            out.flush()  # whoever reads wants it when it is due


def _watched(blocks: Blocks, done: Callable[[float], None]) -> Blocks:
    """Give what is given, some at a time, and tell how many seconds of the recording that is."""
    first: int | None = None
    for block in blocks:
        rest = block
        while len(rest.latest):
            first = int(rest.latest[0]) if first is None else first
            done((int(rest.latest[0]) - first) / 1e6)
            yield rest.part(_BATCH)
            rest = rest.rest(_BATCH)


def _seconds(reader: Reader, span: Span) -> float | None:
    """Estimate how many seconds are to be replayed; None where only the journal knows."""
    from recorder.archive.pieces import list_pieces  # noqa: PLC0415  pyarrow takes a moment

    pieces = (piece for found in list_pieces(reader.layout).values() for piece in found if piece.touches(*span))
    commits = [piece.commit for piece in pieces if piece.commit is not None]
    if not commits:
        return None
    first, last = min(commit.ts_min for commit in commits), max(commit.ts_max for commit in commits)
    begin = first if span.start is None else max(first, span.start)
    return ((last if span.end is None else min(last, span.end)) - begin) / 1e6
