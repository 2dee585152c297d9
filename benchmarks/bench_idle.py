"""What a capture costs while little or nothing comes: processor time and memory of capture and archiver.

    python benchmarks/bench_idle.py [--rates 0,100,1000] [--seconds 60]

The gateway is the simulator with 100 contracts, the settings are the defaults or those of the environment
(`RECORDER_FLUSH_EVERY=60s`), capture and archiver are the processes that users run. A run's first ten seconds are left
out: they are the start. Memory is what both processes hold, pages that they share counted twice, looked at each second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from processes import RECORDER, Watch, usage

SETTLE_S = 10


def measure(rate: int, seconds: int, folder: Path) -> dict[str, Any]:
    """Run simulator and capture; give percent of a core and megabytes."""
    simulate = [
        "simulate",
        "--serve",
        "127.0.0.1:0",
        "--json",
        "--contracts",
        "100",
        "--rate",
        str(rate),
        "--seed",
        "1",
    ]
    with subprocess.Popen([*RECORDER, *simulate], stdout=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdout is not None, "it is a pipe"
        serving = json.loads(simulator.stdout.readline())
        conids = ",".join(map(str, serving["conids"]))
        words = ["capture", "--gateway", serving["gateway"], "--conid", conids, "--data", str(folder / "data")]
        with subprocess.Popen([*RECORDER, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as capture:
            time.sleep(SETTLE_S)
            watch = Watch(capture.pid)
            time.sleep(seconds)
            watch.stop()
            capture.send_signal(signal.SIGTERM)
        simulator.send_signal(signal.SIGINT)
        simulator.stdout.read()
    return usage(watch.samples)


def main() -> None:
    """Run each rate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="0,100,1000")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    figures: dict[str, object] = {}
    for rate in map(int, options.rates.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            found = measure(rate, options.seconds, Path(folder))
        figures |= {f"{name}_at_{rate}": value for name, value in found.items()}
    figures["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
