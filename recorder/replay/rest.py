"""The REST side of the emulated gateway: the calls that clients make before and beside the socket.

Shapes are the broker's documented ones; what only clients report (errors, the first empty orders answer) says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from aiohttp import web

from recorder.protocol.server_frames import SERVER, Identity
from recorder.replay.hub import Hub
from recorder.replay.rest_body import answer, read_object

_SSO_EXPIRES_MS: Final = 412_345
_MAC: Final = "00:00:00:00:00:00"

_FAILURES: Final[Mapping[int, str]] = {429: "Too Many Requests", 500: "Internal Server Error"}  # texts not confirmed

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Served(Protocol):
    """What the REST side needs of the gateway that it belongs to."""

    hub: Hub
    identity: Identity
    authenticated: bool
    competing: bool

    def turn(self, *, authenticated: bool, competing: bool = False) -> None:
        """Lose or regain the brokerage session and tell the clients."""


class Rest:
    """The REST calls of one gateway and what they remember: whether accounts and orders were asked for.

    `failing` is the HTTP status that every call gets instead of its answer (None: they work), `delay_s` how long every
    answer takes.
    """

    def __init__(self, gateway: Served) -> None:
        self.failing: int | None = None
        self.delay_s = 0.0
        self._gateway = gateway
        self._accounts_asked = False
        self._orders_asked = False

    def register(self, application: web.Application, *, prefix: str) -> None:
        """Add all routes; paths not named here get the broker's 404."""
        application.middlewares.append(self._in_trouble)
        self._socket_path = f"{prefix}/ws"
        router = application.router
        both: Mapping[str, _Handler] = {
            "/tickle": self.tickle,
            "/iserver/auth/status": self.auth_status,
            "/logout": self.logout,
        }
        for path, handler in both.items():
            router.add_get(prefix + path, handler)
            router.add_post(prefix + path, handler)
        router.add_post(f"{prefix}/iserver/auth/ssodh/init", self.ssodh_init)
        router.add_post(f"{prefix}/iserver/marketdata/unsubscribe", self.unsubscribe)
        gets: Mapping[str, _Handler] = {
            "/sso/validate": self.validate,
            "/iserver/accounts": self.accounts,
            "/portfolio/accounts": self.portfolio_accounts,
            "/iserver/account/orders": self.orders,
            "/iserver/marketdata/unsubscribeall": self.unsubscribe_all,
        }
        for path, handler in gets.items():
            router.add_get(prefix + path, handler)
        router.add_route("*", "/{tail:.*}", self.not_found)

    async def tickle(self, _request: web.Request) -> web.Response:
        """Keep the session alive; tell its token."""
        identity = self._gateway.identity
        told = answer(
            {
                "session": identity.session,
                "ssoExpires": _SSO_EXPIRES_MS,
                "collission": False,  # spelt so by the broker
                "userId": identity.user_id,
                "hmds": {"error": "no bridge"},
                "iserver": {"authStatus": self._auth()},
            }
        )
        told.set_cookie("x-sess-uuid", f"0.{identity.user_id:x}.0", httponly=True)
        return told

    async def auth_status(self, _request: web.Request) -> web.Response:
        """Tell the state of the brokerage session."""
        return answer(self._auth())

    async def ssodh_init(self, request: web.Request) -> web.Response:
        """Begin a brokerage session if there is none; one that another program has is taken only with `compete`."""
        gateway = self._gateway
        if not gateway.authenticated and (not gateway.competing or (await read_object(request)).get("compete") is True):
            gateway.turn(authenticated=True)
        return answer(self._auth())

    async def validate(self, request: web.Request) -> web.Response:
        """Confirm the login."""
        identity, now_ms = self._gateway.identity, self._gateway.hub.clock() // 1_000
        return answer(
            {
                "USER_ID": identity.user_id,
                "USER_NAME": identity.username,
                "RESULT": True,
                "AUTH_TIME": now_ms,
                "SF_ENABLED": False,
                "IS_FREE_TRIAL": False,
                "CREDENTIAL": identity.username,
                "IP": request.remote,
                "EXPIRES": _SSO_EXPIRES_MS,
                "lastAccessed": now_ms,
                "LOGIN_TYPE": 2,
                "PAPER_USER_NAME": identity.username,
                "region": "NJ",
            }
        )

    async def accounts(self, _request: web.Request) -> web.Response:
        """List the accounts; orders can be asked for from now on."""
        self._accounts_asked = True
        accounts, identity = list(self._gateway.hub.feed.accounts), self._gateway.identity
        return answer(
            {
                "accounts": accounts,
                "acctProps": {account: {"hasChildAccounts": False, "supportsFractions": True} for account in accounts},
                "aliases": {account: account for account in accounts},
                "selectedAccount": accounts[0],
                "serverInfo": SERVER,
                "sessionId": identity.act_session,
                "isFT": False,
                "isPaper": True,
            }
        )

    async def portfolio_accounts(self, _request: web.Request) -> web.Response:
        """List the accounts with what belongs to each."""
        return answer(
            [
                {"id": account, "accountId": account, "accountTitle": "", "displayName": account, "currency": "USD",
                 "type": "DEMO", "tradingType": "STKNOPT", "desc": account}
                for account in self._gateway.hub.feed.accounts
            ]
        )  # fmt: skip

    async def orders(self, request: web.Request) -> web.Response:
        """List the orders of the day.

        Refused before the accounts were asked for; the first answer is unprimed and `force=true` clears the cache, so
        that very answer is empty (the broker's document and clients).
        """
        if not self._accounts_asked:
            return answer({"error": "Please query /accounts first"}, status=500)
        primed, self._orders_asked = self._orders_asked, True
        if not primed or request.query.get("force", "").lower() == "true":
            return answer({"orders": [], "snapshot": primed})
        return answer({"orders": self._gateway.hub.feed.orders(self._gateway.hub.clock()), "snapshot": True})

    async def unsubscribe(self, request: web.Request) -> web.Response:
        """End the market data of one contract."""
        conid = (await read_object(request)).get("conid")
        self._gateway.hub.end_streams(f"smd+{conid}")
        return answer({"success": True})

    async def unsubscribe_all(self, _request: web.Request) -> web.Response:
        """End all market data."""
        self._gateway.hub.end_streams("smd+")
        return answer({"unsubscribed": True})

    async def logout(self, _request: web.Request) -> web.Response:
        """End the brokerage session."""
        self._gateway.turn(authenticated=False)
        self._accounts_asked = self._orders_asked = False
        return answer({"status": True})

    async def not_found(self, _request: web.Request) -> web.Response:
        """Answer what is not served here."""
        return answer({"error": "Not Found", "statusCode": 404}, status=404)

    def _auth(self) -> Mapping[str, object]:
        authenticated = self._gateway.authenticated
        return {
            "authenticated": authenticated,
            "competing": self._gateway.competing,
            "connected": True,
            "established": authenticated,
            "message": "",
            "MAC": _MAC,
            "serverInfo": SERVER,
        }

    @web.middleware
    async def _in_trouble(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Let a fault have its way with a call; the WebSocket's handshake is none."""
        if request.path == self._socket_path:
            return await handler(request)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.failing is not None:
            return answer({"error": _FAILURES[self.failing], "statusCode": self.failing}, status=self.failing)
        return await handler(request)
