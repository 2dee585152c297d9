"""A load for benchmarks: a gateway that logs a client in and then sends frames as fast as the socket takes them.

Run as `python benchmarks/load_server.py FRAMES`; it prints its port. The frames are those of the synthetic market (100
contracts, full frames first, then deltas), made and framed before the first client comes.
"""

from __future__ import annotations

import asyncio
import sys

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


def frames(count: int) -> list[bytes]:
    """Make the payloads: a full frame of each contract, then deltas."""
    feed = SyntheticFeed(seed=1, contracts=CONTRACTS, rate=100_000)
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
    assert request.transport is not None
    left = request.app[TOTAL]
    while left > 0:
        for chunk, size in request.app[CHUNKS]:
            if left < size:
                left = 0
                break
            request.transport.write(chunk)
            left -= size
            while request.transport.get_write_buffer_size() > 4_000_000:
                await asyncio.sleep(0.001)
    async for _ in socket:
        pass
    return socket


async def _answer(request: web.Request) -> web.Response:
    if request.path.endswith("/tickle"):
        return web.json_response({"session": SESSION, "iserver": {"authStatus": {"authenticated": True}}})
    return web.json_response({"accounts": ["DU1000001"]})


CHUNKS: web.AppKey[list[tuple[bytes, int]]] = web.AppKey("chunks")
TOTAL: web.AppKey[int] = web.AppKey("total")


async def main(total: int) -> None:
    """Serve until killed."""
    payloads = frames(DISTINCT)
    app = web.Application()
    app[CHUNKS] = [
        (b"".join(map(framed, payloads[start : start + CHUNK])), CHUNK) for start in range(0, DISTINCT, CHUNK)
    ]
    app[TOTAL] = total
    app.router.add_get("/v1/api/ws", _socket)
    app.router.add_route("*", "/v1/api/{tail:.*}", _answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
