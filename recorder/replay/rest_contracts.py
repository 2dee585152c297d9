"""The REST calls that look contracts up: by symbol and by conid, in the broker's several shapes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from recorder.replay.feed import Feed, Instrument
from recorder.replay.rest_body import answer, read_object


class Contracts:
    """The look-ups of one gateway; what was recorded of a contract (`Instrument.told`) goes before made-up values."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def register(self, application: web.Application, *, prefix: str) -> None:
        """Add the routes."""
        gets: Mapping[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
            "/iserver/secdef/search": self.search,
            "/trsrv/stocks": self.stocks,
            "/trsrv/secdef": self.secdef,
            "/iserver/secdef/info": self.secdef_info,
            "/iserver/contract/{conid}/info": self.contract_info,
        }
        for path, handler in gets.items():
            application.router.add_get(prefix + path, handler)
        application.router.add_post(f"{prefix}/iserver/secdef/search", self.search)

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
                    "contracts": [{"conid": one.conid, "exchange": _exchange(one), "isUS": one.told.get("isUS", True)}],
                }
                for one in stocks
            ]  # fmt: skip
        return answer(found)

    async def secdef(self, request: web.Request) -> web.Response:
        """Tell about contracts, several with commas; one that is not known is left out."""
        found = [self._by_conid(conid) for conid in request.query.get("conids", "").split(",")]
        rows = [
            {
                "conid": one.conid, "currency": one.currency, "time": 1, "chineseName": None,
                "allExchanges": "SMART,NYSE,NASDAQ",
                "listingExchange": _exchange(one), "countryCode": "US", "name": one.company,
                "assetClass": one.security_type, "expiry": None, "lastTradingDay": None, "group": None,
                "putOrCall": None, "sector": None, "sectorGroup": None, "strike": "0", "ticker": one.symbol,
                "undConid": 0, "multiplier": 0.0, "type": "COMMON" if one.security_type == "STK" else None,
                "hasOptions": False, "fullName": one.symbol, "isUS": True,
                **one.told,
            }
            for one in found
            if one is not None
        ]  # fmt: skip
        return answer({"secdef": rows})

    async def search(self, request: web.Request) -> web.Response:
        """Find contracts by symbol; the conid is a text here (seen by clients)."""
        body = await read_object(request)
        symbol = str(body.get("symbol", request.query.get("symbol", "")))
        one = self._by_symbol(symbol)
        if one is None:
            return answer({"error": "No symbol found"}, status=400)
        exchange = one.listing_exchange.partition(".")[0]
        row = {
            "conid": str(one.conid), "companyHeader": f"{one.company} - {exchange}", "companyName": one.company,
            "symbol": one.symbol, "description": exchange, "restricted": None,
            "sections": [{"secType": one.security_type}],
        }  # fmt: skip
        return answer([row])

    async def secdef_info(self, request: web.Request) -> web.Response:
        """Tell about a contract."""
        one = self._by_conid(request.query.get("conid", ""))
        if one is None:
            return answer({"error": "no contracts retrieved", "statusCode": 500}, status=500)
        row = {
            "conid": one.conid, "symbol": one.symbol, "secType": one.security_type, "exchange": "SMART",
            "listingExchange": one.listing_exchange,
            "right": one.told.get("putOrCall") or "?", "strike": float(str(one.told.get("strike", 0))),
            "currency": one.currency,
            "validExchanges": "SMART,NYSE,NASDAQ",
        }  # fmt: skip
        return answer([row])

    async def contract_info(self, request: web.Request) -> web.Response:
        """Tell about a contract, in the other call's words."""
        one = self._by_conid(request.match_info["conid"])
        if one is None:
            return answer({"error": "Contract not found", "statusCode": 500}, status=500)
        return answer(
            {
                "con_id": one.conid, "symbol": one.symbol, "local_symbol": one.symbol, "company_name": one.company,
                "instrument_type": one.security_type, "currency": one.currency, "exchange": one.listing_exchange,
                "valid_exchanges": "SMART,NYSE,NASDAQ", "text": one.company, "r_t_h": True,
                "multiplier": one.told.get("multiplier"),
            }
        )  # fmt: skip

    def _by_conid(self, conid: str) -> Instrument | None:
        return self._feed.instruments.get(int(conid)) if conid.isdecimal() else None

    def _by_symbol(self, symbol: str) -> Instrument | None:
        return next(iter(self._all_by_symbol(symbol)), None)

    def _all_by_symbol(self, symbol: str) -> list[Instrument]:
        wanted = symbol.strip().upper()
        return [one for one in self._feed.instruments.values() if one.symbol == wanted]


def _exchange(one: Instrument) -> str:
    return one.listing_exchange.partition(".")[0]
