"""The peers: what other tools do on this machine, in this run, with data of the same shape.

    python benchmarks/peers.py [--quotes 500000]

Needs the extra `bench`, and says which of its packages are missing. Each peer does what its own documentation shows:
NautilusTrader writes quotes to its stream and to its catalog and reads them back, cryptofeed's collector writes raw
frames, databento's store is iterated and made a data frame, ibind receives from a gateway. Rates are the best of three
rounds, but the writers', which are run once.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from load_server import CONTRACTS, frames
from processes import load_server

from recorder.replay.synthetic import SyntheticFeed

BEGIN_NS = 1_795_132_800_000_000_000
CENT = 1_000_000_000 // 100


def rate(work: Callable[[], object], count: int, *, rounds: int = 3) -> float:
    """Time some rounds of the same work on `count` things; give the best rate."""
    best = 0.0
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        best = max(best, count / (time.perf_counter() - begin))
    return round(best)


def nautilus(count: int, folder: Path) -> dict[str, float]:
    """Write quotes to NautilusTrader's stream and catalog; read the catalog back as objects."""
    from nautilus_trader.cache.cache import Cache  # noqa: PLC0415
    from nautilus_trader.common.component import LiveClock  # noqa: PLC0415
    from nautilus_trader.model.data import QuoteTick  # noqa: PLC0415
    from nautilus_trader.model.objects import Price, Quantity  # noqa: PLC0415
    from nautilus_trader.persistence.catalog import ParquetDataCatalog  # noqa: PLC0415
    from nautilus_trader.persistence.writer import StreamingFeatherWriter  # noqa: PLC0415
    from nautilus_trader.test_kit.providers import TestInstrumentProvider  # noqa: PLC0415

    instrument, chance = TestInstrumentProvider.equity(), random.Random(1)
    quotes = []
    for number in range(count):
        cents, stamp = 18_900 + chance.randrange(200), BEGIN_NS + number * 100_000
        bid, ask = Price(cents / 100, 2), Price((cents + 1) / 100, 2)
        sizes = [Quantity(chance.randrange(1, 50) * 100, 0) for _ in range(2)]
        quotes.append(QuoteTick(instrument.id, bid, ask, *sizes, stamp, stamp))
    cache = Cache()
    cache.add_instrument(instrument)
    writer = StreamingFeatherWriter(path=str(folder / "stream"), cache=cache, clock=LiveClock())

    def stream() -> None:
        for one in quotes[: count // 5]:
            writer.write(one)
        writer.close()

    catalog = ParquetDataCatalog(str(folder / "catalog"))
    catalog.write_data([instrument])
    found = {
        "nautilus_stream_per_s": rate(stream, count // 5, rounds=1),
        "nautilus_write_per_s": rate(lambda: catalog.write_data(quotes), count, rounds=1),
        "nautilus_query_per_s": rate(lambda: catalog.query(QuoteTick), count),
    }
    size = sum(path.stat().st_size for path in (folder / "catalog" / "data" / "quote_tick").rglob("*.parquet"))
    return found | {"nautilus_bytes_per_row": round(size / count, 1)}


def cryptofeed(count: int, folder: Path) -> dict[str, float]:
    """Hand raw frames to cryptofeed's collector, as its feeds do."""
    from cryptofeed.raw_data_collection import AsyncFileCallback  # noqa: PLC0415

    texts = [payload.decode() for payload in frames(min(count, 100_000))]

    async def collect() -> None:
        collector = AsyncFileCallback(str(folder))
        for number in range(count):
            await collector(texts[number % len(texts)], time.time(), "smd")
        collector.stop()
        collector.data.clear()  # it stops itself once more when the process ends, and the folder is gone then

    return {"cryptofeed_raw_per_s": rate(lambda: asyncio.run(collect()), count, rounds=1)}


def databento(count: int, folder: Path) -> dict[str, float]:
    """Iterate a DBN file of quotes, and make it a data frame."""
    from databento import DBNStore  # noqa: PLC0415
    from databento_dbn import (  # noqa: PLC0415
        Action,
        BidAskPair,
        MBP1Msg,
        Metadata,
        Schema,
        Side,
        SType,
    )

    chance = random.Random(1)
    head = Metadata(
        dataset="XNAS.ITCH", start=BEGIN_NS, stype_in=SType.RAW_SYMBOL, stype_out=SType.INSTRUMENT_ID,
        schema=Schema.MBP_1, symbols=["AAPL"], partial=[], not_found=[], mappings=[],
    )  # fmt: skip
    records = [bytes(head)]
    for number in range(count):
        cents, stamp = 18_900 + chance.randrange(200), BEGIN_NS + number * 100_000
        sizes = [chance.randrange(1, 50) * 100 for _ in range(2)]
        top = BidAskPair(bid_px=cents * CENT, ask_px=(cents + 1) * CENT, bid_sz=sizes[0], ask_sz=sizes[1])
        message = MBP1Msg(
            publisher_id=1, instrument_id=1, ts_event=stamp, price=cents * CENT, size=100, action=Action.MODIFY,
            side=Side.BID, depth=0, ts_recv=stamp, flags=0, ts_in_delta=0, sequence=number, levels=top,
        )  # fmt: skip
        records.append(bytes(message))
    path = folder / "quotes.dbn"
    path.write_bytes(b"".join(records))
    store = DBNStore.from_file(path)
    compressed = pa.Codec("zstd", compression_level=3).compress(path.read_bytes(), asbytes=True)
    return {
        "databento_iterate_per_s": rate(lambda: deque(store, maxlen=0), count),
        "databento_to_df_per_s": rate(lambda: store.to_df(map_symbols=False), count),
        "databento_zstd_bytes_per_row": round(len(compressed) / count, 1),
    }


def ibind(count: int, _folder: Path) -> dict[str, float]:
    """Receive market data with ibind, from the load server, until its sink has it all."""
    from ibind import IbkrClient, IbkrWsClient, events, subscriptions  # noqa: PLC0415

    class Counting:
        """A sink that counts: the least that one can do with ibind's events."""

        def __init__(self) -> None:
            self.stamps: list[float] = []

        def emit(self, event: object) -> None:
            if type(event) is events.MarketData:
                self.stamps.append(time.perf_counter())

    sink = Counting()
    with load_server(count) as port:
        rest = IbkrClient(url=f"http://127.0.0.1:{port}/v1/api/")
        url = f"ws://127.0.0.1:{port}/v1/api/ws"
        stream = IbkrWsClient(url=url, ibkr_client=rest, sink=sink, account_id="DU1000001")
        stream.start()
        for conid in SyntheticFeed(seed=1, contracts=CONTRACTS, rate=100_000).instruments:
            stream.subscribe(subscriptions.MarketDataSubscription(conid=str(conid), fields=["31"]))
        seen, until = -1, time.monotonic() + 60
        while len(sink.stamps) not in {seen, count} or (not seen and time.monotonic() < until):
            seen = len(sink.stamps)
            time.sleep(2)
        stream.shutdown()
    if len(sink.stamps) < count // 10:  # flooded, it may end its connection; what it received until then has a rate
        sys.exit(f"ibind handed over {len(sink.stamps)} of {count} frames")
    stamps = np.array(sink.stamps)
    return {"ibind_received_per_s": round(len(stamps) / (stamps[-1] - stamps[0])), "ibind_received": len(sink.stamps)}


PEERS: dict[str, tuple[str, Callable[[int, Path], dict[str, float]]]] = {
    "nautilus": ("nautilus_trader", nautilus),
    "cryptofeed": ("cryptofeed", cryptofeed),
    "databento": ("databento", databento),
    "ibind": ("ibind", ibind),
}


def main() -> None:
    """Run those that are installed, each in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quotes", type=int, default=500_000)
    parser.add_argument("--peer", choices=PEERS, help="only this one, in this process")
    options = parser.parse_args()
    if options.peer is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(PEERS[options.peer][1](options.quotes, Path(folder))))
        return
    figures: dict[str, Any] = {}
    for name, (package, _) in PEERS.items():
        if importlib.util.find_spec(package) is None:
            figures[f"{name}_missing"] = f"not installed: pip install '.[bench]' brings {package}"
            continue
        words = [sys.executable, __file__, "--peer", name, "--quotes", str(options.quotes)]
        quiet = os.environ | {"IBIND_LOG_TO_CONSOLE": "false", "IBIND_LOG_TO_FILE": "false"}
        ran = subprocess.run(words, capture_output=True, text=True, check=False, env=quiet)
        if ran.returncode:
            print(f"{name} failed:\n{ran.stderr}", file=sys.stderr)
            figures[f"{name}_failed"] = ran.stderr.splitlines()[-1]
            continue
        figures |= json.loads(ran.stdout.splitlines()[-1])
    figures["machine"] = f"{platform.machine()}, Python {platform.python_version()}"
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
