"""Compaction: of a finished date, one part per partition and session, proved equal to the parts that it replaces.

1. Typed rows first, topic by topic, then frames with their commits. A reader between two steps finds the same rows: it
   looks for parts by the frames that they cover, not by name.
2. While rows are copied, the digest of each commit's share is computed again and held against the commit. If one
   differs, nothing is replaced and the error names the partition.
3. Each topic's date is replaced in one step. Killed anywhere, what is there is whole, and a later compaction goes on.
4. Memory holds one row group of one partition at a time.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from recorder.archive.catalog import FramesPart, frames_parts, superseded, typed_parts
from recorder.archive.commit import Commit, PartitionInfo, encode_commit
from recorder.archive.covered import Coverage, partition_key
from recorder.archive.digest import TableDigest
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import FRAMES, Layout, PartName, parse_part_name
from recorder.archive.names import names_lock
from recorder.archive.parts import RowWriter, read_tables
from recorder.archive.replacement import replace_date
from recorder.disk import make_folder, sync_folder, sync_path
from recorder.errors import Damaged
from recorder.faults import point
from recorder.protocol.tables import FRAMES as FRAMES_SCHEMA

Infos = dict[tuple[str, str], PartitionInfo]
"""What is in a merged part, by session and partition."""


class Compacted(NamedTuple):
    """A date that was compacted: how many parts there were, how many there are, and rows of frames."""

    date: str
    before: int
    after: int
    frames: int


class _Source(NamedTuple):
    """A session's parts of one partition (or of frames), in order."""

    session: str
    parts: list[tuple[Path, PartName]]

    @property
    def merged(self) -> PartName:
        """The name of the part that replaces them."""
        return PartName(self.session, self.parts[0][1].first, max(name.last for _, name in self.parts))


def finished_dates(layout: Layout, *, before: str) -> list[str]:
    """List the dates before a date of which nothing is in the journal any more."""
    pending = set()
    for recorder in layout.recorders():
        for path in layout.segments(recorder):
            reader = SegmentReader(path)
            for _ in reader.batches():
                break
            pending.add(reader.header.date if reader.header is not None else "")
    return [date for date in layout.dates(FRAMES) if date < before and date not in pending]


def compact(layout: Layout, dates: Sequence[str], *, done: Callable[[int], None]) -> list[Compacted]:
    """Compact dates; `done` hears how many rows were copied so far.

    Raises `Damaged` if what is there is not what was written; nothing of that date and topic is replaced then.
    """
    tmp = layout.root / ".tmp" / ".compaction"  # no recorder has such a name
    if tmp.exists():
        shutil.rmtree(tmp)
    make_folder(tmp, below=layout.root)
    point("compaction.begin")
    work = _Work(layout, tmp, done)
    compacted = [found for date in dates if (found := work.compact(date)) is not None]
    tmp.rmdir()
    point("compaction.done")
    return compacted


class _Work:
    """One run of compaction."""

    def __init__(self, layout: Layout, tmp: Path, done: Callable[[int], None]) -> None:
        self._layout = layout
        self._tmp = tmp
        self._done = done
        self._copied = 0

    def compact(self, date: str) -> Compacted | None:
        """Compact one date; None if there is nothing to do."""
        self._remove_superseded(date)
        parts = [part for part in frames_parts(self._layout) if part.date == date]
        commits: dict[str, list[Commit]] = {}
        for part in parts:
            commits.setdefault(part.name.session, []).append(part.commit())
        coverage = Coverage(part.commit() for part in parts)
        topics = {topic: self._sources(topic, date, coverage) for topic in self._layout.topics()}
        count = len(parts) + sum(len(source.parts) for found in topics.values() for source in _all(found))
        if all(len(own) == 1 for own in commits.values()) and not any(
            len(source.parts) > 1 for found in topics.values() for source in _all(found)
        ):
            return None
        infos: Infos = {}
        for topic, found in topics.items():
            infos |= self._compact_topic(topic, date, found, commits)
        after = self._compact_frames(date, parts, commits, infos)
        kept = sum(len(found_in) for found in topics.values() for found_in in found.values())
        frames = sum(commit.last - commit.first + 1 for own in commits.values() for commit in own)
        return Compacted(date, count, after + kept, frames)

    def _remove_superseded(self, date: str) -> None:
        """Finish what a killed compaction began that had to replace files one by one."""
        folders = [self._layout.root / topic / f"date={date}" for topic in (FRAMES, *self._layout.topics())]
        with names_lock(self._layout):
            for folder in (folder for top in folders for folder in (top, *top.glob("conid=*"))):
                found = {name: path for path in folder.glob("*.parquet") if (name := parse_part_name(path.name))}
                for name in superseded(found):
                    found[name].unlink()
                    point("compaction.superseded")
                    sync_folder(folder)

    def _sources(self, topic: str, date: str, coverage: Coverage) -> dict[int, list[_Source]]:
        """List a topic's committed parts of a date by contract and session."""
        found: dict[int, list[_Source]] = {}
        for conid in self._layout.conids(topic, date):
            sessions: dict[str, list[tuple[Path, PartName]]] = {}
            for path, name in typed_parts(self._layout, topic, date, conid):
                if name in coverage:
                    sessions.setdefault(name.session, []).append((path, name))
            found[conid] = [_Source(session, parts) for session, parts in sessions.items()]
        return found

    def _compact_topic(
        self, topic: str, date: str, found: dict[int, list[_Source]], commits: dict[str, list[Commit]]
    ) -> Infos:
        """Merge a topic's partitions of a date and put them in place; give what each now holds."""
        folder = self._tmp / topic
        folder.mkdir(mode=0o700)

        def merge(task: tuple[int, _Source]) -> tuple[tuple[str, str], PartitionInfo]:
            conid, source = task
            key = partition_key(topic, date, conid)
            target = folder / f"conid={conid}"
            target.mkdir(exist_ok=True, mode=0o700)
            expected = [(one.first, one.last, one.partitions.get(key)) for one in commits.get(source.session, [])]
            return (source.session, key), self._merge(source, target, expected, where=self._layout.root / key)

        with ThreadPoolExecutor(2) as pool:
            infos = dict(pool.map(merge, [(conid, source) for conid in found for source in found[conid]]))
        consumed = [path for source in _all(found) for path, _ in source.parts]
        if any(len(source.parts) > 1 for source in _all(found)):
            point("compaction.topic")
            replace_date(self._layout, folder, self._layout.root / topic / f"date={date}", consumed=consumed)
        else:
            shutil.rmtree(folder)
            point("compaction.unchanged")
        return infos

    def _merge(
        self, source: _Source, folder: Path, expected: Sequence[tuple[int, int, PartitionInfo | None]], *, where: Path
    ) -> PartitionInfo:
        """Copy a session's rows of a partition into one part; `Damaged` if a commit's share is not what it wrote."""
        whole = TableDigest()
        shares = [TableDigest() for _ in expected]
        writer = None
        if len(source.parts) == 1:
            (folder / str(source.merged)).hardlink_to(source.parts[0][0])
            point("compaction.linked")
        for path, _ in source.parts:
            for table in read_tables(path, schema=None):
                whole.update(table)
                _share_out(table, shares, [(first, last) for first, last, _ in expected])
                if len(source.parts) > 1:
                    writer = writer or RowWriter(folder / str(source.merged), table.schema)
                    writer.add(table)
                self._progress(table.num_rows)
        for (first, last, info), share in zip(expected, shares, strict=True):
            if share.rows != (info.rows if info else 0) or (info and share.hexdigest() != info.digest):
                raise Damaged(
                    f"rows of frames {first} to {last} of session {source.session} are not those that were written",
                    path=where,
                    offset=0,
                    hint="run `recorder verify`; nothing was replaced",
                )
        if writer is not None:
            writer.finish({})
            point("compaction.part_written")
            sync_path(writer.path)
            point("compaction.part")
        return PartitionInfo(whole.rows, whole.hexdigest())

    def _compact_frames(
        self, date: str, parts: list[FramesPart], commits: dict[str, list[Commit]], infos: Infos
    ) -> int:
        """Merge the frames of each session, under one commit; give the number of parts."""
        folder = self._tmp / FRAMES
        folder.mkdir(mode=0o700)
        for session, own in commits.items():
            paths = [part.path for part in parts if part.name.session == session]
            name = PartName(session, own[0].first, own[-1].last)
            if len(own) == 1:
                (folder / str(name)).hardlink_to(paths[0])
            else:
                self._merge_frames(paths, own, folder / str(name), infos)
        point("compaction.frames")
        if len(parts) > len(commits):
            consumed = [part.path for part in parts]
            replace_date(self._layout, folder, self._layout.frames(date), consumed=consumed)
        else:
            shutil.rmtree(folder)
        return len(commits)

    def _merge_frames(self, paths: Sequence[Path], commits: Sequence[Commit], target: Path, infos: Infos) -> None:
        whole = TableDigest()
        writer = None
        for path, commit in zip(paths, commits, strict=True):
            share = TableDigest()
            for table in read_tables(path, schema=FRAMES_SCHEMA):
                writer = writer or RowWriter(target, FRAMES_SCHEMA, plain=("data",))
                writer.add(table)
                for digest in (whole, share):
                    digest.update(table.drop_columns("topic"))
                self._progress(table.num_rows)
            if share.hexdigest() != commit.digest:
                raise Damaged(
                    "its frames are not those of its commit", path=path, offset=0, hint="run `recorder verify`"
                )
        assert writer is not None, "a commit has frames"
        writer.finish(encode_commit(merge_commits(commits, digest=whole.hexdigest(), infos=infos)))
        point("compaction.frames_written")
        sync_path(target)

    def _progress(self, rows: int) -> None:
        self._copied += rows
        self._done(self._copied)


def merge_commits(commits: Sequence[Commit], *, digest: str, infos: Infos) -> Commit:
    """Make one commit of a session's consecutive ones of a date."""
    first, last = commits[0], commits[-1]
    keys = {key for commit in commits for key in commit.partitions}
    return msgspec.structs.replace(
        last,
        first=first.first,
        digest=digest,
        kinds=dict(sum((Counter(commit.kinds) for commit in commits), Counter())),
        claimed=dict(sum((Counter(commit.claimed) for commit in commits), Counter())),
        unclaimed=sum(commit.unclaimed for commit in commits),
        undecoded=dict(sum((Counter(commit.undecoded) for commit in commits), Counter())),
        partitions={key: infos[first.session, key] for key in sorted(keys)},
        topics={
            topic: fingerprint
            for topic, fingerprint in last.topics.items()
            if all(commit.topics.get(topic) == fingerprint for commit in commits)
        },
        ts_min=min(commit.ts_min for commit in commits),
        ts_max=max(commit.ts_max for commit in commits),
        late=[run for commit in commits for run in commit.late],
    )


def _all(found: dict[int, list[_Source]]) -> list[_Source]:
    return [source for sources in found.values() for source in sources]


def _share_out(table: pa.Table, shares: Sequence[TableDigest], ranges: Sequence[tuple[int, int]]) -> None:
    """Take each commit's rows of a table, which is in the order of frames, into its digest."""
    seq = table["seq"].to_numpy()
    for (first, last), share in zip(ranges, shares, strict=True):
        begin, end = np.searchsorted(seq, first), np.searchsorted(seq, last, side="right")
        if end > begin:
            share.update(table.slice(begin, end - begin))
