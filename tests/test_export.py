"""`recorder export`: quotes in other programs' formats, read back by those programs where they are installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import AAPL, NOON, Given, write_session

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


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--to", "excel", "--conid", "1"), "'excel' is no format"), (("--to", "csv"), "--conid is missing")],
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
