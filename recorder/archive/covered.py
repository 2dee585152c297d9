"""Covered rows: the rows of typed parts that a commit answers for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.catalog import superseded, typed_parts
from recorder.archive.commit import Commit
from recorder.archive.layout import Layout, PartName
from recorder.archive.parts import ROW_GROUP, read_tables
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
    layout: Layout, commit: Commit, topic: Topic, conid: int, *, columns: Sequence[str], rows: int
) -> Iterator[pa.Table]:
    """Read a commit's rows of a topic and contract, in order, from whatever parts hold them now, some `rows` at a time.

    `columns` has `seq`. `Damaged` at the end if they were not as many as the commit says; `FileNotFoundError` if a
    part was replaced meanwhile.
    """
    found = 0
    parts = [pair for pair in typed_parts(layout, topic.name, commit.date, conid) if covers(pair[1], commit)]
    gone = superseded(name for _, name in parts)
    for path, name in parts:
        if name in gone:
            continue
        for table in read_tables(path, schema=topic_schema(topic), columns=columns, rows=rows):
            if name.first < commit.first or name.last > commit.last:
                seq = table["seq"]
                table = table.filter(pc.and_(pc.greater_equal(seq, commit.first), pc.less_equal(seq, commit.last)))  # noqa: PLW2901  the share of it
            found += table.num_rows
            yield table
    expected = commit.partitions[partition_key(topic.name, commit.date, conid)].rows
    if found != expected:
        raise Damaged(
            f"the partition holds {found:,} rows of frames {commit.first} to {commit.last} of session"
            f" {commit.session}, where {expected:,} were written",
            path=layout.partition(topic.name, commit.date, conid),
            offset=0,
            hint="run `recorder verify`",
        )


def covered_rows(layout: Layout, commit: Commit, topic: Topic, conid: int) -> pa.Table:
    """Read all columns of a commit's rows of a topic and contract, as `covered_tables` does, into one table."""
    schema = topic_schema(topic)
    tables = covered_tables(layout, commit, topic, conid, columns=schema.names, rows=ROW_GROUP)
    return pa.concat_tables([schema.empty_table(), *(table.cast(schema) for table in tables)])


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
