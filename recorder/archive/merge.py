"""A merge: the rows of several parts on their way into one, proved to be those of their commits.

Small parts wait until they fill a row group: to digest and write many small tables costs far more than one large one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from recorder.archive.commit import Commit, PartitionInfo
from recorder.archive.covered import covers
from recorder.archive.digest import TableDigest
from recorder.archive.layout import PartName
from recorder.archive.parts import ROW_GROUP, RowWriter
from recorder.archive.shares import share_digests
from recorder.archive.values import ValueReader, is_small
from recorder.disk import sync_path
from recorder.errors import Damaged
from recorder.faults import point

_HINT: Final = "run `recorder verify`; nothing was replaced"


class _Small(NamedTuple):
    """A small part that was read and waits."""

    path: Path
    name: PartName
    table: pa.Table


class _Cut(NamedTuple):
    """The rows of a table that are a commit's, by its number; `proved` if they are all that it wrote."""

    number: int
    begin: int
    end: int
    proved: bool = False


class Merge:
    """Takes the parts of the partition `key`, in order; without a target it only proves them.

    Raises `Damaged` if a commit's rows are not what it wrote, naming the partition in the archive's folder `root`.
    """

    def __init__(self, target: Path | None, first: Path, *, commits: Sequence[Commit], key: str, root: Path) -> None:
        self._digest = TableDigest()
        self._target = target
        self._reader = ValueReader(first)
        self._commits = commits
        self._infos = [commit.partitions.get(key) for commit in commits]
        self._shares = [TableDigest() for _ in commits]
        self._firsts = np.array([commit.first for commit in commits])
        self._behind = np.array([commit.last + 1 for commit in commits])
        self._proved: set[int] = set()
        self._where = root / key
        self._writer: RowWriter | None = None
        self._waiting: list[_Small] = []
        self._rows = 0

    def add(self, path: Path, name: PartName, *, done: Callable[[int], None]) -> None:
        """Take a part; `done` hears of its rows."""
        file = self._reader.open(path)
        if is_small(file):
            table = self._reader.small(path, file, guess=True)
            self._waiting.append(_Small(path, name, table))
            self._rows += table.num_rows
            done(table.num_rows)
            if self._rows >= ROW_GROUP:
                self._settle()
            return
        self._settle()
        for found in self._reader.large(path, file):
            table = self._reader.complete([found])
            for cut in self._cut(table):
                self._shares[cut.number].update(table.slice(cut.begin, cut.end - cut.begin))
            self._digest.update(table)
            self._write(table)
            done(table.num_rows)

    def finish(self) -> PartitionInfo:
        """Finish the part, and sync it; give what is in it."""
        self._settle()
        for number, share in enumerate(self._shares):
            info = self._infos[number] or PartitionInfo(0, share.hexdigest())
            rest = PartitionInfo(share.rows, share.hexdigest())
            if (share.rows != 0) if number in self._proved else (rest != info):
                commit = self._commits[number]
                whose = f"rows of frames {commit.first} to {commit.last} of session {commit.session}"
                raise self._damaged(f"{whose} are not those that were written")
        if self._writer is not None:
            self._writer.finish({})
            point("compaction.part_written")
            sync_path(self._writer.path)
            point("compaction.part")
        return PartitionInfo(self._digest.rows, self._digest.hexdigest())

    def _settle(self) -> None:
        """Prove and write the small parts that wait.

        Rows that are not a commit's may have values in columns that were guessed to have none: their part is read
        again, whole.
        """
        waiting, self._waiting, self._rows = self._waiting, [], 0
        if not waiting:
            return
        cuts, table, digest = self._proof([part.table for part in waiting])
        if any(not cut.proved for cut in cuts):
            tables = [self._again(part, [cut for cut in cuts if not cut.proved]) for part in waiting]
            cuts, table, digest = self._proof(tables)
        for cut in cuts:
            if cut.proved:
                self._proved.add(cut.number)
            else:
                self._shares[cut.number].update(table.slice(cut.begin, cut.end - cut.begin))
        self._digest = digest
        self._write(table)

    def _proof(self, tables: list[pa.Table]) -> tuple[list[_Cut], pa.Table, TableDigest]:
        """Join tables; give each commit's rows in them, the rows, and the digest of all so far."""
        table, digest = self._reader.complete(tables), self._digest.copy()
        cuts = self._cut(table)
        found = share_digests(table, [0, *(cut.end for cut in cuts)], digest)
        judged = []
        for cut, hexdigest in zip(cuts, found, strict=True):
            own = PartitionInfo(cut.end - cut.begin, hexdigest) == self._infos[cut.number]
            judged.append(cut._replace(proved=own and cut.number not in self._proved))
        return judged, table, digest

    def _cut(self, table: pa.Table) -> list[_Cut]:
        """Find each commit's rows of a table, which is in the order of frames."""
        seq = table["seq"].to_numpy()
        begins, ends = np.searchsorted(seq, self._firsts), np.searchsorted(seq, self._behind)
        cuts = [
            _Cut(number, int(begins[number]), int(ends[number])) for number in np.flatnonzero(ends > begins).tolist()
        ]
        if [cut.begin for cut in cuts] + [len(seq)] != [0] + [cut.end for cut in cuts]:
            raise self._damaged("there are rows of frames that no commit has, or rows are not in order")
        return cuts

    def _again(self, part: _Small, cuts: Sequence[_Cut]) -> pa.Table:
        """Give a part's rows, read again if they have to do with these cuts."""
        own = [self._commits[cut.number] for cut in cuts if covers(part.name, self._commits[cut.number])]
        return self._reader.small(part.path, self._reader.open(part.path), guess=False) if own else part.table

    def _write(self, table: pa.Table) -> None:
        if self._target is not None:
            self._writer = self._writer or RowWriter(self._target, self._reader.schema)
            self._writer.add(table)

    def _damaged(self, what: str) -> Damaged:
        return Damaged(what, path=self._where, offset=0, hint=_HINT)
