"""Windows: the rows of many partitions in order, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.archive import windows
from recorder.archive.windows import merged

SCHEMA = pa.schema([("seq", pa.int64()), ("item", pa.int32()), ("of", pa.int64())])
Row = tuple[int, int, int]


def opened(rows: list[Row], sizes: list[int], asked: list[int], at_once: int) -> Iterator[pa.Table]:
    """Give a partition's rows in tables of these sizes, in turn, none larger than was asked for."""
    asked.append(at_once)
    begin = turn = 0
    while begin < len(rows):
        size = min(sizes[turn % len(sizes)], at_once)
        chunk = rows[begin : begin + size]
        yield pa.table(list(zip(*chunk, strict=True)), schema=SCHEMA)
        begin, turn = begin + size, turn + 1


def taken(tables: list[pa.Table]) -> list[Row]:
    """Give all rows."""
    return [(row["seq"], row["item"], row["of"]) for table in tables for row in table.to_pylist()]


@st.composite
def partitions(draw: st.DrawFn) -> list[list[Row]]:
    """Give the rows of some frames, each row in some partition."""
    counts = draw(st.lists(st.integers(0, 5), max_size=30))
    found: list[list[Row]] = [[] for _ in range(draw(st.integers(1, 4)))]
    for seq, count in enumerate(counts):
        for item in range(count):
            of = draw(st.integers(0, len(found) - 1))
            found[of].append((seq, item, of))
    return found


@settings(max_examples=60, database=None)
@given(rows=partitions(), sizes=st.lists(st.integers(0, 4).map(lambda size: size or 1), min_size=1, max_size=3))
def test_windows_are_a_sort_of_all_rows(rows: list[list[Row]], sizes: list[int]) -> None:
    """Whatever is in which partition, and however it is read; no frame is in two of them."""
    asked: list[int] = []
    tables = list(merged([partial(opened, own, sizes, asked) for own in rows]))
    frames = [set(table["seq"].to_pylist()) for table in tables]

    assert sorted(row for own in rows for row in own) == taken(tables)
    assert all(max(one) < min(other) for one, other in pairwise(frames))
    assert len(rows) == len(asked)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_windows_are_of_bounded_size(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """However many partitions there are, and however uneven they are."""
    monkeypatch.setattr(windows, "ROWS", 600)
    monkeypatch.setattr(windows, "_FEWEST", 10)
    rows: list[list[Row]] = [[] for _ in range(count)]
    for seq in range(3_000):
        of = 0 if seq % 10 else seq // 10 % count
        rows[of].append((seq, 0, of))
    asked: list[int] = []
    tables = list(merged([partial(opened, own, [10**6], asked) for own in rows]))

    assert sorted(row for own in rows for row in own) == taken(tables)
    assert {max(10, 600 // count)} == set(asked)
    assert max(table.num_rows for table in tables) <= 2 * max(600, 10 * count)


def test_a_frame_may_have_more_rows_than_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never divided; the rows around it are in their places."""
    monkeypatch.setattr(windows, "ROWS", 20)
    monkeypatch.setattr(windows, "_FEWEST", 10)
    big = [(5, item, 0) for item in range(0, 200, 2)]
    other = [(5, item, 1) for item in range(1, 200, 2)]
    rows = [[(1, 0, 0), *big, (7, 0, 0)], [(2, 0, 1), *other, (6, 0, 1)], [(9, 0, 2)]]
    asked: list[int] = []
    tables = list(merged([partial(opened, own, [10**6], asked) for own in rows]))

    assert sorted(row for own in rows for row in own) == taken(tables)
    assert 1 == len([table for table in tables if 5 in table["seq"].to_pylist()])


def test_nothing_gives_nothing() -> None:
    """No partition, or partitions without rows."""
    assert [] == list(merged([]))
    assert [] == list(merged([partial(opened, [], [1], []), lambda _rows: iter([SCHEMA.empty_table()])]))
