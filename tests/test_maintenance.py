"""Compaction, rebuilding and the archive digest: what they may change, and what never."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import AAPL, IBM, NOON, Given, archive, order, parts, quotes, write_session
from hypothesis import given, settings
from hypothesis import strategies as st

import recorder
from recorder.archive.archive_digest import archive_digest
from recorder.archive.compaction import compact, finished_dates
from recorder.archive.digest import TableDigest, table_digest
from recorder.archive.layout import Layout, open_layout
from recorder.archive.reading import Reader
from recorder.archive.rebuild import rebuild
from recorder.archive.verify import verify
from recorder.archive.windows import merged
from recorder.errors import Damaged, LockHeld
from recorder.lock import MAINTENANCE, RecorderLock
from recorder.protocol.marks import encode_mark
from recorder.protocol.tables import EXTRA
from recorder.protocol.topics import Topics, load_topics
from recorder.recording import compact_finished

DATE = "2026-11-20"
START = Given(NOON, encode_mark("session_started", predecessor=None), "mark")


def digest(layout: Layout) -> str:
    """Compute an archive's digest."""
    return archive_digest(Reader(layout, load_topics()), done=lambda _count: None).hexdigest()


def is_whole(layout: Layout) -> None:
    """Check that verification finds nothing, deriving every row again."""
    assert [] == verify(layout, load_topics(), rederive=True, done=lambda _count: None).problems


def compacted(layout: Layout) -> int:
    """Compact all dates that can be; give how many were."""
    return len(compact(layout, finished_dates(layout, before="2030-01-01"), done=lambda _count: None))


def some_of_everything(count: int) -> list[Given]:
    """Make frames of several contracts and topics, some with keys that no column has."""
    frames = [*quotes(count, start=NOON + 1), *quotes(count, start=NOON + 2, conid=IBM)]
    frames += [Given(NOON + 9000 * number, order(number, conid=AAPL, odd=str(number))) for number in range(count // 4)]
    frames += [Given(NOON + 9000 * number + 1, order(number, status="Filled")) for number in range(count // 4)]
    return [START, *sorted(frames, key=lambda frame: frame.ts)]


@pytest.fixture
def made(layout: Layout) -> Layout:
    """Make an archive of one session in five commits."""
    write_session(layout, some_of_everything(40), rotations=[10, 30, 50, 70])
    archive(layout)
    return layout


def test_compaction_leaves_one_part_a_partition_and_changes_nothing_that_is_read(made: Layout) -> None:
    """Rows, frames and digests are the same; a second run finds nothing to do."""
    archived = recorder.open(made.root)
    before = digest(made), archived.table("market_data"), archived.table("orders"), list(archived.frames())
    count = compacted(made)

    assert 1 == count
    assert before[0] == digest(made)
    assert before[1].equals(archived.table("market_data"))
    assert before[2].equals(archived.table("orders"))
    assert before[3] == list(archived.frames())
    assert 4 == len(parts(made))
    assert 0 == compacted(made)
    is_whole(made)


@settings(max_examples=12, deadline=None)
@given(
    rotations=st.sets(st.integers(1, 60), max_size=8),
    again=st.sets(st.integers(1, 30), max_size=4),
    between=st.booleans(),
)
def test_the_digest_does_not_depend_on_flushes_or_compactions(
    rotations: set[int], again: set[int], *, between: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However the segments were cut, and whenever it was compacted."""
    frames, later = some_of_everything(24), quotes(30, first=100, start=NOON + 10**6)
    digests = set()
    for cuts in ((set(), set()), (rotations, again)):
        layout = made_with(tmp_path_factory.mktemp("archive") / "data", frames, cuts[0])
        if between and cuts[0]:
            compacted(layout)
        write_session(layout, later, rotations=cuts[1], session="20261120T130000bbbb")
        journaled = digest(layout)
        archive(layout)
        digests |= {journaled, digest(layout)}
        compacted(layout)
        digests.add(digest(layout))

    assert 1 == len(digests)


def made_with(root: Path, frames: list[Given], rotations: set[int]) -> Layout:
    """Make an archive of one session."""
    root.mkdir()
    (root / "archive.toml").write_text('format_version = 1\nday_boundary = "00:00 UTC"\n')
    (root / ".tmp").mkdir()
    layout = open_layout(root)
    write_session(layout, frames, rotations=rotations)
    archive(layout)
    return layout


def test_the_digest_is_that_of_a_copy_and_of_parts_encoded_otherwise(made: Layout) -> None:
    """It speaks of rows, not of files."""
    copy = open_layout(shutil.copytree(made.root, made.root.parent / "copy"))
    for path in copy.root.rglob("*.parquet"):
        pq.write_table(pq.ParquetFile(path).read(), path, compression="snappy", use_dictionary=False)

    assert digest(made) == digest(copy)


def test_the_digest_changes_with_one_byte_of_one_frame(made: Layout, tmp_path: Path) -> None:
    """And with nothing less."""
    frames = some_of_everything(40)
    frames[7] = frames[7]._replace(data=frames[7].data + b" ")

    assert digest(made) != digest(made_with(tmp_path / "other", frames, {10}))


def test_a_date_that_is_still_in_the_journal_is_not_finished(made: Layout) -> None:
    """Nor is one that the limit leaves out."""
    assert [DATE] == finished_dates(made, before="2026-11-21")
    assert [] == finished_dates(made, before=DATE)
    write_session(made, quotes(3), session="20261120T130000bbbb")
    assert [] == finished_dates(made, before="2026-11-21")


def test_compaction_refuses_rows_that_are_not_those_written(made: Layout) -> None:
    """Nothing of the topic is replaced, so that nothing is lost twice."""
    path = min((made.root / f"market_data/date={DATE}/conid={AAPL}").glob("*.parquet"))
    table = pq.ParquetFile(path).read()
    pq.write_table(table.slice(1), path)
    before = sorted((made.root / "market_data").rglob("*.parquet"))

    with pytest.raises(Damaged, match="are not those that were written"):
        compacted(made)
    assert before == sorted((made.root / "market_data").rglob("*.parquet"))


def test_what_no_commit_covers_is_taken_along_and_not_merged(made: Layout) -> None:
    """An archiver that was killed left it; the next one replaces it."""
    folder = made.root / f"market_data/date={DATE}/conid={AAPL}"
    leftover = folder / "20261120T140000cccc-000000000000-000000000001.parquet"
    shutil.copy(min(folder.glob("*.parquet")), leftover)
    kept = leftover.read_bytes()
    compacted(made)

    assert kept == leftover.read_bytes()
    assert 2 == len(list(folder.glob("*.parquet")))


def test_readers_beside_a_compaction_see_every_row_once(layout: Layout) -> None:
    """Ours see all rows at every moment, plain pandas sees none twice."""
    write_session(layout, some_of_everything(200), rotations=range(20, 480, 20))
    archive(layout)
    archived = recorder.open(layout.root)
    expected, seen, plain, stop = archived.table("market_data"), [], [], threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append(archived.table("market_data").equals(expected))
            try:
                frame = pd.read_parquet(layout.root / "market_data", columns=["session", "seq", "item"])
            except FileNotFoundError:
                continue  # plain pandas lists first and opens later
            plain.append(frame.duplicated().any())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(3):
            assert compacted(layout) in (0, 1)
    finally:
        stop.set()
        reader.join()

    assert seen
    assert {True} == set(seen)
    assert not any(plain)


def test_a_second_maintenance_is_told_of_the_first(made: Layout) -> None:
    """Two compactions would replace what the other reads."""
    lock = RecorderLock(made.root / "journal", MAINTENANCE, root=made.root)
    lock.acquire()
    try:
        with pytest.raises(LockHeld, match="another compaction or rebuild runs"):
            compact_finished(made, before=None, done=lambda _count: None)
    finally:
        lock.release()


def narrowed(topics: Topics, topic: str, count: int) -> Topics:
    """Give topics of which one lacks its last columns."""
    return Topics(
        msgspec.structs.replace(one, columns=one.columns[:-count]) if one.name == topic else one for one in topics
    )


@pytest.mark.parametrize("compact_first", [False, True])
def test_rebuilding_brings_a_changed_topic_up_to_date(
    *,
    compact_first: bool,
    layout: Layout,
    topics: Topics,
) -> None:
    """Before it readers decode the rows from the frames; after it they read the same rows."""
    from recorder.archive.archiver import Archiver  # noqa: PLC0415  as a recorder of another version would

    write_session(layout, some_of_everything(40), rotations=[10, 30])
    Archiver(layout, narrowed(topics, "orders", 3), "main", tell=lambda _news: None).archive_dead(live=None)
    if compact_first:
        compacted(layout)
    before = recorder.open(layout.root).table("orders")
    frames_before = list(recorder.open(layout.root).frames())
    rebuilt = rebuild(layout, topics, topics["orders"], done=lambda _count: None)
    after = recorder.open(layout.root).table("orders")

    assert 20 == before.num_rows
    assert [20] == [date.rows for date in rebuilt]
    assert before.equals(after)
    assert frames_before == list(recorder.open(layout.root).frames())
    schema = pq.read_schema(next((layout.root / "orders").rglob("*.parquet")))
    assert "fg_color" in schema.names
    is_whole(layout)


tables_of_rows = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), unique=True, max_size=60).map(sorted)


@settings(max_examples=60, deadline=None)
@given(partitions=st.lists(tables_of_rows, min_size=1, max_size=5), step=st.integers(1, 7))
def test_windows_give_all_rows_in_order(partitions: list[list[tuple[int, int]]], step: int) -> None:
    """Whatever the partitions hold, and however few rows are read at once."""
    schema = pa.schema([("seq", pa.int64()), ("item", pa.int32()), ("conid", pa.int64())])

    def opened(number: int, _rows: int) -> Iterator[pa.Table]:
        rows = partitions[number]
        for begin in range(0, len(rows), step):
            chunk = rows[begin : begin + step]
            yield pa.table([[s for s, _ in chunk], [i for _, i in chunk], [number] * len(chunk)], schema=schema)

    tables = list(merged([lambda rows, number=number: opened(number, rows) for number in range(len(partitions))]))  # type: ignore[misc]
    found = [(row["seq"], row["item"]) for table in tables for row in table.to_pylist()]
    seqs = [set(table["seq"].to_pylist()) for table in tables]

    assert sorted(row for rows in partitions for row in rows) == found
    assert all(not one & other for number, one in enumerate(seqs) for other in seqs[number + 1 :])


maps = st.none() | st.dictionaries(st.text(max_size=3), st.none() | st.text(max_size=3), max_size=3).map(
    lambda entries: list(entries.items())
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(maps, st.none() | st.text(max_size=4), st.none() | st.integers(-5, 5)), max_size=12),
    cut=st.integers(0, 12),
)
def test_a_table_digest_does_not_depend_on_how_rows_come(
    rows: list[tuple[object, str | None, int | None]], cut: int
) -> None:
    """Maps with nulls included, in one piece or in two."""
    schema = pa.schema([("extra", EXTRA), ("text", pa.string()), ("number", pa.int64())])
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    table = pa.table(
        [pa.array(list(column), kind) for column, kind in zip(columns, schema.types, strict=True)], schema=schema
    )
    running = TableDigest()
    running.update(table.slice(0, cut))
    running.update(table.slice(cut))

    assert table_digest(table) == running.hexdigest()
    assert np.int64(len(rows)) == running.rows
