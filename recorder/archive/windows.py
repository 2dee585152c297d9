"""Windows: the rows of many partitions, in the order of frames, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

ROWS: Final = 262_144
"""Rows that wait in memory at once, over all partitions."""
_FEWEST: Final = 1_024
_SPARSE: Final = 8
"""Up to how many numbers for each row it pays to lay them all out."""

Open = Callable[[int], Iterator[pa.Table]]
"""Opens a partition: takes how many rows a table shall have at most, and gives tables in the order of frames."""


class _Cursor:
    """One partition, read as its rows are needed."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self.table: pa.Table | None = None
        self.ended = False
        self.more()

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return 0 if self.table is None else self.table.num_rows

    def more(self) -> None:
        """Read on."""
        following = next((table for table in self._tables if table.num_rows), None)
        if following is None:
            self.ended = True
        else:
            self.table = following if self.table is None else pa.concat_tables([self.table, following])

    def complete_to(self) -> int | None:
        """Give the last frame all of whose rows are here; None if that is every frame."""
        if self.ended or self.table is None:
            return None
        return int(self.table["seq"][-1].as_py()) - 1

    def take(self, last_seq: int | None) -> pa.Table | None:
        """Take out the rows of frames up to one (None: all)."""
        table = self.table
        if table is None:
            return None
        count = table.num_rows
        if last_seq is not None:
            count = int(np.searchsorted(table["seq"].to_numpy(), last_seq, side="right"))
        self.table = table.slice(count) if count < table.num_rows else None
        return table.slice(0, count) if count else None


def merged(partitions: Sequence[Open]) -> Iterator[pa.Table]:
    """Give the rows of all partitions in (seq, item) order, in tables of bounded size; no frame is in two of them."""
    at_once = max(_FEWEST, ROWS // max(1, len(partitions)))
    cursors = [_Cursor(open_partition(at_once)) for open_partition in partitions]
    while cursors := [cursor for cursor in cursors if cursor.table is not None or not cursor.ended]:
        for cursor in cursors:  # early, or the one that runs out first would cut every window short
            if cursor.rows < at_once // 2:
                cursor.more()
        bounds = [bound for cursor in cursors if (bound := cursor.complete_to()) is not None]
        bound = min(bounds, default=None)
        taken = [table for cursor in cursors if (table := cursor.take(bound)) is not None]
        if taken:
            yield _in_order(taken)
        else:  # one frame has more rows than were read at once
            for cursor in cursors:
                if cursor.complete_to() == bound:
                    cursor.more()


def _in_order(tables: list[pa.Table]) -> pa.Table:
    joined = pa.concat_tables(tables)
    if len(tables) == 1:
        return joined
    order = row_order(joined["seq"].to_numpy(), joined["item"])
    if order is None:
        return joined
    moved = [name for name in joined.column_names if name != "date" and joined[name].null_count < joined.num_rows]
    taken = joined.select(moved).take(pa.array(order))
    columns = [taken[name] if name in moved else joined[name] for name in joined.column_names]  # others are all alike
    return pa.table(columns, schema=joined.schema)


def row_order(seq: npt.NDArray[np.int64], item: pa.ChunkedArray) -> npt.NDArray[np.int64] | None:
    """Give the order of rows by (seq, item); None if that is how they stand.

    Where no frame has two rows and few numbers are missing, as in market data, each row is put in its place at once.
    """
    if bool((seq[1:] > seq[:-1]).all()):
        return None
    first, last = int(seq.min()), int(seq.max())
    if last - first < _SPARSE * len(seq):
        places = np.full(last - first + 1, -1, np.int64)
        places[seq - first] = np.arange(len(seq))
        order: npt.NDArray[np.int64] = places[places >= 0]
        if len(order) == len(seq):
            return order
    return np.lexsort((item.to_numpy(), seq))
