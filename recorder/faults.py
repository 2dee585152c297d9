"""Fault points: named places at which a test can kill this process.

A test names one in the environment variable of `VARIABLE`, as `archiver.commit` or, for the third time it is passed,
`archiver.commit:3`; the process then kills itself there as a power cut would: nothing is flushed, nothing is told.
Without the variable a point does nothing.
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "IBKR_RECORDER_TEST_KILL_AT"

_name, _, _count = os.environ.get(VARIABLE, "").partition(":")
_left = int(_count or 1)


def point(name: str) -> None:
    """Pass a fault point; a test may have chosen it as the place to die."""
    global _left  # noqa: PLW0603  a process dies once
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
