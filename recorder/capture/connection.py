"""The connection: holds one conversation after the other, and keeps the login alive, until told to stop.

1. The first conversation must open, so that a mistake shows at once; after it nothing the gateway does ends the
   connection.
2. Before each socket the gateway is primed by REST; a socket that nothing was asked before is closed again and again
   (seen by users).
3. Whatever changed the gaps is journaled at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from recorder.capture.contracts import conids_of, look_up
from recorder.capture.conversation import Conversation, Errand
from recorder.capture.journal import Journal
from recorder.capture.rest import Rest, tls_context
from recorder.capture.settings import CaptureSettings
from recorder.capture.status import Counters
from recorder.errors import GatewayAway, GatewayError
from recorder.protocol.backoff import Backoff, Ending
from recorder.protocol.client_session import ClientSession
from recorder.protocol.health import TopicHealth
from recorder.protocol.ledger import Ledger
from recorder.protocol.marks import encode_mark
from recorder.protocol.masking import Masker
from recorder.protocol.stream_plan import Stream
from recorder.protocol.streams import News, Timing

_log = logging.getLogger(__name__)
_ORDERS: Final = "orders"
_NAP: Final = 0.5  # seconds between two looks at whether the market is still closed


class Connection:
    """The gateway's side of a capture. `prime` comes first, then `begin`, then `stay`."""

    def __init__(self, settings: CaptureSettings, *, masker: Masker, counters: Counters, stop: asyncio.Event) -> None:
        self._session: ClientSession
        self._settings = settings
        self._masker = masker
        self._counters = counters
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._tls = tls_context(settings.gateway, ca=settings.ca, insecure=settings.insecure)
        self._rest = Rest(settings.gateway, tls=self._tls)
        self._backoff = Backoff(settings.reconnect_delay)
        self._conversation: Conversation | None = None
        self._dozing = asyncio.Event()
        self._token = ""
        self._was_connected = False
        self._was_ready = False
        self._contracts = conids_of((*settings.conid, *settings.depth_conid))
        self._journal: Journal

    @property
    def session(self) -> ClientSession:
        """The session, which has been told of all that was received."""
        if self._conversation is not None:
            self._conversation.catch_up()
        return self._session

    async def close(self) -> None:
        """Let the REST client go."""
        await self._rest.close()

    def begin(self, journal: Journal, streams: Sequence[Stream], ledger: Ledger) -> None:
        """Take the journal and what is to be recorded. `ledger` holds the gaps that are open already."""
        settings = self._settings
        timing = Timing(
            renew_every=settings.renew_every,
            tickle_every=settings.tickle_every,
            heartbeat_timeout=settings.heartbeat_timeout,
            reconnect_delay=settings.reconnect_delay,
            stale_after=settings.stale_after,
        )
        self._journal = journal
        now, wall = self._loop.time(), time.time_ns() // 1000
        self._session = ClientSession(streams, timing=timing, now=now, wall=wall, ledger=ledger)

    async def prime(self) -> None:
        """Do by REST what the gateway wants before a socket is opened."""
        if self._token and self._rest.tickle_barred:
            _log.warning("/tickle may not be called just now: the last session is used again")
        else:
            tickle = await self._rest.tickle()
            self._masker.learn(tickle.session)
            if tickle.authenticated is False and self._settings.login:
                await self._rest.log_in(compete=self._settings.compete)
            elif tickle.authenticated is False and not self._was_connected:
                raise GatewayError(
                    f"the gateway at {self._settings.gateway} has no brokerage session",
                    hint="log in at its page in a browser, or let the recorder open the session with --login",
                )
            self._token = tickle.session
        if self._was_connected and self._rest.accounts_barred:
            _log.warning("the accounts may not be asked for just now: it is gone on without")
        else:
            await self._rest.accounts()

    async def stay(self) -> None:
        """Hold conversations until told to stop."""
        while not self._stop.is_set():
            if self._dozing.is_set():
                self._turn_to("sleeping")
                await _wait(self._stop, _NAP)
                continue
            self._was_ready = False
            began = self._loop.time()
            ending = await self._try()
            spent = self._loop.time() - began
            if not self._stop.is_set() and not self._dozing.is_set():
                self._turn_to("reconnecting")
                await _wait(self._stop, self._backoff.pause(ending, draw=random.random(), spent=spent))

    async def tickle(self) -> None:
        """Keep the login alive, and see whose it is; a failure shows in the log, and the heartbeat decides.

        While `/tickle` is barred the other call has to do it: a login without any request ends after five minutes.
        """
        if self._dozing.is_set():
            return
        try:
            if not self._rest.tickle_barred:
                tickle = await self._rest.tickle()
                self._masker.learn(tickle.session)
                self.session.tickled(tickle.session, authenticated=tickle.authenticated, now=self._loop.time())
                self._wake()
            await self._rest.accounts()
        except GatewayError as exc:
            _log.warning("%s", exc)

    def look(self) -> None:
        """Compare the clocks. To be called each second or so."""
        self.session.clock(self._loop.time(), time.time_ns() // 1000)
        self._wake()

    def press(self, high: bool) -> None:  # noqa: FBT001  the journal's callback
        """Pause reading while the journal is too slow, and go on after it."""
        now = self._loop.time()
        if high:
            self.session.paused("the disk was too slow: nothing was read meanwhile", now)
        else:
            self.session.resumed(now)
        if self._conversation is not None:
            (self._conversation.pause if high else self._conversation.resume)()
        self._wake()

    def change_streams(self, streams: Sequence[Stream]) -> None:
        """Record these streams from now on, on the connection that is there."""
        self.session.change_streams(streams, self._loop.time())
        self._wake()

    def doze(self, until: datetime) -> None:
        """Leave the gateway alone until `rouse`, which is planned for then: the market is closed."""
        self._was_connected = True  # it was reached, and will be waited for
        self._counters.wakes = int(until.timestamp() * 1e6)
        self._counters.problem = None
        self.session.doze(self._loop.time())
        self._dozing.set()
        self._wake()

    def rouse(self) -> None:
        """Connect again."""
        self._counters.wakes = None
        self.session.rouse(self._loop.time())
        self._dozing.clear()
        self._turn_to("reconnecting")
        self._wake()

    def opening(self) -> None:
        """Expect data from now on: the market opens."""
        self.session.opening(self._loop.time())
        self._wake()

    def health(self) -> tuple[TopicHealth, ...]:
        """Say how each topic and each stream is."""
        return self.session.health(self._loop.time())

    def end(self) -> None:
        """End the recording: every open gap ends now."""
        self.session.stopped(self._loop.time())
        self._journal_marks()

    async def _try(self) -> Ending:
        try:
            if self._was_connected:
                await self.prime()
            await self._converse()
        except GatewayError as exc:
            if not self._was_connected:
                raise
            if self._counters.problem != str(exc):
                _log.warning("%s", exc)  # once, not each four seconds all night
            self._counters.problem = str(exc)
            return "away" if isinstance(exc, GatewayAway) else "refused"
        return "worked" if self._was_ready else "refused"

    async def _converse(self) -> None:
        """Hold one conversation until it ends, for whatever reason."""
        cookies = {**self._rest.cookies(), "api": msgspec.json.encode({"session": self._token}).decode()}
        for value in cookies.values():
            self._masker.learn(value)
        conversation = Conversation(self.session, self._journal, counters=self._counters, on_news=self._on_news)
        await conversation.open(self._settings.gateway, cookies=cookies, tls=self._tls, token=self._token)
        self._conversation = conversation
        self._was_connected = True
        self._counters.problem = None
        self._turn_to("connected")
        if self._journal.under_pressure:
            conversation.pause()
        try:
            await conversation.hold(self._stop, self._dozing)
        finally:
            self._conversation = None

    def _on_news(self, news: News) -> Errand | None:
        if news.what == "welcomed" and self._contracts:
            return self._note_contracts()
        if news.what == "ready":
            self._was_ready = True
            self._turn_to("recording")
            self._journal.note(encode_mark("logged_in"))
        elif news.what == "not_authenticated":
            self._turn_to("connected")
        elif news.what == "subscribed" and news.topic == _ORDERS:
            return self._snapshot_orders()
        return self.tickle() if news.what == "refused" else None

    async def _snapshot_orders(self) -> None:
        """Record today's orders: the stream tells changes only."""
        try:
            for _ in range(2):
                answer = await self._rest.orders()
                self._journal.note(answer, "rest")
                if b'"snapshot":false' not in answer.replace(b" ", b""):
                    break
        except GatewayError as exc:
            _log.warning("no snapshot of the orders: %s", exc)
        self.session.snapshot_taken(_ORDERS, self._loop.time())

    async def _note_contracts(self) -> None:
        """Record what the contracts are, once a session."""
        for answer in await look_up(self._rest, self._contracts):
            self._journal.note(answer, "rest")
        self._contracts = []

    def _turn_to(self, state: str) -> None:
        if not self._stop.is_set():
            self._counters.state = state

    def _wake(self) -> None:
        """Let what the session has to say be said."""
        if self._conversation is not None:
            self._conversation.wake()
        else:
            self._journal_marks()

    def _journal_marks(self) -> None:
        for mark in self.session.marks():
            self._journal.note(mark)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
