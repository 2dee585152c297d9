"""A merge of frames: those of a date's runs on their way into one part each, copied while typed rows are merged.

Writing frames is work of Parquet and zstd, merging typed rows much work of the interpreter: side by side they fill two
cores. What a part's commit says is known only when the typed rows are in place; so parts are finished after that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Final, NamedTuple

from recorder.archive.commit import encode_commit
from recorder.archive.digest import TableDigest, update_all
from recorder.archive.layout import PartName
from recorder.archive.parts import RowWriter, coded_schema, read_tables
from recorder.archive.runs import Infos, Run, merge_commits
from recorder.archive.values import texts_of
from recorder.disk import sync_path
from recorder.errors import Damaged
from recorder.faults import point
from recorder.protocol.tables import FRAMES

_AHEAD: Final = 8
"""Runs that are copied before typed rows are in place: each keeps a file open."""
_HINT: Final = "run `recorder verify`; nothing was replaced"


class _Copy(NamedTuple):
    """Frames of a run that were copied and are those of its commits: all but the footer."""

    writer: RowWriter
    digest: str


class FramesMerge:
    """Copies the frames of runs into `folder`, which it makes; `done` hears of rows."""

    def __init__(self, runs: Sequence[Run], folder: Path, *, done: Callable[[int], None]) -> None:
        self._runs = runs
        self._folder = folder
        self._done = done
        self._stopped = Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="frames")
        folder.mkdir(mode=0o700)
        several = [run for run in runs if len(run.parts) > 1]
        self._ahead = {run.name: self._thread.submit(self._copy, run) for run in several[:_AHEAD]}

    def finish(self, infos: Infos) -> None:
        """Finish the parts, each with its commit, and sync them; a run of one part gets a link to it.

        `Damaged` if the frames of a part are not those of its commit.
        """
        for run in self._runs:
            target = self._folder / str(run.name)
            if len(run.parts) == 1:
                target.hardlink_to(run.parts[0].path)
                continue
            copy = self._copied(run.name) or self._copy(run)
            copy.writer.finish(encode_commit(merge_commits(run, digest=copy.digest, infos=infos)))
            point("compaction.frames_written")
            sync_path(target)

    def stop(self) -> None:
        """Leave off, and wait until that is so; the folder is for the caller to remove."""
        self._stopped.set()
        self._thread.shutdown(cancel_futures=True)

    def _copied(self, name: PartName) -> _Copy | None:
        job = self._ahead.pop(name, None)
        return None if job is None else job.result()

    def _copy(self, run: Run) -> _Copy:
        """Copy frames: while a table is digested the one before it is written, and the next one is read."""
        whole = TableDigest()
        coded = texts_of(FRAMES)
        writer = RowWriter(self._folder / str(run.name), coded_schema(FRAMES, coded), plain=("data",))
        with ThreadPoolExecutor(1) as digesting, ThreadPoolExecutor(1) as writing:
            for part, commit in zip(run.parts, run.commits, strict=True):
                share = TableDigest()
                jobs: list[Future[None]] = []
                for table in read_tables(part.path, schema=FRAMES, coded=coded):
                    for job in jobs:
                        job.result()
                    if self._stopped.is_set():
                        raise InterruptedError("the merge was left off")
                    content = table.drop_columns("topic")
                    jobs = [digesting.submit(update_all, (whole, share), content), writing.submit(writer.add, table)]
                    self._done(table.num_rows)
                for job in jobs:
                    job.result()
                if share.hexdigest() != commit.digest:
                    raise Damaged("its frames are not those of its commit", path=part.path, offset=0, hint=_HINT)
        writer.flush()
        return _Copy(writer, whole.hexdigest())
