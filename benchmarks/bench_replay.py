"""Benchmark of replay: frames and events in process, the served gateway at full speed, and its pace.

    python benchmarks/bench_replay.py [--frames 1000000]

The recording is one of the synthetic market (100 contracts), archived and compacted; events have six columns. Servers
and clients (`serving.py`) are processes of their own; a `ceiling` is the same client written to in ready blocks. What
the server can do shows with the light client, which costs a tenth of an ordinary one and whose bytes are compared with
the archive's; with ordinary clients the clients are the limit, with two at once on two cores the cores. Rates are of
the best of three rounds; on a machine that does something else besides they are noise, and the processor times say
more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from load_server import frames
from serving import compare_pace, compare_rates

import recorder
from recorder.archive.archiver import Archiver
from recorder.archive.layout import Layout, make_layout
from recorder.capture.journal import Journal, Limits
from recorder.disk import make_folder
from recorder.errors import DiskError
from recorder.protocol.days import DayBoundary
from recorder.protocol.masking import Masker
from recorder.protocol.topics import load_topics

PACED_RATE = 5_000
PACED_S = 20
START = 1_795_176_000_000_000
COLUMNS = ["bid_price", "bid_size", "ask_price", "ask_size", "last_price", "last_size"]
LIMITS = Limits(write_within=1, sync_every=1, flush_frames=10**9, flush_bytes=1 << 40, journal_memory=1 << 34)


def _raise(failure: DiskError) -> None:
    raise failure


async def _write(layout: Layout, count: int, step_us: int) -> None:
    """Write a session with the real journal."""
    folder = layout.journal("main")
    make_folder(folder, below=layout.root)
    now = [START]
    journal = Journal(
        folder,
        recorder="main",
        session="20261120T120000aaaa",
        boundary=layout.boundary,
        limits=LIMITS,
        on_failure=_raise,
        on_pressure=lambda _high: None,
        masker=Masker(),
        now=lambda: now[0] * 1000,
    )
    made = frames(min(count, 100_000))
    for number in range(count):
        now[0] = START + number * step_us
        journal.note(made[number % len(made)], "in", "text")
        if number % 10_000 == 0:
            await asyncio.sleep(0)
    await journal.close()


def recording(root: Path, count: int, *, step_us: int) -> Path:
    """Record, archive."""
    layout = make_layout(root, DayBoundary("00:00 UTC"))
    asyncio.run(_write(layout, count, step_us))
    Archiver(layout, load_topics(), "main", tell=lambda _news: None).archive_dead(live=None)
    return root


def best(make: Callable[[], Iterable[Any]], count: int) -> int:
    """Drain an iterator three times; give the best rate."""
    rates = []
    for _ in range(3):
        begin = time.perf_counter()
        deque(make(), maxlen=0)
        rates.append(count / (time.perf_counter() - begin))
    return round(max(rates))


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000)
    count = parser.parse_args().frames
    with tempfile.TemporaryDirectory() as folder:
        root = recording(Path(folder) / "data", count, step_us=100)
        archive = recorder.open(root)
        figures: dict[str, object] = {
            "frames_per_s": best(archive.frames, count),
            "frames_received_per_s": best(lambda: archive.frames(kinds=["in"]), count),
            "events_per_s": best(lambda: archive.replay("market_data", columns=COLUMNS), count),
            **compare_rates(root, count),
        }
        paced = recording(Path(folder) / "paced", PACED_RATE * PACED_S, step_us=1_000_000 // PACED_RATE)
        figures |= compare_pace(paced, PACED_RATE * PACED_S, PACED_RATE)
    figures["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
