"""A build: one segment on its way into Parquet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.archive.commit import Commit, PartitionInfo, encode_commit
from recorder.archive.covered import partition_key
from recorder.archive.digest import table_digest
from recorder.archive.frames_build import FramesBuild
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import Layout, PartName
from recorder.archive.names import names_lock, publish
from recorder.archive.parts import sync_folders, write_typed
from recorder.disk import sync_folder, sync_path
from recorder.faults import point
from recorder.protocol.decode import Decoder
from recorder.protocol.decoding_state import DecodingState
from recorder.protocol.digest import ContentDigest
from recorder.protocol.row_builder import Rows
from recorder.protocol.segment import CHUNK, FrameBatch, concat
from recorder.protocol.tables import complete, topic_schema
from recorder.protocol.topics import Topic, Topics
from recorder.types import KINDS

_WRITERS: Final = 4  # each waits for the disk now and then
_SORTED: Final = 4 * CHUNK  # rows sorted by contract at once: each sort cuts each contract's rows once more


@dataclass(slots=True)
class SessionState:
    """What a session's next segment starts from.

    `next_seq` is the first frame not archived yet, `decoding` the decoder's state, `latest` the highest ts_recv of the
    recorder so far, `contents` the running content digests of the session's received frames by topic.
    """

    next_seq: int = 0
    decoding: DecodingState = field(default_factory=DecodingState)
    latest: int = 0
    contents: dict[str, ContentDigest] = field(default_factory=dict)

    def copy(self) -> SessionState:
        """Copy the state, so that a build that fails leaves no trace in it."""
        contents = {topic: digest.copy() for topic, digest in self.contents.items()}
        return SessionState(self.next_seq, self.decoding, self.latest, contents)


class Build:
    """Takes a segment's frames as they come, and commits them.

    `derived` are the topics whose rows become typed parts. `state` is the state before the segment; it is copied.
    `behind` is the first frame of the session that is archived already behind the segment (None: nothing is).
    """

    def __init__(
        self,
        layout: Layout,
        reader: SegmentReader,
        *,
        topics: Topics,
        derived: Iterable[Topic],
        state: SessionState,
        behind: int | None = None,
    ) -> None:
        self.reader = reader
        self.behind = behind
        self.state = state.copy()
        self.rows: dict[str, int] = {}
        self.frames = 0
        self._layout = layout
        self._derived = {topic.name: topic for topic in derived}
        self._decoder = Decoder(topics, self.state.decoding)
        self._pending: list[FrameBatch] = []
        self._tables: dict[str, SortedRows] = {}
        self._undecoded: dict[str, int] = {}
        self._tmp = layout.tmp(reader.path.parent.name)
        self._frames_build = FramesBuild(
            self._tmp / f"{reader.path.stem}-frames.parquet",
            root=layout.root,
            latest=self.state.latest,
            contents=self.state.contents,
        )

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
        assert self.reader.header is not None, "a segment's batches follow its header"
        self._frames_build.add(self.reader.header, batch, decoded.frame_topics)
        self.frames += len(batch)
        self.state.next_seq = batch.last_seq + 1
        for name, rows in decoded.rows.items():
            self.rows[name] = self.rows.get(name, 0) + len(rows.conid)
            if name in self._derived:
                self._tables.setdefault(name, SortedRows()).add(rows)
        for name, missed in decoded.undecoded.items():
            self._undecoded[name] = self._undecoded.get(name, 0) + missed

    def commit(self, *, torn: str | None = None) -> Commit | None:
        """Put the segment's parts in place, frames last, and remove the segment; None if it holds no frame."""
        header, reader = self.reader.header, self.reader
        if not self.frames or header is None:
            self.abandon()
            self._remove_segment()
            return None
        frames = self._frames_build
        frames.wait()
        point("build.taken")
        sync_path(reader.path)
        point("build.begin")
        name = PartName(header.session, reader.first_seq, reader.next_seq - 1)
        self._remove_leftovers(header.date, name)
        point("build.leftovers")
        decoding = self._decoder.state
        commit = Commit(
            recorder=header.recorder,
            session=header.session,
            first=name.first,
            last=name.last,
            date=header.date,
            digest=frames.digest.hexdigest(),
            kinds={kind: int(count) for kind, count in zip(KINDS, frames.kinds, strict=True)},
            claimed=frames.claimed,
            unclaimed=frames.unclaimed,
            undecoded=self._undecoded,
            partitions=self._write_typed(header.date, name),
            topics={topic.name: topic.fingerprint for topic in self._derived.values()},
            orders=decoding.orders,
            open_gaps=decoding.open_gaps,
            latest=frames.latest,
            ts_min=frames.ts_min,
            ts_max=frames.ts_max,
            late=frames.late,
            torn=torn,
        )
        self.state.decoding, self.state.latest = decoding, frames.latest
        frames.finish(encode_commit(commit))
        path = self._layout.frames(header.date) / str(name)
        point("build.frames_written")
        publish(self._layout, frames.tmp, path)
        point("build.committed")
        sync_folder(path.parent)
        point("build.commit_synced")
        self._remove_segment()
        point("build.segment_removed")
        return commit

    def _write_typed(self, date: str, name: PartName) -> dict[str, PartitionInfo]:
        """Write the typed parts, some at a time; give what each partition got."""
        infos: dict[str, PartitionInfo] = {}
        folders: set[Path] = set()

        def write(topic: Topic, conid: int, slices: list[pa.Table]) -> None:
            table = _joined(slices, topic, name.session)
            tmp = self._tmp / f"{self.reader.path.stem}-{topic.name}-{conid}.parquet"
            path = self._layout.partition(topic.name, date, conid) / str(name)
            write_typed(table, topic, tmp)
            point("build.typed_written")
            publish(self._layout, tmp, path)
            point("build.typed_published")
            folders.add(path.parent)
            infos[partition_key(topic.name, date, conid)] = PartitionInfo(table.num_rows, table_digest(table))

        with ThreadPoolExecutor(_WRITERS) as pool:
            jobs: deque[Future[None]] = deque()
            for topic_name, rows in self._tables.items():
                for conid, slices in rows.by_conid():
                    jobs.append(pool.submit(write, self._derived[topic_name], conid, slices))
                    if len(jobs) > _WRITERS:  # a failure is not found out last
                        jobs.popleft().result()
            for job in jobs:
                job.result()
            list(pool.map(sync_folder, sorted(folders)))
        point("build.typed_synced")
        return dict(sorted(infos.items()))

    def _remove_leftovers(self, date: str, name: PartName) -> None:
        """Remove typed parts that an earlier try at this segment left."""
        folders: set[Path] = set()
        with names_lock(self._layout):  # or a replacement of the date may link one back into place
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
        self._frames_build.abandon()


class SortedRows:
    """Decoded tables of one topic, sorted by contract, so that a contract's rows are slices and no copy.

    Few rows wait for more before they are sorted: a table has its price however few rows it holds, and an hour of a
    quiet stream, decoded each second, would come to some hundred thousand of them.
    """

    def __init__(self) -> None:
        self._slices: dict[int, list[pa.Table]] = {}
        self._waiting: list[Rows] = []
        self._count = 0

    def add(self, rows: Rows) -> None:
        """Take the next decoded rows in."""
        self._waiting.append(rows)
        self._count += len(rows.conid)
        if self._count >= _SORTED or (self._count >= CHUNK and len(self._waiting) > _SORTED // CHUNK):
            self._sort()

    def _sort(self) -> None:
        waiting, self._waiting, self._count = self._waiting, [], 0
        if not waiting:
            return
        conid = np.concatenate([rows.conid for rows in waiting])
        table = pa.concat_tables([rows.table for rows in waiting], promote_options="default").combine_chunks()
        order = np.argsort(conid, kind="stable")
        conids: npt.NDArray[np.int64] = conid[order]
        table = table.take(order)
        starts = np.flatnonzero(np.append(True, conids[1:] != conids[:-1])).tolist()
        for start, end in zip(starts, [*starts[1:], len(conids)], strict=True):
            self._slices.setdefault(int(conids[start]), []).append(table.slice(start, end - start))

    def by_conid(self) -> Iterator[tuple[int, list[pa.Table]]]:
        """Give each contract's rows in order."""
        self._sort()
        for conid in sorted(self._slices):
            yield conid, self._slices[conid]


def _joined(slices: list[pa.Table], topic: Topic, session: str) -> pa.Table:
    """Join a contract's rows into one table with the topic's whole schema."""
    joined = pa.concat_tables(slices, promote_options="default").combine_chunks()
    return complete(joined, topic_schema(topic), session=session)
