"""How long a frame takes while flushes go on: to its stamp, from its stamp to the operating system, and all of it.

    python benchmarks/bench_latency.py [--rates 1000,10000,full] [--seconds 20] [--frames 1000000] [--flush-every 2s]

`stamp`: from the sender's clock to the receive stamp, of every frame; both processes share a clock, so it holds the
socket and both processes' turns. No flush may delay it by more than 50 ms (p99.9). At full speed the sender does not
stamp frames, and there is no such figure.

`write`: from the receive stamp until the write to the journal has returned, counted for all frames of a batch as for
its oldest. It must stay under 5 ms at 10,000 frames/s and under 50 ms at full speed (p99).

`journal`: from the sender's clock until that write has returned, of every frame: one number for its whole way into the
journal. The sender stamps a frame as it hands it to the kernel.

The capture is a process of its own, as users run it, with its archiver beside it; its journal writer notes the time
behind each write. With few cores, sender, capture and archiver take turns, and that is in the figures.
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
from pathlib import Path
from typing import Any

import numpy as np
from percentiles import percentiles
from processes import capture_words, load_server

import recorder


def be_capture(notes: str, arguments: list[str]) -> None:
    """Be the recorder's command, its journal writer noting when each batch was written, and what is in it."""
    from recorder.capture.journal_writer import Writer  # noqa: PLC0415
    from recorder.cli.main import run  # noqa: PLC0415

    write, noted = vars(Writer)["_write"], list[tuple[int, int, int, int]]()

    def noting(self: Any, batch: Any) -> None:
        write(self, batch)
        written = time.time_ns() // 1000
        noted.append((written, batch.first_seq, len(batch.frames), written - batch.frames[0][0]))

    setattr(Writer, "_write", noting)  # noqa: B010  a private step of the writer, measured
    code = run(arguments)
    np.save(notes, np.array(noted, np.int64))
    sys.exit(code)


def measure(rate: int, seconds: int, frames: int, flush_every: str) -> dict[str, float]:
    """Run one capture at a rate, or at full speed (0); give percentiles in milliseconds."""
    total = rate * seconds or frames
    with load_server(total, rate) as port, tempfile.TemporaryDirectory() as folder:
        data, notes = Path(folder) / "data", Path(folder) / "notes.npy"
        words = [*capture_words(port, data, flush_every=flush_every), "--for", f"{seconds + 3}s"]
        subprocess.run(
            [sys.executable, __file__, "--as-capture", str(notes), *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        written, first, count, age = np.load(notes).T
        table = recorder.open(data).table("market_data", columns=["ts_recv", "ts_event", "seq"])
    figures: dict[str, float] = {"frames": table.num_rows, "sent": total, "batches": len(count)}
    if rate:
        sent = table["ts_event"].cast("int64").to_numpy() / 1000
        held = written[np.searchsorted(first, table["seq"].to_numpy(), "right") - 1]
        figures |= percentiles("stamp", (table["ts_recv"].cast("int64").to_numpy() - sent) / 1000)
        figures |= percentiles("journal", (held - sent) / 1000)
    return figures | percentiles("write", np.repeat(age, count) / 1000)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1000,10000,full")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--frames", type=int, default=1_000_000, help="how many are sent at full speed")
    parser.add_argument("--flush-every", default="2s")
    options = parser.parse_args()
    figures: dict[str, object] = {}
    for name in options.rates.split(","):
        rate = 0 if name == "full" else int(name)
        found = measure(rate, options.seconds, options.frames, options.flush_every)
        figures |= {f"{what} at {name}": value for what, value in found.items()}
    figures["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-capture"]:
        be_capture(sys.argv[2], sys.argv[3:])
    main()
