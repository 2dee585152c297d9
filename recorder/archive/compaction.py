"""Compaction: of a finished date, one part per partition and session, proved equal to the parts that it replaces.

1. Typed rows are replaced first, topic by topic, then frames with their commits. A reader between two steps finds the
   same rows: it looks for parts by the frames that they cover, not by name.
2. While rows are copied, the digest of each commit's share is computed again and held against the commit. If one
   differs, nothing is replaced and the error names the partition.
3. Each topic's date is replaced in one step. Killed anywhere, what is there is whole, and a later compaction goes on.
4. Memory holds a row group or two of the partitions that are at work, two at a time, and some of frames, which are
   copied meanwhile.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

import numpy as np

from recorder.archive.catalog import frames_parts, superseded, typed_parts
from recorder.archive.commit import PartitionInfo
from recorder.archive.covered import partition_key
from recorder.archive.digest import TableDigest
from recorder.archive.frames_merge import FramesMerge
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import FRAMES, Layout, PartName, parse_part_name
from recorder.archive.merge import Merge
from recorder.archive.names import names_lock
from recorder.archive.parts import read_tables
from recorder.archive.replacement import replace_date
from recorder.archive.runs import Infos, Run, find_runs
from recorder.disk import make_folder, sync_folder
from recorder.errors import Damaged
from recorder.faults import point

_HINT: Final = "run `recorder verify`; nothing was replaced"


class Compacted(NamedTuple):
    """A date that was compacted: how many parts there were, how many there are, and rows of frames."""

    date: str
    before: int
    after: int
    frames: int


class _Source(NamedTuple):
    """A run's parts of one partition, in order."""

    run: Run
    parts: list[tuple[Path, PartName]]

    @property
    def merged(self) -> PartName:
        """The name of the part that replaces them."""
        return PartName(self.parts[0][1].session, self.parts[0][1].first, max(name.last for _, name in self.parts))


def finished_dates(layout: Layout, *, before: str) -> list[str]:
    """List the dates before a date of which nothing is in the journal any more."""
    pending = set()
    for recorder in layout.recorders():
        for path in layout.segments(recorder):
            reader = SegmentReader(path)
            with suppress(FileNotFoundError):  # it was archived meanwhile, and its date may wait for the next time
                for _ in reader.batches():
                    break
                pending.add(reader.header.date if reader.header is not None else "")
    return [date for date in layout.dates(FRAMES) if date < before and date not in pending]


def compact(layout: Layout, dates: Sequence[str], *, done: Callable[[int], None]) -> list[Compacted]:
    """Compact dates; `done` hears how many rows were copied so far.

    Raises `Damaged` if what is there is not what was written; nothing of that date and topic is replaced then. The
    other dates are done before that.
    """
    tmp = layout.root / ".tmp" / ".compaction"  # no recorder has such a name
    if tmp.exists():
        shutil.rmtree(tmp)
    make_folder(tmp, below=layout.root)
    point("compaction.begin")
    work = _Work(layout, tmp, done)
    compacted: list[Compacted] = []
    damaged: list[Damaged] = []
    try:
        for date in dates:
            try:
                found = work.compact(date)
            except Damaged as exc:
                damaged.append(exc)
                shutil.rmtree(tmp)
                make_folder(tmp, below=layout.root)
                continue
            compacted += [found] if found is not None else []
    finally:
        shutil.rmtree(tmp)
    point("compaction.done")
    if damaged:
        raise damaged[0]
    return compacted


class _Work:
    """One run of compaction."""

    def __init__(self, layout: Layout, tmp: Path, done: Callable[[int], None]) -> None:
        self._layout = layout
        self._tmp = tmp
        self._done = done
        self._copied = 0
        self._counting = Lock()

    def compact(self, date: str) -> Compacted | None:
        """Compact one date; None if there is nothing to do."""
        self._remove_superseded(date)
        runs = find_runs([part for part in frames_parts(self._layout) if part.date == date])
        topics = {topic: self._sources(topic, date, runs) for topic in self._layout.topics()}
        sources = [source for found in topics.values() for source in _all(found)]
        before = [*(len(run.parts) for run in runs), *(len(source.parts) for source in sources)]
        if all(count == 1 for count in before):
            return None
        self._check_complete(runs, topics)
        infos: Infos = {}
        merged = FramesMerge(runs, self._tmp / FRAMES, done=self._progress)
        try:
            for topic, found in topics.items():
                infos |= self._compact_topic(topic, date, found)
            merged.finish(infos)
        finally:
            merged.stop()
        self._replace_frames(date, runs, self._tmp / FRAMES)
        frames = sum(run.name.last - run.name.first + 1 for run in runs)
        return Compacted(date, sum(before), len(before), frames)

    def _remove_superseded(self, date: str) -> None:
        """Finish what a killed compaction began that had to replace files one by one."""
        folders = [self._layout.root / topic / f"date={date}" for topic in (FRAMES, *self._layout.topics())]
        for folder in (folder for top in folders for folder in (top, *top.glob("conid=*"))):
            found = {name: path for path in folder.glob("*.parquet") if (name := parse_part_name(path.name))}
            gone = superseded(found)
            for name in gone:
                wider = next(other for other in found if other not in gone and _within(name, other))
                _prove(found[name], name, found[wider])
            for name in sorted(gone):
                with names_lock(self._layout):
                    found[name].unlink()
                    point("compaction.superseded")
                    sync_folder(folder)

    def _sources(self, topic: str, date: str, runs: Sequence[Run]) -> dict[int, list[_Source]]:
        """List a topic's committed parts of a date by contract and run."""
        found: dict[int, list[_Source]] = {}
        for conid in self._layout.conids(topic, date):
            key, parts = partition_key(topic, date, conid), list(typed_parts(self._layout, topic, date, conid))
            own = [_Source(run, [pair for pair in parts if run.answers_for(pair[1], key)]) for run in runs]
            found[conid] = [source for source in own if source.parts]
        return found

    def _check_complete(self, runs: Sequence[Run], topics: dict[str, dict[int, list[_Source]]]) -> None:
        """Raise `Damaged` if a partition that commits have rows in has no part; nothing was replaced yet."""
        for run in runs:
            for key in {key for commit in run.commits for key in commit.partitions}:
                topic, _, conid = key.split("/")
                sources = topics.get(topic, {}).get(int(conid.removeprefix("conid=")), [])
                if not any(source.run.name == run.name for source in sources):
                    session, first, last = run.name
                    what = f"the rows of frames {first} to {last} of session {session} are missing"
                    raise Damaged(what, path=self._layout.root / key, offset=0, hint=_HINT)

    def _compact_topic(self, topic: str, date: str, found: dict[int, list[_Source]]) -> Infos:
        """Merge a topic's partitions of a date and put them in place; give what each now holds."""
        folder = self._tmp / topic
        folder.mkdir(mode=0o700)

        def merge(task: tuple[int, _Source]) -> tuple[tuple[PartName, str], PartitionInfo]:
            conid, source = task
            key = partition_key(topic, date, conid)
            target = folder / f"conid={conid}"
            target.mkdir(exist_ok=True, mode=0o700)
            return (source.run.name, key), self._merge(source, target, key)

        with ThreadPoolExecutor(2) as pool:
            infos = dict(pool.map(merge, [(conid, source) for conid in found for source in found[conid]]))
        consumed = {path for source in _all(found) for path, _ in source.parts}
        if any(len(source.parts) > 1 for source in _all(found)):
            point("compaction.topic")
            replace_date(self._layout, folder, self._layout.root / topic / f"date={date}", consumed=consumed)
        else:
            shutil.rmtree(folder)
            point("compaction.unchanged")
        return infos

    def _merge(self, source: _Source, folder: Path, key: str) -> PartitionInfo:
        """Copy a run's rows of a partition into one part; `Damaged` if a commit's share is not what it wrote."""
        alone = len(source.parts) == 1
        target = folder / str(source.merged)
        if alone:
            target.hardlink_to(source.parts[0][0])
            point("compaction.linked")
        first = source.parts[0][0]
        merge = Merge(None if alone else target, first, commits=source.run.commits, key=key, root=self._layout.root)
        for path, name in source.parts:
            merge.add(path, name, done=self._progress)
        return merge.finish()

    def _replace_frames(self, date: str, runs: Sequence[Run], folder: Path) -> None:
        """Put the merged frames of each run in place."""
        point("compaction.frames")
        consumed = {part.path for run in runs for part in run.parts}
        if len(consumed) > len(runs):
            replace_date(self._layout, folder, self._layout.frames(date), consumed=consumed)
        else:
            shutil.rmtree(folder)

    def _progress(self, rows: int) -> None:
        with self._counting:
            self._copied += rows
            self._done(self._copied)


def _all(found: dict[int, list[_Source]]) -> list[_Source]:
    return [source for sources in found.values() for source in sources]


def _within(name: PartName, other: PartName) -> bool:
    return name.session == other.session and other.first <= name.first and name.last <= other.last


def _prove(path: Path, name: PartName, wider: Path) -> None:
    """Raise `Damaged` unless a part's rows are in the one that was merged of it and others."""
    digests = TableDigest(), TableDigest()
    for digest, source in zip(digests, (path, wider), strict=True):
        for table in read_tables(source, schema=None):
            seq = table["seq"].to_numpy()
            begin, end = np.searchsorted(seq, name.first), np.searchsorted(seq, name.last, side="right")
            digest.update(table.slice(begin, end - begin))
    if digests[0].hexdigest() != digests[1].hexdigest():
        what = f"it is named as if it held the rows of {path.name}, and does not"
        raise Damaged(what, path=wider, offset=0, hint=_HINT)
