"""The frames side of a build: the frames part written, digested and counted while the next frames are decoded."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.digest import TableDigest, text_bytes, text_edges
from recorder.archive.parts import RowWriter
from recorder.disk import make_folder
from recorder.faults import point
from recorder.protocol.digest import ContentDigest
from recorder.protocol.segment import FrameBatch, Header
from recorder.protocol.tables import FRAMES, frames_table
from recorder.types import KINDS


class FramesBuild:
    """Takes a segment's frames in order. `add` returns at once; what it counts is true after `wait`.

    `latest` is the highest ts_recv of the recorder so far; `contents` are the session's content digests, added to.
    The other attributes are what a `Commit` says of them.
    """

    def __init__(self, tmp: Path, *, root: Path, latest: int, contents: dict[str, ContentDigest]) -> None:
        self.tmp = tmp
        self.latest = latest
        self.digest = TableDigest()
        self.kinds = np.zeros(len(KINDS), np.int64)
        self.claimed: dict[str, int] = {}
        self.unclaimed = 0
        self.ts_min = 2**63 - 1
        self.ts_max = -(2**63)
        self.late: list[tuple[int, int, int]] = []
        self._root = root
        self._contents = contents
        self._writer: RowWriter | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="frames")
        self._job: Future[None] | None = None

    def add(self, header: Header, batch: FrameBatch, topics: pa.Array) -> None:
        """Take the next frames, with the topic that claims each; one batch waits at most."""
        self.wait()
        self._job = self._thread.submit(self._add, header, batch, topics)

    def wait(self) -> None:
        """Wait until all that was added is written; raises what went wrong with it."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def finish(self, metadata: dict[str, str]) -> None:
        """Finish the part, which stands at `tmp`."""
        assert self._writer is not None, "a part without frames is not finished"
        self._writer.finish(metadata)
        self._thread.shutdown()

    def abandon(self) -> None:
        """Give the part up."""
        self._thread.shutdown()
        if self._writer is not None:
            self._writer.abandon()

    def _add(self, header: Header, batch: FrameBatch, topics: pa.Array) -> None:
        if self._writer is None:
            make_folder(self.tmp.parent, below=self._root)
            point("build.tmp_made")
            self._writer = RowWriter(self.tmp, FRAMES, plain=("data",))
            point("build.frames_begun")
        table = frames_table(batch, topics, recorder=header.recorder, session=header.session)
        self._writer.add(table)
        self.digest.update(table.drop_columns("topic"))  # derived: a new topic changes no frame
        self.kinds += np.bincount(batch.code % 8, minlength=len(KINDS))
        for name, count in add_contents(self._contents, table).items():
            self.claimed[name] = self.claimed.get(name, 0) + count
        unclaimed = pc.and_(pc.equal(table["kind"], "in"), table["topic"].is_null())
        self.unclaimed += pc.sum(unclaimed).as_py() or 0
        self.ts_min = min(self.ts_min, int(batch.ts_recv.min()))
        self.ts_max = max(self.ts_max, int(batch.ts_recv.max()))
        self.latest = find_late(batch.first_seq, batch.ts_recv, self.latest, self.late)


def find_late(first_seq: int, ts_recv: npt.NDArray[np.int64], latest: int, late: list[tuple[int, int, int]]) -> int:
    """Add the runs among these frames that lie before the highest ts_recv so far; give that maximum after them."""
    highest = np.maximum.accumulate(np.maximum(ts_recv, latest))
    behind = np.flatnonzero(ts_recv < highest)
    if len(behind):
        breaks = np.flatnonzero((np.diff(behind) > 1) | (np.diff(highest[behind]) > 0)) + 1
        for run in np.split(behind, breaks):
            first, last, maximum = first_seq + int(run[0]), first_seq + int(run[-1]), int(highest[run[0]])
            if late and late[-1][1] == first - 1 and late[-1][2] == maximum:
                late[-1] = (late[-1][0], last, maximum)
            else:
                late.append((first, last, maximum))
    return int(highest[-1])


def add_contents(contents: dict[str, ContentDigest], table: pa.Table) -> dict[str, int]:
    """Take the received frames of a table of frames into the content digests of their topics; count them by topic."""
    counts: dict[str, int] = {}
    received = table.select(["topic", "data"])
    counted = pc.and_(pc.equal(table["kind"], "in"), table["topic"].is_valid())
    if not pc.all(counted).as_py():
        received = received.filter(counted)
    for name in received["topic"].unique().to_pylist():
        digest = contents.setdefault(name, ContentDigest(name))
        own = pc.equal(received["topic"], name)
        for payloads in (received if pc.all(own).as_py() else received.filter(own))["data"].chunks:
            lengths = np.diff(text_edges(payloads)).astype("<u4")
            digest.extend_joined(len(payloads), lengths.tobytes(), text_bytes(payloads))
            counts[name] = counts.get(name, 0) + len(payloads)
    return counts
