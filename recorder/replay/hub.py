"""The hub: carries what is due from the feed to the clients that have it subscribed.

Rules:

1. One task pumps for all clients; it never waits for a client unless the feed must not lose a frame.
2. A change of subscriptions shows at once: a full frame is written before any later update of its stream.
3. Frames of topics that nobody subscribes to (`ntf`, `blt`) go to every client with a brokerage session.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from recorder.protocol.server_session import Output
from recorder.replay.batch import Batch, Update, batch_of
from recorder.replay.connection import Connection
from recorder.replay.feed import Feed, Turn
from recorder.replay.tally import Counted, Total

log = logging.getLogger(__name__)

_FINE_US: Final = 1_500
_IDLE_US: Final = 1_000_000
_LOOK_AGAIN_S: Final = 0.002
_TOO_SLOW: Final = 1008


class Hub:
    """The clients of one gateway, and what each gets.

    `ended` is set when the feed has come to its end, clients staying connected, or has failed. `patience_s` is how
    long a lossless feed waits for a slow client before it lets go of it. `hushed` counts the faults that silence a
    stream (`smd+265598`) or a wire prefix (`smd`).
    """

    def __init__(self, feed: Feed, *, clock: Callable[[], int], patience_s: float) -> None:
        self.feed = feed
        self.clock = clock
        self.clients: list[Connection] = []
        self.ended = asyncio.Event()
        self.tally = Total()
        self.hushed: Counter[str] = Counter()
        self.on_turn: Callable[[Turn], Awaitable[None]]  # set by the gateway
        self._patience_s = patience_s
        self._stale = False  # the feed was not told yet which streams there are now
        self._changed = asyncio.Event()
        self._closings: set[asyncio.Task[None]] = set()

    @property
    def frames(self) -> int:
        """How many frames were sent, to all clients."""
        return self.tally.frames

    def digests(self) -> Mapping[str, Counted]:
        """Give count and content digest of what was sent, per topic, over all clients in the order of sending."""
        return self.tally.totals()

    def join(self, client: Connection) -> None:
        """Take a client in."""
        self.clients.append(client)

    def leave(self, client: Connection) -> None:
        """Forget a client."""
        self.clients.remove(client)
        self._stale = True
        self._changed.set()

    def apply(self, client: Connection, outputs: Iterable[Output]) -> None:
        """Do what a client's session says."""
        self._stale |= client.apply(outputs)
        self._changed.set()  # there may be a nearer deadline now

    def end_streams(self, prefix: str) -> None:
        """End the streams so named, or all of a topic for `smd+`, of every client."""
        for client in self.clients:
            self.apply(client, client.session.end(prefix))

    async def drop_clients(self, *, clean: bool = False) -> None:
        """Close every client's socket: with a handshake, or as a crash would."""
        clients = list(self.clients)
        if clean:
            await asyncio.gather(*(client.close(1001, within_s=3.0) for client in clients))
        else:
            for client in clients:
                client.abort()

    async def pump(self) -> None:
        """Carry what is due, for ever."""
        try:
            while True:
                self._changed.clear()
                self._attend()
                self._rewire()
                updates, again, turn = await self.feed.due(self.clock())
                self._deliver(updates)
                if turn is not None:
                    await self.on_turn(turn)
                if self.feed.lossless:
                    await self._wait_for_slow()
                if again is None:
                    self.ended.set()
                await self._sleep(again)
        finally:
            self.ended.set()

    def _rewire(self) -> None:
        """Tell the feed which streams some client has, if that changed."""
        if not self._stale:
            return
        self._stale = False
        self.feed.want({stream for client in self.clients for stream in client.session.streams})

    def _attend(self) -> None:
        """Let sessions do what is due: first frames, heartbeats, expiry."""
        now = self.clock()
        for client in self.clients:
            deadline = client.session.deadline
            if deadline is not None and deadline <= now:
                self.apply(client, client.session.advance(now))

    def _deliver(self, updates: Sequence[Update] | Batch) -> None:
        self._rewire()  # subscriptions may have come while the feed was awaited
        lossless = self.feed.lossless
        batch = updates if isinstance(updates, Batch) else batch_of(updates)
        for client in self.clients:
            client.catch_up(lossless=lossless)
            client.take(batch)
            if client.hopeless and not lossless and not client.closing:
                self._dismiss(client)

    async def _wait_for_slow(self) -> None:
        """Wait until every client has read most of what it was sent; let go of those who do not."""
        give_up = time.monotonic() + self._patience_s
        while slow := [client for client in self.clients if client.full and not client.closing]:
            if time.monotonic() > give_up:
                for client in slow:
                    self._dismiss(client)
            self._attend()
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _dismiss(self, client: Connection) -> None:
        log.warning("client %s reads too slowly and is closed", client.number)
        client.closing = True
        task = asyncio.create_task(client.close(_TOO_SLOW, "too slow"))
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    async def _sleep(self, again: int | None) -> None:
        now = self.clock()
        deadlines = [deadline for client in self.clients if (deadline := client.session.deadline) is not None]
        due = min(now + _IDLE_US if again is None else again, now + _IDLE_US, *deadlines)
        if due - now < _FINE_US:
            # The loop's timers are no finer than a millisecond; what is due within one is worth standing still for.
            if due > now:
                time.sleep((due - now) / 1_000_000)  # noqa: ASYNC251
            await asyncio.sleep(0)
            return
        due -= _FINE_US // 2
        with suppress(TimeoutError):
            async with asyncio.timeout((due - now) / 1_000_000):
                await self._changed.wait()
