"""How a recorder's last session ended: its last stamp on disk, the gaps that were open, and what is known of why.

1. Damage stops nobody from recording: what cannot be read is for the archiver and `verify` to report, and the ending is
   that of what can be.
2. While this looks, a segment may become a part, never the other way round; then it looks again.
"""

from __future__ import annotations

import pyarrow.parquet as pq

from recorder.archive.catalog import FramesPart, frames_parts, segment_session
from recorder.archive.commit import damage
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import Layout
from recorder.errors import Damaged
from recorder.lock import Failure
from recorder.protocol.ledger import Cause, Ending, Ledger
from recorder.protocol.marks import decode_mark
from recorder.protocol.segment import FrameBatch, kind_and_op


def find_ending(layout: Layout, recorder: str, session: str, *, failure: Failure | None = None) -> Ending | None:
    """Find how a session ended; None if no frame of it can be read.

    `failure` is what the recorder's lock file says that a capture died of; it counts if it is of this session or of
    one after it, which then came to no frame.
    """
    while True:
        try:
            end = _End(layout, recorder, session)
        except FileNotFoundError:
            continue
        return None if end.latest is None else _ending(end, end.latest, session, failure)


def _ending(end: _End, latest: int, session: str, failure: Failure | None) -> Ending:
    gaps = end.ledger.open_gaps
    if end.damaged is not None:
        return Ending(latest, gaps, "journal_damaged", f"session {session} can be read up to there: {end.damaged}")
    if failure is not None and failure.session >= session:
        cause: Cause = "disk_full" if failure.disk_full else "process_down"
        return Ending(latest, gaps, cause, f"session {failure.session} ended: {failure.what}")
    if end.stopped is not None:
        return Ending(latest, gaps, "process_down", f"session {session} was stopped: {end.stopped}")
    return Ending(latest, gaps, "process_down", f"session {session} broke off: killed, or the machine went down")


class _End:
    """What is known of a session.

    `latest` is T of its last frame, `stopped` the reason that its stop mark gives, `damaged` why it can be read no
    further.
    """

    def __init__(self, layout: Layout, recorder: str, session: str) -> None:
        self.latest: int | None = None
        self.stopped: str | None = None
        self.damaged: str | None = None
        self.ledger = Ledger()
        segments = [path for path in layout.segments(recorder) if segment_session(path) == session]
        taken = next((part for part in reversed(frames_parts(layout, session=session)) if self._take_part(part)), None)
        for path in segments:  # also one that is committed already: the same marks leave the same gaps
            reader = SegmentReader(path)
            if taken is None or reader.first_seq >= taken.name.first:  # else it was put back, into a hole before
                self._take_segment(reader)

    def _take_part(self, part: FramesPart) -> bool:
        """Take what a commit says, and the last frame; False if it cannot be read."""
        try:
            commit = part.commit()
            with damage(part.path):
                file = pq.ParquetFile(part.path)
                rows = file.read_row_group(file.num_row_groups - 1, columns=["kind", "data"])
        except Damaged:
            return False
        self.latest = commit.latest
        self.ledger = Ledger(commit.open_gaps)
        kind, data = (rows[name][-1].as_py() for name in ("kind", "data"))
        self.stopped = _stop_reason(kind, data)
        return True

    def _take_segment(self, reader: SegmentReader) -> None:
        last: FrameBatch | None = None
        try:
            for batch in reader.batches():
                self.latest = max(self.latest or 0, int(batch.ts_recv.max()))
                for _, data in batch.marks():
                    self.ledger.follow(data)
                last = batch
        except Damaged as exc:  # a hole in its numbers: what comes behind it is not known
            self.damaged = str(exc)
        if last is not None:
            self.stopped = _stop_reason(kind_and_op(int(last.code[-1]))[0], last.payloads()[-1])


def _stop_reason(kind: str, data: bytes) -> str | None:
    if kind != "mark":
        return None
    mark = decode_mark(data)
    return str(mark["reason"]) if mark["event"] == "session_stopped" else None
