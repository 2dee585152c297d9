"""How each step grows with a day: 1, 10 and 50 million frames of 1,000 contracts.

    python benchmarks/bench_scale.py [--frames 1000000,10000000,50000000] [--contracts 1000] [--data DIR]

A day's journal is written, one segment for each half a million frames, and then archived, compacted, verified and read
by the commands that users run, each a process of its own, its time, processor time and peak of memory beside it. The
frames are those of the synthetic market, 100,000 of them again and again. `load` is one contract, six columns; `load
ten` is ten of them. Archives are removed as soon as they are measured unless DIR is given: 50 million frames take about
3 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from load_server import frames as market
from loads import DATE, DISTINCT, write_day

import recorder
from recorder.archive.layout import open_layout
from recorder.cli.main import run
from recorder.recording import compact_finished, flush

SEGMENT = 500_000
COLUMNS = ["bid_price", "bid_size", "ask_price", "ask_size", "last_price", "last_size"]


def _conids(data: Path) -> list[int]:
    return sorted(int(path.name.partition("=")[2]) for path in (data / "market_data" / f"date={DATE}").glob("conid=*"))


def _flush(data: Path) -> None:
    flush(open_layout(data), tell=lambda _news: None)


def _compact(data: Path) -> None:
    compact_finished(open_layout(data), before=None, done=lambda _rows: None)


def _load(data: Path) -> None:
    recorder.open(data).load("market_data", conid=_conids(data)[0], columns=COLUMNS)


def _load_ten(data: Path) -> None:
    recorder.open(data).load("market_data", conid=_conids(data)[:10], columns=COLUMNS)


def _command(*words: str) -> Callable[[Path], None]:
    """Make a step of one of the recorder's commands; where no capture runs `status` says so by its exit code."""

    def step(data: Path) -> None:
        code = run([*words, "--data", str(data)])
        assert code == 0 or words[0] == "status", f"{words[0]} ended with {code}"

    return step


STEPS: dict[str, Callable[[Path], None]] = {
    "flush": _flush,
    "load of parts": _load,
    "compact": _compact,
    "load": _load,
    "load ten": _load_ten,
    "inspect": _command("inspect", "--json"),
    "gaps": _command("gaps", "--json"),
    "status": _command("status", "--json"),
    "verify": _command("verify", "--json"),
}


def be_step(name: str, data: Path) -> None:
    """Be one step, and say what it took on the last line."""
    begin, cpu = time.perf_counter(), time.process_time()
    STEPS[name](data)
    took, used = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("\n" + json.dumps({"s": round(took, 2), "cpu_s": round(used, 2), "peak_mb": round(peak)}))


def measure(frames: int, contracts: int, data: Path) -> dict[str, dict[str, float]]:
    """Write a day and run every step on it."""
    write_day(data, frames=frames, payloads=market(DISTINCT, contracts), segment=SEGMENT)
    found = {}
    for name in STEPS:
        words = [sys.executable, __file__, "--step", name, "--data", str(data)]
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
        if ran.returncode:
            sys.exit(f"{name} failed:\n{ran.stderr}")
        found[name] = json.loads(ran.stdout.splitlines()[-1])
        print(f"{frames:>11,} frames  {name:<14} {found[name]}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Run all sizes and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", default="1000000,10000000,50000000")
    parser.add_argument("--contracts", type=int, default=1_000)
    parser.add_argument("--data", type=Path, help="where to make the archives, which then stay")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step is not None:
        be_step(options.step, options.data)
        return
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for frames in map(int, options.frames.split(",")):
            data = (options.data or Path(scratch)) / f"day-{frames}"
            found = measure(frames, options.contracts, data)
            figures |= {f"{name}_{key}_at_{frames}": value for name, one in found.items() for key, value in one.items()}
            if options.data is None:
                shutil.rmtree(data)
    figures["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
