"""Frames out again, byte for byte and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recorder.archive.reading import Reader, Span
from recorder.archive.row_decoder import session_decoder
from recorder.archive.topic_rows import TopicRows, topic_rows
from recorder.protocol.decoding_state import DecodingState
from recorder.protocol.digest import ContentDigest
from recorder.protocol.envelope import wire_topic
from recorder.protocol.marks import decode_mark
from recorder.protocol.segment import CODES, FrameBatch, kind_and_op
from recorder.protocol.topics import Topic, Topics
from recorder.replay.blocks import Block, elements_of, merge_blocks, numbers
from recorder.types import KINDS, Frame, Kind

if TYPE_CHECKING:
    from recorder.replay.following import Make

_KINDS: Final = [kind_and_op(code)[0] if code in CODES.values() else None for code in range(max(CODES.values()) + 1)]
_OPS: Final = [kind_and_op(code)[1] if code in CODES.values() else None for code in range(max(CODES.values()) + 1)]


class FrameChoice(NamedTuple):
    """Which frames: received in a span, of some kinds, claimed by one of some topics (None: all, of no topic too)."""

    span: Span = Span()
    kinds: frozenset[Kind] = frozenset(KINDS)
    topics: frozenset[str] | None = None

    def places(self, topics: Topics, batch: FrameBatch) -> npt.NDArray[np.int64] | None:
        """Find the frames of a batch that are chosen; None where all are."""
        masks = []
        if self.span.start is not None:
            masks.append(batch.ts_recv >= self.span.start)
        if self.span.end is not None:
            masks.append(batch.ts_recv < self.span.end)
        if len(self.kinds) < len(KINDS):
            masks.append(np.isin(batch.code, [code for name, code in CODES.items() if name.split()[0] in self.kinds]))
        mask = np.logical_and.reduce(masks) if masks else np.ones(len(batch), np.bool_)
        if self.topics is not None:
            for place in np.flatnonzero(mask).tolist():
                topic = claiming(topics, _KINDS[batch.code[place]], _data(batch, place))
                mask[place] = topic is not None and topic.name in self.topics
        return None if bool(mask.all()) else np.flatnonzero(mask)


def frame_blocks(reader: Reader, choice: FrameChoice, *, conids: Sequence[int] | None = None) -> Iterator[Block]:
    """Give recorded frames, each with T. `conids` keeps those that a row of these contracts came from."""
    recorders = reader.recorders()
    if not recorders:
        return iter(())
    exact = len(recorders) > 1
    return merge_blocks(
        {recorder: _recorder_frames(reader, recorder, choice, conids, exact=exact) for recorder in recorders}
    )


def _recorder_frames(
    reader: Reader, recorder: str, choice: FrameChoice, conids: Sequence[int] | None, *, exact: bool
) -> Iterator[Block]:
    kept = None if conids is None else _having_rows(reader, recorder, choice, conids)
    for piece, batch, latest in reader.batches(recorder, choice.span, exact=exact):
        places = choice.places(reader.topics, batch)
        if kept is not None:
            places = kept(piece.session, batch, np.arange(len(batch)) if places is None else places)
        if places is None or len(places):
            yield frame_block(recorder, piece.session, batch, latest, places)


class FrameView(NamedTuple):
    """Frames, of a recording that is followed."""

    topics: Topics
    choice: FrameChoice
    conids: Sequence[int] | None

    def past(self, reader: Reader, recorder: str) -> Iterator[Block]:
        """Give the frames that a reader has of a recorder."""
        return _recorder_frames(reader, recorder, self.choice, self.conids, exact=True)

    def coming(self, recorder: str, session: str, state: DecodingState) -> Make:
        """Make the frames of what comes."""
        chosen = _chosen(self.topics, self.choice)
        decode = None if self.conids is None else session_decoder(self.topics, chosen, self.conids, session, state)

        def make(session: str, batch: FrameBatch, latest: npt.NDArray[np.int64]) -> Block | None:
            places = self.choice.places(self.topics, batch)
            if decode is not None:
                tables = decode(session, batch, latest).values()
                seqs = np.concatenate([np.empty(0, np.int64), *(table["seq"].to_numpy() for table in tables)])
                places = np.arange(len(batch)) if places is None else places
                places = places[np.isin(places + batch.first_seq, seqs)]
            if places is not None and not len(places):
                return None
            return frame_block(recorder, session, batch, latest, places)

        return make


def frame_block(
    recorder: str,
    session: str,
    batch: FrameBatch,
    latest: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64] | None,
) -> Block:
    """Make frames of a batch, or of some places in it; each is made when it is taken."""
    seqs: Iterable[int] = range(batch.first_seq, batch.first_seq + len(batch))
    ts_recv, conn, code = batch.ts_recv, batch.conn, batch.code
    if places is None:
        payloads = map(BytesIO(batch.blob).read, numbers(np.diff(batch.offsets)))  # needs no slice for each
    else:
        seqs = numbers(places + batch.first_seq)
        ts_recv, conn, code, latest = ts_recv[places], conn[places], code[places], latest[places]
        edges = map(slice, numbers(batch.offsets[places]), numbers(batch.offsets[places + 1]))
        payloads = map(bytes(batch.blob).__getitem__, edges)
    count = len(ts_recv)
    columns: list[Iterable[Any]] = [
        repeat(recorder, count),
        repeat(session, count),
        seqs,
        numbers(ts_recv),
        numbers(conn),
        _looked_up(_KINDS, code),
        _looked_up(_OPS, code),
        payloads,
    ]
    return Block(latest, map(tuple.__new__, repeat(Frame), zip(*columns, strict=True)))


def _looked_up(table: Sequence[Any], code: npt.NDArray[np.uint8]) -> Iterable[Any]:
    if len(code) and bool((code == code[0]).all()):
        return repeat(table[code[0]], len(code))
    return map(table.__getitem__, numbers(code))


def _data(batch: FrameBatch, place: int) -> bytes:
    return bytes(batch.blob[batch.offsets[place] : batch.offsets[place + 1]])


def claiming(topics: Topics, kind: Kind | None, data: bytes) -> Topic | None:
    """Find the topic that a frame, a recorded REST answer or a mark belongs to, as the decoder does."""
    if kind == "in":
        return topics.claiming(wire_topic(data))
    if kind == "rest":
        request = data.partition(b"\n")[0].decode("utf-8", "replace")
        path = request.partition(" ")[2].partition("?")[0]
        return next((topic for topic in topics if topic.rest is not None and path.endswith(topic.rest.path)), None)
    if kind == "mark":
        return topics.by_event.get(decode_mark(data)["event"])
    return None


Kept = Callable[[str, FrameBatch, npt.NDArray[np.int64]], npt.NDArray[np.int64]]


def _having_rows(reader: Reader, recorder: str, choice: FrameChoice, conids: Sequence[int]) -> Kept:
    """Make what keeps the frames that rows of contracts came from; it is asked in the order of frames."""
    rows = topic_rows(reader, recorder, _chosen(reader.topics, choice), conids=conids, span=choice.span, exact=False)
    waiting: list[TopicRows] = []

    def kept(session: str, batch: FrameBatch, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        while not waiting or (waiting[-1].session, int(waiting[-1].column("seq")[-1])) < (session, batch.last_seq):
            following = next(rows, None)
            if following is None:
                break
            waiting.append(following)
        waiting[:] = [one for one in waiting if (one.session, int(one.column("seq")[-1])) >= (session, batch.first_seq)]
        seqs = [one.column("seq") for one in waiting if one.session == session]
        return places[np.isin(places + batch.first_seq, np.concatenate(seqs))] if seqs else places[:0]

    return kept


def _chosen(topics: Topics, choice: FrameChoice) -> dict[str, list[str]]:
    """Give the topics that are chosen, with the columns by which rows are found in frames."""
    names = [topic.name for topic in topics if choice.topics is None or topic.name in choice.topics]
    return {name: ["ts_recv", "seq", "item"] for name in names}


def topic_digests(reader: Reader, *, span: Span) -> dict[str, ContentDigest]:
    """Compute the content digest of each topic's received frames, in the order of replay."""
    digests: dict[str, ContentDigest] = {}
    for frame in elements_of(frame_blocks(reader, FrameChoice(span, frozenset({"in"})))):
        topic = claiming(reader.topics, frame.kind, frame.data)
        if topic is not None:
            digests.setdefault(topic.name, ContentDigest(topic.name)).add(frame.data)
    return digests
