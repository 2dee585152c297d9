"""One client's session with an emulated gateway: what it may ask, what it gets, and when.

Rules of this file:

1. No I/O and no clock. Texts come in with `now`, in microseconds since the Unix epoch; outputs come out. Whoever
   serves asks again at `deadline`.
2. A socket without a good cookie is asked for the session message (`waiting for session`) and gets nothing else.
3. After login the upstream connects: `system`, `act` and `sts` arrive spread over `ready_after`. What a client sends
   before that vanishes without a word, as at the broker (measured by clients).
4. A malformed request gets silence; a frame whose first word is no topic gets `Topic unknown`.
5. Requests of bars stay open until they are cancelled by the `serverId` of their answer; while `bars_at_once` are open,
   another gets silence. An account has one ladder: asking for another ends the first.
6. Market data ends by itself unless it is asked for again within `expire_after` (the broker's changelog: 10 minutes).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from recorder.protocol.projection import allowed_keys
from recorder.protocol.server_frames import Identity, act_frame, frame, refusal_frame, sts_frame, system_frame
from recorder.protocol.server_requests import (
    SILENT,
    STARTS,
    STOPS,
    WITHOUT_BROKERAGE,
    Request,
    cookie_session,
    parsed,
    server_id,
)

SECOND: Final = 1_000_000
_ECHOED: Final = 40  # characters of an unknown topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the emulated gateway behaves where the broker's behaviour is a matter of time or taste; microseconds.

    `full_on_renewal` sends a full frame when a client asks again for a stream it has; whether the broker does is not
    known. `expire_after` None lets no stream expire. `tic_replies` is how many times a `tic` is answered (four
    identical replies were seen once).
    """

    ready_after: int = SECOND // 4
    heartbeat_every: int = 10 * SECOND
    expire_after: int | None = 600 * SECOND
    full_on_renewal: bool = True
    tic_replies: int = 1
    bars_at_once: int = 5


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this frame."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Begin:
    """Send the updates of this stream from now on and, if `full`, a full frame first where there is one."""

    stream: str
    full: bool = True


@dataclass(frozen=True, slots=True)
class End:
    """Send no more of this stream."""

    stream: str
    why: Literal["cancelled", "expired", "lost"]


Output = Reply | Begin | End


@dataclass(slots=True)
class Stream:
    """One running subscription: the keys its frames may carry (None: all) and when it ends by itself (None: never)."""

    keys: frozenset[str] | None = None
    expires: int | None = None


class ServerSession:
    """The server's side of one client's socket: login, readiness, subscriptions, heartbeats, expiry.

    `refused` names the wire prefixes that cannot be subscribed to just now; it is looked at, not copied.
    """

    def __init__(self, identity: Identity, rules: Rules | None = None, *, refused: Collection[str] = ()) -> None:
        self.identity = identity
        self.rules = rules or Rules()
        self.streams: dict[str, Stream] = {}
        self.logged_in = False
        self.connected = False  # `system` was sent
        self.brokerage = True
        self.competing = False
        self.orphaned = False
        self._refused = refused
        self._told = False  # `sts` was sent
        self._arrivals: deque[tuple[int, str]] = deque()  # the first frames, with the time each is due
        self._next_heartbeat: int | None = None

    @property
    def authenticated(self) -> bool:
        """Whether the client was told that there is a brokerage session."""
        return self._told and self.brokerage

    @property
    def deadline(self) -> int | None:
        """When `advance` has something to do; None while only the client can move things."""
        times = [self._next_heartbeat, self._arrivals[0][0] if self._arrivals else None, self._first_expiry()]
        return min((time for time in times if time is not None), default=None)

    def open(self, cookie: str | None, now: int) -> list[Output]:
        """Begin, with the handshake's `Cookie` header."""
        if cookie_session(cookie) == self.identity.session:
            self._log_in(now)
            return self.advance(now)
        return [Reply(frame({"message": "waiting for session"}))]

    def receive(self, text: str, now: int) -> list[Output]:
        """Take one text frame of the client."""
        outputs = self.advance(now)
        if text.lstrip().startswith("{"):
            return outputs + self._take_session(text, now)
        request = parsed(text)
        if request is None or not self._open_for(request.verb):
            return outputs
        return outputs + self._answer(request, now)

    def advance(self, now: int) -> list[Output]:
        """Do what is due: first frames, heartbeats, expired streams."""
        outputs: list[Output] = []
        while self._arrivals and self._arrivals[0][0] <= now:
            outputs.append(Reply(self._arrive(*self._arrivals.popleft())))
        if self._next_heartbeat is not None and self._next_heartbeat <= now:
            late = now - self._next_heartbeat
            self._next_heartbeat += (late // self.rules.heartbeat_every + 1) * self.rules.heartbeat_every
            outputs.append(Reply(frame({"topic": "system", "hb": now // 1000})))
        while (expiry := self._first_expiry()) is not None and expiry <= now:
            name = next(name for name, stream in self.streams.items() if stream.expires == expiry)
            outputs += self._ended([name], "expired")
        return outputs

    def end(self, prefix: str) -> list[Output]:
        """End streams from outside: those named so, or all of a topic for `smd+` (REST `unsubscribeall`)."""
        exact = [name for name in self.streams if name == prefix or (prefix[-1:] == "+" and name.startswith(prefix))]
        return self._ended(exact, "cancelled")

    def turn(self, *, authenticated: bool, competing: bool = False) -> list[Output]:
        """Lose or regain the brokerage session; its streams end with it, and requests vanish while it is away."""
        self.brokerage, self.competing = authenticated, competing
        ended: list[Output] = []
        if not authenticated:
            lost = [name for name in self.streams if name.partition("+")[0] not in WITHOUT_BROKERAGE]
            ended = self._ended(lost, "lost")
        if not self._told:
            return ended
        return [*ended, Reply(sts_frame(self.identity, authenticated=authenticated, competing=competing))]

    def orphan(self) -> list[Output]:
        """Let a new session begin elsewhere: heartbeats go on, but streams are dead and requests vanish (seen).

        `tic` is still answered, with the session that this socket belongs to: not confirmed, but what lets clients
        compare it with the session of `/tickle`.
        """
        self.orphaned = True
        return self._ended(list(self.streams), "lost")

    def _log_in(self, now: int) -> None:
        self.logged_in = True
        step = self.rules.ready_after // 5
        self._arrivals.extend([(now + 2 * step, "system"), (now + 3 * step, "act"), (now + 5 * step, "sts")])

    def _take_session(self, text: str, now: int) -> list[Output]:
        if self.logged_in:
            # Read as a topic once the socket has its session. The text is not echoed: it holds a token.
            return [_unknown("session")] if self.connected else []
        if cookie_session(f"api={text}") == self.identity.session:
            self._log_in(now)
            return self.advance(now)
        return []

    def _arrive(self, due: int, what: str) -> bytes:
        if what == "system":
            self.connected = True
            self._next_heartbeat = due + self.rules.heartbeat_every
            return system_frame(self.identity)
        if what == "act":
            return act_frame(self.identity)
        self._told = True
        return sts_frame(self.identity, authenticated=self.brokerage, competing=self.competing)

    def _open_for(self, verb: str) -> bool:
        """Tell whether requests of this kind are heard yet."""
        start = STOPS.get(verb, verb)
        if self.orphaned:
            return start == "tic"
        return self.connected and (self.authenticated or start in WITHOUT_BROKERAGE)

    def _answer(self, request: Request, now: int) -> list[Output]:
        verb = request.verb
        if verb == "tic":
            session, moment = self.identity.session, now // 1000
            tic = Reply(frame({"topic": "tic", "alive": True, "id": session, "lastAccessed": moment}))
            return [tic] * self.rules.tic_replies
        if verb == "ech":
            return [Reply(b"ech+hb")] if request.target == "hb" else []
        if verb in STARTS:
            return self._start(request, now)
        if verb in STOPS:
            return self._stop(request)
        return [] if verb in SILENT else [_unknown(verb)]

    def _start(self, request: Request, now: int) -> list[Output]:
        if request.verb in self._refused:
            return [Reply(refusal_frame(request.verb))]
        name = request.stream
        ended: list[Output] = []
        if request.verb == "smh" and name not in self.streams and len(self._bars()) >= self.rules.bars_at_once:
            return []
        if request.verb == "sbd" and name not in self.streams:
            ended = self.end(f"sbd+{request.target.partition('+')[0]}+")
        known = self.streams.pop(name, None)  # and in again at the end, so that the first in line expires first
        asked = None if request.fields is None else allowed_keys(request.fields)
        keys = asked if known is None else _joined(known.keys, asked)
        limit = self.rules.expire_after if request.verb == "smd" else None
        expires = None if limit is None else now + limit
        self.streams[name] = Stream(keys, expires)
        if known is not None and known.keys == keys and not self.rules.full_on_renewal:
            return []
        return [*ended, Begin(name, full=request.params.get("realtimeUpdatesOnly") is not True)]

    def _stop(self, request: Request) -> list[Output]:
        topic, stream = STOPS[request.verb], request.stream
        if topic == "smh":  # named by the answer's serverId; that of a recorded answer is not ours, and ends them all
            bars = self._bars()
            named = [name for name in bars if server_id(name) == request.target] or bars
            return [*self._ended(named, "cancelled"), Reply(frame({"message": f"Unsubscribed {request.target}"}))]
        outputs = self.end(f"{stream}+") if topic == "sbd" else self.end(stream)
        if topic in ("ssd", "sld"):
            what = "summary" if topic == "ssd" else "ledger"
            outputs.append(Reply(frame({"result": f"unsubscribed from {what}"})))
        return outputs

    def _bars(self) -> list[str]:
        return [name for name in self.streams if name.startswith("smh+")]

    def _ended(self, names: Sequence[str], why: Literal["cancelled", "expired", "lost"]) -> list[Output]:
        for name in names:
            del self.streams[name]
        return [End(name, why) for name in names]

    def _first_expiry(self) -> int | None:
        """Find the next expiry: streams that expire stand in the order of their renewal, and all live equally long."""
        return next((stream.expires for stream in self.streams.values() if stream.expires is not None), None)


def _joined(known: frozenset[str] | None, asked: frozenset[str] | None) -> frozenset[str] | None:
    """Add fields to those of a running stream (the broker's document); None means all of them."""
    return known if known is None or asked is None else known | asked


def _unknown(what: str) -> Reply:
    return Reply(frame({"error": f"Topic unknown {what[:_ECHOED]}", "code": 1}))
