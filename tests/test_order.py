"""The order between recorders is that of T over all their frames, whatever is selected."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import AAPL, IBM, NOON, Given, archive, order, quote, write_session
from hypothesis import given, settings
from hypothesis import strategies as st

import recorder
from recorder.archive.layout import Layout, make_layout
from recorder.protocol.days import DayBoundary

SESSIONS = {"a": ("20261120T120000aaaa", "20261120T120001cccc"), "b": ("20261120T120000bbbb", "20261120T120001dddd")}
Stamped = tuple[int, int]
"""When a frame came, by its recorder's clock, and of what it is: a contract, or 0 for an order."""


def frame(number: int, at: int, of: int) -> Given:
    """Make the frame of a number."""
    data = quote(number, conid=of) if of else order(number, conid=AAPL, price=str(number / 4))
    return Given(NOON + at, data)


def expected(recorded: dict[str, list[Stamped]]) -> list[int]:
    """Order the numbers of all frames by T, recorder and place; frames of `b` are numbered from 100."""
    keys = []
    for name, frames in recorded.items():
        latest = -1
        for place, (at, _) in enumerate(frames):
            latest = max(latest, at)
            keys.append((latest, name, place, place + (100 if name == "b" else 0)))
    return [number for *_, number in sorted(keys)]


def record(layout: Layout, recorded: dict[str, list[Stamped]], cuts: list[int]) -> None:
    """Write each recorder's frames as two sessions, in some segments."""
    for name, frames in recorded.items():
        numbered = [frame(place + (100 if name == "b" else 0), *stamped) for place, stamped in enumerate(frames)]
        half = len(numbered) // 2
        for session, own in zip(SESSIONS[name], (numbered[:half], numbered[half:]), strict=True):
            if own:
                write_session(layout, own, recorder=name, session=session, rotations=cuts)


def check(root: Path, recorded: dict[str, list[Stamped]], start: int) -> None:
    """Hold what readers give of any selection against the order of everything."""
    opened = recorder.open(root)
    order_of = expected(recorded)
    stamps = {
        place + (100 if name == "b" else 0): stamped
        for name, frames in recorded.items()
        for place, stamped in enumerate(frames)
    }
    numbers = {frame(number, *stamped).data: number for number, stamped in stamps.items()}
    begin = f"2026-11-20T12:00:00.{start:06d}"
    assert order_of == [numbers[one.data] for one in opened.frames()]
    late = [number for number in order_of if stamps[number][0] >= start]
    assert late == [numbers[one.data] for one in opened.frames(start=begin)]
    for conids in ([AAPL], [IBM], None):
        chosen = [n for n in late if stamps[n][1] and (conids is None or stamps[n][1] in conids)]
        table = opened.load("market_data", conid=conids, start=begin, columns=["bid_price"])
        assert chosen == [bid * 4 for bid in table["bid_price"]]
        events = opened.replay("market_data", conids=conids, start=begin, columns=["bid_price"])
        assert chosen == [event.bid_price * 4 for event in events]
    both = opened.replay(["market_data", "orders"], start=begin, columns=["bid_price", "price"])
    assert late == [(e.bid_price if e.topic == "market_data" else e.price) * 4 for e in both]
    some = opened.frames(start=begin, topics=["market_data"], conids=[IBM])
    assert [n for n in late if stamps[n][1] == IBM] == [numbers[one.data] for one in some]


STEPS_BACK = {
    "a": [(0, AAPL), (50, IBM), (10, AAPL), (20, AAPL), (60, 0), (15, IBM), (70, AAPL), (30, AAPL)],
    "b": [(5, AAPL), (12, IBM), (18, AAPL), (55, 0), (58, AAPL), (61, IBM), (9, AAPL), (72, AAPL)],
}


@pytest.mark.parametrize("archived", [(), ("a",), ("a", "b")], ids=["journal", "one archived", "both archived"])
def test_a_clock_that_steps_back_orders_every_selection_alike(layout: Layout, archived: tuple[str, ...]) -> None:
    """The stamps that set T may be of other contracts, other topics, or before the start."""
    record(layout, STEPS_BACK, [2])
    for name in archived:
        archive(layout, recorder=name)

    for start in (0, 11, 21):
        check(layout.root, STEPS_BACK, start)


FRAMES = st.lists(st.tuples(st.integers(0, 30), st.sampled_from([AAPL, IBM, 0])), min_size=1, max_size=9)


@settings(max_examples=12, database=None)
@given(
    one=FRAMES, two=FRAMES, cuts=st.lists(st.integers(1, 4), max_size=2), start=st.integers(0, 25), first=st.booleans()
)
def test_any_clocks_order_every_selection_alike(
    tmp_path_factory: pytest.TempPathFactory,
    one: list[Stamped],
    two: list[Stamped],
    cuts: list[int],
    start: int,
    *,
    first: bool,
) -> None:
    """From parts and journal."""
    layout = make_layout(tmp_path_factory.mktemp("any") / "data", DayBoundary("00:00 UTC"))
    recorded = {"a": one, "b": two}
    record(layout, recorded, cuts)
    if first:
        archive(layout, recorder="a")

    check(layout.root, recorded, start)
    shutil.rmtree(layout.root)
