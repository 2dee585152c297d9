"""Footers: what parts say without their rows being read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recorder.archive.catalog import typed_parts
from recorder.archive.commit import Commit, damage
from recorder.archive.covered import Coverage, covers
from recorder.archive.layout import Layout, PartName
from recorder.archive.parts import read_tables
from recorder.archive.pieces import Piece
from recorder.types import Frame


class TypedPart(NamedTuple):
    """A typed part that commits answer for."""

    path: Path
    name: PartName
    date: str


class PartitionSizes(NamedTuple):
    """A partition, and the bytes on disk of each of its parts."""

    topic: str
    date: str
    conid: int
    bytes: list[int]


class Partitions:
    """The partitions that commits have rows in, with the parts that hold them; leftovers are left out."""

    def __init__(self, layout: Layout, commits: Iterable[Commit]) -> None:
        self._layout = layout
        self._commits = list(commits)
        self._coverage = Coverage(self._commits)
        self._parts: dict[str, list[TypedPart]] = {}

    def sizes(self) -> Iterator[PartitionSizes]:
        """List the partitions. `FileNotFoundError` if a part is replaced meanwhile."""
        for key in sorted({key for commit in self._commits for key in commit.partitions}):
            topic, date, conid = (piece.rpartition("=")[2] for piece in key.split("/"))
            found = [
                TypedPart(path, name, date)
                for path, name in typed_parts(self._layout, topic, date, int(conid))
                if name in self._coverage
            ]
            self._parts.setdefault(topic, []).extend(found)
            yield PartitionSizes(topic, date, int(conid), [part.path.stat().st_size for part in found])

    def bounds(self, topic: str, first: int | None, last: int | None) -> tuple[int | None, int | None]:
        """Widen these bounds by the ts_recv of the topic's rows, opening the few parts that can matter.

        `sizes` comes first. A commit says between which stamps its rows lie, and thereby where a bound cannot be.
        """
        commits = [commit for commit in self._commits if topic in commit.rows]
        for commit in sorted(commits, key=lambda commit: commit.ts_min):
            if first is not None and commit.ts_min >= first:
                break
            lows = [low for low, _ in self._stamps(topic, commit)]
            first = min([*lows, *([] if first is None else [first])], default=None)
        for commit in sorted(commits, key=lambda commit: -commit.ts_max):
            if last is not None and commit.ts_max <= last:
                break
            highs = [high for _, high in self._stamps(topic, commit)]
            last = max([*highs, *([] if last is None else [last])], default=None)
        return first, last

    def _stamps(self, topic: str, commit: Commit) -> Iterator[tuple[int, int]]:
        """Give the lowest and highest ts_recv of each row group of the parts that hold a commit's rows."""
        for part in self._parts.get(topic, []):
            if part.date == commit.date and covers(part.name, commit):
                yield from _bounds(part.path)


def _bounds(path: Path) -> Iterator[tuple[int, int]]:
    """Give the lowest and highest ts_recv of a part's row groups.

    Out of the rows, not of the statistics in the footer: for some flipped bits in those, Parquet's reader ends the
    process.
    """
    with damage(path):
        for table in read_tables(path, schema=None, columns=["ts_recv"]):
            found = pc.min_max(table["ts_recv"].cast(pa.int64())).as_py()
            yield found["min"], found["max"]


def unclaimed_frames(piece: Piece, *, most: int) -> list[Frame]:
    """Read the first few frames of a part that were received and that no topic claims, a row group at a time."""
    found: list[Frame] = []
    with damage(piece.path):
        file = pq.ParquetFile(piece.path, page_checksum_verification=True)
        for number in range(file.metadata.num_row_groups):
            heads = file.read_row_group(number, columns=["kind", "topic"])
            mask = pc.and_(pc.equal(heads["kind"], "in"), heads["topic"].is_null())
            if pc.any(mask).as_py():
                columns = [name for name in file.schema_arrow.names if name in Frame._fields]
                table = file.read_row_group(number, columns=columns).filter(mask).slice(0, most - len(found))
                stamps = table["ts_recv"].cast(pa.int64())
                table = table.set_column(table.column_names.index("ts_recv"), "ts_recv", stamps)
                found += [Frame(**row) for row in table.to_pylist()]
            if len(found) == most:
                break
    return found
