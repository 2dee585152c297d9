"""Orders: the life of one of them as a table."""

from __future__ import annotations

from operator import index

import pyarrow as pa
import pyarrow.compute as pc

from recorder.archive.reading import Reader, Span
from recorder.errors import UsageError
from recorder.research.fill import carry
from recorder.research.load import load_table


def load_order(reader: Reader, order_id: int, *, span: Span) -> pa.Table:
    """Give the rows of an order in order, each with all that was known of it in its session.

    A row that came before the order's contract was known has conid 0; its values count all the same. `UsageError` if
    there is no row of it.
    """
    topic = reader.topics["orders"]
    whole = Span(None, span.end)
    rows = load_table(reader, topic, conids=None, span=whole, columns=None)
    rows = rows.filter(pc.equal(rows["order_id"], pa.scalar(index(order_id), pa.int64())))
    table = span.cut(carry(rows, ("session", *topic.identity), {}))
    if not table.num_rows:
        raise UsageError(
            f"order {order_id} was not recorded" + ("" if span == Span() else " in this time"),
            hint='archive.load("orders", columns=["order_id", "status"]) lists orders',
        )
    return table
