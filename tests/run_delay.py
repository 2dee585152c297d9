"""The run delay of a process: how long its main thread waited for a processor while it had something to do.

Linux counts it, in nanoseconds, as the second figure of /proc/<pid>/task/<tid>/schedstat. A window of the recorder's
promises counts while its process is given processor time, so what it waited within the window is granted beyond it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

EVERY: Final = 0.02
_KEPT: Final = 3_000
"""Samples that are kept: a minute of them."""


class Sample(NamedTuple):
    """At a time (seconds since the Unix epoch), the seconds that the thread had waited in all its life."""

    at: float
    waited: float


def is_known() -> bool:
    """Say whether this system counts run delays."""
    return _waited(os.getpid()) is not None


def granted(samples: Iterable[Sample], window: float) -> float:
    """Give the run delay within the last window, which is as much longer as the delay within it.

    Of the window and the delay together, the window is what the process had. Between samples the delay may lie
    anywhere, so it is taken to lie where it is granted.
    """
    *earlier, last = samples
    grant = 0.0
    for sample in reversed(earlier):
        grant = max(grant, last.waited - sample.waited)
        if last.at - sample.at >= window + grant:
            break
    return grant


class Executioner:
    """Samples a process's run delay in a thread of its own, and kills the process in that thread."""

    def __init__(self, process: int) -> None:
        self.moment = 0.0
        self.samples: deque[Sample] = deque(maxlen=_KEPT)
        self._process = process
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def kill(self) -> float:
        """Kill the process; give the moment, seconds since the Unix epoch."""
        self._due.set()
        self._thread.join()
        return self.moment

    def granted(self, window: float) -> float:
        """Give the run delay that is granted beyond a window before the kill; 0 where the system counts none."""
        return granted(list(self.samples), window) if self.samples else 0.0

    def _watch(self) -> None:
        while True:
            due = self._due.wait(EVERY)
            waited = _waited(self._process)
            self.moment = time.time()
            if waited is not None:
                self.samples.append(Sample(self.moment, waited))
            if due:
                os.kill(self._process, signal.SIGKILL)
                return


def _waited(process: int) -> float | None:
    """Read how long a process's main thread has waited; None where that is not counted, or the process has ended."""
    try:
        return int(Path(f"/proc/{process}/task/{process}/schedstat").read_text("ascii").split()[1]) / 1e9
    except (OSError, IndexError):
        return None
