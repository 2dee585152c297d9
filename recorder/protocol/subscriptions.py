"""The subscriptions of a connection: what is wanted, what was asked for, and when it is to be asked for again.

1. Nothing confirms a subscription of market data, and a refusal comes as an error frame or as silence.
2. The server keeps no subscriptions: a new connection begins with none (seen in captures).
3. The texts that leave here are the topic files' `send` and `cancel`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from recorder.protocol.health import StreamState
from recorder.protocol.stream_watch import StreamWatch
from recorder.protocol.topics import Topic

RETRY_MOST: Final = 300.0
"""The longest pause before a refused stream is asked for again, seconds; the first is `reconnect_delay`."""


class Stream(NamedTuple):
    """One thing to subscribe to. `key` is the wire topic that its frames will carry, `smd+265598`.

    `answered` is false where the broker sends nothing before something changes; `snapshot` says that REST has what the
    stream leaves out.
    """

    topic: str
    key: str
    subscribe: str
    cancel: str
    brokerage: bool
    renew: bool
    answered: bool = True
    snapshot: bool = False
    conid: int | None = None


@dataclass(slots=True)
class Line:
    """One stream and how it does. Times are seconds of a clock that never steps.

    `asked_at` is when its subscription was last sent on this connection, `heard_at` when its last frame came on any,
    `ask_at` when it is to be asked for again after a refusal. `holed` says that its contract has an open gap, which
    began at `hole_from` if that is known. `entitled` is false once the broker said that the data is not subscribed,
    `dead` is true of a stream that was given up as stale and not heard since.
    """

    stream: Stream
    state: StreamState = "waiting"
    asked_at: float | None = None
    heard_at: float | None = None
    ask_at: float | None = None
    pause: float | None = None
    holed: bool = False
    hole_from: float | None = None
    entitled: bool = True
    dead: bool = False
    watch: StreamWatch = field(default_factory=StreamWatch)

    @property
    def active(self) -> bool:
        """Whether it is subscribed on this connection."""
        return self.state != "waiting"


def streams_of(topics: Iterable[Topic], *, targets: Iterable[str], fields: Iterable[str]) -> list[Stream]:
    """List the streams that the topics ask for; a target is a contract as the user writes it, `265598@NYSE`."""
    listed = msgspec.json.encode(list(fields)).decode()
    wanted = list(targets)
    return [
        Stream(
            topic=topic.name,
            key=f"{topic.prefixes[0]}+{target}" if target else topic.prefixes[0],
            subscribe=asked.send.replace("{target}", target).replace("{fields}", listed),
            cancel=asked.cancel.replace("{target}", target),
            brokerage=asked.brokerage,
            renew=asked.renew,
            answered=asked.answered,
            snapshot=topic.rest is not None,
            conid=_conid(target),
        )
        for topic in topics
        if (asked := topic.subscription) is not None  # else it comes by itself
        for target in (wanted if asked.per == "contract" else ("",))
    ]


def _conid(target: str) -> int | None:
    """Find the contract in a target: `8314@NYSE` is 8314, a combo `28812380;;;…` is 28812380."""
    digits = target.partition("@")[0].partition(";")[0]
    return int(digits) if digits.isdecimal() else None


class Subscriptions:
    """What is subscribed on one connection after the other; `texts` is what is to be sent, in order."""

    def __init__(self, streams: Iterable[Stream], *, renew_every: float, first_pause: float) -> None:
        self.lines = {stream.key: Line(stream) for stream in streams}
        self.texts: list[str] = []
        self._renew_every = renew_every
        self._first_pause = first_pause
        self._renew_at: float | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """Name the topics, each once."""
        return tuple(dict.fromkeys(line.stream.topic for line in self.lines.values()))

    def of_topic(self, topic: str) -> list[Line]:
        """List a topic's lines."""
        return [line for line in self.lines.values() if line.stream.topic == topic]

    def deadlines(self) -> list[float]:
        """List when `due` has something to do."""
        pauses = [line.ask_at for line in self.lines.values() if line.ask_at is not None]
        return pauses if self._renew_at is None else [*pauses, self._renew_at]

    def subscribe(self, line: Line, now: float) -> None:
        """Ask for a stream that is not subscribed, or that was refused."""
        line.state, line.asked_at, line.ask_at = "asked", now, None
        line.watch.subscribed()
        self.texts.append(line.stream.subscribe)
        if line.stream.renew and self._renew_at is None:
            self._renew_at = now + self._renew_every

    def renew(self, line: Line) -> None:
        """Ask for a running stream again, so that it does not end, or to see whether it lives."""
        self.texts.append(line.stream.subscribe)

    def restart(self, line: Line) -> None:
        """Cancel a stream and ask for it anew: that brings a full frame even where a renewal does not."""
        self.texts += [line.stream.cancel, line.stream.subscribe]

    def refuse(self, line: Line, now: float, *, at_least: float = 0.0) -> float:
        """Plan to ask for a refused stream again; give the pause, which doubles with each refusal."""
        pause = min(max(line.pause or self._first_pause, at_least), RETRY_MOST)
        line.state, line.pause, line.ask_at = "refused", pause * 2, now + pause
        line.watch.clear()
        return pause

    def flows(self, line: Line) -> None:
        """Take note that a stream was heard: another refusal is a new one."""
        line.state, line.pause, line.ask_at, line.dead = "flowing", None, None, False

    def end(self, lines: Iterable[Line]) -> None:
        """Take note that streams have ended at the broker."""
        for line in lines:
            line.state, line.asked_at, line.ask_at, line.pause, line.dead = "waiting", None, None, None, False
            line.watch.subscribed()
        if not any(line.active and line.stream.renew for line in self.lines.values()):
            self._renew_at = None

    def cancel(self, lines: Iterable[Line]) -> list[str]:
        """End streams from our side; give what is to be sent: the broker counts those of a client that just goes."""
        active = [line for line in lines if line.active]
        self.end(active)
        return [line.stream.cancel for line in active]

    def renewals(self, now: float) -> list[Line]:
        """Renew what the broker would end, if it is time; list what was renewed."""
        if self._renew_at is None or now < self._renew_at:
            return []
        self._renew_at = now + self._renew_every
        renewed = [line for line in self.lines.values() if line.stream.renew and line.state in ("asked", "flowing")]
        self.texts += [line.stream.subscribe for line in renewed]
        return renewed

    def retries(self, now: float) -> list[Line]:
        """Ask again for refused streams whose pause is over; list them."""
        due = [line for line in self.lines.values() if line.ask_at is not None and now >= line.ask_at]
        for line in due:
            if line.stream.renew:
                self.texts.append(line.stream.cancel)  # it may hold a market data line and send nothing
            self.subscribe(line, now)
        return due
