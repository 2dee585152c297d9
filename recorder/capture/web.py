"""The capture's own small web server: health, metrics, status and the page.

It lives on the capture's event loop, so it does almost nothing there: it sends texts that are made once a look, and
only if somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, Final

import msgspec
from aiohttp import web

from recorder.capture.history import History
from recorder.capture.metrics import CONTENT_TYPE, metrics_text
from recorder.capture.status import Status
from recorder.capture.status_document import judgement_document, status_document
from recorder.capture.verdict import problems, verdict
from recorder.errors import RecorderError

_JSON: Final = "application/json"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_PAGE_HEADERS: Final = {
    **_HEADERS,
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; frame-ancestors 'none'",
}
_LEAVE_WITHIN: Final = 1.0

Make = Callable[[], bytes]


class Web:
    """Serves what `status` and `history` say; `now` gives microseconds."""

    def __init__(self, *, status: Callable[[], Status], history: History, now: Callable[[], int]) -> None:
        self.port: int | None = None
        self._status = status
        self._history = history
        self._now = now
        self._page = (files("recorder.capture") / "page.html").read_bytes()
        self._made: dict[str, bytes] = {}
        self._made_at = 0
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; `RecorderError` if the address cannot be had. Port 0 takes a free one, `port` says which."""
        app = web.Application()
        app.router.add_get("/", self._on_page)
        app.router.add_get("/healthz", self._on_health)
        app.router.add_get("/metrics", self._on_metrics)
        app.router.add_get("/status.json", self._on_status)
        app.router.add_get("/history.json", self._on_history)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_LEAVE_WITHIN)
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as exc:
            await runner.cleanup()
            raise RecorderError(
                f"http: {host}:{port} cannot be listened on: {exc.strerror or exc}",
                hint="choose another port with --http, or stop what listens there",
            ) from exc
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _on_page(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=_PAGE_HEADERS)

    async def _on_health(self, _request: web.Request) -> web.Response:
        status, now = self._status(), self._now()
        found = problems(status, now)
        body = judgement_document(found, verdict(status, now))
        return web.json_response(body, status=503 if found else 200, headers=_HEADERS)

    async def _on_metrics(self, _request: web.Request) -> web.Response:
        body = self._once("metrics", lambda: metrics_text(self._status(), now=self._now()))
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": CONTENT_TYPE})

    async def _on_status(self, _request: web.Request) -> web.Response:
        return self._json(self._once("status", lambda: msgspec.json.encode(self._document())))

    async def _on_history(self, _request: web.Request) -> web.Response:
        return self._json(self._once("history", lambda: msgspec.json.encode(self._history.points())))

    def _document(self) -> Mapping[str, Any]:
        status, now = self._status(), self._now()
        judged = judgement_document(problems(status, now), verdict(status, now))
        return judged | status_document(status, now=now)

    def _once(self, name: str, make: Make) -> bytes:
        """Make a text once a look, however many ask for it."""
        at = self._status().at
        if at != self._made_at:
            self._made, self._made_at = {}, at
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @staticmethod
    def _json(body: bytes) -> web.Response:
        return web.Response(body=body, content_type=_JSON, headers=_HEADERS)
