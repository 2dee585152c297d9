"""How long after its receipt a frame is seen by who reads while the capture runs.

    python benchmarks/bench_follow.py [--rates 1000,10000,50000] [--seconds 15] [--flush-every 2s]

`event`: the age of each event when a follower (`replay(..., follow=True)`) has it, and the processor time that the
follower takes. The first tenth is left out, in which it catches up with what came before it began.

`load`: the age of the newest row of a `load` of the whole day when it returns, and how long the call took, again and
again while the capture runs. It reads archive and journal, which grow to what `load rows` says. A frame that came while
the file was read may be among the rows, so a call's age can be less than its time.

Sender, capture, archiver and reader are processes of one machine; ages are by the one wall clock that they share. The
two are measured one after the other, so that neither reader disturbs the other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
from percentiles import percentiles
from processes import capturing, load_server

from recorder.library import Archive

COLUMNS = ["ts_recv", "bid_price", "ask_size"]
PAUSE_S = 0.1


def follow(data: Path, total: int) -> dict[str, float]:
    """Follow a capture until all frames were given; give percentiles of the events' ages."""
    begin, busy = time.perf_counter(), time.process_time()
    events = Archive(data).replay("market_data", gaps="ignore", follow=True)
    ages = [time.time_ns() / 1e6 - event.ts_recv / 1e3 for event in islice(events, total)]
    percent = 100 * (time.process_time() - busy) / (time.perf_counter() - begin)
    return {
        "events": len(ages),
        **percentiles("event", np.array(ages[len(ages) // 10 :])),
        "follower cpu percent": round(percent, 1),
    }


def load(data: Path, seconds: int) -> dict[str, float]:
    """Load again and again while a capture runs; give percentiles of the newest rows' ages and of the calls' times."""
    ages, took, rows = [], [], 0
    end = time.time() + seconds
    while (begin := time.time()) < end:
        day = Archive(data).load("market_data", conid=265598, columns=COLUMNS)
        now = time.time()
        if (rows := len(day)) and begin > end - 0.9 * seconds:
            ages.append(now - day.index[-1].timestamp())
            took.append(now - begin)
        time.sleep(PAUSE_S)
    figures = {"load calls": len(ages), "load rows": rows, **percentiles("load age", 1000 * np.array(ages))}
    return figures | percentiles("load took", 1000 * np.array(took))


def measure(rate: int, seconds: int, flush_every: str) -> dict[str, float]:
    """Measure both at a rate, each beside a capture of its own."""
    figures: dict[str, float] = {}
    for is_followed in (True, False):
        total = rate * (seconds if is_followed else seconds + 3)
        with (
            tempfile.TemporaryDirectory() as folder,
            load_server(total, rate) as port,
            capturing(port, data := Path(folder) / "data", flush_every=flush_every),
        ):
            figures |= follow(data, total) if is_followed else load(data, seconds)
    return figures


def main() -> None:
    """Run each rate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1000,10000,50000")
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--flush-every", default="2s")
    options = parser.parse_args()
    figures: dict[str, object] = {}
    for rate in map(int, options.rates.split(",")):
        found = measure(rate, options.seconds, options.flush_every)
        figures |= {f"{what} at {rate}": value for what, value in found.items()}
    figures["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
