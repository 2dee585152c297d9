"""A client session with its clock, for tests: frames go in; what is sent, said and missed comes out."""

from __future__ import annotations

import json
import re
from typing import Any

from recorder.protocol.client_session import ClientSession
from recorder.protocol.connection_states import READY
from recorder.protocol.ledger import Closed, Ledger, read_gap
from recorder.protocol.stream_plan import streams_of
from recorder.protocol.streams import Timing
from recorder.protocol.topics import load_topics

TOPICS = load_topics()
TOKEN = "5f0c1e2d3b4a59687766554433221100"  # noqa: S105  made up
TIMING = Timing(renew_every=480.0, tickle_every=60.0, heartbeat_timeout=25.0, reconnect_delay=1.0, stale_after=1e6)
STREAMS = streams_of(
    [TOPICS[name] for name in ("market_data", "orders", "pnl", "system")],
    targets=["265598", "8314@NYSE"],
    fields=["31", "84"],
)
SMD = 'smd+265598+{"fields":["31","84"]}'
SMD_NYSE = 'smd+8314@NYSE+{"fields":["31","84"]}'
BROKERAGE = [SMD, SMD_NYSE, "sor+{}"]
SESSION_MESSAGE = f'{{"session":"{TOKEN}"}}'
ALLOWED = re.compile(
    r'smd\+[^+]+\+\{"fields":\[.*\]\}|umd\+[^+]+\+\{\}|sor\+\{\}|uor\+\{\}|spl\+\{\}|upl\+\{\}|tic|'
    + re.escape(SESSION_MESSAGE)
)

WAITING = {"message": "waiting for session"}
SUCCESS = {"topic": "system", "success": "trader01"}
PNL = {"topic": "spl", "args": {}}
HEARTBEAT = {"topic": "system", "hb": 1785501234567}
AUTHENTICATED = {"topic": "sts", "args": {"authenticated": True}}
GONE = {"topic": "sts", "args": {"authenticated": False}}
REFUSED = {"error": "unable to subscribe", "code": 500, "topic": "sor"}
OUR_TIC = {"topic": "tic", "alive": True, "id": TOKEN}


def stamp(moment: float) -> int:
    """Give the wall clock at a moment of these tests."""
    return 1_795_176_000_000_000 + int(moment * 1e6)


class Talk:
    """A session with its clock: frames go in, what is sent and said comes out."""

    def __init__(
        self,
        *,
        token: str = TOKEN,
        now: float = 1000.0,
        stale_after: float = 1e6,
        renew_every: float = 480.0,
        ledger: Ledger | None = None,
    ) -> None:
        self.now = now
        self.beat = now + 10
        self.quotes = 0
        timing = TIMING._replace(stale_after=stale_after, renew_every=renew_every)
        self.session = ClientSession(STREAMS, timing=timing, now=now, wall=stamp(now), ledger=ledger)
        self.session.opened(token, now)

    def hear(self, *frames: dict[str, Any] | bytes) -> list[str]:
        """Receive frames; give what is sent in answer."""
        for frame in frames:
            self.session.received(frame if isinstance(frame, bytes) else json.dumps(frame).encode(), self.now)
        return self.session.texts()

    def wait(self, seconds: float, *, beating: bool = True) -> list[str]:
        """Let time pass, ticking whenever something is due, with a heartbeat each ten seconds if it beats."""
        end, sent = self.now + seconds, list[str]()
        self.beat = max(self.beat, self.now)
        while self.now < end:
            self.now = min(end, self.session.deadline, self.beat if beating else end)
            if beating and self.now == self.beat:
                self.beat += 10
                sent += self.hear(HEARTBEAT)
            self.session.tick(self.now)
            sent += self.session.texts()
            assert self.session.deadline > self.now, "what was due is done"
        return sent

    def speak(self, seconds: float, *targets: str, every: float = 1.0) -> list[str]:
        """Let time pass while contracts send a new bid each so often; give what is sent."""
        sent, end = list[str](), self.now + seconds
        while self.now < end:
            sent += self.wait(min(every, end - self.now))
            for target in targets:
                self.quotes += 1
                sent += self.hear(market_data(target, **{"84": str(self.quotes)}))
        return sent

    def lose(self, why: str = "gone (code 1006)") -> None:
        """Let the connection end."""
        self.session.closed(why)

    def reopen(self, pause: float = 2.0, *, token: str = TOKEN) -> list[str]:
        """Open another connection after a pause, and let the gateway accept it; give what is sent."""
        self.now += pause
        self.session.opened(token, self.now)
        self.beat = self.now + 10
        return self.hear(SUCCESS, AUTHENTICATED)

    def said(self) -> list[str]:
        """Give what happened since it was last asked, without its words."""
        return [news.what for news in self.session.news()]

    def gaps(self) -> list[tuple[str, int | None, str, float, float | None]]:
        """Give the gaps that opened (no end) and closed: topic, contract, cause, start and end as moments."""
        found: list[tuple[str, int | None, str, float, float | None]] = []
        for mark in self.session.marks():
            read = read_gap(mark)
            assert read is not None
            gap, end = (read.gap, moment(read.end)) if isinstance(read, Closed) else (read, None)
            found.append((gap.topic, gap.conid, gap.cause, moment(gap.start), end))
        return found


def moment(ts: int) -> float:
    """Give the moment of these tests that a stamp means, to the tenth of a millisecond."""
    return round((ts - stamp(0)) / 1e6, 4)


def ready(*, stale_after: float = 1e6, renew_every: float = 480.0) -> Talk:
    """Have a session that has subscribed to everything, and whose output was taken."""
    talk = Talk(stale_after=stale_after, renew_every=renew_every)
    talk.hear(SUCCESS, AUTHENTICATED, full("265598"), full("8314@NYSE"), PNL)
    talk.session.news()
    assert talk.session.state is READY
    assert talk.gaps() == []
    return talk


def full(target: str, bid: object = "1", ask: object = "2") -> bytes:
    """Make a full frame of the two fields that are asked for, with what comes unasked."""
    envelope = {"server_id": "q12", "conidEx": target, "_updated": 1785763811020, "6509": "RpB"}
    return market_data(target, **envelope, **{"31": str(ask), "84": str(bid)})


def market_data(target: str, **values: Any) -> bytes:
    """Make a frame of market data as the broker writes it."""
    return json.dumps({"topic": f"smd+{target}", **values}, separators=(",", ":")).encode()
