"""Filling: the sparse rows of a delta stream carried forward, so that each row is the whole state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.archive.reading import Reader, Span
from recorder.protocol.topics import Topic
from recorder.research.load import load_table

_KEEP: Final = ("date", "conid", "ts_recv", "ts_event", "session", "seq", "item", "extra")


def load_filled(
    reader: Reader, topic: Topic, *, conids: Sequence[int] | None, span: Span, columns: Sequence[str] | None
) -> pa.Table:
    """Read rows as `load_table`, each absent value replaced by the last one of the same thing before it.

    The same thing is the contract and the topic's `identity`: the order, the account, the stream. Values from before
    `start` count, back to the beginning of the session that ran then: a session begins with full rows. What was never
    sent stays null. Of a topic whose rows are `whole`, an absent value is empty, and nothing is replaced.
    """
    wanted = None if columns is None else list(dict.fromkeys([*columns, *topic.identity]))
    begin = span.start if span.start is None else reader.session_start(span.start)
    table = load_table(reader, topic, conids=conids, span=Span(begin, span.end), columns=wanted)
    filled = span.cut(_carry(table, topic))
    if columns is None:
        return filled
    own = [name for name in table.column_names if name not in topic.identity or name in columns]
    return filled.select(own)


def _carry(table: pa.Table, topic: Topic) -> pa.Table:
    """Carry values forward within each thing; the order of rows stays."""
    if not table.num_rows or topic.whole:
        return table
    things = _things(table, topic)
    order = np.argsort(things, kind="stable")
    ranks = np.arange(len(order))
    begins = np.maximum.accumulate(np.where(np.append(True, np.diff(things[order]) != 0), ranks, 0))
    back = np.argsort(order)
    for number, name in enumerate(table.column_names):
        column = table[name]
        if name in _KEEP or column.null_count in (0, len(column)):
            continue
        valid = np.asarray(column.is_valid())[order]
        last = np.maximum.accumulate(np.where(valid, ranks, -1))
        source = np.where(last >= begins, order[last], -1)[back]
        table = table.set_column(number, name, column.take(pa.array(source, mask=source < 0)))
    return table


def _things(table: pa.Table, topic: Topic) -> npt.NDArray[np.int64]:
    """Give each row the number of the thing that it speaks of."""
    things: npt.NDArray[np.int64] = table["conid"].to_numpy()
    for name in topic.identity:
        codes = table[name].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy().astype(np.int64)
        pairs = np.stack([things, codes])
        things = np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return things
