"""Covered rows: the rows of typed parts that a commit answers for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.catalog import typed_parts
from recorder.archive.commit import Commit
from recorder.archive.layout import Layout, PartName
from recorder.archive.parts import read_part
from recorder.errors import Damaged
from recorder.protocol.tables import topic_schema
from recorder.protocol.topics import Topic


def covered_partitions(commit: Commit, topic: str) -> Iterator[int]:
    """Give the contracts of which a commit has rows of a topic."""
    for name in commit.partitions:
        of, _, conid = name.split("/")
        if of == topic:
            yield int(conid.removeprefix("conid="))


def covered_rows(
    layout: Layout, commit: Commit, topic: Topic, conid: int, *, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read a commit's rows of a topic and contract, in order, from whatever parts hold them now.

    `Damaged` if they are not as many as the commit says; `FileNotFoundError` if a part was replaced meanwhile.
    """
    names = topic_schema(topic).names if columns is None else list(dict.fromkeys(["seq", *columns]))
    tables = []
    for path, name in typed_parts(layout, topic.name, commit.date, conid):
        if covers(name, commit):
            table = read_part(path, columns=names)
            if name.first < commit.first or name.last > commit.last:
                seq = table["seq"]
                table = table.filter(pc.and_(pc.greater_equal(seq, commit.first), pc.less_equal(seq, commit.last)))
            tables.append(table)
    folder = layout.partition(topic.name, commit.date, conid)
    expected = commit.partitions[partition_key(topic.name, commit.date, conid)].rows
    found = sum(table.num_rows for table in tables)
    if found != expected:
        raise Damaged(
            f"the partition holds {found:,} rows of frames {commit.first} to {commit.last} of session"
            f" {commit.session}, where {expected:,} were written",
            path=folder,
            offset=0,
            hint="run `recorder verify`",
        )
    joined = pa.concat_tables(tables) if tables else topic_schema(topic).empty_table().select(names)
    return joined if columns is None else joined.select(list(columns))


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
