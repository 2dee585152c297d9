"""Processes of a benchmark: the recorder's command, and what a process and its children use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import linear_regression, median
from threading import Event, Thread
from typing import Any, NamedTuple

RECORDER = [sys.executable, "-c", "from recorder.cli.main import main; main()"]
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@contextmanager
def load_server(total: int, rate: int = 0) -> Iterator[int]:
    """Run the load server, paced unless the rate is 0; give its port."""
    server = Path(__file__).with_name("load_server.py")
    with subprocess.Popen([sys.executable, str(server), str(total), str(rate)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None, "it is a pipe"
        yield int(process.stdout.readline())
        process.kill()


def capture_words(port: int, data: Path, *, flush_every: str) -> list[str]:
    """Give the arguments of a capture of what the load server sends."""
    words = ["capture", "--gateway", f"http://127.0.0.1:{port}/v1/api", "--conid", "265598", "--topic", "market_data"]
    return [*words, "--data", str(data), "--flush-every", flush_every]


@contextmanager
def capturing(port: int, data: Path, *, flush_every: str) -> Iterator[None]:
    """Run a capture of what the load server sends, from its first segment on."""
    words = [*RECORDER, *capture_words(port, data, flush_every=flush_every)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not list(data.glob("journal/main/*.seg")):
                assert process.poll() is None, "the capture has ended"
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


class Sample(NamedTuple):
    """What a process and its children use: seconds of processor time, bytes of memory."""

    at: float
    cpu: float
    memory: int


class Watch:
    """Looks at a process and its children once a second."""

    def __init__(self, pid: int) -> None:
        self.samples: list[Sample] = []
        self._pid = pid
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(1):
            used = [one for pid in self._family() if (one := _used(pid)) is not None]
            if used:
                self.samples.append(Sample(time.monotonic(), sum(u[0] for u in used), sum(u[1] for u in used)))

    def _family(self) -> list[int]:
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children")
        return [self._pid, *(map(int, children.read_text().split()) if children.exists() else ())]


def _used(pid: int) -> tuple[float, int] | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(stat[11]) + int(stat[12])) / TICK, int(pages) * PAGE


def usage(samples: list[Sample]) -> dict[str, Any]:
    """Sum up what a process took; the memory's slope is that of the last two thirds."""
    first, last = samples[0], samples[-1]
    late = samples[len(samples) // 3 :]
    slope = linear_regression([one.at for one in late], [one.memory for one in late]).slope
    return {
        "cpu_percent": round(100 * (last.cpu - first.cpu) / (last.at - first.at), 1),
        "memory_mb_median": round(median(one.memory for one in late) / 1e6),
        "memory_mb_most": round(max(one.memory for one in samples) / 1e6),
        "memory_slope_mb_an_hour": round(slope * 3600 / 1e6, 1),
    }
