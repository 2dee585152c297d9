"""A build: one segment on its way into Parquet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.commit import Commit, PartitionInfo, encode_commit
from recorder.archive.covered import partition_key
from recorder.archive.digest import TableDigest, table_digest
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import Layout, PartName
from recorder.archive.names import publish
from recorder.archive.parts import RowWriter, sync_folders, write_typed
from recorder.disk import make_folder, sync_folder, sync_path
from recorder.faults import point
from recorder.protocol.decode import Decoded, Decoder, Orders, Rows
from recorder.protocol.digest import ContentDigest
from recorder.protocol.segment import FrameBatch, concat
from recorder.protocol.tables import FRAMES, complete, frames_table, topic_schema
from recorder.protocol.topics import Topic, Topics
from recorder.types import KINDS

CHUNK: Final = 16_384
"""Frames decoded at once: enough for columns to pay, little enough to stay in the processor's cache."""


@dataclass(slots=True)
class SessionState:
    """What a session's next segment starts from.

    `next_seq` is the first frame not archived yet, `latest` the highest ts_recv of the recorder so far, `contents` the
    running content digests of the session's received frames by topic.
    """

    next_seq: int = 0
    orders: Orders = field(default_factory=dict)
    latest: int = 0
    contents: dict[str, ContentDigest] = field(default_factory=dict)

    def copy(self) -> SessionState:
        """Copy the state, so that a build that fails leaves no trace in it."""
        contents = {topic: digest.copy() for topic, digest in self.contents.items()}
        return SessionState(self.next_seq, dict(self.orders), self.latest, contents)


class Build:
    """Takes a segment's frames as they come, and commits them.

    `derived` are the topics whose rows become typed parts. `state` is the state before the segment; it is copied.
    """

    def __init__(
        self, layout: Layout, reader: SegmentReader, *, topics: Topics, derived: Iterable[Topic], state: SessionState
    ) -> None:
        self.reader = reader
        self.state = state.copy()
        self.rows: dict[str, int] = {}
        self.frames = 0
        self._layout = layout
        self._derived = {topic.name: topic for topic in derived}
        self._decoder = Decoder(topics, self.state.orders)
        self._pending: list[FrameBatch] = []
        self._tables: dict[str, _Sorted] = {}
        self._writer: RowWriter | None = None
        self._digest = TableDigest()
        self._kinds = np.zeros(len(KINDS), np.int64)
        self._claimed: dict[str, int] = {}
        self._undecoded: dict[str, int] = {}
        self._unclaimed = 0
        self._ts_min = 2**63 - 1
        self._ts_max = -(2**63)
        self._late: list[tuple[int, int, int]] = []

    def take(self, *, everything: bool) -> None:
        """Read on in the segment; decode when there is enough of it, or with `everything` whatever there is."""
        waiting = sum(map(len, self._pending))
        for batch in self.reader.batches():
            self._pending.append(batch)
            waiting += len(batch)
            if waiting >= CHUNK:
                self._decode()
                waiting = 0
        if self._pending and (everything or self.reader.finished):
            self._decode()

    def _decode(self) -> None:
        batch, self._pending = concat(self._pending), []
        decoded = self._decoder.decode(batch)
        self._keep_frames(batch, decoded)
        for name, rows in decoded.rows.items():
            self.rows[name] = self.rows.get(name, 0) + len(rows.conid)
            if name in self._derived:
                self._tables.setdefault(name, _Sorted()).add(rows)
        for name, missed in decoded.undecoded.items():
            self._undecoded[name] = self._undecoded.get(name, 0) + missed

    def _keep_frames(self, batch: FrameBatch, decoded: Decoded) -> None:
        header = self.reader.header
        assert header is not None, "a segment's batches follow its header"
        table = frames_table(batch, decoded.frame_topics, recorder=header.recorder, session=header.session)
        if self._writer is None:
            folder = self._layout.tmp(header.recorder)
            make_folder(folder, below=self._layout.root)
            point("build.tmp_made")
            self._writer = RowWriter(folder / f"{self.reader.path.stem}-frames.parquet", FRAMES, plain=("data",))
            point("build.frames_begun")
        self._writer.add(table)
        self._digest.update(table.drop_columns("topic"))  # derived: a new topic changes no frame
        self.frames += len(batch)
        self._ts_min = min(self._ts_min, int(batch.ts_recv.min()))
        self._ts_max = max(self._ts_max, int(batch.ts_recv.max()))
        self._count(batch, table)
        self.state.latest = _find_late(batch, self.state.latest, self._late)
        self.state.next_seq = batch.last_seq + 1

    def _count(self, batch: FrameBatch, table: pa.Table) -> None:
        self._kinds += np.bincount(batch.code % 8, minlength=len(KINDS))
        for name, count in add_contents(self.state.contents, table).items():
            self._claimed[name] = self._claimed.get(name, 0) + count
        unclaimed = pc.and_(pc.equal(table["kind"], "in"), table["topic"].is_null())
        self._unclaimed += pc.sum(unclaimed).as_py() or 0

    def commit(self, *, torn: str | None = None) -> Commit | None:
        """Put the segment's parts in place, frames last, and remove the segment; None if it holds no frame."""
        header, reader = self.reader.header, self.reader
        if self._writer is None or header is None:
            self._remove_segment()
            return None
        point("build.taken")
        sync_path(reader.path)
        point("build.begin")
        name = PartName(header.session, reader.first_seq, reader.next_seq - 1)
        self._remove_leftovers(header.date, name)
        point("build.leftovers")
        commit = Commit(
            recorder=header.recorder,
            session=header.session,
            first=name.first,
            last=name.last,
            date=header.date,
            digest=self._digest.hexdigest(),
            kinds={kind: int(count) for kind, count in zip(KINDS, self._kinds, strict=True)},
            claimed=self._claimed,
            unclaimed=self._unclaimed,
            undecoded=self._undecoded,
            partitions=self._write_typed(header.date, name),
            topics={topic.name: topic.fingerprint for topic in self._derived.values()},
            orders=self._decoder.orders,
            latest=self.state.latest,
            ts_min=self._ts_min,
            ts_max=self._ts_max,
            late=self._late,
            torn=torn,
        )
        self.state.orders = self._decoder.orders
        self._writer.finish(encode_commit(commit))
        path = self._layout.frames(header.date) / str(name)
        point("build.frames_written")
        publish(self._layout, self._writer.path, path)
        point("build.committed")
        sync_folder(path.parent)
        point("build.commit_synced")
        self._remove_segment()
        point("build.segment_removed")
        return commit

    def _write_typed(self, date: str, name: PartName) -> dict[str, PartitionInfo]:
        infos: dict[str, PartitionInfo] = {}
        folders: set[Path] = set()
        tmp = self._layout.tmp(self._recorder) / f"{self.reader.path.stem}-typed.parquet"
        for topic_name, rows in self._tables.items():
            topic = self._derived[topic_name]
            for conid, table in rows.by_conid(topic, name.session):
                path = self._layout.partition(topic_name, date, conid) / str(name)
                write_typed(table, topic, tmp)
                point("build.typed_written")
                publish(self._layout, tmp, path)
                point("build.typed_published")
                folders.add(path.parent)
                infos[partition_key(topic_name, date, conid)] = PartitionInfo(table.num_rows, table_digest(table))
        sync_folders(folders)
        point("build.typed_synced")
        return infos

    @property
    def _recorder(self) -> str:
        assert self.reader.header is not None, "a segment's batches follow its header"
        return self.reader.header.recorder

    def _remove_leftovers(self, date: str, name: PartName) -> None:
        """Remove typed parts that an earlier try at this segment left."""
        folders: set[Path] = set()
        for topic in self._layout.topics():
            folder = self._layout.root / topic / f"date={date}"
            for path in folder.glob(f"conid=*/{name.session}-{name.first:012d}-*.parquet"):
                path.unlink()
                point("build.leftover_removed")
                folders.add(path.parent)
        sync_folders(folders)  # or a power loss may bring one back whose place nothing takes

    def _remove_segment(self) -> None:
        self.reader.path.unlink()
        point("build.segment_unlinked")
        sync_folder(self.reader.path.parent)

    def abandon(self) -> None:
        """Give the build up; the segment stays as it is."""
        if self._writer is not None:
            self._writer.abandon()


class _Sorted:
    """Decoded tables of one topic, each sorted by contract, so that a contract's rows are slices and no copy."""

    def __init__(self) -> None:
        self._slices: dict[int, list[pa.Table]] = {}

    def add(self, rows: Rows) -> None:
        order = np.argsort(rows.conid, kind="stable")
        conids: npt.NDArray[np.int64] = rows.conid[order]
        table = rows.table if len(rows.conid) == 1 else rows.table.take(order)
        starts = np.flatnonzero(np.append(True, conids[1:] != conids[:-1])).tolist()
        for start, end in zip(starts, [*starts[1:], len(conids)], strict=True):
            self._slices.setdefault(int(conids[start]), []).append(table.slice(start, end - start))

    def by_conid(self, topic: Topic, session: str) -> Iterable[tuple[int, pa.Table]]:
        """Give each contract's rows in order, with the topic's whole schema."""
        schema = topic_schema(topic)
        for conid in sorted(self._slices):
            joined = pa.concat_tables(self._slices[conid], promote_options="default").combine_chunks()
            yield conid, complete(joined, schema, session=session)


def _find_late(batch: FrameBatch, latest: int, late: list[tuple[int, int, int]]) -> int:
    """Add the batch's runs of frames that lie before the highest ts_recv so far; give that maximum after the batch."""
    highest = np.maximum.accumulate(np.maximum(batch.ts_recv, latest))
    behind = np.flatnonzero(batch.ts_recv < highest)
    if len(behind):
        breaks = np.flatnonzero((np.diff(behind) > 1) | (np.diff(highest[behind]) > 0)) + 1
        for run in np.split(behind, breaks):
            first, last, maximum = batch.first_seq + int(run[0]), batch.first_seq + int(run[-1]), int(highest[run[0]])
            if late and late[-1][1] == first - 1 and late[-1][2] == maximum:
                late[-1] = (late[-1][0], last, maximum)
            else:
                late.append((first, last, maximum))
    return int(highest[-1])


def add_contents(contents: dict[str, ContentDigest], table: pa.Table) -> dict[str, int]:
    """Take the received frames of a table of frames into the content digests of their topics; count them by topic."""
    counts: dict[str, int] = {}
    received = table.filter(pc.and_(pc.equal(table["kind"], "in"), table["topic"].is_valid()))
    for name in received["topic"].unique().to_pylist():
        payloads = received.filter(pc.equal(received["topic"], name))["data"].to_pylist()
        contents.setdefault(name, ContentDigest(name)).extend(payloads)
        counts[name] = len(payloads)
    return counts
