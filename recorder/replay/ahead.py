"""Ahead: elements for an event loop, at a pace, while a thread reads the next block.

1. One block is read ahead, no more: memory holds two.
2. What goes wrong in the thread is raised where the elements are taken, in their order.
3. However it ends (at the end, by an error, closed, cancelled), the thread has read its last and closed the blocks
   before it is over.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Final

from recorder.protocol.replay_clock import ReplayClock
from recorder.replay.blocks import Block, numbers

_AT_ONCE: Final = 512  # elements between two turns of the loop, some tenths of a millisecond
THREAD: Final = "replay"


def _monotonic() -> int:
    return time.monotonic_ns() // 1000


async def read_ahead(blocks: Iterator[Block], stop: threading.Event) -> AsyncIterator[Block]:
    """Give blocks, read in a thread; `stop` is set when no more are wanted, for a reader that waits."""
    thread = ThreadPoolExecutor(1, thread_name_prefix=THREAD)
    try:
        following = thread.submit(next, blocks, None)
        while (block := await asyncio.wrap_future(following)) is not None:
            following = thread.submit(next, blocks, None)
            yield block
    finally:
        stop.set()
        closed = asyncio.wrap_future(thread.submit(_close, blocks))
        thread.shutdown(wait=False)
        await asyncio.shield(closed)


def _close(blocks: Iterator[Block]) -> None:
    close = getattr(blocks, "close", None)
    if close is not None:
        close()


async def paced_ahead(
    blocks: Iterator[Block],
    *,
    speed: float | None,
    stop: threading.Event,
    now: Callable[[], int] = _monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[Any]:
    """Give elements when they are due by a replay clock that starts with the first; None is as fast as can be.

    `now` is in microseconds, `sleep` takes seconds. The loop gets its turn every few hundred elements.
    """
    clock: ReplayClock | None = None
    ahead = read_ahead(blocks, stop)
    try:
        async for block in ahead:
            if speed is None:
                while some := list(islice(block.elements, _AT_ONCE)):
                    await sleep(0)
                    for element in some:
                        yield element
                continue
            if clock is None:
                clock = ReplayClock(int(block.latest[0]), speed=speed)
                clock.start(now())
            due = _due(block, clock, now)
            for number, (wait, element) in enumerate(due):
                if wait > 0 or number % _AT_ONCE == 0:
                    await sleep(wait)
                yield element
    finally:
        await ahead.aclose()  # type: ignore[attr-defined]  # an asynchronous generator


def _due(block: Block, clock: ReplayClock, now: Callable[[], int]) -> Iterator[tuple[float, Any]]:
    """Give each element with how long it is not due yet, in seconds."""
    for latest, element in zip(numbers(block.latest), block.elements, strict=True):
        moment = now()
        due = clock.due(latest, moment)
        assert due is not None, "it was started"
        yield (due - moment) / 1e6, element
