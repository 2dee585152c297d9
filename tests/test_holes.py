"""Holes that are known: what a repair keeps and notes of lost frames, and how everything goes on around them."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import (
    AAPL,
    DAY,
    END_RECORD,
    NOON,
    SESSION,
    Given,
    Script,
    archive,
    commits,
    cut,
    end,
    eventually,
    frames_of,
    gateway_with,
    in_loop,
    quote,
    quotes,
    run,
    start,
    write_session,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import recorder
from recorder.archive import journal_repair
from recorder.archive.archive_digest import archive_digest
from recorder.archive.archiver import Archiver
from recorder.archive.compaction import compact
from recorder.archive.holes import NAME, Hole, add_holes, known_from, known_to, read_holes
from recorder.archive.journal_repair import Repaired
from recorder.archive.layout import Layout
from recorder.archive.pieces import Piece, list_pieces
from recorder.archive.reading import Reader
from recorder.archive.verify import Report
from recorder.errors import Damaged, GapError
from recorder.lock import CAPTURE, RecorderLock
from recorder.protocol.marks import encode_mark
from recorder.protocol.salvage import salvage
from recorder.protocol.segment import Header, encode_batch, encode_end, encode_header
from recorder.protocol.topics import load_topics
from recorder.recording import verify_archive

TOPICS = load_topics()
LATER = "20261121T120000bbbb"
Damage = Callable[[Path], object]


def check(layout: Layout, *, repair: bool = False) -> tuple[Report, Repaired]:
    """Verify an archive, every row derived again."""
    return verify_archive(layout, TOPICS, rederive=True, repair=repair, done=lambda _frames: None)


def started(predecessor: tuple[str, int] | None, at: int = NOON) -> Given:
    """Make a session's first mark."""
    said = None if predecessor is None else {"session": predecessor[0], "last_seq": predecessor[1]}
    return Given(at, encode_mark("session_started", predecessor=said), "mark")


def flip(path: Path, place: int) -> None:
    """Flip a bit; a negative place counts from the end."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.fixture
def journaled(layout: Layout) -> Layout:
    """Journal two sessions: frames 0 to 29 in three segments, and 0 to 9 in one."""
    write_session(layout, [started(None), *quotes(29, start=NOON + 1)], rotations=(10, 20))
    write_session(
        layout, [started((SESSION, 29), NOON + DAY), *quotes(9, first=50, start=NOON + DAY + 1)], session=LATER
    )
    return layout


def numbers(root: Path, session: str = SESSION) -> list[int]:
    """Give the numbers of a session's frames that are read."""
    return [frame.seq for frame in frames_of(root) if frame.session == session]


DAMAGE: dict[str, tuple[Damage, list[int]]] = {
    "a flipped bit": (lambda path: flip(path, 200), [*range(10, 20)]),
    "no end record": (lambda path: cut(path, END_RECORD), []),
    "half a record": (lambda path: cut(path, 30), [*range(10, 20)]),
    "an empty file": (lambda path: path.write_bytes(b""), [*range(10, 20)]),
    "no magic": (lambda path: flip(path, 0), []),
    "a header that is none": (lambda path: flip(path, 30), []),
    "a missing file": (lambda path: path.unlink(), [*range(10, 20)]),
}
"""Damage to the middle segment of a session, and the frames that it costs; the journal wrote each as one record."""


@pytest.mark.parametrize("name", DAMAGE)
def test_a_repair_lets_a_damaged_session_go_on(journaled: Layout, name: str) -> None:
    """Before it, an error and no frame behind the damage; after it, everything that is whole, and the hole is told."""
    damage, lost = DAMAGE[name]
    path = journaled.segments("main")[1]
    damage(path)
    broken = path.read_bytes() if path.exists() else None
    with pytest.raises(Damaged):
        archive(journaled)
    with pytest.raises(Damaged):
        frames_of(journaled.root)
    report, repaired = check(journaled, repair=True)
    archive(journaled)
    after, _ = check(journaled)

    assert {"journal", "continuity"} & {problem.kind for problem in report.problems}
    assert [number for number in range(30) if number not in lost] == numbers(journaled.root)
    assert [*range(10)] == numbers(journaled.root, LATER)
    assert [] == journaled.segments("main")
    assert ([], repaired.holes, repaired.holes) == (after.problems, after.holes, read_holes(journaled))
    assert ([(lost[0], lost[-1])] if lost else []) == [(one.first, one.last) for one in repaired.holes]
    assert broken is None or [broken] == [moved.read_bytes() for moved in repaired.moved]
    assert ([], []) == check(journaled, repair=True)[1]


def vanishing(monkeypatch: pytest.MonkeyPatch, vanish: Callable[[], object]) -> None:
    """Let something happen between a repair's first list of the journal and its look into the segments."""

    def listed(layout: Layout, *, damaged: list[Damaged] | None = None) -> dict[str, list[Piece]]:
        monkeypatch.undo()
        pieces = list_pieces(layout, damaged=damaged)
        vanish()
        return pieces

    monkeypatch.setattr(journal_repair, "list_pieces", listed)


def test_a_segment_may_be_archived_while_a_repair_looks_at_it(
    journaled: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit is there: that is no problem, and what is damaged elsewhere is repaired."""
    flip(journaled.segments("main")[-1], 200)
    vanishing(monkeypatch, lambda: suppressed(archive, journaled))
    report, repaired = check(journaled, repair=True)

    assert {"journal"} == {problem.kind for problem in report.problems}
    assert [(LATER, 0, 9)] == [(one.session, one.first, one.last) for one in repaired.holes]
    assert [(0, 9), (10, 19), (20, 29)] == [(one.first, one.last) for one in commits(journaled)]
    assert [] == check(journaled)[0].problems


def suppressed(do: Callable[[Layout], object], layout: Layout) -> None:
    """Do something that meets damage."""
    with pytest.raises(Damaged):
        do(layout)


def test_a_segment_that_vanishes_for_good_while_a_repair_looks_at_it_is_a_problem(
    journaled: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No commit has its frames: the repair says so, notes them, and goes on."""
    path = journaled.segments("main")[1]
    flip(journaled.segments("main")[-1], 200)
    vanishing(monkeypatch, path.unlink)
    report, repaired = check(journaled, repair=True)
    found = [problem for problem in report.problems if problem.kind == "continuity"]

    assert [f"frames 10 to 19 of session {SESSION} are missing before it"] == [problem.what for problem in found]
    assert {(LATER, 0, 9), (SESSION, 10, 19)} == {(one.session, one.first, one.last) for one in repaired.holes}
    assert [] == check(journaled)[0].problems


def test_damage_holds_up_no_other_session(journaled: Layout) -> None:
    """The session after it is archived; the error still names the damage."""
    path = journaled.segments("main")[1]
    flip(path, 200)
    with pytest.raises(Damaged, match=path.name):
        archive(journaled)

    assert [(SESSION, 0, 9), (LATER, 0, 9)] == [(one.session, one.first, one.last) for one in commits(journaled)]


def test_the_highest_stamp_counts_a_session_that_waits_for_repair(layout: Layout) -> None:
    """A clock that stepped back puts the next session behind it in the order of replay, whenever it is archived."""
    frames = [started(None), *quotes(20, start=NOON + DAY // 4)]
    write_session(layout, frames, rotations=(7, 14))
    flip(layout.segments("main")[1], 200)
    write_session(layout, [started((SESSION, 20)), *quotes(3, start=NOON + 5)], session=LATER)
    with pytest.raises(Damaged):
        archive(layout)
    (early, late) = commits(layout)

    assert early.latest < NOON + DAY // 4 + 19_000 == late.latest
    assert [(0, 3, late.latest)] == late.late


def test_a_hole_says_when_why_and_where_the_rest_is(journaled: Layout) -> None:
    """Between the stamps of its neighbours; the file is private to the user, and is the ledger's source."""
    path = journaled.segments("main")[1]
    flip(path, 200)
    before = time.time_ns() // 1000
    (hole,) = check(journaled, repair=True)[1].holes
    stamps = [given.ts for given in [started(None), *quotes(29, start=NOON + 1)]]

    assert ("main", SESSION, 10, 19) == (hole.recorder, hole.session, hole.first, hole.last)
    assert (stamps[9], stamps[20]) == (hole.start, hole.end)
    assert path.name in hole.why
    assert f"quarantine/journal/main/{path.name}" == hole.kept
    assert before <= hole.acknowledged <= time.time_ns() // 1000
    assert 0o600 == (journaled.root / NAME).stat().st_mode & 0o777


def test_a_hole_at_the_end_of_a_session_is_known_by_its_end_record(layout: Layout) -> None:
    """Or by what the next session says of its predecessor."""
    (path,) = write_session(layout, quotes(10))
    flip(path, 200)
    write_session(layout, [started((SESSION, 9), NOON + DAY), *quotes(2, start=NOON + DAY + 1)], session=LATER)
    (hole,) = check(layout, repair=True)[1].holes
    archive(layout)

    assert (0, 9, None, NOON + DAY) == (hole.first, hole.last, hole.start, hole.end)
    assert [] == check(layout)[0].problems
    assert [LATER] == sorted({frame.session for frame in frames_of(layout.root)})


def test_a_lost_frames_part_becomes_a_known_hole_and_none_when_it_is_back(journaled: Layout) -> None:
    """Readers raise before, read around it after; a file that is put back fills the hole."""
    archive(journaled)
    path = sorted(journaled.frames("2026-11-20").iterdir())[1]
    good = path.read_bytes()
    cut(path, 100)
    with pytest.raises(Damaged):
        frames_of(journaled.root)
    report, repaired = check(journaled, repair=True)
    around, after = numbers(journaled.root), check(journaled)[0]
    path.write_bytes(good)
    shutil.copytree(journaled.quarantine / "market_data", journaled.root / "market_data", dirs_exist_ok=True)
    filled = check(journaled)[0]

    assert "damaged" in {problem.kind for problem in report.problems}
    assert [*range(10), *range(20, 30)] == around
    assert ([], [(10, 19)]) == (after.problems, [(one.first, one.last) for one in after.holes])
    assert f"quarantine/{path.relative_to(journaled.root)}" == repaired.holes[0].kept
    assert ([], []) == (filled.problems, filled.holes)
    assert [*range(30)] == numbers(journaled.root)


def test_everything_that_reads_goes_on_around_a_hole(journaled: Layout) -> None:
    """Tables, replay, digests, scans; compaction does not merge across it."""
    flip(journaled.segments("main")[1], 200)
    check(journaled, repair=True)
    opened = recorder.open(journaled.root)

    def read() -> list[object]:
        table = opened.table("market_data")
        digest = archive_digest(Reader(journaled, TOPICS), done=lambda _frames: None).hexdigest()
        rows = opened.scan("market_data").count_rows()
        return [table.to_pylist(), list(opened.frames()), [*opened.replay(gaps="ignore")], digest, rows]

    journal = read()
    archive(journaled)
    parts = read()
    compact(journaled, ["2026-11-20"], done=lambda _rows: None)

    assert repr(journal) == repr(parts) == repr(read())
    assert 28 == journal[-1]
    assert {"journal_damaged"} == set(opened.gaps()["cause"])
    with pytest.raises(GapError, match="frames 10 to 19"):
        next(iter(opened.replay()))
    assert [(0, 9), (20, 29), (0, 9)] == [(one.first, one.last) for one in commits(journaled)]
    assert [] == check(journaled)[0].problems


def test_what_is_missing_beside_a_known_hole_is_still_damage(journaled: Layout) -> None:
    """A hole excuses the frames that it names, and no other."""
    flip(journaled.segments("main")[1], 200)
    check(journaled, repair=True)
    archive(journaled)
    min(journaled.frames("2026-11-20").iterdir()).unlink()

    assert "continuity" in {problem.kind for problem in check(journaled)[0].problems}
    with pytest.raises(Damaged, match="frames 0 to 19"):
        frames_of(journaled.root)


def test_a_session_that_runs_goes_on_after_a_repair(layout: Layout) -> None:
    """Its archiver stops at the damage, with everything behind it in the journal, and passes it once it is repaired."""
    paths = write_session(layout, [started(None), *quotes(29, start=NOON + 1)], rotations=(10, 20))
    flip(paths[1], 200)
    lock = RecorderLock(layout.journal("main"), CAPTURE, root=layout.root)
    lock.acquire()
    archiver = Archiver(layout, TOPICS, "main", tell=lambda _news: None)

    assert archiver.follow(SESSION, everything=False)
    for _ in range(2):
        with pytest.raises(Damaged, match=paths[1].name):
            archiver.follow(SESSION, everything=False)
    assert [(10, 19)] == [(one.first, one.last) for one in check(layout, repair=True)[1].holes]
    assert archiver.follow(SESSION, everything=False)
    lock.release()
    assert [] == layout.segments("main")
    assert [*range(10), *range(20, 30)] == numbers(layout.root)


def test_the_segment_that_a_capture_writes_is_left_alone(layout: Layout) -> None:
    """Whatever it looks like; when the capture has ended it is repaired."""
    (path,) = write_session(layout, quotes(10))
    flip(path, 200)
    content = path.read_bytes()
    lock = RecorderLock(layout.journal("main"), CAPTURE, root=layout.root)
    lock.acquire()
    beside = check(layout, repair=True)[1]
    lock.release()

    assert (Repaired([], []), content) == (beside, path.read_bytes())
    assert [(0, 9)] == [(one.first, one.last) for one in check(layout, repair=True)[1].holes]


def test_a_capture_goes_on_beside_a_damaged_session_and_its_repair(layout: Layout) -> None:
    """It starts, is loud, archives its own session; repaired meanwhile, the dead session is archived by it too."""
    write_session(layout, [started(None), *quotes(29, start=NOON + 1)], rotations=(10, 20))
    flip(layout.segments("main")[1], 200)
    data, folder, sent = layout.root, layout.root.parent, [quote(number) for number in range(100, 150)]

    def waiting() -> list[Path]:
        return [path for path in layout.segments("main") if SESSION in path.name]

    @in_loop
    async def capture() -> None:
        feed = Script()
        async with gateway_with(feed) as gateway:
            words = ["--gateway", gateway.base_url, "--conid", str(AAPL), "--field", "bid_price", "--data", "data"]
            process = await start(folder, "capture", *words, "--flush-every", "0.3s")
            await eventually(lambda: f"smd+{AAPL}" in feed.wanted or process.returncode is not None)
            feed.push(f"smd+{AAPL}", *sent)
            await eventually(lambda: any(one.session > SESSION for one in commits(layout)))
            assert 2 == len(waiting())
            repaired = await run(folder, "verify", "--data", "data", "--repair", "--json")
            await eventually(lambda: not waiting())
            process.terminate()
            ended = await end(process)
        assert [(10, 19)] == [(one["first"], one["last"]) for one in json.loads(repaired.out)["noted"]], repaired
        assert (1, 0) == (repaired.code, ended.code), ended
        assert "archiving failed and is tried again" in ended.err

    capture()
    after = asyncio.run(run(folder, "verify", "--data", "data", "--rederive"))

    assert 0 == after.code, after
    assert f"known hole: frames 10 to 19 of session {SESSION} are lost" in after.out
    assert "whole, but for 10 frames that are known to be lost" in after.out
    assert [*range(10), *range(20, 30)] == numbers(data)
    assert sent == [
        frame.data for frame in frames_of(data) if frame.session > SESSION and b'{"topic": "smd+' in frame.data
    ]


# ------------------------------------------------------------------ the file, and the search for records


def hole(first: int, last: int, *, session: str = SESSION) -> Hole:
    """Make a hole."""
    return Hole(
        recorder="main",
        session=session,
        first=first,
        last=last,
        start=None,
        end=None,
        why="a test",
        kept=None,
        acknowledged=1,
    )


def test_holes_are_noted_once_and_in_order(layout: Layout) -> None:
    """What is noted stays."""
    assert [] == read_holes(layout)
    assert [hole(1, 2)] == add_holes(layout, [hole(1, 2)])
    assert [hole(5, 6)] == add_holes(layout, [hole(1, 2), hole(5, 6)])
    assert [hole(1, 2), hole(5, 6)] == read_holes(layout)


def test_a_file_of_holes_that_cannot_be_read_is_damage(layout: Layout) -> None:
    """Never taken for one that excuses nothing, or everything."""
    add_holes(layout, [hole(1, 2)])
    with (layout.root / NAME).open("ab") as file:
        file.write(b"{half\n")
    with pytest.raises(Damaged, match=NAME) as caught:
        read_holes(layout)

    assert 0 < caught.value.offset


@given(ranges=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=6), at=st.integers(0, 40))
def test_what_is_known_to_be_lost_is_the_union_of_holes(ranges: list[tuple[int, int]], at: int) -> None:
    """Backward and forward from a frame, across holes that touch or overlap; of its own session only."""
    holes = [hole(first, first + more) for first, more in ranges] + [hole(0, 99, session=LATER)]
    lost = {number for first, more in ranges for number in range(first, first + more + 1)}
    back, forth = at, at
    while back - 1 in lost:
        back -= 1
    while forth in lost:
        forth += 1

    assert (back, forth) == (known_from(holes, SESSION, at), known_to(holes, SESSION, at))


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    wounds=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=3),
    junk=st.binary(max_size=40),
)
def test_every_whole_record_is_salvaged(sizes: list[int], wounds: list[tuple[float, int]], junk: bytes) -> None:
    """Wherever bytes were changed, and whatever was put between records."""
    header = encode_header(Header(recorder="main", session=SESSION, first_seq=0, date="2026-11-20"))
    records, first = [header], 0
    for size in sizes:
        stamps, zeros = [NOON + number for number in range(first, first + size)], [0] * size
        records.append(encode_batch(first, stamps, zeros, zeros, [b"EFH{%d" % stamp for stamp in stamps]))
        first += size
    records.append(encode_end(first - 1))
    whole = [True] * len(records)
    for where, mask in wounds:
        number = int(where * len(records))
        content = bytearray(records[number])
        content[int(where * 997) % len(content)] ^= mask
        records[number] = bytes(content)
        whole[number] = bytes(content) == encode_again(records, number, sizes, header)
    found = salvage(junk.join(records))
    expected, at = set[int](), 0
    for number, size in enumerate(sizes, 1):
        expected |= set(range(at, at + size)) if whole[number] else set()
        at += size

    assert expected == {seq for run_ in found.runs for seq in range(run_.first, run_.last + 1)}
    assert (first - 1 if whole[-1] else None) == found.last_seq


def encode_again(records: list[bytes], number: int, sizes: list[int], header: bytes) -> bytes:
    """Give a record as it was written."""
    if number == 0:
        return header
    if number > len(sizes):
        return encode_end(sum(sizes) - 1)
    first = sum(sizes[: number - 1])
    stamps, zeros = [NOON + seq for seq in range(first, first + sizes[number - 1])], [0] * sizes[number - 1]
    return encode_batch(first, stamps, zeros, zeros, [b"EFH{%d" % stamp for stamp in stamps])
