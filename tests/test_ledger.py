"""The gap ledger: what is open, and the marks."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.ledger import INFORMATION, Cause, Closed, Ending, Gap, Ledger, begin_session, read_gap
from recorder.protocol.marks import decode_mark, encode_mark

HOLES = [cause for cause in get_args(Cause) if cause not in INFORMATION]
KEYS = st.tuples(st.sampled_from(["market_data", "orders"]), st.sampled_from([None, 265598, 8314]))
STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "close", "note"]), KEYS, st.integers(0, 50), st.sampled_from(HOLES)), max_size=60
)


def play(ledger: Ledger, steps: list[tuple[str, tuple[str, int | None], int, Cause]]) -> list[bytes]:
    """Take steps; give the marks."""
    marks = []
    for what, (topic, conid), ts, cause in steps:
        if what == "open":
            mark = ledger.open(topic, conid, start=ts, cause=cause, evidence=f"seen, at {ts}; or so")
        elif what == "close":
            mark = ledger.close(topic, conid, end=ts)
        else:
            mark = ledger.note(topic, conid, start=ts, end=ts + 5, cause=cause, evidence="seen")
        marks += [mark] if mark is not None else []
    return marks


@given(STEPS)
def test_at_most_one_gap_is_open_per_key_and_the_marks_say_which(
    steps: list[tuple[str, tuple[str, int | None], int, Cause]],
) -> None:
    """Whoever follows the marks knows the same open gaps."""
    ledger, follower = Ledger(), Ledger()
    for mark in play(ledger, steps):
        follower.follow(mark)

    keys = [gap.key for gap in ledger.open_gaps]
    assert len(set(keys)) == len(keys)
    assert set(ledger.open_gaps) == set(follower.open_gaps)


@given(STEPS)
def test_every_gap_that_was_opened_is_closed_once_or_still_open(
    steps: list[tuple[str, tuple[str, int | None], int, Cause]],
) -> None:
    """A close mark holds what the last mark of its gap held."""
    ledger = Ledger()
    opened: dict[tuple[str, int | None], Gap] = {}
    for mark in play(ledger, steps):
        read = read_gap(mark)
        if isinstance(read, Gap):
            before = opened.get(read.key)
            assert before is None or (before.start, before.cause) == (read.start, read.cause)
            opened[read.key] = read
        elif read is not None and opened.get(read.gap.key, read.gap).start == read.gap.start:
            assert opened.pop(read.gap.key, read.gap) == read.gap

    assert set(opened.values()) == set(ledger.open_gaps)


@given(
    st.builds(
        Gap, st.text(), st.none() | st.integers(0, 2**53), st.integers(0, 2**53), st.sampled_from(HOLES), st.text()
    )
)
def test_marks_decode_back(gap: Gap) -> None:
    """What a mark says is what was meant, whatever the texts hold."""
    ledger = Ledger()
    opened = ledger.open(gap.topic, gap.conid, start=gap.start, cause=gap.cause, evidence=gap.evidence)
    closed = ledger.close(gap.topic, gap.conid, end=gap.start + 1)

    assert opened is not None
    assert closed is not None
    assert gap == read_gap(opened)
    assert Closed(gap, gap.start + 1) == read_gap(closed)


def test_marks_have_the_documented_keys() -> None:
    """Others read them as JSON."""
    ledger = Ledger()
    ledger.open("market_data", 265598, start=7, cause="stale", evidence="silent for 60 s")

    assert {
        "event": "gap_closed",
        "of": "market_data",
        "contract": 265598,
        "start": 7,
        "end": 9,
        "cause": "stale",
        "evidence": "silent for 60 s",
    } == decode_mark(ledger.close("market_data", 265598, end=9) or b"")


def test_a_later_cause_joins_the_evidence_once() -> None:
    """Start and first cause stay."""
    ledger = Ledger()
    ledger.open("pnl", start=1, cause="disconnected", evidence="closed by the gateway")
    joined = ledger.open("pnl", start=5, cause="competing", evidence="logged in elsewhere")

    assert read_gap(joined or b"") == Gap(
        "pnl", None, 1, "disconnected", "closed by the gateway; competing: logged in elsewhere"
    )
    assert ledger.open("pnl", start=6, cause="competing", evidence="again") is None
    assert ledger.open("pnl", start=6, cause="disconnected", evidence="again") is None


def test_causes_join_once_also_after_a_restart() -> None:
    """The evidence itself tells which causes it names."""
    ledger = Ledger()
    ledger.open("pnl", start=1, cause="disconnected", evidence="closed")
    ledger.open("pnl", start=1, cause="competing", evidence="logged in elsewhere")

    assert Ledger(ledger.open_gaps).open("pnl", start=6, cause="competing", evidence="again") is None


def test_a_clock_that_stepped_back_gives_an_empty_gap() -> None:
    """No gap ends before it starts."""
    ledger = Ledger([Gap("pnl", None, 100, "stale", "")])

    assert Closed(Gap("pnl", None, 100, "stale", ""), 100) == read_gap(ledger.close("pnl", end=50) or b"")


def test_closing_what_is_not_open_writes_nothing() -> None:
    """A whole topic's gap is another key than a contract's."""
    ledger = Ledger([Gap("pnl", None, 100, "stale", "")])

    assert ledger.close("pnl", 265598, end=200) is None
    assert ledger.is_open("pnl")
    assert not ledger.is_open("pnl", 265598)


def test_information_is_noted_and_never_open() -> None:
    """A market that is closed is no hole."""
    ledger = Ledger()
    noted = read_gap(ledger.note("market_data", start=1, end=2, cause="market_closed", evidence="XNYS") or b"")

    assert Closed(Gap("market_data", None, 1, "market_closed", "XNYS"), 2) == noted
    assert ledger.open_gaps == ()
    with pytest.raises(AssertionError):
        ledger.open("market_data", start=1, cause="market_closed", evidence="XNYS")


def test_a_session_begins_where_the_last_one_ended() -> None:
    """What was open is closed there, and what is subscribed is missing since."""
    ending = Ending(100, (Gap("market_data", 8314, 50, "stale", "silent"),), "process_down", "killed")
    ledger = Ledger(ending.open_gaps)
    marks = begin_session(ledger, ["market_data", "orders", "market_data"], ending=ending)

    assert [
        Closed(Gap("market_data", 8314, 50, "stale", "silent"), 100),
        Gap("market_data", None, 100, "process_down", "killed"),
        Gap("orders", None, 100, "process_down", "killed"),
    ] == [read_gap(mark) for mark in marks]
    assert ledger.is_open("orders")


@pytest.mark.parametrize(
    "mark",
    [encode_mark("subscribed", streams=2), msgspec.json.encode({"event": "gap_opened"}), b'{"event":"gap_"}'],
)
def test_other_marks_are_about_no_gap(mark: bytes) -> None:
    """Following them changes nothing."""
    ledger = Ledger()
    ledger.follow(mark)

    assert read_gap(mark) is None
    assert ledger.open_gaps == ()
