"""Loaders: filled rows that do not depend on where one begins, letters before prices, lazy scans, pandas' types."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from conftest import AAPL, DAY, IBM, NOON, SESSION, Given, archive, quote, quotes, write_session
from hypothesis import given, settings
from hypothesis import strategies as st

import recorder
from recorder.archive import parts
from recorder.archive.layout import Layout, make_layout
from recorder.errors import UsageError
from recorder.protocol.days import DayBoundary
from recorder.recording import compact_finished

LATER = "20261121T120000bbbb"
COLUMNS = ["bid_price", "last_price", "last_price_flag"]
NUMBERS = st.integers(0, 9).map(str)
FRAME = st.tuples(
    st.integers(0, 9),
    st.sampled_from([f"{AAPL}", f"{AAPL}@NYSE", f"{IBM}"]),
    st.fixed_dictionaries({}, optional={"84": NUMBERS, "31": st.one_of(NUMBERS, NUMBERS.map(lambda text: f"H{text}"))}),
    st.booleans(),
)
Sent = tuple[int, str, dict[str, str], bool]


def filled(session: list[Sent], begin: int) -> list[list[Any]]:
    """Carry values forward by streams; give the rows that came at a moment or after it."""
    states: dict[str, dict[str, Any]] = {}
    rows = []
    for at, stream, cells, _ in session:
        state = states.setdefault(stream, dict.fromkeys(COLUMNS))
        if "84" in cells:
            state["bid_price"] = float(cells["84"])
        if "31" in cells:
            state["last_price"] = float(cells["31"].lstrip("H"))
            state["last_price_flag"] = "H" if cells["31"].startswith("H") else None
        if at >= begin:
            rows.append([int(stream.partition("@")[0]), *state.values()])
    return rows


@settings(max_examples=25, database=None)
@given(
    first=st.lists(FRAME, min_size=1, max_size=12),
    second=st.lists(FRAME, max_size=12),
    start=st.integers(0, 30),
    kept=st.sampled_from(["journal", "parts", "compacted", "both"]),
    conid=st.sampled_from([None, AAPL, IBM]),
)
def test_a_filled_row_is_the_state_of_its_session_wherever_one_begins(
    first: list[Sent], second: list[Sent], start: int, kept: str, conid: int | None
) -> None:
    """Over files, dates and row groups; a clock that steps back changes nothing, and a new session begins anew."""
    second = [(at + 20, *rest) for at, *rest in second]  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder, patch.object(parts, "ROW_GROUP", 2):
        layout = make_layout(Path(folder) / "data", DayBoundary("12:00 UTC"))
        for session, sent in ((SESSION, first), (LATER, second)):
            frames = [
                Given(
                    NOON - 5 + at,
                    json.dumps({"topic": f"smd+{of}", "conid": int(of.partition("@")[0]), **cells}).encode(),
                )
                for at, of, cells, _ in sent
            ]
            if frames:
                cuts = [number for number, (*_, cut) in enumerate(sent) if cut]
                write_session(layout, frames, session=session, rotations=cuts)
            if session == SESSION and kept == "both":
                archive(layout)
        if kept in ("parts", "compacted"):
            archive(layout)
        if kept == "compacted":
            compact_finished(layout, before="2100-01-01", done=lambda _rows: None)
        table = recorder.open(layout.root).table(
            "market_data", conid=conid, start=NOON - 5 + start, columns=COLUMNS, fill=True
        )
        found = [list(row.values()) for row in table.drop_columns(["date", "ts_recv"]).to_pylist()]

    expected = [*filled(first, start), *filled(second, start)]
    assert [row for row in expected if conid in (None, row[0])] == found


@pytest.mark.parametrize("archived", [False, True], ids=["journal", "parts"])
def test_a_letter_before_a_rare_price_is_kept(layout: Layout, archived: bool) -> None:  # noqa: FBT001
    """In a column beside the price; filled, it is that of the price that is carried."""
    rows = [quote(0, {"74": "C10"}), quote(1, {"84": "1"}), quote(2, {"74": "11"}), quote(3, {"84": "2"})]
    write_session(layout, [Given(NOON + number, data) for number, data in enumerate(rows)])
    if archived:
        archive(layout)
    opened = recorder.open(layout.root)
    sparse = opened.table("market_data", columns=["average_price"])
    whole = opened.table("market_data", columns=["74"], fill=True)

    assert ["date", "conid", "ts_recv", "average_price", "average_price_flag"] == sparse.column_names
    assert [10.0, None, 11.0, None] == sparse["average_price"].to_pylist()
    assert ["C", None, None, None] == sparse["average_price_flag"].to_pylist()
    assert [10.0, 10.0, 11.0, 11.0] == whole["average_price"].to_pylist()
    assert ["C", "C", None, None] == whole["average_price_flag"].to_pylist()


def test_pandas_types_are_those_of_the_backend_that_is_asked_for(layout: Layout) -> None:
    """As in pandas' own readers."""
    write_session(layout, [*quotes(2), Given(NOON + DAY, b'{"topic":"spl","args":{"DU1":{"rowType":1}}}')])
    archive(layout)
    opened = recorder.open(layout.root)
    nullable = opened.load("market_data", dtype_backend="numpy_nullable")
    arrow = opened.load("pnl", dtype_backend="pyarrow")

    assert pd.Float64Dtype() == nullable["bid_price"].dtype
    assert pd.StringDtype() == nullable["wire_topic"].dtype
    assert [pd.NA, pd.NA] == nullable["ask_price"].tolist()
    assert pd.ArrowDtype(pa.int64()) == arrow["row_type"].dtype
    assert pd.ArrowDtype(pa.float64()) == arrow["daily_pnl"].dtype
    with pytest.raises(UsageError, match="dtype_backend: 'polars' is unknown"):
        opened.load("pnl", dtype_backend="polars")  # type: ignore[arg-type]


def test_a_loaded_table_may_be_written_to(layout: Layout) -> None:
    """What was not copied as well."""
    write_session(layout, quotes(3))
    archive(layout)
    table = recorder.open(layout.root).load("market_data", conid=AAPL, columns=["bid_price"])
    table.loc[table.index[0], "bid_price"] = 7.0
    table["bid_price"] += 1

    assert [8.0, 1.25, 1.5] == table["bid_price"].tolist()


@pytest.fixture
def both(layout: Layout) -> Layout:
    """Make an archive of which a part is Parquet and the rest in the journal."""
    write_session(layout, [*quotes(6), *quotes(4, start=NOON + 10_000, conid=IBM)], rotations=[7])
    away = layout.segments("main")[-1].rename(layout.root / "away")
    archive(layout)
    away.rename(layout.journal("main") / f"{SESSION}-{7:012d}.seg")
    return layout


def test_a_scan_is_limited_to_what_was_asked_for(both: Layout) -> None:
    """Contracts, times and columns; whatever is filtered further."""
    opened = recorder.open(both.root)
    scanned = opened.scan("market_data", conid=AAPL, start=NOON + 2000, end=NOON + 5000, columns=["bid_price"])

    assert ["ts_recv", "bid_price", "date", "conid"] == scanned.schema.names
    assert [0.5, 0.75, 1.0] == sorted(scanned.to_table()["bid_price"].to_pylist())
    assert 3 == scanned.count_rows()
    assert 1 == scanned.count_rows(filter=pa.dataset.field("bid_price") > 0.75)
    assert 4 == opened.scan("market_data", conid=[IBM]).count_rows()
    with pytest.raises(UsageError, match="average_price is no column"):
        opened.scan("market_data", columns=["average_price"])


def test_polars_and_duckdb_read_a_scan(both: Layout) -> None:
    """Lazily, parts and journal, and no more than was asked for."""
    scanned = recorder.open(both.root).scan("market_data", start=NOON + 2000)
    lazy = scanned.polars().filter(conid=AAPL).select("bid_price", "ts_recv").collect()
    with duckdb.connect() as connection:
        found = scanned.duckdb(connection).filter(f"conid = {IBM}").aggregate("count(*), sum(bid_price)").fetchall()

    assert [0.5, 0.75, 1.0, 1.25] == sorted(lazy["bid_price"].to_list())
    assert [(4, 1.5)] == found
