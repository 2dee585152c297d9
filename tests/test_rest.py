"""The REST client against a real server: the broker's pace, and what is done when it was exceeded all the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from conftest import in_loop

from recorder.capture.connection import Connection
from recorder.capture.rest import Rest, Tickle
from recorder.capture.settings import CaptureSettings
from recorder.capture.status import Counters
from recorder.errors import GatewayAway, GatewayError
from recorder.protocol.masking import Masker


class Server:
    """A gateway's REST side that counts its calls and answers with one status."""

    def __init__(self) -> None:
        self.status = 200
        self.iserver: object = {}
        self.calls: list[tuple[str, float]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        """Answer any call."""
        self.calls.append((request.path, time.monotonic()))
        said = {"session": "5f0c1e2d3b4a5968", "accounts": [], "iserver": self.iserver}
        return web.json_response(said, status=self.status)


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Serve on a free port."""
    server, application = Server(), web.Application()
    application.router.add_route("*", "/{tail:.*}", server.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/api"
    try:
        yield server
    finally:
        await runner.cleanup()


@in_loop
async def test_calls_keep_the_broker_s_pace() -> None:
    """`/tickle` once a second; another path in between need not wait for it."""
    async with serving() as server:
        rest = Rest(server.url, tls=None)
        await rest.tickle()
        await rest.accounts()
        await rest.tickle()
        await rest.close()

    (_, first), (_, between), (_, second) = server.calls
    assert second - first > 0.9
    assert between < second


@in_loop
async def test_a_path_that_was_called_too_often_is_left_alone() -> None:
    """The error says for how long; the server hears of no further call, and other paths go on."""
    async with serving() as server:
        rest = Rest(server.url, tls=None)
        server.status = 429
        with pytest.raises(GatewayError, match="called too often; it is left alone for 1 min"):
            await rest.tickle()
        server.status = 200
        assert rest.tickle_barred
        with pytest.raises(GatewayError, match=r"left alone for \d{2} s yet"):
            await rest.tickle()
        await rest.accounts()
        await rest.close()

    assert ["/v1/api/tickle", "/v1/api/iserver/accounts"] == [path for path, _ in server.calls]


@in_loop
async def test_the_login_is_kept_alive_by_the_accounts_while_tickle_is_barred(tmp_path: Path) -> None:
    """The broker ends a login that makes no request for five minutes, and bars a path for up to fifteen."""
    async with serving() as server:
        settings = CaptureSettings(gateway=server.url, data=tmp_path)
        connection = Connection(settings, masker=Masker(), counters=Counters(), stop=asyncio.Event())
        server.status = 429
        await connection.tickle()
        server.status = 200
        await connection.tickle()
        await connection.close()

    assert ["/v1/api/tickle", "/v1/api/iserver/accounts"] == [path for path, _ in server.calls]


@in_loop
@pytest.mark.parametrize("iserver", [{"error": "no bridge"}, {"authStatus": "unknown"}, "no bridge", []])
async def test_a_tickle_of_another_shape_says_nothing_of_the_brokerage_session(iserver: object) -> None:
    """It must not end a capture: nobody knows all that a gateway answers amid its nightly reset."""
    async with serving() as server:
        server.iserver = iserver
        rest = Rest(server.url, tls=None)
        tickle = await rest.tickle()
        await rest.close()

    assert Tickle("5f0c1e2d3b4a5968", None, None) == tickle


@in_loop
async def test_a_gateway_that_is_away_is_told_from_one_that_refuses() -> None:
    """The one is tried again soon, the other is left in peace."""
    async with serving() as server:
        rest = Rest(server.url, tls=None)
        server.status = 503
        with pytest.raises(GatewayError, match="503") as refused:
            await rest.accounts()
    with pytest.raises(GatewayAway, match="no gateway at"):
        await rest.accounts()
    await rest.close()

    assert not isinstance(refused.value, GatewayAway)
