"""Benchmark of replay beside peers: recorded quotes as Python objects, ours, NautilusTrader's and Databento's.

Run as `python benchmarks/bench_replay_peers.py [FRAMES]`, with `pip install 'ibkr-recorder[bench]'`; a peer that is not
installed is left out. The recording is one of the synthetic market (10 contracts), archived and compacted.
NautilusTrader reads the same quotes from a catalog that `recorder export` wrote, all at once, as its catalog gives
them. Databento's decoder reads as many fixed-width records with the same prices from memory, uncompressed and of one
stream: it neither merges nor reads a file. Rates are of processor time, the best of three.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from loads import make_day

import recorder

FRAMES = 500_000
CONTRACTS = 10
COLUMNS = ["bid_price", "bid_size", "ask_price", "ask_size"]
CHUNK = 1 << 20


def best(what: str, make: Callable[[], Iterable[Any]]) -> None:
    """Drain an iterator three times and print the best rate."""
    rates = []
    for _ in range(3):
        begin = time.process_time()
        (last,) = deque(enumerate(make(), 1), maxlen=1)
        rates.append(last[0] / (time.process_time() - begin))
    print(f"{what:<60} {last[0]:>9,} objects {max(rates):>12,.0f} /s")


def nautilus(data: Path, out: Path, conids: list[int]) -> None:
    """Export, and read with the catalog."""
    catalogs = __import__("nautilus_trader.persistence.catalog", fromlist=["ParquetDataCatalog"])
    words = (
        "export",
        "--to",
        "nautilus",
        "--data",
        str(data),
        "--out",
        str(out),
        "--conid",
        ",".join(map(str, conids)),
    )
    subprocess.run(
        (sys.executable, "-c", "from recorder.cli.main import main; main()", *words),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    best("NautilusTrader, catalog.quote_ticks()", lambda: catalogs.ParquetDataCatalog(str(out)).quote_ticks())


def dbn(events: Iterable[Any]) -> None:
    """Write records, and decode them."""
    db = __import__("databento_dbn")
    head = db.Metadata("XNAS.ITCH", 0, None, db.SType.INSTRUMENT_ID, db.Schema.MBP_1, ts_out=False)
    found = [bytes(head)]
    for event in events:
        bid, ask = (0 if price != price else round(price * 1e9) for price in (event.bid_price, event.ask_price))  # noqa: PLR0124  NaN
        pair = db.BidAskPair(bid_px=bid, ask_px=ask, bid_sz=1, ask_sz=1, bid_ct=1, ask_ct=1)
        found.append(
            bytes(
                db.MBP1Msg(
                    1, event.conid % 2**32, event.ts_recv * 1000, bid, 1, db.Action.MODIFY, db.Side.BID, 0,
                    event.ts_recv * 1000, levels=pair,
                )
            )
        )  # fmt: skip
    whole = b"".join(found)

    def decoded() -> Iterable[Any]:
        decoder = db.DBNDecoder()
        return chain.from_iterable(
            decoder.write_and_decode(whole[begin : begin + CHUNK]) for begin in range(0, len(whole), CHUNK)
        )

    best("Databento, DBNDecoder of MBP-1 in memory", decoded)


def main(count: int) -> None:
    """Run all."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        make_day(data, frames=count, contracts=CONTRACTS)
        archive = recorder.open(data)
        best("ours, archive.replay of four columns", lambda: archive.replay("market_data", columns=COLUMNS))
        best("ours, archive.frames", archive.frames)
        events = list(archive.replay("market_data", columns=COLUMNS))
        if find_spec("nautilus_trader"):
            nautilus(data, Path(folder) / "catalog", sorted({event.conid for event in events}))
        if find_spec("databento_dbn"):
            dbn(events)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else FRAMES)
