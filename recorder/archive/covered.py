"""Covered rows: the rows of typed parts that a commit answers for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recorder.archive.catalog import superseded, typed_parts
from recorder.archive.commit import Commit, damage
from recorder.archive.layout import Layout, PartName
from recorder.archive.parts import check_schema, coded_schema, open_part, read_tables
from recorder.errors import Damaged
from recorder.protocol.tables import topic_schema
from recorder.protocol.topics import Topic


def covered_partitions(commit: Commit, topic: str) -> Iterator[int]:
    """Give the contracts of which a commit has rows of a topic."""
    for name in commit.partitions:
        of, _, conid = name.split("/")
        if of == topic:
            yield int(conid.removeprefix("conid="))


def covered_tables(
    layout: Layout, commit: Commit, topic: Topic, conid: int, *, columns: Sequence[str] | None = None, rows: int
) -> Iterator[pa.Table]:
    """Read a commit's rows of a topic and contract, in order, from whatever parts hold them now, some `rows` at a time.

    `columns` has `seq`. `Damaged` at the end if they were not as many as the commit says; `FileNotFoundError` if a
    part was replaced meanwhile.
    """
    schema = topic_schema(topic)
    found = 0
    parts = covering_parts(layout, commit, topic, conid)
    for path, name in parts:
        for table in read_tables(path, schema=schema, columns=columns, rows=rows):
            own = _share(table, commit) if name.first < commit.first or name.last > commit.last else table
            found += own.num_rows
            yield own
    check_count(layout, commit, topic, conid, found=found, parts=parts)


def covered_table(
    layout: Layout,
    commit: Commit,
    topic: Topic,
    conid: int,
    *,
    columns: Sequence[str],
    coded: Collection[str] = (),
    start: int | None = None,
    end: int | None = None,
) -> pa.Table:
    """Read a commit's rows of a topic and contract at once, in order; raises what `covered_tables` does.

    Row groups without a row from `start` on and before `end` may be left out. Which those are the rows themselves say:
    no checksum covers a footer's statistics. Texts of `coded` columns come as dictionaries.
    """
    schema = topic_schema(topic)
    parts = covering_parts(layout, commit, topic, conid)
    whole = (start is None or commit.ts_min >= start) and (end is None or commit.ts_max < end)
    found, tables = 0, []
    for path, name in parts:
        file = open_part(path, schema, coded=coded)
        with damage(path):
            if name.first < commit.first or name.last > commit.last:
                table = _share(file.read(columns=list(dict.fromkeys([*columns, "seq"]))), commit)
                found += table.num_rows
            elif whole:
                table = file.read(columns=list(columns))
                found += table.num_rows
            else:
                stamps = group_stamps(file)
                chosen = [number for number, stamp in enumerate(stamps) if _any_within(stamp, start, end)]
                table = file.read_row_groups(chosen, columns=list(columns))
                found += sum(map(len, stamps))
        tables.append(table.select(list(columns)))
    check_count(layout, commit, topic, conid, found=found, parts=parts)
    if not tables:
        return coded_schema(schema, coded).empty_table().select(list(columns))
    return pa.concat_tables(tables).replace_schema_metadata()


def group_stamps(file: pq.ParquetFile) -> list[npt.NDArray[np.int64]]:
    """Read ts_recv of each row of a part, microseconds, by row groups."""
    groups = range(file.num_row_groups)
    return [file.read_row_group(group, columns=["ts_recv"])["ts_recv"].cast(pa.int64()).to_numpy() for group in groups]


def _any_within(stamps: npt.NDArray[np.int64], start: int | None, end: int | None) -> bool:
    inside = np.ones(len(stamps), np.bool_)
    if start is not None:
        inside &= stamps >= start
    if end is not None:
        inside &= stamps < end
    return bool(inside.any())


def _share(table: pa.Table, commit: Commit) -> pa.Table:
    """Give a commit's rows of a part that was merged of several commits'."""
    seq = table["seq"]
    return table.filter(pc.and_(pc.greater_equal(seq, commit.first), pc.less_equal(seq, commit.last)))


def check_count(
    layout: Layout, commit: Commit, topic: Topic, conid: int, *, found: int, parts: list[tuple[Path, PartName]]
) -> None:
    """Raise `Damaged` if a commit's rows in these parts were not as many as it says.

    `FileNotFoundError` if the parts were replaced meanwhile.
    """
    key = partition_key(topic.name, commit.date, conid)
    expected = commit.partitions[key].rows
    if found != expected:
        if covering_parts(layout, commit, topic, conid) != parts:
            raise FileNotFoundError(f"{key} was replaced meanwhile")
        raise _miscounted(_where(layout, key, (path for path, _ in parts)), commit, commit, found, expected)


def covered_files(layout: Layout, commits: Sequence[Commit], topic: Topic, conid: int) -> list[Path]:
    """List the parts that hold the rows of a topic and contract that commits of one session and date have.

    `Damaged` if, by their footers, they hold other columns or another number of rows than was written.
    """

    def listed() -> dict[Path, PartName]:
        return {path: name for commit in commits for path, name in covering_parts(layout, commit, topic, conid)}

    parts, found = listed(), 0
    for path in parts:
        with damage(path):
            file = pq.ParquetFile(path)
            check_schema(file, topic_schema(topic), path)
            found += file.metadata.num_rows
    first, last = commits[0], commits[-1]
    key = partition_key(topic.name, first.date, conid)
    expected = sum(commit.partitions[key].rows for commit in commits)
    if found != expected:
        if listed() != parts:
            raise FileNotFoundError(f"{key} was replaced meanwhile")
        raise _miscounted(_where(layout, key, parts), first, last, found, expected)
    return list(parts)


def covering_parts(layout: Layout, commit: Commit, topic: Topic, conid: int) -> list[tuple[Path, PartName]]:
    """List the parts that hold a commit's rows of a topic and contract, in the order of frames."""
    parts = [pair for pair in typed_parts(layout, topic.name, commit.date, conid) if covers(pair[1], commit)]
    gone = superseded(name for _, name in parts)
    return [(path, name) for path, name in parts if name not in gone]


def _where(layout: Layout, key: str, parts: Iterable[Path]) -> Path:
    """Name what is wrong: a partition's part, or the partition if it has none or several."""
    found = list(parts)
    return found[0] if len(found) == 1 else layout.root / key


def _miscounted(path: Path, first: Commit, last: Commit, found: int, expected: int) -> Damaged:
    return Damaged(
        f"it holds {found:,} rows of frames {first.first} to {last.last} of session {first.session},"
        f" where {expected:,} were written",
        path=path,
        offset=0,
        hint="run `recorder verify`; `recorder rebuild` derives rows again",
    )


class Coverage:
    """Which frames some commits answer for; a typed part that is not in it is a leftover of an unfinished archiving."""

    def __init__(self, commits: Iterable[Commit]) -> None:
        self._ranges: dict[str, list[tuple[int, int]]] = {}
        for commit in sorted(commits, key=lambda commit: commit.first):
            self._ranges.setdefault(commit.session, []).append((commit.first, commit.last))

    def __contains__(self, name: PartName) -> bool:
        """Say whether commits cover all of a part: one of them, or after compaction several behind one another."""
        following = name.first
        for first, last in self._ranges.get(name.session, []):
            if first <= following <= last:
                following = last + 1
        return following > name.last


def covers(name: PartName, commit: Commit) -> bool:
    """Say whether a typed part of this name holds rows that the commit answers for."""
    return name.session == commit.session and name.first <= commit.last and name.last >= commit.first


def partition_key(topic: str, date: str, conid: int) -> str:
    """Name a partition as commits do."""
    return f"{topic}/date={date}/conid={conid}"
