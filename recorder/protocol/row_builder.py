"""Row builders: the rows of one topic in one batch of frames, collected by shape and made into columns.

Rows are grouped by their shape (which keys, in which order): a stream repeats a few shapes, so columns come out of
whole groups at the speed of `zip`, not of a loop over cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.protocol.cells import CellParser, Cells, joined, multiplied, to_column, to_text
from recorder.protocol.conids import fill_from_topic, join, topic_part
from recorder.protocol.decoding_state import Orders
from recorder.protocol.flat_frames import FlatFrames
from recorder.protocol.segment import FrameBatch
from recorder.protocol.tables import EXTRA, TIME, topic_schema
from recorder.protocol.topics import Topic

Row = dict[str, Any]

ITEM_BITS: Final = 32
"""A row's place is its frame's number in the batch, then so many bits for the item's number in the frame."""
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


class _Shape(NamedTuple):
    """Rows that have the same keys in the same order, and their places in the batch."""

    places: list[int]
    values: list[Iterable[Any]]


class RowBuilders(dict[int, "RowBuilder"]):
    """The builders of a batch by the number of their topic, made when first asked for: most batches have few topics."""

    def __init__(self, topics: Sequence[Topic]) -> None:
        super().__init__()
        self._topics = topics

    def __missing__(self, number: int) -> RowBuilder:
        builder = self[number] = RowBuilder(self._topics[number])
        return builder


class RowBuilder:
    """Collects one topic's rows of one batch and makes columns of them."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.special = frozenset[str]() if is_plain(topic) else SPECIAL.union(topic.around)
        self._shapes: dict[tuple[str, ...], _Shape] = {}
        self._flat: list[FlatFrames] = []
        self._parsers = column_parsers(topic)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(len(shape.places) for shape in self._shapes.values()) + sum(len(flat.frames) for flat in self._flat)

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
        """Take a row; its place is the frame's number in the batch, then `ITEM_BITS` for the item's in the frame."""
        keys = tuple(row)
        shape = self._shapes.get(keys)
        if shape is None:
            shape = self._shapes[keys] = _Shape([], [])
        shape.places.append(place)
        shape.values.append(row.values())

    def add_flat(self, flat: FlatFrames) -> None:
        """Take frames that are a row each."""
        self._flat.append(flat)

    def rows(self, batch: FrameBatch, orders: Orders) -> Rows:
        """Make the table; `orders` is read and added to where the topic joins rows."""
        topic, count = self.topic, self.count
        shaped = [np.array(shape.places, np.int64) for shape in self._shapes.values()]
        places = np.sort(np.concatenate([*shaped, *(flat.frames << ITEM_BITS for flat in self._flat)]))
        frames = places >> ITEM_BITS
        cells = self._cells(places)
        extra: dict[int, Row] = {}
        conid = self._conids(cells, count, orders, extra)
        columns: dict[str, pa.Array] = {
            "ts_recv": pa.array(batch.ts_recv[frames]).cast(TIME),
            "seq": pa.array(frames + batch.first_seq),
            "item": pa.array(places & ((1 << ITEM_BITS) - 1), pa.int32()),
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
        found: dict[str, list[Cells]] = {}
        for flat in self._flat:
            rows = np.searchsorted(places, flat.frames << ITEM_BITS)
            for key, cells in flat.pairs.items():
                found.setdefault(key, []).append(Cells(rows[cells.rows], cells.values))
        for keys, shape in self._shapes.items():
            rows = np.searchsorted(places, shape.places)
            for key, values in zip(keys, zip(*shape.values, strict=True), strict=True):
                found.setdefault(key, []).append(Cells(rows, list(values)))
        return {key: joined(pieces) for key, pieces in found.items()}

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
