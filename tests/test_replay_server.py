"""A recording behind the emulated gateway: real clients on real sockets."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import (
    AAPL,
    IBM,
    NOON,
    QUICK,
    Given,
    archive,
    eventually,
    in_loop,
    order,
    quote,
    quotes,
    recording,
    settings_for,
    write_session,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

import recorder
from recorder.archive.gaps import read_gaps
from recorder.archive.layout import Layout
from recorder.archive.reading import Reader, Span
from recorder.cli.replay_keys import press
from recorder.errors import GatewayError, ReplayError
from recorder.protocol.server_session import Rules
from recorder.protocol.topics import load_topics
from recorder.replay.archive_feed import ArchiveFeed
from recorder.replay.certificate import given, self_signed
from recorder.replay.control import Control
from recorder.replay.gateway import Gateway, serve, wall_clock
from recorder.replay.recorded_contents import contents_of
from recorder.replay.synthetic import SyntheticFeed

SECOND = 1_000_000
SMD = f'smd+{AAPL}+{{"fields":["31","55","84","86"]}}'


def mark(event: str, **details: object) -> bytes:
    """Make one of the recorder's marks."""
    return json.dumps({"event": event, **details}).encode()


async def recorded(layout: Layout, frames: Sequence[Given], *, archived: bool = True, **options: Any) -> None:
    """Record frames, and archive them."""
    await asyncio.to_thread(write_session, layout, frames, **options)
    if archived:
        await asyncio.to_thread(archive, layout, recorder=options.get("recorder", "main"))


def feed_of(layout: Layout, *, start: int | None = None, end: int | None = None, **options: Any) -> ArchiveFeed:
    """Make the feed of an archive."""
    reader = Reader(layout, load_topics())
    contents = contents_of(reader, span=Span(start, end))
    gaps = [(gap.start, gap.end or contents.end) for gap in read_gaps(reader, span=Span(start, end))]
    return ArchiveFeed(reader, contents, gaps=gaps, **options)


@asynccontextmanager
async def replayed(feed: ArchiveFeed, *, rules: Rules = QUICK, **options: Any) -> AsyncIterator[Gateway]:
    """Serve a feed."""
    try:
        async with serve(feed, rules=rules, **options) as gateway:
            yield gateway
    finally:
        feed.close()


@asynccontextmanager
async def client(gateway: Gateway, *texts: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[ClientConnection]:
    """Log a bare client in, and let it subscribe; it takes all it gets, so that it hears the end when it leaves."""
    cookie = {"Cookie": f"api={gateway.identity.session}"}
    async with connect(
        gateway.socket_url,
        additional_headers=cookie,
        proxy=None,
        compression=None,
        max_size=None,
        max_queue=None,
        ssl=tls,
    ) as socket:
        for _ in range(3):
            await socket.recv()
        for text in texts:
            await socket.send(text)
        yield socket


async def received(socket: ClientConnection, count: int) -> list[bytes]:
    """Take the next frames."""
    return [await socket.recv(decode=False) for _ in range(count)]


async def next_of(socket: ClientConnection, topic: str) -> dict[str, Any]:
    """Take frames until one of this topic comes."""
    while True:
        content: dict[str, Any] = json.loads(await socket.recv())
        if content.get("topic") == topic:
            return content


@pytest.mark.parametrize("speed", [None, 20.0])
def test_frames_come_out_as_they_came_in(layout: Layout, speed: float | None) -> None:
    """Byte for byte and in order, at full speed and paced, to a client that asked for all that was recorded."""

    @in_loop
    async def check() -> None:
        frames = [Given(NOON, b'{"topic": "smd+265598",  "55":"AAPL", "conid":265598}'), *quotes(1_000, first=1)]
        await recorded(layout, frames)
        async with replayed(feed_of(layout, speed=speed)) as gateway, client(gateway, SMD) as socket:
            assert [frame.data for frame in frames] == await received(socket, len(frames))

    check()


@in_loop
async def test_what_is_still_in_the_journal_is_served(layout: Layout) -> None:
    """No flush is needed."""
    frames = quotes(50)
    await recorded(layout, frames, archived=False)
    async with replayed(feed_of(layout, speed=None)) as gateway, client(gateway, SMD) as socket:
        assert [frame.data for frame in frames] == await received(socket, 50)


@in_loop
async def test_a_client_gets_the_fields_it_asked_for(layout: Layout) -> None:
    """And those that it adds; a frame of which nothing is left is not sent."""
    first = {"55": "AAPL", "84": "1.00", "86": "1.10", "7762": "100"}
    await recorded(
        layout,
        [
            Given(NOON, quote(0, first)),
            Given(NOON + 1, quote(1, {"7762": "200"})),
            Given(NOON + 2, quote(2, {"84": "1.01"})),
        ],
    )
    smd = f'smd+{AAPL}+{{"fields":["84"]}}'
    async with replayed(feed_of(layout, speed=None)) as gateway, client(gateway, smd) as socket:
        got = [json.loads(frame) for frame in await received(socket, 2)]
        assert [{"84": "1.00"}, {"84": "1.01"}] == [{k: row[k] for k in row if k.isdecimal()} for row in got]

        await socket.send(f'smd+{AAPL}+{{"fields":["7762"]}}')
        full = json.loads(await socket.recv())
        assert ("1.01", "200") == (full["84"], full["7762"])


@in_loop
async def test_a_start_within_the_day_begins_with_a_full_frame(layout: Layout) -> None:
    """It has the last value of every field, as the broker wrote it; then come the deltas from there on."""
    first = {"55": "AAPL", "31": "C188.10", "84": "189.50", "86": "189.52", "85": "1,300"}
    early = [
        Given(NOON, quote(0, first)),
        Given(NOON + SECOND, quote(1, {"84": "189.51"})),
        Given(NOON + 2 * SECOND, quote(2, {"85": "1,200", "31": "189.52"})),
    ]
    late = quotes(3, first=10_000)
    await recorded(layout, [*early, *late], rotations=[1, 2])
    feed = feed_of(layout, start=NOON + 5 * SECOND, speed=None)
    async with replayed(feed) as gateway, client(gateway, f"smd+{AAPL}+{{}}") as socket:
        full = json.loads(await socket.recv())
        assert {**first, "84": "189.51", "85": "1,200", "31": "189.52"} == {k: full[k] for k in full if k.isdecimal()}
        assert NOON // 1000 + 2 == full["_updated"]
        assert [frame.data for frame in late] == await received(socket, 3)


@in_loop
async def test_orders_are_those_at_the_replay_clock(layout: Layout) -> None:
    """REST answers with full rows, deltas merged, of the recorded stream and of recorded answers."""
    answer = json.dumps({"orders": [{"acct": "DU1", "orderId": 1, "status": "Submitted", "conid": AAPL}]}).encode()
    frames = [
        Given(NOON, b"GET /iserver/account/orders\n" + answer, "rest"),
        Given(NOON + 1, order(2, conid=IBM, status="Submitted")),
        Given(NOON + 2, order(2, status="Filled")),
        Given(NOON + 9 * SECOND, order(1, status="Cancelled")),
    ]
    await recorded(layout, frames)
    async with replayed(feed_of(layout, start=NOON + SECOND)) as gateway, aiohttp.ClientSession() as http:
        await eventually(lambda: gateway.hub.feed.orders(0))
        await (await http.get(f"{gateway.base_url}/iserver/accounts")).read()
        await (await http.get(f"{gateway.base_url}/iserver/account/orders")).read()
        rows = (await (await http.get(f"{gateway.base_url}/iserver/account/orders")).json())["orders"]
        assert {1: "Submitted", 2: "Filled"} == {row["orderId"]: row["status"] for row in rows}
        assert {1: AAPL, 2: IBM} == {row["orderId"]: row["conid"] for row in rows}


@in_loop
async def test_the_clock_stands_until_somebody_subscribes(layout: Layout) -> None:
    """Then it runs for all: a second client finds it where it is."""
    await recorded(layout, [Given(NOON, quote(0, {"55": "AAPL"})), *quotes(20_000, first=1)])
    feed = feed_of(layout)
    async with replayed(feed) as gateway, client(gateway) as idle:
        assert not feed.clock.running
        await idle.send(SMD)
        assert quote(0, {"55": "AAPL"}) == await idle.recv(decode=False)
        assert feed.clock.running
        await received(idle, 100)
        async with client(gateway, SMD) as late:
            full = json.loads(await late.recv())
            assert "AAPL" == full["55"]
            assert NOON // 1000 + 100 <= full["_updated"] < NOON // 1000 + 20_000


@in_loop
async def test_it_starts_at_once_when_told(layout: Layout) -> None:
    """Without a client."""
    await recorded(layout, quotes(3))
    feed = feed_of(layout, at_once=True)
    async with replayed(feed) as gateway:
        await eventually(gateway.hub.ended.is_set)
        assert feed.ended


@in_loop
async def test_a_recorded_disconnect_closes_the_clients(layout: Layout) -> None:
    """Where it was; they come back to what was recorded after it."""
    frames = [
        *quotes(3),
        Given(NOON + 10_000, mark("disconnected", code=1006, reason="gone"), "mark"),
        *quotes(3, first=3_000),
    ]
    await recorded(layout, frames)
    async with replayed(feed_of(layout)) as gateway:
        async with client(gateway, SMD) as socket:
            assert [frame.data for frame in frames[:3]] == await received(socket, 3)
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        async with client(gateway, SMD) as socket:
            full, *rest = await received(socket, 4)
            assert json.loads(frames[2].data) == json.loads(full)
            assert [frame.data for frame in frames[4:]] == rest


@in_loop
async def test_a_gap_is_skipped_when_told(layout: Layout) -> None:
    """A silence that the ledger has as a gap takes no time, and nothing befalls the clients."""
    end = NOON + 3_600 * SECOND
    gap = {"recorder": "main", "topic": "market_data", "conid": None, "start": NOON + 3_000, "cause": "disconnected"}
    closed = mark("gap_closed", **gap, end=end, evidence="a test")
    frames = [
        *quotes(3),
        Given(NOON + 10_000, mark("disconnected", code=1006, reason="gone"), "mark"),
        Given(end, closed, "mark"),
        *quotes(3, first=3_600_001),
    ]
    await recorded(layout, frames)
    feed = feed_of(layout, skip_gaps=True)
    async with replayed(feed) as gateway, client(gateway, SMD) as socket:
        assert [frame.data for frame in (*frames[:3], *frames[5:])] == await received(socket, 6)


@in_loop
async def test_a_lost_brokerage_session_is_lost_again(layout: Layout) -> None:
    """The clients get `sts`, and their streams have ended until they ask again."""
    sts = [json.dumps({"topic": "sts", "args": {"authenticated": told}}).encode() for told in (False, True)]
    frames = [*quotes(3), Given(NOON + 3_000, sts[0]), Given(NOON + 400_000, sts[1]), *quotes(3, first=2_000)]
    await recorded(layout, frames)
    async with replayed(feed_of(layout)) as gateway, client(gateway, SMD) as socket:
        await received(socket, 3)
        assert (await next_of(socket, "sts"))["args"]["authenticated"] is False
        assert (await next_of(socket, "sts"))["args"]["authenticated"] is True
        await socket.send(SMD)
        assert [frame.data for frame in frames[5:]] == (await received(socket, 4))[1:]


@in_loop
async def test_it_loops(layout: Layout) -> None:
    """The end is followed by the beginning."""
    await recorded(layout, quotes(3))
    async with replayed(feed_of(layout, speed=20.0, loop=True)) as gateway, client(gateway, SMD) as socket:
        got = await received(socket, 9)
        assert [frame.data for frame in quotes(3)] * 3 == got


@in_loop
async def test_market_data_ends_unless_renewed(layout: Layout) -> None:
    """Within the limit; what was renewed goes on, and so do streams of which the broker ends none."""
    pnl = json.dumps({"topic": "spl", "args": {"DU1.Core": {"dpl": 1.0}}}).encode()
    frames = [one for each in quotes(500, step=5_000) for one in (each, Given(each.ts, pnl))]
    await recorded(layout, frames)
    rules, now, feed = Rules(ready_after=0, expire_after=SECOND // 2), [NOON], feed_of(layout)
    async with (
        replayed(feed, rules=rules, clock=lambda: now[0]) as gateway,
        client(gateway, "spl+{}", SMD) as lets_it_end,
        client(gateway, SMD) as renews,
    ):
        ending, renewed = (one.session.streams for one in gateway.hub.clients)
        await eventually(lambda: "smd+265598" in ending and "smd+265598" in renewed)
        feed.resume(now[0])
        for _ in range(6):
            await renews.send(SMD)
            await eventually(lambda: renewed["smd+265598"].expires == now[0] + SECOND // 2)
            now[0] += 100_000
        await eventually(lambda: list(ending) == ["spl"])
        assert "smd+265598" in renewed
        await received(renews, 50)
        now[0] += SECOND
        in_a_row = 0
        while in_a_row < 10:  # before it ended, each was followed by a quote
            in_a_row = in_a_row + 1 if await lets_it_end.recv(decode=False) == pnl else 0


@in_loop
async def test_the_terminal_steers_it(layout: Layout) -> None:
    """Space stands still and goes on, left and right go a minute back and on, up and down change the speed."""
    await recorded(layout, quotes(10, step=60 * SECOND))
    feed, now = feed_of(layout), NOON
    try:
        press(feed, b" ", now)
        assert feed.clock.running
        press(feed, b"\x1b[C", now)
        press(feed, b"\x1b[C", now)
        press(feed, b"\x1b[D", now)
        assert NOON + 60 * SECOND == feed.clock.at(now)
        press(feed, b"\x1b[A", now)
        press(feed, b"\x1b[A", now)
        press(feed, b"\x1b[B", now)
        press(feed, b"x", now)
        assert NOON + 62 * SECOND == feed.clock.at(now + SECOND)
        press(feed, b" ", now + SECOND)
        assert (True, NOON + 62 * SECOND) == (feed.paused, feed.clock.at(now + 9 * SECOND))
    finally:
        feed.close()


@in_loop
async def test_it_is_controlled_over_http(layout: Layout) -> None:
    """Pause, seek, speed and resume; without control there are no such paths."""
    await recorded(layout, quotes(100_000))
    feed = feed_of(layout)
    control = Control(feed, clock=wall_clock)
    async with (
        replayed(feed, extend=control.register) as gateway,
        client(gateway, SMD) as socket,
        aiohttp.ClientSession(f"http://{gateway.host}:{gateway.port}") as http,
    ):
        await received(socket, 10)
        status = await (await http.post("/replay/pause")).json()
        assert (True, False) == (status["paused"], status["running"])
        status = await (await http.post("/replay/seek", json={"to": "2026-11-20T12:01:30"})).json()
        assert NOON + 90 * SECOND == status["time"]
        assert 400 == (await http.post("/replay/seek", json={"to": "nonsense"})).status
        assert 400 == (await http.post("/replay/speed", json={"speed": -1})).status
        assert 4 == (await (await http.post("/replay/speed", json={"speed": 4})).json())["speed"]
        await http.post("/replay/resume")
        while b"22500.0" not in await socket.recv(decode=False):
            pass
        assert (await (await http.get("/replay/status")).json())["running"]
    async with replayed(feed_of(layout)) as gateway, aiohttp.ClientSession() as http:
        assert 404 == (await http.get(f"http://{gateway.host}:{gateway.port}/replay/status")).status


@in_loop
async def test_a_slow_client_slows_itself_only(layout: Layout) -> None:
    """At a pace the other gets every frame; the slow one misses updates, and full frames follow.

    The clock is moved on when the other has read all that was due, so that no load of this machine can slow it too.
    """
    pad, step = "x" * 40_000, 50
    frames = [Given(NOON + number * 100, quote(number, {"84": str(number), "58": pad})) for number in range(1_000)]
    await recorded(layout, frames)
    feed, now = feed_of(layout), [NOON]
    async with (
        replayed(feed, rules=Rules(ready_after=0), buffer_limit=1 << 20, clock=lambda: now[0]) as gateway,
        client(gateway, f"smd+{AAPL}+{{}}") as slow,
        client(gateway, f"smd+{AAPL}+{{}}") as quick,
    ):
        slow.transport.pause_reading()
        await eventually(lambda: all(one.session.streams for one in gateway.hub.clients))
        feed.resume(now[0])
        got = []
        for _ in range(0, len(frames), step):
            now[0] += step * 100
            got += await received(quick, step)
        assert [frame.data for frame in frames] == got
        first, second = gateway.hub.clients
        assert (first.missed > 0, 0) == (True, second.missed)
        slow.transport.resume_reading()
        while json.loads(await slow.recv())["84"] != "999":
            pass


@in_loop
async def test_a_client_that_never_reads_is_let_go_at_full_speed(layout: Layout) -> None:
    """After the gateway's patience, with code 1008; the other gets everything."""
    pad = "x" * 4_000
    frames = [Given(NOON + number, quote(number, {"84": str(number), "58": pad})) for number in range(8_000)]
    await recorded(layout, frames)
    async with (
        replayed(feed_of(layout, speed=None), buffer_limit=1 << 20, patience_s=0.5) as gateway,
        client(gateway, f"smd+{AAPL}+{{}}") as stuck,
        client(gateway, f"smd+{AAPL}+{{}}") as quick,
    ):
        stuck.transport.pause_reading()
        reading = asyncio.create_task(received(quick, 8_000))
        await eventually(lambda: any(one.closing for one in gateway.hub.clients))
        stuck.transport.resume_reading()  # it gets to read why
        with pytest.raises(ConnectionClosed) as closed:
            await received(stuck, 8_001)
        assert closed.value.rcvd is not None
        assert (1008, "too slow") == (closed.value.rcvd.code, closed.value.rcvd.reason)
        assert [frame.data for frame in frames] == await reading


@in_loop
async def test_a_capture_of_the_replay_has_the_same_digests(tmp_path: Path) -> None:
    """What a capture recorded is served to a second capture, which records the very same frames."""
    market = SyntheticFeed(seed=5, contracts=4, rate=2_000)
    conids = tuple(str(conid) for conid in market.instruments)
    async with (
        serve(market, rules=QUICK) as gateway,
        recording(settings_for(gateway, tmp_path / "first", conid=conids)) as first,
    ):
        await eventually(lambda: first.received > 3_000)
    before = await asyncio.to_thread(recorder.open(tmp_path / "first").digests)
    reader = Reader(recorder.open(tmp_path / "first")._reader.layout, load_topics())
    feed = ArchiveFeed(reader, contents_of(reader, span=Span()), speed=None)
    settings = settings_for("http://unused", tmp_path / "second", conid=conids)
    async with (
        replayed(feed) as gateway,
        recording(settings_for(gateway, settings.data, conid=conids)) as second,
    ):
        await eventually(lambda: feed.ended and second.received >= gateway.frames)
    after = await asyncio.to_thread(recorder.open(tmp_path / "second").digests)
    for topic in ("market_data", "orders", "pnl"):
        assert (before[topic].count, before[topic].hexdigest()) == (after[topic].count, after[topic].hexdigest())


@in_loop
async def test_a_capture_trusts_the_certificate_that_is_made(layout: Layout, tmp_path: Path) -> None:
    """By its file (`ca`), or unseen (`insecure`); without either it is refused, and says what to do."""
    await recorded(layout, quotes(200_000, step=100))
    tls, ca = self_signed("127.0.0.1", folder=tmp_path)
    async with replayed(feed_of(layout), tls=tls) as gateway:
        assert gateway.base_url.startswith("https://")
        async with recording(settings_for(gateway, tmp_path / "trusting", ca=ca)) as trusting:
            await eventually(lambda: trusting.received > 20)
        async with recording(settings_for(gateway, tmp_path / "blind", insecure=True)) as blind:
            await eventually(lambda: blind.received > 20)
        with pytest.raises(GatewayError, match="not trusted"):
            async with recording(settings_for(gateway, tmp_path / "refused")):
                pass


def test_a_certificate_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """With its name."""
    (tmp_path / "cert.pem").write_text("no certificate")
    with pytest.raises(ReplayError, match=r"cert\.pem"):
        given(tmp_path / "cert.pem", None)


def test_an_empty_archive_is_refused(layout: Layout) -> None:
    """There is nothing to serve."""
    with pytest.raises(ReplayError, match="nothing is recorded"):
        contents_of(Reader(layout, load_topics()), span=Span())


def test_several_recorders_have_to_be_chosen_from(layout: Layout) -> None:
    """Each has its own frames of the same streams."""
    for name in ("main", "spare"):
        write_session(layout, quotes(3), recorder=name, session=f"20261120T120000{name[:4]}")
        archive(layout, recorder=name)
    reader = Reader(layout, load_topics())
    with pytest.raises(ReplayError, match="main, spare"):
        contents_of(reader, span=Span())
    assert "spare" == contents_of(reader, span=Span(), recorder="spare").recorder
