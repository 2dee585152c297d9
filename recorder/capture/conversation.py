"""A conversation: one connection with the gateway, from its opening to its end."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Final

from websockets.exceptions import ConnectionClosed

from recorder.capture.journal import Journal
from recorder.capture.status import Counters
from recorder.capture.wire import Wire, open_wire
from recorder.protocol.client_session import MARKET_DATA, ClientSession
from recorder.protocol.connection_states import LOST
from recorder.protocol.marks import encode_mark
from recorder.protocol.socket_frames import Stamped
from recorder.protocol.streams import News

_log = logging.getLogger(__name__)
_SEND_WITHIN: Final = 2.0
_QUIET: Final = 2.0
"""Seconds for which a connection without heartbeats is still read before it is dropped; to be closed it has ten."""
_EXPECTED: Final = frozenset({"welcomed", "ready"})
_LOOK_EVERY: Final = 1.0
"""Seconds for which market data may wait until the session looks into it, all at once: one by one costs five times as
much. While the session waits for a stream to speak it looks at once."""
_LOOKS: Final = 1_000
"""Frames of market data that the session looks into each time. Of faster ones it is told the last of each stream."""

Errand = Coroutine[Any, Any, None]


class Conversation:
    """Journals all that one connection brings, and says what the session wants said.

    `on_news` may give an errand, which runs beside the conversation and ends with it.
    """

    def __init__(
        self,
        session: ClientSession,
        journal: Journal,
        *,
        counters: Counters,
        on_news: Callable[[News], Errand | None],
    ) -> None:
        self.wire: Wire | None = None
        self._session = session
        self._streams = session.streams
        self._journal = journal
        self._counters = counters
        self._on_news = on_news
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._errands: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[float, bytes]] = []
        self._passed: dict[bytes, Stamped] = {}
        self._passed_count = 0

    async def open(self, gateway: str, *, cookies: Mapping[str, str], tls: ssl.SSLContext | None, token: str) -> None:
        """Open the connection; `GatewayError` if it does not open. `token` is the session that it belongs to."""
        self._journal.begin_connection()
        self._session.opened(token, self._loop.time())  # frames may come before the opening is over
        try:
            self.wire = await open_wire(gateway, sink=self.receive, clock=self._journal.stamp, cookies=cookies, tls=tls)
        except BaseException as exc:
            self._session.closed(str(exc) or type(exc).__name__)
            self._journal_marks()
            raise
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

    def wake(self) -> None:
        """Say soon what the session has to say."""
        self._wake.set()

    async def hold(self, stop: asyncio.Event, doze: asyncio.Event) -> None:
        """Talk until the connection ends, the session is lost, or `stop` or `doze` is set; then leave."""
        wire = self.wire
        assert wire is not None, "only an open connection is held"
        closed = asyncio.create_task(wire.wait_closed())
        ends = (closed, asyncio.create_task(stop.wait()), asyncio.create_task(doze.wait()))
        try:
            while not any(end.done() for end in ends) and self._session.state is not LOST:
                await self._turn(wire, ends)
            self._tell()  # why it was lost, say
        finally:
            for task in (*ends, *self._errands):
                task.cancel()
            await self._leave(wire, stop)

    async def _turn(self, wire: Wire, ends: Collection[asyncio.Task[Any]]) -> None:
        """Say what is to be said, then wait until something happens or is due."""
        session, now = self._session, self._loop.time()
        self._wake.clear()
        self.catch_up()
        session.tick(now)
        self._tell()
        for text in session.texts():
            if not await self._send(wire, text):
                return
        if session.state is LOST:
            return
        wake = asyncio.create_task(self._wake.wait())
        pause = max(0.0, min(session.deadline, now + _LOOK_EVERY) - self._loop.time())
        await asyncio.wait({*ends, wake}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
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
        received = self._counters.received
        self.catch_up()
        for text in self._session.farewell():
            try:
                if not await asyncio.wait_for(self._send(wire, text), _SEND_WITHIN):
                    break
            except TimeoutError:
                break  # it does not read; closing has a time limit of its own
        if not (self._session.mute and await self._drops(wire, received)):
            await wire.close()
        ours = "stopped" if stop.is_set() else "the market is closed" if self._session.dozing else None
        reason = ours or wire.close_reason or "the connection ended"
        self.catch_up()
        if stop.is_set():
            self._session.stopped(self._loop.time())
        else:
            self._session.closed(f"{reason} (code {wire.close_code})")
        self._journal_marks()
        self._journal.note(encode_mark("disconnected", code=wire.close_code, reason=reason))
        level = logging.INFO if ours else logging.WARNING
        _log.log(level, "disconnected (%s)", reason)

    async def _drops(self, wire: Wire, received: int) -> bool:
        """Drop a connection if nothing came on it since so many frames, so that its close does not delay the next."""
        await asyncio.wait({asyncio.create_task(wire.wait_closed())}, timeout=_QUIET)
        if received != self._counters.received or self._journal.under_pressure:
            return False
        wire.transport.abort()
        await wire.wait_closed()
        return True

    def receive(self, frames: list[Stamped]) -> None:
        """Take the frames of one read: journal them, then let the session look at those that may matter to it."""
        self._journal.extend(frames)
        self._counters.received += len(frames)
        session, now = self._session, self._loop.time()
        for frame in frames:
            data = frame[2]
            at = data.rfind(MARKET_DATA)
            if at < 0:
                self.catch_up()
                session.received(data, now)
            elif len(self._waiting) < _LOOKS or self._streams.unheard:
                self._waiting.append((now, data))
            else:
                self._passed[data[at:]] = frame
                self._passed_count += 1
        if self._streams.unheard:
            self.catch_up()
        if session.has_output:
            self._wake.set()

    def catch_up(self) -> None:
        """Let the session look at what waits. To be called before anything else is told or asked of it."""
        waiting, self._waiting = self._waiting, []
        for at, data in waiting:
            self._session.received(data, at)
        if self._passed:
            passed, self._passed, count, self._passed_count = self._passed, {}, self._passed_count, 0
            self._session.passed(passed.values(), count, self._loop.time())

    def _tell(self) -> None:
        """Journal what happened to the gaps, and pass on what happened."""
        self._journal_marks()
        for news in self._session.news():
            if news.what == "subscribed":
                self._journal.note(encode_mark("subscribed", topic=news.topic, text=news.text))
            else:
                _log.log(logging.INFO if news.what in _EXPECTED else logging.WARNING, "%s", news.text)
            errand = self._on_news(news)
            if errand is not None:
                task = asyncio.create_task(errand)
                self._errands.add(task)
                task.add_done_callback(self._errand_over)

    def _errand_over(self, errand: asyncio.Task[None]) -> None:
        self._errands.discard(errand)
        if not errand.cancelled() and (exc := errand.exception()) is not None:
            _log.error("an errand beside the recording failed; the recording goes on", exc_info=exc)

    def _journal_marks(self) -> None:
        for mark in self._session.marks():
            self._journal.note(mark)
