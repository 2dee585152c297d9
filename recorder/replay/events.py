"""Events: recorded rows as records, one class a topic, and the stream of them."""

from __future__ import annotations

import heapq
from collections import namedtuple
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa

from recorder.archive.reading import LATEST, Reader, Span
from recorder.protocol.tables import ORDER, topic_schema
from recorder.protocol.topics import Topic
from recorder.replay.merge import merge, running

Event = Any
"""A record with the fields `ts_recv, ts_event, session, seq, item, conid` and the topic's columns; `topic` is its name.

Times are microseconds since the Unix epoch, UTC. Absent numbers are NaN, absent integers and texts None.
"""

_LEADING: Final = (*ORDER, "conid")
_CHUNK: Final = 16_384  # rows that are records at once; a table may hold millions


@lru_cache(maxsize=256)
def record_class(topic: str, columns: tuple[str, ...]) -> type[Any]:
    """Make the record class of a topic with these columns: `MarketData(ts_recv, …, conid, last_price, …)`."""
    name = "".join(word.capitalize() for word in topic.split("_"))
    base = namedtuple(name, (*_LEADING, *columns))  # type: ignore[misc]  # noqa: PYI024  fields are data
    return type(name, (base,), {"topic": topic, "__slots__": ()})


def event_columns(topic: Topic, columns: Sequence[str] | None) -> tuple[str, ...]:
    """Choose the columns of a topic's records: all but `extra`, or those asked for; `UsageError` for an unknown one."""
    if columns is None:
        return tuple(column.name for column in topic.columns)
    names = (name if name == "extra" else topic.field(name).name for name in columns)
    return tuple(name for name in dict.fromkeys(names) if name not in _LEADING)


def events_of(table: pa.Table, record: type[Any]) -> Iterator[Event]:
    """Make records of a table's rows."""
    names = record._fields
    make = record._make
    return map(make, zip(*(_values(table[name]) for name in names), strict=True))


def _values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_floating(column.type):
        values: list[Any] = column.to_numpy().tolist()
        return values
    if column.null_count == len(column):
        return [None] * len(column)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if column.null_count == 0 and pa.types.is_integer(column.type):
        return column.to_numpy().tolist()  # type: ignore[no-any-return]
    return column.to_pylist()  # type: ignore[no-any-return]


def replay(
    reader: Reader,
    topics: Iterable[Topic],
    *,
    conids: Sequence[int] | None,
    span: Span,
    columns: Sequence[str] | None,
) -> Iterator[tuple[int, Event]]:
    """Give the rows of topics as records, in the order of frames, each with T (microseconds).

    With several topics, `columns` narrows each to those that it has.
    """
    chosen, recorders = list(topics), reader.recorders()
    if len(recorders) == 1:  # no other to be ordered with: T paces, and the rows' own will do
        yield from running(events_of_recorder(reader, recorders[0], chosen, conids=conids, span=span, columns=columns))
        return
    yield from merge(
        {
            recorder: _stamped(reader, recorder, chosen, conids=conids, span=span, columns=columns)
            for recorder in recorders
        }
    )


def events_of_recorder(
    reader: Reader,
    recorder: str,
    topics: list[Topic],
    *,
    conids: Sequence[int] | None,
    span: Span,
    columns: Sequence[str] | None,
) -> Iterator[Event]:
    """Give one recorder's rows of topics as records, in the order of its frames."""
    streams = [
        _events(reader, recorder, topic, conids=conids, span=span, columns=_having(topic, columns, topics))
        for topic in topics
    ]
    if len(streams) == 1:
        return streams[0]
    return heapq.merge(*streams, key=lambda event: (event.session, event.seq, event.item))


def _stamped(
    reader: Reader,
    recorder: str,
    topics: list[Topic],
    *,
    conids: Sequence[int] | None,
    span: Span,
    columns: Sequence[str] | None,
) -> Iterator[tuple[int, Event]]:
    """Give what `events_of_recorder` does, with T as it is over all frames of the recorder."""
    streams = [
        _exact(reader, recorder, topic, conids=conids, span=span, columns=_having(topic, columns, topics))
        for topic in topics
    ]
    return heapq.merge(*streams, key=lambda pair: (pair[1].session, pair[1].seq, pair[1].item))


def _having(topic: Topic, columns: Sequence[str] | None, topics: list[Topic]) -> tuple[str, ...]:
    """Choose a topic's columns; a column that none of several topics has is an error of the last one."""
    if columns is None or len(topics) == 1:
        return event_columns(topic, columns)
    known = {name for column in topic.columns for name in (column.name, column.key)}
    anywhere = {name for other in topics for column in other.columns for name in (column.name, column.key)}
    return event_columns(topic, [name for name in columns if name in known or name not in anywhere])


def _events(
    reader: Reader, recorder: str, topic: Topic, *, conids: Sequence[int] | None, span: Span, columns: tuple[str, ...]
) -> Iterator[Event]:
    record = record_class(topic.name, columns)
    for table in _tables(reader, recorder, topic, conids=conids, span=span, columns=columns, exact=False):
        yield from events_of(table, record)


def _exact(
    reader: Reader, recorder: str, topic: Topic, *, conids: Sequence[int] | None, span: Span, columns: tuple[str, ...]
) -> Iterator[tuple[int, Event]]:
    record = record_class(topic.name, columns)
    for table in _tables(reader, recorder, topic, conids=conids, span=span, columns=columns, exact=True):
        yield from zip(table[LATEST].to_pylist(), events_of(table, record), strict=True)


def _tables(
    reader: Reader,
    recorder: str,
    topic: Topic,
    *,
    conids: Sequence[int] | None,
    span: Span,
    columns: tuple[str, ...],
    exact: bool,
) -> Iterator[pa.Table]:
    wanted = [name for name in topic_schema(topic).names if name in {*ORDER, *columns}]
    for table in reader.tables(recorder, topic, conids=conids, span=span, columns=wanted, exact=exact):
        for begin in range(0, table.num_rows, _CHUNK):
            yield table.slice(begin, _CHUNK)
