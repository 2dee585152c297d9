"""The streams of a capture: subscribes them, listens to each, and says which are refused, silent, or dead.

It puts together what is asked for (`subscriptions`), who is too long silent (`staleness`) and what is missing meanwhile
(`coverage`). The connection's own state is `client_session`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from recorder.protocol.coverage import Coverage
from recorder.protocol.envelope import wire_topic
from recorder.protocol.health import TopicHealth
from recorder.protocol.health_report import Rates, report
from recorder.protocol.ledger import Ledger
from recorder.protocol.staleness import Staleness
from recorder.protocol.stream_plan import Stream
from recorder.protocol.subscriptions import RETRY_MOST, Line, Subscriptions

SILENCE: Final = 30.0
"""Seconds after which a stream that sent nothing at all since its subscription counts as refused."""
STALE_PAUSE: Final = 60.0
"""Seconds before stale streams may cost the connection again; they double up to `RETRY_MOST`."""
NOT_SUBSCRIBED: Final = "N"
DELAYED: Final = frozenset("DY")
_MANY: Final = 10


class News(NamedTuple):
    """Something that happened: `what` in a word, `text` for people."""

    what: str
    text: str
    topic: str | None = None


class Timing(NamedTuple):
    """Seconds: settings of the same names."""

    renew_every: float
    tickle_every: float
    heartbeat_timeout: float
    reconnect_delay: float
    stale_after: float


class Streams:
    """All streams over all connections; `wall` is the wall clock at `now`, microseconds since the epoch."""

    def __init__(self, streams: Iterable[Stream], ledger: Ledger, *, timing: Timing, now: float, wall: int) -> None:
        self.news: list[News] = []
        self.unheard = False
        """Whether some stream has not been heard since it was asked for: then each frame matters."""
        self.subscriptions = Subscriptions(streams, renew_every=timing.renew_every, first_pause=timing.reconnect_delay)
        self.coverage = Coverage(self.subscriptions, ledger, now=now, wall=wall)
        self.staleness = Staleness(self.subscriptions, stale_after=timing.stale_after, patience=timing.renew_every)
        self._rates = Rates(now)
        self._delayed: set[str] = set()
        self._stale_pause = STALE_PAUSE
        self._stale_from = -math.inf
        self._dead_since: float | None = None

    @property
    def lines(self) -> Mapping[str, Line]:
        """The streams by their wire topics."""
        return self.subscriptions.lines

    def line(self, key: str) -> Line | None:
        """Find the stream of a frame with this wire topic."""
        return self.lines.get(key) or self.lines.get(self.subscriptions.bars.request_of(key) or "")

    def topics(self, *, brokerage: bool = False) -> list[str]:
        """Name the topics, or those that need a brokerage session."""
        wanted = (line.stream for line in self.lines.values() if line.stream.brokerage or not brokerage)
        return list(dict.fromkeys(stream.topic for stream in wanted))

    def last_heard(self, topic: str, *, anything: float | None) -> float:
        """Say when a topic was heard last, however long ago; `anything` counts for one that speaks only on change."""
        lines = self.subscriptions.of_topic(topic)
        if anything is not None and not any(line.stream.answered or not line.active for line in lines):
            return anything
        return max((line.heard_at for line in lines if line.heard_at is not None), default=-math.inf)

    def health(self, now: float) -> tuple[TopicHealth, ...]:
        """Say how each topic and each stream is."""
        return report(self.subscriptions, self.coverage, self._rates, now)

    # ---------------------------------------------------------------- asking

    def subscribe(self, now: float, *, brokerage: bool) -> None:
        """Ask for what is not subscribed yet: all of it, or only what needs no brokerage session."""
        for line in self.lines.values():
            if not line.active and (brokerage or not line.stream.brokerage):
                self._subscribe(line, now)
        self._ask_bars(now)

    def end(self, *, brokerage: bool = False) -> None:
        """Take note that streams have ended at the broker: all, or those that need a brokerage session."""
        self.subscriptions.end(line for line in self.lines.values() if line.stream.brokerage or not brokerage)
        self._count_unheard()

    def change(self, streams: Iterable[Stream], now: float) -> None:
        """Want these streams and no others; what is gone is cancelled, and its gaps are closed."""
        wanted, lines = {stream.key: stream for stream in streams}, self.subscriptions.lines
        gone = [lines.pop(key) for key in list(lines) if key not in wanted]
        self.subscriptions.texts += self.subscriptions.cancel(gone)
        for line in gone:
            self.coverage.forget(line, now)
        for key, stream in wanted.items():
            line = lines.setdefault(key, Line(stream))
            if line.stream != stream:  # other fields of the same contract
                line.stream = stream
                self.subscriptions.end([line])
        self._count_unheard()

    def due(self, now: float) -> None:
        """Renew and ask again for what it is time for."""
        self.staleness.renewed(self.subscriptions.renewals(now), now)
        for line in self.subscriptions.retries(now):
            self._subscribed(line)
        for key in self.subscriptions.bars.overdue(now):
            topic = self.lines[key].stream.topic
            self.news.append(News("no_data", f"no answer to {key}: it may block other requests", topic))
        self._ask_bars(now)

    # ---------------------------------------------------------------- listening

    def heard(self, line: Line, frame: Mapping[str, Any], now: float) -> None:
        """Take in a stream's frame."""
        line.heard_at = now
        self._rates.count(line.stream.topic)
        if not line.active:
            return  # a few frames may still come after the end
        if line.stream.at_once:
            self.subscriptions.texts += self.subscriptions.bars.answered(line.stream.key, frame) or ()
            self._ask_bars(now)
        if line.stream.renew:
            silent_from = line.watch.silent_from
            if line.watch.heard(frame, now) == "missed":
                why = f"{line.stream.key} was silent, and other values came when it was asked for again"
                self.coverage.note_stream(line, silent_from, now, "subscription_expired", why)
                self.news.append(News("expired", why, line.stream.topic))
            self._entitle(line, frame.get("6509"), now)
        self._flows(line, now)

    def passed(self, latest: Iterable[tuple[int, int, bytes]], count: int, now: float) -> list[bytes]:
        """Take in the last frames of streams that came too fast, `count` of them; give those that are errors."""
        errors, topic = [], None
        for ts, _, data in latest:
            line = self.lines.get(wire_topic(data) or "")
            if b'"error"' in data:
                errors.append(data)
            elif line is not None:
                topic, line.heard_at = line.stream.topic, self.coverage.moment(ts, now)
                if line.active:
                    line.watch.passed(line.heard_at)
                    self._flows(line, line.heard_at)
        if topic is not None:
            self._rates.count(topic, count)
        return errors

    def refused(self, line: Line, error: str, now: float) -> None:
        """Take in an error about a stream: ask again after pauses that grow (cured 17 of 20 refusals of `sor`)."""
        since = now if line.asked_at is None else max(line.asked_at, line.watch.last or line.asked_at)
        pause = self.subscriptions.refuse(line, now)
        text = f"the gateway refused {line.stream.key} ({error})"
        self.coverage.lose_stream(line, since, "subscription_refused", text)
        self.news.append(News("refused", f"{text}; it is asked again in {pause:g} s", line.stream.topic))
        self._ask_bars(now)
        self._count_unheard()

    # ---------------------------------------------------------------- looking

    def look(self, now: float) -> str | None:
        """Look for silent streams; give why the connection is of no more use, if it is not."""
        self._rates.look(now)
        self.coverage.settle(now)
        self._give_up_unheard(now)
        dead, revived = self.staleness.look(now)
        for line in revived:
            watch, why = line.watch, f"{line.stream.key} was silent, and gave no full frame when it was asked for again"
            self.coverage.note_stream(line, watch.silent_from, watch.spoke_at or now, "stale", why)
            self.news.append(News("stale", why, line.stream.topic))
            watch.clear()
            line.state = "flowing"
        if now >= self._stale_from:
            dead += [line for line in self.lines.values() if line.dead and line.state == "refused"]
        lost = self._bury(dead, now) if dead else None
        self._count_unheard()
        return lost

    def convict(self) -> None:
        """Open the gaps of streams whose silence was not explained when the connection ended."""
        for line in self.lines.values():
            gap, since = self.coverage.gap(line.stream.topic), self.coverage.stamp(line.watch.silent_from)
            covered = gap is not None and gap.start <= since
            if line.watch.suspected and not line.watch.gentle and not covered:
                why = f"{line.stream.key} was silent when the connection ended"
                self.coverage.lose_stream(line, line.watch.silent_from, "stale", why)

    def lose_beside_the_dead(self, why: str, *, not_before: float) -> None:
        """Open the gaps of the other topics if one is dead as a whole: nobody knows how far that goes."""
        since = self._dead_since
        if since is None:
            return
        topics = [topic for topic in self.topics() if self.coverage.gap(topic) is None]
        start = {topic: max(not_before, self.last_heard(topic, anything=since)) for topic in topics}
        self.coverage.lose(topics, "stale", f"the connection was given up: {why}", since=start.__getitem__)

    def _bury(self, dead: list[Line], now: float) -> str | None:
        names = _listed(line.stream.key for line in dead)
        why = f"nothing from {names}, not even when asked for again"
        topic = dead[0].stream.topic
        others = [line for line in self.subscriptions.of_topic(topic) if line not in dead and line.state == "flowing"]
        if others:
            self._dead_since = None
            for line in dead:
                self.coverage.lose_stream(line, line.watch.silent_from, "stale", why)
        else:
            since = self._dead_since = self.last_heard(topic, anything=None)
            self.coverage.lose([topic], "stale", why, since=lambda _topic: since)
        self.news.append(News("stale", why, topic))
        for line in dead:
            line.dead = True
            line.watch.clear()
        if now >= self._stale_from:
            calm = now - self._stale_from > 2 * RETRY_MOST
            self._stale_pause = STALE_PAUSE if calm else min(2 * self._stale_pause, RETRY_MOST)
            self._stale_from = now + self._stale_pause
            return why
        for line in dead:
            self.subscriptions.refuse(line, now, at_least=SILENCE)
        return None

    def _give_up_unheard(self, now: float) -> None:
        for topic in self.topics():
            lines = [line for line in self.subscriptions.of_topic(topic) if line.stream.answered]
            silent = [line for line in lines if _is_unheard(line, now)]
            if not silent:
                continue
            names = _listed(line.stream.key for line in silent)
            of_market = any(line.stream.renew for line in silent)
            guess = ": a wrong contract, or no market data line is free" if of_market else ""
            why = f"no data for {names} within {SILENCE:g} s{guess}"
            if any(line.watch.last is not None or line.state == "flowing" for line in lines):
                for line in silent:
                    self.coverage.lose_stream(line, line.asked_at or now, "subscription_refused", why)
            else:
                self.coverage.lose([topic], "subscription_refused", why, since=self._first_asked)
            self.news.append(News("no_data", why, topic))
            for line in silent:
                self.subscriptions.refuse(line, now, at_least=SILENCE)

    def _first_asked(self, topic: str) -> float:
        asked = [line.asked_at for line in self.subscriptions.of_topic(topic) if line.asked_at is not None]
        return min(asked)

    def _entitle(self, line: Line, letters: object, now: float) -> None:
        """Read what 6509 says about a stream: `N` not subscribed, `D` and `Y` delayed (the broker's document)."""
        if type(letters) is not str or not letters:
            return
        refused, key = letters.startswith(NOT_SUBSCRIBED), line.stream.key
        if refused and line.entitled:
            why = f"{key}: 6509 is {letters}: the account is not subscribed to this market data"
            self.coverage.lose_stream(line, now, "subscription_refused", why)
            self.news.append(News("not_subscribed", why, line.stream.topic))
        if not DELAYED.isdisjoint(letters) and key not in self._delayed:
            self._delayed.add(key)
            self.news.append(News("delayed", f"{key}: 6509 is {letters}: the data is delayed", line.stream.topic))
        line.entitled = not refused

    def _flows(self, line: Line, now: float) -> None:
        if line.state != "flowing" and not line.watch.suspected:
            self.subscriptions.flows(line)
            self._count_unheard()
        self.coverage.flows(line, now)

    def _subscribe(self, line: Line, now: float) -> None:
        self.subscriptions.subscribe(line, now)
        self._subscribed(line)

    def _ask_bars(self, now: float) -> None:
        for line in self.subscriptions.ask_bars(now):
            self.news.append(News("subscribed", line.stream.subscribe, line.stream.topic))

    def _subscribed(self, line: Line) -> None:
        if not line.stream.at_once:  # of bars it is told when they are asked for
            self.news.append(News("subscribed", line.stream.subscribe, line.stream.topic))
        self._count_unheard()

    def _count_unheard(self) -> None:
        self.unheard = any(
            line.stream.renew and (line.state in ("asked", "suspected") or line.watch.suspected)
            for line in self.lines.values()
        )


def _is_unheard(line: Line, now: float) -> bool:
    """Tell whether a stream that the broker answers was asked for long ago and never spoke; bars wait their turn."""
    return line.state == "asked" and not line.stream.at_once and now - (line.asked_at or now) >= SILENCE


def _listed(names: Iterable[str]) -> str:
    """List some names, and count the others."""
    known = sorted(names)
    more = len(known) - _MANY
    return ", ".join(known[:_MANY]) + (f" and {more} more" if more > 0 else "")
