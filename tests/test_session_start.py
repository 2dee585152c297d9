"""What a session begins with: the gaps that the one before it left open, and the time since."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    AAPL,
    NOON,
    SESSION,
    Given,
    Recording,
    Script,
    archive,
    cut,
    eventually,
    frames_of,
    gateway_with,
    in_loop,
    payloads,
    quotes,
    recording,
    settings_for,
    write_session,
)

import recorder
from recorder.archive.ending import find_ending
from recorder.archive.layout import Layout, open_layout
from recorder.archive.verify import verify
from recorder.lock import Failure
from recorder.protocol.ledger import Ending, Gap, opened_mark
from recorder.protocol.marks import decode_mark, encode_mark
from recorder.protocol.topics import load_topics

OPEN = Gap("market_data", AAPL, NOON, "stale", "silent")
OPENED = Given(NOON + 2500, opened_mark(OPEN), "mark")
STOPPED = Given(NOON + 5000, encode_mark("session_stopped", reason="SIGINT"), "mark")
BROKE_OFF = f"session {SESSION} broke off: killed, or the machine went down"


def gaps(root: Path) -> list[Any]:
    """Read the ledger."""
    return list(recorder.open(root).gaps().itertuples())


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ([], Ending(NOON + 2500, (OPEN,), "process_down", BROKE_OFF)),
        ([STOPPED], Ending(NOON + 5000, (OPEN,), "process_down", f"session {SESSION} was stopped: SIGINT")),
    ],
)
def test_an_ending_is_the_same_in_the_journal_and_in_parquet(
    layout: Layout,
    last: list[Given],
    expected: Ending,
    archived: bool,  # noqa: FBT001
) -> None:
    """The last stamp, what was open then, and why it ended."""
    write_session(layout, [*quotes(3), OPENED, *last], rotations=[2], dead=not last)
    if archived:
        archive(layout)

    assert expected == find_ending(layout, "main", SESSION)


def test_an_ending_may_lie_in_parquet_and_journal(layout: Layout) -> None:
    """The commit knows what is open, the segment behind it what was opened since."""
    other = Gap("pnl", None, NOON + 9000, "stale", "silent")
    first, second = write_session(
        layout, [OPENED, Given(NOON + 9000, opened_mark(other), "mark")], rotations=[1], dead=True
    )
    kept = second.read_bytes()
    second.unlink()
    archive(layout)
    second.write_bytes(kept)
    ending = find_ending(layout, "main", SESSION)

    assert not first.exists()
    assert Ending(NOON + 9000, (OPEN, other), "process_down", BROKE_OFF) == ending


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (Failure(SESSION, "the journal cannot be written: no space left", disk_full=True), "disk_full"),
        (Failure("20261121T000000zzzz", "the journal cannot be written: I/O error"), "process_down"),
    ],
)
def test_a_failure_that_the_lock_noted_says_why(layout: Layout, failure: Failure, cause: str) -> None:
    """That of the session itself, or of a later one that came to no frame."""
    write_session(layout, quotes(3), dead=True)
    ending = find_ending(layout, "main", SESSION, failure=failure)

    assert Ending(NOON + 2000, (), cause, f"session {failure.session} ended: {failure.what}") == ending  # type: ignore[arg-type]


def test_a_failure_of_an_earlier_session_does_not(layout: Layout) -> None:
    """It has been told already."""
    write_session(layout, quotes(3), dead=True)
    ending = find_ending(layout, "main", SESSION, failure=Failure("20261101T000000aaaa", "full", disk_full=True))

    assert Ending(NOON + 2000, (), "process_down", BROKE_OFF) == ending


def test_a_session_that_cannot_be_read_to_its_end_says_so(layout: Layout) -> None:
    """What is lost of it belongs to the hole."""
    (path,) = write_session(layout, quotes(1), dead=True)
    (other,) = write_session(layout, quotes(1, start=NOON + 9000), recorder="spare", session="20261120T120000bbbb")
    with path.open("ab") as file:
        file.write(other.read_bytes()[8 + 8 + _header_length(other) :])  # frame 0 again, where 1 belongs
    ending = find_ending(layout, "main", SESSION)

    assert ending is not None
    assert (NOON, "journal_damaged") == (ending.last, ending.cause)
    assert str(path) in ending.evidence


def _header_length(path: Path) -> int:
    return int(struct.unpack("<I", path.read_bytes()[8:12])[0])


def test_no_session_has_no_ending(layout: Layout) -> None:
    """A segment without a frame is none."""
    (path,) = write_session(layout, quotes(1))
    cut(path, path.stat().st_size - 10)

    assert find_ending(layout, "main", SESSION) is None


@in_loop
async def test_the_time_between_two_sessions_is_a_gap_of_each_topic(tmp_path: Path) -> None:
    """From the last frame of the first; a first session has nothing before it."""
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway:
        async with recording(settings_for(gateway, data)) as running:
            first = running
            await eventually(lambda: running.received)
        alone = gaps(data)
        last = frames_of(data)[-1]
        async with recording(settings_for(gateway, data, topic=("orders", "pnl"))):
            since = [mark for mark in map(decode_mark, payloads(data, kind="mark")) if mark["event"] == "gap_opened"]
    rows = gaps(data)

    assert alone == []
    assert [("orders", None, last.ts_recv), ("pnl", None, last.ts_recv)] == [
        (mark["of"], mark["contract"], mark["start"]) for mark in since
    ]
    assert {f"session {last.session} was stopped: the test is over"} == {mark["evidence"] for mark in since}
    assert {"orders", "pnl"} == {row.topic for row in rows}
    assert all(row.end > row.start for row in rows)
    assert (await first.ended()).session == last.session
    assert verify(open_layout(data), load_topics(), done=lambda _count: None).problems == []


@pytest.fixture
def killed(layout: Layout) -> Layout:
    """Leave a session that was killed while a gap was open."""
    write_session(layout, [*quotes(3), OPENED], dead=True)
    return layout


@in_loop
async def test_a_session_closes_what_a_killed_one_left_open(killed: Layout) -> None:
    """In one record with its first mark."""
    layout, feed = killed, Script()
    async with gateway_with(feed) as gateway:
        running = Recording(settings_for(gateway, layout.root, topic=("market_data",)))
        await running.start()
        begun = [frame for frame in frames_of(layout.root) if frame.session != SESSION][:3]
        await running.stop()
    rows = gaps(layout.root)

    assert ["session_started", "gap_closed", "gap_opened"] == [decode_mark(frame.data)["event"] for frame in begun]
    assert len({frame.ts_recv for frame in begun}) == 1
    assert [("stale", AAPL), ("process_down", None)] == [
        (row.cause, None if row.cause == "process_down" else row.conid) for row in rows
    ]
    assert rows[0].end == rows[1].start
    assert rows[1].evidence == BROKE_OFF
    assert rows[1].end.tzinfo is not None
    assert verify(open_layout(layout.root), load_topics(), done=lambda _count: None).problems == []
