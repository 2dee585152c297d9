"""A conversation: one connection with the gateway, from its opening to its end."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from websockets.exceptions import ConnectionClosed

from recorder.capture.journal import Journal
from recorder.capture.wire import Wire, open_wire
from recorder.protocol.client_session import LOST, MARKET_DATA, ClientSession, News
from recorder.protocol.marks import encode_mark

_log = logging.getLogger(__name__)
_SEND_WITHIN: Final = 2.0
_EXPECTED: Final = frozenset({"welcomed", "ready"})

Errand = Coroutine[Any, Any, None]


class Conversation:
    """Journals all that one connection brings, and says what the session wants said.

    `on_frame` is called for each received frame, after it was journaled. `on_news` may give an errand, which runs
    beside the conversation and ends with it.
    """

    def __init__(
        self,
        session: ClientSession,
        journal: Journal,
        *,
        on_frame: Callable[[], None],
        on_news: Callable[[News], Errand | None],
    ) -> None:
        self.wire: Wire | None = None
        self._session = session
        self._journal = journal
        self._on_frame = on_frame
        self._on_news = on_news
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._errands: set[asyncio.Task[None]] = set()

    async def open(self, gateway: str, *, cookies: Mapping[str, str], tls: ssl.SSLContext | None) -> None:
        """Open the connection; `GatewayError` if it does not open."""
        self._journal.begin_connection()
        self.wire = await open_wire(gateway, sink=self._receive, cookies=cookies, tls=tls)
        self._journal.note(encode_mark("connected", gateway=gateway))
        _log.info("connected to %s", gateway)

    def pause(self) -> None:
        """Stop reading: the journal's memory is full."""
        if self.wire is not None:
            self.wire.pause()

    def resume(self) -> None:
        """Read on."""
        if self.wire is not None:
            self.wire.resume()

    async def hold(self, stop: asyncio.Event) -> None:
        """Talk until the connection ends, the session is lost, or `stop` is set; then leave."""
        wire = self.wire
        assert wire is not None, "only an open connection is held"
        closed = asyncio.create_task(wire.wait_closed())
        stopped = asyncio.create_task(stop.wait())
        try:
            while not closed.done() and not stopped.done() and self._session.state is not LOST:
                await self._turn(wire, closed, stopped)
            self._tell_news()  # why it was lost, say
        finally:
            for task in (closed, stopped, *self._errands):
                task.cancel()
            await self._leave(wire, stop)

    async def _turn(self, wire: Wire, closed: asyncio.Task[None], stopped: asyncio.Task[Any]) -> None:
        """Say what is to be said, then wait until something happens or is due."""
        session = self._session
        self._wake.clear()
        session.tick(self._loop.time())
        self._tell_news()
        for text in session.texts():
            if not await self._send(wire, text):
                return
        if session.state is LOST:
            return
        wake = asyncio.create_task(self._wake.wait())
        pause = max(0.0, session.deadline - self._loop.time())
        await asyncio.wait({closed, stopped, wake}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        wake.cancel()

    async def _send(self, wire: Wire, text: str) -> bool:
        """Send a text, journaled first; False if the connection has ended."""
        self._journal.note(text.encode(), "out")
        try:
            await wire.send(text)
        except ConnectionClosed:
            return False
        return True

    async def _leave(self, wire: Wire, stop: asyncio.Event) -> None:
        """Unsubscribe, and read the socket to its end."""
        for text in self._session.farewell():
            try:
                if not await asyncio.wait_for(self._send(wire, text), _SEND_WITHIN):
                    break
            except TimeoutError:
                break  # it does not read; closing has a time limit of its own
        await wire.close()
        reason = "stopped" if stop.is_set() else wire.close_reason or "the connection ended"
        self._journal.note(encode_mark("disconnected", code=wire.close_code, reason=reason))
        level = logging.INFO if stop.is_set() else logging.WARNING
        _log.log(level, "disconnected (%s)", reason)

    def _receive(self, data: bytes, code: int) -> None:
        """Take a frame from the wire: journal it, then let the session look at it if it may matter to it."""
        self._journal.append(data, code)
        self._on_frame()
        session = self._session
        if session.hears_all or data.rfind(MARKET_DATA) < 0:
            session.received(data, self._loop.time())
            if session.has_output:
                self._wake.set()

    def _tell_news(self) -> None:
        for news in self._session.news():
            if news.what == "subscribed":
                self._journal.note(encode_mark("subscribed", topic=news.topic, text=news.text))
            else:
                _log.log(logging.INFO if news.what in _EXPECTED else logging.WARNING, "%s", news.text)
            errand = self._on_news(news)
            if errand is not None:
                task = asyncio.create_task(errand)
                self._errands.add(task)
                task.add_done_callback(self._errands.discard)
