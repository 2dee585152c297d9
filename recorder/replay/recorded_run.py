"""Recorded frames as columns: what a batch needs of them is made at the speed of C, for thousands at once.

1. A run is a cut of columns and shares them. The columns are put into WebSocket frames once, for all runs and clients.
2. Columns are made in a thread, in steps short enough that the gateway's pace does not suffer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recorder.protocol.envelope import wire_topic
from recorder.protocol.projection import keys_of
from recorder.replay.batch import Batch, OfTopic, topic_of
from recorder.replay.last_values import keys_among, telling

Offsets = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]

_STEP: Final = 2_048  # frames that are looked into at once: well below a millisecond
_SHORT: Final = 126
_MEDIUM: Final = 1 << 16
_NOTHING: Final = pa.scalar(b"", pa.large_binary())
_NEWLINE: Final = pa.scalar(b"\n", pa.large_binary())


class _Envelope(msgspec.Struct):
    topic: str | None = None


_decode_lines = msgspec.json.Decoder(_Envelope).decode_lines


class Columns:
    """Frames side by side: `names` of streams, the number of each frame's name, and the payloads behind one another.

    `offsets` has one more value than there are frames; frame i is `blob[offsets[i]:offsets[i + 1]]`.
    """

    def __init__(self, names: Sequence[str], numbers: Numbers, offsets: Offsets, blob: memoryview) -> None:
        self.names = names
        self.numbers = numbers
        self.offsets = offsets
        self.blob = blob
        self._framed: dict[int, tuple[Offsets, memoryview]] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def payloads(self, places: npt.NDArray[np.int64] | slice = slice(None)) -> list[bytes]:
        """Give the bytes of some frames."""
        starts, ends = self.offsets[:-1][places].tolist(), self.offsets[1:][places].tolist()
        return [bytes(self.blob[start:end]) for start, end in zip(starts, ends, strict=True)]

    @cached_property
    def keys(self) -> frozenset[str] | None:
        """The keys that any of its market data has, or more; None if one of these frames cannot be read."""
        market = np.array([name[:4] == "smd+" for name in self.names], bool)
        chosen = self if market.all() else self.chosen(market[self.numbers])
        found = keys_among(chosen.offsets, chosen.blob)
        return keys_of(chosen.payloads()) if found is None else found.names

    def chosen(self, mask: npt.NDArray[np.bool_]) -> Columns:
        """Give the frames where a mask is true."""
        payloads = _binary(self.offsets, self.blob).filter(pa.array(mask))
        return Columns(self.names, self.numbers[mask], *_parts(payloads))

    def framed(self, opcode: int) -> tuple[Offsets, memoryview]:
        """Put each payload into a WebSocket frame as a server writes it, unmasked (RFC 6455, 5.2)."""
        known = self._framed.get(opcode)
        if known is None:
            headers = _headers(np.diff(self.offsets), opcode)
            joined = pc.binary_join_element_wise(headers, _binary(self.offsets, self.blob), _NOTHING)
            known = self._framed[opcode] = _parts(joined)
        return known


class Run(Batch):
    """The frames `first` to `last` (exclusive) of columns."""

    def __init__(self, columns: Columns, first: int, last: int) -> None:
        super().__init__()
        self.columns = columns
        self.first = first
        self.last = last

    def __len__(self) -> int:
        return self.last - self.first

    @cached_property
    def streams(self) -> Sequence[str]:
        """The stream of each frame."""
        return [self.columns.names[number] for number in self._numbers.tolist()]

    @cached_property
    def data(self) -> Sequence[bytes]:
        """The bytes of each frame."""
        return self.columns.payloads(slice(self.first, self.last))

    @cached_property
    def names(self) -> frozenset[str]:
        """The streams that it has frames of."""
        names = self.columns.names
        return frozenset(names[number] for number in np.flatnonzero(np.bincount(self._numbers)).tolist())

    @property
    def keys(self) -> frozenset[str] | None:
        """The keys that any market data of its columns has."""
        return self.columns.keys

    def wire(self, opcode: int) -> memoryview:
        """Give its frames as they go over a WebSocket, all at once."""
        offsets, blob = self.columns.framed(opcode)
        return blob[int(offsets[self.first]) : int(offsets[self.last])]

    @cached_property
    def of_topics(self) -> Sequence[OfTopic]:
        """Its frames by topic; there is no `tic` among them."""
        topics = sorted({topic_of(name) for name in self.names})
        if len(topics) == 1:
            return [self.joined(topics[0])]
        number_of = np.array([topics.index(topic) if topic in topics else -1
                              for topic in map(topic_of, self.columns.names)], np.int32)  # fmt: skip
        cut = self._cut()
        masks = [number_of[self._numbers] == number for number in range(len(topics))]
        return [
            Run(part := cut.chosen(mask), 0, len(part)).joined(topic) for topic, mask in zip(topics, masks, strict=True)
        ]

    def joined(self, topic: str) -> OfTopic:
        """Give all its frames as those of one topic."""
        offsets = self.columns.offsets[self.first : self.last + 1]
        lengths = np.diff(offsets).astype("<u4").tobytes()
        return OfTopic(topic, len(self), lengths, self.columns.blob[int(offsets[0]) : int(offsets[-1])])

    @property
    def size(self) -> int:
        """How many bytes its payloads have."""
        offsets = self.columns.offsets
        return int(offsets[self.last] - offsets[self.first])

    def telling(self) -> Mapping[str, list[bytes]]:
        """Give the frames by stream, in order; of market data, where it can, only those that tell a last value."""
        cut = self._cut()
        market = np.array([name[:4] == "smd+" for name in cut.names], bool)[cut.numbers]
        quotes = cut if market.all() else cut.chosen(market)
        keys = keys_among(quotes.offsets, quotes.blob)
        wanted = np.ones(len(cut), bool)
        if keys is not None:
            wanted[market] = False
            wanted[np.flatnonzero(market)[telling(quotes.numbers, keys)]] = True
        places = np.flatnonzero(wanted)
        frames: dict[str, list[bytes]] = {}
        for number, data in zip(cut.numbers[places].tolist(), cut.payloads(places), strict=True):
            frames.setdefault(cut.names[number], []).append(data)
        return frames

    @property
    def _numbers(self) -> Numbers:
        return self.columns.numbers[self.first : self.last]

    def _cut(self) -> Columns:
        columns = self.columns
        return Columns(columns.names, self._numbers, columns.offsets[self.first : self.last + 1], columns.blob)

    def chosen(self, names: Collection[str]) -> Run:
        """Give the frames of some streams."""
        wanted = np.array([name in names for name in self.columns.names], bool)
        part = self._cut().chosen(wanted[self._numbers])
        return Run(part, 0, len(part))


def columns_of(offsets: Offsets, blob: memoryview, mask: npt.NDArray[np.bool_]) -> Columns:
    """Make columns of the payloads where a mask is true; `names` has an empty one, for frames without a topic."""
    payloads = _binary(offsets, blob)
    if not mask.all():
        payloads = payloads.filter(pa.array(mask))
    numbers = {"": 0}
    of_frames = [
        numbers.setdefault(topic or "", len(numbers))
        for first in range(0, len(payloads), _STEP)
        for topic in _topics_of(payloads.slice(first, _STEP))
    ]
    return Columns(list(numbers), np.array(of_frames, np.int32), *_parts(payloads))


def _topics_of(payloads: pa.LargeBinaryArray) -> Sequence[str | None]:
    """Find the wire topic of each frame, as `wire_topic` does, all at once where they are plain."""
    lines = _parts(pc.binary_join_element_wise(payloads, _NEWLINE, _NOTHING))[1]
    if np.count_nonzero(np.frombuffer(lines, np.uint8) == ord("\n")) == len(payloads):
        try:
            found = [envelope.topic for envelope in _decode_lines(lines)]
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = []
        if len(found) == len(payloads):
            return found
    return [wire_topic(data) for data in payloads.to_pylist()]


def _binary(offsets: Offsets, blob: memoryview) -> pa.LargeBinaryArray:
    edges = pa.py_buffer(np.ascontiguousarray(offsets))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, [None, edges, pa.py_buffer(blob)])


def _parts(payloads: pa.LargeBinaryArray) -> tuple[Offsets, memoryview]:
    """Give where each payload begins, and the payloads behind one another from there on."""
    _, edges, blob = payloads.buffers()
    if edges is None:
        return np.zeros(1, np.int64), memoryview(b"")
    offsets = np.frombuffer(edges, np.int64)[payloads.offset : payloads.offset + len(payloads) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    return offsets - first, memoryview(blob if blob is not None else b"")[first:last]


def _headers(lengths: Offsets, opcode: int) -> pa.LargeBinaryArray:
    """Write the header of a frame for each length."""
    sizes = np.where(lengths < _SHORT, 2, np.where(lengths < _MEDIUM, 4, 10))
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    headers = np.zeros(int(offsets[-1]), np.uint8)
    starts = offsets[:-1]
    headers[starts] = opcode
    for size, mark in ((2, None), (4, 126), (10, 127)):
        places, values = starts[sizes == size], lengths[sizes == size]
        if mark is not None:
            headers[places + 1] = mark
        digits = size - 2 if mark is not None else 1
        for digit in range(digits):
            headers[places + size - 1 - digit] = (values >> (8 * digit)) & 0xFF
    return _binary(offsets, memoryview(headers.data))
