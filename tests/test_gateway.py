"""The emulated gateway, over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

from recorder.errors import ReplayError
from recorder.protocol.envelope import wire_topic
from recorder.protocol.server_session import SECOND, Rules
from recorder.replay.batch import framed
from recorder.replay.connection import BINARY, TEXT
from recorder.replay.feed import Due, Instrument, Update
from recorder.replay.gateway import Gateway, Leave, serve
from recorder.replay.synthetic import SyntheticFeed
from recorder.replay.tally import Tally

QUICK = Rules(ready_after=20_000)
QUOTES = 'smd+265598+{"fields":["31","84","86","7059","7762","87"]}'
ENVELOPE = {"server_id", "conidEx", "conid", "_updated", "6119", "topic"}


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own, for some minutes at most."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(360):
                await test(**fixtures)

        asyncio.run(bounded())

    return run


def market(*, rate: float = 200.0, contracts: int = 5, order_every: float = 2.0) -> SyntheticFeed:
    """Make a small market."""
    return SyntheticFeed(seed=7, contracts=contracts, rate=rate, order_every=order_every)


@asynccontextmanager
async def opened(
    gateway: Gateway, *, cookie: str | None = "hex", ready: bool = True
) -> AsyncIterator[ClientConnection]:
    """Connect a client, logged in and ready unless told otherwise."""
    token = gateway.identity.session
    values = {"hex": token, "json": json.dumps({"session": token})}
    headers = {"Cookie": f"api={values.get(cookie, cookie)}"} if cookie else {}
    async with connect(
        gateway.socket_url, additional_headers=headers, proxy=None, max_size=None, compression=None, ping_interval=None
    ) as client:
        if ready:
            assert [(await receive(client))["topic"] for _ in range(3)] == ["system", "act", "sts"]
        yield client


async def receive(client: ClientConnection) -> dict[str, Any]:
    """Take the next frame."""
    content: dict[str, Any] = json.loads(await client.recv())
    return content


async def frames_within(client: ClientConnection, seconds: float) -> list[dict[str, Any]]:
    """Take all frames that come within a time."""
    frames = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                frames.append(await receive(client))
    except TimeoutError:
        return frames


async def until(client: ClientConnection, topic: str) -> dict[str, Any]:
    """Take frames until one of this topic comes."""
    while True:
        frame = await receive(client)
        if frame.get("topic", "").partition("+")[0] == topic:
            return frame


async def rest(gateway: Gateway, method: str, path: str, **options: Any) -> tuple[int, Any]:
    """Make a REST call; give status and content."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, gateway.base_url + path, **options) as answer,
    ):
        return answer.status, await answer.json()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    while not condition():  # noqa: ASYNC110  what is waited for is in the server, which tells nobody
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("cookie", ["hex", "json"])
def test_a_cookie_logs_in(cookie: str) -> None:
    """In both forms; the first frames are those of a good handshake."""

    @in_loop
    async def check() -> None:
        async with serve(market(), rules=QUICK) as gateway, opened(gateway, cookie=cookie, ready=False) as client:
            system, act, sts = [await receive(client) for _ in range(3)]

            assert system == {"topic": "system", "success": "trader01", "isFT": False, "isPaper": True}
            assert act["args"]["accounts"] == ["DU1000001"]
            assert act["args"]["sessionId"] != gateway.identity.session
            assert sts["args"]["authenticated"] is True

    check()


@in_loop
async def test_a_session_message_logs_in() -> None:
    """Without a cookie the server says that it waits."""
    async with serve(market(), rules=QUICK) as gateway, opened(gateway, cookie=None, ready=False) as client:
        assert await receive(client) == {"message": "waiting for session"}
        _, tickle = await rest(gateway, "POST", "/tickle")
        await client.send(json.dumps({"session": tickle["session"]}))

        assert (await receive(client))["topic"] == "system"


@in_loop
async def test_an_early_subscription_is_ignored() -> None:
    """What is sent at once vanishes; the same after `sts` brings data."""
    async with serve(market(), rules=Rules(ready_after=100_000)) as gateway, opened(gateway, ready=False) as client:
        await client.send(QUOTES)
        frames = await frames_within(client, 0.4)
        await client.send(QUOTES)

        assert [frame["topic"] for frame in frames] == ["system", "act", "sts"]
        assert (await receive(client))["topic"] == "smd+265598"


@in_loop
async def test_a_full_frame_comes_first_and_then_changes_of_what_was_asked_for() -> None:
    """Envelope and requested fields, with the `_raw` companion; never another field."""
    async with serve(market(order_every=0), rules=QUICK) as gateway, opened(gateway) as client:
        await client.send(QUOTES)
        first, *deltas = [await receive(client) for _ in range(80)]

        asked = {"31", "84", "86", "7059", "7762", "87", "87_raw"}
        assert first.keys() == ENVELOPE | asked | {"6508", "6509"}
        for delta in deltas:
            assert delta.keys() >= ENVELOPE
            assert ENVELOPE < delta.keys() <= ENVELOPE | asked
            assert delta["conid"] == 265598
        assert set().union(*deltas) >= ENVELOPE | {"31", "84", "86", "7059", "7762"}


@in_loop
async def test_without_fields_everything_comes() -> None:
    """The document calls them optional."""
    async with serve(market(), rules=QUICK) as gateway, opened(gateway) as client:
        await client.send("smd+265598+{}")

        assert (await until(client, "smd")).keys() > {"55", "31", "82", "83", "7741", "7051"}


@in_loop
async def test_fields_are_added_by_asking_again() -> None:
    """The stream then carries both."""
    async with serve(market(order_every=0), rules=QUICK) as gateway, opened(gateway) as client:
        await client.send('smd+265598+{"fields":["84"]}')
        await client.send('smd+265598+{"fields":["55"]}')
        fulls = [frame for frame in await frames_within(client, 0.3) if "6509" in frame]

        assert [frame.keys() & {"84", "55"} for frame in fulls] == [{"84"}, {"84", "55"}]


@in_loop
async def test_streams_expire_unless_renewed() -> None:
    """One is renewed and lives, the other ends by itself."""
    rules = Rules(ready_after=0, expire_after=int(0.4 * SECOND))
    async with serve(market(order_every=0), rules=rules) as gateway, opened(gateway) as client:
        await client.send("smd+265598+{}")
        await client.send("smd+8314+{}")
        await frames_within(client, 0.25)
        await client.send("smd+265598+{}")
        await frames_within(client, 0.2)

        assert {frame["conid"] for frame in await frames_within(client, 0.15)} == {265598}
        await frames_within(client, 0.2)
        assert await frames_within(client, 0.2) == []


@in_loop
async def test_unsubscribing_ends_a_stream() -> None:
    """By message, by REST for one contract, by REST for all."""
    async with serve(market(order_every=0), rules=QUICK) as gateway, opened(gateway) as client:
        for conid in (265598, 8314, 272093, 76792991):
            await client.send(f"smd+{conid}+{{}}")
        await client.send("umd+265598+{}")
        assert await rest(gateway, "POST", "/iserver/marketdata/unsubscribe", json={"conid": 8314}) == (
            200, {"success": True},
        )  # fmt: skip
        await frames_within(client, 0.1)
        assert {frame["conid"] for frame in await frames_within(client, 0.3)} == {272093, 76792991}
        assert await rest(gateway, "GET", "/iserver/marketdata/unsubscribeall") == (200, {"unsubscribed": True})
        await frames_within(client, 0.1)
        assert await frames_within(client, 0.2) == []


@in_loop
async def test_heartbeats_carry_the_present() -> None:
    """On their beat, whether or not anything else flows."""
    clock = asyncio.get_running_loop().time
    rules = Rules(ready_after=0, heartbeat_every=SECOND // 10)
    async with serve(market(), rules=rules) as gateway, opened(gateway) as client:
        began = clock()
        beats = [(await receive(client))["hb"] for _ in range(5)]

        assert 0.35 < clock() - began < 1.0
        assert abs(beats[-1] - gateway.hub.clock() // 1000) < 200
        assert [later - earlier for earlier, later in pairwise(beats)] == pytest.approx([100] * 4, abs=50)


@in_loop
async def test_keep_alives_are_answered() -> None:
    """`tic` with the session of `/tickle`, the echo as it is, a ping with a pong."""
    async with serve(market(), rules=QUICK) as gateway, opened(gateway) as client:
        await client.send("tic")
        assert (await receive(client))["id"] == gateway.identity.session
        await client.send("ech+hb")
        assert await client.recv() == "ech+hb"
        await (await client.ping())


@in_loop
async def test_orders_and_pnl_flow() -> None:
    """Orders as deltas after a full row, P&L at once and each second, notices without being asked for."""
    async with serve(market(order_every=0.2), rules=QUICK) as gateway, opened(gateway) as client:
        await client.send("sor+{}")
        await client.send("spl+{}")
        await client.send("str+{}")
        frames = await frames_within(client, 2.5)

        by_topic = {topic: [frame for frame in frames if frame["topic"] == topic] for topic in ("sor", "spl", "str")}
        statuses = {row.get("status") for frame in by_topic["sor"] for row in frame["args"]}
        assert statuses >= {"Inactive", "PendingSubmit", "PreSubmitted", "Submitted"}
        assert len(by_topic["spl"]) in (3, 4)
        assert len(by_topic["str"]) > 1


@in_loop
async def test_rest_orders_must_be_primed() -> None:
    """Accounts first, then an unprimed answer, then the rows; `force` empties the answer."""
    async with serve(market(order_every=0.05), rules=QUICK) as gateway:
        await asyncio.sleep(0.3)

        assert await rest(gateway, "GET", "/iserver/account/orders") == (500, {"error": "Please query /accounts first"})
        assert (await rest(gateway, "GET", "/iserver/accounts"))[1]["accounts"] == ["DU1000001"]
        assert await rest(gateway, "GET", "/iserver/account/orders") == (200, {"orders": [], "snapshot": False})
        _, answer = await rest(gateway, "GET", "/iserver/account/orders")
        assert answer["snapshot"] is True
        assert answer["orders"][0]["acct"] == "DU1000001"
        assert (await rest(gateway, "GET", "/iserver/account/orders?force=true"))[1]["orders"] == []


@in_loop
async def test_rest_answers_what_clients_ask_first() -> None:
    """The calls that precede a socket, in the documented shapes; anything else is not found."""
    async with serve(market(), rules=QUICK, session="5f0c") as gateway:

        async def get(path: str) -> Any:
            status, content = await rest(gateway, "GET", path)
            assert status == 200
            return content

        for method in ("GET", "POST"):
            _, tickle = await rest(gateway, method, "/tickle")
            assert (tickle["session"], tickle["iserver"]["authStatus"]["authenticated"]) == ("5f0c", True)
            _, status = await rest(gateway, method, "/iserver/auth/status")
            assert (status["authenticated"], status["connected"], status["competing"]) == (True, True, False)
        assert (await rest(gateway, "POST", "/iserver/auth/ssodh/init", json={"publish": True}))[1]["authenticated"]
        assert (await get("/sso/validate"))["RESULT"] is True
        assert (await get("/portfolio/accounts"))[0]["accountId"] == "DU1000001"
        stocks = await get("/trsrv/stocks?symbols=AAPL,IBM,NONE")
        assert {symbol: found[0]["contracts"][0]["conid"] for symbol, found in stocks.items()} == {
            "AAPL": 265598,
            "IBM": 8314,
        }
        assert (await get("/iserver/secdef/search?symbol=ibm"))[0]["conid"] == "8314"
        assert (await rest(gateway, "POST", "/iserver/secdef/search", json={"symbol": "IBM"}))[1][0]["symbol"] == "IBM"
        assert (await get("/iserver/contract/8314/info"))["symbol"] == "IBM"
        assert (await get("/iserver/secdef/info?conid=8314"))[0]["conid"] == 8314
        assert (await rest(gateway, "GET", "/iserver/contract/1/info"))[0] == 500
        assert (await rest(gateway, "GET", "/iserver/secdef/info?conid=x"))[0] == 500
        assert (await rest(gateway, "GET", "/iserver/secdef/search?symbol=NONE"))[0] == 400
        assert await rest(gateway, "GET", "/fyi/unreadnumber") == (404, {"error": "Not Found", "statusCode": 404})
        assert (await rest(gateway, "PUT", "/tickle"))[0] == 404


@in_loop
async def test_logging_out_ends_the_brokerage_session_until_it_is_made_again() -> None:
    """Clients are told by `sts`; P&L flows on."""
    async with serve(market(), rules=QUICK) as gateway, opened(gateway) as client:
        await client.send("smd+265598+{}")
        await client.send("spl+{}")
        await until(client, "spl")
        await rest(gateway, "POST", "/logout")
        assert (await until(client, "sts"))["args"]["authenticated"] is False
        assert {frame["topic"] for frame in await frames_within(client, 1.2)} == {"spl"}
        assert (await rest(gateway, "POST", "/tickle"))[1]["iserver"]["authStatus"]["authenticated"] is False

        async with opened(gateway, ready=False) as late:
            assert (await until(late, "sts"))["args"]["authenticated"] is False
            await rest(gateway, "POST", "/iserver/auth/ssodh/init", json={})
            assert (await until(late, "sts"))["args"]["authenticated"] is True


@in_loop
async def test_a_rolled_session_leaves_a_dead_socket() -> None:
    """Its heartbeat goes on, its streams do not, and the new session has another token."""
    rules = Rules(ready_after=0, heartbeat_every=SECOND // 10)
    async with serve(market(order_every=0), rules=rules) as gateway, opened(gateway) as client:
        await client.send("smd+265598+{}")
        await until(client, "smd")
        token = gateway.identity.session
        gateway.roll_session()
        await frames_within(client, 0.05)

        assert {frame["topic"] for frame in await frames_within(client, 0.3)} == {"system"}
        assert (await rest(gateway, "POST", "/tickle"))[1]["session"] != token


@in_loop
async def test_clients_have_their_own_streams_and_fields() -> None:
    """The same frame goes to each, less what it did not ask for."""
    async with serve(market(order_every=0), rules=QUICK) as gateway, opened(gateway) as one, opened(gateway) as two:
        await one.send('smd+265598+{"fields":["84"]}')
        await two.send('smd+265598+{"fields":["84","86"]}')
        await two.send("smd+8314+{}")
        ones, twos = await asyncio.gather(frames_within(one, 0.8), frames_within(two, 0.8))

        assert {frame["conid"] for frame in ones} == {265598}
        assert {frame["conid"] for frame in twos} == {265598, 8314}
        bids = [
            [(f["_updated"], f["84"]) for f in frames if f["conid"] == 265598 and "84" in f] for frames in (ones, twos)
        ]
        assert len(bids[0]) > 5
        assert bids[0][2:-2] == [bid for bid in bids[1] if bid in bids[0][2:-2]]


@pytest.mark.parametrize("binary", [False, True])
def test_the_digest_is_that_of_what_the_client_received(binary: bool) -> None:  # noqa: FBT001
    """Per topic, in both kinds of frames, over two connections in turn, each read to its end after its close."""

    @in_loop
    async def check() -> None:
        leaves: list[Leave] = []
        total = Tally()
        async with serve(
            market(rate=3_000, order_every=0.1), rules=QUICK, binary=binary, on_leave=leaves.append
        ) as gateway:
            for number in range(2):
                own = Tally()

                def count(message: str | bytes, own: Tally = own) -> None:
                    assert isinstance(message, bytes) == binary
                    data = message.encode() if isinstance(message, str) else message
                    for tally in (own, total):
                        tally.add(wire_topic(data), data)

                async with opened(gateway, ready=False) as client:
                    for _ in range(3):
                        count(await client.recv())
                    for text in (
                        "smd+265598+{}",
                        QUOTES.replace("265598", "8314"),
                        "sor+{}",
                        "spl+{}",
                        "tic",
                        "nonsense",
                    ):
                        await client.send(text)
                    closing = None
                    async with asyncio.timeout(120):
                        try:
                            while True:
                                count(await client.recv())
                                if own.frames > 1_500 and closing is None:
                                    closing = asyncio.create_task(client.close())
                        except ConnectionClosedOK:
                            pass
                await eventually(lambda number=number: len(leaves) == number + 1)  # type: ignore[misc]
                assert leaves[-1].digests == own.totals()
            assert gateway.digests() == total.totals()
            assert total.totals().keys() >= {"market_data", "orders", "pnl", "status", "system", "unclaimed"}

    check()


@in_loop
async def test_a_slow_client_does_not_hinder_another_and_gets_full_frames_when_it_reads_again() -> None:
    """It misses updates, none of them unnoticed: what it puts together in the end is the present state."""
    limit = 100_000
    feed = market(rate=20_000, order_every=0)
    async with serve(feed, rules=QUICK, buffer_limit=limit) as gateway, opened(gateway) as quick:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1 << 16)
        writer.write(handshake(gateway))
        await reader.readuntil(b"\r\n\r\n")
        await eventually(lambda: gateway.hub.clients[1].session.authenticated)
        writer.write(masked("smd+265598+{}") + masked("smd+8314+{}"))
        await quick.send("smd+8314+{}")
        slow = gateway.hub.clients[1]
        received = 0
        while slow.missed < 20_000:
            await quick.recv()
            received += 1
            assert slow._transport.get_write_buffer_size() < 10 * limit
        assert received > 5_000

        feed.market.rate = 0
        states: dict[int, dict[str, Any]] = {}
        await asyncio.gather(read_states(reader, states, until_still_s=0.5), frames_within(quick, 0.5))
        assert states.keys() == {265598, 8314}
        for conid, state in states.items():
            now = json.loads(feed.snapshot(f"smd+{conid}", 0) or b"")
            assert {**state, "_updated": 0} == {**now, "_updated": 0}
        writer.close()


def handshake(gateway: Gateway) -> bytes:
    """Write an opening request."""
    lines = [
        "GET /v1/api/ws HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        f"Cookie: api={gateway.identity.session}",
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


def masked(text: str) -> bytes:
    """Write a short text frame as a client does, with a mask of zeros."""
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode()


async def read_states(reader: asyncio.StreamReader, states: dict[int, dict[str, Any]], *, until_still_s: float) -> None:
    """Read server frames until nothing comes any more; put the market data together."""
    while True:
        try:
            async with asyncio.timeout(until_still_s):
                _, short = await reader.readexactly(2)
        except TimeoutError:
            return
        length = short if short < 126 else int.from_bytes(await reader.readexactly(2))
        content = json.loads(await reader.readexactly(length))
        if "conid" in content:
            states.setdefault(content["conid"], {}).update(content)


class ListFeed:
    """A lossless feed of given frames, handed over as fast as they are taken."""

    lossless = True
    accounts = ("DU1000001",)
    instruments: Mapping[int, Instrument] = {}

    def __init__(self, updates: Sequence[Update]) -> None:
        self._updates = list(updates)
        self._wanted: Collection[str] = ()
        self.asked = 0

    def want(self, streams: Collection[str]) -> None:
        """Begin with the first wish."""
        self._wanted = set(streams)

    def snapshot(self, stream: str, now: int) -> bytes | None:
        """Know nothing of the past."""
        del stream, now
        return None

    def orders(self, now: int) -> Sequence[Mapping[str, object]]:
        """Have none."""
        del now
        return []

    async def due(self, now: int) -> Due:
        """Give the next hundred."""
        if not self._wanted:
            return Due([], now + 1_000_000)
        batch, self._updates = self._updates[:100], self._updates[100:]
        self.asked += len(batch)
        return Due(batch, now if self._updates else None)


@in_loop
async def test_a_lossless_feed_waits_for_a_slow_client() -> None:
    """Memory stays bounded while the client does not read; then every frame arrives, to the byte."""
    sent = [Update("smd+1", b'{"topic":"smd+1","31":"%d","pad":"%s"}' % (n, b"x" * 1_000)) for n in range(30_000)]
    feed = ListFeed(sent)
    async with serve(feed, rules=QUICK, buffer_limit=1 << 16) as gateway, opened(gateway) as client:
        await client.send("smd+1+{}")
        await asyncio.sleep(0.5)
        asked = feed.asked
        await asyncio.sleep(0.2)

        assert 0 < asked == feed.asked < 25_000
        assert [(await client.recv(decode=False)) for _ in sent] == [data for _, data in sent]
        await gateway.hub.ended.wait()


@in_loop
async def test_a_client_that_never_reads_is_let_go() -> None:
    """After the patience is over the feed goes on for the others, and the client is closed as too slow."""
    feed = ListFeed([Update("smd+1", b'{"topic":"smd+1","31":"%d"}' % n + b" " * 10_000) for n in range(5_000)])
    leaves: list[Leave] = []
    async with serve(feed, rules=QUICK, buffer_limit=1 << 16, patience_s=0.2, on_leave=leaves.append) as gateway:
        async with opened(gateway) as client:
            await client.send("smd+1+{}")
            await gateway.hub.ended.wait()
            with pytest.raises(ConnectionClosedError, match="1008"):
                await frames_within(client, 10)
        await eventually(lambda: len(leaves) == 1)
        assert leaves[0].digests["market_data"].frames < 5_000


@in_loop
async def test_frames_of_a_recording_pass_to_the_byte() -> None:
    """Even what is no valid UTF-8, when all fields are asked for; notices go to everyone."""
    odd = b'{"topic":"ntf","args":[{"text":"caf\x99"}]}'
    frames = [Update("smd+1", b'{"topic": "smd+1",  "conid":1}'), Update("ntf", odd)]
    async with serve(ListFeed(frames), rules=QUICK, binary=True) as gateway, opened(gateway, ready=False) as client:
        for _ in range(3):
            await client.recv()
        await client.send("smd+1+{}")

        assert [await client.recv(), await client.recv()] == [data for _, data in frames]


class BrokenFeed(ListFeed):
    """A feed that fails."""

    async def due(self, now: int) -> Due:
        """Fail."""
        raise ReplayError(f"damaged: {now}")


@in_loop
async def test_a_failing_feed_is_raised_where_the_server_is_left() -> None:
    """And whoever waits for the end hears of it."""
    with pytest.raises(ReplayError, match="damaged"):
        async with serve(BrokenFeed([])) as gateway:
            await gateway.hub.ended.wait()


@in_loop
async def test_a_port_in_use_is_one_clear_error() -> None:
    """With a hint."""
    async with serve(market()) as gateway:
        with pytest.raises(ReplayError, match=f"127.0.0.1:{gateway.port}: the port is in use") as caught:
            async with serve(market(), port=gateway.port):
                raise AssertionError("two servers on one port")

    assert caught.value.hint


@in_loop
async def test_leaving_the_server_closes_its_clients_properly() -> None:
    """With a handshake, and everything sent before is received."""
    leaves: list[Leave] = []
    own = Tally()
    async with serve(market(rate=2_000), rules=QUICK, on_leave=leaves.append) as gateway:
        client = await connect(
            gateway.socket_url, additional_headers={"Cookie": f"api={gateway.identity.session}"}, proxy=None,
            compression=None, ping_interval=None,
        )  # fmt: skip
        await asyncio.sleep(0.1)
        await client.send("smd+265598+{}")

        async def read() -> None:
            async for message in client:
                data = message.encode() if isinstance(message, str) else message
                own.add(wire_topic(data), data)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.5)
    await reading

    assert client.close_code == 1001
    assert own.frames > 500
    assert [leave.digests for leave in leaves] == [own.totals()]


@pytest.mark.parametrize("clean", [True, False])
def test_dropped_clients_can_come_back(clean: bool) -> None:  # noqa: FBT001
    """After a close or a break the server forgets their streams and serves them anew."""

    @in_loop
    async def check() -> None:
        async with serve(market(), rules=QUICK) as gateway:
            async with opened(gateway) as client:
                await client.send("smd+265598+{}")
                await until(client, "smd")
                await gateway.hub.drop_clients(clean=clean)
                with pytest.raises(ConnectionClosed):
                    await frames_within(client, 5)
            await eventually(lambda: not gateway.hub.clients)
            async with opened(gateway) as client:
                await client.send("smd+265598+{}")
                assert (await until(client, "smd"))["55"] == "AAPL"

    check()


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_frames_are_written_as_the_standard_says(length: int, opcode: int) -> None:
    """Three forms of the length; no mask."""
    payload = b"x" * length
    data = framed([payload, payload], opcode)
    header = (
        bytes([opcode, length])
        if length < 126
        else bytes([opcode, 126]) + length.to_bytes(2)
        if length < 65_536
        else bytes([opcode, 127]) + length.to_bytes(8)
    )

    assert data == (header + payload) * 2


@in_loop
async def test_the_server_binds_loopback_unless_told_otherwise() -> None:
    """And its addresses are what clients need."""
    async with serve(market()) as gateway:
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/v1/api", gateway.base_url)
        assert gateway.socket_url == gateway.base_url.replace("http", "ws") + "/ws"
