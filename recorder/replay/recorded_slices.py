"""Recorded frames for a gateway: read ahead in a thread, and cut where something befell the recorded connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from recorder.archive.reading import Reader, Span
from recorder.protocol.envelope import wire_topic
from recorder.protocol.marks import decode_mark
from recorder.protocol.segment import CODES, FrameBatch

_IN: Final = np.array([CODES["in text"], CODES["in binary"]], np.uint8)
_REST: Final = np.array([CODES["rest text"], CODES["rest binary"]], np.uint8)
_MARK: Final = np.array([CODES["mark text"], CODES["mark binary"]], np.uint8)
_STOPPED: Final = "stopped"
"""The reason of a connection that the recorder itself has ended."""


class _Envelope(msgspec.Struct):
    topic: str | None = None


_decode_lines = msgspec.json.Decoder(_Envelope).decode_lines


class Loaded(NamedTuple):
    """Frames in memory: of which session, and T of each."""

    session: str
    batch: FrameBatch
    latest: npt.NDArray[np.int64]


class Piece(NamedTuple):
    """A run of frames cut out: the streams and bytes of those received, and the answers of REST among them."""

    streams: list[str | None]
    data: list[bytes]
    places: npt.NDArray[np.int64]  # of the received frames in the batch
    rest: list[bytes]


class Ahead:
    """Reads a recorder's frames from a moment on, one batch ahead of whoever takes them."""

    def __init__(self, reader: Reader, recorder: str, span: Span) -> None:
        self._batches = loaded(reader, recorder, span)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="replay")
        self._next: Future[Loaded | None] = self._thread.submit(next, self._batches, None)

    async def next(self) -> Loaded | None:
        """Give the next batch; None at the end. `Damaged` for what cannot be read."""
        batch = await asyncio.wrap_future(self._next)
        if batch is not None:
            self._next = self._thread.submit(next, self._batches, None)
        return batch

    def close(self) -> None:
        """Read no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def loaded(reader: Reader, recorder: str, span: Span) -> Iterator[Loaded]:
    """Give the batches of a recorder whose T lies in a span, cut to it."""
    for piece, batch, latest in reader.batches(recorder, span, exact=False):
        first = 0 if span.start is None else int(np.searchsorted(latest, span.start))
        last = len(latest) if span.end is None else int(np.searchsorted(latest, span.end))
        if first < last:
            yield Loaded(piece.session, _cut(batch, first, last), latest[first:last])


def _cut(batch: FrameBatch, first: int, last: int) -> FrameBatch:
    return FrameBatch(
        batch.first_seq + first,
        batch.ts_recv[first:last],
        batch.conn[first:last],
        batch.code[first:last],
        batch.offsets[first : last + 1],
        batch.blob,
    )


def take(batch: FrameBatch, first: int, last: int) -> Piece:
    """Cut frames out of a batch."""
    code, offsets = batch.code[first:last], batch.offsets
    places = np.flatnonzero(np.isin(code, _IN)) + first
    begin = int(offsets[first])
    blob = bytes(batch.blob[begin : int(offsets[last])])
    if len(places) == last - first:
        edges = (offsets[first : last + 1] - begin).tolist()
        data = [blob[start:end] for start, end in pairwise(edges)]
        return Piece(topics_of(data), data, places, [])
    starts, ends = (offsets[places] - begin).tolist(), (offsets[places + 1] - begin).tolist()
    data = [blob[start:end] for start, end in zip(starts, ends, strict=True)]
    answers = np.flatnonzero(np.isin(code, _REST)) + first
    rest = [bytes(batch.blob[offsets[place] : offsets[place + 1]]) for place in answers]
    return Piece(topics_of(data), data, places, rest)


def first_break(batch: FrameBatch, first: int, last: int) -> int | None:
    """Find where the recorded connection ended among frames, unless the recorder itself had ended it."""
    for place in (np.flatnonzero(np.isin(batch.code[first:last], _MARK)) + first).tolist():
        mark = decode_mark(bytes(batch.blob[batch.offsets[place] : batch.offsets[place + 1]]))
        if mark["event"] == "disconnected" and mark.get("reason") != _STOPPED:
            return int(place)
    return None


def topics_of(data: Sequence[bytes]) -> list[str | None]:
    """Find the wire topic of each frame, as `wire_topic` does, all at once where they are plain."""
    lines = b"\n".join(data)
    if lines.count(b"\n") == len(data) - 1:
        try:
            found = [envelope.topic for envelope in _decode_lines(lines)]
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = []
        if len(found) == len(data):
            return found
    return [wire_topic(frame) for frame in data]
