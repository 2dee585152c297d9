"""The journal's format: segments of checksummed records, each a batch of frames.

1. A segment is the 8 bytes of MAGIC, then records to its end. It holds one session and one date.
2. A record is its payload's length and a CRC-32 of length and payload (32-bit little-endian each), then the payload.
   No payload is empty, so a page of zeros is no record.
3. The first record is the header: the byte H, then JSON (`Header`).
4. Every other record is a batch: the byte F, the first frame's sequence number (64-bit), the count n (32-bit), then
   four columns of n values: ts_recv (64-bit), conn (32-bit), code (8-bit), length (32-bit); then all payloads.
   Columns, not rows, because that is how the archiver reads them.
5. A finished segment ends with a record of the byte E and the last sequence number (64-bit). Only the last segment of
   a session that died lacks it.
6. A code is the index of the frame's kind, plus 8 if it is binary.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from recorder.types import KINDS, OPS, Frame, Kind, Op

MAGIC: Final = b"IBKRJNL\x01"
SUFFIX: Final = ".seg"
CHUNK: Final = 16_384
"""Frames decoded at once: enough for columns to pay, little enough to stay in the processor's cache."""
_RECORD: Final = struct.Struct("<II")
_BATCH: Final = struct.Struct("<cQI")
_HEADER: Final = b"H"
_FRAMES: Final = b"F"
_END: Final = b"E"
_END_RECORD: Final = struct.Struct("<cQ")
_BINARY: Final = 8


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment says of itself: whose it is, its day (ISO date) and its first frame's sequence number."""

    recorder: str
    session: str
    first_seq: int
    date: str


class FrameBatch(NamedTuple):
    """Consecutive frames of one session, as columns.

    `offsets` has one more value than there are frames: it begins with 0 and ends with the length of `blob`.
    """

    first_seq: int
    ts_recv: npt.NDArray[np.int64]
    conn: npt.NDArray[np.int32]
    code: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    blob: memoryview

    def __len__(self) -> int:
        return len(self.ts_recv)

    @property
    def last_seq(self) -> int:
        """The last frame's sequence number."""
        return self.first_seq + len(self.ts_recv) - 1

    def payloads(self) -> list[bytes]:
        """Give each frame's bytes."""
        blob = bytes(self.blob)
        edges = self.offsets.tolist()
        return [blob[start:end] for start, end in pairwise(edges)]

    def some(self, places: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, bytes]]:
        """Give some frames: each one's place in the batch, code and bytes."""
        if len(places) == len(self):
            yield from zip(range(len(self)), self.code.tolist(), self.payloads(), strict=True)
            return
        edges = zip(self.offsets[places].tolist(), self.offsets[places + 1].tolist(), strict=True)
        for place, code, (start, end) in zip(places.tolist(), self.code[places].tolist(), edges, strict=True):
            yield place, code, bytes(self.blob[start:end])

    def marks(self) -> Iterator[tuple[int, bytes]]:
        """Give the marks among the frames: each one's place in the batch and its bytes."""
        for place in np.flatnonzero(self.code % _BINARY == KINDS.index("mark")).tolist():
            yield place, bytes(self.blob[self.offsets[place] : self.offsets[place + 1]])

    def frames(self, recorder: str, session: str) -> Iterator[Frame]:
        """Give the frames one by one."""
        columns = zip(self.ts_recv.tolist(), self.conn.tolist(), self.code.tolist(), self.payloads(), strict=True)
        for seq, (ts_recv, conn, code, data) in enumerate(columns, self.first_seq):
            yield Frame(recorder, session, seq, ts_recv, conn, *kind_and_op(code), data)


def code_of(kind: Kind, op: Op) -> int:
    """Give the code of a frame's kind and opcode."""
    return KINDS.index(kind) + (_BINARY if op == "binary" else 0)


def code_of_places(kinds: npt.NDArray[np.int32], ops: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Give the codes of many frames by the places of kind and opcode in `KINDS` and `OPS`."""
    codes: npt.NDArray[np.uint8] = (kinds + _BINARY * ops).astype(np.uint8)
    return codes


def kind_and_op(code: int) -> tuple[Kind, Op]:
    """Give the kind and opcode of a code."""
    return KINDS[code % _BINARY], OPS[code // _BINARY]


CODES: Final = {f"{kind} {op}": code_of(kind, op) for kind in KINDS for op in OPS}
"""Every code, by its kind and opcode as text."""
IN_TEXT: Final = code_of("in", "text")
IN_BINARY: Final = code_of("in", "binary")
MARK: Final = code_of("mark", "text")


def encode_header(header: Header) -> bytes:
    """Write the beginning of a segment: magic and header record."""
    return MAGIC + _record(_HEADER + msgspec.json.encode(header))


def encode_batch(
    first_seq: int, ts_recv: Sequence[int], conn: Sequence[int], code: Sequence[int], data: Sequence[bytes]
) -> bytes:
    """Write frames as one record."""
    parts = (
        _BATCH.pack(_FRAMES, first_seq, len(data)),
        array("q", ts_recv).tobytes(),
        array("i", conn).tobytes(),
        bytes(code),
        array("I", map(len, data)).tobytes(),
        *data,
    )
    return _record(b"".join(parts))


def encode_end(last_seq: int) -> bytes:
    """Write the end of a finished segment."""
    return _record(_END_RECORD.pack(_END, last_seq))


def _record(payload: bytes) -> bytes:
    length = len(payload)
    crc = zlib.crc32(payload, zlib.crc32(length.to_bytes(4, "little")))
    return _RECORD.pack(length, crc) + payload


class Bad(NamedTuple):
    """Where a segment stops making sense, and how."""

    offset: int
    what: str


class Scan:
    """Reads a segment's bytes, record by record; `whole` is false where they begin at a later record.

    Iterating gives every complete batch. Afterwards `end` is the offset behind the last good record, `bad` says what
    stands there instead of a record (None: nothing does), and `finished` says whether the end record was met.
    """

    def __init__(self, segment: bytes | memoryview, *, whole: bool = True) -> None:
        self._view = memoryview(segment)
        self._whole = whole
        self.header: Header | None = None
        self.end = 0
        self.bad: Bad | None = None
        self.finished = False

    def __iter__(self) -> Iterator[FrameBatch]:
        if self._whole:
            if bytes(self._view[: len(MAGIC)]) != MAGIC:
                self._stop(_unlike_magic(bytes(self._view[: len(MAGIC)])))
                return
            self.end = len(MAGIC)
        while (payload := self._next()) is not None:
            kind = bytes(payload[:1])
            if kind not in (_FRAMES, _HEADER, _END) or self.finished:
                self._stop("a record after the end" if self.finished else f"a record of unknown type {kind!r}")
                return
            self.end += _RECORD.size + len(payload)
            if kind == _FRAMES:
                yield _decode_batch(payload)
            elif kind == _HEADER:
                self.header = msgspec.json.decode(payload[1:], type=Header)
            else:
                self.finished = True

    def _next(self) -> memoryview | None:
        left = len(self._view) - self.end
        if left == 0:
            return None
        if left < _RECORD.size:
            self._stop("an incomplete record")
            return None
        length, crc = _RECORD.unpack_from(self._view, self.end)
        begin = self.end + _RECORD.size
        payload = self._view[begin : begin + length]
        if length == 0:
            self._stop("an empty record")
        elif len(payload) < length:
            self._stop("an incomplete record")
        elif zlib.crc32(payload, zlib.crc32(length.to_bytes(4, "little"))) != crc:
            self._stop("a record whose checksum does not match")
        else:
            return payload
        return None

    def _stop(self, what: str) -> None:
        self.bad = Bad(self.end, what)


def _unlike_magic(head: bytes) -> str:
    if len(head) < len(MAGIC):
        return "an incomplete beginning"
    if head[:-1] == MAGIC[:-1]:
        return f"a journal of format {head[-1]}, while this recorder reads format {MAGIC[-1]},"
    return "something that is no journal segment"


def _decode_batch(payload: memoryview) -> FrameBatch:
    _, first_seq, count = _BATCH.unpack_from(payload)
    at = _BATCH.size
    ts_recv = np.frombuffer(payload, "<i8", count, at)
    conn = np.frombuffer(payload, "<i4", count, at + 8 * count)
    code = np.frombuffer(payload, "u1", count, at + 12 * count)
    lengths = np.frombuffer(payload, "<u4", count, at + 13 * count)
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return FrameBatch(first_seq, ts_recv, conn, code, offsets, payload[at + 17 * count :])


def concat(batches: Sequence[FrameBatch]) -> FrameBatch:
    """Join batches that follow one another."""
    if len(batches) == 1:
        return batches[0]
    for before, after in pairwise(batches):
        assert after.first_seq == before.last_seq + 1, "batches do not follow one another"
    bases = np.cumsum([0, *(int(batch.offsets[-1]) for batch in batches[:-1])])
    offsets = [batch.offsets[:-1] + base for batch, base in zip(batches, bases, strict=True)]
    end = int(bases[-1] + batches[-1].offsets[-1])
    return FrameBatch(
        batches[0].first_seq,
        np.concatenate([batch.ts_recv for batch in batches]),
        np.concatenate([batch.conn for batch in batches]),
        np.concatenate([batch.code for batch in batches]),
        np.concatenate([*offsets, np.array([end])]),
        memoryview(b"".join(batch.blob for batch in batches)),
    )


def gathered(batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
    """Join small batches that follow one another to ones of `CHUNK` frames or more; the last may be smaller."""
    pending: list[FrameBatch] = []
    waiting = 0
    for batch in batches:
        pending.append(batch)
        waiting += len(batch)
        if waiting >= CHUNK:
            yield concat(pending)
            pending, waiting = [], 0
    if pending:
        yield concat(pending)


def tail(batch: FrameBatch, first_seq: int) -> FrameBatch:
    """Give the frames from `first_seq` on; at least one is left."""
    skip = first_seq - batch.first_seq
    return cut(batch, skip, len(batch)) if skip > 0 else batch


def cut(batch: FrameBatch, first: int, last: int) -> FrameBatch:
    """Give the frames from place `first` on, up to `last`, as slices are counted."""
    begin, end = int(batch.offsets[first]), int(batch.offsets[last])
    return FrameBatch(
        batch.first_seq + first,
        batch.ts_recv[first:last],
        batch.conn[first:last],
        batch.code[first:last],
        batch.offsets[first : last + 1] - begin,
        batch.blob[begin:end],
    )


def segment_name(session: str, first_seq: int) -> str:
    """Name a segment so that names sort in the order of the frames."""
    return f"{session}-{first_seq:012d}{SUFFIX}"


def parse_segment_name(name: str) -> tuple[str, int] | None:
    """Read a segment's session and first sequence number from its name; None if it is no segment's name."""
    stem, dot, suffix = name.rpartition(".")
    session, dash, first = stem.rpartition("-")
    if f"{dot}{suffix}" != SUFFIX or not dash or not session or not first.isdecimal():
        return None
    return session, int(first)
