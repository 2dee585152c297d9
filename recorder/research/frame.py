"""Frames of pandas: Arrow tables as people want to have them there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from recorder.errors import UsageError

Backend = Literal["numpy_nullable", "pyarrow"]

Numbers = npt.NDArray[np.int64] | npt.NDArray[np.int32] | npt.NDArray[np.float64]

_PLAIN: Final = ("conid", "seq", "item")
_NAN: Final = np.array(np.nan).view(np.int64)
_NEAR: Final = 131_072
"""As many values are at work at once as the processor's cache holds."""
_IDS: Final = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
_NULLABLE: Final = {**_IDS, pa.int32(): pd.Int32Dtype(), pa.float64(): pd.Float64Dtype(), pa.string(): pd.StringDtype()}


def to_frame(table: pa.Table, dtype_backend: Backend | None = None) -> pd.DataFrame:
    """Make a pandas table of an Arrow table with `ts_recv` as the index, without `date`.

    By default numbers that may be missing are NaN, and ids that may be missing `Int64`; `conid`, `seq` and `item` are
    plain integers. `dtype_backend` is pandas' own: `numpy_nullable` or `pyarrow` types for all columns. What is given
    may be written to.
    """
    mappers = {None: _IDS.get, "numpy_nullable": _NULLABLE.get, "pyarrow": pd.ArrowDtype}
    if dtype_backend not in mappers:
        raise UsageError(f"dtype_backend: {dtype_backend!r} is unknown", hint="use numpy_nullable or pyarrow")
    index = pd.DatetimeIndex(table["ts_recv"].to_pandas(), name="ts_recv", copy=False)
    rest = table.drop_columns(["ts_recv", *(["date"] if "date" in table.column_names else [])])
    made = _plain(rest) if dtype_backend is None else {}
    others: pd.DataFrame = rest.drop_columns(list(made)).to_pandas(
        types_mapper=mappers[dtype_backend], split_blocks=True
    )
    if not made:
        others.index = index
        return others
    columns = {name: made[name] if name in made else others[name].array for name in rest.column_names}
    return pd.DataFrame(columns, index=index, copy=False)


def _plain(table: pa.Table) -> dict[str, Numbers]:
    """Give the columns of numbers that pandas holds as numpy does, several at a time."""
    names = [field.name for field in table.schema if field.name in _PLAIN or field.type == pa.float64()]
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        return dict(zip(names, pool.map(lambda name: _numbers(table[name]), names), strict=True))


def _numbers(column: pa.ChunkedArray) -> Numbers:
    """Give a column's values, NaN for those that are absent."""
    if not column.null_count or column.type != pa.float64():
        values: Numbers = column.to_numpy()
        return values if values.flags.writeable else values.copy()
    filled = np.empty(len(column), np.int64)
    place = 0
    for chunk in column.chunks:
        for begin in range(0, len(chunk), _NEAR):
            part = chunk.slice(begin, _NEAR)
            _fill(part, filled[place : place + len(part)])
            place += len(part)
    return filled.view(np.float64)


def _fill(chunk: pa.Array, filled: npt.NDArray[np.int64]) -> None:
    """Write the bits of a chunk's values, and those of NaN over the ones that are absent.

    pandas' own way looks at each value for itself, and takes twice as long.
    """
    validity, values = chunk.buffers()
    begin, end = chunk.offset, chunk.offset + len(chunk)
    bits = np.frombuffer(values, np.int64, len(chunk), begin * 8)
    if not chunk.null_count:
        filled[:] = bits
        return
    first = begin // 8
    known = np.unpackbits(np.frombuffer(validity, np.uint8)[first : -(-end // 8)], bitorder="little")
    np.subtract(known[begin - first * 8 : end - first * 8], 1, out=filled, dtype=np.int64)  # all bits where absent
    filled &= _NAN
    filled |= bits
