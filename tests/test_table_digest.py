"""The digest of a table is that of its rows: how they are laid out in memory and in files is all the same."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SESSION
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.archive import merge as merging
from recorder.archive import parts, values
from recorder.archive.commit import Commit, PartitionInfo
from recorder.archive.digest import TableDigest, table_digest
from recorder.archive.layout import PartName
from recorder.archive.merge import Merge
from recorder.archive.parts import RowWriter
from recorder.archive.shares import share_digests
from recorder.errors import Damaged

KEY: Final = "market_data/date=2026-11-20/conid=7"
SCHEMA: Final = pa.schema(
    [
        ("ts_recv", pa.timestamp("us", tz="UTC")),
        ("seq", pa.int64()),
        ("item", pa.int32()),
        ("text", pa.string()),
        ("other", pa.string()),
        ("price", pa.float64()),
        ("size", pa.int64()),
        ("flag", pa.bool_()),
        ("extra", pa.map_(pa.string(), pa.string())),
    ]
)
TEXT = st.sampled_from(["", "a", "b", "ab", "é", "long " * 9])
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "ts_recv": st.integers(0, 2**50),
    "item": st.integers(0, 3),
    "text": TEXT,
    "other": TEXT,
    "price": st.sampled_from([0.0, -0.0, 1.5, float("inf")]),
    "size": st.integers(-(2**63), 2**63 - 1),
    "flag": st.booleans(),
    "extra": st.dictionaries(TEXT, st.none() | TEXT, max_size=3).map(lambda found: sorted(found.items())),
}


@st.composite
def tables(draw: st.DrawFn, *, empty_maps: bool = True) -> pa.Table:
    """Make a table in the order of `seq`, some columns of which may have no value."""
    count = draw(st.integers(0, 20))
    columns: list[pa.Array] = []
    for field in SCHEMA:
        if field.name == "seq":
            columns.append(pa.array(range(count), field.type))
            continue
        values = CELLS[field.name] if empty_maps or field.name != "extra" else CELLS["extra"].filter(bool)
        cell = draw(st.sampled_from([st.none(), values, st.none() | values]))
        columns.append(pa.array(draw(st.lists(cell, min_size=count, max_size=count)), field.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def coded(table: pa.Table, others: list[str | None]) -> pa.Table:
    """Lay texts out as dictionaries, which may have entries that no row uses, and one value twice."""
    for place, field in enumerate(table.schema):
        if field.type == pa.string():
            texts = [*(other for other in others if other is not None), *table[field.name].to_pylist()]
            used = [value for value in reversed(texts) if value is not None]
            codes = [None if value is None else used.index(value) for value in table[field.name].to_pylist()]
            array = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array([*used, "b"], pa.string()))
            table = table.set_column(place, field.name, array)
    return table


def cut(table: pa.Table, edges: list[int]) -> list[pa.Table]:
    """Cut a table at some rows; the pieces are slices, and some may be empty."""
    places = [*sorted({0, table.num_rows, *(min(edge, table.num_rows) for edge in edges)}), table.num_rows]
    return [table.slice(begin, end - begin) for begin, end in pairwise(places)]


@settings(deadline=None, max_examples=60)
@given(tables(), st.lists(TEXT, max_size=4), st.lists(st.integers(0, 20), max_size=4))
def test_the_layout_in_memory_changes_no_digest(table: pa.Table, others: list[str], edges: list[int]) -> None:
    """Dictionaries, chunks, slices of something larger, and pieces one behind another."""
    expected = table_digest(table)
    padded = pa.concat_tables([table, table, table]).combine_chunks().slice(table.num_rows, table.num_rows)
    running = TableDigest()
    for piece in cut(coded(padded, list(others)), edges):
        running.update(piece)

    assert expected == table_digest(padded)
    assert expected == table_digest(coded(table, list(others)))
    assert expected == table_digest(pa.concat_tables(cut(table, edges)))
    assert expected == table_digest(pa.concat_tables(cut(coded(table, list(others)), edges)))
    assert expected == running.hexdigest()


def plain(table: pa.Table) -> list[tuple[Any, ...]]:
    """Give the rows; zeros are told apart by their sign."""
    return [tuple(repr(value) for value in row.values()) for row in table.to_pylist()]


@settings(deadline=None, max_examples=60)
@given(tables(), tables())
def test_other_rows_have_another_digest(one: pa.Table, other: pa.Table) -> None:
    """A digest stands for the rows: nulls, empty texts and where one ends and the next begins included."""
    assert (plain(one) == plain(other)) == (table_digest(one) == table_digest(other))


@settings(deadline=None, max_examples=60)
@given(tables(), st.data())
def test_a_changed_cell_changes_the_digest(table: pa.Table, data: st.DataObject) -> None:
    """Whichever column it is in, and also if only null takes the place of something empty."""
    if not table.num_rows:
        return
    name = data.draw(st.sampled_from(sorted(CELLS)))
    row = data.draw(st.integers(0, table.num_rows - 1))
    place, field = table.schema.get_field_index(name), table.schema.field(name)
    values = table[name].cast(pa.int64()).to_pylist() if name == "ts_recv" else table[name].to_pylist()
    values[row] = data.draw(st.none() | CELLS[name])
    changed = table.set_column(place, field, pa.array(values, field.type))

    assert (plain(table) == plain(changed)) == (table_digest(table) == table_digest(changed))


def commit_of(rows: pa.Table) -> Commit:
    """Make the commit of the frames that these rows are of."""
    seq = rows["seq"].to_pylist()
    said = {"recorder": "main", "session": SESSION, "date": "2026-11-20", "digest": "", "orders": {}}
    counts: dict[str, Any] = {key: {} for key in ("kinds", "claimed", "undecoded", "topics")}
    info = PartitionInfo(len(seq), table_digest(rows))
    stamps = dict.fromkeys(("unclaimed", "latest", "ts_min", "ts_max"), 0)
    return msgspec.convert(
        said | counts | stamps | {"first": seq[0], "last": seq[-1], "partitions": {KEY: info}}, Commit
    )


@settings(deadline=None, max_examples=80)
@given(tables(empty_maps=False), st.lists(st.integers(0, 20), max_size=4), st.integers(1, 7), st.integers(0, 8))
def test_merging_parts_keeps_every_row(table: pa.Table, edges: list[int], group: int, small: int) -> None:
    """Whatever the parts hold, however large a row group is; a merged part has the whole schema.

    No row of a typed part has an empty map: `extra` is null for what has nothing.
    """
    pieces = [piece for piece in cut(table, edges) if piece.num_rows]
    if not pieces:
        return
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        for module in (merging, parts):
            patch.setattr(module, "ROW_GROUP", group)
        patch.setattr(values, "SMALL", small)
        merge, target = merging_of(pieces, Path(name))
        info = merge.finish()
        merged = pq.ParquetFile(target).read()

    assert merged.schema.equals(SCHEMA)
    assert plain(table) == plain(merged)
    assert PartitionInfo(len(table), table_digest(table)) == info
    assert table_digest(merged) == info.digest


def merging_of(pieces: list[pa.Table], folder: Path, written: list[pa.Table] | None = None) -> tuple[Merge, Path]:
    """Merge parts that hold these rows, or those that were `written`; give the merge and where it writes."""
    commits, target = [commit_of(piece) for piece in pieces], folder / "merged.parquet"
    paths = [folder / f"{number}.parquet" for number in range(len(pieces))]
    for path, piece in zip(paths, written or pieces, strict=True):
        writer = RowWriter(path, SCHEMA)
        writer.add(piece)
        writer.finish({})
    merge = Merge(target, paths[0], commits=commits, key=KEY, root=folder)
    for path, commit in zip(paths, commits, strict=True):
        merge.add(path, PartName(SESSION, commit.first, commit.last), done=lambda _rows: None)
    return merge, target


@settings(deadline=None, max_examples=40)
@given(tables(empty_maps=False), st.lists(st.integers(0, 20), max_size=4), st.integers(0, 8), st.data())
def test_a_merge_of_other_rows_than_were_written_is_refused(
    table: pa.Table, edges: list[int], small: int, data: st.DataObject
) -> None:
    """A cell less or more, also in a column that had no value in any part before; a row less, a row twice."""
    pieces = [piece for piece in cut(table, edges) if piece.num_rows]
    if not pieces:
        return
    place = data.draw(st.integers(0, len(pieces) - 1))
    piece = pieces[place]
    column = data.draw(st.sampled_from(["price", "text", "extra"]))
    blank = pa.nulls(len(piece), SCHEMA.field(column).type)
    emptied = piece.set_column(SCHEMA.get_field_index(column), SCHEMA.field(column), blank)
    others = [piece.slice(1), pa.concat_tables([piece, piece.slice(len(piece) - 1)])]
    others += [] if piece[column].null_count == len(piece) else [emptied]
    other = data.draw(st.sampled_from(others))
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "SMALL", small)
        with pytest.raises(Damaged) as caught:
            merging_of(pieces, Path(name), [*pieces[:place], other, *pieces[place + 1 :]])[0].finish()

    assert caught.value.path == Path(name, KEY)


@settings(deadline=None, max_examples=60)
@given(tables(), st.lists(TEXT, max_size=4), st.lists(st.integers(0, 20), max_size=4))
def test_shares_have_the_digests_of_their_rows(table: pa.Table, others: list[str], edges: list[int]) -> None:
    """As if each were a table of its own, and all together the table."""
    pieces = cut(table, edges)
    places = [0, *np.cumsum([piece.num_rows for piece in pieces]).tolist()]
    for laid_out in (table, coded(table, list(others))):
        whole = TableDigest()
        found = share_digests(laid_out.combine_chunks(), places, whole)

        assert [table_digest(piece) for piece in pieces] == found
        assert table_digest(table) == whole.hexdigest()


def test_a_column_of_another_kind_in_the_footer_ends_no_process(tmp_path: Path) -> None:
    """Parquet's reader aborts when it is asked for the statistics of such a column."""
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table({"seq": pa.array([1, 2], pa.int64())}), path)
    content = path.read_bytes()
    kind = content.rindex(b"\x15\x04\x19")  # the column's physical type, INT64, and the list of its encodings
    path.write_bytes(content[: kind + 1] + b"\x0c" + content[kind + 2 :])
    code = "import sys; from pathlib import Path; from recorder.archive.values import ValueReader as R\n"
    code += "p = Path(sys.argv[1])\ntry: r = R(p); f = r.open(p); r.small(p, f, guess=False); list(r.large(p, f))\n"
    code += "except Exception as exc: print(type(exc).__name__)"
    ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)

    assert (0, "Damaged\n") == (ended.returncode, ended.stdout), ended.stderr
