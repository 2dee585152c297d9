"""A load for benchmarks: a gateway that logs a client in and then sends frames as fast as the socket takes them.

Run as `python benchmarks/load_server.py FRAMES [RATE]`; it prints its port. The frames are those of the synthetic
market (100 contracts, full frames first, then deltas), made and framed before the first client comes. With a rate,
frames are paced instead, and each says when it was sent (`_updated`, here in microseconds).
"""

from __future__ import annotations

import asyncio
import sys
import time

from aiohttp import WSMsgType, web

from recorder.replay.synthetic import SyntheticFeed

CONTRACTS = 100
DISTINCT = 100_000
CHUNK = 2_000
SESSION = "5f0c1e2d3b4a59687766554433221100"
READY = (
    '{"topic":"system","success":"trader01","isFT":false,"isPaper":true}',
    '{"topic":"sts","args":{"authenticated":true,"connected":true,"competing":false}}',
)


def frames(count: int, contracts: int = CONTRACTS) -> list[bytes]:
    """Make the payloads: a full frame of each contract, then deltas."""
    feed = SyntheticFeed(seed=1, contracts=contracts, rate=100_000)
    now = 1_785_763_811_000_000
    streams = [f"smd+{conid}" for conid in feed.instruments]
    feed.want(streams)
    made = [payload for stream in streams if (payload := feed.snapshot(stream, now)) is not None]
    while len(made) < count:
        now += 20_000
        made += [update.data for update in feed.advance(now).updates if update.stream.startswith("smd+")]
    return made[:count]


def framed(payload: bytes) -> bytes:
    """Put a WebSocket header (text, not masked) before a payload."""
    length = len(payload)
    return (bytes((0x81, length)) if length < 126 else b"\x81\x7e" + length.to_bytes(2, "big")) + payload


async def _socket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    for text in READY:
        await socket.send_str(text)
    async for message in socket:
        if message.type is WSMsgType.TEXT and message.data.startswith("smd+"):
            break
    assert isinstance(request.transport, asyncio.Transport)
    if request.app[RATE]:
        await _paced(request.transport, request.app[TOTAL], request.app[RATE])
    else:
        await _flat_out(request.transport, request.app[TOTAL], request.app[CHUNKS])
    async for _ in socket:
        pass
    return socket


async def _flat_out(transport: asyncio.Transport, total: int, chunks: list[tuple[bytes, int]]) -> None:
    """Send as fast as the socket takes them."""
    left = total
    while left > 0:
        for chunk, size in chunks:
            if left < size:
                return
            transport.write(chunk)
            left -= size
            while transport.get_write_buffer_size() > 4_000_000:
                await asyncio.sleep(0.001)


async def _paced(transport: asyncio.Transport, total: int, rate: int) -> None:
    """Send frames on schedule, a slice each millisecond or so."""
    begin, sent = time.monotonic(), 0
    while sent < total:
        due = min(total, int((time.monotonic() - begin) * rate))
        now = time.time_ns() // 1000
        frame = framed(b'{"conid":265598,"_updated":%d,"84":"189.52","88":"1,300","topic":"smd+265598"}' % now)
        transport.write(frame * (due - sent))
        sent = due
        await asyncio.sleep(0.001)


async def _answer(request: web.Request) -> web.Response:
    if request.path.endswith("/tickle"):
        return web.json_response({"session": SESSION, "iserver": {"authStatus": {"authenticated": True}}})
    return web.json_response({"accounts": ["DU1000001"]})


CHUNKS: web.AppKey[list[tuple[bytes, int]]] = web.AppKey("chunks")
TOTAL: web.AppKey[int] = web.AppKey("total")
RATE: web.AppKey[int] = web.AppKey("rate")


async def main(total: int, rate: int) -> None:
    """Serve until killed."""
    payloads = [] if rate else frames(DISTINCT)
    app = web.Application()
    app[CHUNKS] = [
        (b"".join(map(framed, payloads[start : start + CHUNK])), CHUNK) for start in range(0, len(payloads), CHUNK)
    ]
    app[TOTAL] = total
    app[RATE] = rate
    app.router.add_get("/v1/api/ws", _socket)
    app.router.add_route("*", "/v1/api/{tail:.*}", _answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
