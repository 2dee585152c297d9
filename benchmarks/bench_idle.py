"""What a capture costs while little or nothing comes: processor time and memory of capture and archiver.

    python benchmarks/bench_idle.py [--rates 0,100,1000] [--seconds 60] [--contracts 100]

The gateway is the simulator, the settings are the defaults or those of the environment
(`RECORDER_FLUSH_EVERY=60s`), capture and archiver are the processes that users run. A run's first ten seconds are left
out: they are the start. Memory is what both processes hold, pages that they share counted twice, looked at each second.
Beside it: a bare `websockets` loop that receives as many frames a second and does nothing with them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from processes import RECORDER, Watch, load_server, usage
from websockets.asyncio.client import connect

SETTLE_S = 10
BARE_S = 15


def measure(rate: int, seconds: int, contracts: int, folder: Path) -> dict[str, Any]:
    """Run simulator and capture; give percent of a core and megabytes."""
    simulate = [
        "simulate",
        "--serve",
        "127.0.0.1:0",
        "--json",
        "--contracts",
        str(contracts),
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


async def bare(port: int, total: int) -> float:
    """Receive with nothing but `websockets`; give percent of a core."""
    url = f"ws://127.0.0.1:{port}/v1/api/ws"
    async with connect(url, proxy=None, compression=None, max_size=None, ping_interval=None) as socket:
        await socket.recv(), await socket.recv()
        await socket.send('smd+265598+{"fields":["31"]}')
        begin, cpu = time.perf_counter(), time.process_time()
        for _ in range(total):
            await socket.recv(decode=False)
        return round(100 * (time.process_time() - cpu) / (time.perf_counter() - begin), 1)


def main() -> None:
    """Run each rate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="0,100,1000")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--contracts", type=int, default=100)
    options = parser.parse_args()
    figures: dict[str, object] = {}
    for rate in map(int, options.rates.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            found = measure(rate, options.seconds, options.contracts, Path(folder))
        if rate:
            total = rate * min(options.seconds, BARE_S)
            with load_server(total, rate) as port:
                found["bare_websockets_cpu_percent"] = asyncio.run(bare(port, total))
        figures |= {f"{name}_at_{rate}": value for name, value in found.items()}
    figures["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
