"""Events: recorded rows as records, one class a topic, and the stream of them."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.archive.reading import Reader, Span
from recorder.archive.row_decoder import LATEST, session_decoder
from recorder.archive.topic_rows import TopicRows, in_order, topic_rows
from recorder.protocol.decoding_state import DecodingState
from recorder.protocol.segment import FrameBatch
from recorder.protocol.tables import ORDER, topic_schema
from recorder.protocol.topics import Topic, Topics
from recorder.replay.blocks import Block, in_turns, merge_blocks, numbers, running

if TYPE_CHECKING:
    from recorder.replay.following import Make

Event = Any
"""A record with the fields `ts_recv, ts_event, session, seq, item, conid` and the topic's columns; `topic` is its name.

Times are microseconds since the Unix epoch, UTC. Absent numbers are NaN, absent integers and texts None.
"""

_LEADING: Final = (*ORDER, "conid")
_CHUNK: Final = 4_096  # values made at once where they cannot be made one by one


@lru_cache(maxsize=256)
def record_class(topic: str, columns: tuple[str, ...]) -> type[Any]:
    """Make the record class of a topic with these columns: `MarketData(ts_recv, …, conid, last_price, …)`.

    It is a named tuple that is made of its values as a tuple is, of one iterable: to be called with each of them takes
    a step of Python's, and to go round that by `tuple.__new__` a tenth longer.
    """
    name = "".join(word.capitalize() for word in topic.split("_"))
    named = namedtuple(name, (*_LEADING, *columns))  # type: ignore[misc]  # noqa: PYI024  fields are data
    members = {key: value for key, value in vars(named).items() if key not in {"__new__", "__getnewargs__"}}
    return type(name, (tuple,), members | {"topic": topic, "__slots__": ()})


def event_columns(topic: Topic, columns: Sequence[str] | None) -> tuple[str, ...]:
    """Choose the columns of a topic's records: all but `extra`, or those asked for; `UsageError` for an unknown one."""
    if columns is None:
        return tuple(column.name for column in topic.columns)
    names = (name if name == "extra" else topic.field(name).name for name in columns)
    return tuple(name for name in dict.fromkeys(names) if name not in _LEADING)


class Records:
    """What records are made of the rows of some topics: of each a class, and the columns to read for it.

    With several topics, `columns` narrows each to those that it has; one that none has is an error of the last topic.
    """

    def __init__(self, topics: Iterable[Topic], columns: Sequence[str] | None) -> None:
        chosen = list(topics)
        self.classes: dict[str, type[Any]] = {}
        self.columns: dict[str, list[str]] = {}
        for topic in chosen:
            names = _having(topic, columns, chosen)
            self.classes[topic.name] = record_class(topic.name, names)
            needed = {*ORDER, *names} - {"session"}  # which is the piece's
            self.columns[topic.name] = [name for name in topic_schema(topic).names if name in needed]

    def block(self, rows: TopicRows) -> Block:
        """Make the records of rows, with T if the tables have it, else the ts_recv of each."""
        exact = LATEST in rows.tables[0].column_names
        records = [
            _records(table, self.classes[name], rows.session)
            for name, table in zip(rows.names, rows.tables, strict=True)
        ]
        return Block(rows.column(LATEST if exact else "ts_recv"), in_turns(records, rows.turns))


def _having(topic: Topic, columns: Sequence[str] | None, topics: list[Topic]) -> tuple[str, ...]:
    if columns is None or len(topics) == 1:
        return event_columns(topic, columns)
    known = {name for column in topic.columns for name in (column.name, column.key)}
    anywhere = {name for other in topics for column in other.columns for name in (column.name, column.key)}
    return event_columns(topic, [name for name in columns if name in known or name not in anywhere])


def _records(table: pa.Table, record: type[Any], session: str) -> Iterator[Event]:
    """Make records of a table's rows; each is made, and its numbers too, when it is taken."""
    count = table.num_rows
    fields: Mapping[str, Iterable[Any]] = {
        name: repeat(session, count) if name == "session" else _values(table[name]) for name in record._fields
    }
    return map(record, zip(*fields.values(), strict=True))


def _values(column: pa.ChunkedArray) -> Iterable[Any]:
    """Give a column's values as Python has them, without all of them at once where that can be."""
    count, floating = len(column), pa.types.is_floating(column.type)
    if column.null_count == count:
        return repeat(math.nan if floating else None, count)
    if floating:
        return numbers(column.to_numpy())
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if pa.types.is_integer(column.type) and column.null_count == 0:
        values = column.to_numpy()
        return repeat(int(values[0]), count) if bool((values == values[0]).all()) else numbers(values)
    if pa.types.is_string(column.type):
        return _texts(column)
    return chain.from_iterable(column.slice(begin, _CHUNK).to_pylist() for begin in range(0, count, _CHUNK))


def _texts(column: pa.ChunkedArray) -> Iterator[str | None]:
    """Give texts, each distinct one made but once."""
    coded = column.combine_chunks().dictionary_encode()
    texts = [*coded.dictionary.to_pylist(), None]
    codes = coded.indices.fill_null(len(texts) - 1).to_numpy()
    return map(texts.__getitem__, numbers(codes))


def recorder_events(
    reader: Reader, recorder: str, records: Records, *, conids: Sequence[int] | None, span: Span, exact: bool
) -> Iterator[Block]:
    """Give one recorder's rows as records; `exact` T counts all its frames, not only those that rows came from."""
    return map(records.block, topic_rows(reader, recorder, records.columns, conids=conids, span=span, exact=exact))


class EventView(NamedTuple):
    """Rows as records, of a recording that is followed."""

    topics: Topics
    records: Records
    conids: Sequence[int] | None
    span: Span

    def past(self, reader: Reader, recorder: str) -> Iterator[Block]:
        """Give the records of what a reader has of a recorder."""
        return recorder_events(reader, recorder, self.records, conids=self.conids, span=self.span, exact=True)

    def coming(self, recorder: str, session: str, state: DecodingState) -> Make:  # noqa: ARG002  no record has it
        """Make the records of what comes."""
        decode = session_decoder(self.topics, self.records.columns, self.conids, session, state)

        def make(session: str, batch: FrameBatch, latest: npt.NDArray[np.int64]) -> Block | None:
            tables = {name: self.span.cut(table) for name, table in decode(session, batch, latest).items()}
            rows = in_order(session, tables)
            return None if rows is None else self.records.block(rows)

        return make


def event_blocks(reader: Reader, records: Records, *, conids: Sequence[int] | None, span: Span) -> Iterator[Block]:
    """Give rows as records, in the order of frames, each with T (microseconds)."""
    recorders = reader.recorders()
    if not recorders:
        return iter(())
    exact = len(recorders) > 1  # alone there is no other to be ordered with: T paces, and the rows' own will do

    def blocks_of(recorder: str) -> Iterator[Block]:
        return recorder_events(reader, recorder, records, conids=conids, span=span, exact=exact)

    return (
        merge_blocks({recorder: blocks_of(recorder) for recorder in recorders})
        if exact
        else running(blocks_of(recorders[0]))
    )
