"""Faults over real sockets: each looks to a client as at the broker, and is over when it is over."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import pytest
from conftest import eventually, in_loop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

from recorder.errors import ReplayError
from recorder.protocol.server_session import SECOND, Rules
from recorder.replay.fault_driver import FaultDriver, driven
from recorder.replay.fault_log import FaultLog
from recorder.replay.faults import Fault
from recorder.replay.gateway import Gateway, serve, wall_clock
from recorder.replay.synthetic import SyntheticFeed
from recorder.replay.trail import Trail

RULES = Rules(ready_after=0, heartbeat_every=SECOND // 20)
LENGTH = 0.3


class Night(NamedTuple):
    """A gateway, what drives its faults, and what is written about them."""

    gateway: Gateway
    driver: FaultDriver
    out: io.BytesIO

    async def do(self, kind: str, option: str | None = None) -> None:
        """Do a fault, from its beginning to its end."""
        await self.driver.do(0, Fault(kind=kind, option=option, at=0.0, lasts=LENGTH))

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log so far."""
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    @asynccontextmanager
    async def client(self, *texts: str) -> AsyncIterator[ClientConnection]:
        """Connect a client that subscribes."""
        cookie = {"Cookie": f"api={self.gateway.identity.session}"}
        async with connect(
            self.gateway.socket_url, additional_headers=cookie, proxy=None, max_size=None, ping_interval=None,
            compression=None, close_timeout=0.2,
        ) as client:  # fmt: skip
            for text in texts:
                await client.send(text)
            yield client


@asynccontextmanager
async def night() -> AsyncIterator[Night]:
    """Serve a small market."""
    out = io.BytesIO()
    feed = SyntheticFeed(seed=7, contracts=5, rate=500, order_every=0)
    log = FaultLog(out, clock=wall_clock)
    async with serve(feed, rules=RULES, tally=Trail, on_leave=log.left) as gateway:
        yield Night(gateway, FaultDriver(gateway, log), out)


async def topics_within(client: ClientConnection, seconds: float) -> set[str]:
    """Name the wire topics of what comes within a time."""
    return {str(frame.get("topic")) for frame in await within(client, seconds)}


async def within(client: ClientConnection, seconds: float) -> list[dict[str, Any]]:
    """Take what comes within a time."""
    frames: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                frames.append(json.loads(await client.recv()))
    except TimeoutError:
        return frames


async def until(client: ClientConnection, topic: str) -> dict[str, Any]:
    """Take frames until one of this topic comes."""
    while True:
        frame: dict[str, Any] = json.loads(await client.recv())
        if frame.get("topic") == topic:
            return frame


async def emptied(client: ClientConnection) -> None:
    """Take all frames until the connection ends."""
    while True:
        await client.recv()


async def tickle(gateway: Gateway) -> tuple[int, dict[str, Any]]:
    """Call `/tickle`."""
    async with aiohttp.ClientSession() as session, session.post(f"{gateway.base_url}/tickle") as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize(
    ("option", "end", "parting"),
    [("clean", ConnectionClosedOK, "closed"), ("abrupt", ConnectionClosedError, "aborted"),
     ("mid-frame", ConnectionClosedError, "cut")],
)  # fmt: skip
def test_a_connection_ends(option: str, end: type[ConnectionClosed], parting: str) -> None:
    """With a handshake or without; a new one works at once."""

    @in_loop
    async def check() -> None:
        async with night() as there:
            async with there.client("smd+265598+{}") as client:
                await until(client, "smd+265598")
                await there.do("disconnect", option)
                with pytest.raises(end):
                    await emptied(client)
            async with there.client("smd+265598+{}") as client:
                await until(client, "smd+265598")

        left = [line for line in there.log if line["event"] == "left"]
        assert [parting, "left"] == [line["parting"] for line in left]
        assert ("trail" in left[0]) == (option != "clean")

    check()


@in_loop
async def test_silence_leaves_the_heartbeat_and_outlasts_a_renewal() -> None:
    """Of all market data, whoever asks again; P&L goes on as well."""
    async with night() as there, there.client("smd+265598+{}", "spl+{}") as client:
        await until(client, "smd+265598")
        silence = asyncio.create_task(there.do("silence", "all"))
        await eventually(lambda: there.gateway.hub.hushed)
        await within(client, 0.05)
        await client.send("smd+265598+{}")

        assert await topics_within(client, 0.15) == {"system"}
        await silence
        assert there.log[-1]["withheld"] > 10
        assert (["market_data"], [265598]) == (there.log[-1]["topics"], there.log[-1]["conids"])
        await until(client, "smd+265598")


@pytest.mark.parametrize(("option", "silent"), [("one", "smd+265598"), ("8314", "smd+8314")])
def test_one_contract_can_be_silent(option: str, silent: str) -> None:
    """The first, or the one that is named; its siblings speak."""

    @in_loop
    async def check() -> None:
        async with night() as there, there.client("smd+265598+{}", "smd+8314+{}") as client:
            await until(client, "smd+8314")
            silence = asyncio.create_task(there.do("silence", option))
            await eventually(lambda: there.gateway.hub.hushed)
            await within(client, 0.05)

            assert {"smd+265598", "smd+8314"} - {silent} == await topics_within(client, 0.15) - {"system"}
            await silence
            await until(client, silent)

    check()


@in_loop
async def test_a_frozen_socket_says_nothing_and_a_new_one_works() -> None:
    """No heartbeat, no answer; afterwards it goes on, less what was due meanwhile."""
    async with night() as there, there.client("smd+265598+{}") as client:
        await until(client, "smd+265598")
        freeze = asyncio.create_task(there.do("freeze"))
        await eventually(lambda: there.gateway.hub.clients[0].frozen)
        await within(client, 0.05)
        await client.send("tic")

        assert await topics_within(client, 0.1) == set()
        async with there.client("smd+265598+{}") as other:
            await until(other, "smd+265598")
        await freeze
        assert there.log[-1]["withheld"] > 10
        await until(client, "tic")
        await until(client, "smd+265598")


@in_loop
async def test_a_rollover_shows_in_tickle_and_not_on_the_socket() -> None:
    """The old socket's `tic` names the session that it belongs to, the new session is another one."""
    async with night() as there, there.client("smd+265598+{}") as client:
        await until(client, "smd+265598")
        before = (await tickle(there.gateway))[1]["session"]
        await there.do("rollover")
        await within(client, 0.05)
        await client.send("tic")
        await client.send("smd+265598+{}")

        assert (await until(client, "tic"))["id"] == before != (await tickle(there.gateway))[1]["session"]
        assert await topics_within(client, 0.15) == {"system"}


@pytest.mark.parametrize("kind", ["deauth", "competing"])
def test_the_brokerage_session_goes_and_comes_back(kind: str) -> None:
    """`sts`, `/tickle` and sockets that are opened meanwhile say so; requests vanish."""

    @in_loop
    async def check() -> None:
        async with night() as there, there.client("smd+265598+{}") as client:
            await until(client, "sts")
            await client.send("smd+265598+{}")
            await until(client, "smd+265598")
            fault = asyncio.create_task(there.do(kind))
            lost = (await until(client, "sts"))["args"]
            assert (False, kind == "competing") == (lost["authenticated"], lost["competing"])
            status = (await tickle(there.gateway))[1]["iserver"]["authStatus"]
            assert (False, kind == "competing") == (status["authenticated"], status["competing"])
            async with there.client() as late:
                assert (await until(late, "sts"))["args"] == lost
            await client.send("smd+265598+{}")
            assert "smd+265598" not in await topics_within(client, 0.1)

            assert (await until(client, "sts"))["args"]["authenticated"] is True
            await client.send("smd+265598+{}")
            await until(client, "smd+265598")
            await fault

    check()


@in_loop
async def test_orders_are_refused_for_a_while() -> None:
    """After a disconnect, in the words that were seen; other topics are served."""
    async with night() as there, there.client("sor+{}") as client:
        await until(client, "sts")
        refusal = asyncio.create_task(there.do("refuse"))
        with pytest.raises(ConnectionClosedOK):
            await emptied(client)
        async with there.client() as other:
            await until(other, "sts")
            await other.send("sor+{}")
            assert await until(other, "sor") == {"error": "unable to subscribe", "code": 500, "topic": "sor"}
            await refusal
            await other.send("sor+{}")
            await eventually(lambda: "sor" in there.gateway.hub.clients[-1].session.streams)


@in_loop
async def test_market_data_expires_and_can_be_asked_for_again() -> None:
    """Without a word; P&L goes on."""
    async with night() as there, there.client("smd+265598+{}", "spl+{}") as client:
        await until(client, "smd+265598")
        await there.do("expire")
        await within(client, 0.05)

        assert "smd+265598" not in await topics_within(client, 0.15)
        await client.send("smd+265598+{}")
        await until(client, "smd+265598")


@pytest.mark.parametrize("status", [429, 500])
def test_rest_fails_for_a_while(status: int) -> None:
    """Every call, while the socket goes on."""

    @in_loop
    async def check() -> None:
        async with night() as there, there.client("smd+265598+{}") as client:
            fault = asyncio.create_task(there.do("rest", str(status)))
            await eventually(lambda: there.gateway.rest.failing)

            assert status == (await tickle(there.gateway))[0]
            await until(client, "smd+265598")
            await fault
            assert (await tickle(there.gateway))[0] == 200

    check()


@in_loop
async def test_rest_can_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes, late."""
    monkeypatch.setattr("recorder.replay.fault_driver._SLOW_S", 0.2)
    async with night() as there:
        fault = asyncio.create_task(there.do("rest", "slow"))
        await eventually(lambda: there.gateway.rest.delay_s)
        begin = asyncio.get_running_loop().time()

        assert (await tickle(there.gateway))[0] == 200
        assert asyncio.get_running_loop().time() - begin >= 0.2
        await fault


@in_loop
async def test_a_gateway_that_is_away_refuses_connections_and_comes_back() -> None:
    """Kept REST connections are gone too; the port is the same afterwards."""
    async with night() as there, there.client() as client, aiohttp.ClientSession() as kept:
        await until(client, "sts")
        async with kept.post(f"{there.gateway.base_url}/tickle"):
            pass
        url = there.gateway.base_url
        away = asyncio.create_task(there.do("away"))
        with pytest.raises(ConnectionClosedError):
            await emptied(client)
        with pytest.raises(aiohttp.ClientConnectionError):
            await kept.post(f"{url}/tickle")
        await away
        assert url == there.gateway.base_url
        async with there.client() as again:
            await until(again, "sts")


@in_loop
async def test_malformed_frames_come_as_they_are() -> None:
    """Bytes that are not UTF-8 and an empty frame included, counted as any other frame."""
    async with night() as there, there.client() as client:
        await until(client, "sts")
        await there.do("malformed")
        frames: list[bytes] = []
        while len(frames) < 8:
            data = await client.recv(decode=False)
            if b'"hb"' not in data:
                frames.append(data)

        assert b"" in frames
        assert any(b"\x99" in data for data in frames)
        assert there.gateway.hub.digests()["unclaimed"].frames >= 4


@in_loop
async def test_a_large_frame_and_a_burst_come_whole() -> None:
    """3 MB, and as many frames as were asked for."""
    async with night() as there, there.client("smd+265598+{}") as client:
        await until(client, "smd+265598")
        await there.do("large")
        assert len((await until(client, "blt"))["args"][0]["message"]) == 3_000_000
        before = there.gateway.hub.digests()["market_data"].frames
        flood = asyncio.create_task(there.do("burst", "5000"))
        for _ in range(5000):
            await until(client, "smd+265598")
        await flood

        assert there.gateway.hub.digests()["market_data"].frames - before >= 5000


@in_loop
async def test_a_fault_that_fails_ends_the_night() -> None:
    """A port that another took meanwhile, say: it is told at once, and raised."""
    failed, first_client = asyncio.Event(), asyncio.Event()
    first_client.set()
    plan = [Fault(kind="away", at=0.0, lasts=LENGTH)]
    async with night() as there:
        log = FaultLog(None, clock=wall_clock)
        with pytest.raises(ReplayError, match="the port is in use"):  # noqa: PT012  raised where the context is left
            async with driven(there.gateway, plan, fault_log=log, first_client=first_client, failed=failed.set):
                await eventually(lambda: not there.gateway.listening)
                taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", there.gateway.port)
                async with taken:
                    await failed.wait()


@in_loop
async def test_a_plan_waits_for_the_first_client() -> None:
    """Then each fault comes at its time."""
    told: list[str] = []
    first_client = asyncio.Event()
    async with night() as there:
        log = FaultLog(
            None, clock=there.gateway.hub.clock, tell=lambda event, fault: told.append(f"{event} {fault['fault']}")
        )
        plan = [Fault(kind="rollover", at=0.0), Fault(kind="expire", at=0.05)]
        async with driven(there.gateway, plan, fault_log=log, first_client=first_client):
            await asyncio.sleep(0.1)
            assert told == []
            first_client.set()
            await eventually(lambda: len(told) == 4)

    assert told == ["fault_began rollover", "fault_ended rollover", "fault_began expire", "fault_ended expire"]
