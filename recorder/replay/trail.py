"""The trail of a connection: what shows, frame by frame, how much of what was sent has arrived.

A connection that breaks off loses what was under way. The content digest of all that was sent then says nothing about
what arrived; the trail does: digests up to a point that surely arrived, and from there one digest a frame.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from recorder.protocol.masking import mask_tic
from recorder.replay.batch import Batch, Listed
from recorder.replay.tally import Counted, Tally

BLOCK: Final = 32_768
"""A trail shows at least this many of the last frames one by one, if there were as many."""
SHORT: Final = 8
"""Bytes of the digest of one frame."""


class Shown(NamedTuple):
    """Count and content digest by topic of the first `first` frames, and the digest of each that followed, in hex."""

    first: int
    topics: Mapping[str, Counted]
    frames: str


class Trail(Tally):
    """A tally that also keeps the trail."""

    def __init__(self) -> None:
        super().__init__()
        self._starts: deque[tuple[int, Mapping[str, Counted]]] = deque([(0, {})], maxlen=2)
        self._last: deque[bytes] = deque()

    def take(self, batch: Batch) -> None:
        """Take the next frames in, one by one: blocks begin where they do."""
        for stream, data in batch:
            super().take(Listed([stream], [data]))
            self._last.append(short_digest(mask_tic(data) if stream == "tic" else data))
            if self.frames % BLOCK == 0:
                self._starts.append((self.frames, self.totals()))
                while len(self._last) > self.frames - self._starts[0][0]:
                    self._last.popleft()

    def shown(self) -> Shown:
        """Give what the trail shows now."""
        first, topics = self._starts[0]
        return Shown(first, topics, b"".join(self._last).hex())


def short_digest(data: bytes) -> bytes:
    """Digest one frame as it is recorded: the id of a `tic` is masked by then."""
    return hashlib.sha256(data).digest()[:SHORT]
