"""Revisions: of rows that replace each other, the one that counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.protocol.topics import Topic


def last_revisions(table: pa.Table, topic: Topic) -> pa.Table:
    """Keep, of the rows that share the topic's `revision_of`, the last revision; the order of rows stays.

    A row that only repeats the one before of the same thing, after a reconnect say, is no revision: what is kept is the
    first row that said what stands in the end, so its `ts_recv` is when that was known. Rows without a value there, and
    tables of topics without revisions, stay as they are. `table` must be in the order of recording and have the
    column; columns that it lacks make no difference between revisions.
    """
    if topic.revision_of is None or not table.num_rows:
        return table
    things = _codes(table[topic.revision_of])
    names = [column.name for column in topic.columns] + ["conid", "ts_event", "extra"]
    content = _contents([table[name] for name in names if name in table.column_names])
    order = np.argsort(things, kind="stable")
    sorted_things, sorted_content = things[order], content[order]
    begins = np.append(True, sorted_things[1:] != sorted_things[:-1])
    says_more = begins | np.append(True, sorted_content[1:] != sorted_content[:-1])
    ranks = np.maximum.accumulate(np.where(says_more, np.arange(len(order)), 0))
    ends = np.append(begins[1:], True)
    kept = np.concatenate([order[ranks[ends & (sorted_things >= 0)]], np.flatnonzero(things < 0)])
    return table.take(pa.array(np.sort(kept)))


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Give each value of a column a number; null is -1."""
    plain = column.combine_chunks()
    if pa.types.is_map(plain.type):
        plain = pa.array([None if pairs is None else repr(pairs) for pairs in plain.to_pylist()], pa.string())
    encoded = plain if pa.types.is_dictionary(plain.type) else plain.dictionary_encode()
    codes: npt.NDArray[np.int64] = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    return codes


def _contents(columns: list[pa.ChunkedArray]) -> npt.NDArray[np.int64]:
    """Give each row a number for all that it says."""
    numbers = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        pairs = np.stack([numbers, _codes(column)])
        numbers = np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return numbers
