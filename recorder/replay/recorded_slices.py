"""Recorded frames for a gateway: read ahead in a thread, and with what happened between them.

What a gateway says of its own accord (`system`, `sts`, `act`, `tic`, echoes) and what has no topic is not given again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from recorder.archive.reading import Reader, Span
from recorder.protocol.envelope import read_json
from recorder.protocol.marks import decode_mark
from recorder.protocol.segment import CODES, FrameBatch, cut
from recorder.replay.recorded_run import Columns, columns_of

OWN: Final = frozenset({"system", "act", "sts", "tic", "ech", "ech+hb"})
_IN: Final = np.array([CODES["in text"], CODES["in binary"]], np.uint8)
_REST: Final = np.array([CODES["rest text"], CODES["rest binary"]], np.uint8)
_ORDERS: Final = b"/iserver/account/orders"
_STOPPED: Final = "stopped"
"""The reason of a connection that the recorder itself has ended."""


class Happening(NamedTuple):
    """What a recording has between the frames that are given, and where: `place` counts all frames.

    The connection ended, but not by the recorder's own doing; the gateway told whether there is a brokerage session;
    or REST answered with the orders of the day (`answer`).
    """

    place: int
    what: Literal["disconnected", "lost", "regained", "orders"]
    answer: bytes = b""


class Loaded(NamedTuple):
    """Frames in memory: of which session, T of each, and of those that a gateway gives again the place and columns."""

    session: str
    latest: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    columns: Columns
    happenings: Sequence[Happening]


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
            yield load(piece.session, cut(batch, first, last), latest[first:last])


def load(session: str, batch: FrameBatch, latest: npt.NDArray[np.int64]) -> Loaded:
    """Look through a batch: what of it is given again, and what happened."""
    received = np.isin(batch.code, _IN)
    columns = columns_of(batch.offsets, batch.blob, received)
    places = np.flatnonzero(received)
    own = [number for number, name in enumerate(columns.names) if not name or name in OWN]
    mask = ~np.isin(columns.numbers, own)
    happenings = [*_told(columns, places), *_noted(batch), *_answered(batch)]
    if not mask.all():
        columns, places = columns.chosen(mask), places[mask]
    return Loaded(session, latest, places, columns, sorted(happenings))


def authenticated_of(data: bytes) -> bool | None:
    """Read whether an `sts` frame says that there is a brokerage session; None if it says nothing of it."""
    content: Any = read_json(data)
    args = content.get("args") if isinstance(content, dict) else None
    told = args.get("authenticated") if isinstance(args, dict) else None
    return told if isinstance(told, bool) else None


def _told(columns: Columns, places: npt.NDArray[np.int64]) -> Iterator[Happening]:
    """Find what the gateway told of the brokerage session."""
    if "sts" not in columns.names:
        return
    numbers = np.flatnonzero(columns.numbers == columns.names.index("sts"))
    for place, data in zip(places[numbers].tolist(), columns.payloads(numbers), strict=True):
        told = authenticated_of(data)
        if told is not None:
            yield Happening(place, "regained" if told else "lost")


def _noted(batch: FrameBatch) -> Iterator[Happening]:
    """Find where the recorded connection ended, unless the recorder itself had ended it."""
    for place, data in batch.marks():
        mark = decode_mark(data)
        if mark["event"] == "disconnected" and mark.get("reason") != _STOPPED:
            yield Happening(place, "disconnected")


def _answered(batch: FrameBatch) -> Iterator[Happening]:
    """Find the answers of REST that list orders."""
    for place in np.flatnonzero(np.isin(batch.code, _REST)).tolist():
        line, _, body = bytes(batch.blob[batch.offsets[place] : batch.offsets[place + 1]]).partition(b"\n")
        if _ORDERS in line:
            yield Happening(place, "orders", body)
