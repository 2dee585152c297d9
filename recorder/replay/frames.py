"""Frames out again, byte for byte and in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recorder.archive.reading import Reader, Span
from recorder.protocol.digest import ContentDigest
from recorder.protocol.envelope import wire_topic
from recorder.protocol.topics import Topic
from recorder.replay.merge import merge
from recorder.types import Frame, Kind


def frames(
    reader: Reader, *, span: Span, kinds: frozenset[Kind], topics: Sequence[Topic] | None = None
) -> Iterator[tuple[int, Frame]]:
    """Give recorded frames, each with T (microseconds); with `topics`, received ones that one of them claims."""
    names = None if topics is None else {topic.name for topic in topics}
    for latest, frame in merge({recorder: _frames_of(reader, recorder, span) for recorder in reader.recorders()}):
        if frame.kind not in kinds:
            continue
        if names is not None:
            topic = reader.topics.claiming(wire_topic(frame.data)) if frame.kind == "in" else None
            if topic is None or topic.name not in names:
                continue
        yield latest, frame


def _frames_of(reader: Reader, recorder: str, span: Span) -> Iterator[Frame]:
    start = -(2**63) if span.start is None else span.start
    end = 2**63 if span.end is None else span.end
    for piece, batch in reader.batches(recorder, span):
        for frame in batch.frames(recorder, piece.session):
            if start <= frame.ts_recv < end:
                yield frame


def topic_digests(reader: Reader, *, span: Span) -> dict[str, ContentDigest]:
    """Compute the content digest of each topic's received frames, in the order of replay."""
    digests: dict[str, ContentDigest] = {}
    for _, frame in frames(reader, span=span, kinds=frozenset({"in"})):
        topic = reader.topics.claiming(wire_topic(frame.data))
        if topic is not None:
            digests.setdefault(topic.name, ContentDigest(topic.name)).add(frame.data)
    return digests
