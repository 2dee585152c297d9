"""The receive path: our capture beside a bare `websockets` receive loop, on the same load, in turn.

    python benchmarks/bench_capture.py [--frames 1000000] [--runs 3]

receive rate: frames over the time between the first and the last receive stamp.
sustained rate: frames over the time from the first receive stamp until the last row is in Parquet.
decode: microseconds of processor time a frame in the decoder alone, in batches as the archiver uses them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import resource
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from load_server import CONTRACTS, frames
from processes import load_server
from websockets.asyncio.client import connect

import recorder
from recorder.capture.settings import CaptureSettings
from recorder.pauses import shorten_pauses
from recorder.protocol.decode import Decoder
from recorder.protocol.segment import CHUNK, IN_TEXT, Scan, encode_batch
from recorder.protocol.topics import load_topics
from recorder.recording import record

if TYPE_CHECKING:
    from recorder.capture.capture import Capture


async def bare(port: int, total: int) -> float:
    """Receive with nothing but `websockets`; give frames a second."""
    url = f"ws://127.0.0.1:{port}/v1/api/ws"
    async with connect(url, proxy=None, compression=None, max_size=None, ping_interval=None) as socket:
        await socket.recv(), await socket.recv()
        await socket.send('smd+265598+{"fields":["31"]}')
        await socket.recv(decode=False)
        begin = time.perf_counter()
        for _ in range(total - 1):
            await socket.recv(decode=False)
        return (total - 1) / (time.perf_counter() - begin)


async def ours(port: int, total: int, data: Path) -> tuple[float, float]:
    """Capture with the real recorder; give the receive and the sustained rate."""
    settings = CaptureSettings(
        gateway=f"http://127.0.0.1:{port}/v1/api", conid=("265598",), data=data, topic=("market_data",)
    )
    watcher: list[asyncio.Task[None]] = []

    def ready(capture: Capture) -> None:
        watcher.append(asyncio.create_task(stop_after(capture, total + 2)))

    outcome = await record(settings, ready=ready)
    done = time.time()
    assert outcome.rows["market_data"] == total, outcome
    stamps = np.asarray(recorder.open(data).table("market_data", columns=["ts_recv"])["ts_recv"].cast("int64"))
    first, last = int(stamps.min()) / 1e6, int(stamps.max()) / 1e6
    return (total - 1) / (last - first), total / (done - first)


async def stop_after(capture: Capture, frames: int) -> None:
    """Stop the capture once it has received so many frames."""
    while capture.counters.received < frames:
        await asyncio.sleep(0.01)
    capture.stop("all frames are here")


def decode(count: int) -> float:
    """Give the decoder's microseconds of processor time a frame."""
    payloads = frames(count)
    record_bytes = [
        encode_batch(start, [0] * len(part), [1] * len(part), [IN_TEXT] * len(part), part)
        for start in range(0, count, CHUNK)
        if (part := payloads[start : start + CHUNK])
    ]
    batches = [batch for data in record_bytes for batch in Scan(data, whole=False)]
    decoder = Decoder(load_topics())
    begin = time.process_time()
    for batch in batches:
        decoder.decode(batch)
    return (time.process_time() - begin) / count * 1e6


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    shorten_pauses()  # as the command does
    results: list[tuple[float, float, float]] = []
    for number in range(options.runs):
        with load_server(options.frames) as port:
            plain = asyncio.run(bare(port, options.frames))
        with load_server(options.frames) as port, tempfile.TemporaryDirectory() as folder:
            received, sustained = asyncio.run(ours(port, options.frames, Path(folder) / "data"))
        results.append((plain, received, sustained))
        print(f"run {number + 1}: bare {plain:,.0f}/s  received {received:,.0f}/s  sustained {sustained:,.0f}/s")
    plain, received, sustained = (median(column) for column in zip(*results, strict=True))
    figures = {
        "frames": options.frames,
        "contracts": CONTRACTS,
        "bare_per_s": round(plain),
        "received_per_s": round(received),
        "sustained_per_s": round(sustained),
        "received_to_bare": round(median(row[1] / row[0] for row in results), 2),
        "sustained_to_bare": round(median(row[2] / row[0] for row in results), 2),
        "decode_us_per_frame": round(median(decode(200_000) for _ in range(options.runs)), 2),
        "capture_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "archiver_peak_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
