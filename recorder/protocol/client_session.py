"""Our side of one connection: what to send and when, and what the frames say about the connection's health.

1. No I/O and no clock. Frames come in with `now` (seconds of a clock that never steps); `texts` and `news` are taken
   out, and `deadline` says when to call `tick` next.
2. Nothing is subscribed before `system` says success, and brokerage topics not before `sts` says authenticated: what is
   sent earlier vanishes without an error (measured by clients).
3. What it may send: subscribe, unsubscribe, `tic`, the session message. Nothing else has a way out of here.

| state | what comes | next state | what follows |
|---|---|---|---|
| OPENED | `waiting for session` | OPENED | the session message is sent |
| OPENED | `system` with success | WELCOMED | topics that need no brokerage session are subscribed |
| WELCOMED | `sts` authenticated | READY | all other topics are subscribed |
| READY | `sts` not authenticated | WELCOMED | brokerage subscriptions count as ended |
| any | no heartbeat for `heartbeat_timeout` | LOST | news: the socket is dead |
| any | a `tic` of another session than ours | LOST | news: the login was renewed under the socket |
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

import msgspec

from recorder.protocol.bar_requests import BarRequests
from recorder.protocol.envelope import read_json, wire_topic
from recorder.protocol.streams import Stream

MARKET_DATA: Final = b'"topic":"smd+'
"""What a frame of market data has in it; one written with more space is looked at as any other frame."""
RETRY_MOST: Final = 300.0
SILENCE: Final = 30.0
"""Seconds after which a contract that sent nothing at all is worth a warning."""


class State(Enum):
    """How far the connection is."""

    OPENED = "opened"
    WELCOMED = "welcomed"
    READY = "ready"
    LOST = "lost"


OPENED, WELCOMED, READY, LOST = State


class Timing(NamedTuple):
    """Seconds: settings of the same names."""

    renew_every: float
    tickle_every: float
    heartbeat_timeout: float
    reconnect_delay: float


class News(NamedTuple):
    """Something that happened to the connection: `what` as in the table, `text` for people."""

    what: str
    text: str
    topic: str | None = None


class ClientSession:
    """Follows one connection. `token` is the session of `/tickle`, as the socket was opened with."""

    def __init__(self, streams: Iterable[Stream], *, timing: Timing, token: str, now: float) -> None:
        self.state = OPENED
        self.username: str | None = None
        self._streams = list(streams)
        self._timing = timing
        self._token = token
        self._texts: list[str] = []
        self._news: list[News] = []
        self._sts: dict[str, Any] = {}
        self._active: dict[str, Stream] = {}
        self._bars = BarRequests()
        self._silent: set[str] = set()
        self._retries: dict[str, float] = {}
        self._retry_at: dict[str, float] = {}
        self._heartbeat_by = now + timing.heartbeat_timeout
        self._tic_at = now + timing.tickle_every
        self._renew_at: float | None = None
        self._silence_at: float | None = None

    @property
    def deadline(self) -> float:
        """When `tick` has something to do; never, once the connection is lost."""
        if self.state is LOST:
            return math.inf
        dates = [self._heartbeat_by, self._tic_at, self._renew_at, self._silence_at, self._bars.deadline]
        dates += self._retry_at.values()
        return min(date for date in dates if date is not None)

    @property
    def has_output(self) -> bool:
        """Whether there is anything to take out, or the connection is lost."""
        return bool(self._texts or self._news)

    def texts(self) -> list[str]:
        """Take out what is to be sent."""
        texts, self._texts = self._texts, []
        return texts

    def news(self) -> list[News]:
        """Take out what happened."""
        news, self._news = self._news, []
        return news

    @property
    def hears_all(self) -> bool:
        """Whether market data matters too: while a contract has not been heard."""
        return bool(self._silent)

    def received(self, data: bytes, now: float) -> None:
        """Look at a frame. Market data, as `MARKET_DATA` tells it, may be left out unless `hears_all`."""
        if self.state is LOST:
            return
        if MARKET_DATA in data and b'"error"' not in data:
            self._silent.discard(wire_topic(data) or "")
            return
        frame = read_json(data)
        if type(frame) is not dict:
            return
        key = str(frame.get("topic"))
        handle = _HANDLERS.get(key)
        if "error" in frame:
            self._refused(key, str(frame["error"]), now)
            return
        self._silent.discard(key)
        self._retries.pop(key, None)  # it flows: another refusal is a new one
        if handle is not None:
            handle(self, frame, now)
        elif (cancels := self._bars.answered(key, frame)) is not None:
            self._texts.extend(cancels)
            self._ask_bars(now)
        elif frame.get("message") == "waiting for session" and self.state is OPENED:
            self._texts.append(msgspec.json.encode({"session": self._token}).decode())

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.state is LOST:
            return
        if now >= self._heartbeat_by:
            self._lose("heartbeat_lost", f"no heartbeat for {self._timing.heartbeat_timeout:g} s")
            return
        if now >= self._tic_at:
            self._tic_at = now + self._timing.tickle_every
            if self.state is not OPENED:
                self._texts.append("tic")
        if self._renew_at is not None and now >= self._renew_at:
            self._renew_at = now + self._timing.renew_every
            self._texts.extend(stream.subscribe for stream in self._active.values() if stream.renew)
        if self._silence_at is not None and now >= self._silence_at:
            self._silence_at = None
            if self._silent:
                self._news.append(News("no_data", f"no data for {', '.join(sorted(self._silent))}", "market_data"))
                self._silent.clear()
        self._retry(now)
        for key in self._bars.overdue(now):
            self._news.append(News("no_data", f"no answer to {key}: it may block others", self._active[key].topic))
        self._ask_bars(now)

    def _retry(self, now: float) -> None:
        for key in [key for key, at in self._retry_at.items() if now >= at]:
            del self._retry_at[key]
            if key in self._active:
                self._ask(self._active[key])

    def farewell(self) -> list[str]:
        """Give what to send before leaving: the broker keeps streams of a client that just goes, and counts them."""
        texts = [stream.cancel for stream in self._active.values() if not stream.at_once]  # bars: upon their answer
        self._streams.clear()
        self._keep([])
        return texts

    def _on_system(self, frame: dict[str, Any], now: float) -> None:
        self._heartbeat_by = now + self._timing.heartbeat_timeout
        if "success" in frame and self.state is OPENED:
            self.state = WELCOMED
            self.username = str(frame["success"])
            self._news.append(News("welcomed", "the gateway accepted the session"))
            self._advance(now)

    def _on_status(self, frame: dict[str, Any], now: float) -> None:
        said = frame.get("args")
        if type(said) is not dict:
            return
        self._sts.update(said)  # it may come in pieces
        if self._sts.get("competing") is True and said.get("competing") is True:
            self._news.append(News("competing", "another program of the same user took the brokerage session"))
        self._advance(now)

    def _on_tic(self, frame: dict[str, Any], _now: float) -> None:
        session = frame.get("id")
        if type(session) is str and session != self._token:
            self._lose("session_rollover", "the login was renewed: this socket's subscriptions are dead")

    def _advance(self, now: float) -> None:
        """Move between WELCOMED and READY, and subscribe what may be subscribed there."""
        authenticated = self._sts.get("authenticated") is True
        if self.state is READY and not authenticated:
            self.state = WELCOMED
            self._keep([stream for stream in self._active.values() if not stream.brokerage])
            self._news.append(News("not_authenticated", "the brokerage session is gone"))
        elif self.state is WELCOMED and authenticated:
            self.state = READY
            self._news.append(News("ready", "the brokerage session is there"))
        if self.state in (WELCOMED, READY):
            for stream in self._streams:
                if stream.key not in self._active and (self.state is READY or not stream.brokerage):
                    self._subscribe(stream, now)

    def _subscribe(self, stream: Stream, now: float) -> None:
        self._active[stream.key] = stream
        self._ask(stream)
        self._ask_bars(now)
        if not stream.at_once:
            self._news.append(News("subscribed", stream.subscribe, stream.topic))
        if stream.renew:
            self._silent.add(stream.key)
            self._renew_at = self._renew_at or now + self._timing.renew_every
            self._silence_at = now + SILENCE

    def _ask(self, stream: Stream) -> None:
        """Send a request, or let it wait for its turn if the broker counts the open ones."""
        if stream.at_once:
            self._bars.add(stream)
        else:
            self._texts.append(stream.subscribe)

    def _ask_bars(self, now: float) -> None:
        for stream in self._bars.due(now):
            self._texts.append(stream.subscribe)
            self._news.append(News("subscribed", stream.subscribe, stream.topic))

    def _keep(self, streams: Iterable[Stream]) -> None:
        """Go on with these streams only: what waits for others, waits for nothing."""
        self._active = {stream.key: stream for stream in streams}
        self._silent &= self._active.keys()
        self._bars.keep(self._active.keys())
        self._retries = {key: pause for key, pause in self._retries.items() if key in self._active}
        self._retry_at = {key: at for key, at in self._retry_at.items() if key in self._active}
        if not any(stream.renew for stream in self._active.values()):
            self._renew_at = None

    def _refused(self, key: str, error: str, now: float) -> None:
        """Try a refused stream again, after pauses that grow to `RETRY_MOST` (cured 17 of 20 refusals of `sor`)."""
        if self._token:
            error = error.replace(self._token, "…")  # it may be our own session message that was not understood
        if key not in self._active or key in self._retry_at:
            self._news.append(News("error", f"the gateway says: {error}"))
            return
        self._bars.failed(key)
        self._ask_bars(now)
        pause = min(self._retries.get(key, self._timing.reconnect_delay), RETRY_MOST)
        self._retries[key] = pause * 2
        self._retry_at[key] = now + pause
        text = f"the gateway refused {key} ({error}); it is asked again in {pause:g} s"
        self._news.append(News("refused", text, self._active[key].topic))

    def _lose(self, what: str, text: str) -> None:
        self.state = LOST
        self._news.append(News(what, text))


_HANDLERS: Final[Mapping[str, Any]] = {
    "system": ClientSession._on_system,  # noqa: SLF001  the table belongs to the class
    "sts": ClientSession._on_status,  # noqa: SLF001
    "tic": ClientSession._on_tic,  # noqa: SLF001
}
