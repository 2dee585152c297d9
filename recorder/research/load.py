"""Loading: rows as Arrow tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.loading import loaded
from recorder.archive.reading import Reader, Span
from recorder.archive.row_decoder import LATEST, empty_table
from recorder.archive.state import state_at
from recorder.archive.things import flags, identity_of
from recorder.protocol.cells import Cells, to_column
from recorder.protocol.tables import topic_schema
from recorder.protocol.topics import Column, Topic
from recorder.research.fill import carry

FLAG: Final = "_flag"
_PATH: Final = ("date", "conid")


class Selection(NamedTuple):
    """Which columns are given, and what they are made of.

    `given` are names in the order in which they are asked for, `own` the schema's columns among them, `fields` those
    that are taken out of `extra`.
    """

    topic: Topic
    given: list[str]
    own: list[str]
    fields: list[Column]

    @property
    def read(self) -> list[str]:
        """The schema's columns that have to be read."""
        wanted = {"ts_recv", *self.own, *(["extra"] if self.fields else [])}
        return [name for name in topic_schema(self.topic).names if name in wanted]

    @property
    def letters(self) -> dict[str, str]:
        """The columns that hold a price's letter, with the column of the price."""
        return {**flags(self.topic), **{f"{field.name}{FLAG}": field.name for field in self.fields}}

    def complete(self, table: pa.Table) -> pa.Table:
        """Add the fields that are in `extra`, typed; a price's letter in a column of its own, as `<name>_flag`."""
        for field in self.fields:
            table = table.append_column(field.name, _from_extra(table, field))
            if field.parser == "price":
                letter = msgspec.structs.replace(field, parser="price_flag")
                table = table.append_column(f"{field.name}{FLAG}", _from_extra(table, letter))
        return table


def select(topic: Topic, columns: Sequence[str] | None) -> Selection:
    """Choose columns: all of the schema's, or those asked for by name or wire key; `UsageError` for an unknown one."""
    names = topic_schema(topic).names
    if columns is None:
        return Selection(topic, [*_PATH, *names], names, [])
    given, own, fields = [*_PATH, "ts_recv"], [], []
    for name in columns:
        if name in _PATH:
            continue
        column = None if name in names else topic.field(name)
        if column is None or column.name in names:
            own.append(name if column is None else column.name)
            given.append(own[-1])
        else:
            fields.append(column)
            given += [column.name, *([f"{column.name}{FLAG}"] if column.parser == "price" else [])]
    return Selection(topic, list(dict.fromkeys(given)), own, list(dict.fromkeys(fields)))


def load_table(
    reader: Reader,
    topic: Topic,
    *,
    conids: Sequence[int] | None,
    span: Span,
    columns: Sequence[str] | None,
    fill: bool = False,
) -> pa.Table:
    """Read a topic's rows in order: `date`, `conid`, then the schema's columns, or `ts_recv` and those asked for.

    A known field that is no column is taken out of `extra` and given typed. With `fill`, each absent value is replaced
    by the last one of the same thing before it, in the same session; so a row is the same whatever `start` is.
    """
    selection = select(topic, columns)
    if fill:
        sessions = filled_sessions(reader, selection, conids=conids, span=span)
        given = [*selection.given, LATEST]
        kept = [table.select([name for name in table.column_names if name in given]) for table in sessions]
        tables = [_plain(span.cut(table)) for table in kept]
    else:
        tables = [selection.complete(table) for table in _sessions(reader, selection.read, topic, conids, span)]
    if not tables:
        return selection.complete(empty_table(topic, selection.read)).select(selection.given)
    table = pa.concat_tables(tables)
    return (_merged(table) if LATEST in table.column_names else table).select(selection.given)


def filled_sessions(
    reader: Reader,
    selection: Selection,
    *,
    conids: Sequence[int] | None,
    span: Span,
    recorders: Sequence[str] | None = None,
) -> list[pa.Table]:
    """Read each session's rows, filled, recorder by recorder, each from its beginning if it reaches into the span.

    A table has the columns that are given and the topic's identity, of which texts are dictionaries. With several
    recorders the column `LATEST` comes last.
    """
    topic = selection.topic
    wanted = {*selection.read, *topic.identity}
    wanted |= {price for flag, price in flags(topic).items() if flag in wanted}
    read = [name for name in topic_schema(topic).names if name in wanted]
    around = Span(None if span.start is None else reader.sessions_start(span.start), span.end)
    tables = _sessions(reader, read, topic, conids, around, coded=topic.identity, recorders=recorders)
    identity = identity_of(topic)
    given = {*selection.given, *identity, LATEST}
    filled = [selection.complete(table) for table in tables]
    if not topic.whole:  # else what is absent is empty, not unchanged
        filled = [carry(table, identity, selection.letters) for table in filled]
    return [table.select([name for name in table.column_names if name in given]) for table in filled]


def _sessions(
    reader: Reader,
    read: Sequence[str],
    topic: Topic,
    conids: Sequence[int] | None,
    span: Span,
    *,
    coded: Sequence[str] = (),
    recorders: Sequence[str] | None = None,
) -> list[pa.Table]:
    """Read the rows of each session."""
    names = reader.recorders() if recorders is None else recorders
    exact = len(names) > 1
    sessions: dict[str, list[pa.Table]] = {}
    for recorder in names:
        rows = loaded(reader, recorder, topic, conids=conids, span=span, columns=read, coded=coded, exact=exact)
        for session, table in rows:
            if table.num_rows:
                sessions.setdefault(session, []).append(table)
    return [pa.concat_tables(tables) for tables in sessions.values()]


def _plain(table: pa.Table) -> pa.Table:
    """Give texts that are dictionaries as texts."""
    coded = [field for field in table.schema if pa.types.is_dictionary(field.type)]
    for field in coded:
        table = table.set_column(table.column_names.index(field.name), field.name, table[field.name].cast(pa.string()))
    return table


def _merged(table: pa.Table) -> pa.Table:
    """Merge the rows of recorders, one behind another by name, in the order of T; within one they are in order."""
    order = np.argsort(table[LATEST].to_numpy(), kind="stable")
    return table.drop_columns(LATEST).take(pa.array(order))


def load_state(
    reader: Reader, topic: Topic, at: int, *, conids: Sequence[int] | None, columns: Sequence[str] | None
) -> pa.Table:
    """Give the state of each thing of a topic at a moment, with the columns that `load_table` would give."""
    selection = select(topic, columns)
    table = state_at(reader, topic, at, conids=conids, columns=None if columns is None else selection.read)
    identity = [name for name in topic.identity if name not in selection.given]
    given = [*selection.given[:3], *identity, *selection.given[3:]] if columns is not None else selection.given
    return selection.complete(table).select(given)


def _from_extra(table: pa.Table, field: Column) -> pa.Array:
    extra = table["extra"].combine_chunks()
    texts = pc.map_lookup(extra, field.key, "first")
    rows = np.flatnonzero(np.asarray(texts.is_valid()))
    return to_column(
        Cells(rows, texts.drop_null().to_pylist()) if len(rows) else None,
        field.parser,
        table.num_rows,
        lambda _row, _value: None,  # it stays in `extra`, where it was found
    )
