"""Filling: the sparse rows of a delta stream carried forward, so that each row is the whole state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.things import OWN, numbered

_NO_LETTER: Final = ""


def carry(table: pa.Table, identity: Sequence[str], letters: Mapping[str, str]) -> pa.Table:
    """Replace each absent value by the last one of the same thing before it; the order of rows stays.

    The same thing is the same values of `identity`. `letters` are columns that hold a price's letter, with the column
    of the price: a price without one ends the one before it.
    """
    numbers, count = numbered(table, identity)
    if not count:
        return table
    order = None if numbers is None else np.argsort(numbers, kind="stable")
    begins = _begins(numbers, order)
    back = None if order is None else pa.array(np.argsort(order))
    sorted_by = None if order is None else pa.array(order)

    def carried(name: str) -> pa.ChunkedArray:
        column, price = table[name], letters.get(name)
        lettered = price is not None and price in table.column_names
        if lettered:
            bare = pc.and_(table[price].is_valid(), column.is_null())
            column = pc.if_else(bare, _NO_LETTER, column)
        if sorted_by is not None:
            column = column.take(sorted_by)
        column = _filled(column, begins)
        if back is not None:
            column = column.take(back)
        return pc.if_else(pc.equal(column, _NO_LETTER), pa.scalar(None, column.type), column) if lettered else column

    names = [name for name in table.column_names if name not in OWN and name not in identity]
    sparse = [name for name in names if table[name].null_count not in {0, table.num_rows}]
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        filled = dict(zip(sparse, pool.map(carried, sparse), strict=True))
    columns = [filled.get(name, table[name]) for name in table.column_names]
    return pa.Table.from_arrays(columns, names=table.column_names)


def _begins(numbers: npt.NDArray[np.int64] | None, order: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
    """Give the row at which each thing but the first begins, in sorted order."""
    if numbers is None or order is None:
        return np.array([], np.int64)
    return np.flatnonzero(np.diff(numbers[order])) + 1


def _filled(column: pa.ChunkedArray, begins: npt.NDArray[np.int64]) -> pa.ChunkedArray:
    """Carry values forward through a column, but not over the rows at which another thing begins."""
    filled = pc.fill_null_forward(column)
    if not len(begins):
        return filled
    valid = np.flatnonzero(np.asarray(column.is_valid()))
    ends = np.append(begins[1:], len(column))
    following = np.append(valid, len(column))[np.searchsorted(valid, begins)]
    foreign = np.zeros(len(column) + 1, np.int64)  # +1 where rows begin that must stay null, -1 where they end
    np.add.at(foreign, begins, 1)
    np.add.at(foreign, np.minimum(following, ends), -1)
    mask = np.cumsum(foreign[:-1]) > 0
    return pc.if_else(pa.array(mask), pa.scalar(None, column.type), filled) if mask.any() else filled
