"""The emulated gateway: REST and WebSocket on one port, serving whatever feed it is given."""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

from aiohttp import WSMsgType, web

from recorder.errors import ReplayError
from recorder.protocol.server_frames import Identity
from recorder.protocol.server_session import Rules, ServerSession
from recorder.replay.connection import BINARY, TEXT, Connection, Parting
from recorder.replay.feed import Feed, Turn
from recorder.replay.hub import Hub
from recorder.replay.rest import Rest
from recorder.replay.rest_contracts import Contracts
from recorder.replay.rest_snapshot import Snapshots
from recorder.replay.tally import Counted, Tally

log = logging.getLogger(__name__)

PREFIX: Final = "/v1/api"
_MESSAGE_LIMIT: Final = 1 << 20


class Leave(NamedTuple):
    """What a client that has left was sent. `missed` counts updates it was too slow for, `withheld` those of a fault.

    `parting` says who ended it, `tally` is what `digests` comes from.
    """

    number: int
    peer: str
    digests: Mapping[str, Counted]
    missed: int
    withheld: int
    parting: Parting
    tally: Tally


class Gateway:
    """A running emulated gateway; made by `serve`. `hub` has the clients and what they were sent."""

    def __init__(
        self,
        hub: Hub,
        *,
        rules: Rules,
        binary: bool,
        buffer_limit: int,
        on_join: Callable[[Connection], None] | None,
        on_leave: Callable[[Leave], None] | None,
        tally: Callable[[], Tally],
        session: str | None,
        tls: ssl.SSLContext | None,
        extend: Callable[[web.Application], None] | None,
    ) -> None:
        self.hub = hub
        self.host = ""
        self.port = 0
        self.authenticated = True
        self.competing = False
        self.refused: set[str] = set()  # wire prefixes that cannot be subscribed to just now
        self.rest = Rest(self)
        self.identity = Identity(session=session or secrets.token_hex(16), accounts=tuple(hub.feed.accounts))
        self._tls = tls
        self._extend = extend
        self._rules = rules
        self._opcode = BINARY if binary else TEXT
        self._buffer_limit = buffer_limit
        self._on_join = on_join
        self._on_leave = on_leave
        self._tally = tally
        self._seen = 0  # clients so far
        hub.on_turn = self._follow
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=3.0)

    @property
    def base_url(self) -> str:
        """The REST address, as `--gateway` takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{host}:{self.port}{PREFIX}"

    @property
    def socket_url(self) -> str:
        """The WebSocket address."""
        return f"ws{self.base_url.removeprefix('http')}/ws"

    @property
    def listening(self) -> bool:
        """Whether its port is open."""
        return bool(self._runner.sites)

    @property
    def frames(self) -> int:
        """How many frames were sent, to all clients."""
        return self.hub.frames

    def digests(self) -> Mapping[str, Counted]:
        """Give count and content digest of what was sent, per topic, over all clients in the order of sending."""
        return self.hub.digests()

    def turn(self, *, authenticated: bool, competing: bool = False) -> None:
        """Lose or regain the brokerage session and tell the clients."""
        self.authenticated, self.competing = authenticated, competing
        for client in self.hub.clients:
            self.hub.apply(client, client.session.turn(authenticated=authenticated, competing=competing))

    async def _follow(self, turn: Turn) -> None:
        """Do to the clients what befell the recorded connection."""
        if turn == "disconnected":
            await self.hub.drop_clients(clean=True)
        elif turn == "moved":
            for client in self.hub.clients:
                client.refresh()
        elif self.authenticated != (turn == "regained"):
            self.turn(authenticated=turn == "regained")

    def roll_session(self) -> None:
        """Begin a new session under the living sockets: their heartbeats go on, their streams are dead."""
        for client in self.hub.clients:
            self.hub.apply(client, client.session.orphan())
        self.identity = Identity(session=secrets.token_hex(16), accounts=self.identity.accounts)

    async def listen(self, host: str, port: int) -> None:
        """Begin to serve, or again after `go_away` with what it had; `ReplayError` if the port cannot be had."""
        if self._runner.server is None:
            await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, ssl_context=self._tls).start()
        except OSError as exc:
            taken = exc.errno == errno.EADDRINUSE
            why = "the port is in use" if taken else exc.strerror or str(exc)
            hint = "choose another port, or 0 for a free one" if taken else None
            raise ReplayError(f"cannot serve on {host}:{port}: {why}", hint=hint) from exc
        self.host, self.port = self._runner.addresses[0][:2]

    async def go_away(self) -> None:
        """Close the port and break off every connection, as a gateway that was killed; `listen` brings it back."""
        for site in list(self._runner.sites):
            await site.stop()
        await self.hub.drop_clients()
        assert self._runner.server is not None, "it was listening"
        for connection in self._runner.server.connections:
            connection.force_close()  # REST connections that are kept alive

    async def shut_down(self) -> None:
        """Serve no more."""
        await self._runner.cleanup()

    async def handle_socket(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one WebSocket."""
        socket = web.WebSocketResponse(autoclose=False, compress=False, max_msg_size=_MESSAGE_LIMIT)
        await socket.prepare(request)
        if request.transport is None:
            return socket  # gone already
        client = self._client(socket, request.transport)
        peer = client.peer
        log.info("client %s connected from %s", client.number, peer)
        self.hub.join(client)
        if self._on_join is not None:
            self._on_join(client)
        try:
            client.session.turn(authenticated=self.authenticated, competing=self.competing)
            self.hub.apply(client, client.session.open(request.headers.get("Cookie"), self.hub.clock()))
            await self._listen(client, socket)
        finally:
            parting = client.parting or "lost"
            await client.close()
            self.hub.leave(client)
            log.info("client %s left, %s frames sent", client.number, client.tally.frames)
            if self._on_leave is not None:
                tally = client.tally
                leave = Leave(client.number, peer, tally.totals(), client.missed, client.withheld, parting, tally)
                self._on_leave(leave)
        return socket

    def _client(self, socket: web.WebSocketResponse, transport: asyncio.Transport) -> Connection:
        self._seen += 1
        return Connection(
            self._seen,
            session=ServerSession(self.identity, self._rules, refused=self.refused),
            socket=socket,
            transport=transport,
            snapshot=lambda stream: self.hub.feed.snapshot(stream, self.hub.clock()),
            total=self.hub.tally,
            tally=self._tally(),
            hushed=self.hub.hushed,
            opcode=self._opcode,
            buffer_limit=self._buffer_limit,
        )

    async def _listen(self, client: Connection, socket: web.WebSocketResponse) -> None:
        while True:
            message = await socket.receive()
            if message.type is WSMsgType.TEXT:
                text = message.data
            elif message.type is WSMsgType.BINARY:
                text = message.data.decode("utf-8", "replace")
            else:  # the client's Close, or the end of the connection
                if message.type is WSMsgType.CLOSE:
                    client.parting = client.parting or "left"
                return
            self.hub.apply(client, client.session.receive(text, self.hub.clock()))

    def _application(self) -> web.Application:
        application = web.Application()
        application.router.add_get(f"{PREFIX}/ws", self.handle_socket)
        Snapshots(self.hub.feed, clock=self.hub.clock).register(application, prefix=PREFIX)
        Contracts(self.hub.feed).register(application, prefix=PREFIX)
        if self._extend is not None:
            self._extend(application)
        self.rest.register(application, prefix=PREFIX)
        return application


def wall_clock() -> int:
    """Tell the time in microseconds since the Unix epoch."""
    return time.time_ns() // 1_000


@asynccontextmanager
async def serve(
    feed: Feed,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    rules: Rules | None = None,
    binary: bool = False,
    buffer_limit: int = 1 << 22,
    patience_s: float = 30.0,
    clock: Callable[[], int] = wall_clock,
    on_join: Callable[[Connection], None] | None = None,
    on_leave: Callable[[Leave], None] | None = None,
    tally: Callable[[], Tally] = Tally,
    session: str | None = None,
    tls: ssl.SSLContext | None = None,
    extend: Callable[[web.Application], None] | None = None,
) -> AsyncIterator[Gateway]:
    """Serve a feed while the context lasts; port 0 takes a free one.

    `buffer_limit` is how many bytes a client may leave unread before it counts as slow; `patience_s` how long a
    lossless feed waits for one. `on_join` hears of each client that has come, `on_leave` of each that has left. `tally`
    makes what counts a client's frames. `session` fixes the session token. With `tls` it is https and wss. `extend`
    adds routes of its own.
    A failure of the feed sets `hub.ended` and is raised where the context is left.
    """
    hub = Hub(feed, clock=clock, patience_s=patience_s)
    gateway = Gateway(
        hub,
        rules=rules or Rules(),
        binary=binary,
        buffer_limit=buffer_limit,
        on_join=on_join,
        on_leave=on_leave,
        tally=tally,
        session=session,
        tls=tls,
        extend=extend,
    )
    try:
        await gateway.listen(host, port)
        pump = asyncio.create_task(hub.pump())
        try:
            yield gateway
        finally:
            pump.cancel()
            await hub.drop_clients(clean=True)
            with suppress(asyncio.CancelledError):
                await pump
    finally:
        await gateway.shut_down()
