"""The tally of what was sent: count and content digest per topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

from recorder.protocol.digest import ContentDigest
from recorder.protocol.masking import mask_tic
from recorder.protocol.topics import load_topics

UNCLAIMED: Final = "unclaimed"  # frames that no topic file claims: `waiting for session`, errors without a topic


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
        topic = topic_of((stream or "").partition("+")[0])
        digest = self._digests.get(topic)
        if digest is None:
            digest = self._digests[topic] = ContentDigest(topic)
        digest.add(mask_tic(data) if stream == "tic" else data)
        self.frames += 1

    def extend(self, streams: Sequence[str | None], frames: Sequence[bytes]) -> None:
        """Take the next frames in, the stream of each beside it: by topics, which is what digests are of."""
        named = {stream: topic_of((stream or "").partition("+")[0]) for stream in set(streams)}
        topics = set(named.values())
        if "tic" in named:
            pairs = zip(streams, frames, strict=True)
            frames = [mask_tic(data) if stream == "tic" else data for stream, data in pairs]
        for topic in topics:
            of_topic = frames
            if len(topics) > 1:
                of_topic = [data for stream, data in zip(streams, frames, strict=True) if named[stream] == topic]
            self._digests.setdefault(topic, ContentDigest(topic)).extend(of_topic)
        self.frames += len(frames)

    def totals(self) -> Mapping[str, Counted]:
        """Give count and digest of each topic, by name."""
        return {name: Counted(one.count, one.hexdigest()) for name, one in sorted(self._digests.items())}


@cache
def topic_of(prefix: str) -> str:
    """Name the topic of a wire prefix."""
    topic = load_topics().claiming(prefix)
    return topic.name if topic else UNCLAIMED
