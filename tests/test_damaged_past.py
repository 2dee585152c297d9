"""Damage to what is archived of an earlier session: today's is archived all the same, and the damage stays visible."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from conftest import (
    AAPL,
    DAY,
    NOON,
    SESSION,
    Script,
    archive,
    eventually,
    frames_of,
    gateway_with,
    in_loop,
    quote,
    quotes,
    recording,
    settings_for,
    write_session,
)

from recorder.archive.archiver import Archiver, News
from recorder.archive.layout import Layout
from recorder.archive.starting_state import Unread
from recorder.archive.verify import verify
from recorder.cli import main as cli
from recorder.protocol.topics import load_topics

TOPICS = load_topics()
BEFORE, AFTER = "20261119T120000aaaa", "20261120T130000bbbb"


def flip_footer(path: Path) -> bytes:
    """Flip a bit of a part's footer, so that nobody can read it; give the part as it was."""
    content = path.read_bytes()
    path.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    return content


def frames_part(layout: Layout, session: str) -> Path:
    """Find a session's only frames part."""
    (path,) = (layout.root / "frames").rglob(f"{session}-*.parquet")
    return path


def problems(layout: Layout) -> set[tuple[str, Path]]:
    """Give what verification finds: of which kind, and where."""
    return {(one.kind, one.path) for one in verify(layout, TOPICS, done=lambda _frames: None).problems}


@pytest.fixture
def past(layout: Layout) -> Layout:
    """Archive two sessions, the later of which cannot be read any more; today's waits in the journal."""
    write_session(layout, quotes(3, start=NOON - DAY), session=BEFORE)
    write_session(layout, quotes(3, start=NOON), session=SESSION)
    archive(layout)
    write_session(layout, quotes(4, start=NOON - DAY // 2), session=AFTER, rotations=[2])
    return layout


def test_a_damaged_commit_of_the_past_does_not_hold_up_todays_session(past: Layout) -> None:
    """It is told once, with the part's name; verification reports it, and is content only when the part is back."""
    part = frames_part(past, SESSION)
    good = flip_footer(part)
    told: list[News] = []
    archive(past, tell=told.append)
    unread = [news for news in told if isinstance(news, Unread)]
    found = problems(past)

    assert [] == past.segments("main")
    assert [part] == [one.part for one in unread]
    assert str(part) in unread[0].what
    assert ("damaged", part) in found
    part.write_bytes(good)
    assert set() == problems(past)
    assert 10 == len(frames_of(past.root))


def test_the_clock_of_what_can_be_read_counts(layout: Layout) -> None:
    """Of the sessions before the damaged one, the highest stamp still says which frames came late."""
    write_session(layout, quotes(3, start=NOON - DAY), session=BEFORE)
    write_session(layout, quotes(3, start=NOON), session=SESSION)
    archive(layout)
    flip_footer(frames_part(layout, SESSION))
    write_session(layout, quotes(4, start=NOON - DAY - 5000), session=AFTER)
    (commit,) = archive(layout)

    assert ([(0, 3, NOON - DAY + 2000)], NOON - DAY + 2000) == (commit.late, commit.latest)


def test_a_session_that_is_lost_behind_the_damage_is_still_missed(past: Layout) -> None:
    """What a session says of its predecessor is held against the archive, whatever the archiver passed over."""
    part = frames_part(past, SESSION)
    flip_footer(part)
    archive(past)
    part.unlink()

    assert problems(past)


def test_a_live_archiver_passes_it_too_and_says_so_once(past: Layout) -> None:
    """Followed turn by turn, over several segments and another archiver of the same capture."""
    flip_footer(frames_part(past, SESSION))
    told: list[News] = []
    archiver = Archiver(past, TOPICS, "main", tell=told.append)
    while archiver.follow(AFTER, everything=True):
        pass

    assert 1 == sum(isinstance(news, Unread) for news in told)
    assert [] == past.segments("main")


def test_flush_warns_of_it(past: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """And is done with exit code 0: what it was to do is done."""
    part = frames_part(past, SESSION)
    flip_footer(part)
    code = cli.run(["flush", "--data", str(past.root), "--json"])

    assert 0 == code
    assert [str(part)] == [one["part"] for one in json.loads(capsys.readouterr().out)["unread"]]


@in_loop
async def test_a_capture_warns_of_it_and_archives(past: Layout, caplog: pytest.LogCaptureFixture) -> None:
    """Its status shows the problem until something was archived; the log keeps it."""
    archive(past)
    part = frames_part(past, SESSION)
    flip_footer(part)
    flip_footer(max((past.root / "frames").rglob(f"{AFTER}-*.parquet")))
    caplog.set_level(logging.WARNING)
    feed = Script()
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, past.root, flush_every=0.3)) as running:
        feed.push(f"smd+{AAPL}", quote(1), quote(2))
        await eventually(lambda: running.capture.counters.flushes > 0)
    said = [one.getMessage() for one in caplog.records if str(past.root) in one.getMessage()]

    assert [] == past.segments("main")
    assert 1 == sum(AFTER in text for text in said)
    assert all("recorder verify" in text for text in said)
