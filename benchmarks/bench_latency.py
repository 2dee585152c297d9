"""How long a frame takes: from the sender to its stamp, and from its stamp to where readers see it in the journal.

    python benchmarks/bench_latency.py [--rates 1000,5000,10000] [--seconds 20] [--flush-every 2s]

The capture is a process of its own, as users run it, with flushes going on. A frame is visible when it was written to
the operating system; this program looks at the journal every millisecond or so, which is part of the figure. Sender and
capture share a clock, so the first figure holds the socket and both processes' turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

import recorder
from recorder.archive.journal import SegmentReader
from recorder.archive.layout import open_layout


@contextmanager
def load(total: int, rate: int) -> Iterator[int]:
    """Run the paced load server; give its port."""
    server = Path(__file__).with_name("load_server.py")
    with subprocess.Popen([sys.executable, str(server), str(total), str(rate)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


def watch(data: Path, process: subprocess.Popen[bytes]) -> list[float]:
    """Follow the journal while the capture runs; give, in milliseconds, how old each frame was when it was seen."""
    ages: list[npt.NDArray[np.float64]] = []
    reader: SegmentReader | None = None
    while process.poll() is None:
        try:
            segments = open_layout(data).segments("main")
            if segments and (reader is None or segments[-1] != reader.path):
                reader = SegmentReader(segments[-1])
            if reader is not None:
                ages.extend((time.time_ns() / 1000 - batch.ts_recv) / 1000 for batch in reader.batches())
        except (FileNotFoundError, recorder.RecorderError):
            reader = None  # no archive yet, or the segment was archived
        time.sleep(0.001)
    return np.concatenate(ages).tolist() if ages else []


def measure(rate: int, seconds: int, flush_every: str) -> dict[str, float]:
    """Run one capture; give percentiles in milliseconds."""
    with load(rate * seconds, rate) as port, tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        words = ["--gateway", f"http://127.0.0.1:{port}/v1/api", "--conid", "265598", "--topic", "market_data"]
        command = [sys.executable, "-m", "recorder.cli.main", "capture", *words]
        with subprocess.Popen(
            [*command, "--data", str(data), "--for", f"{seconds + 3}s", "--flush-every", flush_every],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            ages = watch(data, process)
        used = os.times()
        table = recorder.open(data).table("market_data", columns=["ts_recv", "ts_event"])
        delays = (table["ts_recv"].cast("int64").to_numpy() - table["ts_event"].cast("int64").to_numpy() / 1000) / 1000
    figures: dict[str, float] = {"frames": len(delays), "seen": len(ages), "children_cpu_s": used.children_user}
    for name, values in (("stamp", delays), ("journal", np.array(ages))):
        for percent in (50, 99, 99.9):
            figures[f"{name} p{percent:g} ms"] = round(float(np.percentile(values, percent)), 2)
    return figures


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1000,5000,10000")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--flush-every", default="2s")
    options = parser.parse_args()
    for rate in map(int, options.rates.split(",")):
        print(json.dumps({"rate": rate, **measure(rate, options.seconds, options.flush_every)}), flush=True)
    print(f"{platform.machine()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
