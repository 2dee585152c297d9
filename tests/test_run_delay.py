"""The run delay that the tests of kills grant: what a process waited for a processor, and no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_delay import EVERY, Executioner, Sample, granted, is_known


def waits(*seconds: float) -> list[Sample]:
    """Give samples, one each 20 ms, with what the thread waited before each."""
    return [Sample(EVERY * number, sum(seconds[: number + 1])) for number in range(len(seconds))]


@pytest.mark.parametrize(
    ("seconds", "grant"),
    [
        ([0.0] * 10, 0.0),
        ([0.0] * 9 + [0.015], 0.015),
        ([0.02] * 5 + [0.0] * 10, 0.0),
        ([0.0] * 5 + [0.02] * 10, 0.2),
        ([0.0] * 5 + [0.02] * 3 + [0.0] * 2, 0.06),
    ],
    ids=["it never waited", "at the end", "long before", "all the time", "just before: the window reaches over it"],
)
def test_the_wait_within_the_window_is_granted(seconds: list[float], grant: float) -> None:
    """And the window is as much longer: it is the time that the process had."""
    assert grant == pytest.approx(granted(waits(*seconds), 0.05))


@given(st.lists(st.floats(0, EVERY), min_size=1, max_size=40), st.floats(0.01, 0.5))
def test_never_more_is_granted_than_was_waited(seconds: list[float], window: float) -> None:
    """And no wait of the window itself is left out."""
    samples = waits(*seconds)
    within = [one for one in samples if samples[-1].at - one.at <= window]

    assert samples[-1].waited - within[0].waited <= granted(samples, window) <= samples[-1].waited + 1e-9


@pytest.mark.skipif(not is_known(), reason="this system does not count run delays")
def test_a_process_that_is_starved_has_a_run_delay() -> None:
    """Two busy processes share one processor: each waits, and is killed by the thread that samples."""
    core = min(os.sched_getaffinity(0))
    busy = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    rival, process = (subprocess.Popen([sys.executable, "-S", "-c", busy]) for _ in range(2))
    executioner = Executioner(process.pid)
    give_up = time.monotonic() + 20
    while executioner.granted(0.1) < 0.05 and time.monotonic() < give_up:
        time.sleep(0.02)
    moment = executioner.kill()
    rival.kill()
    rival.wait()

    assert -signal.SIGKILL == process.wait()
    assert executioner.granted(0.1) > 0.02
    assert moment == executioner.samples[-1].at
