"""The archive digest depends on frames and rows alone."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import AAPL, DAY, IBM, NOON, SESSION, Given, archive, order, quote, quotes, write_session
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.archive import archive_digest as module
from recorder.archive.archive_digest import archive_digest
from recorder.archive.compaction import compact, finished_dates
from recorder.archive.digest import TableDigest, table_digest
from recorder.archive.layout import Layout, make_layout, open_layout
from recorder.archive.reading import Reader
from recorder.errors import ArchiveError, Damaged
from recorder.library import Archive
from recorder.protocol.days import DayBoundary
from recorder.protocol.tables import EXTRA, TIME
from recorder.protocol.topics import load_topics

LATER, OTHER = "20261121T120000bbbb", "20261120T130000cccc"
FIRST = [
    Given(NOON, b'{"event":"session_started","predecessor":null}', "mark"),
    *quotes(6, start=NOON + 1),
    Given(NOON + 7000, order(1, conid=IBM, status="Submitted", odd="1")),
    Given(NOON + 7001, b"\xff not JSON"),
    *quotes(4, start=NOON + 8000, conid=IBM),
    Given(NOON + 20_000, quote(9, {"31": "C1.5", "x": "1"}), "in", "binary"),
    Given(NOON + 20_001, order(1, status="Filled")),
]
SECOND = [*quotes(3, start=NOON + DAY), Given(NOON + DAY + 9000, order(2, conid=AAPL))]


def digest(layout: Layout) -> str:
    """Compute an archive's digest."""
    return archive_digest(Reader(layout, load_topics()), done=lambda _frames: None).hexdigest()


def made(root: Path, *, rotations: tuple[int, ...] = (), flushed: bool = True, first: list[Given] = FIRST) -> Layout:
    """Make an archive of two sessions."""
    layout = make_layout(root, DayBoundary("00:00 UTC"))
    write_session(layout, first, rotations=rotations)
    write_session(layout, SECOND, session=LATER, rotations=[number % len(SECOND) for number in rotations])
    if flushed:
        archive(layout)
    return layout


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Make the archive, one segment a session."""
    return made(tmp_path_factory.mktemp("plain") / "data")


def test_flushes_and_compaction_change_nothing(plain: Layout, tmp_path: Path) -> None:
    """In the journal, in parts of any size, half merged, merged."""
    layout = made(tmp_path / "data", rotations=(1, 4, 9), flushed=False)
    digests = [digest(layout)]
    archive(layout)
    digests.append(digest(layout))
    compact(layout, ["2026-11-20"], done=lambda _rows: None)
    digests.append(digest(layout))
    compact(layout, finished_dates(layout, before="2027-01-01"), done=lambda _rows: None)
    digests.append(digest(layout))

    assert [digest(plain)] * 4 == digests


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "snappy", "use_dictionary": False},
        {"compression": "none", "row_group_size": 3, "data_page_size": 16},
        {"data_page_version": "2.0", "version": "2.4", "write_statistics": False},
    ],
    ids=["snappy", "small", "pages of version 2"],
)
def test_another_encoding_changes_nothing(plain: Layout, tmp_path: Path, options: dict[str, Any]) -> None:
    """Nor does copying: rows are what counts."""
    copy = open_layout(shutil.copytree(plain.root, tmp_path / "copy"))
    assert digest(plain) == digest(copy)
    for path in copy.root.rglob("*.parquet"):
        pq.write_table(pq.ParquetFile(path).read(), path, **options)

    assert digest(plain) == digest(copy)
    assert Archive(plain.root).table("market_data") == Archive(copy.root).table("market_data")


CHANGES: dict[str, Given] = {
    "one byte": FIRST[8]._replace(data=b"\xff not JSON "),
    "one bit": FIRST[8]._replace(data=b"\xfe not JSON"),
    "a microsecond": FIRST[8]._replace(ts=FIRST[8].ts + 1),
    "the kind": FIRST[8]._replace(kind="out"),
    "the opcode": FIRST[8]._replace(op="binary"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_least_change_of_a_frame_changes_it(plain: Layout, tmp_path: Path, change: str) -> None:
    """Also of one that no topic claims."""
    other = made(tmp_path / "data", first=[*FIRST[:8], CHANGES[change], *FIRST[9:]])

    assert digest(plain) != digest(other)


def test_two_recorders_combine(tmp_path: Path) -> None:
    """Folders that are put together have the digest of one that both recorded into, in any order."""
    together, one, two = (make_layout(tmp_path / name, DayBoundary("00:00 UTC")) for name in ("a", "b", "c"))
    for layout in (together, one):
        write_session(layout, FIRST, rotations=(5,))
    for layout in (together, two):
        write_session(layout, quotes(5), recorder="second", session=OTHER)
    for layout in (together, one, two):
        for recorder in layout.recorders():
            archive(layout, recorder=recorder)
    alone = digest(one), digest(two)
    shutil.copytree(two.root, one.root, dirs_exist_ok=True)

    assert digest(together) == digest(one)
    assert digest(one) not in alone


def test_a_file_that_is_replaced_meanwhile_begins_it_anew(
    plain: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never half of one and half of the other; what changes for ever is an error."""
    layout, expected = made(tmp_path / "data", flushed=False), digest(plain)
    real = module._add_frames
    calls: list[int] = []

    def disturbed(*args: Any) -> int:
        calls.append(1)
        if len(calls) == 2:
            archive(layout)
        return real(*args)

    monkeypatch.setattr(module, "_add_frames", disturbed)
    assert expected == digest(layout)
    assert 4 == len(calls)

    def vanish(*_args: Any) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(module, "_add_frames", vanish)
    with pytest.raises(ArchiveError, match="changes faster than it can be read"):
        digest(layout)


def test_a_hole_has_no_digest(tmp_path: Path) -> None:
    """A digest of less than was recorded would be worse than none."""
    layout = made(tmp_path / "data", rotations=(4, 9))
    min((layout.root / "frames").rglob(f"{SESSION}-*4-*.parquet")).unlink()

    with pytest.raises(Damaged, match="frames 4 to 8 of session"):
        digest(layout)


TEXT = st.none() | st.text(max_size=4)
ROWS = st.lists(
    st.tuples(
        st.none() | st.dictionaries(st.text(max_size=3), TEXT, max_size=3).map(lambda entries: [*entries.items()]),
        TEXT,
        st.none() | st.floats(allow_nan=True),
        st.none() | st.booleans(),
        st.none() | st.integers(0, 2**50),
        st.none() | st.binary(max_size=4),
    ),
    max_size=12,
)
SCHEMA = pa.schema(
    [
        ("extra", EXTRA),
        ("text", pa.string()),
        ("number", pa.float64()),
        ("flag", pa.bool_()),
        ("time", TIME),
        ("data", pa.binary()),
    ]
)


@settings(max_examples=40, database=None)
@given(rows=ROWS, edges=st.lists(st.integers(0, 12), max_size=4))
def test_a_table_digest_does_not_depend_on_chunks(rows: list[tuple[Any, ...]], edges: list[int]) -> None:
    """Rows in several calls, tables of several chunks, slices of a larger one; maps with nulls too."""
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    table = pa.table([pa.array(list(column), kind) for column, kind in zip(columns, SCHEMA.types, strict=True)], SCHEMA)
    cuts = [0, *sorted(min(edge, len(rows)) for edge in edges), len(rows)]
    slices = [table.slice(begin, end - begin) for begin, end in pairwise(cuts)]
    running = TableDigest()
    for one in slices:
        running.update(one)

    assert table_digest(table) == running.hexdigest() == table_digest(pa.concat_tables(slices))
    assert table_digest(table) == table_digest(pa.concat_tables([table, table]).slice(0, len(rows)))
    assert table_digest(table) == table_digest(table.append_column("new", pa.nulls(len(rows), pa.int64())))


@settings(max_examples=40, database=None)
@given(rows=ROWS.filter(bool), data=st.data())
def test_other_rows_have_another_table_digest(rows: list[tuple[Any, ...]], data: st.DataObject) -> None:
    """Fewer, more, or one text longer."""
    names = SCHEMA.names

    def of(changed: list[tuple[Any, ...]]) -> str:
        columns = list(zip(*changed, strict=True)) or [()] * len(names)
        return table_digest(
            pa.table([pa.array(list(column), kind) for column, kind in zip(columns, SCHEMA.types, strict=True)], SCHEMA)
        )

    place = data.draw(st.integers(0, len(rows) - 1))
    longer = [*rows]
    longer[place] = (*rows[place][:1], (rows[place][1] or "") + "x", *rows[place][2:])

    assert 4 == len({of(rows), of(rows[:-1]), of([*rows, rows[-1]]), of(longer)})
