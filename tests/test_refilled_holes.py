"""Segments put back once their hole was noted: what fits is archived where it belongs, what does not is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import (
    AAPL,
    END_RECORD,
    NOON,
    SESSION,
    Given,
    archive,
    commits,
    cut,
    frames_of,
    order,
    quotes,
    write_session,
)
from kills import typed

from recorder.archive.archiver import Archiver
from recorder.archive.compaction import compact
from recorder.archive.ending import find_ending
from recorder.archive.layout import Layout, make_layout
from recorder.archive.reading import Reader, Span
from recorder.archive.verify import Report
from recorder.errors import Damaged
from recorder.lock import ARCHIVER, CAPTURE, RecorderLock, read_holder
from recorder.protocol.days import DayBoundary
from recorder.protocol.marks import encode_mark
from recorder.protocol.segment import Header, encode_batch, encode_end, encode_header, segment_name
from recorder.protocol.topics import load_topics
from recorder.recording import flush, rebuild_topic, verify_archive

TOPICS = load_topics()
FRAMES = quotes(30)


def check(layout: Layout, *, repair: bool = False) -> Report:
    """Verify an archive, every row derived again."""
    return verify_archive(layout, TOPICS, rederive=True, repair=repair, done=lambda _frames: None)[0]


def lose(layout: Layout, frames: list[Given] = FRAMES) -> tuple[Path, bytes]:
    """Journal three segments of a session, lose the middle one, note the hole; give its path and content."""
    path = write_session(layout, frames, rotations=(10, 20))[1]
    content = path.read_bytes()
    path.unlink()
    check(layout, repair=True)
    return path, content


@pytest.fixture
def holed(layout: Layout) -> tuple[Layout, Path, bytes]:
    """Archive a session around a hole of ten frames; give the segment that would fill it."""
    path, content = lose(layout)
    flush(layout, tell=lambda _news: None)
    return layout, path, content


def segment(layout: Layout, first: int, last: int, *, end: bool = True) -> Path:
    """Put a segment with some of the frames into the journal, one record each."""
    records = [encode_batch(seq, [FRAMES[seq].ts], [0], [0], [FRAMES[seq].data]) for seq in range(first, last + 1)]
    header = encode_header(Header(recorder="main", session=SESSION, first_seq=first, date="2026-11-20"))
    path = layout.journal("main") / segment_name(SESSION, first)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join([header, *records, encode_end(last) if end else b""]))
    return path


def ranges(layout: Layout) -> list[tuple[int, int]]:
    """Give the first and last frame of each commit."""
    return [(one.first, one.last) for one in commits(layout)]


def test_a_segment_that_is_put_back_fills_its_hole(holed: tuple[Layout, Path, bytes], tmp_path: Path) -> None:
    """Readers have its frames at once; archived, the session is as if nothing had ever been lost."""
    layout, path, content = holed
    path.write_bytes(content)
    seen = frames_of(layout.root)
    flush(layout, tell=lambda _news: None)
    clean = make_layout(tmp_path / "clean", DayBoundary("00:00 UTC"))
    write_session(clean, FRAMES, rotations=(10, 20))
    archive(clean)

    assert frames_of(clean.root) == seen == frames_of(layout.root)
    assert commits(clean) == commits(layout)
    assert typed(clean.root) == typed(layout.root)
    assert ([], []) == (check(layout).problems, check(layout).holes)
    compact(layout, ["2026-11-20"], done=lambda _rows: None)
    assert [(0, 29)] == ranges(layout)


def test_what_is_archived_into_a_hole_does_not_set_the_archivers_note_back(
    holed: tuple[Layout, Path, bytes],
) -> None:
    """Or nobody would miss the session's last part."""
    layout, path, content = holed
    path.write_bytes(content)
    flush(layout, tell=lambda _news: None)
    noted = read_holder(layout.journal("main") / ARCHIVER)

    assert noted is not None
    assert (SESSION, 29) == (noted.session, noted.last)


def test_a_session_that_runs_goes_on_behind_a_segment_that_was_put_back(layout: Layout) -> None:
    """Its archiver takes it first, though it was at a later one; what comes then starts from the last commit."""
    path, content = lose(layout)
    rest = path.with_name(segment_name(SESSION, 20))
    whole = rest.read_bytes()
    cut(rest, END_RECORD)
    lock = RecorderLock(layout.journal("main"), CAPTURE, root=layout.root)
    lock.acquire()
    archiver = Archiver(layout, TOPICS, "main", tell=lambda _news: None)
    assert archiver.follow(SESSION, everything=True)
    assert not archiver.follow(SESSION, everything=True)
    segment(layout, 5, 7).rename(path)  # not what belongs there
    with pytest.raises(Damaged):
        archiver.follow(SESSION, everything=True)
    path.write_bytes(content)
    assert archiver.follow(SESSION, everything=True)
    rest.write_bytes(whole)
    assert archiver.follow(SESSION, everything=True)
    lock.release()

    assert [(0, 9), (10, 19), (20, 29)] == ranges(layout)
    assert 30 == archiver.state(SESSION).next_seq
    assert 30 == archiver.state(SESSION).contents["market_data"].count
    assert [] == check(layout).problems


def test_a_shorter_segment_fills_what_it_has(holed: tuple[Layout, Path, bytes]) -> None:
    """The rest of the hole stays one."""
    layout, _, _ = holed
    segment(layout, 12, 15)
    flush(layout, tell=lambda _news: None)

    assert [(0, 9), (12, 15), (20, 29)] == ranges(layout)
    assert [*range(10), *range(12, 16), *range(20, 30)] == [frame.seq for frame in frames_of(layout.root)]
    assert [] == check(layout).problems


def test_a_segment_that_is_put_back_without_its_end_waits_for_a_repair(holed: tuple[Layout, Path, bytes]) -> None:
    """It is not its session's last: half a record would be a hole that nobody knows of."""
    layout, path, content = holed
    path.write_bytes(content)
    cut(path, END_RECORD)
    with pytest.raises(Damaged, match="the end of the file instead of an end record"):
        flush(layout, tell=lambda _news: None)
    check(layout, repair=True)
    flush(layout, tell=lambda _news: None)

    assert [(0, 9), (10, 19), (20, 29)] == ranges(layout)
    assert [] == check(layout).problems


WRONG = {
    "it reaches too far": (12, 24, "frames 20 to 24 of session {}, with which it ends, are archived already"),
    "it begins too early": (8, 19, "it begins with frame 8 of session {}, which is archived already, in frames/"),
    "all of it is there": (22, 25, "it begins with frame 22 of session {}, which is archived already, in frames/"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_segment_that_does_not_fit_its_hole_is_told(holed: tuple[Layout, Path, bytes], name: str) -> None:
    """No frame is archived twice: the error names the file, the frames and what to do, and readers say it too."""
    layout, _, _ = holed
    first, last, what = WRONG[name]
    path = segment(layout, first, last)
    before = ranges(layout)
    with pytest.raises(Damaged, match=what.format(SESSION)) as caught:
        flush(layout, tell=lambda _news: None)

    assert (path, before) == (caught.value.path, ranges(layout))
    assert "move the segment out of the journal" in str(caught.value.hint)
    assert "continuity" in {problem.kind for problem in check(layout).problems}
    with pytest.raises(Damaged, match=r"there twice|are in it"):
        frames_of(layout.root)
    path.unlink()
    assert [] == check(layout).problems


def test_a_whole_segment_beside_what_a_repair_made_of_it_is_told(layout: Layout) -> None:
    """The copy was found when the repair had cut the damaged one in two."""
    segment(layout, 0, 9)
    second = segment(layout, 20, 29)
    check(layout, repair=True)
    segment(layout, 0, 29)
    with pytest.raises(Damaged, match=r"frames 20 to 29 of session .* are in it, and the piece") as caught:
        frames_of(layout.root)

    assert "move one of both out" in str(caught.value.hint)
    second.unlink()
    assert 30 == len(frames_of(layout.root))
    archive(layout)
    assert [] == check(layout).problems


def test_what_a_filled_hole_tells_is_derived_behind_it_by_a_rebuild(layout: Layout) -> None:
    """An order's contract, and a gap: rows behind were made without; verification says which rebuild mends them."""
    gap = {"of": "market_data", "contract": None, "start": NOON, "cause": "stale", "evidence": "a test"}
    frames = list(FRAMES)
    frames[15] = Given(frames[15].ts, order(1, conid=AAPL, status="Submitted"))
    frames[16] = Given(frames[16].ts, encode_mark("gap_opened", **gap), "mark")
    frames[25] = Given(frames[25].ts, order(1, status="Filled"))
    path, content = lose(layout, frames)
    flush(layout, tell=lambda _news: None)
    path.write_bytes(content)
    flush(layout, tell=lambda _news: None)
    before = [problem.what for problem in check(layout).problems]
    for topic in ("orders", "gaps"):
        rebuild_topic(layout, TOPICS, TOPICS[topic], done=lambda _frames: None)

    assert {"orders", "gaps"} == {name for name in ("orders", "gaps") for what in before if f"--topic {name}" in what}
    assert [] == check(layout).problems
    tables = Reader(layout, TOPICS).tables("main", TOPICS["orders"], conids=[AAPL], span=Span(), columns=["status"])
    assert ["Submitted", "Filled"] == [status for table in tables for status in table["status"].to_pylist()]


def test_a_gap_of_a_segment_that_was_put_back_is_not_open_at_the_sessions_end(layout: Layout) -> None:
    """It was closed behind the hole; the next session must not close it again."""
    gap = {"of": "market_data", "contract": None, "start": NOON, "cause": "stale", "evidence": "a test"}
    frames = list(FRAMES)
    frames[16] = Given(frames[16].ts, encode_mark("gap_opened", **gap), "mark")
    frames[22] = Given(frames[22].ts, encode_mark("gap_closed", **gap, end=NOON + 5), "mark")
    path, content = lose(layout, frames)
    flush(layout, tell=lambda _news: None)
    path.write_bytes(content)
    ending = find_ending(layout, "main", SESSION)

    assert ending is not None
    assert ((), FRAMES[-1].ts) == (ending.open_gaps, ending.last)
