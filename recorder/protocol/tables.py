"""Tables: the Arrow schemas of frames and of each topic's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from recorder.protocol.segment import FrameBatch
from recorder.protocol.topics import ArrowType, Topic
from recorder.types import KINDS, OPS

TIME: Final = pa.timestamp("us", tz="UTC")
EXTRA: Final = pa.map_(pa.string(), pa.string())
ARROW_TYPES: Final[Mapping[ArrowType, pa.DataType]] = {
    "float64": pa.float64(),
    "int64": pa.int64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "timestamp": TIME,
}
ORDER: Final = ("ts_recv", "ts_event", "session", "seq", "item")

FRAMES: Final = pa.schema(
    [
        pa.field("ts_recv", TIME, nullable=False),
        pa.field("recorder", pa.string(), nullable=False),
        pa.field("session", pa.string(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("conn", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("op", pa.string(), nullable=False),
        pa.field("topic", pa.string()),
        pa.field("data", pa.binary(), nullable=False),
    ]
)


def topic_schema(topic: Topic) -> pa.Schema:
    """Give the schema of a topic's parts: the order columns, the topic's own, and `extra`.

    `date` and `conid` are not in it: they stand in the path.
    """
    return pa.schema(
        [
            pa.field("ts_recv", TIME),
            pa.field("ts_event", TIME),
            pa.field("session", pa.string()),
            pa.field("seq", pa.int64()),
            pa.field("item", pa.int32()),
            *(pa.field(column.name, ARROW_TYPES[column.type]) for column in topic.columns),
            pa.field("extra", EXTRA),
        ]
    )


def complete(table: pa.Table, schema: pa.Schema, *, session: str) -> pa.Table:
    """Give decoded rows of one session all columns of their topic's schema; what no row fills is null."""
    count = table.num_rows
    present = set(table.column_names)
    arrays = [
        pa.repeat(session, count)
        if field.name == "session"
        else table[field.name]
        if field.name in present
        else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def frames_table(batch: FrameBatch, topics: pa.Array, *, recorder: str, session: str) -> pa.Table:
    """Make a table of frames; `topics` names the topic that claims each, null for none."""
    count = len(batch)
    kinds = pa.DictionaryArray.from_arrays(pa.array(batch.code % 8, pa.int8()), list(KINDS))
    ops = pa.DictionaryArray.from_arrays(pa.array(batch.code // 8, pa.int8()), list(OPS))
    data = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), count, [None, pa.py_buffer(batch.offsets), pa.py_buffer(batch.blob)]
    )
    columns = [
        pa.array(batch.ts_recv).cast(TIME),
        pa.repeat(recorder, count),
        pa.repeat(session, count),
        pa.array(np.arange(batch.first_seq, batch.first_seq + count)),
        pa.array(batch.conn, pa.int32()),
        kinds.cast(pa.string()),
        ops.cast(pa.string()),
        topics,
        data.cast(pa.binary()),
    ]
    return pa.Table.from_arrays(columns, schema=FRAMES)
