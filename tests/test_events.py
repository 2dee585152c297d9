"""Events in process: what their records can do, and iterators of them that are closed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import NOON, archive, quotes, write_session

import recorder
from recorder.archive.layout import Layout
from recorder.library import Archive
from recorder.replay.blocks import Block, elements_of

COLUMNS = ["bid_price", "ask_price"]


@pytest.fixture
def opened(layout: Layout) -> Archive:
    """Make an archive of six frames of market data, three in a part and three in the journal."""
    write_session(layout, quotes(6), rotations=[3])
    archive(layout)
    write_session(layout, quotes(6, start=NOON + 10_000), session="20261121T120000bbbb")
    return recorder.open(layout.root)


def test_a_record_is_a_named_tuple(opened: Archive) -> None:
    """It is unpacked, compared, copied, changed, shown and matched as one; it has no attributes of its own."""
    event = list(opened.replay("market_data", columns=["bid_price"]))[1]
    ts_recv, ts_event, session, seq, item, conid, bid_price = event
    changed = event._replace(bid_price=7.5)

    assert issubclass(type(event), tuple)
    assert (event.ts_recv, event.seq, event.conid, event.bid_price) == (ts_recv, seq, conid, bid_price)
    assert (ts_recv, ts_event, session, seq, item, conid, 7.5) == changed
    assert (type(event), "market_data") == (type(changed), changed.topic)
    assert event == type(event)._make(event) == copy.copy(event)
    assert f"MarketData(ts_recv={ts_recv}, " == repr(event)[: len(f"MarketData(ts_recv={ts_recv}, ")]
    assert [*event._asdict()] == [*event._fields] == [*type(event).__match_args__]
    assert hash(event) == hash(tuple(event))
    with pytest.raises(AttributeError):
        event.note = "mine"


def test_a_column_without_any_number_is_nan(opened: Archive) -> None:
    """As an absent number beside others is."""
    assert all(math.isnan(event.ask_price) for event in opened.replay("market_data", columns=COLUMNS))


@pytest.mark.parametrize(
    "given",
    [
        lambda archive: archive.replay("market_data"),
        lambda archive: archive.frames(),
        lambda archive: archive.replay("market_data", gaps="event", follow=True),
        lambda archive: archive.replay("market_data", speed=1e9),
    ],
    ids=["events", "frames", "followed", "paced"],
)
def test_an_iterator_that_is_closed_gives_no_more(opened: Archive, given: Callable[[Archive], Iterator[Any]]) -> None:
    """Not even what was read already; closed once more, it stays so."""
    elements = given(opened)
    first = next(elements)
    for _ in range(2):
        elements.close()  # type: ignore[attr-defined]  # as a generator has

    assert 0 == first.seq
    assert [] == list(elements)


def test_an_iterator_that_is_closed_closes_what_it_reads() -> None:
    """Files are not held open until it is collected."""
    closed = []

    def blocks() -> Iterator[Any]:
        try:
            yield Block(np.array([5, 6]), iter([1, 2]))
        finally:
            closed.append(True)

    elements = elements_of(blocks())

    assert 1 == next(elements)
    elements.close()
    assert [True] == closed
