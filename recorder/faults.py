"""Fault points: named places at which a test can kill this process.

A test names one or several in the environment variable of `VARIABLE`, as `build.committed` or, for the third time it is
passed, `build.committed:3`, with commas between them; the process then kills itself there as a power cut would: nothing
is flushed, nothing is told. With a folder in the variable of `ONCE`, a point kills one process only, and leaves a file
of its name there: the process that is started again comes through. Without the variables a point does nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

VARIABLE: Final = "IBKR_RECORDER_TEST_KILL_AT"
ONCE: Final = "IBKR_RECORDER_TEST_KILL_ONCE"

_left: dict[str, Iterator[int]] = {}
for _chosen in filter(None, os.environ.get(VARIABLE, "").split(",")):
    _name, _, _count = _chosen.partition(":")
    _left[_name] = count(int(_count or 1), -1)  # several threads may pass a point, and each takes a number of its own


def point(name: str) -> None:
    """Pass a fault point; a test may have chosen it as the place to die."""
    if name in _left and next(_left[name]) == 1 and _first(name):
        os.kill(os.getpid(), signal.SIGKILL)


def _first(name: str) -> bool:
    """Say whether no process has died here yet."""
    folder = os.environ.get(ONCE)
    try:
        if folder is not None:
            (Path(folder) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
