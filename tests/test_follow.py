"""Following: history, then what running captures record, each frame once and in order, with no seam."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    AAPL,
    DAY,
    IBM,
    NOON,
    SESSION,
    Given,
    archive,
    command,
    environment,
    eventually,
    frames_of,
    in_loop,
    order,
    quotes,
    start,
    write_session,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import recorder
from recorder.archive.layout import Layout, make_layout
from recorder.archive.reading import Reader, Span
from recorder.errors import Damaged, GapError
from recorder.protocol.days import DayBoundary
from recorder.protocol.ledger import Gap, closed_mark, opened_mark
from recorder.protocol.server_session import Rules
from recorder.protocol.topics import load_topics
from recorder.recording import compact_finished
from recorder.replay.blocks import elements_of
from recorder.replay.following import SETTLED_US, follow
from recorder.replay.frames import FrameChoice, FrameView
from recorder.replay.gap_events import Gap as GapEvent
from recorder.replay.gateway import serve
from recorder.replay.selection import ReplayGaps, Selection
from recorder.replay.synthetic import SyntheticFeed
from recorder.types import Frame

LATER = "20261121T120000bbbb"
OTHER = "20261120T120000cccc"
HOLE = Gap("market_data", None, NOON + 1_500, "disconnected", "closed")
Step = Callable[[], object]


class Acts:
    """Lets something happen each time the follower would wait, and ends it when nothing more will."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = list(steps)

    def __call__(self, seconds: float) -> bool:
        """Do the next thing; true behind the last."""
        if seconds == 0:
            return False
        if not self._steps:
            return True
        self._steps.pop(0)()
        return False


def reader_of(layout: Layout) -> Reader:
    """Read an archive."""
    return Reader(layout, load_topics())


def followed(layout: Layout, *steps: Step, end: int | None = None, now: int = NOON + 9 * DAY) -> Iterator[Frame]:
    """Follow the frames of an archive while things happen."""
    reader = reader_of(layout)
    view = FrameView(reader.topics, FrameChoice(Span(None, end)), None)
    return elements_of(follow(reader, view, end=end, wait=Acts(steps), now=lambda: now))


def rows(layout: Layout, *steps: Step, topics: Sequence[str] = ("market_data",), gaps: ReplayGaps = "ignore") -> Any:
    """Follow the rows of an archive while things happen."""
    reader = reader_of(layout)
    selection = Selection([reader.topics[name] for name in topics], None, Span(), None, gaps)
    return elements_of(selection.refused_or_blocks(reader, Acts(steps)))


class Growing:
    """A session whose segments appear, and grow, as a journal's do."""

    def __init__(self, layout: Layout, frames: Sequence[Given], *, rotations: Sequence[int] = (), **whose: Any) -> None:
        before = set(layout.segments(whose.get("recorder", "main")))
        self._whole = {
            path: path.read_bytes()
            for path in write_session(layout, frames, rotations=rotations, **whose)
            if path not in before
        }
        for path in self._whole:
            path.unlink()

    def grow(self, share: float) -> None:
        """Show a share of the bytes, whatever record they end in."""
        left = math.ceil(sum(map(len, self._whole.values())) * share)
        for path, whole in self._whole.items():
            if left > 0:
                path.write_bytes(whole[:left])
            left -= len(whole)


def test_frames_come_once_while_segments_grow_and_become_parts(layout: Layout) -> None:
    """Over rotations, a restart, a day change and compaction, in parts and journal."""
    write_session(layout, quotes(10), rotations=[4])
    archive(layout)
    steps: list[Step] = [
        lambda: write_session(layout, quotes(10, first=10, start=NOON + DAY), session=LATER, rotations=[3, 6]),
        lambda: archive(layout),
        lambda: compact_finished(layout, before="2100-01-01", done=lambda _rows: None),
        lambda: write_session(layout, quotes(3, start=NOON + 2 * DAY), session="20261122T120000cccc"),
        lambda: None,
        lambda: archive(layout),
        lambda: write_session(layout, quotes(3, start=NOON + 3 * DAY), session="20261123T120000dddd"),
    ]
    found = list(followed(layout, *steps))

    assert frames_of(layout.root) == found
    assert 26 == len(found)


def test_a_segment_that_grows_is_followed_byte_by_byte(layout: Layout) -> None:
    """A record that is half written is waited for; what is archived between two looks is read from its part."""
    growing = Growing(layout, quotes(40), rotations=[13, 26])
    shares = [number / 20 for number in range(21)]
    steps: list[Step] = [lambda share=share: growing.grow(share) for share in shares]  # type: ignore[misc]
    found = list(followed(layout, *steps, lambda: archive(layout), lambda: None))

    assert frames_of(layout.root) == found
    assert list(range(40)) == [frame.seq for frame in found]


@pytest.mark.parametrize("stop", range(12))
def test_a_slow_follower_loses_nothing_to_the_archiver(layout: Layout, stop: int) -> None:
    """The archiver takes everything away between any two frames that it takes, and compacts it."""
    write_session(layout, quotes(6), rotations=[2, 4])
    archive(layout)
    write_session(layout, quotes(6, start=NOON + 10_000), session=LATER, rotations=[2, 4])
    following = followed(layout, lambda: None)
    found = [next(following) for _ in range(stop)]
    archive(layout)
    compact_finished(layout, before="2100-01-01", done=lambda _rows: None)
    found += following

    assert frames_of(layout.root) == found


@pytest.mark.parametrize("torn", [True, False])
def test_a_capture_that_was_killed_is_followed_into_the_next(layout: Layout, torn: bool) -> None:  # noqa: FBT001  a parameter
    """What is left of its last record is none; the next session comes behind the last whole frame."""
    (path,) = write_session(layout, quotes(5), dead=True)

    def killed() -> None:
        if torn:
            path.write_bytes(path.read_bytes() + b"\x40\0\0\0half a record")

    found = list(
        followed(
            layout,
            killed,
            lambda: write_session(layout, quotes(4, start=NOON + 9_000), session=LATER),
            lambda: None,
            lambda: archive(layout),
            lambda: None,
        )
    )

    assert frames_of(layout.root) == found
    assert [0, 1, 2, 3, 4, 0, 1, 2, 3] == [frame.seq for frame in found]


def test_a_part_that_is_missing_is_an_error(layout: Layout) -> None:
    """Nothing is left out silently, in the past or behind it."""
    write_session(layout, quotes(9), rotations=[3, 6])
    archive(layout)

    def lose() -> None:
        write_session(layout, quotes(9, start=NOON + DAY), session=LATER, rotations=[3, 6])
        layout.segments("main")[1].unlink()

    assert 9 == len(list(followed(layout)))
    with pytest.raises(Damaged, match="missing"):
        list(followed(layout, lose))


def test_rows_are_those_of_a_replay_afterwards(layout: Layout) -> None:
    """Several topics, an order's delta whose contract an archived frame told, in one order."""
    bought, delta = Given(NOON + 3_000, order(7, conid=IBM, price="3")), Given(NOON + 20_000, order(7, status="Filled"))
    growing = Growing(layout, [*quotes(3), bought, *quotes(6, start=NOON + 5_000), delta, *quotes(2)], rotations=[5, 8])
    steps: list[Step] = [
        lambda: growing.grow(0.7),
        lambda: growing.grow(1.0),
        lambda: archive(layout),
        lambda: write_session(layout, [delta, *quotes(1, start=NOON + DAY)], session=LATER),
    ]
    topics = ("market_data", "orders")
    found = list(rows(layout, *steps, topics=topics))

    assert list(map(repr, recorder.open(layout.root).replay(topics))) == list(map(repr, found))
    assert [IBM, IBM, 0] == [event.conid for event in found if event.topic == "orders"]


def test_the_end_ends_it(layout: Layout) -> None:
    """As soon as a frame has come that reaches it, or so much time has passed that none can come before it."""
    write_session(layout, quotes(5))

    def never() -> None:
        raise AssertionError("it should have ended")

    assert [0, 1, 2] == [frame.seq for frame in followed(layout, never, end=NOON + 3_000)]
    assert 5 == len(list(followed(layout, never, end=NOON + 10_000, now=NOON + 10_000 + SETTLED_US)))
    with pytest.raises(AssertionError, match="ended"):
        list(followed(layout, never, end=NOON + 10_000, now=NOON + 9_999 + SETTLED_US))


def test_a_gap_that_opens_is_an_event_when_it_is_known(layout: Layout) -> None:
    """Each edge once: what was open when it began is over later; an archived mark is none of news."""
    write_session(layout, [*quotes(2), Given(NOON + 2_000, opened_mark(HOLE), "mark")])
    after = [Given(NOON + 5_500, closed_mark(HOLE, end=NOON + 5_000), "mark"), *quotes(2, start=NOON + 6_000)]
    found = list(
        rows(
            layout,
            lambda: write_session(layout, after, session=LATER),
            lambda: archive(layout),
            lambda: None,
            gaps="event",
        )
    )

    assert ["q", "q", "start", "end", "q", "q"] == [e.edge if isinstance(e, GapEvent) else "q" for e in found]
    assert (None, NOON + 5_000) == (found[2].end, found[3].end)


def test_a_gap_that_opens_is_an_error_if_none_must_be(layout: Layout) -> None:
    """Before the first event if it is there, else where it opens."""
    write_session(layout, quotes(2))
    following = rows(
        layout,
        lambda: write_session(layout, [Given(NOON + 9_000, opened_mark(HOLE), "mark")], session=LATER),
        gaps="raise",
    )
    assert [0, 1] == [next(following).seq, next(following).seq]
    with pytest.raises(GapError, match="disconnected"):
        next(following)
    with pytest.raises(GapError, match="disconnected"):
        next(rows(layout, gaps="raise"))


def test_recorders_are_merged_as_far_as_all_are_known(layout: Layout) -> None:
    """A frame waits until no other recorder can have one before it; a quiet one is known up to a moment ago."""
    write_session(layout, quotes(2), recorder="a")
    write_session(layout, quotes(1, start=NOON + 500), recorder="b", session=OTHER)
    given: list[int] = []
    at_step: list[list[int]] = []
    reader = reader_of(layout)
    clock = [NOON]
    later = "20261120T130000eeee"

    def step(act: Step, now: int) -> Step:
        def acted() -> None:
            at_step.append([*given])
            clock[0] = now
            act()

        return acted

    acts = Acts(
        [
            step(lambda: write_session(layout, quotes(1, start=NOON + 700), recorder="b", session=later), NOON),
            step(lambda: None, NOON + SETTLED_US + 1_000),
            step(lambda: None, NOON + SETTLED_US + 1_001),
        ]
    )
    view = FrameView(reader.topics, FrameChoice(), None)
    for frame in elements_of(follow(reader, view, end=None, wait=acts, now=lambda: clock[0])):
        given.append(frame.ts_recv - NOON)  # noqa: PERF401  acts look at it meanwhile

    assert [[0, 500], [0, 500, 700], [0, 500, 700, 1_000]] == at_step
    assert [0, 500, 700, 1_000] == given
    assert frames_of(layout.root) == list(followed(layout))


FRAMES = st.lists(st.tuples(st.integers(0, 30), st.sampled_from([AAPL, IBM])), min_size=1, max_size=8)


@settings(max_examples=8, database=None)
@given(one=FRAMES, two=FRAMES, cut=st.integers(1, 6), flushes=st.lists(st.sampled_from("ab"), max_size=3))
def test_any_recorders_are_followed_in_the_order_of_replay(
    tmp_path_factory: pytest.TempPathFactory, one: Any, two: Any, cut: int, flushes: list[str]
) -> None:
    """Clocks that step back included, for what is there when the follower looks."""
    layout = make_layout(tmp_path_factory.mktemp("any") / "data", DayBoundary("00:00 UTC"))
    for name, session, stamped in (("a", SESSION, one), ("b", OTHER, two)):
        given_frames = [
            frame._replace(ts=NOON + at)
            for number, (at, conid) in enumerate(stamped)
            for frame in quotes(1, first=number, conid=conid)
        ]
        write_session(layout, given_frames, recorder=name, session=session, rotations=[cut])
    steps: list[Step] = [lambda name=name: archive(layout, recorder=name) for name in flushes]  # type: ignore[misc]
    expected = frames_of(layout.root)

    assert expected == list(followed(layout, *steps))
    assert expected == list(followed(layout))


@in_loop
async def test_an_asynchronous_follower_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    """Its thread too, which waits for what comes."""
    layout = make_layout(tmp_path / "data", DayBoundary("00:00 UTC"))
    await asyncio.to_thread(write_session, layout, quotes(3))
    seqs: list[int] = []

    async def take() -> None:
        async for event in recorder.open(layout.root).replay_async("market_data", gaps="event", follow=True):
            seqs.append(event.seq)  # noqa: PERF401  it never ends

    task = asyncio.create_task(take())
    await eventually(lambda: len(seqs) == 3)
    await asyncio.to_thread(write_session, layout, quotes(2, start=NOON + DAY), session=LATER)
    await eventually(lambda: len(seqs) == 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [0, 1, 2, 0, 1] == seqs


def test_a_follower_that_is_closed_ends(layout: Layout) -> None:
    """In a loop that is left."""
    write_session(layout, quotes(3))
    following = recorder.open(layout.root).replay("market_data", follow=True)

    assert [0, 1, 2] == [next(following).seq for _ in range(3)]
    following.close()  # type: ignore[attr-defined]  # a generator
    assert [] == list(following)


RULES = Rules(ready_after=20_000, expire_after=None)


@in_loop
async def test_a_real_capture_is_followed_over_rotations_and_a_kill(tmp_path: Path) -> None:
    """`recorder replay --raw --follow` beside a capture that archives all the time, is killed, and starts again."""
    feed = SyntheticFeed(seed=7, contracts=3, rate=200, order_every=0.5)
    data = tmp_path / "data"
    async with serve(feed, rules=RULES) as gateway:
        words = ("--gateway", gateway.base_url, "--conid", f"{AAPL},{IBM}", "--data", str(data))
        quick = ("capture", *words, "--flush-every", "0.4s")
        capture = await start(tmp_path, *quick)
        await eventually((data / "archive.toml").exists)
        out = tmp_path / "lines"
        with out.open("wb") as lines:
            follower = await _follow(tmp_path, data, lines)
            await eventually(lambda: _parts(data) >= 2)
            os.killpg(capture.pid, signal.SIGKILL)
            await capture.communicate()
            before = _parts(data)
            capture = await start(tmp_path, *quick)
            await eventually(lambda: _parts(data) >= before + 3)
            capture.terminate()
            await capture.communicate()
            recorded = await asyncio.to_thread(frames_of, data)
            await eventually(lambda: out.read_bytes().count(b"\n") >= len(recorded))
            follower.send_signal(signal.SIGINT)
            _, said = await follower.communicate()
    found = [json.loads(line) for line in out.read_bytes().splitlines()]
    digests = {
        f"{name:<16} {digest.count:>12,} frames  {digest.hexdigest()}"
        for name, digest in recorder.open(data).digests().items()
    }

    assert (0, 0) == (capture.returncode, follower.returncode)
    assert [(frame.session, frame.seq) for frame in recorded] == [(line["session"], line["seq"]) for line in found]
    assert [frame.data for frame in recorded] == [line["data"].encode() for line in found]
    assert 2 == len({frame.session for frame in recorded})
    assert digests == {line.strip() for line in said.decode().splitlines()}


async def _follow(folder: Path, data: Path, lines: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command("replay", "--raw", "--follow", "--data", str(data)),
        cwd=folder,
        env=environment(),
        stdout=lines,
        stderr=asyncio.subprocess.PIPE,
    )


def _parts(data: Path) -> int:
    return len(list((data / "frames").rglob("*.parquet")))
