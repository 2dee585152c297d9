"""Pauses: keeps the garbage collector and the turns of other threads from holding frames up for long."""

from __future__ import annotations

import gc
import sys
from typing import Final

_SWITCH_S: Final = 0.001
"""Seconds after which a thread that computes lets another one run; Python's own is five times that."""
_YOUNG: Final = 50_000
"""Objects made before the collector looks at the young ones; with Python's 700, each 700 frames."""


def shorten_pauses() -> None:
    """Leave what is loaded out of the collector's walks, which take some 40 ms each, and let threads take short turns.

    To be called once by a process of its own, when all is imported.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 100)
    sys.setswitchinterval(_SWITCH_S)
