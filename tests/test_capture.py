"""The capture, end to end: an emulated gateway, real sockets, a real archiver process, Parquet."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import (
    AAPL,
    IBM,
    Recording,
    Script,
    commits,
    eventually,
    gateway_with,
    in_loop,
    order,
    payloads,
    quote,
    recording,
    settings_for,
)

import recorder
from recorder.archive.layout import open_layout
from recorder.capture.journal import Journal
from recorder.capture.rest import Rest
from recorder.errors import GatewayError, RecorderError
from recorder.library import Archive
from recorder.protocol.envelope import wire_topic
from recorder.protocol.marks import decode_mark
from recorder.protocol.server_session import SECOND, Rules
from recorder.replay.connection import Connection
from recorder.replay.gateway import Gateway

DOCUMENTED = (Path(__file__).parent / "data" / "seed_frames.jsonl").read_bytes().splitlines()
"""The broker's documented samples, repaired into valid JSON."""
BULLETIN = b'{"topic":"blt","args":{"id":"1","message":"late"}}'


def stream_of(data: bytes) -> str:
    """Name the stream that a frame belongs to; one of its own for what has none."""
    return wire_topic(data) or "none"


async def sent(running: Recording, feed: Script, frames: Sequence[bytes]) -> None:
    """Send frames, and wait until all were received."""
    before = running.received
    for data in frames:
        feed.push(stream_of(data), data)
    await eventually(lambda: running.received >= before + len(frames))


def marks(root: Path) -> list[dict[str, Any]]:
    """Read a recording's notes."""
    return [decode_mark(data) for data in payloads(root, kind="mark")]


def events(root: Path) -> list[str]:
    """Name a recording's notes."""
    return [mark["event"] for mark in marks(root)]


def values(archive: Archive, topic: str) -> list[dict[str, Any]]:
    """Give a topic's rows, only what is there of each, without what our side adds."""
    ours = {"date", "ts_recv", "session", "seq", "item"}
    rows = archive.table(topic).to_pylist()
    return [{name: cell for name, cell in row.items() if name not in ours and cell is not None} for row in rows]


def utc(text: str) -> datetime:
    """Read a time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@asynccontextmanager
async def without_cookies(gateway: Gateway) -> AsyncIterator[str]:
    """Put a relay before a gateway that takes the cookies out of requests; give its base URL."""
    tasks = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(re.sub(rb"Cookie: [^\r]*\r\n", b"", data))
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(gateway.host, gateway.port)
        for way in (pipe(reader, there_writer), pipe(there_reader, writer)):
            task = asyncio.create_task(way)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1/api"
        await asyncio.gather(*tasks, return_exceptions=True)


@in_loop
async def test_the_documented_samples_pass_through_a_socket_into_parquet(tmp_path: Path) -> None:
    """Value by value, topic by topic."""
    feed, data = Script(), tmp_path / "data"
    async with (
        gateway_with(feed) as gateway,
        recording(settings_for(gateway, data, field=("31", "83"))) as running,
    ):
        await eventually(lambda: feed.wanted == {f"smd+{AAPL}", "sor", "spl"})
        await sent(running, feed, DOCUMENTED)
        await running.stop()
        archive = recorder.open(data)

        assert payloads(data)[-len(DOCUMENTED) :] == DOCUMENTED
        assert open_layout(data).segments("main") == []
        assert values(archive, "market_data") == [
            {
                "conid": AAPL,
                "ts_event": utc("2020-06-30T13:40:08.296"),
                "last_price": 382.89,
                "change_percent": 0.04,
                "market_data_marker": "q6",
                "server_id": "q6",
                "wire_topic": "smd+265598",
            }
        ]
        assert values(archive, "pnl") == [
            {
                "conid": 0,
                "account": "DU1234",
                "model": "Core",
                "row_type": 1,
                "daily_pnl": -57520.0,
                "unrealized_pnl": 972100.0,
            }
        ]
        assert [values(archive, topic)[-1]["conid"] for topic in ("status", "notifications", "bulletins")] == [0, 0, 0]
        assert values(archive, "notifications")[0]["title"] == "Warning"
        assert [row.get("authenticated") for row in values(archive, "status")] == [True, True, None]
        assert [row.get("competing") for row in values(archive, "status")] == [False, None, False]


@in_loop
async def test_the_documented_orders_keep_every_value(tmp_path: Path) -> None:
    """A full row, three states of another order, its fills."""
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data)) as running:
        await eventually(lambda: "sor" in feed.wanted)
        await sent(running, feed, [line for line in DOCUMENTED if stream_of(line) == "sor"])
        await running.stop()
        full, *rest = [row for row in values(recorder.open(data), "orders") if row["source"] == "stream"]

        assert full == {
            "conid": AAPL,
            "source": "stream",
            "acct": "DU1234",
            "order_id": 922048212,
            "cash_ccy": "USD",
            "size_and_fills": "0/1",
            "order_desc": "Buy 100 Limit 372.00 GTC",
            "description1": "AAPL",
            "ticker": "AAPL",
            "sec_type": "STK",
            "listing_exchange": "NASDAQ.NMS",
            "remaining_quantity": 100.0,
            "filled_quantity": 0.0,
            "company_name": "APPLE INC",
            "status": "Submitted",
            "orig_order_type": "LIMIT",
            "supports_tax_opt": True,
            "last_execution_time": utc("2020-07-08T17:35:51"),
            "last_execution_time_r": utc("2020-07-08T17:35:51"),
            "order_type": "Limit",
            "side": "BUY",
            "time_in_force": "GTC",
            "price": 372.0,
            "bg_color": "#000000",
            "fg_color": "#00F000",
        }
        assert {(row["conid"], row["order_id"]) for row in rest} == {(0, 352055828)}
        assert [row.get("status") for row in rest] == [
            *("PendingSubmit", "PreSubmitted", "Submitted"),
            *(None, None, "Filled"),
        ]
        assert [row.get("filled_quantity") for row in rest] == [None, None, None, 100.0, 700.0, 722.0]
        assert [row.get("avg_price") for row in rest] == [None, None, None, 382.45, None, None]
        assert rest[-1]["order_desc"] == "Sold 722 Limit 382.40 GTC"


@in_loop
async def test_one_digest_for_what_was_sent_captured_archived_and_replayed(tmp_path: Path) -> None:
    """Over several flushes and two connections."""
    feed, data = Script(), tmp_path / "data"
    async with (
        gateway_with(feed) as gateway,
        recording(settings_for(gateway, data, conid=(str(AAPL), str(IBM)), flush_every=0.5)) as running,
    ):
        for number in range(3):
            await eventually(lambda: len(feed.wanted) == 4)
            hundred = range(number * 100, number * 100 + 100)
            frames = [quote(one, conid=conid) for one in hundred for conid in (AAPL, IBM)]
            await sent(running, feed, [*frames, order(number, conid=IBM), order(number, status="Filled")])
            await asyncio.sleep(0.5)
            if number == 1:
                await gateway.hub.drop_clients(clean=True)
                await eventually(lambda: running.state != "recording")
                await eventually(lambda: running.state == "recording")
        outcome = await running.stop()

        told = {topic: (one.frames, one.digest) for topic, one in gateway.digests().items()}
        captured = {topic: (one["frames"], one["digest"]) for topic, one in outcome.digests.items()}
        replayed = {topic: (one.count, one.hexdigest()) for topic, one in recorder.open(data).digests().items()}
        assert told["market_data"][0] == 600
        assert told == captured == replayed
        assert outcome.flushes >= 3
        assert outcome.received == sum(count for count, _ in told.values())
        assert {"market_data": 600, "orders": 6}.items() <= outcome.rows.items()


@in_loop
async def test_a_session_message_logs_in_where_cookies_do_not(tmp_path: Path) -> None:
    """The gateway says that it waits; the answer is journaled, its token masked."""
    feed, data, token = Script(), tmp_path / "data", "5e55104a" * 4
    async with gateway_with(feed, session=token) as gateway, without_cookies(gateway) as url:
        async with recording(settings_for(url, data)) as running:
            await eventually(lambda: len(feed.wanted) == 3)
            await sent(running, feed, [quote(1)])
        first = payloads(data)[0]
        messages = [text for text in payloads(data, kind="out") if text.startswith(b"{")]

        assert first == b'{"message":"waiting for session"}'
        assert len(messages) == 1
        assert len(messages[0]) == len(json.dumps({"session": token}, separators=(",", ":")))
        assert token.encode() not in messages[0]
        assert quote(1) in payloads(data)


@in_loop
async def test_binary_frames_are_kept_as_binary(tmp_path: Path) -> None:
    """The real broker sends them so; rows come out all the same."""
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed, binary=True) as gateway, recording(settings_for(gateway, data)) as running:
        await eventually(lambda: len(feed.wanted) == 3)
        await sent(running, feed, [quote(1)])
        await running.stop()

        assert {frame.op for frame in recorder.open(data).frames(kinds=["in"])} == {"binary"}
        assert [0.25] == recorder.open(data).load("market_data")["bid_price"].tolist()


ODD = {
    "not UTF-8": b'{"topic":"ntf","args":{"id":"1","text":"caf\xe9 \xff","title":"Warning"}}',
    "large": json.dumps({"topic": "ntf", "args": {"id": "2", "text": "x" * 3_000_000}}).encode(),
    "empty": b"",
    "unknown topic": b'{"topic":"zzz+1","args":{"a":1}}',
    "not JSON": b"<html>Bad Gateway</html>",
    "not an object": b"[1,2,3]",
    "a topic that is no text": b'{"topic":17}',
    "cut off": b'{"topic":"smd+265598","31":"3',
    "an order without rows": b'{"topic":"sor","args":17}',
    "nested too deeply": b'{"topic":"ntf","args":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "nested too deeply, with a tic": b'{"a":"tic","topic":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "a number beyond all": b'{"topic":"spl","args":{"DU1234":{"dpl":1e999}}}',
    "lone surrogates": b'{"topic":"ntf","args":{"id":"\\ud800"}}',
    "zeros": bytes(300),
}
UNCLAIMED = {"empty", "unknown topic", "not JSON", "not an object", "a topic that is no text", "cut off", "zeros"}


@in_loop
async def test_frames_that_nobody_expects_are_archived_verbatim_and_counted(tmp_path: Path) -> None:
    """None of them stops the capture or its archiver, and what follows is decoded."""
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data)) as running:
        await eventually(lambda: len(feed.wanted) == 3)
        before = running.received
        for frame in ODD.values():
            feed.push("none", frame)
        feed.push(f"smd+{AAPL}", quote(1))
        await eventually(lambda: running.received >= before + len(ODD) + 1)
        outcome = await running.stop()
        (commit,) = commits(open_layout(data))
        archive = recorder.open(data)

        assert [*ODD.values(), quote(1)] == payloads(data)[-len(ODD) - 1 :]
        assert [0.25] == archive.load("market_data")["bid_price"].tolist()
        assert commit.unclaimed >= len(UNCLAIMED)
        assert commit.unclaimed + sum(commit.claimed.values()) == outcome.received
        assert commit.undecoded["orders"] == 1
        assert outcome.flushes == 1
        assert "caf\ufffd \ufffd" in archive.load("notifications")["text"].tolist()


def fragments(data: bytes, *, size: int, opcode: int) -> bytes:
    """Write a message as WebSocket frames of at most `size` (below 126) bytes each, with a ping between them."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    written = []
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        written.append(bytes([(0x80 if last else 0) | (opcode if number == 0 else 0), len(piece)]) + piece)
    return b"\x89\x02hi".join(written)


def transport(client: Connection) -> asyncio.Transport:
    """Give the gateway's end of a client's socket."""
    return client._transport


@in_loop
async def test_fragmented_messages_are_joined(tmp_path: Path) -> None:
    """Text and binary, cut within a character, control frames in between."""
    feed, data = Script(), tmp_path / "data"
    text = '{"topic":"ntf","args":{"id":"é","text":"ünë"}}'.encode()
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data)) as running:
        before = running.received
        transport(gateway.hub.clients[0]).write(
            fragments(text, size=1, opcode=0x1) + fragments(quote(1), size=50, opcode=0x2) + b"\x81\x00"
        )
        await eventually(lambda: running.received == before + 3)
        await running.stop()
        last = [(frame.op, frame.data) for frame in recorder.open(data).frames(kinds=["in"])][-3:]

        assert [("text", text), ("binary", quote(1)), ("text", b"")] == last


@pytest.mark.parametrize("clean", [True, False])
def test_the_capture_goes_on_after_the_gateway_closed_the_connection(tmp_path: Path, clean: bool) -> None:  # noqa: FBT001
    """In the same session, with a new number of the connection, subscribed anew."""
    feed, data = Script(), tmp_path / "data"

    @in_loop
    async def check() -> None:
        async with gateway_with(feed) as gateway, recording(settings_for(gateway, data)) as running:
            await eventually(lambda: len(feed.wanted) == 3)
            await sent(running, feed, [quote(1), quote(2)])
            await gateway.hub.drop_clients(clean=clean)
            await eventually(lambda: feed.wanted == set())
            await eventually(lambda: len(feed.wanted) == 3)
            await sent(running, feed, [quote(3)])

    check()
    frames = [frame for frame in recorder.open(data).frames(kinds=["in"]) if b"smd" in frame.data]

    assert [quote(1), quote(2), quote(3)] == [frame.data for frame in frames]
    assert len({frame.session for frame in frames}) == 1
    assert frames[0].conn == frames[1].conn < frames[2].conn
    assert events(data).count("connected") == events(data).count("disconnected") == 2
    subscribed = [mark["text"] for mark in marks(data) if mark["event"] == "subscribed"]
    assert len(subscribed) == 6


@in_loop
async def test_a_gateway_that_goes_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    """REST is refused meanwhile; the same session goes on when it is back."""
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway:
        port = gateway.port
        running = Recording(settings_for(gateway, data))
        await running.start()
    await eventually(lambda: running.capture.counters.problem is not None)
    problem = running.capture.counters.problem
    feed.wanted = set()
    async with gateway_with(feed, port=port):
        await eventually(lambda: len(feed.wanted) == 3)
        await sent(running, feed, [quote(1)])
        assert running.capture.counters.problem is None
        await running.stop()

    assert problem is not None
    assert "no gateway at" in problem
    assert [quote(1)] == [data for data in payloads(data) if b"smd" in data]


@in_loop
async def test_a_connection_without_heartbeats_is_replaced(tmp_path: Path) -> None:
    """It looks alive and is dead."""
    feed, data = Script(), tmp_path / "data"
    mute = Rules(ready_after=20_000, heartbeat_every=600 * SECOND)
    async with (
        gateway_with(feed, rules=mute) as gateway,
        recording(settings_for(gateway, data, heartbeat_timeout=1.5)) as running,
    ):
        await sent(running, feed, [b'{"topic":"ntf","args":{"id":"a"}}'])
        await eventually(lambda: [client.number for client in gateway.hub.clients] == [2])
        await eventually(lambda: running.state == "recording")
        await sent(running, feed, [b'{"topic":"ntf","args":{"id":"b"}}'])
    shown = recorder.open(data).load("notifications")["id"].tolist()

    assert ["a", "b"] == shown
    assert events(data).count("disconnected") >= 2


@in_loop
async def test_a_frozen_connection_does_not_delay_the_next(tmp_path: Path) -> None:
    """Nothing answers its close, which may take ten seconds: the next one is opened long before that."""
    feed, data = Script(), tmp_path / "data"
    async with (
        gateway_with(feed) as gateway,
        recording(settings_for(gateway, data, heartbeat_timeout=1.5)) as running,
    ):
        await sent(running, feed, [quote(1)])
        frozen = list(gateway.hub.clients)
        for client in frozen:
            client.freeze()
        await eventually(lambda: any(client not in frozen for client in gateway.hub.clients))
        for client in frozen:
            client.thaw()
    left = [frame.ts_recv for frame in recorder.open(data).frames(kinds=["mark"]) if b'"heartbeat_lost"' in frame.data]
    back = [frame.ts_recv for frame in recorder.open(data).frames(kinds=["mark"]) if b'"connected"' in frame.data]

    assert back[1] - left[0] < 9 * SECOND


@in_loop
async def test_what_comes_from_a_connection_that_was_given_up_is_still_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had no heartbeats, but is read for a while before it is dropped; if it speaks, it is closed properly."""
    monkeypatch.setattr("recorder.capture.conversation._QUIET", 4.0)  # time enough for a busy machine
    feed, data = Script(), tmp_path / "data"
    async with (
        gateway_with(feed) as gateway,
        recording(settings_for(gateway, data, heartbeat_timeout=1.5)) as running,
    ):
        await sent(running, feed, [quote(1)])
        (frozen,) = gateway.hub.clients
        frozen.freeze()
        await eventually(lambda: any(b'"heartbeat_lost"' in mark for mark in payloads(data, kind="mark")))
        frozen.thaw()
        frozen.send([BULLETIN])
        await eventually(lambda: BULLETIN in payloads(data))
        await eventually(lambda: "disconnected" in events(data))
    end = next(mark for mark in marks(data) if mark["event"] == "disconnected")

    assert [1] == [frame.conn for frame in recorder.open(data).frames() if frame.data == BULLETIN]
    assert 1000 == end["code"]


@in_loop
async def test_a_defect_beside_the_recording_is_told_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The snapshot of the orders fails in a way that nobody foresaw."""

    async def fails(_self: Rest) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(Rest, "orders", fails)
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data)) as running:
        await eventually(lambda: "an errand beside the recording failed" in caplog.text)
        await sent(running, feed, [quote(1)])

    assert "ZeroDivisionError" in caplog.text
    assert quote(1) in payloads(data)


@in_loop
async def test_a_login_renewed_under_the_socket_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The keep-alive's answer names another session: connect again, and say why."""
    caplog.set_level(logging.INFO, "recorder")
    feed, data = Script(), tmp_path / "data"
    async with (
        gateway_with(feed) as gateway,
        recording(settings_for(gateway, data, tickle_every=0.3)) as running,
    ):
        old = gateway.identity.session
        gateway.hub.clients[0].session.identity = gateway.identity = type(gateway.identity)(session="feed" * 8)
        await eventually(lambda: len(gateway.hub.clients) == 1 and gateway.hub.clients[0].number == 2)
        await eventually(lambda: running.state == "recording")
        new = gateway.identity.session

    assert "the login was renewed" in caplog.text
    assert_nowhere(data, caplog.text, [old, new])


def assert_nowhere(root: Path, log: str, tokens: Sequence[str]) -> None:
    """Look for tokens in every byte below a folder, in what Parquet's pages hold unpacked, and in the log."""
    seen = 0
    for path in root.rglob("*"):
        if path.is_dir():
            continue
        seen += 1
        content = path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            content += repr(table.to_pylist()).encode() + repr(pq.read_metadata(path).metadata).encode()
        assert [token for token in tokens if token.encode() in content] == [], path
    assert seen > 2
    assert [token for token in tokens if token in log] == []


@in_loop
async def test_no_token_reaches_a_file_or_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not by cookie, session message, keep-alive, echo or error; not in the journal, not in Parquet."""
    caplog.set_level(logging.DEBUG)
    feed, data, token = Script(), tmp_path / "data", "c0ffee11" * 4
    said = json.dumps({"error": f'Topic unknown {{"session":"{token}"}}', "code": 1}).encode()
    settings = settings_for("http://127.0.0.1:1", data, tickle_every=0.3)
    async with gateway_with(feed, session=token) as gateway, without_cookies(gateway) as url:
        running = Recording(settings_for(url, data, tickle_every=settings.tickle_every))
        await running.start()
        await sent(running, feed, [said, b'{"topic":"ntf","args":{"id":"' + token.encode() + b'"}}'])
        await eventually(lambda: caplog.text.count("says: Topic unknown"))
        await eventually(lambda: running.received >= 8)  # among them answers to keep-alives
        journal = b"".join(path.read_bytes() for path in (data / "journal").rglob("*.seg"))
        await running.stop()
    cookie = f"0.{gateway.identity.user_id:x}.0"

    assert b"Topic unknown" in journal
    assert token.encode() not in journal
    assert any(b'"topic":"tic"' in frame for frame in payloads(data))
    assert_nowhere(data, caplog.text, [token, cookie])


@in_loop
async def test_a_snapshot_of_the_orders_is_kept_as_rest_and_as_rows(tmp_path: Path) -> None:
    """The first answer is unprimed, so that it is asked for again; deltas then find their contract."""
    row = {"acct": "DU1234", "conid": IBM, "orderId": 7, "status": "Submitted", "price": "1,234.50"}
    feed, data = Script(orders=[row]), tmp_path / "data"
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data)) as running:
        await asyncio.sleep(5.2)
        await sent(running, feed, [order(7, acct="DU1234", status="Filled")])
        await running.stop()
        rest = [frame for frame in payloads(data, kind="rest") if not frame.startswith(b"GET /trsrv/secdef")]
        orders = recorder.open(data).load("orders")

        assert {data.partition(b"\n")[0] for data in rest} == {b"GET /iserver/account/orders"}
        assert [json.loads(data.partition(b"\n")[2])["snapshot"] for data in rest] == [False, True]
        assert ["rest", "stream"] == orders["source"].tolist()
        assert [IBM, IBM] == orders["conid"].tolist()
        assert ["Submitted", "Filled"] == orders["status"].tolist()
        assert orders["price"].tolist()[0] == 1234.5


@in_loop
async def test_streams_are_ended_before_the_capture_leaves(tmp_path: Path) -> None:
    """The broker counts those of a client that just goes."""
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data)) as running:
        await eventually(lambda: len(feed.wanted) == 3)
        await running.stop()
    texts = [text.decode() for text in payloads(data, kind="out")]

    assert {f"umd+{AAPL}+{{}}", "uor+{}", "upl+{}"} == set(texts[-3:])
    assert events(data)[-2:] == ["disconnected", "session_stopped"]
    assert events(data)[0] == "session_started"


@in_loop
async def test_a_capture_stops_when_its_time_is_up(tmp_path: Path) -> None:
    """And what it says of itself is what is on disk."""
    from recorder.capture.status import Status  # noqa: PLC0415
    from recorder.recording import record  # noqa: PLC0415

    feed, data = Script(), tmp_path / "data"
    looks: list[Status] = []
    async with gateway_with(feed) as gateway:
        outcome = await record(
            settings_for(gateway, data),
            stop_at=datetime.now(UTC) + timedelta(seconds=2.5),
            watch=looks.append,
            ready=lambda _capture: feed.push("ntf", b'{"topic":"ntf","args":{"id":"a"}}'),
        )

    assert looks[-1].state == "recording"
    assert looks[-1].problem is None
    assert looks[-1].received == outcome.received == len(payloads(data))
    assert outcome.flushes == 1
    assert marks(data)[-1] == {"event": "session_stopped", "reason": "the time is up"}


@in_loop
async def test_the_next_session_names_its_predecessor(tmp_path: Path) -> None:
    """So that what lies between them is a known hole."""
    feed, data = Script(), tmp_path / "data"
    sessions = []
    async with gateway_with(feed) as gateway:
        for _ in range(2):
            async with recording(settings_for(gateway, data)) as running:
                await sent(running, feed, [b"{}"])
                sessions.append((await running.stop()).session)
    first = [frame.seq for frame in recorder.open(data).frames() if frame.session == sessions[0]]
    started = [mark for mark in marks(data) if mark["event"] == "session_started"]

    assert sessions[0] < sessions[1]
    assert first == list(range(len(first)))
    assert [mark["predecessor"] for mark in started] == [None, {"session": sessions[0], "last_seq": first[-1]}]


@in_loop
async def test_a_gateway_without_a_brokerage_session_is_refused_unless_told_to_log_in(tmp_path: Path) -> None:
    """The mistake shows at once; nothing is journaled."""
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway:
        gateway.authenticated = False
        with pytest.raises(GatewayError, match="no brokerage session") as caught:
            await Recording(settings_for(gateway, data)).start()
        left = list(data.rglob("*.seg")) + list(data.rglob("*.parquet"))
        async with recording(settings_for(gateway, data, login=True)) as running:
            assert running.state == "recording"

    assert left == []
    assert isinstance(caught.value, RecorderError)
    assert "--login" in (caught.value.hint or "")


@in_loop
async def test_what_is_scheduled_runs_on_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """APScheduler runs plain functions in threads; the journal numbers frames on the loop, and nowhere else."""
    threads: set[str] = set()
    rotate = Journal.rotate

    def watched(journal: Journal) -> None:
        threads.add(threading.current_thread().name)
        rotate(journal)

    monkeypatch.setattr(Journal, "rotate", watched)
    feed, data = Script(), tmp_path / "data"
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data, flush_every=0.1)) as running:
        await sent(running, feed, [quote(1)])
        await eventually(lambda: running.capture.counters.flushes >= 1)

    assert threads == {threading.main_thread().name}
