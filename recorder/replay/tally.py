"""The tally of what was sent: count and content digest per topic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from recorder.protocol.digest import ContentDigest
from recorder.replay.batch import Batch, Listed


class Counted(NamedTuple):
    """How many frames of a topic, and their content digest."""

    frames: int
    digest: str


class Tally:
    """Counts and digests frames in the order in which they are sent, the id in a `tic` masked."""

    def __init__(self) -> None:
        self._digests: dict[str, ContentDigest] = {}
        self.frames = 0

    def add(self, stream: str | None, data: bytes) -> None:
        """Take the next frame in; `stream` is its wire topic."""
        self.take(Listed([stream or ""], [data]))

    def take(self, batch: Batch) -> None:
        """Take the next frames in: by topics, which is what digests are of."""
        for topic, frames, lengths, payloads in batch.of_topics:
            digest = self._digests.get(topic)
            if digest is None:
                digest = self._digests[topic] = ContentDigest(topic)
            digest.extend_joined(frames, lengths, payloads)
        self.frames += len(batch)

    def totals(self) -> Mapping[str, Counted]:
        """Give count and digest of each topic, by name."""
        return {name: Counted(one.count, one.hexdigest()) for name, one in sorted(self._digests.items())}

    def copied(self) -> dict[str, ContentDigest]:
        """Copy the digests with what was taken in so far."""
        return {name: one.copy() for name, one in self._digests.items()}


class Total(Tally):
    """What was sent to all clients, in the order of sending: while only one was sent anything, what its tally says."""

    def __init__(self) -> None:
        super().__init__()
        self._only: Tally | None = None

    def take_of(self, tally: Tally, batch: Batch) -> None:
        """Take in what a client's tally has just taken in."""
        if self._only is None and not self.frames:
            self._only = tally
        if self._only is tally:
            self.frames += len(batch)
            return
        if self._only is not None:
            self._digests, self._only = self._only.copied(), None
        self.take(batch)

    def totals(self) -> Mapping[str, Counted]:
        """Give count and digest of each topic, by name."""
        return super().totals() if self._only is None else self._only.totals()
