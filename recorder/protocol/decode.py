"""Decoding: frames to rows, in batches.

1. A row's content depends on its own frame and on the contracts of earlier orders, never on how frames are batched.
2. What a column cannot hold stays in `extra` as text. Nothing that a row held is left out but what a topic file
   ignores; what stands beside the rows of a frame is in the frame only.
3. A frame that no topic claims, or that has no rows where its topic expects them, gives no row and is counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.protocol.decoding_state import DecodingState, Orders
from recorder.protocol.envelope import NotJson, bare_topic, read_json, wire_topic
from recorder.protocol.flat_frames import Mask, read_flat
from recorder.protocol.ledger import Ledger
from recorder.protocol.row_builder import ITEM_BITS, Row, RowBuilder, RowBuilders, Rows, is_plain
from recorder.protocol.segment import IN_BINARY, IN_TEXT, MARK, FrameBatch, kind_and_op
from recorder.protocol.topics import Topic, Topics

_NO_TOPIC: Final = -1


class Decoded(NamedTuple):
    """What a batch of frames decodes to.

    `rows` holds the topics that have any. `frame_topics` names the topic of each frame, null where none claims it.
    `undecoded` counts, by topic, received frames (and items of frames) that a topic claims and cannot read.
    """

    rows: dict[str, Rows]
    frame_topics: pa.Array
    undecoded: dict[str, int]


class Decoder:
    """Turns the frames of one session into rows, in order; `state` is what the frames before them left."""

    def __init__(self, topics: Topics, state: DecodingState | None = None) -> None:
        state = DecodingState() if state is None else state
        self._orders: Orders = dict(state.orders)
        self._ledger = Ledger(state.open_gaps)
        self._topics = list(topics)
        self._names = pa.array([topic.name for topic in self._topics], pa.string())
        self._index = {topic.name: number for number, topic in enumerate(self._topics)}
        self._by_prefix, self._by_event = topics.by_prefix, topics.by_event
        self._claims: dict[str, tuple[int, Topic | None]] = {}
        self._plain = [is_plain(topic) for topic in self._topics]
        self._plain_prefixes = any(map(is_plain, topics.by_prefix.values()))
        self._rest = [(topic, topic.rest) for topic in self._topics if topic.rest is not None]

    @property
    def state(self) -> DecodingState:
        """What the next segment's decoder has to start from."""
        return DecodingState(dict(self._orders), self._ledger.open_gaps)

    def decode(self, batch: FrameBatch) -> Decoded:
        """Decode frames; never raises, whatever they hold."""
        builders = RowBuilders(self._topics)
        claimed = np.full(len(batch), _NO_TOPIC, np.int32)
        undecoded: dict[str, int] = {}
        claims, plain = self._claims, self._plain
        for frame, code, data in self._readable(batch, self._add_flat(batch, builders, claimed)):
            if code == IN_TEXT or code == IN_BINARY:  # noqa: PLR1714, SIM109  this is the hot path
                value = read_json(data)
                wire = value.get("topic") if type(value) is dict else None
                found = claims.get(wire) if type(wire) is str else None
                number, topic = found or self._claim(value, data)
            else:
                kind = kind_and_op(code)[0]
                if kind == "out":
                    continue
                value, number, topic = self._claim_rest(data) if kind == "rest" else self._claim_mark(data)
            claimed[frame] = number
            if topic is None:
                continue
            if plain[number] and type(value) is dict:
                builders[number].add(frame << ITEM_BITS, value)
            elif missed := _add_rows(builders[number], frame, value, topic):
                undecoded[topic.name] = undecoded.get(topic.name, 0) + missed
        ordered = [builders[number] for number in sorted(builders)]
        rows = {builder.topic.name: builder.rows(batch, self._orders) for builder in ordered if builder.count}
        return Decoded(rows, self._names.take(pa.array(claimed, mask=claimed < 0)), undecoded)

    def _add_flat(self, batch: FrameBatch, builders: RowBuilders, claimed: npt.NDArray[np.int32]) -> Mask:
        """Add the rows of frames that are flat and their own row; say which frames these are."""
        added = np.zeros(len(batch), np.bool_)
        flat = read_flat(batch) if self._plain_prefixes else None
        if flat is None:
            return added
        wires = flat.topics.dictionary_encode()
        numbers = np.array([self._claim_wire(wire)[0] for wire in wires.dictionary.to_pylist()], np.int32)
        numbers = numbers[wires.indices.to_numpy()]
        for number in np.unique(numbers).tolist():
            if number != _NO_TOPIC and self._plain[number]:
                own = flat.only(numbers == number)
                builders[number].add_flat(own)
                claimed[own.frames] = number
                added[own.frames] = True
        return added

    def _readable(self, batch: FrameBatch, added: Mask) -> Iterable[tuple[int, int, bytes]]:
        """Give the frames that may matter: number in the batch, code, bytes."""
        if self._by_prefix or self._rest:
            return batch.some(np.flatnonzero(~added))
        return ((place, MARK, data) for place, data in batch.marks())

    def _claim(self, value: Any, data: bytes) -> tuple[int, Topic | None]:
        """Find a frame's topic; also that of JSON which cannot be read but for its envelope, a number of 400 digits."""
        wire = value.get("topic") if type(value) is dict else wire_topic(data) if type(value) is NotJson else None
        return (_NO_TOPIC, None) if type(wire) is not str else self._claim_wire(wire)

    def _claim_wire(self, wire: str) -> tuple[int, Topic | None]:
        topic = self._by_prefix.get(wire.partition("+")[0])
        found = (_NO_TOPIC, None) if topic is None else (self._index[topic.name], topic)
        if len(self._claims) < 100_000:  # noqa: PLR2004  a cache of wire topics; noise must not grow it for ever
            self._claims[wire] = found
        return found

    def _claim_rest(self, data: bytes) -> tuple[Any, int, Topic | None]:
        request, _, body = data.partition(b"\n")
        path = request.decode("utf-8", "replace").partition(" ")[2].partition("?")[0]
        for topic, rest in self._rest:
            if path.endswith(rest.path):
                return _RestAnswer(read_json(body)), self._index[topic.name], topic
        return None, _NO_TOPIC, None

    def _claim_mark(self, data: bytes) -> tuple[Any, int, Topic | None]:
        self._ledger.follow(data)
        value = read_json(data)
        topic = self._by_event.get(str(value.get("event"))) if type(value) is dict else None
        return value, _NO_TOPIC if topic is None else self._index[topic.name], topic


class _RestAnswer(NamedTuple):
    body: Any


def _add_rows(builder: RowBuilder, frame: int, value: Any, topic: Topic) -> int:
    """Add a frame's rows; give how many could not be read as rows."""
    source, key, prefix = "stream", topic.payload, ""
    if isinstance(value, _RestAnswer):
        assert topic.rest is not None, "only topics with REST rows claim REST answers"
        source, key, value = "rest", topic.rest.payload, value.body
    elif isinstance(value, NotJson) and bare_topic(value) is not None:
        value = {"topic": str(value)}
    if type(value) is not dict:
        return 1
    if source == "stream":
        wire = value.get("topic")
        prefix = wire.partition("+")[0] if type(wire) is str else ""
    payload = value if key is None else value.get(key)
    extra = {"@source": source, "@prefix": prefix, "@topic": value.get("topic"), **builder.around(value)}
    if topic.rows == "entry":
        return _add_entries(builder, frame, payload, extra)
    items = [payload] if type(payload) is dict else payload
    if type(items) is not list:
        return 1
    missed = 0
    for item, row in enumerate(items):
        if type(row) is dict:
            builder.add(frame << ITEM_BITS | item, {**_own(row, builder.special), **extra})
        else:
            missed += 1
    return missed


def _own(row: Row, special: frozenset[str]) -> Row:
    """Give a row's own keys; one that is written like a special key gets an @ more, so that it is not lost to it."""
    return row if special.isdisjoint(row) else {f"@{key}" if key in special else key: row[key] for key in row}


def _add_entries(builder: RowBuilder, frame: int, payload: Any, extra: Row) -> int:
    if type(payload) is not dict:
        return 1
    missed = 0
    for item, (name, row) in enumerate(payload.items()):
        if type(row) is dict:
            first, _, second = name.partition(".")
            own = _own(row, builder.special)
            builder.add(frame << ITEM_BITS | item, {**own, **extra, "@entry.0": first, "@entry.1": second})
        else:
            missed += 1
    return missed
