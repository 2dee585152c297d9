"""A served recording whose clock the test holds: speeds, subscriptions that end, and faults, each to the frame."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

import aiohttp
import pytest
from conftest import AAPL, NOON, PATIENCE, Given, archive, eventually, in_loop, order, quote, quotes, write_session
from websockets.asyncio.client import ClientConnection, connect

from recorder.archive.layout import Layout
from recorder.archive.reading import Reader, Span
from recorder.protocol.server_session import SECOND, Rules
from recorder.protocol.topics import load_topics
from recorder.replay.archive_feed import ArchiveFeed
from recorder.replay.control import Control
from recorder.replay.fault_driver import FaultDriver
from recorder.replay.fault_log import FaultLog
from recorder.replay.faults import Fault
from recorder.replay.gateway import Gateway, serve
from recorder.replay.recorded_contents import contents_of

STEP = 1_000
SMD = f"smd+{AAPL}+{{}}"
RULES = Rules(ready_after=0, heartbeat_every=3_600 * SECOND, expire_after=None)


class Steered(NamedTuple):
    """A recording that is served, one frame each millisecond, and a client of it; `now` is the present."""

    feed: ArchiveFeed
    gateway: Gateway
    socket: ClientConnection
    now: list[int]

    @property
    def streams(self) -> set[str]:
        """The streams that the client has."""
        return set(self.gateway.hub.clients[0].session.streams)

    @property
    def sending(self) -> asyncio.Transport:
        """The gateway's end of the connection."""
        return self.gateway.hub.clients[0]._transport

    def go_on(self, frames: int) -> None:
        """Let the time of so many frames pass."""
        self.now[0] += frames * STEP

    async def received(self, count: int) -> list[bytes]:
        """Take the next frames."""
        async with asyncio.timeout(PATIENCE):
            return [await self.socket.recv(decode=False) for _ in range(count)]

    async def silent(self) -> bool:
        """Say whether nothing more comes once all that is due was given: the answer to an echo is next."""
        await eventually(lambda: not self.due)
        await self.socket.send("ech+hb")
        return b"ech+hb" in await self.socket.recv(decode=False)

    @property
    def due(self) -> bool:
        """Whether a frame is due that was not given."""
        loaded, place = self.feed._loaded, self.feed._place
        assert loaded is not None
        return place < len(loaded.latest) and int(loaded.latest[place]) <= self.feed.clock.at(self.now[0])


@asynccontextmanager
async def steered(
    layout: Layout, frames: Sequence[Given], *texts: str, buffer_limit: int = 1 << 22
) -> AsyncIterator[Steered]:
    """Record frames, serve them, subscribe, and let the clock begin with the first frame."""
    await asyncio.to_thread(write_session, layout, frames)
    await asyncio.to_thread(archive, layout)
    reader, now = Reader(layout, load_topics()), [NOON]
    feed = ArchiveFeed(reader, contents_of(reader, span=Span()))
    feed.pause(NOON)
    control = Control(feed, clock=lambda: now[0])
    try:
        async with (
            serve(feed, rules=RULES, clock=lambda: now[0], buffer_limit=buffer_limit, extend=control.register) as there,
            connect(
                there.socket_url, additional_headers={"Cookie": f"api={there.identity.session}"}, proxy=None,
                compression=None, max_size=None, max_queue=None,
            ) as client,
        ):  # fmt: skip
            this = Steered(feed, there, client, now)
            await this.received(3)
            for text in texts:
                await client.send(text)
            await eventually(lambda: len(this.streams) == len(texts))
            feed.resume(now[0])
            yield this
    finally:
        feed.close()


@in_loop
async def test_the_speed_goes_from_a_pace_to_max_and_back(layout: Layout) -> None:
    """At full speed it goes as far as the client reads; back at a pace it goes on from there; no frame is lost."""
    pad = "x" * 4_000
    frames = [Given(NOON + number * STEP, quote(number, {"84": str(number), "58": pad})) for number in range(600)]
    async with (
        steered(layout, frames, SMD, buffer_limit=1 << 16) as this,
        aiohttp.ClientSession(f"http://{this.gateway.host}:{this.gateway.port}") as http,
    ):

        async def turn(speed: float | Literal["max"]) -> dict[str, Any]:
            status: dict[str, Any] = await (await http.post("/replay/speed", json={"speed": speed})).json()
            return status

        for end, what in ((this.socket.transport, socket.SO_RCVBUF), (this.sending, socket.SO_SNDBUF)):
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, what, 1 << 16)  # so that little is under way
        this.go_on(9)
        got = await this.received(10)
        this.socket.transport.pause_reading()
        assert "max" == (await turn("max"))["speed"]
        await eventually(lambda: this.gateway.hub.clients[0].full)
        status = await turn(1)
        given = (status["time"] - NOON) // STEP + 1
        assert (1, True) == (status["speed"], status["running"])
        assert 10 < given < len(frames)
        this.socket.transport.resume_reading()
        got += await this.received(given - 10)
        assert await this.silent()
        this.go_on(5)
        got += await this.received(5)
        assert await this.silent()
        await turn("max")
        got += await this.received(len(frames) - given - 5)

        assert [frame.data for frame in frames] == got
        assert 0 == this.gateway.hub.clients[0].missed


@in_loop
async def test_each_stream_ends_when_the_client_says_so(layout: Layout) -> None:
    """`umd`, `uor` and `upl` end theirs and no other; market data that is asked for again begins with a full frame."""
    kinds: list[Callable[[int], bytes]] = [
        quote,
        lambda number: order(1, remainingQuantity=number),
        lambda number: json.dumps({"topic": "spl", "args": {"DU1.Core": {"dpl": number}}}).encode(),
    ]
    frames = [Given(NOON + number * STEP, kinds[number % 3](number)) for number in range(15)]
    data = [frame.data for frame in frames]
    async with steered(layout, frames, SMD, "sor+{}", "spl+{}") as this:
        this.go_on(2)
        assert data[:3] == await this.received(3)
        await this.socket.send(f"umd+{AAPL}+{{}}")
        await eventually(lambda: this.streams == {"sor", "spl"})
        this.go_on(3)
        assert data[4:6] == await this.received(2)
        await this.socket.send("uor+{}")
        await eventually(lambda: this.streams == {"spl"})
        this.go_on(3)
        assert data[8:9] == await this.received(1)
        await this.socket.send("upl+{}")
        await eventually(lambda: not this.streams)
        this.go_on(3)
        assert await this.silent()
        await this.socket.send(SMD)
        assert json.loads(data[9]) == json.loads((await this.received(1))[0])
        this.go_on(3)
        assert data[12:13] == await this.received(1)


@asynccontextmanager
async def fault(this: Steered, kind: str, option: str | None = None) -> AsyncIterator[FaultDriver]:
    """Do a fault on recorded data that lasts as long as the context."""
    driver = FaultDriver(this.gateway, FaultLog(None, clock=lambda: this.now[0], tell=lambda _event, _details: None))
    task = asyncio.create_task(driver.do(0, Fault(kind=kind, option=option, at=0.0, lasts=3_600.0)))
    await asyncio.sleep(0)  # it has begun
    yield driver
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@in_loop
async def test_silence_keeps_recorded_market_data_back(layout: Layout) -> None:
    """What is kept back is counted and not sent later; orders go on."""
    frames = [*quotes(3), Given(NOON + 3 * STEP, order(1)), *quotes(2, first=4)]
    async with steered(layout, frames, SMD, "sor+{}") as this:
        assert [frames[0].data] == await this.received(1)
        async with fault(this, "silence", "all"):
            this.go_on(3)
            assert [frames[3].data] == await this.received(1)
        assert 2 == this.gateway.hub.clients[0].withheld
        this.go_on(2)
        assert [frame.data for frame in frames[4:]] == await this.received(2)


@in_loop
async def test_a_brokerage_session_can_be_lost_on_a_recording(layout: Layout) -> None:
    """Clients hear of it and lose market data, not P&L; after it they subscribe again and get what is known by then."""
    pnl = json.dumps({"topic": "spl", "args": {"DU1.Core": {"dpl": 1}}}).encode()
    frames = [*quotes(2), Given(NOON + 2 * STEP, pnl), *quotes(2, first=3)]
    async with steered(layout, frames, SMD, "spl+{}") as this:
        assert [frames[0].data] == await this.received(1)
        async with fault(this, "deauth"):
            (told,) = await this.received(1)
            assert ("sts", False) == (json.loads(told)["topic"], json.loads(told)["args"]["authenticated"])
            this.go_on(2)
            assert [pnl] == await this.received(1)
        (told,) = await this.received(1)
        assert ("sts", True) == (json.loads(told)["topic"], json.loads(told)["args"]["authenticated"])
        await this.socket.send(SMD)
        assert json.loads(frames[1].data) == json.loads((await this.received(1))[0])
        this.go_on(2)
        assert [frame.data for frame in frames[3:]] == await this.received(2)


@in_loop
async def test_malformed_frames_come_beside_recorded_ones(layout: Layout) -> None:
    """They change none of those, and are sent but once."""
    frames = quotes(4)
    async with steered(layout, frames, SMD) as this:
        assert [frames[0].data] == await this.received(1)
        async with fault(this, "malformed"):
            bad = await this.received(8)
            assert (b"no JSON at all", b"") == (bad[6], bad[7])
        this.go_on(3)
        assert [frame.data for frame in frames[1:]] == await this.received(3)
        assert await this.silent()
