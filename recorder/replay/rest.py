"""The REST side of the emulated gateway: the calls that clients make before and beside the socket.

Shapes are the broker's documented ones; what only clients report (errors, the first empty orders answer) says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from recorder.protocol.server_frames import SERVER
from recorder.replay.feed import Instrument

if TYPE_CHECKING:
    from recorder.replay.gateway import Gateway

_SSO_EXPIRES_MS: Final = 412_345
_MAC: Final = "00:00:00:00:00:00"

_FAILURES: Final[Mapping[int, str]] = {429: "Too Many Requests", 500: "Internal Server Error"}  # texts not confirmed

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rest:
    """The REST calls of one gateway and what they remember: whether accounts and orders were asked for.

    `failing` is the HTTP status that every call gets instead of its answer (None: they work), `delay_s` how long every
    answer takes.
    """

    def __init__(self, gateway: Gateway) -> None:
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
            "/iserver/secdef/search": self.search,
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
            "/trsrv/stocks": self.stocks,
            "/trsrv/secdef": self.secdef,
            "/iserver/secdef/info": self.secdef_info,
            "/iserver/contract/{conid}/info": self.contract_info,
            "/iserver/marketdata/unsubscribeall": self.unsubscribe_all,
        }
        for path, handler in gets.items():
            router.add_get(prefix + path, handler)
        router.add_route("*", "/{tail:.*}", self.not_found)

    async def tickle(self, _request: web.Request) -> web.Response:
        """Keep the session alive; tell its token."""
        identity = self._gateway.identity
        answer = _json(
            {
                "session": identity.session,
                "ssoExpires": _SSO_EXPIRES_MS,
                "collission": False,  # spelt so by the broker
                "userId": identity.user_id,
                "hmds": {"error": "no bridge"},
                "iserver": {"authStatus": self._auth()},
            }
        )
        answer.set_cookie("x-sess-uuid", f"0.{identity.user_id:x}.0", httponly=True)
        return answer

    async def auth_status(self, _request: web.Request) -> web.Response:
        """Tell the state of the brokerage session."""
        return _json(self._auth())

    async def ssodh_init(self, request: web.Request) -> web.Response:
        """Begin a brokerage session if there is none; one that another program has is taken only with `compete`."""
        gateway = self._gateway
        if not gateway.authenticated and (not gateway.competing or (await _body(request)).get("compete") is True):
            gateway.turn(authenticated=True)
        return _json(self._auth())

    async def validate(self, request: web.Request) -> web.Response:
        """Confirm the login."""
        identity, now_ms = self._gateway.identity, self._gateway.hub.clock() // 1_000
        return _json(
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
        return _json(
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
        return _json(
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
            return _json({"error": "Please query /accounts first"}, status=500)
        primed, self._orders_asked = self._orders_asked, True
        if not primed or request.query.get("force", "").lower() == "true":
            return _json({"orders": [], "snapshot": primed})
        return _json({"orders": self._gateway.hub.feed.orders(self._gateway.hub.clock()), "snapshot": True})

    async def stocks(self, request: web.Request) -> web.Response:
        """Find stocks by symbol, several with commas."""
        found: dict[str, object] = {}
        for symbol in request.query.get("symbols", "").split(","):
            stocks = [one for one in self._all_by_symbol(symbol) if one.security_type == "STK"]
            if not stocks:
                continue
            found[symbol.strip().upper()] = [
                {
                    "name": one.company, "chineseName": None, "assetClass": "STK",
                    "contracts": [{"conid": one.conid, "exchange": _exchange(one), "isUS": True}],
                }
                for one in stocks
            ]  # fmt: skip
        return _json(found)

    async def secdef(self, request: web.Request) -> web.Response:
        """Tell about contracts, several with commas; one that is not known is left out."""
        found = [self._by_conid(conid) for conid in request.query.get("conids", "").split(",")]
        rows = [
            {
                "conid": one.conid, "currency": "USD", "time": 1, "chineseName": None,
                "allExchanges": "SMART,NYSE,NASDAQ",
                "listingExchange": _exchange(one), "countryCode": "US", "name": one.company,
                "assetClass": one.security_type, "expiry": None, "lastTradingDay": None, "group": None,
                "putOrCall": None, "sector": None, "sectorGroup": None, "strike": "0", "ticker": one.symbol,
                "undConid": 0, "multiplier": 0.0, "type": "COMMON" if one.security_type == "STK" else None,
                "hasOptions": False, "fullName": one.symbol, "isUS": True,
            }
            for one in found
            if one is not None
        ]  # fmt: skip
        return _json({"secdef": rows})

    async def search(self, request: web.Request) -> web.Response:
        """Find contracts by symbol; the conid is a text here (seen by clients)."""
        body = await _body(request)
        symbol = str(body.get("symbol", request.query.get("symbol", "")))
        one = self._by_symbol(symbol)
        if one is None:
            return _json({"error": "No symbol found"}, status=400)
        exchange = one.listing_exchange.partition(".")[0]
        row = {
            "conid": str(one.conid), "companyHeader": f"{one.company} - {exchange}", "companyName": one.company,
            "symbol": one.symbol, "description": exchange, "restricted": None,
            "sections": [{"secType": one.security_type}],
        }  # fmt: skip
        return _json([row])

    async def secdef_info(self, request: web.Request) -> web.Response:
        """Tell about a contract."""
        one = self._by_conid(request.query.get("conid", ""))
        if one is None:
            return _json({"error": "no contracts retrieved", "statusCode": 500}, status=500)
        row = {
            "conid": one.conid, "symbol": one.symbol, "secType": one.security_type, "exchange": "SMART",
            "listingExchange": one.listing_exchange, "right": "?", "strike": 0.0, "currency": "USD",
            "validExchanges": "SMART,NYSE,NASDAQ",
        }  # fmt: skip
        return _json([row])

    async def contract_info(self, request: web.Request) -> web.Response:
        """Tell about a contract, in the other call's words."""
        one = self._by_conid(request.match_info["conid"])
        if one is None:
            return _json({"error": "Contract not found", "statusCode": 500}, status=500)
        return _json(
            {
                "con_id": one.conid, "symbol": one.symbol, "local_symbol": one.symbol, "company_name": one.company,
                "instrument_type": one.security_type, "currency": "USD", "exchange": one.listing_exchange,
                "valid_exchanges": "SMART,NYSE,NASDAQ", "text": one.company, "r_t_h": True, "multiplier": None,
            }
        )  # fmt: skip

    async def unsubscribe(self, request: web.Request) -> web.Response:
        """End the market data of one contract."""
        conid = (await _body(request)).get("conid")
        self._gateway.hub.end_streams(f"smd+{conid}")
        return _json({"success": True})

    async def unsubscribe_all(self, _request: web.Request) -> web.Response:
        """End all market data."""
        self._gateway.hub.end_streams("smd+")
        return _json({"unsubscribed": True})

    async def logout(self, _request: web.Request) -> web.Response:
        """End the brokerage session."""
        self._gateway.turn(authenticated=False)
        self._accounts_asked = self._orders_asked = False
        return _json({"status": True})

    async def not_found(self, _request: web.Request) -> web.Response:
        """Answer what is not served here."""
        return _json({"error": "Not Found", "statusCode": 404}, status=404)

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
            return _json({"error": _FAILURES[self.failing], "statusCode": self.failing}, status=self.failing)
        return await handler(request)

    def _by_conid(self, conid: str) -> Instrument | None:
        return self._gateway.hub.feed.instruments.get(int(conid)) if conid.isdecimal() else None

    def _by_symbol(self, symbol: str) -> Instrument | None:
        return next(iter(self._all_by_symbol(symbol)), None)

    def _all_by_symbol(self, symbol: str) -> list[Instrument]:
        wanted = symbol.strip().upper()
        return [one for one in self._gateway.hub.feed.instruments.values() if one.symbol == wanted]


def _exchange(one: Instrument) -> str:
    return one.listing_exchange.partition(".")[0]


async def _body(request: web.Request) -> Mapping[str, object]:
    """Read a request's JSON object; what is none counts as empty."""
    try:
        body = msgspec.json.decode(await request.read())
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _json(content: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")
