"""The driver of faults: does to a running gateway what a plan says, on time, and logs it.

Rules:

1. A fault acts on the gateway, its connections and its REST side, never on the feed: it works on an archive as on a
   synthetic market.
2. What a fault keeps from a client is not sent later. What it sends beside the feed (malformed, large, burst) is logged
   as sent.
3. Times count from the moment the first client comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import cycle, islice
from typing import Final

from recorder.protocol.server_frames import frame
from recorder.protocol.server_requests import WITHOUT_BROKERAGE
from recorder.replay.connection import Connection
from recorder.replay.fault_log import FaultLog
from recorder.replay.faults import Fault
from recorder.replay.gateway import Gateway

log = logging.getLogger(__name__)

_LARGE: Final = 3_000_000  # bytes of the text in a large frame
_BURST: Final = 50_000  # frames
_SLICE: Final = 1_000  # frames of a burst at once
_SLOW_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.002
_MALFORMED: Final = (
    b'{"topic":"smd+265598","conid":265598,"31":"189',  # breaks off
    b'{"topic":"ntf","args":[{"id":"1","text":"\x99"}]}',  # not UTF-8 (seen by users)
    b'{"topic":"sor","args":{}}',  # an object where a list is due
    b'{"topic":7}',
    b'{"topic":"xyz+1","a":null}',  # no topic that anybody knows
    b'[1,2,"three"]',
    b"no JSON at all",
    b"",
)

Streams = Collection[str]


class FaultDriver:
    """Drives the faults of one gateway; `drive` makes one."""

    def __init__(self, gateway: Gateway, fault_log: FaultLog) -> None:
        self._gateway = gateway
        self._hub = gateway.hub
        self._log = fault_log

    async def run(self, plan: Iterable[Fault], first_client: asyncio.Event) -> None:
        """Do what the plan says, fault by fault as each is due; a failure ends it at once."""
        await first_client.wait()
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            async with asyncio.TaskGroup() as group:
                for number, fault in enumerate(plan):
                    await asyncio.sleep(max(0.0, start + fault.at - loop.time()))
                    group.create_task(self.do(number, fault))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None  # a group says no more than its first

    async def do(self, number: int, fault: Fault) -> None:
        """Do one fault now, from its beginning to its end."""
        streams = sorted(self._hit(fault))
        clients = list(self._hub.clients)
        before = sum(client.withheld for client in clients)
        self._log.began(number, fault, streams=streams, gateway=self._gateway)
        log.info("fault %s begins", fault.name)
        async with _DOING[fault.kind](self, fault, streams):
            await asyncio.sleep(fault.lasts)
        clients += [client for client in self._hub.clients if client not in clients]
        withheld = sum(client.withheld for client in clients) - before
        self._log.ended(number, fault, streams=streams, gateway=self._gateway, withheld=withheld)
        log.info("fault %s is over", fault.name)

    def _hit(self, fault: Fault) -> Streams:
        """Name the running streams that a fault takes something from."""
        running = {stream for client in self._hub.clients for stream in client.session.streams}
        market = {stream for stream in running if stream.startswith("smd+")}
        match fault.kind:
            case "silence" if fault.option == "one":
                return set(islice(sorted(market), 1))
            case "silence" if fault.option != "all":
                return {stream for stream in market if stream.partition("+")[2].partition("@")[0] == fault.option}
            case "silence" | "expire":
                return market
            case "deauth" | "competing":
                return {stream for stream in running if stream.partition("+")[0] not in WITHOUT_BROKERAGE}
            case "malformed" | "large" | "burst" | "rest":
                return ()
            case _:
                return running

    @asynccontextmanager
    async def _disconnect(self, fault: Fault, _streams: Streams) -> AsyncIterator[None]:
        """End every connection, the port staying open."""
        if fault.option == "mid-frame":
            for client in self._hub.clients:
                client.cut(frame({"topic": "system", "hb": self._hub.clock() // 1000}))
        else:
            await self._hub.drop_clients(clean=fault.option == "clean")
        yield

    @asynccontextmanager
    async def _silence(self, fault: Fault, streams: Streams) -> AsyncIterator[None]:
        """Deliver nothing of these streams, whether asked again or not; heartbeats and all else go on."""
        hushed = self._hub.hushed
        names = ["smd"] if fault.option == "all" else list(streams)
        hushed.update(names)
        try:
            yield
        finally:
            hushed.subtract(names)
            for name in [name for name, count in hushed.items() if not count]:
                del hushed[name]  # so that nothing is looked up while nothing is silenced

    @asynccontextmanager
    async def _freeze(self, _fault: Fault, _streams: Streams) -> AsyncIterator[None]:
        """Send nothing and hear nothing on the connections that live now; new ones work."""
        clients = list(self._hub.clients)
        for client in clients:
            client.freeze()
        try:
            yield
        finally:
            for client in clients:
                client.thaw()

    @asynccontextmanager
    async def _rollover(self, _fault: Fault, _streams: Streams) -> AsyncIterator[None]:
        """Renew the session under the living sockets."""
        self._gateway.roll_session()
        yield

    @asynccontextmanager
    async def _lose_brokerage(self, fault: Fault, _streams: Streams) -> AsyncIterator[None]:
        """Take the brokerage session away, or give it to another program."""
        self._gateway.turn(authenticated=False, competing=fault.kind == "competing")
        try:
            yield
        finally:
            if not self._gateway.authenticated:  # else a client has opened it again
                self._gateway.turn(authenticated=True)

    @asynccontextmanager
    async def _refuse(self, _fault: Fault, _streams: Streams) -> AsyncIterator[None]:
        """End every connection and then refuse orders, as was seen after reconnects."""
        self._gateway.refused.add("sor")
        try:
            await self._hub.drop_clients(clean=True)
            yield
        finally:
            self._gateway.refused.discard("sor")

    @asynccontextmanager
    async def _expire(self, _fault: Fault, _streams: Streams) -> AsyncIterator[None]:
        """End all market data without a word, as if it had not been renewed."""
        self._hub.end_streams("smd+")
        yield

    @asynccontextmanager
    async def _rest(self, fault: Fault, _streams: Streams) -> AsyncIterator[None]:
        """Fail or delay every REST call."""
        rest = self._gateway.rest
        if fault.option == "slow":
            rest.delay_s = _SLOW_S
        else:
            rest.failing = int(fault.option or "500")
        try:
            yield
        finally:
            rest.failing, rest.delay_s = None, 0.0

    @asynccontextmanager
    async def _away(self, _fault: Fault, _streams: Streams) -> AsyncIterator[None]:
        """Close the port, and every connection with it."""
        host, port = self._gateway.host, self._gateway.port
        await self._gateway.go_away()
        yield
        await self._gateway.listen(host, port)

    @asynccontextmanager
    async def _malformed(self, _fault: Fault, _streams: Streams) -> AsyncIterator[None]:
        """Send what no recorder should have to expect."""
        for client in self._ready():
            client.send(_MALFORMED)
        yield

    @asynccontextmanager
    async def _large(self, _fault: Fault, _streams: Streams) -> AsyncIterator[None]:
        """Send a bulletin of 3 MB."""
        for client in self._ready():
            client.send([frame({"topic": "blt", "args": [{"id": 1, "exchanges": None, "message": "x" * _LARGE}]})])
        yield

    @asynccontextmanager
    async def _burst(self, fault: Fault, _streams: Streams) -> AsyncIterator[None]:
        """Send full frames of each client's market data, as fast as it takes them."""
        count = int(fault.option or _BURST)
        await asyncio.gather(*(self._flood(client, count) for client in self._ready()))
        yield

    async def _flood(self, client: Connection, count: int) -> None:
        while count > 0 and not client.closing:
            frames = [data for stream in client.session.streams if (data := _full(client, stream)) is not None]
            if not frames:
                return
            client.send(islice(cycle(frames), min(count, _SLICE)))
            count -= _SLICE
            await asyncio.sleep(0)
            while client.full and not client.closing:  # noqa: ASYNC110  a transport has no such event
                await asyncio.sleep(_LOOK_AGAIN_S)

    def _ready(self) -> Iterator[Connection]:
        return (client for client in list(self._hub.clients) if client.session.authenticated and not client.closing)


def _full(client: Connection, stream: str) -> bytes | None:
    return client.full_frame(stream) if stream.startswith("smd+") else None


_DOING: Final[Mapping[str, Callable[[FaultDriver, Fault, Streams], AbstractAsyncContextManager[None]]]] = {
    "disconnect": FaultDriver._disconnect,  # noqa: SLF001  the table belongs to the class
    "silence": FaultDriver._silence,  # noqa: SLF001
    "freeze": FaultDriver._freeze,  # noqa: SLF001
    "rollover": FaultDriver._rollover,  # noqa: SLF001
    "deauth": FaultDriver._lose_brokerage,  # noqa: SLF001
    "competing": FaultDriver._lose_brokerage,  # noqa: SLF001
    "refuse": FaultDriver._refuse,  # noqa: SLF001
    "expire": FaultDriver._expire,  # noqa: SLF001
    "rest": FaultDriver._rest,  # noqa: SLF001
    "away": FaultDriver._away,  # noqa: SLF001
    "malformed": FaultDriver._malformed,  # noqa: SLF001
    "large": FaultDriver._large,  # noqa: SLF001
    "burst": FaultDriver._burst,  # noqa: SLF001
}


@asynccontextmanager
async def driven(
    gateway: Gateway,
    plan: Iterable[Fault],
    *,
    fault_log: FaultLog,
    first_client: asyncio.Event,
    failed: Callable[[], None] = lambda: None,
) -> AsyncIterator[None]:
    """Drive a plan while the context lasts; `failed` is told at once of a failure, which is raised at the end."""
    task = asyncio.create_task(FaultDriver(gateway, fault_log).run(plan, first_client))
    task.add_done_callback(lambda done: failed() if not done.cancelled() and done.exception() is not None else None)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
