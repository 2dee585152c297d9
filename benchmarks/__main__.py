"""All benchmarks in one run: one table, our figure beside a peer's of the same run.

    python -m benchmarks [--only capture,load] [--json FILE] [--markdown FILE] [--quick]

Each benchmark is a process of its own and prints one object of figures; this runs them one after the other and puts
the figures that were asked for into one table. The peers need the extra `bench` (`pip install '.[bench]'`); a figure
whose peer is not installed stands alone. Let nothing else run: load is said with the machine. All of it takes about
an hour, with `--quick` about five minutes, on smaller data.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PACKAGES = (
    "ibkr-recorder", "websockets", "pyarrow", "pandas", "msgspec", "polars", "duckdb", "nautilus_trader", "cryptofeed",
    "databento", "ibind",
)  # fmt: skip


class Bench(NamedTuple):
    """A benchmark's script and arguments, in full and quick."""

    script: str
    full: str
    quick: str


BENCHES = {
    "peers": Bench("peers.py", "", "--quotes 100000"),
    "capture": Bench("bench_capture.py", "", "--frames 300000 --runs 1"),
    "receive": Bench("bench_receive.py", "", "--frames 50000 --rounds 2"),
    "latency": Bench("bench_latency.py", "--rates 1000,10000,50000,full", "--rates 1000,10000 --seconds 8"),
    "follow": Bench("bench_follow.py", "", "--rates 1000,10000 --seconds 8"),
    "recovery": Bench("bench_archive.py", "--segments 1", "--segments 1 --frames 200000"),
    "compaction": Bench("bench_archive.py", "--frames 10000000 --segments 24", "--frames 500000 --segments 24"),
    "storage": Bench("bench_storage.py", "", "--frames 200000"),
    "replay": Bench("bench_replay.py", "", "--frames 200000"),
    "load": Bench("bench_load.py", "", "--frames 200000 --state-frames 500000 --rounds 3"),
    "idle": Bench("bench_idle.py", "", "--seconds 15"),
    "scale": Bench("bench_scale.py", "", "--frames 100000,200000"),
}


class Row(NamedTuple):
    """A row of the table: figures by `bench.name`; `peer` names the other tool's, of which the ratio is made."""

    what: str
    ours: str
    unit: str
    peer: str | None = None
    of: str = ""
    asked: str = ""


ROWS = (
    Row("received and journaled", "capture.received_per_s", "frames/s", "capture.bare_per_s", "bare websockets", "0.9"),
    Row("the same, beside ibind", "capture.received_per_s", "frames/s", "peers.ibind_received_per_s", "ibind"),
    Row("the same, beside cryptofeed's collector alone", "capture.received_per_s", "frames/s",
        "peers.cryptofeed_raw_per_s", "cryptofeed"),
    Row("sustained to typed Parquet", "capture.sustained_per_s", "frames/s", "capture.bare_per_s", "bare websockets",
        "0.55"),
    Row("the same, beside NautilusTrader's stream writer", "capture.sustained_per_s", "frames/s",
        "peers.nautilus_stream_per_s", "nautilus_trader"),
    Row("decoding", "capture.decode_us_per_frame", "us a frame", asked="6 or less"),
    Row("receipt to the operating system at 1,000/s, p99", "latency.write p99 ms at 1000", "ms"),
    Row("receipt to the operating system at 10,000/s, p99", "latency.write p99 ms at 10000", "ms", asked="under 5"),
    Row("receipt to the operating system at 50,000/s, p99", "latency.write p99 ms at 50000", "ms"),
    Row("receipt to the operating system flat out, p99", "latency.write p99 ms at full", "ms", asked="under 50"),
    Row("sender to receive stamp at 10,000/s while flushing, p99.9", "latency.stamp p99.9 ms at 10000", "ms",
        asked="under 50"),
    Row("sender to the journal at 1,000/s, p99", "latency.journal p99 ms at 1000", "ms"),
    Row("sender to the journal at 10,000/s, p99", "latency.journal p99 ms at 10000", "ms"),
    Row("sender to the journal at 50,000/s, p99", "latency.journal p99 ms at 50000", "ms"),
    Row("receipt to a follower at 1,000/s, p99", "follow.event p99 ms at 1000", "ms"),
    Row("receipt to a follower at 10,000/s, p99", "follow.event p99 ms at 10000", "ms"),
    Row("receipt to a follower at 50,000/s, p99", "follow.event p99 ms at 50000", "ms"),
    Row("newest row of a load beside it at 10,000/s, p50", "follow.load age p50 ms at 10000", "ms"),
    Row("recovery of a million frames", "recovery.recover: recovery_s", "s", asked="under 7"),
    Row("compaction of 20 million rows", "compaction.compact: compact_rows_per_s", "rows/s", asked="2,000,000"),
    Row("verification", "recovery.verify: verify_frames_per_s", "frames/s", asked="1,000,000"),
    Row("typed, compacted", "storage.typed_bytes_per_row", "bytes a row", "storage.gzip_bytes_per_frame",
        "JSON lines, gzip -6", "0.65 or less"),
    Row("verbatim, compacted", "storage.verbatim_bytes_per_frame", "bytes a frame", "storage.gzip_bytes_per_frame",
        "JSON lines, gzip -6", "0.95 or less"),
    Row("the same, beside zstd -19", "storage.verbatim_bytes_per_frame", "bytes a frame",
        "storage.zstd_19_bytes_per_frame", "JSON lines, zstd -19"),
    Row("replay in process, verbatim frames", "replay.frames_per_s", "frames/s", asked="2,500,000"),
    Row("replay in process, events of six columns", "replay.events_per_s", "events/s",
        "peers.nautilus_query_per_s", "nautilus_trader's catalog", "4,000,000"),
    Row("the same, beside DBN of one stream, nothing merged", "replay.events_per_s", "events/s",
        "peers.databento_iterate_per_s", "databento"),
    Row("served to one websockets client", "replay.served_per_s", "messages/s", "replay.ceiling_per_s",
        "the client's own ceiling", "200,000"),
    Row("served to two websockets clients, together", "replay.served_to_two_clients_per_s", "messages/s",
        "replay.served_per_s", "one client"),
    Row("served to a client that costs little", "replay.served_to_a_light_client_per_s", "messages/s",
        "replay.light_client_ceiling_per_s", "the client's own ceiling", "300,000"),
    Row("paced at 5,000/s, inter-arrival error, p99", "replay.paced_p99_us", "us", "replay.bare_sender_p99_us",
        "a bare paced sender", "under 1,000"),
    Row("load of a contract-day, four columns", "load.load", "ms", "load.load: pandas", "pandas", "1.25 or less"),
    Row("the same, filled", "load.fill", "ms", "load.load: pandas", "pandas, not filled", "2 or less"),
    Row("the same, as an Arrow table", "load.table", "ms", "load.table: pyarrow", "pyarrow"),
    Row("one-minute bars of it", "load.bars of the mid", "ms", "load.bars of the mid: pandas", "pandas", "under 200"),
    Row("state in a day of 10 million rows, four columns", "load.state of the book", "ms",
        "load.state of the book: duckdb", "duckdb", "under 1,000"),
    Row("idle at 1,000 frames/s", "idle.cpu_percent_at_1000", "% of a core",
        "idle.bare_websockets_cpu_percent_at_1000", "bare websockets", "under 3"),
)  # fmt: skip


def run(name: str, *, quick: bool) -> dict[str, Any] | None:
    """Run one benchmark; give what its last lines say, None if it failed: the others are not lost for that."""
    bench = BENCHES[name]
    words = (bench.quick if quick else bench.full).split()
    print(f"{time.strftime('%H:%M:%S')} {bench.script} {' '.join(words)}", file=sys.stderr, flush=True)
    ran = subprocess.run(
        [sys.executable, str(HERE / bench.script), *words], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        print(f"{bench.script} failed:\n{ran.stdout}{ran.stderr}", file=sys.stderr, flush=True)
        return None
    found: dict[str, Any] = json.loads(ran.stdout[ran.stdout.index("{") :])
    return found


def machine() -> dict[str, Any]:
    """Say what this ran on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 1),
        "packages": versions,
    }


def table(figures: dict[str, dict[str, Any]]) -> str:
    """Put the figures that are there into a table."""
    lines = ["| what | ours | beside it | ratio | asked |", "|---|---|---|---|---|"]
    for row in ROWS:
        ours = _find(figures, row.ours)
        if ours is None:
            continue
        peer = None if row.peer is None else _find(figures, row.peer)
        beside = "" if peer is None else f"{_written(peer)} ({row.of})"
        ratio = "" if peer is None else f"{ours / peer:.2f}"
        lines.append(f"| {row.what} | {_written(ours)} {row.unit} | {beside} | {ratio} | {row.asked} |")
    return "\n".join(lines)


def _written(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:g}"


def _find(figures: dict[str, dict[str, Any]], name: str) -> float | None:
    bench, _, key = name.partition(".")
    found: Any = figures.get(bench, {}).get(key)
    said: float | None = found["median"] if isinstance(found, dict) else found
    return said


def main() -> None:
    """Run, print the table, write what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help=f"some of {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="smaller data")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(BENCHES)
    unknown = sorted(set(names) - set(BENCHES))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    about = machine()
    figures: dict[str, dict[str, Any]] = {}
    for name in names:
        found = run(name, quick=options.quick)
        if found is not None:
            figures[name] = found
            if options.json is not None:
                options.json.write_text(json.dumps({"about": about, "figures": figures}, indent=2) + "\n")
    told = table(figures)
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    where = f"{about['date']}: {about['machine']}, {about['cores']} cores, Python {about['python']}; {packages}"
    print(f"{told}\n\n{where}; load before {about['load_before']}")
    if options.markdown is not None:
        options.markdown.write_text(f"{told}\n\n{where}.\n")
    failed = [name for name in names if name not in figures]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
