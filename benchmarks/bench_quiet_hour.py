"""Memory of the archiver over a quiet hour: what the rows of a segment take until it is flushed.

    python benchmarks/bench_quiet_hour.py [--contracts 100] [--rate 200] [--hours 1]

Decodes an hour of market data second by second, as the archiver does that follows a capture, and hands the rows to what
collects them for the next flush. Prints by how many MB the process has grown after each sixth of the hour.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path

from recorder.archive.build import SortedRows
from recorder.protocol.decode import Decoder
from recorder.protocol.segment import IN_TEXT, Scan, encode_batch
from recorder.protocol.topics import load_topics

START = 1_795_176_000_000_000
SECOND = 1_000_000


def resident_mb() -> float:
    """Give the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def quote(chance: random.Random, contracts: int, number: int) -> bytes:
    """Make a frame of market data: a trade each third time, else a quote."""
    conid = 1000 + chance.randrange(contracts)
    trade = {"31": f"{chance.random():.2f}", "7762": str(number)}
    values = {"84": f"{chance.random():.2f}", "85": "1,200", "88": "300"} if number % 3 else trade
    return json.dumps({"topic": f"smd+{conid}", "conid": conid, "_updated": START // 1000, **values}).encode()


def main() -> None:
    """Run the hour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contracts", type=int, default=100)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--hours", type=float, default=1.0)
    options = parser.parse_args()
    chance, decoder, collected = random.Random(1), Decoder(load_topics()), SortedRows()
    seconds, rate, before = int(3600 * options.hours), options.rate, resident_mb()
    for second in range(seconds):
        first = second * rate
        data = [quote(chance, options.contracts, first + number) for number in range(rate)]
        stamps = [START + second * SECOND + number for number in range(rate)]
        record = encode_batch(first, stamps, [1] * rate, [IN_TEXT] * rate, data)
        for batch in Scan(record, whole=False):
            collected.add(decoder.decode(batch).rows["market_data"])
        if (second + 1) % (seconds // 6) == 0:
            print(f"after {second + 1:>5} s, {first + rate:>9,} rows: {resident_mb() - before:7.0f} MB more")


if __name__ == "__main__":
    main()
