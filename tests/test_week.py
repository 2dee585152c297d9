"""A week in seconds: our side of the gateway against the gateway's side, both without sockets, on a virtual clock.

Each night the gateway goes away and comes back with another session; on every day, at times that a seed chooses, the
session rolls over, the login is lost, another program takes it, streams end by themselves, the line goes dead, and
orders are refused. The market ticks all the time, and what of it did not come must lie in the gap ledger. One thing
nobody can know: a stream that ends by itself shortly before it is renewed anyway was silent for no longer than it is in
a quiet market.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import pytest

from recorder.protocol.client_session import ClientSession
from recorder.protocol.connection_states import AWAY, LOST, READY
from recorder.protocol.server_frames import Identity
from recorder.protocol.server_session import SECOND, Begin, Output, Reply, Rules, ServerSession
from recorder.protocol.stream_plan import streams_of
from recorder.protocol.streams import Timing
from recorder.protocol.topics import load_topics

DAYS: Final = 7
DAY: Final = 86_400.0
T0: Final = 1_795_132_800_000_000  # 2026-11-20 00:00 UTC, microseconds
TIMING: Final = Timing(
    renew_every=480.0, tickle_every=60.0, heartbeat_timeout=45.0, reconnect_delay=1.0, stale_after=90.0
)
LOOK_EVERY: Final = 6.0
"""A week has 604,800 seconds; looking each second, as a capture does, would cost most of this test."""
RULES: Final = Rules(heartbeat_every=20 * SECOND)
STREAMS: Final = streams_of(
    [load_topics()[name] for name in ("market_data", "orders", "pnl")], targets=["265598", "8314"], fields=["84"]
)
TICKS: Final = {"smd+265598": 30.0, "smd+8314": 41.0, "spl": 35.0, "sor": 900.0}
TOPICS: Final = {"smd": "market_data", "sor": "orders", "spl": "pnl"}
ALL: Final = ("market_data", "orders", "pnl")
BROKERAGE: Final = ("market_data", "orders")


class Hole(NamedTuple):
    """A row of the ledger, in seconds of the week."""

    topic: str
    conid: int | None
    start: float
    end: float
    cause: str
    evidence: str


class Done(NamedTuple):
    """A fault that was done: what it hits, and the cause that must be told."""

    cause: str
    topics: tuple[str, ...]
    start: float
    end: float


class Week:
    """The virtual clock, both sides, and what is between them."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)
        self.client = ClientSession(STREAMS, timing=TIMING, now=0.0, wall=T0)
        self.client._look_every = LOOK_EVERY
        self.holes: list[Hole] = []
        self.done: list[Done] = []
        self.missed: list[tuple[str, float]] = []
        self.unknowable: list[tuple[float, float]] = []
        """From when to when market data had ended without a word, where a renewal came before it was long silent."""
        self.came = 0
        self._expired_at: float | None = None
        self._market_at = 0.0
        self._server: ServerSession | None = None
        self._sessions = (f"{number:032x}" for number in itertools.count(1))
        self._session = next(self._sessions)
        self._refused: set[str] = set()
        self._authenticated = self._competing = self._away = self._frozen = False
        self._authenticated = True
        self._began = False
        self._connect_at = 0.0
        self._bids = itertools.count(1)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Plan something."""
        heapq.heappush(self._due, (when, next(self._order), do))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self.now < until:
            server = self._server.deadline if self._server is not None else None
            times = [self._due[0][0], self.client.deadline, until]
            if server is not None:
                times.append((server - T0) / 1e6)
            if self.client.state is AWAY:
                times.append(self._connect_at)
            self.now = max(self.now, min(times))
            while self._due and self._due[0][0] <= self.now:
                heapq.heappop(self._due)[2]()
            self._turn()

    # ---------------------------------------------------------------- the two sides

    def _turn(self) -> None:
        if self._server is not None:
            self._deliver(self._server.advance(self._micros()))
        self.client.tick(self.now)
        self._speak()
        if self.client.state is LOST:
            self.disconnect()
        if self.client.state is AWAY and self.now >= self._connect_at:
            self._connect()

    def _micros(self) -> int:
        return T0 + round(self.now * 1e6)

    def _connect(self) -> None:
        self._connect_at = self.now + 1.0
        if self._away:
            return
        self._frozen = False
        self._server = ServerSession(Identity(session=self._session), RULES, refused=self._refused)
        self._server.turn(authenticated=self._authenticated, competing=self._competing)
        self.client.opened(self._session, self.now)
        self._deliver(self._server.open(f"api={self._session}", self._micros()))

    def disconnect(self) -> None:
        """End the connection that there is."""
        self._server = None
        self.client.closed("the connection ended")
        self._connect_at = self.now + 1.0
        self._speak()

    def _speak(self) -> None:
        """Carry what the client says to the server, until neither has more to say."""
        while self.client.has_output:
            for news in self.client.news():
                if news.what == "subscribed" and news.topic == "orders":
                    self.client.snapshot_taken("orders", self.now)
            for mark in map(json.loads, self.client.marks()):
                if mark["event"] == "gap_closed":
                    start, end = ((mark[key] - T0) / 1e6 for key in ("start", "end"))
                    self.holes.append(Hole(mark["of"], mark["contract"], start, end, mark["cause"], mark["evidence"]))
            for text in self.client.texts():
                if self._server is not None and not self._frozen:
                    self._deliver(self._server.receive(text, self._micros()))

    def _deliver(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            match output:
                case Reply(data):
                    self._hear(data)
                case Begin(stream, full=True) if not stream.startswith("sor"):
                    self._began = True
                    if stream.startswith("smd+"):
                        self._revived()
                    self._hear(self._frame(stream))
        self._speak()

    def _revived(self) -> None:
        if self._expired_at is not None and self.now - self._market_at < TIMING.stale_after:
            self.unknowable.append((self._expired_at, self.now))
        self._expired_at = None

    def _hear(self, data: bytes) -> None:
        if not self._frozen:
            self.came += 1
            if b"smd+" in data:
                self._market_at = self.now
            self.client.received(data, self.now)

    def _frame(self, stream: str) -> bytes:
        if stream.startswith("smd+"):
            conid = int(stream.removeprefix("smd+"))
            return json.dumps({"topic": stream, "conid": conid, "84": str(next(self._bids))}).encode()
        if stream == "sor":
            return b'{"topic":"sor","args":[{"orderId":1,"status":"Submitted"}]}'
        return b'{"topic":"spl","args":{"DU1.Core":{"dpl":%d}}}' % next(self._bids)

    # ---------------------------------------------------------------- what happens

    def tick(self, stream: str) -> None:
        """Let the market tick: the client gets it, or it is missed."""
        self.at(self.now + TICKS[stream], lambda: self.tick(stream))
        running = self._server is not None and stream in self._server.streams
        if running and not self._frozen:
            self._hear(self._frame(stream))
            self._speak()
        elif self._began:
            self.missed.append((stream, self.now))

    def tickle(self) -> None:
        """Call `/tickle`, as a capture does."""
        self.at(self.now + TIMING.tickle_every, self.tickle)
        if not self._away:
            self.client.tickled(self._session, authenticated=self._authenticated, now=self.now)
            self._speak()

    def _noted(self, cause: str, topics: tuple[str, ...], seconds: float = 0.0) -> None:
        self.done.append(Done(cause, topics, self.now, self.now + seconds))

    def reset(self) -> None:
        """Let the gateway go away for some minutes, and come back with another session that refuses orders at first."""
        seconds = self.chance.uniform(300, 600)
        self._noted("disconnected", ALL, seconds)
        self._noted("subscription_refused", ("orders",), seconds + 120)
        self._away = True
        self._session = next(self._sessions)
        self._refused.add("sor")
        self.disconnect()
        self.at(self.now + seconds, self._come_back)
        self.at(self.now + seconds + 120, self._refused.clear)

    def _come_back(self) -> None:
        self._away = False

    def roll_over(self) -> None:
        """Renew the session under the socket."""
        self._noted("session_rollover", ALL)
        self._session = next(self._sessions)
        if self._server is not None:
            self._deliver(self._server.orphan())

    def lose_login(self, *, competing: bool) -> None:
        """Take the brokerage session away for some minutes."""
        seconds = self.chance.uniform(60, 300)
        self._noted("competing" if competing else "not_authenticated", BROKERAGE, seconds)
        self._turn_login(authenticated=False, competing=competing)
        self.at(self.now + seconds, lambda: self._turn_login(authenticated=True, competing=False))

    def _turn_login(self, *, authenticated: bool, competing: bool) -> None:
        self._authenticated, self._competing = authenticated, competing
        if self._server is not None:
            self._deliver(self._server.turn(authenticated=authenticated, competing=competing))

    def expire(self) -> None:
        """End all market data without a word."""
        self._noted("subscription_expired", ("market_data",))
        self._expired_at = self.now
        if self._server is not None:
            self._deliver(self._server.end("smd+"))

    def freeze(self) -> None:
        """Let the line go dead; only a new connection works."""
        self._noted("heartbeat_lost", ALL)
        self._frozen = True

    def drop(self) -> None:
        """Break the connection off."""
        self._noted("disconnected", ALL)
        self.disconnect()


def lived(seed: int) -> Week:
    """Live through a week in which everything goes wrong once a day, in an order that the seed chooses."""
    week = Week(seed)
    for stream in TICKS:
        week.at(TICKS[stream], lambda stream=stream: week.tick(stream))  # type: ignore[misc]
    week.at(0.0, week.tickle)
    for day in range(DAYS):
        week.at((day + 1) * DAY - 900, week.reset)
        faults: list[Callable[[], None]] = [
            week.roll_over, week.expire, week.freeze, week.drop,
            lambda: week.lose_login(competing=False), lambda: week.lose_login(competing=True),
        ]  # fmt: skip
        week.chance.shuffle(faults)
        for number, fault in enumerate(faults):  # far enough from each other that each is told apart
            week.at(day * DAY + 7200 + number * 12_000 + week.chance.uniform(0, 8000), fault)
    week.run(DAYS * DAY)
    return week


@pytest.mark.parametrize("seed", [1, 2])
def test_a_week_is_recorded_or_accounted_for(seed: int) -> None:
    """What did not come has its row and its cause; no row stands without a fault; in the end all is well."""
    week = lived(seed)

    what_did_not_come_lies_in_the_ledger(week)
    every_fault_is_told_with_its_cause(week)
    no_row_stands_without_a_fault(week)
    all_is_well(week)


def what_did_not_come_lies_in_the_ledger(week: Week) -> None:
    """Look for ticks of the market, of any stream, that the recorder did not get and has no row for."""
    outside = []
    for stream, at in week.missed:
        prefix, _, target = stream.partition("+")
        rows = [hole for hole in week.holes if hole.topic == TOPICS[prefix] and hole.conid in {None, int(target or 0)}]
        known = prefix != "smd" or not any(start <= at <= end for start, end in week.unknowable)
        if known and not any(hole.start <= at <= hole.end for hole in rows):
            outside.append((stream, at, [done for done in week.done if abs(done.start - at) < 2000]))

    assert outside == []
    assert len(week.missed) > DAYS * 20


def every_fault_is_told_with_its_cause(week: Week) -> None:
    """Look for faults that have no row in a topic that they hit."""
    untold = []
    for done in week.done:
        if done.cause == "subscription_expired" and done.start in dict(week.unknowable):
            continue
        for topic in done.topics:
            rows = [hole for hole in week.holes if hole.topic == topic and hole.start <= done.end + 1 <= hole.end + 200]
            if not any(done.cause == hole.cause or done.cause in hole.evidence for hole in rows):
                untold.append((done, topic, [hole for hole in week.holes if abs(hole.start - done.start) < 2000]))

    assert untold == []
    assert len(week.done) == DAYS * 8


def no_row_stands_without_a_fault(week: Week) -> None:
    """Look for rows that nothing happened for: a ledger that cries wolf is not read."""
    wolves = [hole for hole in week.holes if not any(_explains(done, hole) for done in week.done)]

    assert wolves == []


def _explains(done: Done, hole: Hole) -> bool:
    topical = hole.topic in done.topics
    return topical and hole.start <= done.end + TIMING.stale_after + 120 and hole.end >= done.start


def all_is_well(week: Week) -> None:
    """Look whether every stream flows, no gap is open, and much has come."""
    health = week.client.health(week.now)

    assert week.client.state is READY
    assert [topic.gap for topic in health] == [None] * 3
    assert {stream.state for topic in health for stream in topic.streams} <= {"flowing", "asked"}
    assert week.came > DAYS * DAY / 20
