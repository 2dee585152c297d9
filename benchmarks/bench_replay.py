"""Benchmark of replay: frames and events in process, the served gateway at full speed, and its pace.

Run as `python benchmarks/bench_replay.py [FRAMES]`. The recording is one of the synthetic market (100 contracts),
archived and compacted. The client is an ordinary `websockets` client in a process of its own. Rates are of the best of
three rounds; on a machine that does something else besides they are noise.
"""

from __future__ import annotations

import asyncio
import multiprocessing as mp
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from load_server import CONTRACTS, frames
from websockets.asyncio.client import connect

import recorder
from recorder.archive.archiver import Archiver
from recorder.archive.layout import Layout, make_layout
from recorder.archive.reading import Reader, Span
from recorder.capture.journal import Journal, Limits
from recorder.disk import make_folder
from recorder.errors import DiskError
from recorder.protocol.days import DayBoundary
from recorder.protocol.masking import Masker
from recorder.protocol.server_session import Rules
from recorder.protocol.topics import load_topics
from recorder.replay.archive_feed import ArchiveFeed
from recorder.replay.gateway import serve
from recorder.replay.recorded_contents import contents_of

FRAMES = 1_000_000
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


def best(what: str, make: Callable[[], Iterable[Any]], count: int) -> None:
    """Drain an iterator three times and print the best rate."""
    rates = []
    for _ in range(3):
        begin = time.perf_counter()
        deque(make(), maxlen=0)
        rates.append(count / (time.perf_counter() - begin))
    print(f"{what:<52} {max(rates):>12,.0f} /s")


async def _client(url: str, token: str, count: int, told: Connection) -> None:
    headers = {"Cookie": f"api={token}"}
    async with connect(
        url, additional_headers=headers, proxy=None, compression=None, max_size=None, max_queue=None
    ) as socket:
        for _ in range(3):
            await socket.recv()
        for conid in sorted({int(name.partition("+")[2]) for name in told.recv()}):
            await socket.send(f"smd+{conid}+{{}}")
        first = await socket.recv(decode=False)
        assert first.startswith(b"{")
        begin, arrivals, seen = time.perf_counter(), [time.time_ns()], 1
        if told.recv():  # paced: when each came
            for _ in range(count - 1):
                await socket.recv(decode=False)
                arrivals.append(time.time_ns())
        else:
            while seen < count:
                await socket.recv(decode=False)
                seen += 1
        told.send((count / (time.perf_counter() - begin), arrivals))


def client(url: str, token: str, count: int, told: Connection) -> None:
    """Be a client in a process of its own."""
    asyncio.run(_client(url, token, count, told))


async def served(root: Path, *, speed: float | None, count: int) -> tuple[float, list[int]]:
    """Serve a recording to one client; give its rate and when frames came."""
    reader = Reader(recorder.open(root)._reader.layout, load_topics())  # noqa: SLF001  the benchmark's own reader
    feed = ArchiveFeed(reader, contents_of(reader, span=Span()), speed=speed)
    ours, theirs = mp.Pipe()
    try:
        async with serve(feed, rules=Rules(ready_after=20_000, expire_after=None)) as gateway:
            process = mp.get_context("spawn").Process(
                target=client, args=(gateway.socket_url, gateway.identity.session, count, theirs)
            )
            process.start()
            ours.send([f"smd+{conid}" for conid in feed.instruments])
            ours.send(speed is not None)
            while not ours.poll():
                await asyncio.sleep(0.05)
            rate, arrivals = ours.recv()
            process.join()
    finally:
        feed.close()
    return rate, arrivals


def main(count: int) -> None:
    """Run all."""
    with tempfile.TemporaryDirectory() as folder:
        root = recording(Path(folder) / "data", count, step_us=100)
        archive = recorder.open(root)
        best("frames, in process", archive.frames, count)
        best("frames received, in process", lambda: archive.frames(kinds=["in"]), count)
        best(
            f"events of {CONTRACTS} contracts with six columns, in process",
            lambda: archive.replay("market_data", columns=COLUMNS),
            count,
        )
        rates = [asyncio.run(served(root, speed=None, count=count))[0] for _ in range(3)]
        print(f"{'served at full speed to one websockets client':<52} {max(rates):>12,.0f} /s")
        paced = recording(Path(folder) / "paced", PACED_RATE * PACED_S, step_us=1_000_000 // PACED_RATE)
        _, arrivals = asyncio.run(served(paced, speed=1.0, count=PACED_RATE * PACED_S))
        times = np.array(arrivals[PACED_RATE:]) / 1e3  # the first second warms up
        error = np.abs(np.diff(times) - 1e6 / PACED_RATE)
        drift = (times[-1] - times[0]) - (len(times) - 1) * 1e6 / PACED_RATE
        print(
            f"paced at {PACED_RATE:,}/s: inter-arrival error p50 {np.percentile(error, 50):.0f} us, "
            f"p99 {np.percentile(error, 99):.0f} us; drift {drift:.0f} us in {len(times) / PACED_RATE:.0f} s"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else FRAMES)
