"""Frames of pandas: the numbers of an Arrow table, as pandas would make them of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.tables import TIME
from recorder.research.frame import to_frame

numbers = st.one_of(st.none(), st.floats(), st.integers(-3, 3).map(float))


@given(st.lists(st.tuples(st.lists(numbers, max_size=40), st.integers(0, 20))))
def test_numbers_come_as_pandas_makes_them(chunks: list[tuple[list[float | None], int]]) -> None:
    """To the bit, out of chunks that begin anywhere in their memory."""
    arrays = [pa.array(values, pa.float64()).slice(begin) for values, begin in chunks]
    price = pa.chunked_array(arrays, pa.float64())
    stamps = pa.array(range(len(price)), pa.int64()).cast(TIME)
    found = to_frame(pa.table({"ts_recv": stamps, "price": price}))["price"]

    assert np.array_equal(price.to_numpy().view(np.int64), found.to_numpy().view(np.int64))


def test_an_absent_number_is_nan_whatever_its_memory_holds() -> None:
    """What lies where a value is absent means nothing."""
    values = pa.array([1.5, np.inf, -np.inf, 2.5, -7.0])
    odd = pa.Array.from_buffers(pa.float64(), 5, [pa.py_buffer(bytes([0b01001])), values.buffers()[1]])
    stamps = pa.array(range(5), pa.int64()).cast(TIME)
    found = to_frame(pa.table({"ts_recv": stamps, "price": odd}))

    pd.testing.assert_series_equal(
        pd.Series([1.5, np.nan, np.nan, 2.5, np.nan], index=found.index, name="price"), found["price"]
    )


def test_many_rows_come_in_their_order() -> None:
    """More than are at work at once; texts, ids and places of columns stay."""
    count = 300_000
    price = pa.array(np.arange(count, dtype=float), mask=np.arange(count) % 3 == 1)
    stamps = pa.array(range(count), pa.int64()).cast(TIME)
    found = to_frame(pa.table({"ts_recv": stamps, "text": ["a"] * count, "price": price, "seq": np.arange(count)}))

    assert ["text", "price", "seq"] == list(found.columns)
    assert found["price"].isna().to_numpy().tolist() == (np.arange(count) % 3 == 1).tolist()
    assert price.drop_null().to_pylist() == found["price"].dropna().tolist()
