"""`archive.replay_async`: what `replay` gives, in an event loop, read ahead by a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from conftest import AAPL, DAY, IBM, NOON, Given, archive, eventually, in_loop, order, quotes, write_session
from hypothesis import given, settings
from hypothesis import strategies as st

import recorder
from recorder.archive.layout import Layout, make_layout
from recorder.errors import Damaged, GapError, UsageError
from recorder.protocol.days import DayBoundary
from recorder.protocol.ledger import Gap, closed_mark
from recorder.replay.ahead import THREAD, paced_ahead
from recorder.replay.blocks import Block

LATER = "20261121T120000bbbb"
HOLE = closed_mark(Gap("market_data", None, NOON + 2_500, "disconnected", "closed"), end=NOON + 6_000)
TOPICS = ["market_data", "orders", "pnl", "gaps"]


async def taken(events: AsyncIterator[Any]) -> list[Any]:
    """Take all."""
    return [event async for event in events]


def at_noon(after: int) -> datetime:
    """Give a moment some microseconds after noon."""
    return datetime(2026, 11, 20, 12, tzinfo=UTC) + timedelta(microseconds=after)


def threads() -> list[threading.Thread]:
    """List the threads that read ahead, those that are about to end left out."""
    ours = [thread for thread in threading.enumerate() if thread.name.startswith(THREAD)]
    for thread in ours:
        thread.join(5)
    return [thread for thread in ours if thread.is_alive()]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> recorder.Archive:
    """Make an archive of two recorders and three topics, partly in the journal, with a hole and a clock that steps."""
    layout = make_layout(tmp_path_factory.mktemp("mixed") / "data", DayBoundary("00:00 UTC"))
    bought = Given(NOON + 3_000, order(7, conid=IBM, price="3"))
    frames = [*quotes(4), bought, *quotes(4, start=NOON + 1_500, conid=IBM), Given(NOON + 7_000, HOLE, "mark")]
    write_session(layout, frames, rotations=[3])
    archive(layout)
    write_session(layout, [*quotes(5, start=NOON + DAY), Given(NOON + DAY + 9_000, order(7))], session=LATER)
    write_session(layout, quotes(6, start=NOON + 500, conid=IBM), recorder="other", session="20261120T120000cccc")
    return recorder.open(layout.root)


@settings(max_examples=25, database=None)
@given(
    topics=st.lists(st.sampled_from(TOPICS), min_size=1, unique=True),
    conids=st.none() | st.lists(st.sampled_from([AAPL, IBM, 1]), max_size=2),
    span=st.tuples(*[st.none() | st.integers(-1_000, 9_000)] * 2),
    columns=st.none() | st.just(["bid_price", "price"]),
    gaps=st.sampled_from(["event", "ignore"]),
)
def test_it_gives_what_replay_gives(mixed: recorder.Archive, gaps: Any, span: Any, columns: Any, **choice: Any) -> None:
    """The same records in the same order, whatever is chosen."""
    columns = columns if {"market_data", "orders"} <= {*choice["topics"]} else None
    bounds = {edge: None if at is None else at_noon(at) for edge, at in zip(("start", "end"), span, strict=True)}
    choice |= {"columns": columns, "gaps": gaps, **bounds}
    expected = list(mixed.replay(**choice))
    found = asyncio.run(taken(mixed.replay_async(speed="max", **choice)))

    assert list(map(repr, expected)) == list(map(repr, found))
    assert list(map(type, expected)) == list(map(type, found))


class Hand:
    """A clock that is moved by hand, and by sleeping."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.sleeps: list[float] = []

    def __call__(self) -> int:
        """Say what time it is."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let time pass, as much as is asked for."""
        self.sleeps.append(seconds)
        self.now += round(seconds * 1e6)


@pytest.mark.parametrize(("speed", "due"), [(1.0, [0, 100, 100, 350]), (2.0, [0, 50, 50, 175]), (None, [0] * 4)])
@in_loop
async def test_recorded_time_paces(speed: float | None, due: list[int]) -> None:
    """Each element comes when it is due after the first, over blocks."""
    hand, begin = Hand(), 1_000_000
    blocks = iter(
        [Block(np.array([NOON, NOON + 100]), iter("ab")), Block(np.array([NOON + 100, NOON + 350]), iter("cd"))]
    )
    events = paced_ahead(blocks, speed=speed, stop=threading.Event(), now=hand, sleep=hand.sleep)
    came = [(element, hand.now - begin) async for element in events]

    assert list(zip("abcd", due, strict=True)) == came


@in_loop
async def test_who_is_slow_gets_what_is_overdue_at_once() -> None:
    """Lateness does not add up: the schedule is that of the clock."""
    hand = Hand()
    blocks = iter([Block(np.array([NOON, NOON + 100, NOON + 200, NOON + 900]), iter("abcd"))])
    came = []
    async for element in paced_ahead(blocks, speed=1.0, stop=threading.Event(), now=hand, sleep=hand.sleep):
        came.append((element, hand.now - 1_000_000))
        hand.now += 300 if element == "a" else 0

    assert [("a", 0), ("b", 300), ("c", 300), ("d", 900)] == came


@in_loop
async def test_a_loop_has_its_turn_while_all_is_taken_at_once() -> None:
    """At full speed too, other tasks go on between a few hundred elements."""
    block, turns = Block(np.arange(5_000), iter(range(5_000))), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    count = len(await taken(paced_ahead(iter([block]), speed=None, stop=threading.Event())))
    task.cancel()

    assert 5_000 == count
    assert turns >= 8


class Endless:
    """Blocks without end that say how many were read and whether they were closed."""

    def __init__(self) -> None:
        self.read = 0
        self.closed = False

    def blocks(self) -> Iterator[Block]:
        """Give a block of one element after another."""
        try:
            while True:
                self.read += 1
                yield Block(np.array([NOON + self.read]), iter([self.read]))
        finally:
            self.closed = True


@in_loop
async def test_one_block_is_read_ahead_and_no_more() -> None:
    """However long the consumer thinks."""
    endless = Endless()
    async with aclosing(paced_ahead(endless.blocks(), speed=None, stop=threading.Event())) as events:  # type: ignore[type-var]
        assert 1 == await anext(events)
        await eventually(lambda: endless.read == 2)
        await asyncio.sleep(0.02)
        assert 2 == endless.read
        assert 2 == await anext(events)

    assert endless.closed
    await eventually(lambda: not threads())


@in_loop
async def test_a_cancelled_task_leaves_no_thread() -> None:
    """What was open is closed before the task is over."""
    endless, taking = Endless(), asyncio.Event()

    async def take() -> None:
        async for _ in paced_ahead(endless.blocks(), speed=None, stop=threading.Event()):
            taking.set()

    task = asyncio.create_task(take())
    await taking.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await eventually(lambda: endless.closed and not threads())


def test_an_error_of_the_thread_is_raised_where_events_are_taken(layout: Layout) -> None:
    """Behind all that came before the damage."""
    write_session(layout, quotes(40_000), rotations=[20_000])
    archive(layout)
    part = max((layout.root / "market_data").rglob("*.parquet"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    seqs: list[int] = []

    async def take() -> None:
        async for event in recorder.open(layout.root).replay_async("market_data"):
            seqs.append(event.seq)  # noqa: PERF401  what came before an error counts

    with pytest.raises(Damaged, match=part.name):
        asyncio.run(take())

    assert list(range(20_000)) == seqs
    assert [] == threads()


def test_a_hole_is_an_error_before_the_first_event(layout: Layout) -> None:
    """As with replay, unless told otherwise; wrong names and speeds are told at the call."""
    write_session(layout, [*quotes(9), Given(NOON + 9_000, HOLE, "mark")])
    opened = recorder.open(layout.root)
    with pytest.raises(GapError, match="disconnected"):
        asyncio.run(taken(opened.replay_async("market_data")))
    assert 9 + 2 == len(asyncio.run(taken(opened.replay_async("market_data", gaps="event"))))

    wrong: list[dict[str, Any]] = [{"topics": "quotes"}, {"columns": ["bid_prise"]}, {"speed": 0}, {"speed": "fast"}]
    for one in [*wrong, {"gaps": "no"}]:
        with pytest.raises(UsageError):
            opened.replay_async(**{"topics": "market_data"} | one)
