"""Frames of pandas: Arrow tables as people want to have them there."""

from __future__ import annotations

from typing import Final, Literal

import pandas as pd
import pyarrow as pa

from recorder.errors import UsageError

Backend = Literal["numpy_nullable", "pyarrow"]

_PLAIN: Final = ("conid", "seq", "item")
_IDS: Final = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
_NULLABLE: Final = {**_IDS, pa.int32(): pd.Int32Dtype(), pa.float64(): pd.Float64Dtype(), pa.string(): pd.StringDtype()}


def to_frame(table: pa.Table, dtype_backend: Backend | None = None) -> pd.DataFrame:
    """Make a pandas table of an Arrow table with `ts_recv` as the index, without `date`.

    By default numbers that may be missing are NaN, and ids that may be missing `Int64`; `conid`, `seq` and `item` are
    plain integers. `dtype_backend` is pandas' own: `numpy_nullable` or `pyarrow` types for all columns. Columns without
    an absent number are those of the Arrow table, not copied.
    """
    mappers = {None: _IDS.get, "numpy_nullable": _NULLABLE.get, "pyarrow": pd.ArrowDtype}
    if dtype_backend not in mappers:
        raise UsageError(f"dtype_backend: {dtype_backend!r} is unknown", hint="use numpy_nullable or pyarrow")
    index = pd.DatetimeIndex(table["ts_recv"].to_pandas(), name="ts_recv")
    rest = table.drop_columns(["ts_recv", *(["date"] if "date" in table.column_names else [])])
    plain = [] if dtype_backend is not None else [name for name in _PLAIN if name in rest.column_names]
    frame: pd.DataFrame = rest.drop_columns(plain).to_pandas(types_mapper=mappers[dtype_backend], split_blocks=True)
    for name in plain:
        frame.insert(rest.column_names.index(name), name, rest[name].to_numpy())
    frame.index = index
    return frame
