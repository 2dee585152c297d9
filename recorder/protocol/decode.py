"""Decoding: frames to rows, in batches.

1. A row's content depends on its own frame and on the contracts of earlier orders, never on how frames are batched.
2. What a column cannot hold stays in `extra` as text. Nothing that a row held is left out but what a topic file
   ignores; what stands beside the rows of a frame is in the frame only.
3. A frame that no topic claims, or that has no rows where its topic expects them, gives no row and is counted.

Rows are grouped by their shape (which keys, in which order): a stream repeats a few shapes, so columns come out of
whole groups at the speed of `zip`, not of a loop over cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.protocol.cells import CellParser, Cells, multiplied, to_column, to_text
from recorder.protocol.conids import fill_from_topic, join, topic_part
from recorder.protocol.decoding_state import DecodingState, Orders
from recorder.protocol.envelope import NotJson, bare_topic, read_json, wire_topic
from recorder.protocol.ledger import Ledger
from recorder.protocol.segment import IN_BINARY, IN_TEXT, MARK, FrameBatch, kind_and_op
from recorder.protocol.tables import EXTRA, TIME, topic_schema
from recorder.protocol.topics import Topic, Topics

Row = dict[str, Any]

_NO_TOPIC: Final = -1
_ITEM_BITS: Final = 32
SPECIAL: Final = frozenset({"@source", "@prefix", "@topic", "@entry.0", "@entry.1"})
"""Keys of values that stand around a row, not in it; a topic's columns may name more (`Topic.around`)."""
_FRAME: Final = "@frame."
_PART: Final = "@topic."


class Rows(NamedTuple):
    """One topic's rows of a batch, in order.

    `table` has the columns of the topic's schema that any row fills, without `session` (`tables.complete` adds the
    others); `conid` has one value a row, 0 where it is not about one contract.
    """

    table: pa.Table
    conid: npt.NDArray[np.int64]


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
        self._rest = [(topic, topic.rest) for topic in self._topics if topic.rest is not None]

    @property
    def state(self) -> DecodingState:
        """What the next segment's decoder has to start from."""
        return DecodingState(dict(self._orders), self._ledger.open_gaps)

    def decode(self, batch: FrameBatch) -> Decoded:
        """Decode frames; never raises, whatever they hold."""
        builders = _Builders(self._topics)
        claimed = [_NO_TOPIC] * len(batch)
        undecoded: dict[str, int] = {}
        claims, plain = self._claims, self._plain
        for frame, code, data in self._readable(batch):
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
                builders[number].add(frame << _ITEM_BITS, value)
            elif missed := _add_rows(builders[number], frame, value, topic):
                undecoded[topic.name] = undecoded.get(topic.name, 0) + missed
        ordered = [builders[number] for number in sorted(builders)]
        rows = {builder.topic.name: builder.rows(batch, self._orders) for builder in ordered if builder.count}
        return Decoded(rows, self._names.take(pa.array(claimed, pa.int32(), mask=np.array(claimed) < 0)), undecoded)

    def _readable(self, batch: FrameBatch) -> Iterable[tuple[int, int, bytes]]:
        """Give the frames that may matter: number in the batch, code, bytes."""
        if self._by_prefix or self._rest:
            return zip(range(len(batch)), batch.code.tolist(), batch.payloads(), strict=True)
        return ((place, MARK, data) for place, data in batch.marks())

    def _claim(self, value: Any, data: bytes) -> tuple[int, Topic | None]:
        """Find a frame's topic; also that of JSON which cannot be read but for its envelope, a number of 400 digits."""
        wire = value.get("topic") if type(value) is dict else wire_topic(data) if type(value) is NotJson else None
        if type(wire) is not str:
            return _NO_TOPIC, None
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


def is_plain(topic: Topic) -> bool:
    """Say whether a frame of the topic is its row, with nothing to be added."""
    return topic.rows == "frame" and topic.payload is None and not topic.around


def column_parsers(topic: Topic) -> list[CellParser]:
    """Give each column's parser; a price may have its letter only where a second column keeps it."""
    flagged = {column.key for column in topic.columns if column.parser == "price_flag"}
    return [
        "bare_price" if column.parser == "price" and column.key not in flagged else column.parser
        for column in topic.columns
    ]


class _RestAnswer(NamedTuple):
    body: Any


def _add_rows(builder: _Builder, frame: int, value: Any, topic: Topic) -> int:
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
            builder.add(frame << _ITEM_BITS | item, {**_own(row, builder.special), **extra})
        else:
            missed += 1
    return missed


def _own(row: Row, special: frozenset[str]) -> Row:
    """Give a row's own keys; one that is written like a special key gets an @ more, so that it is not lost to it."""
    return row if special.isdisjoint(row) else {f"@{key}" if key in special else key: row[key] for key in row}


def _add_entries(builder: _Builder, frame: int, payload: Any, extra: Row) -> int:
    if type(payload) is not dict:
        return 1
    missed = 0
    for item, (name, row) in enumerate(payload.items()):
        if type(row) is dict:
            first, _, second = name.partition(".")
            own = _own(row, builder.special)
            builder.add(frame << _ITEM_BITS | item, {**own, **extra, "@entry.0": first, "@entry.1": second})
        else:
            missed += 1
    return missed


class _Shape(NamedTuple):
    """Rows that have the same keys in the same order, and their places in the batch."""

    places: list[int]
    values: list[Iterable[Any]]


class _Builders(dict[int, "_Builder"]):
    """The builders of a batch by the number of their topic, made when first asked for: most batches have few topics."""

    def __init__(self, topics: Sequence[Topic]) -> None:
        super().__init__()
        self._topics = topics

    def __missing__(self, number: int) -> _Builder:
        builder = self[number] = _Builder(self._topics[number])
        return builder


class _Builder:
    """Collects one topic's rows of one batch and makes columns of them."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.special = frozenset[str]() if is_plain(topic) else SPECIAL.union(topic.around)
        self._shapes: dict[tuple[str, ...], _Shape] = {}
        self._parsers = column_parsers(topic)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(len(shape.places) for shape in self._shapes.values())

    def around(self, frame: Row) -> Row:
        """Give what the topic's columns take of a frame beside its rows, and of its topic."""
        found: Row = {}
        for key in self.topic.around:
            if key.startswith(_FRAME) and (name := key.removeprefix(_FRAME)) in frame:
                found[key] = frame[name]
            elif key.startswith(_PART) and type(wire := frame.get("topic")) is str:
                found[key] = topic_part(wire, int(key.removeprefix(_PART)))
        return found

    def add(self, place: int, row: Row) -> None:
        """Take a row; its place is the frame's number in the batch, then `_ITEM_BITS` for the item's in the frame."""
        keys = tuple(row)
        shape = self._shapes.get(keys)
        if shape is None:
            shape = self._shapes[keys] = _Shape([], [])
        shape.places.append(place)
        shape.values.append(row.values())

    def rows(self, batch: FrameBatch, orders: Orders) -> Rows:
        """Make the table; `orders` is read and added to where the topic joins rows."""
        topic, count = self.topic, self.count
        places = np.sort(np.concatenate([np.array(shape.places, np.int64) for shape in self._shapes.values()]))
        frames = places >> _ITEM_BITS
        cells = self._cells(places)
        extra: dict[int, Row] = {}
        conid = self._conids(cells, count, orders, extra)
        columns: dict[str, pa.Array] = {
            "ts_recv": pa.array(batch.ts_recv[frames]).cast(TIME),
            "seq": pa.array(frames + batch.first_seq),
            "item": pa.array(places & ((1 << _ITEM_BITS) - 1), pa.int32()),
        }
        if topic.event_time is not None:
            columns["ts_event"] = to_column(
                cells.get(topic.event_time), topic.event_parser, count, self._reject(extra, topic.event_time)
            )
        for column, parser in zip(topic.columns, self._parsers, strict=True):
            if column.key in cells:
                reject = self._reject(extra, column.key)
                values = to_column(cells[column.key], parser, count, reject)
                if column.times is not None:
                    values = multiplied(values, cells[column.key], cells.get(column.times), reject)
                columns[column.name] = values
        self._leftovers(cells, extra)
        if extra:
            columns["extra"] = _map_array(extra, count)
        return Rows(pa.table({name: columns[name] for name in topic_schema(topic).names if name in columns}), conid)

    def _cells(self, places: npt.NDArray[np.int64]) -> dict[str, Cells]:
        """Turn rows into columns, a shape at a time; `places` are those of all rows, in order."""
        found: dict[str, list[tuple[npt.NDArray[np.int64], Iterable[Any]]]] = {}
        for keys, shape in self._shapes.items():
            rows = np.searchsorted(places, shape.places)
            for key, values in zip(keys, zip(*shape.values, strict=True), strict=True):
                found.setdefault(key, []).append((rows, values))
        return {
            key: Cells(np.concatenate([rows for rows, _ in pieces]), list(chain.from_iterable(v for _, v in pieces)))
            for key, pieces in found.items()
        }

    @staticmethod
    def _reject(extra: dict[int, Row], key: str) -> Callable[[int, Any], None]:
        def keep(row: int, value: Any) -> None:
            extra.setdefault(row, {})[key] = value

        return keep

    def _leftovers(self, cells: dict[str, Cells], extra: dict[int, Row]) -> None:
        """Put what no column takes into `extra`."""
        topic = self.topic
        taken = {*(column.key for column in topic.columns), *topic.ignore, *topic.conid.keys, topic.event_time}
        if topic.payload is None:
            taken.add("topic")  # the frame's own
        for key, found in cells.items():
            if key in taken or key in self.special:
                continue
            for row, value in found.pairs():
                if value is not None:
                    extra.setdefault(row, {})[key] = value

    def _conids(
        self, cells: dict[str, Cells], count: int, orders: Orders, extra: dict[int, Row]
    ) -> npt.NDArray[np.int64]:
        """Find each row's contract, as `Conid` says."""
        rule, conid = self.topic.conid, np.zeros(count, np.int64)
        columns = {column.key for column in self.topic.columns}
        for key in reversed(rule.keys):
            if key in cells:
                reject = _keep_nothing if key in columns else self._reject(extra, key)
                found = np.asarray(to_column(cells[key], "conid", count, reject).fill_null(0))
                conid = np.where(found == 0, conid, found)
        if rule.topic and not conid.all():
            fill_from_topic(conid, cells.get("@topic" if "@topic" in self.special else "topic"), rule.topic)
        if rule.join:
            join(conid, [cells.get(key) for key in rule.join], orders)
        return conid


def _keep_nothing(_row: int, _value: Any) -> None:
    """Reject what a column holds anyway."""


def _map_array(extra: dict[int, Row], count: int) -> pa.Array:
    """Make the `extra` column: null for rows that have nothing, keys sorted so that batching cannot change a row."""
    sizes = np.zeros(count + 1, np.int64)
    keys: list[str] = []
    values: list[str] = []
    for row in sorted(extra):
        pairs = sorted(extra[row].items())
        keys.extend(key for key, _ in pairs)
        values.extend(to_text(value) for _, value in pairs)
        sizes[row + 1] = len(pairs)
    offsets = pa.array(np.cumsum(sizes).astype(np.int32), mask=np.append(sizes[1:] == 0, False))
    return pa.MapArray.from_arrays(offsets, pa.array(keys, pa.string()), pa.array(values, pa.string())).cast(EXTRA)
