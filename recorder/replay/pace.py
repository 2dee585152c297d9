"""Pace: recorded time, played at a speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from recorder.replay.blocks import Block, numbers


def paced(
    blocks: Iterable[Block],
    *,
    speed: float,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[Any]:
    """Give elements when they are due: at `speed` times the pace of their T (microseconds), from the first one on.

    Lateness does not add up: every element is due by the clock, not by the one before it. A `sleep` that gives
    something true ends it.
    """
    begin: float | None = None
    first = 0
    for block in blocks:
        for latest, element in zip(numbers(block.latest), block.elements, strict=True):
            if begin is None:
                begin, first = now(), latest
            wait = begin + (latest - first) / (1e6 * speed) - now()
            if wait > 0 and sleep(wait):
                return
            yield element
