"""What damage to an archive looks like: to `verify`, to `--repair`, and to readers, who never get less in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import IBM, NOON, SESSION, Given, archive, cut, quote, quotes, write_session

import recorder
from recorder.archive.commit import KEY
from recorder.archive.layout import Layout
from recorder.archive.rebuild import rebuild
from recorder.archive.repair import set_aside
from recorder.archive.verify import Report, verify
from recorder.errors import Damaged
from recorder.lock import ARCHIVER, Holder, RecorderLock
from recorder.protocol.marks import encode_mark
from recorder.protocol.topics import Topics

LATER = "20261120T130000bbbb"
FRAMES = "frames/date=2026-11-20"
TYPED = "market_data/date=2026-11-20/conid=265598"

Damage = Callable[[Path], None]


def started(predecessor: tuple[str, int] | None) -> Given:
    """Make a session's first mark."""
    said = None if predecessor is None else {"session": predecessor[0], "last_seq": predecessor[1]}
    return Given(NOON, encode_mark("session_started", predecessor=said), "mark")


@pytest.fixture
def whole(layout: Layout) -> Layout:
    """Make an archive of two sessions, the first of three commits, the second of one."""
    rows = [*quotes(20, start=NOON + 1), *quotes(20, start=NOON + 50_000, conid=IBM)]
    write_session(layout, [started(None), *rows], rotations=[12, 30])
    write_session(layout, [started((SESSION, 40)), *quotes(5, start=NOON + 90_000)], session=LATER)
    archive(layout)
    return layout


def checked(layout: Layout, topics: Topics, *, rederive: bool = False) -> Report:
    """Verify an archive."""
    return verify(layout, topics, rederive=rederive, done=lambda _count: None)


def part(layout: Layout, folder: str, number: int = 0) -> Path:
    """Find a folder's part by its place in the order of frames."""
    return sorted((layout.root / folder).glob("*.parquet"))[number]


def test_an_archive_that_nothing_happened_to_is_whole(whole: Layout, topics: Topics) -> None:
    """All frames and rows are checked, also against what the frames decode to."""
    report = checked(whole, topics, rederive=True)

    assert (4, 47, 45) == (report.commits, report.frames, report.rows)
    assert ([], []) == (report.problems, report.notes)


def truncate(path: Path) -> None:
    """Cut a file in half."""
    cut(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """Leave a file of no bytes."""
    path.write_bytes(b"")


def flip(path: Path, at: int | None = None) -> None:
    """Flip a bit: of the first values that are written, unless told where."""
    data = bytearray(path.read_bytes())
    if at is None:
        values = pq.ParquetFile(path).metadata.row_group(0).column(0)
        at = values.data_page_offset + values.total_compressed_size - 3
    data[at] ^= 4
    path.write_bytes(data)


def drop_a_row(path: Path) -> None:
    """Write a part again without its last row."""
    table = pq.ParquetFile(path).read()
    pq.write_table(table.slice(0, table.num_rows - 1), path)


def change_a_value(path: Path) -> None:
    """Write a part again with its rows in another order of one column."""
    table = pq.ParquetFile(path).read()
    name = "data" if "data" in table.column_names else "bid_price"
    column = table[name].take(list(reversed(range(table.num_rows))))
    pq.write_table(table.set_column(table.column_names.index(name), name, column), path)


def forget_the_commit(path: Path) -> None:
    """Write a frames part again without its footer."""
    table = pq.ParquetFile(path).read()
    pq.write_table(table.replace_schema_metadata({k: v for k, v in table.schema.metadata.items() if k != KEY}), path)


def remove(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def double(path: Path) -> None:
    """Copy a part beside itself, under a name of other frames."""
    shutil.copy(path, path.with_name(path.name.replace("-000000000000-", "-000000000001-")))


TABLE = [
    ("a truncated frames part", FRAMES, truncate, {"damaged", "continuity", "uncovered"}),
    ("an empty frames part", FRAMES, empty, {"damaged", "continuity", "uncovered"}),
    ("a flipped bit in a frames part", FRAMES, flip, {"damaged", "uncovered"}),
    ("a missing frames part", FRAMES, remove, {"continuity", "uncovered"}),
    ("a frames part without its commit", FRAMES, forget_the_commit, {"damaged", "continuity", "uncovered"}),
    ("a row less in a frames part", FRAMES, drop_a_row, {"damaged", "continuity", "uncovered"}),
    ("other bytes in a frames part", FRAMES, change_a_value, {"damaged", "uncovered"}),
    ("a frames part twice", FRAMES, double, {"double"}),
    ("a truncated typed part", TYPED, truncate, {"damaged"}),
    ("an empty typed part", TYPED, empty, {"damaged"}),
    ("a flipped bit in a typed part", TYPED, flip, {"damaged"}),
    ("a missing typed part", TYPED, remove, {"damaged"}),
    ("a row less in a typed part", TYPED, drop_a_row, {"damaged"}),
    ("another value in a typed part", TYPED, change_a_value, {"damaged"}),
    ("a typed part twice", TYPED, double, {"double", "damaged"}),
]


@pytest.mark.parametrize(("name", "folder", "damage", "kinds"), TABLE, ids=[row[0] for row in TABLE])
def test_damage_is_found_and_named(  # noqa: PLR0917  a row of the table and two fixtures
    name: str, folder: str, damage: Damage, kinds: set[str], whole: Layout, topics: Topics
) -> None:
    """Verification names the file or its folder, and is of a kind that the table allows."""
    path = part(whole, folder)
    damage(path)
    problems = checked(whole, topics).problems

    assert problems, name
    assert {problem.kind for problem in problems} <= kinds
    assert any(problem.path in (path, path.parent) or problem.path.parent == path.parent for problem in problems)


@pytest.mark.parametrize(
    ("folder", "damage"),
    [(FRAMES, truncate), (FRAMES, flip), (TYPED, truncate), (TYPED, flip), (TYPED, remove), (TYPED, drop_a_row)],
    ids=lambda value: value.__name__ if callable(value) else value.partition("/")[0],
)
def test_a_reader_raises_rather_than_give_fewer_rows(folder: str, damage: Damage, whole: Layout) -> None:
    """What was asked for is not there in full, and the error says where."""
    damage(part(whole, folder))
    archive_ = recorder.open(whole.root)

    with pytest.raises(Damaged, match=str(whole.root)):
        _ = (archive_.table("market_data"), list(archive_.frames()))


@pytest.mark.parametrize("folder", [FRAMES, TYPED])
def test_a_flipped_bit_anywhere_is_found_or_changes_nothing_that_is_read(
    folder: str, whole: Layout, topics: Topics
) -> None:
    """Statistics and page headers hold bytes that no reader uses; all others are found."""
    path = part(whole, folder)
    kept = path.read_bytes()
    before = recorder.open(whole.root).table("market_data"), list(recorder.open(whole.root).frames())
    for at in range(0, len(kept), len(kept) // 150):
        flip(path, at)
        if not checked(whole, topics).problems:
            assert before[0].equals(recorder.open(whole.root).table("market_data")), at
            assert before[1] == list(recorder.open(whole.root).frames()), at
        path.write_bytes(kept)


def test_a_missing_part_in_the_middle_or_at_the_end_of_a_session_is_noticed(whole: Layout, topics: Topics) -> None:
    """The middle by the frames around it, the end by what the next session says of its predecessor."""
    for number in (1, 2):
        gone = part(whole, FRAMES, number)
        kept = gone.read_bytes()
        gone.unlink()

        assert "continuity" in {problem.kind for problem in checked(whole, topics).problems}
        gone.write_bytes(kept)
    assert [] == checked(whole, topics).problems


def test_the_last_part_of_the_last_session_is_missed_by_what_the_archiver_noted(whole: Layout, topics: Topics) -> None:
    """No later session could speak for it."""
    lock = RecorderLock(whole.journal("main"), ARCHIVER, root=whole.root)
    lock.acquire()
    lock.write(Holder(1, LATER, 5))
    lock.release()
    part(whole, FRAMES, 3).unlink()
    problems = checked(whole, topics).problems

    assert any("was archived up to frame 5" in problem.what for problem in problems)


def test_a_foreign_file_is_named_and_set_aside_under_its_own_path(whole: Layout, topics: Topics) -> None:
    """Nothing is deleted, and a second repair finds nothing to do."""
    foreign = whole.root / TYPED / "notes.txt"
    foreign.write_text("mine")
    report = checked(whole, topics)
    moved = set_aside(whole, report.problems)

    assert ["foreign"] == [problem.kind for problem in report.problems]
    assert [whole.quarantine / TYPED / "notes.txt"] == moved
    assert "mine" == moved[0].read_text()
    assert [] == set_aside(whole, checked(whole, topics).problems)
    assert [] == checked(whole, topics).problems


def test_a_damaged_typed_part_comes_back_by_repair_and_rebuild(whole: Layout, topics: Topics) -> None:
    """Typed rows are derived: only the frames cannot be replaced."""
    before = recorder.open(whole.root).table("market_data")
    truncate(part(whole, TYPED))
    set_aside(whole, checked(whole, topics).problems)
    rebuild(whole, topics, topics["market_data"], done=lambda _count: None)

    assert [] == checked(whole, topics, rederive=True).problems
    assert before.equals(recorder.open(whole.root).table("market_data"))


def test_a_torn_end_of_a_dead_session_is_a_note_and_a_flipped_bit_before_it_a_problem(
    layout: Layout, topics: Topics
) -> None:
    """A crash is normal; damage is not."""
    first, last = write_session(layout, [started(None), *quotes(20, start=NOON + 1)], rotations=[10], dead=True)
    cut(last, 5)
    torn = checked(layout, topics)
    flip(first, 60)
    flipped = checked(layout, topics)

    assert ([], 1) == (torn.problems, len(torn.notes))
    assert {"journal"} == {problem.kind for problem in flipped.problems}
    assert any(problem.path == first for problem in flipped.problems)


def test_frames_without_rows_are_no_problem_where_they_have_none(layout: Layout, topics: Topics) -> None:
    """An empty list of orders is claimed, and rightly has no row."""
    write_session(layout, [started(None), Given(NOON + 1, b'{"topic":"sor","args":[]}'), Given(NOON + 2, quote(1))])
    archive(layout)

    assert [] == checked(layout, topics).problems
