"""Our side of the gateway, over all connections of a capture: what to send and when, and what is missing meanwhile.

1. No I/O and no clock. Frames come in with `now` (seconds of a clock that never steps); `texts`, `news` and `marks` are
   taken out, and `deadline` says when to call `tick` next.
2. Nothing is subscribed before `system` says success, and brokerage topics not before `sts` says authenticated: what is
   sent earlier vanishes without an error (measured by clients).
3. What it may send: subscribe, unsubscribe, `tic`, the session message. Nothing else has a way out of here.
4. States and what moves them are `connection_states`' table. Each stream's own fate is `streams`' business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from recorder.protocol.connection_states import AWAY, LOST, OPENED, READY, TRANSITIONS, WELCOMED, Event, State
from recorder.protocol.envelope import read_json
from recorder.protocol.health import TopicHealth
from recorder.protocol.ledger import Cause, Ledger
from recorder.protocol.login import Login
from recorder.protocol.stream_plan import Stream
from recorder.protocol.streams import SILENCE, News, Streams, Timing

MARKET_DATA: Final = b'"topic":"smd+'
"""What a frame of market data has in it; one written with more space is looked at as any other frame."""
LOOK_EVERY: Final = 1.0


class ClientSession:
    """Follows the connections of one capture. `wall` is the wall clock at `now`, microseconds since the epoch.

    `ledger` holds the gaps that are open already.
    """

    def __init__(
        self, streams: Iterable[Stream], *, timing: Timing, now: float, wall: int, ledger: Ledger | None = None
    ) -> None:
        self.state: State = AWAY
        self.username: str | None = None
        self.mute = False
        """Whether the connection was given up because not even heartbeats came: closing it will not be answered."""
        self.streams = Streams(streams, ledger or Ledger(), timing=timing, now=now, wall=wall)
        self._timing = timing
        self._look_every = min(LOOK_EVERY, timing.stale_after / 10)
        self._paused = False
        self._dozes_from: float | None = None
        self._begin("", now)

    def _begin(self, token: str, now: float) -> None:
        """Forget the last connection."""
        self._token = token
        self._login = Login()
        self._leaving = False
        self.mute = False
        self._opened_at = self._last_at = self._ours_at = now
        self._heartbeat_by = now + self._timing.heartbeat_timeout
        self._tic_at = now + self._timing.tickle_every
        self._look_at = now + self._look_every
        self._login_by = math.inf

    @property
    def deadline(self) -> float:
        """When `tick` has something to do; never, without a connection that is of use."""
        if self.state in (AWAY, LOST):
            return math.inf
        heartbeat = math.inf if self._paused else self._heartbeat_by
        return min(heartbeat, self._tic_at, self._look_at, *self.streams.subscriptions.deadlines())

    @property
    def has_output(self) -> bool:
        """Whether there is anything to take out."""
        return bool(self.streams.subscriptions.texts or self.streams.news or self.streams.coverage.marks)

    @property
    def hears_all(self) -> bool:
        """Whether each frame of market data matters: while a stream has not been heard, or is suspected."""
        return self.streams.unheard

    def texts(self) -> list[str]:
        """Take out what is to be sent."""
        texts, self.streams.subscriptions.texts = self.streams.subscriptions.texts, []
        return texts

    def news(self) -> list[News]:
        """Take out what happened."""
        news, self.streams.news = self.streams.news, []
        return news

    def marks(self) -> list[bytes]:
        """Take out the marks of gaps that opened and closed."""
        marks, self.streams.coverage.marks = self.streams.coverage.marks, []
        return marks

    def health(self, now: float) -> tuple[TopicHealth, ...]:
        """Say how each topic and each stream is."""
        return self.streams.health(now)

    def opened(self, token: str, now: float) -> None:
        """Begin with a connection; `token` is the session of `/tickle` that it is opened with."""
        if self._go(Event.CONNECTED):
            self._begin(token, now)

    def closed(self, why: str) -> None:
        """Take note that the connection has ended."""
        ours, streams = self.state is LOST, self.streams
        if not self._go(Event.CLOSED):
            return
        streams.convict()
        if self._dozes_from is None:
            topics = [topic for topic in streams.topics() if not ours or streams.coverage.gap(topic) is None]
            streams.coverage.lose(topics, "disconnected", why, since=lambda _topic: self._last_at)
        streams.end()
        streams.subscriptions.texts.clear()

    def farewell(self) -> list[str]:
        """Give what to send before leaving: the broker keeps streams of a client that just goes, and counts them."""
        self._leaving = True
        self.streams.convict()
        subscriptions = self.streams.subscriptions
        return subscriptions.cancel(subscriptions.lines.values())

    @property
    def dozing(self) -> bool:
        """Whether nothing is expected, because the market is closed."""
        return self._dozes_from is not None

    def doze(self, now: float) -> None:
        """Expect nothing until `rouse`: the market is closed, and whatever was missing is missed no longer."""
        self.streams.convict()
        self.streams.coverage.end(now)
        self._dozes_from = now

    def rouse(self, now: float) -> None:
        """Go on; that there was nothing to be recorded meanwhile goes into the ledger as information."""
        if self._dozes_from is not None:
            self.streams.coverage.note_closed(self._dozes_from, now)
            self._dozes_from = None

    def opening(self, now: float) -> None:
        """Expect data from now on: the market opens, and without a connection something is missing."""
        if self.state is not READY and self._dozes_from is None:
            topics = [topic for topic in self.streams.topics() if self.streams.coverage.gap(topic) is None]
            why = "no connection when the market opened"
            self.streams.coverage.lose(topics, "disconnected", why, since=lambda _topic: now)

    def stopped(self, now: float) -> None:
        """End the recording, and every open gap with it."""
        self.rouse(now)
        self.streams.coverage.end(now)

    def paused(self, why: str, now: float) -> None:
        """Expect nothing until `resumed`, for a reason of ours: the silence is not the gateway's then."""
        self._paused = True
        self.streams.coverage.pause(min(self._last_at, now), why)

    def resumed(self, now: float) -> None:
        """Expect frames again."""
        self._paused = False
        self._heartbeat_by = now + self._timing.heartbeat_timeout
        self.streams.coverage.resume(now)

    def clock(self, now: float, wall: int) -> None:
        """Compare the wall clock, in microseconds, with the one that never steps."""
        step = self.streams.coverage.clock(now, wall)
        if step is not None:
            self._say("clock_step", step)

    def change_streams(self, streams: Iterable[Stream], now: float) -> None:
        """Record these streams from now on: new ones are subscribed, those that are gone unsubscribed."""
        self.streams.change(streams, now)
        self._advance(now)

    def snapshot_taken(self, topic: str, now: float) -> None:
        """Take note that what REST knows of a topic was recorded, or cannot be had."""
        self.streams.coverage.snapshots[topic] = now

    def received(self, data: bytes, now: float) -> None:
        """Look at a frame. Market data, as `MARKET_DATA` tells it, may come by `passed` instead unless `hears_all`."""
        if self.state in (AWAY, LOST):
            return
        self._last_at = now
        frame = read_json(data)
        if type(frame) is not dict:
            return
        key = str(frame.get("topic"))
        line = self.streams.line(key)
        if "error" in frame:
            error = str(frame["error"])
            error = error.replace(self._token, "…") if self._token else error  # it may be our own session message
            if line is not None and line.active and line.ask_at is None:
                self.streams.refused(line, error, now)
            else:
                self._say("error", f"the gateway says: {error}")
            return
        if line is not None:
            self.streams.heard(line, frame, now)
        handle = _HANDLERS.get(key)
        if handle is not None:
            handle(self, frame, now)
        elif frame.get("message") == "waiting for session" and self.state is OPENED:
            self.streams.subscriptions.texts.append(msgspec.json.encode({"session": self._token}).decode())

    def passed(self, latest: Iterable[tuple[int, int, bytes]], count: int, now: float) -> None:
        """Take note of `count` frames of market data that nobody looked at; of each stream the last one is given."""
        if self.state in (AWAY, LOST):
            return
        self._last_at = now
        for error in self.streams.passed(latest, count, now):
            self.received(error, now)

    def tickled(self, token: str, *, authenticated: bool | None, now: float) -> None:
        """`/tickle` was answered: by which session, and whether it has a brokerage session (None: not said)."""
        if self.state in (AWAY, LOST):
            return
        self._compare(token, now)
        self._login.tickle(authenticated=authenticated)
        self._advance(now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.state in (AWAY, LOST):
            return
        if now >= self._heartbeat_by and not self._paused:
            self.mute = True
            self._lose(Event.SILENCE, "heartbeat_lost", f"no heartbeat for {self._timing.heartbeat_timeout:g} s")
            return
        if now >= self._tic_at:
            self._tic_at = now + self._timing.tickle_every
            if self.state is not OPENED:
                self.streams.subscriptions.texts.append("tic")
        self.streams.due(now)
        if now >= self._look_at:
            self._look_at = now + self._look_every
            self._look(now)

    def _look(self, now: float) -> None:
        if now >= self._login_by:
            self._login_by = math.inf
            if self.state is WELCOMED:
                self._lose_brokerage("not_authenticated", f"the gateway named no brokerage session in {SILENCE:g} s")
        dead = None if self._paused else self.streams.look(now)
        if dead is not None and self._go(Event.STALE):
            self.streams.lose_beside_the_dead(dead, not_before=self._opened_at)

    def _on_system(self, frame: dict[str, Any], now: float) -> None:
        self._heartbeat_by = now + self._timing.heartbeat_timeout
        if "success" in frame and self._go(Event.WELCOME):
            self.username = str(frame["success"])
            self._login_by = now + SILENCE
            self._say("welcomed", "the gateway accepted the session")
            self._advance(now)

    def _on_status(self, frame: dict[str, Any], now: float) -> None:
        said = frame.get("args")
        if type(said) is not dict:
            return
        competing = self._login.competing
        self._login.status(said)
        if said.get("competing") is True:
            why = "another program of the same user took the brokerage session"
            self._lose_brokerage("competing", why)
            if not competing:
                self._say("competing", why)
        elif competing and said.get("competing") is False and self.state is READY:
            self.streams.end(brokerage=True)  # whatever became of them meanwhile
        self._advance(now)

    def _on_tic(self, frame: dict[str, Any], now: float) -> None:
        session = frame.get("id")
        if type(session) is str and session != self._token:  # ours proves nothing: it may be the socket's own
            self._compare(session, now)

    def _compare(self, session: str, now: float) -> None:
        """Compare a session with ours; another one means that the login was renewed under the socket."""
        if session == self._token:
            self._ours_at = now
            return
        why = "the login was renewed: this socket's subscriptions are dead"
        self._lose(Event.ROLLOVER, "session_rollover", why, not_before=self._ours_at)

    def _advance(self, now: float) -> None:
        """Move between WELCOMED and READY, and subscribe what may be subscribed there."""
        if self._login.authenticated is False:
            why = "the brokerage session is gone"
            if not self._login.competing:
                self._lose_brokerage("not_authenticated", why)
            if self._go(Event.LOGOUT):
                self.streams.end(brokerage=True)
                self._say("not_authenticated", why)
        elif self._login.authenticated and self._go(Event.LOGIN):
            self._say("ready", "the brokerage session is there")
        if self.state in (WELCOMED, READY) and not self._leaving:
            self.streams.subscribe(now, brokerage=self.state is READY)

    def _lose_brokerage(self, cause: Cause, why: str) -> None:
        topics = self.streams.topics(brokerage=True)
        self.streams.coverage.lose(topics, cause, why, since=self._since())

    def _lose(self, event: Event, cause: Cause, why: str, *, not_before: float = -math.inf) -> None:
        """Give the connection up."""
        if self._go(event):
            self.streams.coverage.lose(self.streams.topics(), cause, why, since=self._since(not_before))
            self._say(cause, why)

    def _since(self, not_before: float = -math.inf) -> Callable[[str], float]:
        """Say when a topic was heard last: one that speaks only on change was well as long as anything was heard."""
        proven = max(self._opened_at, not_before)
        anything = self._last_at if not_before == -math.inf else None
        return lambda topic: max(proven, self.streams.last_heard(topic, anything=anything))

    def _go(self, event: Event) -> bool:
        """Move as the table says; False if the event moves nothing in this state."""
        state = TRANSITIONS[self.state].get(event)
        if state is None:
            return False
        self.state = state
        return True

    def _say(self, what: str, text: str) -> None:
        self.streams.news.append(News(what, text))


_HANDLERS: Final[Mapping[str, Any]] = {
    "system": ClientSession._on_system,  # noqa: SLF001  the table belongs to the class
    "sts": ClientSession._on_status,  # noqa: SLF001
    "tic": ClientSession._on_tic,  # noqa: SLF001
}
