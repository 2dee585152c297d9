"""The control of a replay: pause, resume, seek and speed over HTTP, beside the broker's own paths."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from recorder.errors import RecorderError
from recorder.protocol.instants import to_micros
from recorder.replay.archive_feed import ArchiveFeed
from recorder.replay.rest_body import answer, read_object


class Control:
    """The calls `GET /replay/status` and `POST /replay/pause`, `resume`, `seek` and `speed`.

    `seek` takes `{"to": "2026-11-20T15:00"}`, `speed` `{"speed": 20}` or `{"speed": "max"}`. All answer with the
    status.
    """

    def __init__(self, feed: ArchiveFeed, *, clock: Callable[[], int]) -> None:
        self._feed = feed
        self._clock = clock

    def register(self, application: web.Application) -> None:
        """Add the routes."""
        router = application.router
        router.add_get("/replay/status", self.status)
        for name, handler in (
            ("pause", self.pause),
            ("resume", self.resume),
            ("seek", self.seek),
            ("speed", self.speed),
        ):
            router.add_post(f"/replay/{name}", handler)

    async def status(self, _request: web.Request) -> web.Response:
        """Tell where the replay is; times are microseconds since the Unix epoch."""
        feed = self._feed
        return answer(
            {
                "time": feed.clock.at(self._clock()),
                "begin": feed.contents.begin,
                "end": feed.contents.end,
                "running": feed.clock.running,
                "paused": feed.paused,
                "ended": feed.ended,
                "speed": "max" if feed.clock.speed is None else feed.clock.speed,
            }
        )

    async def pause(self, request: web.Request) -> web.Response:
        """Let the clock stand."""
        self._feed.pause(self._clock())
        return await self.status(request)

    async def resume(self, request: web.Request) -> web.Response:
        """Let the clock go on, or begin without a client."""
        self._feed.resume(self._clock())
        return await self.status(request)

    async def seek(self, request: web.Request) -> web.Response:
        """Go to another moment; clients get full frames, and then what came from there on."""
        try:
            moment = to_micros((await read_object(request)).get("to"), what="to")
        except RecorderError as exc:
            return answer({"error": str(exc)}, status=400)
        if moment is None:
            return answer({"error": 'write {"to": TIME}'}, status=400)
        self._feed.seek(moment, self._clock())
        return await self.status(request)

    async def speed(self, request: web.Request) -> web.Response:
        """Go on at another speed."""
        wanted = (await read_object(request)).get("speed")
        if wanted != "max" and not (isinstance(wanted, int | float) and 0 < wanted < float("inf")):
            return answer({"error": 'write {"speed": 20}, or "max"'}, status=400)
        self._feed.clock.change_speed(None if wanted == "max" else float(wanted), self._clock())
        return await self.status(request)
