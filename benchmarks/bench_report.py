"""What `recorder report` costs on a big day: seconds and memory of a process of its own.

    python benchmarks/bench_report.py [--data DIR] [--frames 10000000] [--contracts 100]

The day is one of the synthetic market, archived and compacted by the recorder itself, or found in DIR. Other work on
the machine shows.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loads import DATE, make_day


def main() -> None:
    """Make the day, judge it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--frames", type=int, default=10_000_000)
    parser.add_argument("--contracts", type=int, default=100)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = chosen.data or Path(folder) / "data"
        if not data.exists():
            make_day(data, frames=chosen.frames, contracts=chosen.contracts)
        page = Path(folder) / "report.html"
        command = [sys.executable, "-m", "recorder.cli.main", "report", "--data", str(data), "--date", DATE]
        begin = time.perf_counter()
        done = subprocess.run([*command, "--html", str(page)], capture_output=True, text=True, check=False)
        took = time.perf_counter() - begin
        if not page.exists():
            sys.exit(done.stderr)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(
            f"report of {chosen.frames:,} rows: {took:.1f} s, {peak:.2f} GB, page of {page.stat().st_size / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
