"""Benchmark of following: how long after its receipt a frame is an event of a follower.

Run as `python benchmarks/bench_follow.py [SECONDS] [FRAMES_PER_SECOND]`. A simulated gateway, a capture that archives
each two seconds, and the follower are processes of one machine; ages are by the one wall clock that they share.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from processes import RECORDER

import recorder

SECONDS = 20
RATE = 200


def main(seconds: int, rate: int) -> None:
    """Follow a capture and print percentiles of the events' ages."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        serving = (*RECORDER, "simulate", "--serve", "127.0.0.1:0", "--rate", str(rate), "--contracts", "20", "--json")
        with subprocess.Popen(serving, stdout=subprocess.PIPE) as gateway:
            assert gateway.stdout is not None
            serves = json.loads(gateway.stdout.readline())
            conids = ",".join(map(str, serves["conids"]))
            capturing = (*RECORDER, "capture", "--gateway", serves["gateway"], "--conid", conids)
            with subprocess.Popen(
                (*capturing, "--data", str(data), "--flush-every", "2s"), stdout=subprocess.DEVNULL
            ) as capture:
                while not list(data.glob("journal/main/*.seg")):
                    time.sleep(0.05)
                end = datetime.now(UTC) + timedelta(seconds=seconds)
                events = recorder.open(data).replay("market_data", gaps="event", follow=True, end=end)
                begin = time.process_time()
                ages = [time.time_ns() / 1e6 - event.ts_recv / 1e3 for event in events]
                busy = (time.process_time() - begin) / seconds
                capture.terminate()
            gateway.terminate()
    warm = np.array(ages[len(ages) // 10 :])
    figures = {"events": len(warm), "age_ms_most": round(warm.max())}
    figures |= {f"age_ms_p{percent}": round(np.percentile(warm, percent)) for percent in (50, 99)}
    print(json.dumps(figures | {"follower_cpu_percent": round(100 * busy, 1)}, indent=2))


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS,
        int(sys.argv[2]) if len(sys.argv) > 2 else RATE,
    )
