"""What the archive costs: recovery after a crash, verification, compaction, loading.

    python benchmarks/bench_archive.py [--frames 1000000] [--segments 24]

The frames are those of the synthetic market, 100 contracts, written by the journal's own writer and archived by the
archiver. Each step is run in a process of its own, whose peak of memory is said with it; beside the time on the clock
stands the processor time, which other work on the machine changes less. Three shapes are worth a look:

    --frames 1000000 --segments 1      one segment, as after a crash: parts of 10,000 rows
    --frames 1000000 --segments 24     a quiet day, flushed every hour: 2,424 parts of 416 rows
    --frames 10000000 --segments 24    a busy day of 20 million rows, half of them frames: parts of 4,160 rows
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from load_server import CONTRACTS, frames

import recorder
from recorder.archive.layout import make_layout, open_layout
from recorder.archive.reading import Reader
from recorder.archive.verify import verify
from recorder.capture.journal import Journal, Limits
from recorder.disk import make_folder
from recorder.protocol.days import DayBoundary
from recorder.protocol.marks import encode_mark
from recorder.protocol.masking import Masker
from recorder.protocol.segment import IN_TEXT
from recorder.protocol.topics import load_topics
from recorder.recording import compact_finished, flush

SESSION = "20261120T000000aaaa"
BEGIN = 1_795_132_800_000_000  # 2026-11-20 00:00 UTC
EVERY = 500  # microseconds between frames
TURN = 300  # frames of one turn of the event loop


async def _journal(data: Path, count: int, segments: int) -> None:
    layout = make_layout(data, DayBoundary("00:00 UTC"))
    make_folder(layout.journal("main"), below=layout.root)
    distinct = frames(min(count, 100_000))
    now = BEGIN

    def clock() -> int:
        return now * 1000

    limits = Limits(0.05, 0.25, count // segments + 1, 1 << 40, 1 << 40)
    journal = Journal(
        layout.journal("main"),
        recorder="main",
        session=SESSION,
        boundary=layout.boundary,
        limits=limits,
        on_failure=print,
        on_pressure=print,
        masker=Masker(),
        now=clock,
    )
    journal.begin_connection()
    journal.note(encode_mark("session_started", predecessor=None))
    for number in range(count):
        now += EVERY
        journal.extend([(now, IN_TEXT, distinct[number % len(distinct)])])
        if number % TURN == 0:
            await asyncio.sleep(0.003)  # let the loop hand the batch over, as a capture's does
    await journal.close()


def _make(data: Path, count: int, segments: int) -> dict[str, float]:
    asyncio.run(_journal(data, count, segments))
    return {}


def _recover(data: Path, count: int, _segments: int) -> dict[str, float]:
    begin = time.perf_counter()
    flush(open_layout(data), tell=lambda _news: None)
    took = time.perf_counter() - begin
    return {"recovery_s": took, "recovery_frames_per_s": count / took}


def _verify(data: Path, count: int, _segments: int) -> dict[str, float]:
    begin = time.perf_counter()
    report = verify(open_layout(data), load_topics(), done=lambda _count: None)
    took = time.perf_counter() - begin
    assert not report.problems, report.problems
    return {"verify_frames_per_s": count / took}


def _compact(data: Path, count: int, _segments: int) -> dict[str, float]:
    begin = time.perf_counter()
    compacted = compact_finished(open_layout(data), before=None, done=lambda _count: None)
    took = time.perf_counter() - begin
    if not compacted:
        return {}  # one segment makes one part a partition
    return {"compact_rows_per_s": 2 * count / took, "compact_s": took, "parts_before": compacted[0].before}


def _load(data: Path, _count: int, _segments: int) -> dict[str, float]:
    archive = recorder.open(data)
    conid = next(iter(Reader(open_layout(data), load_topics()).layout.conids("market_data", "2026-11-20")))
    begin = time.perf_counter()
    rows = len(archive.load("market_data", conid=conid, columns=["bid_price", "ask_price", "bid_size", "ask_size"]))
    took = time.perf_counter() - begin
    begin = time.perf_counter()
    replayed = sum(1 for _ in archive.frames())
    frames_took = time.perf_counter() - begin
    begin = time.perf_counter()
    events = sum(1 for _ in archive.replay("market_data", columns=["bid_price", "ask_price", "bid_size", "ask_size"]))
    events_took = time.perf_counter() - begin
    return {
        "load_rows_per_s": rows / took,
        "frames_per_s": replayed / frames_took,
        "events_per_s": events / events_took,
    }


STEPS = {
    "make": _make,
    "recover": _recover,
    "verify": _verify,
    "compact": _compact,
    "verify_compacted": _verify,
    "load": _load,
}


def main() -> None:
    """Run all steps, each in a process of its own, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--segments", type=int, default=24)
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--data", type=Path, help="where to make the archive, or with --step where it is")
    options = parser.parse_args()
    if options.step is not None:
        begin = time.process_time()
        figures = STEPS[options.step](options.data, options.frames, options.segments)
        figures["cpu_s"] = time.process_time() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(figures | {"peak_mb": peak}))
        return
    with tempfile.TemporaryDirectory(dir=options.data) as folder:
        all_figures: dict[str, object] = {
            "frames": options.frames,
            "contracts": CONTRACTS,
            "segments": options.segments,
        }
        for step in STEPS:
            words = ["--step", step, "--data", f"{folder}/data", "--frames", str(options.frames)]
            ran = subprocess.run(
                [sys.executable, __file__, *words, "--segments", str(options.segments)], check=True, capture_output=True
            )
            figures = json.loads(ran.stdout.splitlines()[-1])
            all_figures |= {f"{step}: {name}": round(value, 2) for name, value in figures.items()}
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
        all_figures["bytes_per_frame_compacted"] = round(size / options.frames, 1)
    all_figures["machine"] = f"{platform.machine()}, Python {platform.python_version()}"
    print(json.dumps(all_figures, indent=2))


if __name__ == "__main__":
    main()
