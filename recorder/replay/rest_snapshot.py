"""The REST snapshot of market data, and the old way to log in again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from recorder.protocol.projection import allowed_keys, narrowed
from recorder.replay.feed import Feed
from recorder.replay.rest_body import answer

_MOST_CONIDS: Final = 100
_MOST_FIELDS: Final = 50


class Snapshots:
    """The call `/iserver/marketdata/snapshot`: the first one about a contract is a preflight and has no fields."""

    def __init__(self, feed: Feed, *, clock: Callable[[], int]) -> None:
        self._feed = feed
        self._clock = clock
        self._asked: set[str] = set()

    def register(self, application: web.Application, *, prefix: str) -> None:
        """Add the routes."""
        application.router.add_get(f"{prefix}/iserver/marketdata/snapshot", self.snapshot)
        application.router.add_post(f"{prefix}/iserver/reauthenticate", self.reauthenticate)
        application.router.add_get(f"{prefix}/iserver/reauthenticate", self.reauthenticate)

    async def snapshot(self, request: web.Request) -> web.Response:
        """Give the fields asked for of each contract, as they are now (limits: the broker's document)."""
        conids = [text for text in request.query.get("conids", "").split(",") if text]
        fields = [text for text in request.query.get("fields", "").split(",") if text]
        if not conids or len(conids) > _MOST_CONIDS or len(fields) > _MOST_FIELDS:
            return answer({"error": "Bad Request", "statusCode": 400}, status=400)
        return answer([self._row(conid, fields) for conid in conids])

    async def reauthenticate(self, _request: web.Request) -> web.Response:
        """Say that it was triggered, as the broker does; there is nothing to be done."""
        return answer({"message": "triggered"})

    def _row(self, conid: str, fields: list[str]) -> dict[str, Any]:
        number = conid.partition("@")[0]
        row: dict[str, Any] = {"conidEx": conid, "conid": int(number) if number.isdecimal() else conid}
        primed = conid in self._asked
        self._asked.add(conid)
        data = self._feed.snapshot(f"smd+{conid}", self._clock())
        part = None if data is None or not primed else narrowed(data, allowed_keys(fields), full=True)
        if part is None:
            return row
        values: dict[str, Any] = msgspec.json.decode(part)
        values.pop("topic", None)
        return row | values
