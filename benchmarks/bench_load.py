"""What reading costs, beside pandas, polars and DuckDB doing the same by hand.

    python benchmarks/bench_load.py [--data DIR] [--state-frames 10000000] [--repeat 7]

Two archives of the synthetic market are made, or found in DIR: a day of one contract with a million frames, and one
of 100 contracts with ten million; both are archived and compacted by the recorder itself. By hand means: the one file
of the contract (the best that can be known in advance), no page checksums, no count of rows. Figures are the best of
several runs, in milliseconds, in one process; other work on the machine shows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
from loads import BEGIN, make_day

import recorder
from recorder.library import Archive

CONID = 265598
BOOK = ["bid_price", "bid_size", "ask_price", "ask_size"]
MINUTE = pd.Timedelta("1min")


def best(work: Callable[[], object], repeat: int) -> float:
    """Time some runs; give the quickest, in milliseconds."""
    took = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        took.append(time.perf_counter() - begin)
    return round(min(took) * 1000, 1)


def loading(archive: Archive, file: Path, repeat: int) -> dict[str, float]:
    """Load four columns of a contract-day."""
    with duckdb.connect() as connection:
        query = f"select ts_recv, {', '.join(BOOK)} from read_parquet('{file}')"  # noqa: S608  our own words
        return {
            "load": best(lambda: archive.load("market_data", conid=CONID, columns=BOOK), repeat),
            "load: pandas": best(lambda: pd.read_parquet(file, columns=BOOK), repeat),
            "load: pandas, indexed by time": best(
                lambda: pd.read_parquet(file, columns=["ts_recv", *BOOK]).set_index("ts_recv"), repeat
            ),
            "load: polars": best(lambda: pl.read_parquet(file, columns=["ts_recv", *BOOK]), repeat),
            "load: duckdb to Arrow": best(lambda: connection.sql(query).to_arrow_table(), repeat),
            "fill": best(lambda: archive.load("market_data", conid=CONID, columns=BOOK, fill=True), repeat),
            "fill: pandas": best(lambda: pd.read_parquet(file, columns=["ts_recv", *BOOK]).ffill(), repeat),
            "fill: polars": best(
                lambda: pl.scan_parquet(file).select("ts_recv", pl.col(BOOK).forward_fill()).collect(), repeat
            ),
            "quotes": best(lambda: archive.quotes(CONID), repeat),
            "ticks": best(lambda: archive.ticks(CONID), repeat),
        }


def bars(archive: Archive, file: Path, repeat: int) -> dict[str, float]:
    """Make bars of a minute of the mid."""

    def by_pandas() -> object:
        book = pd.read_parquet(file, columns=["ts_recv", "bid_price", "ask_price"]).set_index("ts_recv").ffill()
        return ((book.bid_price + book.ask_price) / 2).resample(MINUTE).ohlc()

    def by_polars() -> object:
        mid = (pl.col("bid_price").forward_fill() + pl.col("ask_price").forward_fill()) / 2
        rows = pl.scan_parquet(file).select("ts_recv", mid=mid)
        aggregates = [
            pl.first("mid").alias("open"),
            pl.max("mid").alias("high"),
            pl.min("mid").alias("low"),
            pl.last("mid"),
        ]
        return rows.group_by_dynamic("ts_recv", every="1m").agg(aggregates).collect()

    return {
        "bars of the last price": best(lambda: archive.bars(CONID), repeat),
        "bars of the mid": best(lambda: archive.bars(CONID, of="mid"), repeat),
        "bars of the mid: pandas": best(by_pandas, repeat),
        "bars of the mid: polars": best(by_polars, repeat),
        "bars of the mid, XNYS": best(lambda: archive.bars(CONID, of="mid", calendar="XNYS"), repeat),
    }


def states(archive: Archive, data: Path, repeat: int) -> dict[str, float]:
    """Find the state of all contracts at 20:00, all columns; by hand the four of the book."""
    at = pd.Timestamp(BEGIN, unit="us", tz="UTC") + pd.Timedelta("20h")
    files = f"{data}/market_data/**/*.parquet"
    last = ", ".join(f"arg_max({name}, seq) filter ({name} is not null)" for name in BOOK)
    query = f"select conid, {last} from read_parquet('{files}', hive_partitioning = true) where ts_recv <= ? group by 1"  # noqa: S608
    lazy = pl.scan_parquet(files, hive_partitioning=True).filter(pl.col("ts_recv") <= at)
    with duckdb.connect() as connection:
        return {
            "state": best(lambda: archive.state("market_data", at=at), repeat),
            "state of the book": best(lambda: archive.state("market_data", at=at, columns=BOOK), repeat),
            "state of the book: duckdb": best(lambda: connection.execute(query, [at]).fetchall(), repeat),
            "state of the book: polars": best(
                lambda: lazy.group_by("conid").agg(pl.col(BOOK).drop_nulls().last()).collect(), repeat
            ),
        }


def made(data: Path, *, frames: int, contracts: int) -> Path:
    """Make an archive unless it is there."""
    if not (data / "archive.toml").exists():
        make_day(data, frames=frames, contracts=contracts)
    return data


def main() -> None:
    """Make the archives and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--state-frames", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or Path(folder)
        data.mkdir(parents=True, exist_ok=True)
        one = made(data / "one", frames=options.frames, contracts=1)
        (file,) = (one / "market_data").rglob("*.parquet")
        archive, repeat = recorder.open(one), options.repeat
        figures: dict[str, object] = {**loading(archive, file, repeat), **bars(archive, file, repeat)}
        ten = made(data / "ten", frames=options.state_frames, contracts=100)
        figures |= states(recorder.open(ten), ten, repeat)
    load = os.getloadavg()[0]
    figures["machine"] = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load:.1f}"
    )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
