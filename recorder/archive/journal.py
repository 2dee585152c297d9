"""The journal, read: one segment at a time, finished or still growing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from recorder.errors import Damaged
from recorder.protocol.salvage import next_record
from recorder.protocol.segment import MAGIC, Bad, FrameBatch, Header, Scan, encode_end, parse_segment_name

_WINDOW: Final = 4 << 20
_HINT: Final = (
    "restore the segment from a copy, or let `recorder verify --repair` set it aside and keep what is whole in it;"
    " a capture may go on meanwhile"
)
_FOREIGN_HINT: Final = "archive it with the version of the recorder that wrote it"


class SegmentReader:
    """Reads on in a segment each time it is asked, in bounded memory.

    `finished` says whether the end record was met. `bad` says where and how the bytes stopped making sense when they
    were last read: in a growing segment that may be a record that is still being written. `header` is None until the
    first record was read.
    """

    def __init__(self, path: Path) -> None:
        named = parse_segment_name(path.name)
        assert named is not None, "callers list segments by their names"
        self.path = path
        self.session, self.first_seq = named
        self.next_seq = self.first_seq
        self.offset = 0
        self.header: Header | None = None
        self.finished = False
        self.bad: Bad | None = None

    def batches(self) -> Iterator[FrameBatch]:
        """Give the complete batches that follow the last one given; `Damaged` if their numbers leave a hole."""
        file = os.open(self.path, os.O_RDONLY)
        try:
            window = _WINDOW
            while not self.finished:
                chunk = os.pread(file, window, self.offset)
                scan, begin = Scan(chunk, whole=self.offset == 0), self.offset
                for batch in scan:
                    self.header = self.header or scan.header
                    self._check(batch)
                    self.next_seq = batch.last_seq + 1
                    yield batch
                self.header = self.header or scan.header
                self.offset, self.finished = begin + scan.end, scan.finished
                self.bad = scan.bad and Bad(begin + scan.bad.offset, scan.bad.what)
                if len(chunk) < window:
                    return
                if scan.end == 0:
                    window *= 2  # one record is larger than the window
        finally:
            os.close(file)

    @property
    def foreign(self) -> bool:
        """Whether a recorder with another format of the journal wrote it."""
        with self.path.open("rb") as file:
            head = file.read(len(MAGIC))
        return head[:-1] == MAGIC[:-1] and head != MAGIC

    def _check(self, batch: FrameBatch) -> None:
        if batch.first_seq != self.next_seq:
            raise Damaged(
                f"frame {batch.first_seq} stands where frame {self.next_seq} belongs",
                path=self.path,
                offset=self.offset,
                hint=_HINT,
            )

    def damage(self) -> Damaged:
        """Compose the error for a segment that must be whole and is not."""
        what = self.bad.what if self.bad is not None else "the end of the file instead of an end record"
        return Damaged(
            what,
            path=self.path,
            offset=self.bad.offset if self.bad is not None else self.offset,
            hint=_FOREIGN_HINT if self.foreign else _HINT,
        )

    def followed(self) -> bool:
        """Say whether whole records stand behind bytes that are none: that is damage, and no torn end.

        A record that is whole by now was being written when it was read.
        """
        if self.finished:
            return False
        with self.path.open("rb") as file:
            file.seek(self.offset)
            rest = memoryview(file.read())
        begin = len(MAGIC) if self.offset == 0 and bytes(rest[: len(MAGIC)]) == MAGIC else 0
        return next_record(rest, 0) not in (None, begin)


def has_end(path: Path) -> bool:
    """Say whether a segment ends with an end record, whatever stands before it."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(encode_end(0))))
        scan = Scan(file.read(), whole=False)
    return not list(scan) and scan.finished
