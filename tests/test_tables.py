"""Tables have the documented columns, whatever the rows fill."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.segment import FrameBatch, Scan, code_of, encode_batch, tail
from recorder.protocol.tables import ARROW_TYPES, EXTRA, FRAMES, ORDER, TIME, complete, frames_table, topic_schema
from recorder.protocol.topics import RESERVED, Topics
from recorder.types import KINDS, OPS, Kind, Op

GIVEN = st.tuples(
    st.integers(0, 2**52),
    st.integers(0, 2**31 - 1),
    st.sampled_from(KINDS),
    st.sampled_from(OPS),
    st.binary(max_size=9),
)
Given = tuple[int, int, Kind, Op, bytes]


def batch_of(frames: list[Given], *, first_seq: int = 7) -> FrameBatch:
    """Write frames and read them back."""
    ts_recv, conn, kind, op, data = zip(*frames, strict=True)
    code = [code_of(*pair) for pair in zip(kind, op, strict=True)]
    (batch,) = Scan(encode_batch(first_seq, ts_recv, conn, code, data), whole=False)
    return batch


def test_every_topic_has_the_columns_of_order_then_its_own_then_extra(topics: Topics) -> None:
    """Date and contract stand in the path only."""
    for topic in topics:
        schema = topic_schema(topic)

        assert [*ORDER, *(column.name for column in topic.columns), "extra"] == schema.names
        assert [ARROW_TYPES[column.type] for column in topic.columns] == schema.types[len(ORDER) : -1]
        assert [TIME, TIME, pa.string(), pa.int64(), pa.int32(), EXTRA] == [
            *schema.types[: len(ORDER)],
            schema.types[-1],
        ]
        assert set(schema.names) & set(RESERVED) == {*ORDER, "extra"}


def test_all_columns_of_a_topic_may_be_null(topics: Topics) -> None:
    """An absent field is null, never filled in."""
    assert [] == [field.name for topic in topics for field in topic_schema(topic) if not field.nullable]


@pytest.mark.parametrize("rows", [0, 3])
def test_decoded_rows_are_completed_to_the_schema(topics: Topics, rows: int) -> None:
    """What no row fills is null, what one fills is kept, and the session is the same in all."""
    schema = topic_schema(topics["market_data"])
    given_rows = {"seq": pa.array(range(rows), pa.int64()), "bid_price": pa.array([1.5] * rows, pa.float64())}

    table = complete(pa.table(given_rows), schema, session="s")

    assert schema == table.schema
    assert list(range(rows)) == table["seq"].to_pylist()
    assert [1.5] * rows == table["bid_price"].to_pylist()
    assert ["s"] * rows == table["session"].to_pylist()
    filled = {name for name in schema.names if rows > table[name].null_count}
    assert filled == ({"seq", "bid_price", "session"} if rows else set())


@given(st.lists(GIVEN, min_size=1, max_size=8), st.data())
def test_a_table_of_frames_holds_the_frames(frames: list[Given], data: st.DataObject) -> None:
    """Also of a batch whose beginning was cut off."""
    skip = data.draw(st.integers(0, len(frames) - 1))
    names = [data.draw(st.sampled_from(["market_data", None])) for _ in frames[skip:]]
    batch = tail(batch_of(frames), 7 + skip)
    expected = [
        {
            "ts_recv": np.datetime64(ts_recv, "us").astype(datetime).replace(tzinfo=UTC),
            "recorder": "main",
            "session": "s",
            "seq": seq,
            "conn": conn,
            "kind": kind,
            "op": op,
            "topic": name,
            "data": payload,
        }
        for seq, ((ts_recv, conn, kind, op, payload), name) in enumerate(
            zip(frames[skip:], names, strict=True), 7 + skip
        )
    ]

    table = frames_table(batch, pa.array(names, pa.string()), recorder="main", session="s")

    assert FRAMES == table.schema
    assert expected == table.to_pylist()


def test_frames_have_no_nulls_but_in_their_topic() -> None:
    """A frame that no topic claims is archived all the same."""
    assert ["topic"] == [field.name for field in FRAMES if field.nullable]
