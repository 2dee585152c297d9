"""Frames out again, byte for byte and in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recorder.archive.reading import Reader, Span
from recorder.protocol.digest import ContentDigest
from recorder.protocol.envelope import wire_topic
from recorder.protocol.marks import decode_mark
from recorder.protocol.topics import Topic, Topics
from recorder.replay.events import Event, events_of_recorder
from recorder.replay.merge import merge
from recorder.types import Frame, Kind


def frames(
    reader: Reader,
    *,
    span: Span,
    kinds: frozenset[Kind],
    topics: Sequence[Topic] | None = None,
    conids: Sequence[int] | None = None,
) -> Iterator[tuple[int, Frame]]:
    """Give recorded frames, each with T (microseconds).

    `topics` keeps those that one of them claims, `conids` those that a row of these contracts came from.
    """
    names = None if topics is None else {topic.name for topic in topics}
    recorders = reader.recorders()
    streams = {
        recorder: _frames_of(reader, recorder, span=span, topics=topics, conids=conids, exact=len(recorders) > 1)
        for recorder in recorders
    }
    for latest, frame in merge(streams):
        if frame.kind not in kinds:
            continue
        if names is not None:
            topic = claiming(reader.topics, frame)
            if topic is None or topic.name not in names:
                continue
        yield latest, frame


def claiming(topics: Topics, frame: Frame) -> Topic | None:
    """Find the topic that a frame, a recorded REST answer or a mark belongs to, as the decoder does."""
    if frame.kind == "in":
        return topics.claiming(wire_topic(frame.data))
    if frame.kind == "rest":
        request = frame.data.partition(b"\n")[0].decode("utf-8", "replace")
        path = request.partition(" ")[2].partition("?")[0]
        return next((topic for topic in topics if topic.rest is not None and path.endswith(topic.rest.path)), None)
    if frame.kind == "mark":
        return topics.by_event.get(decode_mark(frame.data)["event"])
    return None


def _frames_of(
    reader: Reader,
    recorder: str,
    *,
    span: Span,
    topics: Sequence[Topic] | None,
    conids: Sequence[int] | None,
    exact: bool,
) -> Iterator[tuple[int, Frame]]:
    found = _in_span(reader, recorder, span, exact=exact)
    if conids is None:
        return found
    chosen = list(reader.topics if topics is None else topics)
    rows = events_of_recorder(reader, recorder, chosen, conids=conids, span=span, columns=())
    return _with_rows(found, rows)


def _in_span(reader: Reader, recorder: str, span: Span, *, exact: bool) -> Iterator[tuple[int, Frame]]:
    start = -(2**63) if span.start is None else span.start
    end = 2**63 if span.end is None else span.end
    for piece, batch, latest in reader.batches(recorder, span, exact=exact):
        for pair in zip(latest.tolist(), batch.frames(recorder, piece.session), strict=True):
            if start <= pair[1].ts_recv < end:
                yield pair


def _with_rows(found: Iterator[tuple[int, Frame]], rows: Iterator[Event]) -> Iterator[tuple[int, Frame]]:
    """Keep the frames that rows came from; both streams are in order."""
    nothing: tuple[int, Frame | None] = 0, None
    latest, frame = next(found, nothing)
    for row in rows:
        place = row.session, row.seq
        while frame is not None and (frame.session, frame.seq) < place:
            latest, frame = next(found, nothing)
        if frame is not None and (frame.session, frame.seq) == place:
            yield latest, frame
            latest, frame = next(found, nothing)


def topic_digests(reader: Reader, *, span: Span) -> dict[str, ContentDigest]:
    """Compute the content digest of each topic's received frames, in the order of replay."""
    digests: dict[str, ContentDigest] = {}
    for _, frame in frames(reader, span=span, kinds=frozenset({"in"})):
        topic = claiming(reader.topics, frame)
        if topic is not None:
            digests.setdefault(topic.name, ContentDigest(topic.name)).add(frame.data)
    return digests
