"""Things: what rows speak of (a stream of a contract, an order, an account), and their last known values.

1. A thing is a contract with the values of the topic's `identity`.
2. A value that is absent is unchanged: a row's own values, and for the others the last ones before it, are the state.
3. A price's letter (`last_price_flag`) is said with the price: a price without one says that there is none.
4. `extra` holds values by the broker's key; each counts until the next one of its key, in `extra` or in a column.
5. `fold` may be taken of folds: of the rows of a day, or of those of its parts and then of them, it is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recorder.protocol.tables import EXTRA
from recorder.protocol.topics import Topic

Places = npt.NDArray[np.int64]

OWN: Final = ("date", "conid", "ts_recv", "ts_event", "session", "seq", "item", "extra")
"""Columns that a row has for itself: they are not carried to the next."""
_NEAR: Final = 1_024
_FIRST: Final = pa.array([0])


def flags(topic: Topic) -> Mapping[str, str]:
    """Give the columns that hold a price's letter, each with the column of the price."""
    prices = {column.key: column.name for column in topic.columns if column.parser == "price"}
    return {column.name: prices[column.key] for column in topic.columns if column.parser == "price_flag"}


def numbered(table: pa.Table, names: Sequence[str]) -> tuple[Places | None, int]:
    """Give each row the number of its thing, from 0 on, and how many there are; None for the numbers if it is one."""
    if not table.num_rows:
        return None, 0
    numbers: Places | None = None
    for name in names:
        own = _codes(table[name])
        if own is None:
            continue
        pairs = own if numbers is None else numbers * (int(own.max()) + 1) + own
        numbers = np.unique(pairs, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return numbers, 1 if numbers is None else int(numbers.max()) + 1


def _codes(column: pa.ChunkedArray) -> Places | None:
    """Give each row the number of its value; None if there is only one value."""
    if pa.types.is_integer(column.type) and column.null_count == 0:
        bounds = pc.min_max(column)
        if bounds["min"] == bounds["max"]:
            return None
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries()
    if column.null_count == 0 and len(column.chunk(0).dictionary) == 1:
        return None
    codes = [chunk.indices.fill_null(len(chunk.dictionary)).to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(codes).astype(np.int64)


def identity_of(topic: Topic) -> tuple[str, ...]:
    """Name the columns whose values make a thing."""
    return ("conid", *topic.identity)


def fold(table: pa.Table, topic: Topic) -> pa.Table:
    """Reduce rows, which are in order, to one a thing: the last one, absent values taken from those before it.

    The rows that are given are in the order of the last ones.
    """
    numbers, count = numbered(table, identity_of(topic))
    if not count:
        return table
    last = _last_of(_all_rows(table.num_rows, numbers), numbers, count)
    order = np.argsort(last)
    sources = {name: _source(table[name], last, numbers) for name in table.column_names if name not in OWN}
    for flag, price in flags(topic).items():
        if flag in sources and price in sources:
            sources[flag] = sources[price]
    columns = []
    for name in table.column_names:
        if name == "extra":
            columns.append(_last_extra(table, topic, numbers, sources).take(pa.array(order)))
            continue
        source = (last if name in OWN else sources[name])[order]
        columns.append(_taken(table[name], source))
    return pa.Table.from_arrays(columns, schema=table.schema)


def _taken(column: pa.ChunkedArray, rows: Places) -> pa.ChunkedArray:
    """Take some rows of a column, null for -1."""
    if column.null_count == len(column) or not (rows >= 0).any():
        return pa.chunked_array([pa.nulls(len(rows), column.type)])
    if len(rows) == 1:
        return column.slice(int(rows[0]), 1).take(_FIRST)  # a slice alone would keep all of the column in memory
    return column.take(pa.array(rows, mask=rows < 0))


def _last_of(rows: Places, numbers: Places | None, count: int) -> Places:
    """Give the last of some rows for each thing, -1 for none."""
    last = np.full(count, -1, np.int64)
    if numbers is not None:
        last[numbers[rows]] = rows  # of several, the last is kept
    elif len(rows):
        last[0] = rows[-1]
    return last


def _all_rows(rows: int, numbers: Places | None) -> Places:
    """Give the places of all rows; of those of one thing, the last will do."""
    return np.arange(0 if numbers is not None else rows - 1, rows)


def _source(column: pa.ChunkedArray, last: Places, numbers: Places | None) -> Places:
    """Give the row with the last value of a column for each thing, -1 for none; `last` are their last rows."""
    if column.null_count == 0:
        return last
    if column.null_count == len(column):
        return np.full(len(last), -1, np.int64)
    if numbers is None and len(column) > _NEAR:
        begin = len(column) - _NEAR
        near = np.flatnonzero(np.asarray(column.slice(begin).is_valid()))
        if len(near):
            return np.array([begin + near[-1]])
    return _last_of(np.flatnonzero(np.asarray(column.is_valid())), numbers, len(last))


def _last_extra(table: pa.Table, topic: Topic, numbers: Places | None, sources: Mapping[str, Places]) -> pa.Array:
    """Give each thing the last values of `extra` by key, but for keys that a column has had a value of since."""
    count = 1 if numbers is None else int(numbers.max()) + 1
    if table["extra"].null_count == table.num_rows:
        return pa.nulls(count, EXTRA)
    column = table["extra"].combine_chunks()
    sizes = np.diff(np.asarray(column.offsets))
    some = np.flatnonzero(sizes)
    rows = np.repeat(some, sizes[some])
    begin, end = int(column.offsets[0].as_py()), int(column.offsets[-1].as_py())
    keys = column.keys.slice(begin, end - begin).dictionary_encode()
    values = column.items.slice(begin, end - begin)
    of = np.zeros(len(rows), np.int64) if numbers is None else numbers[rows]
    last = _last_of(
        np.arange(len(rows)), of * len(keys.dictionary) + np.asarray(keys.indices), count * len(keys.dictionary)
    )
    known = {field.key: sources[field.name] for field in topic.columns if field.name in sources}
    found: list[list[tuple[str, Any]] | None] = []
    names = keys.dictionary.to_pylist()
    for thing, places in enumerate(last.reshape(count, -1).tolist()):
        pairs = [
            (key, values[place].as_py())
            for key, place in zip(names, places, strict=True)
            if place >= 0 and (key not in known or known[key][thing] <= rows[place])
        ]
        found.append(sorted(pairs) or None)
    return pa.array(found, EXTRA)
