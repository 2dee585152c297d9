"""A batch: frames of several streams side by side, and what is made of them once for all clients.

1. The order of frames in a batch is that in which clients get them.
2. Who wants what is said by stream (`Wanted`); clients that want the same share one part, made once.
3. What can go out as it is is not looked into.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import chain, compress
from typing import Final, NamedTuple

from recorder.protocol.masking import mask_tic
from recorder.protocol.projection import keys_of, narrowed
from recorder.protocol.topics import load_topics

UNCLAIMED: Final = "unclaimed"  # frames that no topic file claims: `waiting for session`, errors without a topic

_SHORT: Final = 126
_MEDIUM: Final = 1 << 16
_pack_short = struct.Struct("!BB").pack
_pack_medium = struct.Struct("!BBH").pack
_pack_long = struct.Struct("!BBQ").pack

Wanted = tuple[tuple[str, frozenset[str] | None], ...]
"""The streams of a batch that a client gets, each with the keys its frames may carry (None: all)."""


class Update(NamedTuple):
    """One frame of a stream."""

    stream: str
    data: bytes


class OfTopic(NamedTuple):
    """The frames of one topic in a batch, as a content digest takes them."""

    topic: str
    frames: int
    lengths: bytes  # 32-bit little-endian each
    payloads: bytes | memoryview  # behind one another


class Batch(ABC):
    """Frames of several streams: `Listed`, or recorded ones as columns."""

    def __init__(self) -> None:
        self._parts: dict[Wanted, Batch] = {}

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Update]:
        return map(Update, self.streams, self.data)

    @property
    @abstractmethod
    def streams(self) -> Sequence[str]:
        """The stream of each frame."""

    @property
    @abstractmethod
    def data(self) -> Sequence[bytes]:
        """The bytes of each frame."""

    @property
    @abstractmethod
    def names(self) -> frozenset[str]:
        """The streams that it has frames of."""

    @property
    @abstractmethod
    def keys(self) -> frozenset[str] | None:
        """The keys that any of its market data has, or more; None if that cannot be said."""

    @property
    @abstractmethod
    def of_topics(self) -> Sequence[OfTopic]:
        """Its frames by topic; the id in a `tic` masked."""

    @abstractmethod
    def wire(self, opcode: int) -> bytes | memoryview:
        """Give its frames as they go over a WebSocket, all at once."""

    @abstractmethod
    def chosen(self, names: Collection[str]) -> Batch:
        """Give the frames of some streams."""

    def part(self, wanted: Wanted) -> Batch:
        """Give what a client gets of it."""
        narrow = {name for name, keys in wanted if not self._passes(keys)}
        if not narrow and len(wanted) == len(self.names):
            return self
        part = self._parts.get(wanted)
        if part is None:
            names = dict(wanted)
            part = self._parts[wanted] = self._narrowed(names, narrow) if narrow else self.chosen(names)
        return part

    def _passes(self, keys: frozenset[str] | None) -> bool:
        """Say whether every frame may go out as it is to a client that gets these keys."""
        return keys is None or (self.keys is not None and keys.issuperset(self.keys))

    def _narrowed(self, wanted: Mapping[str, frozenset[str] | None], narrow: Collection[str]) -> Batch:
        """Give the frames of some streams, looking into those of which not every key may go out."""
        streams: list[str] = []
        parts: list[bytes] = []
        for stream, data in zip(self.streams, self.data, strict=True):
            if stream not in wanted:
                continue
            part = narrowed(data, wanted[stream]) if stream in narrow else data
            if part is not None:
                streams.append(stream)
                parts.append(part)
        return Listed(streams, parts)


class Listed(Batch):
    """Frames as two lists side by side: the stream of each, and its bytes."""

    def __init__(self, streams: Sequence[str], data: Sequence[bytes]) -> None:
        super().__init__()
        self._streams = streams
        self._data = data
        self._wires: dict[int, bytes] = {}

    @property
    def streams(self) -> Sequence[str]:
        """The stream of each frame."""
        return self._streams

    @property
    def data(self) -> Sequence[bytes]:
        """The bytes of each frame."""
        return self._data

    @cached_property
    def names(self) -> frozenset[str]:
        """The streams that it has frames of."""
        return frozenset(self._streams)

    @cached_property
    def keys(self) -> frozenset[str] | None:
        """The keys that any of its market data has; None if one of these frames cannot be read."""
        return keys_of([data for stream, data in self if stream[:4] == "smd+"])

    @cached_property
    def of_topics(self) -> Sequence[OfTopic]:
        """Its frames by topic; the id in a `tic` masked."""
        by_topic: dict[str, list[bytes]] = {}
        for stream, data in self:
            by_topic.setdefault(topic_of(stream), []).append(mask_tic(data) if stream == "tic" else data)
        return [
            OfTopic(topic, len(frames), array("I", map(len, frames)).tobytes(), b"".join(frames))
            for topic, frames in by_topic.items()
        ]

    def wire(self, opcode: int) -> bytes:
        """Give its frames as they go over a WebSocket, all at once."""
        wire = self._wires.get(opcode)
        if wire is None:
            wire = self._wires[opcode] = framed(self._data, opcode)
        return wire

    def chosen(self, names: Collection[str]) -> Listed:
        """Give the frames of some streams."""
        chosen = [stream in names for stream in self._streams]
        return Listed(list(compress(self._streams, chosen)), list(compress(self._data, chosen)))


def batch_of(updates: Sequence[Update]) -> Listed:
    """Make a batch of updates."""
    return Listed([update.stream for update in updates], [update.data for update in updates])


def topic_of(stream: str) -> str:
    """Name the topic of a wire topic."""
    return _claiming(stream.partition("+")[0])


@cache
def _claiming(prefix: str) -> str:
    topic = load_topics().claiming(prefix)
    return topic.name if topic else UNCLAIMED


def framed(payloads: Collection[bytes], opcode: int) -> bytes:
    """Put each payload into a WebSocket frame as a server writes it, unmasked (RFC 6455, 5.2)."""
    lengths = list(map(len, payloads))
    headers = {length: _header(length, opcode) for length in set(lengths)}
    return b"".join(chain.from_iterable(zip(map(headers.__getitem__, lengths), payloads, strict=True)))


def _header(length: int, opcode: int) -> bytes:
    if length < _SHORT:
        return _pack_short(opcode, length)
    if length < _MEDIUM:
        return _pack_medium(opcode, 126, length)
    return _pack_long(opcode, 127, length)
