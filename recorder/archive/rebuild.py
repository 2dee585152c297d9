"""Rebuilding: a topic's tables derived again from the frames, date by date.

1. Frames are the truth and are read only. A date's rows are written beside the old ones, and replace them in one step;
   then the date's frames parts are written again with commits that answer for the new rows.
2. Between the two steps, and when killed between them, readers decode the rows from the frames: they take typed rows
   only where the commit names our schema. So before a date's rows are replaced, its commits stop answering for them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from recorder.archive.catalog import FramesPart, frames_parts
from recorder.archive.commit import Commit, PartitionInfo, encode_commit
from recorder.archive.covered import Coverage, partition_key
from recorder.archive.digest import TableDigest
from recorder.archive.layout import FRAMES, Layout, PartName, parse_part_name
from recorder.archive.parts import RowWriter, read_tables, typed_metadata
from recorder.archive.pieces import Piece, frame_batches
from recorder.archive.replacement import replace_date
from recorder.archive.spill import Spill
from recorder.disk import make_folder, sync_path
from recorder.faults import point
from recorder.protocol.decode import Decoder
from recorder.protocol.decoding_state import DecodingState
from recorder.protocol.tables import FRAMES as FRAMES_SCHEMA
from recorder.protocol.tables import complete, topic_schema
from recorder.protocol.topics import Topic, Topics


class Rebuilt(NamedTuple):
    """A date that was rebuilt: frames read, rows derived."""

    date: str
    frames: int
    rows: int


def rebuild(layout: Layout, topics: Topics, topic: Topic, *, done: Callable[[int], None]) -> list[Rebuilt]:
    """Derive a topic's rows again, in all dates; `done` hears how many frames were read so far."""
    tmp = layout.root / ".tmp" / ".rebuild"  # no recorder has such a name
    if tmp.exists():
        shutil.rmtree(tmp)
    make_folder(tmp, below=layout.root)
    point("rebuild.begin")
    work = _Work(layout, topics, topic, tmp, done)
    try:
        rebuilt = [work.rebuild(date) for date in layout.dates(FRAMES)]
    finally:
        shutil.rmtree(tmp)
    point("rebuild.done")
    return rebuilt


class _Work:
    def __init__(self, layout: Layout, topics: Topics, topic: Topic, tmp: Path, done: Callable[[int], None]) -> None:
        self._layout = layout
        self._topics = topics
        self._topic = topic
        self._tmp = tmp
        self._done = done
        self._read = 0
        self._states: dict[tuple[str, int], DecodingState] = {}
        """The decoder's state before a frame, by session and number; dates may take turns within a session."""

    def rebuild(self, date: str) -> Rebuilt:
        parts = [part for part in frames_parts(self._layout) if part.date == date]
        self._rewrite_commits(date, parts, {part.path: _without(part.commit(), self._topic) for part in parts})
        parts = [part for part in frames_parts(self._layout) if part.date == date]
        folder = self._tmp / self._topic.name
        folder.mkdir(mode=0o700)
        commits = {part.path: self._derive(part, folder) for part in parts}
        old = self._layout.root / self._topic.name / f"date={date}"
        coverage = Coverage(commits.values())
        consumed = [
            path for path in old.rglob("*.parquet") if (name := parse_part_name(path.name)) and name in coverage
        ]
        point("rebuild.derived")
        if old.exists() or any(folder.iterdir()):
            replace_date(self._layout, folder, old, consumed=consumed)
        else:
            folder.rmdir()  # the topic has no rows of that date, and gets no folder
        point("rebuild.replaced")
        self._rewrite_commits(date, parts, commits)
        rows = sum(commit.rows.get(self._topic.name, 0) for commit in commits.values())
        return Rebuilt(date, sum(commit.last - commit.first + 1 for commit in commits.values()), rows)

    def _derive(self, part: FramesPart, folder: Path) -> Commit:
        """Write a commit's rows; give the commit that answers for them."""
        commit, topic = part.commit(), self._topic
        decoder = Decoder(self._topics, self._state_before(commit))
        runs = self._tmp / "runs"
        runs.mkdir(mode=0o700)
        spill = Spill(runs)
        for batch in frame_batches(Piece(commit.recorder, commit.session, commit.first, part.path, commit)):
            rows = decoder.decode(batch).rows.get(topic.name)
            if rows is not None:
                spill.add(rows.table, rows.conid)
            self._read += len(batch)
            self._done(self._read)
        state = self._states[commit.session, commit.last + 1] = decoder.state
        infos = {
            partition_key(topic.name, commit.date, conid): self._write(tables, commit, folder / f"conid={conid}")
            for conid, tables in spill.rows()
        }
        shutil.rmtree(runs)
        return msgspec.structs.replace(
            commit,
            partitions=dict(sorted((_without(commit, topic).partitions | infos).items())),
            topics=commit.topics | {topic.name: topic.fingerprint},
            orders=state.orders,
            open_gaps=state.open_gaps,
        )

    def _write(self, tables: list[pa.Table], commit: Commit, folder: Path) -> PartitionInfo:
        """Write a commit's rows of a contract; give what is in the part."""
        folder.mkdir(exist_ok=True, mode=0o700)
        schema = topic_schema(self._topic)
        path = folder / str(PartName(commit.session, commit.first, commit.last))
        writer, digest = RowWriter(path, schema.with_metadata(typed_metadata(self._topic))), TableDigest()
        for table in tables:
            rows = complete(table.combine_chunks(), schema, session=commit.session)
            writer.add(rows)
            digest.update(rows)
        writer.finish({})
        point("rebuild.part_written")
        sync_path(path)
        point("rebuild.part_synced")
        return PartitionInfo(digest.rows, digest.hexdigest())

    def _state_before(self, commit: Commit) -> DecodingState:
        """Give the decoder's state before a commit: as derived again, or as the last one before it says."""
        before = [part for part in frames_parts(self._layout, session=commit.session) if part.name.last < commit.first]
        if not before:
            return DecodingState()
        last = max(before, key=lambda part: part.name.last)
        known = self._states.get((commit.session, last.name.last + 1))
        return last.commit().state if known is None else known

    def _rewrite_commits(self, date: str, parts: list[FramesPart], commits: dict[Path, Commit]) -> None:
        """Write a date's frames parts again, with these commits in their footers."""
        if all(part.commit() == commits[part.path] for part in parts):
            return
        folder = self._tmp / FRAMES
        folder.mkdir(mode=0o700)
        for part in parts:
            target = folder / part.path.name
            writer = None
            for table in read_tables(part.path, schema=FRAMES_SCHEMA):
                writer = writer or RowWriter(target, FRAMES_SCHEMA, plain=("data",))
                writer.add(table)
            assert writer is not None, "a commit has frames"
            writer.finish(encode_commit(commits[part.path]))
            point("rebuild.frames_written")
            sync_path(target)
        replace_date(self._layout, folder, self._layout.frames(date), consumed=[part.path for part in parts])
        point("rebuild.commits")


def _without(commit: Commit, topic: Topic) -> Commit:
    """Give the commit as it is when it does not answer for a topic's rows."""
    prefix = f"{topic.name}/"
    return msgspec.structs.replace(
        commit,
        partitions={key: info for key, info in commit.partitions.items() if not key.startswith(prefix)},
        topics={name: fingerprint for name, fingerprint in commit.topics.items() if name != topic.name},
    )
