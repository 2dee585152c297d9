"""`recorder export`: quotes in other programs' formats, read back by those programs where they are installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import AAPL, NOON, SESSION, Given, archive, order, write_session

import recorder
from recorder.archive.layout import Layout
from recorder.cli import main as cli
from recorder.protocol.marks import encode_mark
from recorder.research.export import EVENT

SECOND = 1_000_000


@pytest.fixture
def data(layout: Layout) -> Path:
    """Record four quotes with a gap between the second and the third, and a row with one side before them."""
    cells = [
        {"84": "10.25"},
        {"84": "10.25", "88": "3", "86": "10.5", "85": "4"},
        {"84": "10.3", "88": "5"},
        {"86": "10.75", "85": "1"},
        {"88": "7"},
    ]
    rows = [{"topic": f"smd+{AAPL}", "conid": AAPL, "_updated": (NOON + n * SECOND) // 1000 - 20} for n in range(5)]
    frames = [
        Given(NOON + n * SECOND, json.dumps(row | cell).encode())
        for n, (row, cell) in enumerate(zip(rows, cells, strict=True))
    ]
    gap = {"start": NOON + 2_300_000, "end": NOON + 2_900_000, "cause": "disconnected", "evidence": "x"}
    mark = encode_mark("gap_closed", of="market_data", contract=None, **gap)
    write_session(layout, [*frames[:3], Given(NOON + 2_900_000, mark, "mark"), *frames[3:]])
    return layout.root


def export(data: Path, to: str, out: Path) -> int:
    """Run the command."""
    return cli.run(["export", "--to", to, "--conid", str(AAPL), "--data", str(data), "--out", str(out)])


def test_quotes_as_csv_are_whole_and_say_where_a_hole_was(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Carried forward; what lacks a side is left out and counted; gaps stand beside."""
    assert 0 == export(data, "csv", tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / f"quotes-{AAPL}.csv")
    gaps = pd.read_csv(tmp_path / "out" / f"gaps-{AAPL}.csv")

    assert [10.25, 10.3, 10.3, 10.3] == found["bid"].tolist()
    assert [3, 5, 5, 7] == found["bid_size"].tolist()
    assert [10.5, 10.5, 10.75, 10.75] == found["ask"].tolist()
    assert [True, False, True, False] == found["after_break"].tolist()
    assert ["disconnected"] == gaps["cause"].tolist()
    assert "4 quotes, 1 left out" in capsys.readouterr().out


def test_a_hftbacktest_array_has_the_documented_layout(data: Path, tmp_path: Path) -> None:
    """64 bytes an event, times that never go back, and an empty book while there is a hole."""
    assert 0 == export(data, "hftbacktest", tmp_path / "out")
    events = np.load(tmp_path / "out" / f"quotes-{AAPL}.npz")["data"]
    in_gap = events[events["local_ts"] == (NOON + 2_300_000) * 1000]

    assert EVENT == events.dtype
    assert 64 == events.itemsize
    assert (np.diff(events["local_ts"]) >= 0).all()
    assert (np.diff(events["exch_ts"]) >= 0).all()
    assert (events["exch_ts"] <= events["local_ts"]).all()
    assert [(10.3, 0.0), (10.5, 0.0)] == list(zip(in_gap["px"], in_gap["qty"], strict=True))


def test_hftbacktest_itself_sees_the_quotes(data: Path, tmp_path: Path) -> None:
    """Its depth is the archive's quote at each moment, and nothing in the hole."""
    hft = pytest.importorskip("hftbacktest", reason="hftbacktest is not installed: pip install '.[bridges]'")
    assert 0 == export(data, "hftbacktest", tmp_path / "out")
    asset = hft.BacktestAsset().data([str(tmp_path / "out" / f"quotes-{AAPL}.npz")]).linear_asset(1.0)
    asset = asset.constant_order_latency(0, 0).risk_adverse_queue_model().no_partial_fill_exchange()
    asset = asset.trading_value_fee_model(0.0, 0.0).tick_size(0.01).lot_size(1.0)
    run: Any = hft.HashMapMarketDepthBacktest([asset])
    books = []
    run.elapse(600_000_000)
    for _ in range(4):
        depth = run.depth(0)
        books.append((depth.best_bid, depth.best_ask))
        run.elapse(500_000_000)
    run.close()

    assert (10.25, 10.5) == pytest.approx(books[0])
    assert (10.3, 10.5) == pytest.approx(books[1])
    assert np.isnan(books[2]).all()
    assert (10.3, 10.75) == pytest.approx(books[3])


def test_a_nautilus_table_has_the_documented_layout(data: Path, tmp_path: Path) -> None:
    """Integers of 128 bits at 16 decimals, with the precision in the schema's metadata."""
    assert 0 == export(data, "nautilus", tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("*.parquet")
    table = pq.read_table(path)
    bids = [int.from_bytes(value, "little", signed=True) for value in table["bid_price"].to_pylist()]

    assert f"{AAPL}.IBKR" == path.parent.name
    assert [102500000000000000, 103000000000000000] == bids[:2]
    assert {b"instrument_id": b"265598.IBKR", b"price_precision": b"2", b"size_precision": b"0"} == (
        table.schema.metadata
    )
    assert (NOON + SECOND) * 1000 == table["ts_init"][0].as_py()


def test_nautilus_itself_reads_the_quotes(data: Path, tmp_path: Path) -> None:
    """Its own catalog gives QuoteTicks with the archive's prices."""
    catalogs = pytest.importorskip(
        "nautilus_trader.persistence.catalog", reason="nautilus_trader is not installed: pip install '.[bridges]'"
    )
    assert 0 == export(data, "nautilus", tmp_path / "out")
    ticks = catalogs.ParquetDataCatalog(str(tmp_path / "out")).quote_ticks([f"{AAPL}.IBKR"])

    assert ["10.25", "10.30", "10.30", "10.30"] == [str(tick.bid_price) for tick in ticks]
    assert ["4", "4", "1", "1"] == [str(tick.ask_size) for tick in ticks]


@pytest.fixture
def account(layout: Layout) -> Path:
    """Record an order over a gap, P&L, and an execution that is told twice; half is archived, half in the journal."""
    trade: dict[str, Any] = {"execution_id": "1.01", "conid": AAPL, "size": 5, "price": "10.5", "account": "DU1"}
    told = [{"topic": "str", "args": [trade]}, {"topic": "str", "args": [trade | {"commission": "1.25"}]}]
    gap = {"start": NOON + 1_500_000, "end": NOON + 1_900_000, "cause": "disconnected", "evidence": "x"}
    frames = [
        Given(NOON, order(7, conid=AAPL, status="Submitted", orderDesc='Buy 5, "at once"', odd=None, strange={"a": 1})),
        Given(NOON + SECOND, json.dumps({"topic": "spl", "args": {"DU1.Core": {"dpl": 1.5}}}).encode()),
        Given(NOON + 1_900_000, encode_mark("gap_closed", of="orders", contract=None, **gap), "mark"),
        Given(NOON + 2 * SECOND, order(7, status="Filled")),
        *(Given(NOON + 3 * SECOND + n, json.dumps(one).encode()) for n, one in enumerate(told)),
    ]
    write_session(layout, frames, rotations=[3])
    away = layout.segments("main")[-1].rename(layout.root / "away")
    archive(layout)
    away.rename(layout.journal("main") / f"{SESSION}-{3:012d}.seg")
    return layout.root


def told(frame: pd.DataFrame) -> list[list[Any]]:
    """Give the values of rows; what is absent is None, whatever stands for it."""
    return [[None if pd.isna(value) else value for value in row] for row in frame.itertuples(index=False)]


def test_rows_of_any_topic_as_csv_are_what_a_load_gives(account: Path, tmp_path: Path) -> None:
    """Sparse, in order, absent values empty; `extra` as JSON; an execution once; gaps beside."""
    out = tmp_path / "out"
    assert 0 == cli.run(
        ["export", "--to", "csv", "--topic", "orders,pnl,trades", "--data", str(account), "--out", str(out)]
    )
    orders, pnl, trades = (pd.read_csv(out / f"{name}.csv") for name in ("orders", "pnl", "trades"))
    loaded = recorder.open(account).load("orders")
    columns = ["conid", "session", "seq", "item", "order_id", "status", "order_desc"]

    assert ["recorder", "conid", "ts_recv", *loaded.columns.drop("conid")] == list(orders.columns)
    assert told(loaded[columns]) == told(orders[columns])
    assert loaded.index.tolist() == pd.to_datetime(orders["ts_recv"]).tolist()
    assert {"strange": '{"a":1}'} == json.loads(orders["extra"][0])
    assert ["main"] * 2 == orders["recorder"].tolist()
    assert [1.5] == pnl["daily_pnl"].tolist()
    assert [1.25] == trades["commission"].tolist()
    assert [("disconnected", NOON + 1_500_000)] == list(
        pd.read_csv(out / "gaps-orders.csv")[["cause", "start_us"]].itertuples(index=False, name=None)
    )


def test_rows_are_narrowed_and_a_topic_without_any_has_a_header(account: Path, tmp_path: Path) -> None:
    """By time and contract."""
    base = ["export", "--to", "csv", "--topic", "orders", "--data", str(account)]
    assert 0 == cli.run([*base, "--start", "2026-11-20T12:00:01", "--out", str(tmp_path / "late")])
    assert 0 == cli.run([*base, "--conid", "8314", "--out", str(tmp_path / "other")])

    assert ["Filled"] == pd.read_csv(tmp_path / "late" / "orders.csv")["status"].tolist()
    assert 0 == len(pd.read_csv(tmp_path / "other" / "orders.csv"))


def test_rows_that_cannot_be_read_leave_no_file_behind(account: Path, tmp_path: Path) -> None:
    """Half a file would be taken for a whole one."""
    (part,) = (account / "orders").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    out = tmp_path / "out"

    assert 1 == cli.run(["export", "--to", "csv", "--topic", "orders", "--data", str(account), "--out", str(out)])
    assert [] == list(out.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--to", "excel", "--conid", "1"), "'excel' is no format"),
        (("--to", "csv"), "--conid is missing"),
        (("--to", "nautilus", "--topic", "orders"), "rows are not written as nautilus"),
        (("--to", "csv", "--topic", "gaps"), "gaps is the ledger itself"),
        (("--to", "csv", "--topic", "order"), "order"),
    ],
)
def test_what_cannot_be_exported_is_an_error(
    data: Path, tmp_path: Path, options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named, and nothing is written."""
    assert 2 == cli.run(["export", *options, "--data", str(data), "--out", str(tmp_path / "out")])
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_there_is_never_replaced(data: Path, tmp_path: Path) -> None:
    """The second run says so."""
    assert [0, 2] == [export(data, "csv", tmp_path / "out") for _ in range(2)]
