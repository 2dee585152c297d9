"""What reading costs, beside pandas, polars and DuckDB doing the same by hand.

    python benchmarks/bench_load.py [--data DIR] [--state-frames 10000000] [--rounds 7]

Archives of the synthetic market are made, or found in DIR: a day of one contract with a million frames, one of 100
contracts with ten million, and three of 1, 10 and 100 contracts with 30,000 frames each; all are archived and compacted
by the recorder itself. By hand means: the one file of the contract (the best that can be known in advance), the same
columns and types, no page checksums, no count of rows.

What is compared takes turns: each once a round, in one process, so that other work on the machine falls on all alike.
Of each: `ms`, the quickest round; `median`, the middle one; `cpu`, the least processor time of a round, all threads
together. All in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from loads import BEGIN, make_day

import recorder
from recorder.library import Archive

CONID: Final = 265598
BOOK: Final = ["bid_price", "bid_size", "ask_price", "ask_size"]
TIMED: Final = ["ts_recv", *BOOK]
SIX: Final = ["ts_recv", "seq", *BOOK]
MINUTE: Final = pd.Timedelta("1min")
BESIDE: Final = (1, 10, 100)
FRAMES_EACH: Final = 30_000

Works = Mapping[str, Callable[[], object]]
Figures = dict[str, dict[str, float]]


def take_turns(works: Works, rounds: int) -> Figures:
    """Do each work once a round, and once before; give what they took, in milliseconds."""
    wall: dict[str, list[float]] = {name: [] for name in works}
    processor: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            begin, used = time.perf_counter(), time.process_time()
            result = work()
            took, spent = time.perf_counter() - begin, time.process_time() - used
            del result
            if number:
                wall[name].append(took * 1000)
                processor[name].append(spent * 1000)
    return {
        name: {
            "ms": round(min(wall[name]), 1),
            "median": round(median(wall[name]), 1),
            "cpu": round(min(processor[name]), 1),
        }
        for name in works
    }


def loads(archive: Archive, file: Path, connection: duckdb.DuckDBPyConnection) -> Works:
    """Load four columns of a contract-day and their times."""
    query = f"select {', '.join(TIMED)} from read_parquet('{file}')"  # noqa: S608  our own words
    return {
        "load": lambda: archive.load("market_data", conid=CONID, columns=BOOK),
        "load: pandas": lambda: pd.read_parquet(file, columns=TIMED).set_index("ts_recv"),
        "load: polars, to pandas": lambda: pl.read_parquet(file, columns=TIMED).to_pandas().set_index("ts_recv"),
        "load: duckdb, to pandas": lambda: connection.sql(query).df().set_index("ts_recv"),
        "table": lambda: archive.table("market_data", conid=CONID, columns=BOOK),
        "table: pyarrow": lambda: pq.read_table(file, columns=TIMED),
        "table: duckdb": lambda: connection.sql(query).to_arrow_table(),
        "scan, to polars": lambda: archive.scan("market_data", conid=CONID, columns=BOOK).polars().collect(),
        "scan: polars": lambda: pl.read_parquet(file, columns=TIMED),
    }


def fills(archive: Archive, file: Path) -> Works:
    """Load the same, filled."""
    return {
        "fill": lambda: archive.load("market_data", conid=CONID, columns=BOOK, fill=True),
        "fill: pandas": lambda: pd.read_parquet(file, columns=TIMED).set_index("ts_recv").ffill(),
        "fill: pandas, plain read": lambda: pd.read_parquet(file, columns=TIMED).set_index("ts_recv"),
        "fill: polars": lambda: pl.scan_parquet(file).select("ts_recv", pl.col(BOOK).forward_fill()).collect(),
        "quotes": lambda: archive.quotes(CONID),
        "ticks": lambda: archive.ticks(CONID),
    }


def bars(archive: Archive, file: Path) -> Works:
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
        "bars of the last price": lambda: archive.bars(CONID),
        "bars of the mid": lambda: archive.bars(CONID, of="mid"),
        "bars of the mid: pandas": by_pandas,
        "bars of the mid: polars": by_polars,
        "bars of the mid, XNYS": lambda: archive.bars(CONID, of="mid", calendar="XNYS"),
    }


def states(archive: Archive, data: Path, connection: duckdb.DuckDBPyConnection) -> Works:
    """Find the state of all contracts at 20:00, all columns; by hand the four of the book."""
    at = pd.Timestamp(BEGIN, unit="us", tz="UTC") + pd.Timedelta("20h")
    files = f"{data}/market_data/**/*.parquet"
    last = ", ".join(f"arg_max({name}, seq) filter ({name} is not null)" for name in BOOK)
    query = f"select conid, {last} from read_parquet('{files}', hive_partitioning = true) where ts_recv <= ? group by 1"  # noqa: S608
    lazy = pl.scan_parquet(files, hive_partitioning=True).filter(pl.col("ts_recv") <= at)
    return {
        "state": lambda: archive.state("market_data", at=at),
        "state of the book": lambda: archive.state("market_data", at=at, columns=BOOK),
        "state of the book: duckdb": lambda: connection.execute(query, [at]).fetchall(),
        "state of the book: polars": lambda: lazy.group_by("conid").agg(pl.col(BOOK).drop_nulls().last()).collect(),
    }


def batches(archive: Archive, data: Path) -> Works:
    """Read six columns of all contracts as Arrow batches, keeping none."""

    def of(dataset: ds.Dataset) -> int:
        return sum(batch.num_rows for batch in dataset.to_batches(columns=SIX))

    folder = data / "market_data"
    return {
        "batches": lambda: of(archive.scan("market_data", columns=SIX)),
        "batches: pyarrow": lambda: of(ds.dataset(folder, partitioning="hive")),
    }


def beside(archives: Mapping[int, Archive]) -> Works:
    """Load one contract of an archive with few or many others."""

    def load(archive: Archive) -> object:
        return archive.load("market_data", conid=CONID, columns=BOOK)

    return {f"load one of {count}": partial(load, archive) for count, archive in archives.items()}


def made(data: Path, *, frames: int, contracts: int) -> Path:
    """Make an archive unless it is there."""
    if not (data / "archive.toml").exists():
        make_day(data, frames=frames, contracts=contracts)
    return data


def measured(data: Path, *, frames: int, state_frames: int, rounds: int) -> Figures:
    """Make the archives and measure all."""
    one = made(data / "one", frames=frames, contracts=1)
    (file,) = (one / "market_data").rglob("*.parquet")
    ten = made(data / "ten", frames=state_frames, contracts=100)
    small = {
        count: recorder.open(made(data / f"n{count}", frames=FRAMES_EACH * count, contracts=count)) for count in BESIDE
    }
    archive, large = recorder.open(one), recorder.open(ten)
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        groups = [
            loads(archive, file, connection),
            fills(archive, file),
            bars(archive, file),
            states(large, ten, connection),
            batches(large, ten),
            beside(small),
        ]
        figures = {name: took for group in groups for name, took in take_turns(group, rounds).items()}
    rows = sum(batch.num_rows for batch in large.scan("market_data").to_batches(columns=["seq"]))
    for name in ("batches", "batches: pyarrow"):
        figures[name]["million_rows_a_second"] = round(rows / figures[name]["ms"] / 1000, 1)
    return figures


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--state-frames", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or Path(folder)
        data.mkdir(parents=True, exist_ok=True)
        load = os.getloadavg()[0]
        figures = measured(data, frames=options.frames, state_frames=options.state_frames, rounds=options.rounds)
    load = max(load, os.getloadavg()[0])
    where = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load:.1f}"
    lines = [f"  {json.dumps(name)}: {json.dumps(figures[name])}" for name in figures]
    print("{\n" + ",\n".join([*lines, f'  "machine": {json.dumps(where)}']) + "\n}")


if __name__ == "__main__":
    main()
