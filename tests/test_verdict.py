"""The verdict: what is wrong with a capture is said in words, and nothing else is."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from conftest import AAPL, IBM, NOON
from hypothesis import given
from hypothesis import strategies as st

from recorder.capture.status import GapStatus, Space, Status, StreamStatus, TopicStatus
from recorder.capture.verdict import covered, problems, span, verdict, without_accounts
from recorder.cli.capture import _line

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


def status_of(**values: Any) -> Status:
    """Make the status of a capture that records since nine hours, and with which all is well."""
    well: dict[str, Any] = {
        "recorder": "main",
        "session": "20261120T030000aaaa",
        "pid": 1,
        "at": NOON,
        "since": NOON - 9 * HOUR,
        "state": "recording",
        "unready": None,
        "connected": True,
        "logged_in": True,
        "connections": 1,
        "received": 1000,
        "rate": 10.0,
        "last_frame": NOON - SECOND,
        "rows": {"market_data": 1000},
        "topics": (TopicStatus("market_data", "flowing", 10.0, 1000, NOON - SECOND),),
        "streams": (StreamStatus("market_data", f"smd+{AAPL}", AAPL, "flowing", NOON - SECOND),),
        "unclaimed": 0,
        "undecoded": 0,
        "journaled_bytes": 100_000,
        "unflushed_frames": 100,
        "unflushed_bytes": 10_000,
        "unwritten_bytes": 0,
        "lag": 0.003,
        "flushes": 9,
        "last_flush": NOON - 10 * MINUTE,
        "flush_took": 0.5,
        "flush_every": 3600.0,
        "gaps": (),
        "space": Space(100_000_000_000, 1_000_000_000),
    }
    return Status(**well | values)


def texts(status: Status, now: int = NOON) -> list[str]:
    """Give the texts of what is wrong."""
    return [problem.text for problem in problems(status, now)]


def gap(start: int, end: int | None = None, *, topic: str = "market_data", conid: int | None = None) -> GapStatus:
    """Make a gap of silence; times count from noon, in seconds."""
    return GapStatus(topic, conid, NOON + start * SECOND, None if end is None else NOON + end * SECOND, "stale")


def test_a_capture_that_records_is_well() -> None:
    """Nothing is said but that."""
    assert texts(status_of()) == []
    assert (
        verdict(status_of(), NOON)
        == "All is well: recording, the last frame came 1 s ago; nothing was missed in the last 9 h 0 min."
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            {"state": "reconnecting", "unready": NOON - 3 * MINUTE, "connected": False, "problem": "no gateway"},
            "no connection to the gateway for 3 min (no gateway)",
        ),
        (
            {"state": "connected", "unready": NOON - MINUTE, "logged_in": False},
            "the gateway has had no brokerage session for 1 min",
        ),
        ({"state": "connected", "unready": NOON - MINUTE}, "connected, but connected for 1 min"),
        ({"problem": "the archiver ended with code 1"}, "the archiver ended with code 1"),
        ({"gaps": (gap(-60),)}, "no market_data for 1 min (stale)"),
        (
            {"gaps": (gap(-60, conid=AAPL), gap(-90, conid=IBM))},
            f"no market_data of {AAPL}, {IBM} for 1 min (stale)",
        ),
        (
            {"topics": (TopicStatus("orders", "refused", 0.0, 0, None),)},
            "no orders: the gateway refuses it, or sends nothing",
        ),
        (
            {"streams": tuple(StreamStatus("market_data", "smd", n, "refused", None) for n in range(5))},
            "no market_data of 0, 1, 2 and 2 more: the gateway refuses it, or sends nothing",
        ),
        ({"lag": 3.0}, "the disk is slow: a frame took 3.0 s to be written"),
        (
            {"last_flush": NOON - 3 * HOUR},
            "nothing was written to Parquet for 3 h 0 min: 100 frames wait",
        ),
        ({"space": Space(10**9, 10**9)}, "the disk is full in 1.0 days"),
        ({"space": Space(10**8, None)}, "the disk has only 100 MB left"),
        (
            {"state": "failed", "ended": "the journal cannot be written"},
            "the capture failed 0 s ago: the journal cannot",
        ),
        ({"state": "stopped", "ended": "SIGTERM"}, "the capture stopped 0 s ago: SIGTERM"),
    ],
)
def test_what_is_wrong_is_said(wrong: dict[str, Any], told: str) -> None:
    """Each in one phrase, and the verdict says it too."""
    (text,) = texts(status_of(**wrong))

    assert told == text[: len(told)]
    assert verdict(status_of(**wrong), NOON) == f"Attention: {text}."


@pytest.mark.parametrize(
    "fine",
    [
        {"state": "reconnecting", "unready": NOON - 9 * SECOND, "connected": False},
        {"state": "stopping", "unready": NOON - MINUTE, "connected": False},
        {"state": "sleeping", "unready": NOON - HOUR, "connected": False, "wakes": NOON + HOUR},
        {"gaps": (gap(-9),)},
        {"gaps": (gap(-60, -30),)},
        {"gaps": (GapStatus("market_data", None, NOON - HOUR, None, "market_closed"),)},
        {"space": None},
        {"last_flush": None, "unflushed_frames": 0},
    ],
)
def test_what_mends_itself_or_was_expected_is_no_problem(fine: dict[str, Any]) -> None:
    """It has its row in the ledger and wakes nobody."""
    assert texts(status_of(**fine)) == []


def test_a_capture_that_stopped_reporting_does_not_answer() -> None:
    """Its last words said that all was well; that they are old says more."""
    assert texts(status_of(), NOON + 40 * SECOND) == ["the capture has not reported for 40 s"]


def test_a_sleeping_capture_says_when_it_wakes() -> None:
    """Expected silence is no alarm."""
    status = status_of(state="sleeping", unready=NOON - HOUR, connected=False, wakes=NOON + 2 * HOUR)

    assert verdict(status, NOON) == "All is well: the market is closed, the recorder sleeps, and wakes in 2 h 0 min."


def test_the_name_of_a_problem_stays_while_its_text_grows_older() -> None:
    """Or each second would be another alert."""
    status = status_of(gaps=(gap(-60),), last_flush=NOON - 3 * HOUR)
    later = msgspec.structs.replace(status, at=NOON + MINUTE)

    assert [one.what for one in problems(status, NOON)] == [one.what for one in problems(later, NOON + MINUTE)]
    assert texts(status) != texts(later, NOON + MINUTE)


def test_gaps_of_several_topics_at_once_count_as_one() -> None:
    """A lost connection is one gap to a person, though each topic has its row."""
    gaps = (gap(-300, -240), gap(-300, -230, topic="orders"), gap(-60, -50))

    assert verdict(status_of(gaps=gaps), NOON).endswith("2 gaps in the last 9 h 0 min, the longest 1 min.")


@given(st.lists(st.tuples(st.integers(-60, 0), st.integers(0, 30) | st.none()), max_size=8))
def test_covered_time_is_that_in_which_any_gap_lies(spans: list[tuple[int, int | None]]) -> None:
    """Second by second the same as looking at every gap; stretches neither touch nor overlap."""
    gaps = [gap(start, None if length is None else start + length) for start, length in spans]
    found = covered(gaps, now=NOON)
    inside = {
        moment
        for moment in range(-60, 31)
        if any(one.start <= NOON + moment * SECOND < (one.end or max(one.start, NOON)) for one in gaps)
    }

    assert inside == {m for m in range(-60, 31) if any(a <= NOON + m * SECOND < b for a, b in found)}
    assert all(one[1] < other[0] for one, other in pairwise(found))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("account DU1234567 is not allowed", "account (account) is not allowed"),
        ("ssd+U1234567", "ssd+(account)"),
        ("smd+265598 U2", "smd+265598 U2"),
    ],
)
def test_texts_hold_no_account(text: str, shown: str) -> None:
    """They go to screens, metrics and alerts."""
    assert shown == without_accounts(text)
    assert shown in verdict(status_of(problem=text), NOON)


@pytest.mark.parametrize(
    ("seconds", "written"), [(-1, "0 s"), (59, "59 s"), (60, "1 min"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")]
)
def test_a_stretch_of_time_is_written_for_people(seconds: int, written: str) -> None:
    """Two units at most."""
    assert written == span(seconds * SECOND)


def test_a_status_survives_being_written_and_read() -> None:
    """What one process writes, another reads."""
    status = status_of(gaps=(gap(-60),), wakes=NOON)

    assert status == msgspec.json.decode(msgspec.json.encode(status), type=Status)


def test_the_live_line_says_all_that_is_wrong() -> None:
    """A topic that is missing shows beside the capture's state, as the verdict puts it."""
    gap = GapStatus("pnl", None, NOON - MINUTE, None, "stale")

    assert "recording · no pnl for 1 min (stale) · 10 frames/s" in _line(status_of(gaps=(gap,)), 10)
    assert "recording · 10 frames/s" in _line(status_of(), 10)
