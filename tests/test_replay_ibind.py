"""ibind, unmodified, against a recording; and the command that serves it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from conftest import NOON, ROOT, Given, archive, environment, in_loop, order, quote, start, write_session

from recorder.archive.layout import Layout

FULL = {"55": "AAPL", "31": "189.50", "84": "189.49", "86": "189.51", "6070": "STK", "7051": "APPLE INC"}


SECDEF = {
    "conid": 712345678, "ticker": "SPY", "name": "SPDR S&P 500 ETF TRUST", "assetClass": "STK", "currency": "USD",
    "listingExchange": "ARCA", "type": "ETF", "strike": "0", "multiplier": 0.0, "sector": "Funds", "isUS": True,
}  # fmt: skip


def recording(layout: Layout) -> None:
    """Record quotes, an order and P&L."""
    pnl = json.dumps({"topic": "spl", "args": {"DU7654321.Core": {"rowType": 1, "dpl": -12.5, "upl": 3.0}}}).encode()
    act = json.dumps({"topic": "act", "args": {"accounts": ["DU7654321"]}}).encode()
    frames = [
        Given(NOON, act),
        Given(NOON, b"GET /trsrv/secdef\n" + json.dumps({"secdef": [SECDEF]}).encode(), "rest"),
        Given(NOON + 1, quote(0, FULL)),
        Given(NOON + 2, order(1, conid=265598, status="Filled")),
    ]
    for number in range(1, 400):
        moment = NOON + number * 50_000
        frames.append(Given(moment, quote(number, {"84": f"{189 + number / 100:.2f}"})))
        frames.append(Given(moment + 1, pnl))
    write_session(layout, frames)
    archive(layout)


@asynccontextmanager
async def serving(folder: Path, *options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, int]]:
    """Run the command; give its process and where it serves."""
    process = await start(folder, "replay", "--data", "data", "--serve", "127.0.0.1:0", "--json", *options)
    assert process.stdout is not None
    said = json.loads(await process.stdout.readline())
    found = re.fullmatch(r"https?://127\.0\.0\.1:(\d+)/v1/api", said["gateway"])
    assert found is not None
    try:
        yield process, said["gateway"], int(found[1])
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


@in_loop
async def test_the_program_of_the_page_runs(layout: Layout) -> None:
    """By another host and port, and nothing else."""
    await asyncio.to_thread(recording, layout)
    page = (ROOT / "docs" / "replay.md").read_text("utf-8")
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    folder = layout.root.parent
    start_at = ["--start", "2026-11-20T12:00:02"]
    async with serving(folder, "--tls", *start_at) as (_, _, port):
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", found[1], "127.0.0.1", str(port)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment() | {"IBIND_LOG_TO_FILE": "false", "IBIND_LOG_TO_CONSOLE": "false"},
        )
        out, _ = await program.communicate()
    text = out.decode()
    assert 0 == program.returncode, text
    assert "accounts DU7654321" in text
    assert "orders 1" in text
    assert 3 == len(re.findall(r"^quote ", text, re.MULTILINE)), text
    assert "189.50" in text, "the first frame is a full one"
    assert "profit" in text


PROGRAM = """
import sys

from ibind import IbkrClient, IbkrWsClient, QueueSink, events, subscriptions

rest = IbkrClient(host="127.0.0.1", port=sys.argv[1])
rest.receive_brokerage_accounts()
sink = QueueSink()
stream = IbkrWsClient(host="127.0.0.1", port=sys.argv[1], ibkr_client=rest, sink=sink)
opened, closed = sink.new_queue_accessor(events.WsOpen), sink.new_queue_accessor(events.WsClose)
orders, quotes = sink.new_queue_accessor(events.Orders), sink.new_queue_accessor(events.MarketData)
stream.start()
stream.subscribe(subscriptions.OrdersSubscription())
stream.subscribe(subscriptions.MarketDataSubscription(conid="265598", fields=["84"]))
opened.get(block=True, timeout=20)
print("order", orders.get(block=True, timeout=20).data, flush=True)
opened.get(block=True, timeout=20)
while "Cancelled" not in str(data := orders.get(block=True, timeout=20).data):
    pass
print("order", data, flush=True)
while "500.00" not in str(data := quotes.get(block=True, timeout=20).data):
    pass
print("quote", data, flush=True)
stream.shutdown()
"""


@in_loop
async def test_ibind_gets_orders_and_comes_back_after_a_recorded_disconnect(layout: Layout) -> None:
    """It subscribes again by itself, and gets what was recorded after it."""
    end = json.dumps({"event": "disconnected", "code": 1006, "reason": "gone"}).encode()
    frames = [Given(NOON, quote(0, FULL)), Given(NOON + 1, order(1, conid=265598, status="Submitted"))]
    for number in range(1, 60):
        moment = NOON + number * 100_000
        if number == 10:
            frames.append(Given(moment, end, "mark"))
        frames.append(Given(moment + 1, order(1, status="Submitted" if number < 10 else "Cancelled", number=number)))
        frames.append(Given(moment + 2, quote(number, {"84": "500.00" if number > 10 else "189.00"})))
    await asyncio.to_thread(write_session, layout, frames)
    await asyncio.to_thread(archive, layout)
    async with serving(layout.root.parent, "--tls", "--loop") as (_, _, port):
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, str(port)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment()
            | {"IBIND_LOG_TO_FILE": "false", "IBIND_LOG_TO_CONSOLE": "false", "IBIND_WS_TIMEOUT": "1"},
        )
        text = (await program.communicate())[0].decode()
    assert 0 == program.returncode, text
    assert 2 == len(re.findall(r"^order ", text, re.MULTILINE)), text
    assert "quote" in text


@in_loop
async def test_snapshots_and_contracts_are_asked_for_by_rest(layout: Layout) -> None:
    """The first snapshot is a preflight; contracts are those recorded."""
    await asyncio.to_thread(recording, layout)
    async with (
        serving(layout.root.parent, "--start", "2026-11-20T12:00:02") as (process, base, _),
        aiohttp.ClientSession() as http,
    ):
        path = f"{base}/iserver/marketdata/snapshot?conids=265598&fields=31,84"
        assert [{"conidEx": "265598", "conid": 265598}] == await (await http.get(path)).json()
        (row,) = await (await http.get(path)).json()
        assert {"31": "189.50", "84": "189.39"} == {key: row[key] for key in ("31", "84")}
        found = await (await http.post(f"{base}/iserver/secdef/search", json={"symbol": "AAPL"})).json()
        assert ("265598", "APPLE INC") == (found[0]["conid"], found[0]["companyName"])
        stocks = await (await http.get(f"{base}/trsrv/stocks?symbols=SPY,AAPL")).json()
        assert {"SPY": 712345678, "AAPL": 265598} == {
            name: one[0]["contracts"][0]["conid"] for name, one in stocks.items()
        }
        (told,) = (await (await http.get(f"{base}/trsrv/secdef?conids=712345678")).json())["secdef"]
        assert SECDEF == {key: told[key] for key in SECDEF}
        assert 404 == (await http.get(f"{base}/iserver/nonsense")).status
        process.send_signal(signal.SIGINT)
        assert 0 == await process.wait()


@in_loop
async def test_options_of_a_gateway_want_a_gateway(layout: Layout) -> None:
    """And those of rows want none; a wrong one is a mistake of usage."""
    await asyncio.to_thread(recording, layout)
    wrong = [
        ("--loop",),
        ("--serve", "127.0.0.1:0", "--topic", "pnl"),
        ("--serve", "127.0.0.1:0", "--tls", "--cert", "cert.pem"),
        (
            "--serve",
            "nowhere",
        ),
    ]
    for options in wrong:
        process = await start(layout.root.parent, "replay", "--data", "data", *options)
        _, err = await process.communicate()
        assert 2 == process.returncode, (options, err)
        assert err.decode().startswith("recorder: ")
        assert b"try: " in err


@in_loop
async def test_faults_happen_on_recorded_data_too(layout: Layout) -> None:
    """As they do in `recorder simulate`."""
    await asyncio.to_thread(recording, layout)
    async with serving(layout.root.parent, "--faults", "disconnect@0s", "--seed", "3") as (process, base, _):
        assert process.stdout is not None
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{base}/ws") as socket:
            await socket.receive()
            while not socket.closed:
                await socket.receive()
        events = [json.loads(await process.stdout.readline())["event"] for _ in range(2)]
        assert "fault_began" in events
